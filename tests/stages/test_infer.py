from datetime import UTC, datetime
from functools import cache

import pyarrow as pa
import pytest
import torch

from taiji import schema
from taiji.config import DataSection, FeaturesSection, InferSection, Recipe, StudentSection
from taiji.language.generate import Reply
from taiji.stages import infer as stage
from taiji.stages.infer import plan_shards
from taiji.stages.parts.asked_models import text_row
from taiji.stages.parts.context import StageContext
from taiji.store.files import read_parquet, write_parquet


class KilledError(Exception):
    """Stands in for a kill: nothing after it runs."""


NOON = datetime(2017, 12, 1, 12, tzinfo=UTC)


def example(example_id: str, split: str) -> dict:
    line = {"item_id": "i1", "ts": datetime(2017, 11, 1, tzinfo=UTC), "price": 1.0}
    return {
        "example_id": example_id,
        "user_id": f"u-{example_id}",
        "split": split,
        "cutoff": NOON,
        "profile": "Buys tea.",
        "history": [line | {"text": f"Tea {example_id}; 1.00 USD; 4 weeks before"}],
        "history_length": 1,
        "long_tail": False,
        "holdout": False,
        "target_item_id": "i1" if split == "test" else None,
        "novel_target_item_id": None,
        "basket_item_ids": None,
    }


EXAMPLES = [
    example("s0", "sft"),
    *(example(f"t{n}", "test") for n in range(3)),
    example("a0", "rank_train"),
    example("b0", "rank_test"),
]


@pytest.fixture
def ctx(tmp_path, tiny_model, smollm2_tokenizer, monkeypatch):
    monkeypatch.setattr(stage, "load_causal_lm", cache(stage.load_causal_lm))  # it takes seconds
    for name in ("student", "sft/model", "align/model"):
        folder = tmp_path / name
        tiny_model.save_pretrained(folder)
        smollm2_tokenizer.save_pretrained(folder)
    (tmp_path / "construct").mkdir()
    (tmp_path / "infer").mkdir()
    write_parquet(
        pa.Table.from_pylist(EXAMPLES, schema.EXAMPLES),
        tmp_path / "construct" / "examples.parquet",
        schema.EXAMPLES,
    )
    student = StudentSection(
        model=str(tmp_path / "student"), max_prompt_tokens=256, max_completion_tokens=6
    )
    return StageContext(
        recipe=Recipe(
            name="tiny",
            student=student,
            data=DataSection(),
            infer=InferSection(temperature=1.0, batch_size=2),
        ),
        out=tmp_path / "infer",
        inputs={name: tmp_path / name for name in ("construct", "sft", "align")},
        progress=lambda done, total, what: None,
    )


def test_every_model_answers_the_tests_and_the_policy_alone_the_ranking_users(ctx):
    summary = stage.infer(ctx)
    texts = read_parquet(ctx.out / "texts.parquet", schema.TEXTS).to_pylist()
    by_model = {}
    for row in texts:
        by_model.setdefault(row["model"], []).append(row["example_id"])
    assert by_model == {
        "untuned": ["t0", "t1", "t2"],
        "sft": ["t0", "t1", "t2"],
        "policy": ["t0", "t1", "t2", "a0", "b0"],
    }
    assert summary["texts"] == 11
    assert summary["prompts_cut"] == summary["history_lines_dropped"] == 0
    assert {row["status"] for row in texts} <= {"ok", "truncated", "malformed", "empty"}
    assert sorted(path.name for path in ctx.out.iterdir()) == ["texts.parquet"]


def test_a_killed_run_goes_on_and_writes_the_same_texts(ctx):
    stage.infer(ctx)
    whole = read_parquet(ctx.out / "texts.parquet", schema.TEXTS)
    (ctx.out / "texts.parquet").unlink()

    def kill(done: int, total: int, what: str) -> None:
        if done == 6:  # texts, at the end of the fourth shard
            raise KilledError

    killed = StageContext(ctx.recipe, ctx.out, ctx.inputs, kill)
    with pytest.raises(KilledError):
        stage.infer(killed)
    assert len(list((ctx.out / "texts.parts").iterdir())) == 3
    done = []
    resumed = StageContext(ctx.recipe, ctx.out, ctx.inputs, lambda *args: done.append(args))
    stage.infer(resumed)
    assert read_parquet(ctx.out / "texts.parquet", schema.TEXTS).equals(whole)


