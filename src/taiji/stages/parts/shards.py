"""The work of a stage in shards: done where the recipe says, each written when it comes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa

from taiji.language.workers import Worker, work
from taiji.stages.parts.context import StageContext
from taiji.store.shards import Shards

Piece = TypeVar("Piece")


def write_shards(
    ctx: StageContext,
    shards: Shards,
    pieces: Sequence[Piece],
    build: Callable[[], Worker[Piece, pa.Table]],
    *,
    size: Callable[[Piece], int],
    what: str,
) -> None:
    """Do what is not done yet and write the shard of each piece, in whatever order they come.

    Args:
        ctx: Says where the work is done, and is told how far it is.
        shards: One for each piece; those that are done stay as they are.
        pieces: Of work; the same after a kill, so that shards fit.
        build: Makes a worker.
        size: Of a piece, in what progress counts.
        what: Progress counts.
    """
    left = {index: piece for index, piece in enumerate(pieces) if not shards.done(index)}
    total = sum(map(size, pieces))
    done = total - sum(map(size, left.values()))

    def on_progress(_index: int, part: int) -> None:
        ctx.progress(done + part, total, what)

    for index, table in work(ctx.recipe.compute, build, left, on_progress):
        shards.write(index, table)
        done += size(pieces[index])
        ctx.progress(done, total, what)
