"""How long an endpoint is waited for: pauses between attempts, and when to give up on it.

Pauses grow, with jitter, or are as long as the server says. A server that asks for time asks all
callers at once, so its `Retry-After` holds everyone back, not only the call that met it.
"""

import logging
import random
import time

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


MAX_PAUSE_SECONDS = 60.0


def backoff_seconds(attempt: int, first_pause_seconds: float) -> float:
    """The pause after attempt number `attempt`, counted from 0.

    1, 2, 4 ... times the first pause, at most a minute, less up to half of it by chance: clients
    that failed together come back apart.
    """
    longest = min(first_pause_seconds * 2.0 ** min(attempt, 30), MAX_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1.0)


class Pacer:
    """Remembers until when the server wants to be left alone."""

    def __init__(self) -> None:
        self._not_before = 0.0

    def hold(self, seconds: float) -> None:
        """No attempt of anyone begins for so long."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def held_seconds(self) -> float:
        """What is left of the hold, and up to a tenth more, so that not all come back at once."""
        left = self._not_before - time.monotonic()
        return left * random.uniform(1.0, 1.1) if left > 0 else 0.0
