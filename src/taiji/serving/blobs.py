"""What the store holds of a user, packed: codes, borrowed items, and how old they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgpack

from taiji.errors import DataError

_FORMAT = 1
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
        fields = (self.codes, self.items, self.event_time, self.made_at, self.reason, self.lender)
        packed: bytes = msgpack.packb((_FORMAT, *fields))
        return packed


def unpack_blob(packed: bytes) -> UserBlob:
    """Features out of what the store holds.

    Raises:
        DataError: It is damaged, or was written by another version of Taiji.
    """
    try:
        form, *fields = msgpack.unpackb(packed)
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise DataError("store: a record is damaged: publish the run again") from error
    if form != _FORMAT:
        raise DataError(f"store: a record of format {form}, not {_FORMAT}: publish the run again")
    return UserBlob(*fields)


def without_loan(blob: UserBlob) -> UserBlob:
    """The same without what was borrowed."""
    return replace(blob, items=(), lender=b"")


def erased_blob() -> bytes:
    """What stands in the place of an erased user."""
    return UserBlob((), (), 0, 0.0, _ERASED).pack()
