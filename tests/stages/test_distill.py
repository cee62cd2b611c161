import logging

import pyarrow as pa
import pytest
from reasoning_run import NUM_EXAMPLES, context
from rows import KilledError

from taiji.errors import DataError
from taiji.language.generate import Reply
from taiji.reasoning import teachers
from taiji.schema import CANDIDATES, EXAMPLES, ITEMS
from taiji.stages import distill as distill_module
from taiji.stages.distill import distill
from taiji.store.files import read_parquet, write_parquet


def test_every_sft_example_gets_k_candidates_in_order(run, student):
    ctx = context(run, "distill", student, distill={"candidates": 2})
    summary = distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert [(row["example_id"], row["candidate"]) for row in rows] == [
        (f"e{number:03d}", candidate) for number in range(NUM_EXAMPLES) for candidate in (0, 1)
    ]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["leak"] for row in rows} == {None}
    assert {row["leak_phrase"] for row in rows} == {None}
    assert all(0 <= row["copied_title"] < 0.8 for row in rows)
    assert {row["own_answer"] for row in rows} == {None}
    assert all(0 <= row["boilerplate"] < 0.8 for row in rows)
    assert rows[0]["answer"] == "National brand yogurt 32 oz; Grocery; Yogurt; Yogurt tubs"
    assert summary["candidates"] == 2 * NUM_EXAMPLES
    assert summary["ok_share"] == 1.0
    assert summary["leak_share"] == 0.0
    assert summary["leak_unjudged_share"] <= 0.05
    assert {path.name for path in ctx.out.glob("[!.]*")} == {"candidates.parquet"}


def test_lines_beyond_the_budget_are_counted(run, student):
    small = {"model": str(student), "max_prompt_tokens": 270}
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
        for budget in (1024, 230)
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


def told(monkeypatch, text):
    """A teacher that says `text` of each example's task and candidate."""

    class Parrot(teachers.EvidenceTeacher):
        def write(self, tasks, k, on_progress=None):
            return [[Reply(text(task, n), "ok", 1) for n in range(k)] for task in tasks]

    monkeypatch.setattr(teachers, "EvidenceTeacher", Parrot)


def test_leaks_are_scored_and_counted_by_kind(run, student, monkeypatch):
    def text(task, number):
        title = task.target["title"]
        return (
            f"I was told that it is for {task.example['example_id']}.",
            f"So {title} is what {task.example['example_id']} is likely to take from the shelf.",
            "An everyday item is likely to be needed by the shopper who has such habits.",
        )[number]

    told(monkeypatch, text)
    path = run / "construct" / "examples.parquet"
    rows = read_parquet(path, EXAMPLES).to_pylist()
    table = [row | {"user_id": f"u{number}"} for number, row in enumerate(rows)]
    write_parquet(pa.Table.from_pylist(table, schema=EXAMPLES), path, EXAMPLES)
    ctx = context(run, "distill", student)
    summary = distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert [row["leak_phrase"] for row in rows[:3]] == ["told", None, None]
    assert rows[1]["copied_title"] == 1.0
    assert rows[2]["boilerplate"] == 1.0
    kinds = [row["leak"] for row in rows]
    assert kinds[::3] == ["phrase"] * NUM_EXAMPLES
    assert kinds[2::3] == ["boilerplate"] * NUM_EXAMPLES
    assert summary["leak_phrase_share"] == summary["leak_boilerplate_share"] == round(1 / 3, 4)
    titled = sum(kind == "title" for kind in kinds) / len(kinds)
    assert summary["leak_title_share"] == round(titled, 4) > 0.2


def test_a_language_without_known_phrases_is_told(run, student, monkeypatch, caplog):
    told(monkeypatch, lambda task, n: f"Milch fehlt {task.example['example_id']} zum {n}. Mal.")
    with caplog.at_level(logging.WARNING, logger="taiji"):
        summary = distill(context(run, "distill", student))
    assert summary["leak_unjudged_share"] == 1.0
    assert "neither English nor Chinese" in caplog.text


