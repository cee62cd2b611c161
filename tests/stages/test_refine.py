import numpy as np
import pyarrow as pa
import pytest
from chat_server import ChatServer
from endpoint_parts import Echo
from reasoning_run import context

from taiji.artifacts import read_json, read_parquet, write_parquet
from taiji.errors import DataError
from taiji.reasoning import scoring
from taiji.reasoning.selection import Rule, select
from taiji.schema import CANDIDATES, SCORED
from taiji.stages import refine as refine_module
from taiji.stages.distill import distill
from taiji.stages.refine import refine, selection_rule


class KilledError(Exception):
    """Stands in for a kill: nothing after it runs."""


@pytest.fixture
def distilled(run, student):
    """Candidates of the evidence teacher; one of them truncated, one leaking."""
    ctx = context(run, "distill", student)
    distill(ctx)
    path = ctx.out / "candidates.parquet"
    rows = read_parquet(path, CANDIDATES).to_pylist()
    rows[1] |= {"status": "truncated", "cot": ""}
    rows[2] |= {"leak": "title"}
    for row in rows[3:]:
        row["leak"] = None
    write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), path, CANDIDATES)
    return run


def scored(ctx):
    return read_parquet(ctx.out / "scored.parquet", SCORED).to_pylist()


def test_every_candidate_gets_a_verdict_by_the_threshold(distilled, student):
    ctx = context(distilled, "refine", student)
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


def test_lines_beyond_the_budget_are_counted_once_a_prompt(distilled, student):
    small = {"model": str(student), "max_prompt_tokens": 210, "max_completion_tokens": 256}
    summary = refine(context(distilled, "refine", student, student=small))
    assert summary["prompts_cut"] == 20
    assert 20 <= summary["history_lines_dropped"] <= 40


def test_a_fixed_threshold_replaces_the_quantile(distilled, student):
    ctx = context(distilled, "refine", student, refine={"threshold": 1.5, "drop_leaks": False})
    summary = refine(ctx)
    assert read_json(ctx.out / "threshold.json") == {
        "filter": "ppl",
        "threshold": 1.5,
        "rule": "fixed",
        "sampled": 0,
    }
    assert summary["kept"] == 0


def test_a_killed_run_scores_the_rest_and_ends_the_same(distilled, student, monkeypatch):
    monkeypatch.setattr(refine_module, "_SHARD_ROWS", 8)
    monkeypatch.setattr(scoring, "_BATCH_TOKENS", 1)
    whole = context(distilled, "refine", student)
    refine(whole)
    calls = []
    score = scoring._packed

    def mortal(*arguments):
        calls.append(1)
        if len(calls) == 12:
            raise KilledError
        return score(*arguments)

    monkeypatch.setattr(scoring, "_packed", mortal)
    killed = context(distilled, "again", student)
    with pytest.raises(KilledError):
        refine(killed)
    refine(killed)
    assert len(calls) == 12 + 20 - 8
    assert scored(killed) == scored(whole)


def test_when_nothing_can_be_kept_the_message_says_why(distilled, student):
    ctx = context(distilled, "refine", student)
    path = distilled / "distill" / "candidates.parquet"
    rows = [{**row, "leak": "told"} for row in read_parquet(path, CANDIDATES).to_pylist()]
    write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), path, CANDIDATES)
    with pytest.raises(DataError, match="all failed or leak"):
        refine(ctx)


def test_a_server_scores_in_the_place_of_the_weights(distilled, student, tiny_model, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    path = distilled / "distill" / "candidates.parquet"
    rows = read_parquet(path, CANDIDATES).to_pylist()[:6]
    write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), path, CANDIDATES)
    server = ChatServer(Echo(tiny_model))
    try:
        section = {"scorer_endpoint": {"base_url": server.url, "model": "m-1"}}
        ctx = context(distilled, "refine-there", student, refine=section)
        refine(ctx)
    finally:
        server.close()
    here = context(distilled, "refine-here", student)
    refine(here)
    assert server.requests
    for there, local in zip(scored(ctx), scored(here), strict=True):
        assert there["reason"] == local["reason"]
        if local["perplexity"] is not None:
            assert there["perplexity"] == pytest.approx(local["perplexity"], rel=1e-5)


def test_every_score_is_kept_whatever_the_filter_and_filters_compare_after_the_fact(
    distilled, student
):
    path = distilled / "distill" / "candidates.parquet"
    rows = read_parquet(path, CANDIDATES).to_pylist()
    for row in rows[3:6]:
        row["cot"] = ""  # what a gain is measured against
    write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), path, CANDIDATES)
    found = {}
    for name in ("gain", "none"):
        section = {"clip": 9.0, "filter": name, "quantile": 0.3}
        ctx = context(distilled, f"refine-{name}", student, refine=section)
        summary = refine(ctx)
        rows = found[name] = scored(ctx)
        rule = selection_rule(ctx.recipe.refine, ctx.recipe.seed)
        assert select(rows, rule).reasons == [row["reason"] for row in rows]
        assert summary["kept"] == sum(row["kept"] for row in rows)
    for gain, none in zip(found["gain"], found["none"], strict=True):
        assert all(gain[n] == none[n] for n in ("perplexity", "gain", "clipped"))
    assert sum(row["kept"] for row in found["none"]) == 58
    assert read_json(ctx.out / "threshold.json")["threshold"] is None
    assert [row["gain"] for row in found["gain"][3:6]] == pytest.approx([0.0] * 3, abs=1e-5)
    assert all(abs(row["gain"]) > 1e-5 for row in found["gain"][6:])
    assert all(row["clipped"] < row["perplexity"] for row in found["gain"][3:])  # random weights
    kept = [row["gain"] for row in found["gain"] if row["kept"]]
    assert min(kept) > max(row["gain"] for row in found["gain"][3:] if not row["kept"])
    assert 15 <= len(kept) <= 18
    assert select(found["none"], Rule(filter="clipped", top_m=1)).reasons.count("kept") == 20
