"""Every error that a user can cause or meet, each with the exit code of the command line.

A message names where, what, and what to do. Anything that is not a `TaijiError` is a bug
and keeps its traceback (exit code 1).
"""

from typing import ClassVar


class TaijiError(Exception):
    """Base of all errors that Taiji raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(TaijiError, ValueError):
    """A recipe or an override cannot be used."""

    exit_code = 2


class RunDirectoryError(TaijiError, RuntimeError):
    """The run directory holds something that the command must not overwrite."""

    exit_code = 3


class DataError(TaijiError, ValueError):
    """A table or an artifact does not hold what its schema promises."""

    exit_code = 4


class MissingArtifactError(TaijiError, FileNotFoundError):
    """A stage needs the artifact of an earlier stage, and it is not there."""

    exit_code = 4


class EngineError(TaijiError, RuntimeError):
    """A model, an encoder or an endpoint could not be loaded or did not answer."""

    exit_code = 5


class DivergenceError(TaijiError, ArithmeticError):
    """A loss, weight, reward or score is NaN or infinite."""

    exit_code = 5


class ResourceError(TaijiError, OSError):
    """Memory or disk ran out."""

    exit_code = 6


class LockedError(TaijiError, RuntimeError):
    """Another process is writing to the run directory."""

    exit_code = 75
