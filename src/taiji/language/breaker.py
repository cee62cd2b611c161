"""Tells calls that failed from a server that is gone, and stops before more is burnt."""

import logging

from taiji.errors import EngineError

logger = logging.getLogger(__name__)


class CircuitBreaker:
    """Counts calls in a row that failed for good, over all batches of a run.

    Args:
        name: What is asked, for messages.
        limit: So many in a row open it.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._failures = 0

    def success(self) -> None:
        """A call brought something: the server is there."""
        self._failures = 0

    def failure(self, complaint: str) -> None:
        """A call failed for good.

        Raises:
            EngineError: It was one too many.
        """
        self._failures += 1
        logger.warning("%s: gave up on a call: %s", self._name, complaint)
        if self._failures >= self._limit:
            raise EngineError(
                f"endpoint model {self._name}: {self._failures} calls in a row failed, the last"
                f" with: {complaint}: check the server, then run the same command again: what has"
                " arrived is kept"
            )
