import shutil
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pyarrow as pa
import pytest
from rows import KilledError, example_row

from taiji import schema
from taiji.config import (
    DataSection,
    FeaturesSection,
    InferSection,
    Recipe,
    StudentSection,
    TransformersEngine,
)
from taiji.language import engines
from taiji.language.generate import Reply
from taiji.stages import infer as stage
from taiji.stages.infer import plan_texts
from taiji.stages.parts.asked_models import AskedModel, text_row
from taiji.stages.parts.context import StageContext
from taiji.store.files import read_parquet, write_parquet

NOON = datetime(2017, 12, 1, 12, tzinfo=UTC)


def example(example_id: str, split: str) -> dict:
    line = {"item_id": "i1", "ts": datetime(2017, 11, 1, tzinfo=UTC), "price": 1.0}
    return example_row(
        example_id,
        split,
        user_id=f"u-{example_id}",
        profile="Buys tea.",
        history=[line | {"text": f"Tea {example_id}; 1.00 USD; 4 weeks before"}],
        history_length=1,
        target_item_id="i1" if split == "test" else None,
    )


EXAMPLES = [
    example("s0", "sft"),
    *(example(f"t{n}", "test") for n in range(3)),
    example("a0", "rank_train"),
    example("b0", "rank_test"),
]


@pytest.fixture
def ctx(tmp_path, tiny_model, smollm2_tokenizer, monkeypatch):
    # loading takes seconds
    monkeypatch.setattr(engines, "load_causal_lm", cache(engines.load_causal_lm))
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
            infer=InferSection(temperature=1.0, engine=TransformersEngine(batch_size=2)),
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
    shown = [path.name for path in ctx.out.iterdir() if not path.name.startswith(".")]
    assert shown == ["texts.parquet"]


def test_a_killed_run_goes_on_and_writes_the_same_texts(ctx):
    stage.infer(ctx)
    whole = read_parquet(ctx.out / "texts.parquet", schema.TEXTS)
    (ctx.out / "texts.parquet").unlink()
    shutil.rmtree(ctx.out / ".parts")

    def kill(done: int, total: int, what: str) -> None:
        if done == 3 and what.endswith("sft"):  # at the end of its second shard
            raise KilledError

    killed = StageContext(ctx.recipe, ctx.out, ctx.inputs, kill)
    with pytest.raises(KilledError):
        stage.infer(killed)
    parts = {path.name: sorted(path.iterdir()) for path in ctx.parts("asked").iterdir()}
    assert set(parts) == {"sft-test-texts", "untuned-test-texts"}
    first, second = parts["untuned-test-texts"]
    data = bytearray(second.read_bytes())
    data[-1] ^= 1
    second.write_bytes(data)  # a damaged shard is made again, and no rerun stops at it
    heard = []
    resumed = StageContext(ctx.recipe, ctx.out, ctx.inputs, lambda *args: heard.append(args))
    stage.infer(resumed)
    assert {done for done, _, what in heard if what.endswith("untuned")} == {3}
    assert [done for done, _, what in heard if what.endswith("sft")] == [3, 3]  # half and whole
    assert read_parquet(ctx.out / "texts.parquet", schema.TEXTS).equals(whole)
    assert second.with_name(f"{second.name}.damaged").is_file()
    assert first.is_file()


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
            "infer": InferSection(models=("policy",), temperature=1.0),
        }
    )
    stage.infer(StageContext(recipe, ctx.out, ctx.inputs, ctx.progress))
    texts = read_parquet(ctx.out / "texts.parquet", schema.TEXTS).to_pylist()
    assert [(row["model"], row["example_id"]) for row in texts] == [
        *(("policy", name) for name in ("t0", "t1", "t2", "a0", "b0")),
        *(("untuned", name) for name in ("a0", "b0")),
    ]


def test_the_prompt_itself_is_a_text_of_the_ranking_users_by_no_model(ctx):
    recipe = ctx.recipe.model_copy(
        update={
            "features": FeaturesSection(texts=("policy", "prompt")),
            "infer": InferSection(models=("policy",), temperature=1.0),
        }
    )
    summary = stage.infer(StageContext(recipe, ctx.out, ctx.inputs, ctx.progress))
    texts = read_parquet(ctx.out / "texts.parquet", schema.TEXTS).to_pylist()
    prompts = {row["example_id"]: row for row in texts if row["model"] == "prompt"}
    assert set(prompts) == {"a0", "b0"}
    for row in EXAMPLES[-2:]:
        facts = "\n".join([row["profile"], *(line["text"] for line in row["history"])])
        found = prompts[row["example_id"]]
        assert (found["completion"], found["cot"], found["answer"]) == (facts, facts, "")
    assert "prompt_ok" not in summary


def asked(ctx, name="policy", **settings):
    """A model that is asked in a folder of its own."""
    recipe = ctx.recipe.model_copy(update={"infer": InferSection(**settings)}) if settings else None
    out = ctx.out / "-".join(["asked", *map(str, settings.values())])
    out.mkdir(exist_ok=True)
    ctx = replace(ctx, recipe=recipe or ctx.recipe, out=out)
    return AskedModel(name, ctx.inputs["align"] / "model", ctx)


def rows_of(examples):
    return pa.Table.from_pylist(examples, schema.EXAMPLES)


def test_a_text_may_be_longer_than_what_was_trained_on(ctx):
    examples = rows_of(EXAMPLES[:2])
    short, longer = (
        asked(ctx, temperature=0.0, **limit).texts("few", examples)["completion"].to_pylist()
        for limit in ({}, {"max_completion_tokens": 12})  # the student's limit is 6
    )
    for less, more in zip(short, longer, strict=True):
        assert more.startswith(less)
        assert len(more) > len(less)


def test_a_text_does_not_depend_on_its_shard(ctx):
    tests = rows_of([row for row in EXAMPLES if row["split"] == "test"])
    alone = asked(ctx).texts("one", tests.slice(1, 1))
    assert alone.equals(asked(ctx).texts("all", tests).slice(1, 1))


def test_killed_at_its_very_end_it_asks_no_model_again(ctx, monkeypatch):
    summary = stage.infer(ctx)

    def unwanted(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(engines, "load_causal_lm", unwanted)
    assert stage.infer(ctx) == summary


def test_the_plan_gives_the_policy_its_users_even_if_it_is_not_judged():
    assert plan_texts(["sft"], ["policy"]) == {"sft": ["test"], "policy": ["users"]}
    assert plan_texts(["sft", "policy"], ["policy"])["policy"] == ["test", "users"]


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
