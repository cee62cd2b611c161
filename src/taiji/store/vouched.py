"""Folders of unfinished work that are known to be whole.

Libraries write a checkpoint or a model file by file, so a kill leaves a folder that looks like
one. A marker, written last, lists every file with its SHA-256, and the place where all of them
lie; without it, or where anything differs, the folder does not count.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from taiji.errors import DataError
from taiji.store.files import digest_file, read_json, sync, write_json

logger = logging.getLogger(__name__)

_MARKER = "complete.json"


def vouch(folder: Path, place: Path | None = None) -> None:
    """Flush a folder's files to disk and vouch for them.

    Args:
        folder: With all its files.
        place: Where it will be renamed to, if not to stay.
    """
    (folder / _MARKER).unlink(missing_ok=True)
    for path in _files(folder):
        sync(path)
    write_json(_description(folder, place or folder, digest_file), folder / _MARKER)


def is_whole(folder: Path, digest_of: Callable[[Path], str] = digest_file) -> bool:
    """Whether a folder holds what `vouch` saw, where it saw it.

    One that was vouched for and differs is damaged: it is named and set aside.

    Args:
        folder: May not be there.
        digest_of: Takes or knows the digest of a file.
    """
    if not (folder / _MARKER).is_file():
        return False  # killed while it was written
    try:
        vouched_for = read_json(folder / _MARKER)
    except DataError:
        vouched_for = None
    if vouched_for == _description(folder, folder, digest_of):
        return True
    set_aside(folder, "is not what was written there")
    return False


def copy_vouched(folder: Path, target: Path) -> None:
    """Copy a folder that is whole, without its marker."""
    ignored = shutil.ignore_patterns(_MARKER)
    shutil.copytree(folder, target, ignore=ignored, dirs_exist_ok=True)


def set_aside(path: Path, why: str) -> None:
    """Rename a file or a folder to `<name>.damaged`, and say so; an older one there goes."""
    aside = path.with_name(f"{path.name}.damaged")
    if aside.is_dir():
        shutil.rmtree(aside)
    path.replace(aside)
    logger.warning("%s: %s: set aside as %s and made again", path, why, aside.name)


def _description(folder: Path, place: Path, digest_of: Callable[[Path], str]) -> dict[str, object]:
    files = {path.relative_to(folder).as_posix(): digest_of(path) for path in _files(folder)}
    return {"place": f"{place.parent.name}/{place.name}", "files": files}


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / _MARKER)
