"""Stage 1, RUPR: the teacher, shown the true next item, writes k chains for each example."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Array
from taiji.config import Recipe
from taiji.data.item_text import CategoryPath, category_path, plain_name
from taiji.language.completions import first_answer
from taiji.language.generate import Reply
from taiji.language.models import load_tokenizer
from taiji.language.pieces import Pieces
from taiji.language.prompt import ChatScaffold
from taiji.language.workers import Note, Worker
from taiji.reasoning.boilerplate import shares_told_to_others
from taiji.reasoning.leakage import Leak, copied_share, find_leak, find_phrase, phrases_apply
from taiji.reasoning.prompts import losses, prompt_fitter, split_own_answer
from taiji.reasoning.teachers import TeacherTask, build_teacher
from taiji.schema import CANDIDATES
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.shards import write_shards
from taiji.store.files import write_tables
from taiji.store.shards import Shards
from taiji.templates import Templates

logger = logging.getLogger(__name__)

_SHARD_ROWS = 64
"""Examples between two commits: minutes of a slow teacher, 20 ms of disk for a fast one."""

_TELL_UNJUDGED = 0.05
"""Share of chains in languages without known phrases beyond which a warning is due."""


def distill(ctx: StageContext) -> Summary:
    """Write `candidates.parquet`: k chains for each SFT example, with status and leaks."""
    tasks = _Tasks(ctx)
    pieces = Pieces(tasks.num, _SHARD_ROWS, tasks.cut)
    shards = Shards(ctx.parts("chains"), CANDIDATES)
    build = partial(_asker, ctx.recipe, ctx.calls.absolute())
    write_shards(ctx, shards, pieces, build, what="examples")
    shares_N = shares_told_to_others(_told(shards, pieces))
    counted = _Counted(ctx.recipe.distill.mode, ctx.recipe.student.answers)
    judged = map(counted.note, _with_leaks(shards.all(len(pieces)), shares_N))
    write_tables(judged, ctx.out / "candidates.parquet", CANDIDATES)
    return counted.summary() | losses(tasks.dropped_N.tolist())


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


class _Tasks:
    """The SFT examples, each with what its prompt will show, and their true next items.

    Attributes:
        dropped_N: How many lines each prompt loses to the budget of tokens.
    """

    def __init__(self, ctx: StageContext) -> None:
        constructed, self._student = Constructed(ctx.inputs["construct"]), ctx.recipe.student
        self._mode = ctx.recipe.distill.mode
        self._rows = constructed.targeted_rows("sft")
        fitter = prompt_fitter(ctx.recipe, ChatScaffold(load_tokenizer(self._student.model)))
        self.dropped_N = np.zeros(self.num, dtype=np.int32)
        wanted: set[str] = set()
        for start in range(0, self.num, _SHARD_ROWS):
            for place, row in enumerate(self._rows.slice(start, _SHARD_ROWS).to_pylist(), start):
                self.dropped_N[place] = fitter.fit(row)[1]
                wanted.update(_true_items(row, self._student.answers))
        items = constructed.items
        known = items.filter(pc.is_in(items["item_id"], pa.array(wanted, pa.string())))
        self._targets = {row["item_id"]: row for row in known.to_pylist()}

    @property
    def num(self) -> int:
        """How many there are."""
        return self._rows.num_rows

    def cut(self, start: int, stop: int) -> list[TeacherTask]:
        """Those from one place to another."""
        tasks = []
        for place, row in enumerate(self._rows.slice(start, stop - start).to_pylist(), start):
            lines = row["history"]
            shown = row | {"history": lines[: len(lines) - self.dropped_N[place]]}
            num_answers = self._student.answers
            others = _further(row, self._targets, num_answers)
            target = self._targets[row["target_item_id"]]
            tasks.append(TeacherTask(shown, target, self._mode, others, num_answers))
        return tasks


def _true_items(example: Mapping[str, Any], answers: int) -> list[str]:
    """The target and, where several are asked for, all of the basket that it came in."""
    basket = (example["basket_item_ids"] or ()) if answers > 1 else ()
    return [example["target_item_id"], *basket]


def _further(
    example: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]], answers: int
) -> list[Mapping[str, Any]]:
    """True items beside the target for an answer of several: each of another category.

    What has no category differs from the others by its title.
    """
    items = [targets[item_id] for item_id in _true_items(example, answers)]
    first_of: dict[CategoryPath | str, Mapping[str, Any]] = {}
    for item in items:
        first_of.setdefault(category_path(item) or plain_name(item["title"]), item)
    return list(first_of.values())[1:answers]


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
    """The largest share of a true item's title; their categories are what a chain concludes."""
    if task.mode == "direct":  # whoever was not shown the title has guessed it
        return 0.0
    items = (task.target, *task.others)
    categories = [item[f"category_l{level}"] or "" for item in items for level in (1, 2, 3)]
    lines = [line["text"] for line in task.example["history"]]
    return max(copied_share(cot, item["title"], [*lines, *categories]) for item in items)


