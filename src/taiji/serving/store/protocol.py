"""The online store: one record a user and version, read in one round trip, written if newer.

A *version* is what one run publishes: its encoder, codebook and index. Readers are given records
of the version in force and of no other, so that two codebooks never meet in one answer. A record
is as of a moment, `AsOf`; it takes the place of an older one and never of a newer one, whoever
writes first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class AsOf(NamedTuple):
    """What a record knows of its user; compared in this order.

    Attributes:
        event_time: Of the newest event, in microseconds since 1970.
        position: Of the last event in the log, so that a late event counts as news too.
    """

    event_time: int
    position: int


FOREVER = AsOf((1 << 53) - 1, 0)
"""Newer than anything: an erased user's record, which nothing overwrites."""


@dataclass(frozen=True)
class Record:
    """What is stored of one user.

    Attributes:
        name: `UserNames.of` the user.
        blob: As `taiji.serving.blobs` packs it.
    """

    name: bytes
    as_of: AsOf
    blob: bytes


@dataclass(frozen=True)
class Found:
    """An answer: the version in force, and the blob of each user that was asked for, or None.

    Attributes:
        version: None: nothing has been published yet.
    """

    version: int | None
    blobs: Sequence[bytes | None]


@dataclass(frozen=True)
class Versions:
    """Which versions there are.

    Attributes:
        current: In force; None before the first is published.
        previous: What a rollback goes back to.
        described: What each version says of itself.
    """

    current: int | None = None
    previous: int | None = None
    described: Mapping[int, str] = field(default_factory=dict)


class OnlineStore(Protocol):
    """One record a user and version. All methods but `read` may wait; `read` never blocks a loop.

    Every method raises `UnavailableError` if the store does not answer in time.
    """

    async def read(self, names: Sequence[bytes]) -> Found:
        """Blobs of these users in the version in force, in one round trip."""

    def write(self, version: int, records: Sequence[Record], ttl_seconds: int) -> list[bool]:
        """Write those records that are newer than what is there; say of each whether it was."""

    def add_version(self, description: str) -> int:
        """A new version, not yet in force."""

    def describe(self, version: int, description: str) -> None:
        """Change what a version says of itself."""

    def versions(self) -> Versions:
        """Which versions there are."""

    def switch(self, version: int) -> None:
        """Put a version into force; drop all but it and the one before."""

    def rollback(self) -> int:
        """Put the version before into force again; return it. Twice is as if never.

        Raises:
            ConfigError: There is none.
        """

    def erase(self, names: Sequence[bytes], blob: bytes) -> None:
        """In every version, put a blob in the place of these users' that nothing overwrites."""

    def scan(self, version: int) -> Iterator[Record]:
        """All records of a version, in no order."""

    def amend(self, version: int, name: bytes, old: bytes, new: bytes) -> bool:
        """Put a blob in the place of `old`, as of the same moment; False if it is not there."""

    async def leave_loop(self) -> None:
        """Let go of what `read` holds in the running event loop, before the loop ends."""

    def close(self) -> None:
        """Let go of connections."""
