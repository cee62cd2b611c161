"""An event that was taken in: a row of the canonical tables, on its way from the API to the log."""

from dataclasses import astuple, dataclass
from typing import Literal

import msgpack

from taiji.errors import DataError

Table = Literal["interactions", "events"]


@dataclass(frozen=True)
class Event:
    """A row of `schema.INTERACTIONS` or of `schema.EVENTS`, and the id that it is known by.

    Attributes:
        ts: In microseconds since 1970.
        kind: Of an interaction; of another behaviour, its modality.
        subject: The item; of another behaviour, its value.
        order_id: Empty for another behaviour.
        amount: The quantity; of another behaviour, its weight.
        line: Place in the order, where the mapping has a column for it.
        note: What else a history line tells, such as "rated 4".
    """

    event_id: str
    table: Table
    user_id: str
    ts: int
    kind: str
    subject: str
    order_id: str
    amount: float | None
    price: float | None
    line: int | None = None
    note: str | None = None

    def pack(self) -> bytes:
        """As a message."""
        packed: bytes = msgpack.packb(astuple(self))
        return packed


def unpack_event(message: bytes) -> Event:
    """An event out of its message.

    Raises:
        DataError: It is none.
    """
    try:
        return Event(*msgpack.unpackb(message))
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise DataError("queue: a message is no event: was it written by this version?") from error
