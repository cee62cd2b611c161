import shutil
from dataclasses import replace
from datetime import timedelta

import market
import numpy as np
import pyarrow as pa
import pytest
from rows import example_row, rollout_row, scored_row, text_row
from weeks import CALENDAR, window_start

from taiji import schema
from taiji.alignment.rewards.head import Heads
from taiji.config import (
    BoostingSection,
    EvaluateSection,
    GuidedSection,
    RankerSection,
    Recipe,
    StudentSection,
)
from taiji.data.item_text import item_text, one_part
from taiji.data.tables.reach import Contents
from taiji.errors import DataError
from taiji.evaluation.baselines import BASELINES
from taiji.language.completions import list_answer
from taiji.language.text_head import HeadSettings, TextHead
from taiji.lists.answers import HEAD_FEATURES, MODEL_FEATURES, MODEL_LISTS, PRIOR_FEATURES
from taiji.lists.priors import LISTS
from taiji.ranking.as_of import AsOf
from taiji.ranking.gradient_boosting import GradientBoosting
from taiji.ranking.inputs import NO_LANGUAGE
from taiji.ranking.train import Labels, fit_ranker, save_ranker
from taiji.report.paper_tables import NOT_RUN, build_tables
from taiji.schema import JUDGEMENTS, LISTINGS
from taiji.stages.evaluate import evaluate
from taiji.stages.parts.context import StageContext
from taiji.store.files import append_jsonl, read_json, read_parquet, write_json, write_parquet

NUM_TESTS = 8
CUTOFF = window_start("test") + timedelta(days=1)
TEXTS = {row["item_id"]: item_text(row) for row in market.items().to_pylist()}


def example(number: int, split: str = "test") -> dict:
    return example_row(
        f"t{number}",
        split,
        user_id=f"u{number:03d}",
        cutoff=CUTOFF,
        target_item_id=f"i{number % 6}0",
        novel_target_item_id=f"i{number % 6}1" if number % 2 else None,
    )


def text(number: int, model: str, answer: str) -> dict:
    completion = f"<think>\nwhy\n</think>\n<answer>\n{answer}\n</answer>" if answer else "Hello"
    return text_row(
        f"t{number}",
        model,
        status="ok" if answer else "malformed",
        completion=completion,
        cot="why" if answer else "",
        answer=answer,
    )


def chain(number: int) -> dict:
    return scored_row(
        f"s{number}",
        perplexity=2.0 + number,
        kept=number == 0,
        reason="kept" if number == 0 else "perplexity",
    )


def rollout(step: int) -> dict:
    return rollout_row(step, "r0", semantic=0.1 * step, preference=0.2)


@pytest.fixture(scope="module")
def ranker_and_logs():
    logs = market.build(num_users=12)
    asof = AsOf(
        users=logs.users, items=logs.items, interactions=logs.interactions, calendar=CALENDAR
    )
    section = RankerSection(dim=4, hidden=(8,), own_items=5, epochs=1, batch_size=256)
    pairs, labels = asof.features(logs.exposures), Labels.from_exposures(logs.exposures)
    boosting = GradientBoosting(BoostingSection(rounds=5, leaves=4, min_leaf=10))
    gold = boosting.fit(pairs, labels, seed=1, language=NO_LANGUAGE)
    return fit_ranker(pairs, labels, section, seed=1), gold, logs


