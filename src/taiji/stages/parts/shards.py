"""The work of a stage in shards: done where the recipe says, each written when it comes."""

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from taiji.language.pieces import Piece, Pieces
from taiji.language.workers import Worker, work
from taiji.stages.parts.context import StageContext
from taiji.store.shards import Shards
from taiji.store.stored_rows import StoredRows


def rows_of(table: pa.Table | StoredRows, each: int) -> Pieces[pa.Table]:
    """A table in pieces of so many rows; each is a copy, so that it travels alone."""

    def cut(start: int, stop: int) -> pa.Table:
        return table.slice(start, stop - start).take(pa.array(range(stop - start), pa.int64()))

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
