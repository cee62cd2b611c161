"""Stage 1, RUPR: the teacher, shown the true next item, writes k chains for each example."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from taiji.config import Recipe
from taiji.data.item_text import category_path
from taiji.language.generate import Reply
from taiji.language.models import load_tokenizer
from taiji.language.prompt import ChatScaffold
from taiji.language.workers import Note, Worker
from taiji.reasoning.boilerplate import shares_told_to_others
from taiji.reasoning.leakage import Leak, copied_share, find_leak, find_phrase, phrases_apply
from taiji.reasoning.prompts import losses, prompt_fitter, split_own_answer
from taiji.reasoning.teachers import TeacherTask, build_teacher
from taiji.schema import CANDIDATES
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.shards import Pieces, write_shards
from taiji.store.files import read_parquet, write_parquet
from taiji.store.shards import Shards
from taiji.templates import Templates

logger = logging.getLogger(__name__)

_SHARD_ROWS = 64
"""Examples between two commits: minutes of a slow teacher, 20 ms of disk for a fast one."""

_TELL_UNJUDGED = 0.05
"""Share of chains in languages without known phrases beyond which a warning is due."""


def distill(ctx: StageContext) -> Summary:
    """Write `candidates.parquet`: k chains for each SFT example, with status and leaks."""
    path = ctx.out / "candidates.parquet"
    tasks, lost = _tasks(ctx)
    rows = _write(ctx, tasks).to_pylist()
    _find_leaks(rows, tasks)
    write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), path, CANDIDATES)
    return _summary(read_parquet(path, CANDIDATES).to_pylist(), ctx.recipe.distill.mode) | lost


def _write(ctx: StageContext, tasks: Sequence[TeacherTask]) -> pa.Table:
    """Ask the teacher for every example, by resumable shards."""
    shards = Shards(ctx.parts("chains"), CANDIDATES)
    pieces = Pieces(len(tasks), _SHARD_ROWS, lambda start, stop: tasks[start:stop])
    build = partial(_asker, ctx.recipe, ctx.calls.absolute())
    write_shards(ctx, shards, pieces, build, what="examples")
    return pa.concat_tables(shards.all(len(pieces)))


def _asker(recipe: Recipe, calls: Path) -> Worker[Sequence[TeacherTask], pa.Table]:
    """Whoever asks the teacher, made where the work is done."""
    section, text = recipe.distill, recipe.data.text
    teacher = build_teacher(section.teacher, text, recipe.seed, calls)
    templates = text.resolved()

    def ask(tasks: Sequence[TeacherTask], note: Note) -> pa.Table:
        replies = teacher.write(tasks, section.candidates, note)
        rows = _candidates(tasks, replies, teacher.name, templates)
        return pa.Table.from_pylist(rows, schema=CANDIDATES)

    return ask


def _tasks(ctx: StageContext) -> tuple[list[TeacherTask], dict[str, int]]:
    """The SFT examples, each with what its prompt will show, and their true next items.

    Also how many of them lose lines to the budget of tokens, and how many lines.
    """
    constructed, student = Constructed(ctx.inputs["construct"]), ctx.recipe.student
    examples = constructed.targeted_examples("sft").to_pylist()
    wanted = {item for example in examples for item in _true_items(example, student.answers)}
    items = constructed.items
    rows = items.filter(pc.is_in(items["item_id"], pa.array(wanted, pa.string()))).to_pylist()
    targets = {row["item_id"]: row for row in rows}
    scaffold = ChatScaffold(load_tokenizer(student.model))
    fitter = prompt_fitter(ctx.recipe, scaffold)
    told = [fitter.shown(example) for example in examples]
    lost = losses(
        len(example["history"]) - len(row["history"])
        for example, row in zip(examples, told, strict=True)
    )
    mode = ctx.recipe.distill.mode
    tasks = [
        TeacherTask(
            row, targets[row["target_item_id"]], mode, _further(row, targets, student.answers)
        )
        for row in told
    ]
    return tasks, lost


def _true_items(example: Mapping[str, Any], answers: int) -> list[str]:
    """The target and, where several are asked for, all of the basket that it came in."""
    basket = (example["basket_item_ids"] or ()) if answers > 1 else ()
    return [example["target_item_id"], *basket]


def _further(
    example: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]], answers: int
) -> list[Mapping[str, Any]]:
    """True items beside the target for an answer of several: each of another category."""
    taken = {category_path(targets[example["target_item_id"]])}
    further: list[Mapping[str, Any]] = []
    for item_id in _true_items(example, answers)[1:]:
        path = category_path(targets[item_id])
        if path not in taken and len(further) < answers - 1:
            taken.add(path)
            further.append(targets[item_id])
    return further


def _candidates(
    tasks: Sequence[TeacherTask],
    replies: Sequence[Sequence[Reply]],
    teacher: str,
    templates: Templates,
) -> list[dict[str, Any]]:
    """Rows of `schema.CANDIDATES`; what takes the chains of all users to judge is left open."""
    rows = []
    for task, group in zip(tasks, replies, strict=True):
        for number, reply in enumerate(group):
            cot, own_answer = reply.text, None
            if task.mode == "direct":
                cot, own_answer = split_own_answer(reply.text, templates)
            rows.append(
                {
                    "example_id": task.example["example_id"],
                    "candidate": number,
                    "teacher": teacher,
                    "status": reply.status if cot or reply.status != "ok" else "empty",
                    "cot": cot,
                    "answer": task.answer,
                    "own_answer": own_answer,
                    "leak_phrase": find_phrase(cot, _instruction(task, templates)),
                    "copied_title": _copied_title(task, cot),
                }
            )
    return rows


def _instruction(task: TeacherTask, templates: Templates) -> str:
    return templates.direct_task if task.mode == "direct" else templates.teacher_task


def _copied_title(task: TeacherTask, cot: str) -> float:
    """The target's categories may be named: they are what a chain concludes."""
    if task.mode == "direct":  # whoever was not shown the title has guessed it
        return 0.0
    categories = [task.target[f"category_l{level}"] or "" for level in (1, 2, 3)]
    lines = [line["text"] for line in task.example["history"]]
    return copied_share(cot, task.target["title"], [*lines, *categories])