@pytest.fixture
def ctx(tmp_path, ranker_and_logs, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ranker, gold, logs = ranker_and_logs
    stages = ("construct", "distill", "refine", "sft", "simulate", "align", "infer", "rank")
    for stage in (*stages, "evaluate"):
        (tmp_path / stage).mkdir()

    def write(stage: str, name: str, rows: list[dict], columns: pa.Schema) -> None:
        table = pa.Table.from_pylist(rows, columns)
        write_parquet(table, tmp_path / stage / f"{name}.parquet", columns)

    for name in ("users", "items", "interactions"):
        table = getattr(logs, name)
        path = tmp_path / "construct" / f"{name}.parquet"
        write_parquet(table, path, getattr(schema, name.upper()))
    examples = [*(example(n) for n in range(NUM_TESTS)), example(99, "sft")]
    CALENDAR.write(tmp_path / "construct" / "windows.json")
    write("construct", "examples", examples, schema.EXAMPLES)
    chains = [chain(n) for n in range(4)]
    bare = [{name: row.get(name) for name in schema.CANDIDATES.names} for row in chains]
    write("distill", "candidates", bare, schema.CANDIDATES)
    write("refine", "scored", chains, schema.SCORED)
    threshold = {"filter": "ppl", "threshold": 3.0, "rule": "quantile 0.5", "sampled": 4}
    write_json(threshold, tmp_path / "refine" / "threshold.json")
    save_ranker(ranker, tmp_path / "simulate" / "ranker")
    gold.save(tmp_path / "simulate" / "gold")
    write_json({"click_auc": 0.8}, tmp_path / "simulate" / "metrics.json")
    for step in (1, 2):
        row = {"step": step, "w_semantic": 0.5, "w_preference": 0.5}
        append_jsonl(row, tmp_path / "align" / "metrics.jsonl")
    write("align", "rollouts", [rollout(1), rollout(2)], schema.ROLLOUTS)
    texts = [text(n, "untuned", "") for n in range(NUM_TESTS)]
    texts += [text(n, "sft", TEXTS["i00"]) for n in range(NUM_TESTS)]
    texts += [text(n, "policy", TEXTS[f"i{n % 6}0"]) for n in range(NUM_TESTS)]
    write("infer", "texts", texts, schema.TEXTS)
    figure = {"value": 0.8, "low": 0.7, "high": 0.9}
    arm = {f"{task}_{name}": figure for task in ("click", "ctcvr") for name in ("auc", "gauc")}
    group = {"arms": {"base": arm}, "contrasts": {}}
    group |= dict.fromkeys(("exposures", "users", "clicks", "conversions"), 9)
    ranking = {"backbones": {"network": {"all": group}}, "contrasts": {}, "seeds": 1}
    write_json(ranking, tmp_path / "rank" / "metrics.json")
    return StageContext(
        recipe=Recipe(name="tiny", evaluate=EvaluateSection(hit_rate_at=(1, 24), bootstrap=100)),
        out=tmp_path / "evaluate",
        inputs={stage: tmp_path / stage for stage in stages},
        progress=lambda done, total, what: None,
    )


def test_judges_every_writer_on_both_tracks(ctx):
    evaluate(ctx)
    metrics = read_json(ctx.out / "metrics.json")
    assert set(metrics["writers"]) == {"untuned", "sft", "policy", *BASELINES}
    any_, novel = (
        {name: writer["tracks"][track] for name, writer in metrics["writers"].items()}
        for track in ("any", "novel")
    )
    # The policy answers the true item throughout, SFT always the item that is true for t0 and t6.
    assert any_["policy"]["title_exact"]["value"] == 1.0
    assert any_["policy"]["title_hit_rate_at_1"]["value"] == 1.0
    assert any_["policy"]["semantic"]["value"] == pytest.approx(1.0, abs=1e-5)
    assert any_["sft"]["title_exact"]["value"] == 2 / NUM_TESTS
    assert any_["untuned"]["answer_non_empty"]["value"] == 0.0
    assert any_["untuned"]["title_hit_rate_at_1"]["value"] == 0.0
    assert any_["untuned"]["ctcvr"]["value"] == 0.0
    assert 0 < any_["policy"]["ctcvr"]["value"] < 1
    assert novel["policy"]["title_exact"]["value"] == 0.0  # the novel target is another item
    assert "think_tag_presence" not in any_["most_popular"]
    judgements = read_parquet(ctx.out / "judgements.parquet", JUDGEMENTS)
    assert judgements.num_rows == len(metrics["writers"]) * (NUM_TESTS + NUM_TESTS // 2)


def test_the_gold_judge_scores_what_the_models_answered(ctx):
    evaluate(ctx)
    gold = read_json(ctx.out / "metrics.json")["gold"]
    assert set(gold["writers"]) == {"untuned", "sft", "policy"}
    assert gold["writers"]["untuned"]["gold_ctcvr"]["value"] == 0, "it answered nothing"
    assert 0 < gold["writers"]["policy"]["gold_ctcvr"]["value"] < 1
    assert [change["of"] for change in gold["changes"]] == ["sft", "policy"]
    shutil.rmtree(ctx.inputs["simulate"] / "gold")
    evaluate(ctx)
    assert read_json(ctx.out / "metrics.json")["gold"] is None


def test_the_catalogue_is_what_was_sold_and_says_what_it_covers(ctx):
    evaluate(ctx)
    catalogue = read_json(ctx.out / "metrics.json")["catalogue"]
    assert catalogue["size"] == 24
    assert catalogue["targets_any"] == NUM_TESTS
    assert catalogue["targets_novel"] == NUM_TESTS // 2
    assert catalogue["coverage_any"] == 1.0


def test_figures_of_other_stages_come_along_and_fill_the_tables(ctx):
    evaluate(ctx)
    metrics = read_json(ctx.out / "metrics.json")
    assert metrics["refine"]["kept_share"] == 0.25
    assert metrics["align"]["last"]["semantic"] == pytest.approx(0.2)
    assert metrics["reward_ranker"] == {"click_auc": 0.8}
    assert [(pair["of"], pair["over"]) for pair in metrics["differences"]] == [
        ("sft", "untuned"),
        ("policy", "sft"),
        ("policy", "most_popular_new"),
    ]
    tables = {table.key: table for table in build_tables(metrics)}
    measured = {row[0] for row in tables["table3"].rows if row[1] != NOT_RUN}
    assert measured == {"Untuned", "RUPR + ORFT", "RUPR + ORFT + POPO"}


def test_what_happens_after_the_cutoffs_changes_nothing(ctx):
    evaluate(ctx)
    before = (ctx.out / "metrics.json").read_bytes()
    path = ctx.inputs["construct"] / "interactions.parquet"
    log = read_parquet(path, schema.INTERACTIONS)
    late = np.array([ts >= CUTOFF for ts in log["ts"].to_pylist()])
    assert late.any()
    write_parquet(log.filter(pa.array(~late)), path, schema.INTERACTIONS)
    evaluate(ctx)
    assert (ctx.out / "metrics.json").read_bytes() == before


def test_a_model_that_did_not_answer_the_tests_is_not_judged(ctx):
    path = ctx.inputs["infer"] / "texts.parquet"
    texts = read_parquet(path, schema.TEXTS).to_pylist()
    kept = [row for row in texts if row["model"] != "policy" or row["example_id"] == "t0"]
    write_parquet(pa.Table.from_pylist(kept, schema.TEXTS), path, schema.TEXTS)
    evaluate(ctx)
    metrics = read_json(ctx.out / "metrics.json")
    assert "policy" not in metrics["writers"]
    tables = {table.key: table for table in build_tables(metrics)}
    assert all(set(row[1:]) == {NOT_RUN} for row in tables["table3"].rows[-1:])


def test_lists_of_titles_stand_beside_the_answers(ctx):
    evaluate(ctx)
    metrics = read_json(ctx.out / "metrics.json")
    assert set(metrics["lists"]) == set(LISTS)
    assert metrics["list_differences"] == []  # no model was asked how likely it finds titles
    popular = metrics["lists"]["popular"]["any"]
    assert popular["title_hit_rate_at_24"]["value"] == 1.0  # all that is sold
    assert popular["title_hit_rate_at_1"]["value"] < 1.0
    listings = read_parquet(ctx.out / "listings.parquet", LISTINGS)
    assert listings.num_rows == len(LISTS) * (NUM_TESTS + NUM_TESTS // 2)
    tables = {table.key: table for table in build_tables(metrics)}
    assert len(tables["lists-novel"].rows) == len(LISTS)
    assert "lists-differences" not in tables
    assert metrics["suspicious"] == {"titles": 0, "markup": 0, "instruction": 0, "writers": {}}
    assert "suspicious" not in tables


def add_alignment(ctx, number: int) -> None:
    """Examples of alignment, none of them with a novel target."""
    path = ctx.inputs["construct"] / "examples.parquet"
    earlier = {"cutoff": window_start("rl") + timedelta(days=1), "novel_target_item_id": None}
    rows = read_parquet(path, schema.EXAMPLES).to_pylist()
    rows += [example(50 + n, "rl") | earlier | {"user_id": f"u{n:03d}"} for n in range(number)]
    write_parquet(pa.Table.from_pylist(rows, schema.EXAMPLES), path, schema.EXAMPLES)


@pytest.mark.slow
def test_models_are_asked_for_titles_and_others_join_them(
    ctx, tiny_model, smollm2_tokenizer, tmp_path
):
    for folder in (ctx.inputs["sft"] / "model", tmp_path / "mine"):
        tiny_model.save_pretrained(folder)
        smollm2_tokenizer.save_pretrained(folder)
    add_alignment(ctx, 3)
    texts = ctx.inputs["infer"] / "texts.parquet"
    kept = [r for r in read_parquet(texts, schema.TEXTS).to_pylist() if r["model"] == "sft"]
    write_parquet(pa.Table.from_pylist(kept, schema.TEXTS), texts, schema.TEXTS)
    section = EvaluateSection(
        hit_rate_at=(1, 24),
        bootstrap=100,
        candidates=3,
        calibration=2,
        models={"mine": str(tmp_path / "mine")},
    )
    student = StudentSection(max_completion_tokens=4)
    recipe = ctx.recipe.model_copy(update={"evaluate": section, "student": student})
    evaluate(replace(ctx, recipe=recipe))
    metrics = read_json(ctx.out / "metrics.json")
    assert metrics["writers"]["mine"]["tracks"]["any"]["answer_non_empty"]["value"] == 0.0
    ways = {f"{model}/{way}" for model in ("sft", "mine") for way in MODEL_LISTS}
    # No novel title among the examples that weigh: nothing is fused on that track.
    assert set(metrics["lists"]) == {*LISTS, "prior_only", *ways}
    assert "novel" not in metrics["lists"]["sft/fused"]
    fusion = metrics["fusions"]["sft"]["any"]
    assert fusion["choices"] == 2
    assert set(fusion["weights"]) == {*PRIOR_FEATURES, *MODEL_FEATURES}
    pairs = {(pair["of"], pair["over"]) for pair in metrics["list_differences"]}
    assert ("sft/fused", "prior_only") in pairs
    tables = {table.key: table for table in build_tables(metrics)}
    names = [row[0] for row in tables["lists-any"].rows]
    assert "sft: weighed with the log" in names
    before = (ctx.out / "metrics.json").read_bytes()
    evaluate(replace(ctx, recipe=recipe))  # as after a kill: what the models said is kept
    assert (ctx.out / "metrics.json").read_bytes() == before


@pytest.mark.slow
def test_heads_and_a_guided_beam_add_their_lists(ctx, tiny_model, smollm2_tokenizer):
    tiny_model.save_pretrained(ctx.inputs["sft"] / "model")
    smollm2_tokenizer.save_pretrained(ctx.inputs["sft"] / "model")
    bought = {"ts": window_start("history"), "price": 1.0, "text": "Thing", "item_id": "i00"}
    add_alignment(ctx, 30)
    path = ctx.inputs["construct"] / "examples.parquet"
    rows = read_parquet(path, schema.EXAMPLES).to_pylist()
    rows = [row | {"history": [bought] if row["example_id"] != "t0" else []} for row in rows]
    write_parquet(pa.Table.from_pylist(rows, schema.EXAMPLES), path, schema.EXAMPLES)
    texts = ctx.inputs["infer"] / "texts.parquet"
    kept = [r for r in read_parquet(texts, schema.TEXTS).to_pylist() if r["model"] == "sft"]
    write_parquet(pa.Table.from_pylist(kept, schema.TEXTS), texts, schema.TEXTS)
    section = EvaluateSection(
        hit_rate_at=(1, 24),
        bootstrap=100,
        candidates=3,
        calibration=2,
        guided=GuidedSection(keep=2, shown=3, epochs=1),
    )
    head = TextHead(384, HeadSettings(dim=8, attention_heads=2)).eval()
    Heads((head,) * 3).save(ctx.out.parent / "head" / "heads")
    student = StudentSection(max_completion_tokens=4)
    recipe = ctx.recipe.model_copy(update={"evaluate": section, "student": student})
    inputs = {**ctx.inputs, "head": ctx.out.parent / "head"}
    evaluate(replace(ctx, recipe=recipe, inputs=inputs))
    metrics = read_json(ctx.out / "metrics.json")
    ways = {f"sft/{way}" for way in (*MODEL_LISTS, "head", "fused_head", "guided")}
    assert set(metrics["lists"]) == {*LISTS, "prior_only", "paths", *ways}
    assert set(metrics["fusions"]["sft, head"]["any"]["weights"]) == {
        *PRIOR_FEATURES,
        *HEAD_FEATURES,
    }
    pairs = {(pair["of"], pair["over"]) for pair in metrics["list_differences"]}
    assert {("sft/fused_head", "sft/fused"), ("sft/guided", "sft/reranked")} <= pairs
    assert ("sft/guided", "paths") in pairs
    tables = {table.key: table for table in build_tables(metrics)}
    names = [row[0] for row in tables["lists-any"].rows]
    assert "sft: by a beam that the scorer of paths guides" in names


def test_of_a_list_of_answers_titles_are_near_to_the_first_line_as_the_judge_reads_it(
    ctx, tiny_model, smollm2_tokenizer
):
    tiny_model.save_pretrained(ctx.inputs["sft"] / "model")
    smollm2_tokenizer.save_pretrained(ctx.inputs["sft"] / "model")
    add_alignment(ctx, 3)
    lists = [list_answer([TEXTS[f"i{n % 6}0"], TEXTS[f"i{(n + 3) % 6}2"]]) for n in range(7)]
    texts = [text(n, "sft", answer) for n, answer in enumerate([*lists, ""])]
    written = pa.Table.from_pylist(texts, schema.TEXTS)
    write_parquet(written, ctx.inputs["infer"] / "texts.parquet", schema.TEXTS)
    section = EvaluateSection(hit_rate_at=(1,), bootstrap=100, candidates=3, calibration=2)
    student = StudentSection(max_completion_tokens=4, answers=2)
    recipe = ctx.recipe.model_copy(update={"evaluate": section, "student": student})
    evaluate(replace(ctx, recipe=recipe))
    judged = read_parquet(ctx.out / "judgements.parquet", JUDGEMENTS).to_pylist()
    listed = read_parquet(ctx.out / "listings.parquet", LISTINGS).to_pylist()
    of_judge = [r for r in judged if (r["writer"], r["track"]) == ("sft", "any")]
    of_list = [r for r in listed if (r["list"], r["track"]) == ("sft/nearest", "any")]
    ranks = [row["title_rank"] for row in of_list]
    assert ranks == [row["title_rank"] for row in of_judge]
    assert ranks[:7] == [1] * 7


def test_suspicious_titles_that_are_answered_too_often_are_flagged(ctx, caplog):
    path = ctx.inputs["construct"] / "items.parquet"
    rows = read_parquet(path, schema.ITEMS).to_pylist()
    for row in rows:
        if row["item_id"] == "i00":  # what SFT answers to everybody, and what is true for two
            row["title"] += " <answer>"
    write_parquet(pa.Table.from_pylist(rows, schema.ITEMS), path, schema.ITEMS)
    texts = ctx.inputs["infer"] / "texts.parquet"
    answer = one_part("Thing 0 of shelf 0 <answer>")
    written = read_parquet(texts, schema.TEXTS).to_pylist()
    written = [row | ({"answer": answer} if row["model"] == "sft" else {}) for row in written]
    write_parquet(pa.Table.from_pylist(written, schema.TEXTS), texts, schema.TEXTS)
    evaluate(ctx)
    found = read_json(ctx.out / "metrics.json")["suspicious"]
    assert found["markup"] == 1
    flagged = {name for name, figures in found["writers"].items() if figures["flagged"]}
    assert flagged == {"sft"}
    assert "sft answers suspicious titles in 100.0 % of examples" in caplog.text
    tables = {table.key: table for table in build_tables(read_json(ctx.out / "metrics.json"))}
    assert {row[0]: row[-1] for row in tables["suspicious"].rows}["Student after SFT"] == "FLAGGED"


def test_no_test_example_is_an_error_that_says_what_to_do(ctx):
    path = ctx.inputs["construct"] / "examples.parquet"
    rows = [row | {"split": "sft"} for row in read_parquet(path, schema.EXAMPLES).to_pylist()]
    write_parquet(pa.Table.from_pylist(rows, schema.EXAMPLES), path, schema.EXAMPLES)
    with pytest.raises(DataError, match=r"raise data\.num_test"):
        evaluate(ctx)


def test_without_exposures_answers_and_lists_are_judged_and_no_ctcvr_is_named(ctx):
    inputs = {name: path for name, path in ctx.inputs.items() if name not in ("simulate", "rank")}
    contents = Contents(exposures=0, clicks=0, conversions=0, goal="click")
    write_json(contents.to_json(), inputs["construct"] / "contents.json")
    evaluate(replace(ctx, inputs=inputs))
    metrics = read_json(ctx.out / "metrics.json")
    assert metrics["reward_ranker"] is metrics["ranking"] is metrics["gold"] is None
    for writer in metrics["writers"].values():
        assert "title_hit_rate_at_24" in writer["tracks"]["any"]
        assert "ctcvr" not in writer["tracks"]["any"]
    assert metrics["lists"]
    judgements = read_parquet(ctx.out / "judgements.parquet", JUDGEMENTS)
    assert judgements["ctcvr"].null_count == judgements.num_rows
    titles = " ".join(table.title for table in build_tables(metrics))
    assert "Ranking" not in titles