def _told(shards: Shards, pieces: Pieces[list[TeacherTask]]) -> Iterator[tuple[str, str, str]]:
    """Every chain, whom it is about, and the facts that its prompt shows."""
    for number in pieces:
        tasks = {task.example["example_id"]: task.example for task in pieces[number]}
        facts = {
            name: "\n".join([example["profile"], *(line["text"] for line in example["history"])])
            for name, example in tasks.items()
        }
        for row in shards.read(number).select(["example_id", "cot"]).to_pylist():
            name = row["example_id"]
            yield row["cot"], tasks[name]["user_id"], facts[name]


def _with_leaks(parts: Iterable[pa.Table], shares_N: Array) -> Iterator[pa.Table]:
    """Fill in what can only be said of all chains together: boilerplate, and the leak."""
    start = 0
    for part in parts:
        rows = part.to_pylist()
        for row, share in zip(rows, shares_N[start : start + len(rows)].tolist(), strict=True):
            row["boilerplate"] = share
            row["leak"] = find_leak(row["leak_phrase"], row["copied_title"], share)
        start += len(rows)
        yield pa.Table.from_pylist(rows, CANDIDATES)


class _Counted:
    """Counts as chains go by; rates of leaks are among those whose status is ok."""

    def __init__(self, mode: str, answers: int) -> None:
        self._mode, self._answers = mode, answers
        self._teacher = ""
        self._num = self._ok = self._unjudged = self._right = 0
        self._leaks: Counter[str] = Counter()

    def note(self, part: pa.Table) -> pa.Table:
        """Count the chains of a part, and pass it on."""
        self._num += part.num_rows
        for row in part.to_pylist():
            self._teacher = self._teacher or row["teacher"]
            if row["status"] == "ok":
                self._ok += 1
                self._unjudged += not phrases_apply(row["cot"])
                self._right += row["own_answer"] == first_answer(row["answer"], self._answers)
                self._leaks.update([row["leak"]] if row["leak"] is not None else ())
        return part

    def summary(self) -> Summary:
        """The figures of the stage."""
        if self._unjudged > _TELL_UNJUDGED * self._ok:
            logger.warning(
                "distill: %d of %d chains are neither English nor Chinese: the leakage guard "
                "looks for copied titles and boilerplate in them, but knows no tell-tale phrases",
                self._unjudged,
                self._ok,
            )
        summary: Summary = {
            "teacher": self._teacher,
            "candidates": self._num,
            "ok_share": round(self._ok / self._num, 4),
            "leak_share": self._share(self._leaks.total()),
            **{f"leak_{kind}_share": self._share(self._leaks[kind]) for kind in get_args(Leak)},
            "leak_unjudged_share": self._share(self._unjudged),
        }
        if self._mode == "direct":
            summary["own_answer_right_share"] = self._share(self._right)
        return summary

    def _share(self, number: int) -> float:
        return round(number / max(self._ok, 1), 4)
