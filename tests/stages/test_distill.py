import pytest
from reasoning_run import NUM_EXAMPLES, context

from taiji.artifacts import read_parquet, write_parquet
from taiji.errors import DataError
from taiji.reasoning import teachers
from taiji.schema import CANDIDATES
from taiji.stages import distill as distill_module
from taiji.stages.distill import distill


class KilledError(Exception):
    """Stands in for a kill: nothing after it runs."""


def test_every_sft_example_gets_k_candidates_in_order(run, student):
    ctx = context(run, "distill", student, distill={"candidates": 2})
    summary = distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert [(row["example_id"], row["candidate"]) for row in rows] == [
        (f"e{number:03d}", candidate) for number in range(NUM_EXAMPLES) for candidate in (0, 1)
    ]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["leak"] for row in rows} == {None}
    assert rows[0]["answer"] == "National brand yogurt 32 oz; Grocery; Yogurt; Yogurt tubs"
    assert summary["candidates"] == 2 * NUM_EXAMPLES
    assert summary["ok_share"] == 1.0
    assert {path.name for path in ctx.out.iterdir()} == {"candidates.parquet"}


def test_lines_beyond_the_budget_are_counted(run, student):
    small = {"model": str(student), "max_prompt_tokens": 210}
    summary = distill(context(run, "distill", student, student=small))
    assert summary["prompts_cut"] == NUM_EXAMPLES
    assert NUM_EXAMPLES <= summary["history_lines_dropped"] <= 2 * NUM_EXAMPLES


def test_a_killed_run_goes_on_after_its_last_shard(run, student, monkeypatch):
    monkeypatch.setattr(distill_module, "_SHARD_ROWS", 16)
    whole = context(run, "distill", student)
    distill(whole)
    asked = []

    class Mortal(teachers.EvidenceTeacher):
        def write(self, tasks, k, on_progress=None):
            asked.append(len(tasks))
            if len(asked) == 2:
                raise KilledError
            return super().write(tasks, k, on_progress)

    monkeypatch.setattr(teachers, "EvidenceTeacher", Mortal)
    killed = context(run, "again", student)
    with pytest.raises(KilledError):
        distill(killed)
    distill(killed)
    assert asked == [16, 4, 4]
    tables = [read_parquet(ctx.out / "candidates.parquet", CANDIDATES) for ctx in (whole, killed)]
    assert tables[0].equals(tables[1])


def test_a_chain_argues_only_from_lines_that_fit_the_prompt(run, student):
    full, cut = (
        context(
            run,
            f"distill-{budget}",
            student,
            student={"model": str(student), "max_prompt_tokens": budget},
        )
        for budget in (1024, 180)
    )
    for ctx in (full, cut):
        distill(ctx)
    chains = [
        " ".join(read_parquet(ctx.out / "candidates.parquet")["cot"].to_pylist())
        for ctx in (full, cut)
    ]
    assert "(1 month before)" in chains[0]
    assert "(1 month before)" not in chains[1]


def test_a_local_model_can_be_the_teacher(run, student):
    teacher = {"kind": "transformers", "model": str(student), "max_new_tokens": 3}
    ctx = context(run, "distill", student, distill={"teacher": teacher, "candidates": 2})
    distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert len(rows) == 2 * NUM_EXAMPLES
    assert {row["teacher"] for row in rows} == {str(student)}
    assert {row["status"] for row in rows} <= {"ok", "truncated", "empty"}


def test_without_examples_the_message_says_what_to_raise(run, student):
    ctx = context(run, "distill", student)
    examples = read_parquet(ctx.inputs["construct"] / "examples.parquet")
    write_parquet(
        examples.slice(NUM_EXAMPLES),
        ctx.inputs["construct"] / "examples.parquet",
        examples.schema,
    )
    with pytest.raises(DataError, match=r"data\.num_sft"):
        distill(ctx)
