"""Checkpoints that are known to be whole, as `taiji.store.vouched` knows them.

The file `metrics.jsonl` beside the checkpoints belongs to each: a copy goes into it, so that a
resumed run has the rows of exactly the steps that it does not take again. Older checkpoints go
only after the newest is vouched for.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from taiji.store.files import replacing
from taiji.store.vouched import is_whole, vouch
from taiji.training.processes import first_says, is_first, wait_for_all

METRICS = "metrics.jsonl"

_NAME = re.compile(r"checkpoint-(\d+)")


def newest_complete(folder: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint in `folder` and its step, or None; damaged ones are set aside.

    Of several processes the first one looks.
    """
    return first_says(lambda: newest_here(folder))


def newest_here(folder: Path) -> tuple[Path, int] | None:
    """The same without a word to other processes."""
    for step, path in sorted(_checkpoints(folder), reverse=True):
        if is_whole(path):
            return path, step
    return None


def restore_metrics(folder: Path, checkpoint: Path | None) -> Path:
    """Bring `metrics.jsonl` back to what it was at a checkpoint, or to nothing; return its path."""
    path = folder / METRICS
    if not is_first():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    kept = None if checkpoint is None else checkpoint / METRICS
    with replacing(path) as temporary:
        temporary.write_bytes(kept.read_bytes() if kept is not None and kept.is_file() else b"")
    return path


class KeepNewestWhole(TrainerCallback):
    """Vouches for every checkpoint that a trainer has written, then drops all others.

    Each process writes a part of it, so the first one waits for all.
    """

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Runs after the last file of a checkpoint is written, and after the step's metrics."""
        wait_for_all()
        if not state.is_world_process_zero or args.output_dir is None:
            return
        folder = Path(args.output_dir)
        newest = folder / f"checkpoint-{state.global_step}"
        if (folder / METRICS).is_file():
            shutil.copyfile(folder / METRICS, newest / METRICS)
        vouch(newest)
        for _, path in _checkpoints(folder):
            if path != newest:
                shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    named = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [(int(match.group(1)), path) for match, path in named if match]
