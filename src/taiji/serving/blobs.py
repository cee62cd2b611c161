"""What the store holds of a user, packed: codes, borrowed items, and how old they are.

MessagePack, in which codes and items are JSON already: an answer takes them as they are, which for
100 users is most of its work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgpack
import orjson

from taiji.errors import DataError

_FORMAT = 2
_ERASED = "erased"


@dataclass(frozen=True)
class UserBlob:
    """Features of one user.

    Attributes:
        codes: M sparse ids; each -1 for the default features.
        items: Ids of the lender's last items, newest first.
        event_time: Of the newest event that is known, in microseconds since 1970.
        made_at: In seconds since 1970.
        reason: Why these are the default features; empty if they are the user's own.
        lender: The name of the user whose items these are; never told to a client, and there so
            that what an erased user lent can be found.
    """

    codes: Sequence[int]
    items: Sequence[str]
    event_time: int
    made_at: float
    reason: str = ""
    lender: bytes = b""

    @property
    def erased(self) -> bool:
        """Whether the user was forgotten."""
        return self.reason == _ERASED

    def pack(self) -> bytes:
        """As the store holds it."""
        features = (orjson.dumps(self.codes), orjson.dumps(self.items))
        facts = (self.event_time, self.made_at, self.reason, self.lender)
        packed: bytes = msgpack.packb((_FORMAT, *features, *facts))
        return packed


class Served(NamedTuple):
    """What an answer needs of a record.

    Attributes:
        codes: As JSON.
        items: As JSON.
    """

    codes: bytes
    items: bytes
    made_at: float
    erased: bool


def unpack_served(packed: bytes) -> Served:
    """What an answer needs, with features as JSON.

    Raises:
        DataError: It is damaged, or was written by another version of Taiji.
    """
    codes, items, _, made_at, reason, _ = _fields(packed)
    return Served(codes, items, made_at, reason == _ERASED)


def unpack_blob(packed: bytes) -> UserBlob:
    """Features out of what the store holds.

    Raises:
        DataError: It is damaged, or was written by another version of Taiji.
    """
    codes, items, *facts = _fields(packed)
    return UserBlob(orjson.loads(codes), orjson.loads(items), *facts)


def _fields(packed: bytes) -> list[Any]:
    fields: list[Any]
    try:
        form, *fields = msgpack.unpackb(packed)
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise DataError("store: a record is damaged: publish the run again") from error
    if form != _FORMAT:
        raise DataError(f"store: a record of format {form}, not {_FORMAT}: publish the run again")
    return fields


def without_loan(blob: UserBlob) -> UserBlob:
    """The same without what was borrowed."""
    return replace(blob, items=(), lender=b"")


def erased_blob() -> bytes:
    """What stands in the place of an erased user."""
    return UserBlob((), (), 0, 0.0, _ERASED).pack()