def _find_leaks(rows: Sequence[dict[str, Any]], tasks: Sequence[TeacherTask]) -> None:
    """Fill in what can only be said of all chains together: boilerplate, and the leak."""
    examples = {task.example["example_id"]: task.example for task in tasks}
    told = [examples[row["example_id"]] for row in rows]
    facts = {
        name: "\n".join([example["profile"], *(line["text"] for line in example["history"])])
        for name, example in examples.items()
    }
    shares = shares_told_to_others(
        [row["cot"] for row in rows],
        [example["user_id"] for example in told],
        [facts[row["example_id"]] for row in rows],
    )
    for row, share in zip(rows, shares.tolist(), strict=True):
        row["boilerplate"] = share
        row["leak"] = find_leak(row["leak_phrase"], row["copied_title"], share)


def _summary(rows: Sequence[Mapping[str, Any]], mode: str) -> Summary:
    """Rates of leaks are among the chains whose status is ok."""
    ok = [row for row in rows if row["status"] == "ok"]
    leaks = Counter(row["leak"] for row in ok if row["leak"] is not None)
    unjudged = sum(not phrases_apply(row["cot"]) for row in ok)
    if unjudged > _TELL_UNJUDGED * len(ok):
        logger.warning(
            "distill: %d of %d chains are neither English nor Chinese: the leakage guard looks "
            "for copied titles and boilerplate in them, but knows no tell-tale phrases",
            unjudged,
            len(ok),
        )

    def share(number: int) -> float:
        return round(number / max(len(ok), 1), 4)

    summary: Summary = {
        "teacher": rows[0]["teacher"],
        "candidates": len(rows),
        "ok_share": round(len(ok) / len(rows), 4),
        "leak_share": share(leaks.total()),
        **{f"leak_{kind}_share": share(leaks[kind]) for kind in get_args(Leak)},
        "leak_unjudged_share": share(unjudged),
    }
    if mode == "direct":
        right = sum(row["own_answer"] == row["answer"] for row in ok)
        summary["own_answer_right_share"] = share(right)
    return summary
