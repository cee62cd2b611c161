import numpy as np
import pyarrow as pa
import pytest
from reasoning_run import context

from taiji.errors import DataError
from taiji.reasoning.selection import Rule, select
from taiji.schema import SCORED, SCORES
from taiji.stages.refine import refine, selection_rule
from taiji.store.files import read_json, read_parquet, write_parquet


def scored(ctx):
    return read_parquet(ctx.out / "scored.parquet", SCORED).to_pylist()


def test_every_candidate_gets_a_verdict_by_the_threshold(run_scored, student):
    ctx = context(run_scored, "refine", student)
    summary = refine(ctx)
    rows = scored(ctx)
    limit = read_json(ctx.out / "threshold.json")
    eligible = [row["perplexity"] for row in rows[:1] + rows[3:]]
    assert limit == {
        "filter": "ppl",
        "threshold": np.median(eligible),
        "rule": "quantile 0.5",
        "sampled": 58,
    }
    assert rows[1]["reason"] == "status: truncated"
    assert rows[1]["perplexity"] is None
    assert rows[2]["reason"] == "leak: title"
    assert rows[2]["perplexity"] > 1
    for row in rows[3:]:
        assert row["kept"] == (row["perplexity"] < limit["threshold"])
        assert row["reason"] == ("kept" if row["kept"] else "perplexity")
    assert summary["kept"] == sum(row["kept"] for row in rows)
    assert summary["leak_share"] == round(1 / 60, 4)
    assert {path.name for path in ctx.out.iterdir()} == {"scored.parquet", "threshold.json"}


def test_a_fixed_threshold_replaces_the_quantile(run_scored, student):
    ctx = context(run_scored, "refine", student, refine={"threshold": 1.5, "drop_leaks": False})
    summary = refine(ctx)
    assert read_json(ctx.out / "threshold.json") == {
        "filter": "ppl",
        "threshold": 1.5,
        "rule": "fixed",
        "sampled": 0,
    }
    assert summary["kept"] == 0


def test_when_nothing_can_be_kept_the_message_says_why(run_scored, student):
    ctx = context(run_scored, "refine", student)
    path = run_scored / "score" / "scores.parquet"
    rows = [{**row, "leak": "told"} for row in read_parquet(path, SCORES).to_pylist()]
    write_parquet(pa.Table.from_pylist(rows, schema=SCORES), path, SCORES)
    with pytest.raises(DataError, match=r"all failed or leak the answer \(\d+ ok"):
        refine(ctx)


def test_filters_choose_differently_from_the_same_scores(run_scored, student):
    found = {}
    for name in ("gain", "none"):
        section = {"filter": name, "quantile": 0.3}
        ctx = context(run_scored, f"refine-{name}", student, refine=section)
        summary = refine(ctx)
        rows = found[name] = scored(ctx)
        rule = selection_rule(ctx.recipe.refine, ctx.recipe.seed)
        assert select(rows, rule).reasons == [row["reason"] for row in rows]
        assert summary["kept"] == sum(row["kept"] for row in rows)
    for gain, none in zip(found["gain"], found["none"], strict=True):
        assert all(gain[n] == none[n] for n in ("perplexity", "gain", "clipped"))
    assert sum(row["kept"] for row in found["none"]) == 58
    assert read_json(ctx.out / "threshold.json")["threshold"] is None
    kept = [row["gain"] for row in found["gain"] if row["kept"]]
    assert min(kept) > max(row["gain"] for row in found["gain"][3:] if not row["kept"])
    assert 15 <= len(kept) <= 18
    assert select(found["none"], Rule(filter="clipped", top_m=1)).reasons.count("kept") == 20
