"""The runs of a folder, read again when one of them has changed."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.errors import ConfigError, MissingArtifactError, TaijiError
from taiji.pipeline import STAGES
from taiji.report.run_files import RECIPE, ReportData, read_run
from taiji.report.stage_words import stage_words
from taiji.store.files import read_json

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEPT = 4  # runs whose tables stay in memory

State = tuple[tuple[str, int], ...]
"""The finished stages of a run and when each manifest was written, in nanoseconds."""


@dataclass(frozen=True)
class Standing:
    """How a run stands, for the list.

    Attributes:
        stage: What runs now, or "".
        done: Stages that have finished.
        words: What the last of them did.
        changed: When something last finished or began, in seconds since 1970.
        problem: Why it cannot be shown, or "".
    """

    name: str
    stage: str
    done: Sequence[str]
    words: str
    changed: float
    problem: str = ""


class Runs:
    """Run directories below one folder.

    Args:
        folder: Where they are; only its own folders count.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Every run, the newest first."""
        found = [path.parent for path in self.folder.glob(f"*/{RECIPE}")]
        known = [path for path in found if _NAME.fullmatch(path.name)]
        return [path.name for path in sorted(known, key=_changed, reverse=True)]

    def root(self, name: str) -> Path:
        """The run directory of this name.

        Raises:
            MissingArtifactError: There is none.
        """
        root = self.folder / name
        if not _NAME.fullmatch(name) or not (root / RECIPE).is_file():
            raise MissingArtifactError("there is no such run")
        return root

    def data(self, name: str) -> ReportData:
        """What a run has now; from memory where nothing has finished since.

        Raises:
            TaijiError: It cannot be read.
        """
        root = self.root(name)
        return _read(root, state_of(root), (root / RECIPE).stat().st_mtime_ns)

    def standing(self) -> Iterator[Standing]:
        """How every run stands, the newest first."""
        return (self._standing(name) for name in self.names())

    def _standing(self, name: str) -> Standing:
        root = self.folder / name
        done = [stage for stage, _ in state_of(root)]
        stage = running_stage(root) or ""
        try:
            recipe_of(root)
            manifests = [read_json(root / one / "manifest.json") for one in done]
        except TaijiError as error:
            return Standing(name, stage, done, "", _changed(root), str(error).partition("\n")[0])
        known: Mapping[str, Any] = {m["stage"]: m["summary"] for m in manifests}
        last = next((s for s in ("evaluate", "rank", "align", "refine") if s in known), None)
        last = last or next(iter(reversed(done)), None)
        words = "" if last is None else stage_words(last, known[last])
        return Standing(name, stage, done, words, _changed(root))


def state_of(root: Path) -> State:
    """The finished stages in the order of the pipeline."""
    found = []
    for stage in STAGES:
        try:
            found.append((stage.name, (root / stage.name / "manifest.json").stat().st_mtime_ns))
        except OSError:
            continue  # it has not finished, or is being replaced
    return tuple(found)


def running_stage(root: Path) -> str | None:
    """The stage that a live process of this machine works at, if one does."""
    working = [s.name for s in STAGES if (root / f"{s.name}.tmp").is_dir()]
    if not working or not _is_held(root / ".lock"):
        return None
    return max(working, key=lambda name: (root / f"{name}.tmp").stat().st_mtime_ns)


def _is_held(lock: Path) -> bool:
    """Whether the process that the lock names lives; the lock itself is not touched."""
    try:
        match = re.match(r"process (\d+) on (.*)", lock.read_text(encoding="utf-8"))
        if match is None or match.group(2) != os.uname().nodename:
            return False
        os.kill(int(match.group(1)), 0)
    except PermissionError:
        return True  # it lives, and is somebody else's
    except (OSError, UnicodeDecodeError):
        return False
    return True


def recipe_of(root: Path) -> Recipe:
    """The recipe of a run directory.

    Raises:
        ConfigError: This version does not understand it.
    """
    try:
        return load_recipe(root / RECIPE).recipe
    except ConfigError as error:
        raise ConfigError(f"{root.name}: a recipe of another version: {error}") from error


@lru_cache(maxsize=_KEPT)
def _read(root: Path, state: State, _recipe: int) -> ReportData:
    return read_run(recipe_of(root), {stage: root / stage for stage, _ in state}, root)


def _changed(root: Path) -> float:
    times = [changed / 1e9 for _, changed in state_of(root)]
    return max([(root / RECIPE).stat().st_mtime, *times])
