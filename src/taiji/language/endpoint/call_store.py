"""Replies that were paid for, by the content of their calls, so that none is paid for twice.

Each process that puts something in appends to a file of its own, so processes and machines share
a folder without locks, on any file system. A reply is one line with a checksum, written before
the next call begins: a kill loses the calls that are under way and no other; a power cut also
those since the last `sync`. A damaged line counts as absent.
"""

import json
import logging
import os
import secrets
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taiji.language.endpoint.budget import Usage
from taiji.language.endpoint.protocol import Answer
from taiji.language.generate import Reply
from taiji.store.files import digest_value, sync

logger = logging.getLogger(__name__)

_CHECK = ', "check": "'


def call_key(content: Sequence[object]) -> str:
    """The digest of all that a reply depends on: model, messages, sampling, index."""
    return digest_value(list(content)).removeprefix("sha256:")


class CallStore:
    """A folder of replies. About 200 bytes of memory for each; texts stay on disk.

    Args:
        folder: Is made when the first reply comes. What others write there after the opening
            is seen by the next opening.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, tuple[Path, int]] = {}
        self._spent: defaultdict[str, Usage] = defaultdict(lambda: Usage(0, 0))
        self._own: Path | None = None
        damaged = sum(self._index(path) for path in sorted(folder.glob("*.jsonl")))
        if damaged:
            logger.warning("%s: %d damaged lines: these calls are made again", folder, damaged)

    def get(self, key: str) -> Answer | None:
        """What was once answered to this call."""
        if key not in self._places:
            return None
        path, offset = self._places[key]
        with path.open("rb") as stream:
            stream.seek(offset)
            row = _parse(stream.readline())
        if row is None:
            logger.warning("%s: damaged since it was opened: the call is made again", path)
            return None
        usage = Usage(row["prompt_tokens"], row["completion_tokens"])
        return Answer(Reply(row["text"], row["status"], row["num_tokens"]), usage)

    def put(self, key: str, model: str, reply: Reply, usage: Usage) -> None:
        """Keep a reply; the line has left this process when the call returns."""
        row = {"key": key, "model": model, **vars(reply), **vars(usage)}
        path = self._own = self._own or self._new_file()
        with path.open("ab") as stream:
            self._places[key] = (path, stream.tell())
            stream.write(_line(row))
        self._spent[model] += usage

    def spent(self, model: str) -> Usage:
        """The tokens of all that was ever put in for this model."""
        return self._spent[model]

    def sync(self) -> None:
        """Have the disk confirm all that was put in."""
        if self._own is not None:
            sync(self._own)

    def _new_file(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        path = self._folder / name
        path.touch(exist_ok=False)
        sync(self._folder)
        return path

    def _index(self, path: Path) -> int:
        """Note where each reply begins; return the number of damaged lines."""
        damaged = offset = 0
        with path.open("rb") as stream:
            for line in stream:
                row = _parse(line)
                if row is not None:
                    self._places[row["key"]] = (path, offset)
                    usage = Usage(row["prompt_tokens"], row["completion_tokens"])
                    self._spent[row["model"]] += usage
                elif line.endswith(b"\n"):  # else a kill has cut it: nothing is wrong with the disk
                    damaged += 1
                offset += len(line)
        return damaged


def _line(row: dict[str, Any]) -> bytes:
    body = json.dumps(row)[:-1]
    return f'{body}{_CHECK}{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row of a line, or None if it is not as it was written."""
    body, _, check = line.decode("utf-8", "replace").rpartition(_CHECK)
    if check != f'{zlib.crc32(body.encode()):08x}"}}\n':
        return None
    row: dict[str, Any] = json.loads(body + "}")
    return row
