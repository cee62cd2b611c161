"""SHA-256 of files, each taken once for a state of the file.

A file's state is its inode, size and the times of its last change; any write through the file
system moves the time of change, which no program can set back. Digests are kept with these in a
small record, so that asking again whether gigabytes have changed reads none of them. What the
record cannot see is a disk that loses bits by itself: contents are read again before a stage
uses them, and by `taiji status --verify`.
"""

import logging
import time
from pathlib import Path
from typing import Any

from taiji.errors import DataError
from taiji.store.files import digest_file, digest_value, read_json, write_json

logger = logging.getLogger(__name__)

_SETTLED_NS = 2_000_000_000  # clocks of file systems are this coarse, at worst
_MOST_UNUSED = 10_000

State = list[int]


class KnownDigests:
    """Looks up or takes digests.

    Args:
        record: The file that keeps them between processes. It vouches for itself; where it is
            damaged or gone, all digests are taken anew.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._known: dict[str, tuple[State, str]] = _read(record)
        self._taken: dict[str, int] = {}
        self._used: set[str] = set()

    def known(self, path: Path) -> str:
        """The digest of a file; from the record, if the file has not changed since."""
        name, state = _state(path)
        self._used.add(name)
        at, digest = self._known.get(name, ([], ""))
        return digest if at == state else self._take(path)

    def taken(self, path: Path) -> str:
        """The digest of a file whose content this process has read."""
        name, state = _state(path)
        if name in self._taken and self._known[name][0] == state:
            return self._known[name][1]
        return self._take(path)

    def save(self) -> None:
        """Write the record, if anything was taken; where that is impossible it costs time later."""
        if not self._taken or not self._record.parent.is_dir():
            return
        unused = [name for name in self._known if name not in self._used]
        dropped = set(unused) if len(unused) > _MOST_UNUSED else set()
        files = {
            name: [*state, digest]
            for name, (state, digest) in self._known.items()
            if name not in dropped and _settled(state, self._taken.get(name))
        }
        try:
            write_json({"files": files, "digest": digest_value(files)}, self._record)
        except OSError as error:
            logger.debug("%s: not written: %s", self._record, error)

    def _take(self, path: Path) -> str:
        digest, before = "", State()
        name, after = _state(path)
        while before != after:  # somebody is writing to it
            before = after
            digest = digest_file(path)
            name, after = _state(path)
        self._known[name] = (after, digest)
        self._taken[name] = time.time_ns()
        self._used.add(name)
        return digest


def _state(path: Path) -> tuple[str, State]:
    found = path.stat()
    name = f"{found.st_dev}:{found.st_ino}"
    return name, [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _settled(state: State, taken_ns: int | None) -> bool:
    """Whether a later write must show in the file's times; what was read earlier has shown it."""
    return taken_ns is None or taken_ns - max(state[1:]) > _SETTLED_NS


def _read(record: Path) -> dict[str, tuple[State, str]]:
    if not record.is_file():
        return {}
    try:
        value: dict[str, Any] = read_json(record)
        if value["digest"] == digest_value(value["files"]):
            return {
                name: (list(state), digest) for name, (*state, digest) in value["files"].items()
            }
    except (DataError, OSError, KeyError, TypeError, ValueError, AttributeError):
        pass
    logger.debug("%s: damaged: all digests are taken anew", record)
    return {}
