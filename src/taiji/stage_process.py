"""A stage in one of several processes; torch's launcher starts each.

    python -m taiji.stage_process JOB

All of them run the whole stage and agree where they must. The first writes artifacts and reports
progress and log lines; each says at its end how it ended.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taiji.config import Recipe, TrainingCompute
from taiji.errors import TaijiError
from taiji.stage_function import stage_function
from taiji.stages.parts.context import StageContext, Summary
from taiji.store.exhausted import resource_errors
from taiji.store.files import append_jsonl, write_json
from taiji.training.agent import PARENT
from taiji.training.launcher import EVENTS, Launch
from taiji.training.processes import die_with, is_first, rank

TRAINED = frozenset({"sft", "align"})
"""The stages that several processes can do together."""


def launch(name: str, ctx: StageContext) -> Summary:
    """Do a stage in the processes that the recipe asks for.

    Raises:
        TaijiError: What a process raised on purpose.
        EngineError: One of them, or the launcher, died.
    """
    job = {
        "stage": name,
        "recipe": ctx.recipe.model_dump(mode="json"),
        "out": str(ctx.out.absolute()),
        "inputs": {stage: str(path.absolute()) for stage, path in ctx.inputs.items()},
        "key": ctx.key,
    }
    folder = (ctx.out / ".launch").absolute()
    found: Summary = Launch("taiji.stage_process", job, folder, ctx.recipe.compute.training).run(
        ctx.progress
    )
    return found


def training_of(job: Mapping[str, Any]) -> TrainingCompute:
    """How many processes a job asks for."""
    return _recipe(job).compute.training


def _recipe(job: Mapping[str, Any]) -> Recipe:
    return Recipe.model_validate_json(json.dumps(job["recipe"]))


class _ToEvents(logging.Handler):
    """Log lines of the first process, for the command that waits for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        row = {"logger": record.name, "level": record.levelno, "text": record.getMessage()}
        append_jsonl(row, self._path)


def _context(job: Mapping[str, Any], events: Path) -> StageContext:
    def report(done: int, total: int, what: str) -> None:
        if is_first():
            append_jsonl({"progress": [done, total, what]}, events)

    return StageContext(
        _recipe(job),
        Path(job["out"]),
        {stage: Path(path) for stage, path in job["inputs"].items()},
        report,
        job["key"],
    )


def _join() -> None:
    """Take the GPU that is this process's own, and meet the others."""
    import torch
    from accelerate import PartialState

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    PartialState(cpu=not torch.cuda.is_available())


def main() -> None:
    """Run the stage of the job."""
    die_with(int(os.environ[PARENT]))
    path = Path(sys.argv[1])
    job = json.loads(path.read_text(encoding="utf-8"))
    handlers = [_ToEvents(path.parent / EVENTS)] if is_first() else None
    logging.basicConfig(level=logging.WARNING, handlers=handlers)
    logging.getLogger("taiji").setLevel(logging.INFO)
    logging.captureWarnings(True)
    outcome = path.parent / f"outcome-{rank()}.json"
    try:
        with resource_errors(Path(job["out"]), "see docs/scale.md for what a process needs,"):
            _join()
            summary = stage_function(job["stage"])(_context(job, path.parent / EVENTS))
    except TaijiError as error:
        write_json({"error": type(error).__name__, "text": str(error)}, outcome)
        sys.exit(error.exit_code)
    write_json({"summary": summary}, outcome)


if __name__ == "__main__":
    main()
