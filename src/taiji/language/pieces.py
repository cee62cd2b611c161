"""Work that is not there before it is asked for: numbered pieces of something large."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Pieces(Mapping[int, Piece], Generic[Piece]):
    """Work cut into numbered pieces, each of which is made when it is asked for.

    Attributes:
        total: How much there is of it, in what progress counts.
        each: Of that, what one piece holds; the last may hold less.
        cut: Makes a piece of what lies from `start` to `stop`.
        numbers: Those that are meant; None: all.
    """

    total: int
    each: int
    cut: Callable[[int, int], Piece]
    numbers: Sequence[int] | None = None

    def __getitem__(self, number: int) -> Piece:
        """Make a piece."""
        return self.cut(number * self.each, min((number + 1) * self.each, self.total))

    def __iter__(self) -> Iterator[int]:
        """Their numbers."""
        return iter(range(-(-self.total // self.each)) if self.numbers is None else self.numbers)

    def __len__(self) -> int:
        """How many pieces."""
        return -(-self.total // self.each) if self.numbers is None else len(self.numbers)

    def size(self, number: int) -> int:
        """How much a piece holds."""
        return min(self.each, self.total - number * self.each)
