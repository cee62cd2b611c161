"""When to ask an endpoint again: growing pauses with jitter, or as the server says.

A server that asks for time asks all callers at once, so its `Retry-After` holds everyone back,
not only the call that met it.
"""

import random
import time

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
