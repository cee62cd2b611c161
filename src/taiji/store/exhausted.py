"""Disk or memory ran out: one error that says what to do, whichever library noticed.

Python, Arrow, DuckDB, safetensors, PyTorch, Faiss, NumPy and the tokenizers each say it in an
exception of their own, and some only in words. This is the one place that knows them.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taiji.errors import ResourceError

_NO_SPACE = {
    errno.ENOSPC: "no space left: free some",
    errno.EDQUOT: "your quota is used up: free some, or have it raised",
    errno.EFBIG: "a limit on the size of files was met: raise it (`ulimit -f unlimited`)",
}
_WORDS_OF_SPACE = {
    "no space left on device": errno.ENOSPC,
    "(os error 28)": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "disk quota exceeded": errno.EDQUOT,
    "file too large": errno.EFBIG,
    "(os error 27)": errno.EFBIG,
    # What PyTorch and NumPy say when a write came out short, whatever stopped it.
    "pytorchstreamwriter failed": errno.ENOSPC,
    "inline_container.cc": errno.ENOSPC,
    "requested and": errno.ENOSPC,
}
_WORDS_OF_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "not enough memory",
    "allocate memory",
    "unable to allocate",
    "failed to allocate",
    "malloc of size",
)
_LIBRARIES = frozenset({"OutOfMemoryException", "OutOfMemoryError", "ArrowMemoryError"})


@contextmanager
def resource_errors(where: Path, memory: str) -> Iterator[None]:
    """Turn whatever says that disk or memory ran out into a `ResourceError`.

    Args:
        where: The folder that is written to, if the error names no file.
        memory: What to do about memory, such as `lower sft.batch_size`.

    Raises:
        ResourceError: Either ran out.
    """
    try:
        yield
    except ResourceError:
        raise
    except Exception as error:
        mend = _mend(error, where, memory)
        if mend is None:
            raise
        raise ResourceError(f"{mend} and run the same command again") from error


def ran_out(error: BaseException) -> bool:
    """Whether an error, or one behind it, says that disk or memory ran out."""
    return any(_space(one) is not None or _is_memory(one) for one in _chain(error))


def _mend(error: BaseException, where: Path, memory: str) -> str | None:
    for one in _chain(error):
        code = _space(one)
        if code is not None:
            path = getattr(one, "filename", None) or where
            return f"{path}: {_NO_SPACE[code]} ({_free(where)} free)"
        if _is_memory(one):
            return f"memory ran out: {memory}"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from or while handling."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _space(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return error.errno
    if isinstance(error, OSError) and error.errno is not None:
        return None
    words = str(error).lower()
    return next((code for said, code in _WORDS_OF_SPACE.items() if said in words), None)


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ in _LIBRARIES:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in words for said in _WORDS_OF_MEMORY)


def _free(where: Path) -> str:
    """How much is free on the disk that a folder will lie on."""
    existing = next((p for p in (where, *where.absolute().parents) if p.exists()), Path("/"))
    return f"{shutil.disk_usage(existing).free / 2**30:.1f} GiB"
