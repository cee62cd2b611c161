"""One writer at a time in a folder; the kernel lets go when the process dies."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taiji.errors import LockedError, RunDirectoryError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is not there.

    Raises:
        LockedError: Another process holds it.
        RunDirectoryError: It cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise RunDirectoryError(
            f"{error.filename or folder}: {error.strerror}: nothing can be kept there: choose "
            "another folder"
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise LockedError(
                f"{folder}: {holder} is writing here: wait, or choose another name=..."
            ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield
