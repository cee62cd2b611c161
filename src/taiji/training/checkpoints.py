"""Checkpoints that are known to be whole.

A trainer writes a checkpoint file by file, so a kill leaves a folder that looks like one.
A marker, written last, lists every file with its size; without it, or with a file that is
missing or cut, the folder does not count. Older checkpoints go only after the marker is there.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from taiji.errors import DataError
from taiji.store.files import read_json, sync, write_json

_NAME = re.compile(r"checkpoint-(\d+)")
_MARKER = "complete.json"


def newest_complete(folder: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint in `folder` with its step, or None."""
    for step, path in sorted(_checkpoints(folder), reverse=True):
        if _is_complete(path):
            return path, step
    return None


def mark_complete(checkpoint: Path) -> None:
    """Flush a checkpoint's files to disk and vouch for them."""
    files = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != _MARKER:
            sync(path)
            files[path.relative_to(checkpoint).as_posix()] = path.stat().st_size
    write_json(files, checkpoint / _MARKER)


class KeepNewestWhole(TrainerCallback):
    """Marks every checkpoint that a trainer has written, then drops all others."""

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Runs after the last file of a checkpoint is written."""
        if not state.is_world_process_zero or args.output_dir is None:
            return
        folder = Path(args.output_dir)
        newest = folder / f"checkpoint-{state.global_step}"
        mark_complete(newest)
        for _, path in _checkpoints(folder):
            if path != newest:
                shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    named = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [(int(match.group(1)), path) for match, path in named if match]


def _is_complete(checkpoint: Path) -> bool:
    marker = checkpoint / _MARKER
    if not marker.is_file():
        return False
    try:
        files = read_json(marker)
    except DataError:
        return False
    return all(
        (checkpoint / name).is_file() and (checkpoint / name).stat().st_size == size
        for name, size in files.items()
    )
