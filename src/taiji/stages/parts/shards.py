"""The work of a stage in shards: done where the recipe says, each written when it comes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import pyarrow as pa

from taiji.language.workers import Worker, work
from taiji.stages.parts.context import StageContext
from taiji.store.shards import Shards

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


def rows_of(table: pa.Table, each: int) -> Pieces[pa.Table]:
    """A table in pieces of so many rows; each is a copy, so that it travels alone."""

    def cut(start: int, stop: int) -> pa.Table:
        return table.take(pa.array(range(start, stop), pa.int64()))

    return Pieces(table.num_rows, each, cut)


def write_shards(
    ctx: StageContext,
    shards: Shards,
    pieces: Pieces[Piece],
    build: Callable[[], Worker[Piece, pa.Table]],
    *,
    what: str,
) -> None:
    """Do what is not done yet and write the shard of each piece, in whatever order they come.

    Args:
        ctx: Says where the work is done, and is told how far it is.
        shards: One for each piece; those that are done stay as they are.
        pieces: Of work; the same after a kill, so that shards fit.
        build: Makes a worker.
        what: Progress counts.
    """
    left = replace(pieces, numbers=[number for number in pieces if not shards.done(number)])
    total = pieces.total
    done = total - sum(map(pieces.size, left))

    def on_progress(_index: int, part: int) -> None:
        ctx.progress(done + part, total, what)

    for index, table in work(ctx.recipe.compute, build, left, on_progress):
        shards.write(index, table)
        done += pieces.size(index)
        ctx.progress(done, total, what)