def test_what_the_budget_drops_is_counted_once_an_example(ctx):
    path = ctx.inputs["construct"] / "examples.parquet"
    rows = read_parquet(path, schema.EXAMPLES).to_pylist()
    line = {"item_id": "i", "ts": rows[0]["cutoff"], "text": "milk " * 200}
    rows = [row | {"history": [line | {"text": "tea"}, line, line]} for row in rows]
    write_parquet(pa.Table.from_pylist(rows, schema.EXAMPLES), path, schema.EXAMPLES)
    summary = stage.infer(ctx)
    assert (summary["prompts_cut"], summary["history_lines_dropped"]) == (5, 10)
    texts = read_parquet(ctx.out / "texts.parquet", schema.TEXTS)
    assert texts["lines_dropped"].to_pylist() == [2] * 11


def test_other_models_write_of_the_ranking_users_where_their_texts_become_features(ctx):
    recipe = ctx.recipe.model_copy(
        update={
            "features": FeaturesSection(texts=("policy", "untuned")),
            "infer": InferSection(models=("policy",), temperature=1.0, batch_size=2),
        }
    )
    stage.infer(StageContext(recipe, ctx.out, ctx.inputs, ctx.progress))
    texts = read_parquet(ctx.out / "texts.parquet", schema.TEXTS).to_pylist()
    assert [(row["model"], row["example_id"]) for row in texts] == [
        *(("policy", name) for name in ("t0", "t1", "t2", "a0", "b0")),
        *(("untuned", name) for name in ("a0", "b0")),
    ]


def test_the_models_write_in_the_precision_of_the_recipe(ctx):
    recipe = ctx.recipe.model_copy(update={"infer": InferSection(dtype="bfloat16")})
    writer = stage._Writer(recipe, {"policy": ctx.inputs["align"] / "model"})
    rows = writer(stage.Shard("policy", EXAMPLES[:2]), lambda *_: None)
    assert rows.num_rows == 2
    assert writer._generator._model.dtype == torch.bfloat16


def test_a_text_may_be_longer_than_what_was_trained_on(ctx):
    def texts(**settings):
        recipe = ctx.recipe.model_copy(update={"infer": InferSection(**settings)})
        writer = stage._Writer(recipe, {"policy": ctx.inputs["align"] / "model"})
        return writer(stage.Shard("policy", EXAMPLES[:2]), lambda *_: None)[
            "completion"
        ].to_pylist()

    short, longer = texts(), texts(max_completion_tokens=12)  # the student's limit is 6
    for less, more in zip(short, longer, strict=True):
        assert more.startswith(less)
        assert len(more) > len(less)


def test_a_text_does_not_depend_on_its_shard(ctx):
    writer = stage._Writer(ctx.recipe, {"policy": ctx.inputs["align"] / "model"})
    tests = [row for row in EXAMPLES if row["split"] == "test"]
    alone, later = (
        writer(stage.Shard("policy", examples), lambda *_: None).to_pylist()
        for examples in (tests[1:2], tests)
    )
    assert alone == later[1:2]


def test_a_finished_file_is_not_written_again(ctx):
    stage.infer(ctx)
    before = (ctx.out / "texts.parquet").stat().st_mtime_ns
    summary = stage.infer(ctx)
    assert (ctx.out / "texts.parquet").stat().st_mtime_ns == before
    assert summary["texts"] == 11


def test_the_plan_gives_the_policy_its_users_even_if_it_is_not_judged():
    shards = plan_shards(EXAMPLES, ["sft"], ["policy"], 2)
    sizes = [(shard.model, len(shard.examples)) for shard in shards]
    assert sizes == [("sft", 2), ("sft", 1), ("policy", 2)]


@pytest.mark.parametrize(
    ("reply", "status", "answer"),
    [
        (Reply("<think>a</think><answer>Tea</answer>", "ok", 9), "ok", "Tea"),
        (Reply("<think>a</think><answer>Te", "truncated", 9), "truncated", ""),
        (Reply("I like tea", "ok", 3), "malformed", ""),
        (Reply(" ", "empty", 1), "empty", ""),
    ],
)
def test_a_row_keeps_what_was_written_and_says_what_is_wrong(reply, status, answer):
    row = text_row("t0", "sft", reply)
    assert (row["status"], row["answer"], row["completion"]) == (status, answer, reply.text)
