"""The queue of events: what was taken in is handed out until somebody says that it is done.

At least once: an event whose worker died is handed to another one, and an event that was sent
twice comes twice. The log that workers write knows events by their ids, so once is enough there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Delivery:
    """A message that was handed out.

    Attributes:
        token: What the queue knows it by.
        message: As it was put in.
    """

    token: str
    message: bytes


class EventBus(Protocol):
    """A queue that many may fill and many may empty.

    Every method raises `UnavailableError` if the queue does not answer in time.
    """

    def publish(self, messages: Sequence[bytes]) -> None:
        """Put messages in; they are safe when this returns."""

    def take(self, most: int, wait_seconds: float) -> list[Delivery]:
        """Hand out messages that nobody has, or whose holder has not been heard of for a lease.

        Args:
            most: At most so many.
            wait_seconds: For the first one.
        """

    def acknowledge(self, tokens: Sequence[str]) -> None:
        """These are done and may be forgotten."""

    def depth(self) -> int:
        """Messages that nobody has said to be done."""

    def erase(self, is_theirs: Callable[[bytes], bool]) -> int:
        """Forget the messages of which this is true; return how many they were."""

    def close(self) -> None:
        """Let go of connections."""
