"""The one error of store and queue that time heals."""

from taiji.errors import TaijiError


class UnavailableError(TaijiError, ConnectionError):
    """The store or the queue does not answer in time."""

    exit_code = 5
