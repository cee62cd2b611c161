"""Stage 1, RUPR: the teacher, shown the true next item, writes k chains for each example."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from transformers import AutoTokenizer

from taiji.artifacts import Shards, read_parquet
from taiji.errors import DataError
from taiji.language.generate import Reply
from taiji.language.models import resolve_model
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.leakage import boilerplate, find_leak
from taiji.reasoning.prompts import losses, prompt_fitter
from taiji.reasoning.teachers import Task, build_teacher
from taiji.schema import CANDIDATES, EXAMPLES, ITEMS
from taiji.stages.context import StageContext, Summary

_SHARD_ROWS = 64
"""Examples between two commits: minutes of a slow teacher, 20 ms of disk for a fast one."""


def distill(ctx: StageContext) -> Summary:
    """Write `candidates.parquet`: k chains for each SFT example, with status and leaks."""
    path = ctx.out / "candidates.parquet"
    tasks, lost = _tasks(ctx)
    if not path.is_file():
        _write(ctx, path, tasks)
    return _summary(read_parquet(path, CANDIDATES)) | lost


def _write(ctx: StageContext, path: Path, tasks: Sequence[Task]) -> None:
    """Ask the teacher for every example, by resumable shards."""
    section = ctx.recipe.distill
    teacher = build_teacher(section.teacher, ctx.recipe.data.text, ctx.recipe.seed)
    shards = Shards(ctx.out / "shards", CANDIDATES)
    starts = range(0, len(tasks), _SHARD_ROWS)
    for index, first in enumerate(starts):
        part = tasks[first : first + _SHARD_ROWS]
        if not shards.done(index):

            def on_progress(done: int, _total: int, first: int = first) -> None:
                ctx.progress(first + done, len(tasks), "examples")

            replies = teacher.write(part, section.candidates, on_progress)
            shards.write(index, _candidates(part, replies, teacher.name))
        ctx.progress(first + len(part), len(tasks), "examples")
    shards.merge(len(starts), path)


def _tasks(ctx: StageContext) -> tuple[list[Task], dict[str, int]]:
    """The SFT examples, each with what its prompt will show, and their true next items.

    Also how many of them lose lines to the budget of tokens, and how many lines.
    """
    construct, student = ctx.inputs["construct"], ctx.recipe.student
    examples = read_parquet(construct / "examples.parquet", EXAMPLES)
    examples = examples.filter(pc.equal(examples["split"], "sft")).to_pylist()
    if not examples:
        raise DataError(f"{construct}: no examples of split sft: raise data.num_sft")
    wanted = {example["target_item_id"] for example in examples}
    items = read_parquet(construct / "items.parquet", ITEMS)
    rows = items.filter(pc.is_in(items["item_id"], pa.array(wanted, pa.string()))).to_pylist()
    targets = {row["item_id"]: row for row in rows}
    scaffold = ChatScaffold(AutoTokenizer.from_pretrained(str(resolve_model(student.model))))
    fitter = prompt_fitter(ctx.recipe, scaffold)
    told = [fitter.shown(example) for example in examples]
    lost = losses(
        len(example["history"]) - len(row["history"])
        for example, row in zip(examples, told, strict=True)
    )
    return [Task(example=row, target=targets[row["target_item_id"]]) for row in told], lost


def _candidates(
    tasks: Sequence[Task], replies: Sequence[Sequence[Reply]], teacher: str
) -> pa.Table:
    rows = [
        {
            "example_id": task.example["example_id"],
            "candidate": number,
            "teacher": teacher,
            "status": reply.status,
            "cot": reply.text,
            "answer": task.answer,
            "leak": _leak(task, reply.text),
        }
        for task, group in zip(tasks, replies, strict=True)
        for number, reply in enumerate(group)
    ]
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


def _leak(task: Task, cot: str) -> str | None:
    """The target's categories may be named: they are what a chain concludes."""
    categories = [task.target[f"category_l{level}"] or "" for level in (1, 2, 3)]
    lines = [line["text"] for line in task.example["history"]]
    return find_leak(cot, task.target["title"], [*lines, *categories])


def _summary(candidates: pa.Table) -> Summary:
    rows: list[Mapping[str, Any]] = candidates.to_pylist()
    ok = [row for row in rows if row["status"] == "ok"]
    repeated = boilerplate([row["cot"] for row in ok if row["candidate"] == 0], share=0.0)
    return {
        "teacher": rows[0]["teacher"],
        "candidates": len(rows),
        "ok_share": round(len(ok) / len(rows), 4),
        "leak_share": round(sum(row["leak"] is not None for row in ok) / max(len(ok), 1), 4),
        "most_repeated_words_share": round(max(repeated.values(), default=0.0), 4),
    }