def test_a_direct_teacher_never_sees_the_target_and_the_label_stays_true(run, student):
    ctx = context(run, "distill", student, distill={"mode": "direct", "candidates": 2})
    summary = distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert rows[0]["answer"] == "National brand yogurt 32 oz; Grocery; Yogurt; Yogurt tubs"
    assert all("Answer:" not in row["cot"] for row in rows)
    own = [row["own_answer"] for row in rows]
    assert None not in own
    right = sum(row["own_answer"] == row["answer"] for row in rows) / len(rows)
    assert summary["own_answer_right_share"] == round(right, 4) < 0.5
    path = run / "construct" / "examples.parquet"
    table = [row | {"target_item_id": "i11"} for row in read_parquet(path, EXAMPLES).to_pylist()]
    write_parquet(pa.Table.from_pylist(table, schema=EXAMPLES), path, EXAMPLES)
    other = context(run, "other", student, distill={"mode": "direct", "candidates": 2})
    distill(other)
    again = read_parquet(other.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert [row["cot"] for row in again] == [row["cot"] for row in rows]
    assert [row["answer"] for row in again] != [row["answer"] for row in rows]


def asked_for(student, answers):
    return {"model": str(student), "max_completion_tokens": 256, "answers": answers}


def with_baskets(run, *item_ids):
    path = run / "construct" / "examples.parquet"
    rows = read_parquet(path, EXAMPLES).to_pylist()
    table = [row | {"basket_item_ids": [*item_ids, row["target_item_id"]]} for row in rows]
    write_parquet(pa.Table.from_pylist(table, schema=EXAMPLES), path, EXAMPLES)


def test_where_several_answers_are_asked_for_every_answer_is_a_list(run, student):
    ctx = context(run, "distill", student, student=asked_for(student, 2))
    distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert rows[0]["answer"] == "Grocery; Yogurt; Yogurt tubs; National brand yogurt 32 oz"


def test_of_several_items_each_is_of_another_category_where_they_have_any(run, student):
    with_baskets(run, "i1", "i0", "i10")
    ctx = context(run, "distill", student, student=asked_for(student, 5))
    distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    titles = [line.split("; ")[-1] for line in rows[0]["answer"].splitlines()]
    assert len(titles) == len(set(titles)) == 3
    path = run / "construct" / "items.parquet"
    bare = dict.fromkeys(("category_l1", "category_l2", "category_l3"))
    table = [row | bare for row in read_parquet(path, ITEMS).to_pylist()]
    write_parquet(pa.Table.from_pylist(table, schema=ITEMS), path, ITEMS)
    other = context(run, "other", student, student=asked_for(student, 5))
    distill(other)
    rows = read_parquet(other.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert rows[0]["answer"].splitlines() == [table[n]["title"] for n in (1, 0, 10)]


def test_the_title_of_a_further_item_is_a_leak_as_well(run, student, monkeypatch):
    def text(task, _number):
        item = (*task.others, task.target)[0]
        return f"So they will take {item['title']} from there."

    told(monkeypatch, text)
    with_baskets(run, "i10")
    ctx = context(run, "distill", student, student=asked_for(student, 2))
    distill(ctx)
    rows = read_parquet(ctx.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert rows[0]["copied_title"] == 1.0
    assert rows[0]["leak"] == "title"


def test_a_direct_teacher_who_names_the_first_of_several_is_right(run, student, monkeypatch):
    truth = "Grocery; Yogurt; Yogurt tubs"
    reply = f"They like yogurt.\nAnswer: National brand yogurt 32 oz; {truth}"
    told(monkeypatch, lambda task, n: reply)
    asked = {"student": asked_for(student, 2), "distill": {"mode": "direct", "candidates": 1}}
    summary = distill(context(run, "distill", student, **asked))
    assert summary["own_answer_right_share"] > 0
