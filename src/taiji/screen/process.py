"""How a command starts and ends as a process: streams, signals, exit codes.

Nothing heavy is imported here: `taiji --help` passes too.
"""

import errno
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from taiji.errors import RunDirectoryError, TaijiError
from taiji.store.exhausted import resource_errors

Command = Callable[[], object]

signals: list[int] = []
"""Those that were caught, in the order in which they came."""

_NOBODY_READS = 141
_MORE_MEMORY = "close other programs, or take a larger machine,"
_REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
)
"""What a file system says of a place that cannot be read or written; no fault of ours."""


def open_streams() -> None:
    """Give a process whose output or errors were closed somewhere to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # for good
            setattr(sys, name, nowhere)


def prepare(log_to: logging.Handler) -> None:
    """Set what must be set before PyTorch is loaded, and catch signals."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads halve a small machine
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[log_to])
    logging.getLogger("taiji").setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("once")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # not every terminal has every sign
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)


def answer(command: Command, complain: Callable[[TaijiError], None]) -> int:
    """Run a command and return its exit code; after a signal it is the signal's.

    Args:
        command: Ends as Typer's do, by a `SystemExit`.
        complain: Prints an error that a user can cause or meet.
    """
    try:
        with resource_errors(Path.cwd(), _MORE_MEMORY):
            code = _called(command)
            sys.stdout.flush()
    except BrokenPipeError:
        code = _NOBODY_READS
    except (Exception, KeyboardInterrupt) as error:
        known = _known(error)
        if known is None and not signals:
            raise
        if known is not None and not signals:
            complain(known)
        code = 1 if known is None else known.exit_code
    return 128 + signals[0] if signals else code


def end(code: int) -> None:
    """Exit; a stream that cannot take what is left in it has been complained of already.

    After a signal without Python's own end: threads of libraries may still be at work, and an
    interpreter that is taken down around them crashes with another code.
    """
    try:
        sys.stdout.flush()
    except OSError:  # Python would say it again at its very end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if signals:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _called(command: Command) -> int:
    try:
        command()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            return _NOBODY_READS
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _known(error: BaseException) -> TaijiError | None:
    if isinstance(error, TaijiError):
        return error
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        place = error.filename or "a file"
        return RunDirectoryError(f"{place}: {error.strerror}: choose another place")
    return None


def _stop(number: int, frame: FrameType | None) -> None:
    """Libraries turn what is raised here into errors of their own, so it is noted too."""
    signals.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
