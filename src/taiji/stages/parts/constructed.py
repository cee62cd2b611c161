"""What `construct` wrote, as every later stage asks for it."""

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.data.calendar import Calendar
from taiji.data.catalogue import popular_items
from taiji.data.tables.reach import Contents
from taiji.errors import DataError
from taiji.ranking.as_of import AsOf
from taiji.schema import EXAMPLES, EXPOSURES, INTERACTIONS, ITEMS, OUTCOMES, PLACES, USERS
from taiji.store.files import read_json, read_parquet
from taiji.store.stored_rows import StoredRows

_log = logging.getLogger(__name__)

CONTENTS = "contents.json"

_LOOKED_AT = pa.schema(map(INTERACTIONS.field, ("user_id", "item_id", "ts", "kind", "price")))
"""Of a log of millions the other columns would double what every stage holds."""


class Constructed:
    """The artifact of `construct`; each part is read when it is first asked for, and once.

    Args:
        folder: Where it lies.

    Raises:
        MissingArtifactError: When a part is asked for that is not there.
        DataError: When a part is asked for that is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def users(self) -> pa.Table:
        """Rows of `schema.USERS`."""
        return self._read("users", USERS)

    @cached_property
    def items(self) -> pa.Table:
        """Rows of `schema.ITEMS`."""
        return self._read("items", ITEMS)

    @cached_property
    def places(self) -> pa.Table:
        """Rows of `schema.PLACES`: the items of which it is known where they are."""
        return self._read("places", PLACES)

    @cached_property
    def interactions(self) -> pa.Table:
        """Rows of `schema.INTERACTIONS`, in the columns that ranking models and priors look at."""
        return self._read("interactions", _LOOKED_AT)

    @cached_property
    def calendar(self) -> Calendar:
        """The windows of the log."""
        return Calendar.read(self._folder / "windows.json")

    @cached_property
    def as_of(self) -> AsOf:
        """The log, to be asked what was known of users and items when; it keeps no table of it."""
        interactions = self._read("interactions", _LOOKED_AT)
        return AsOf(
            users=self.users,
            items=self.items,
            interactions=interactions,
            taken=self._taken_of(interactions),
            calendar=self.calendar,
        )

    @cached_property
    def contents(self) -> Contents:
        """What the log holds, and what ranking models predict."""
        return read_contents(self._folder)

    @cached_property
    def taken(self) -> pa.Table:
        """The interactions that can be foreseen: no mere views, nothing that was disliked."""
        return self._taken_of(self.interactions)

    def _taken_of(self, interactions: pa.Table) -> pa.Table:
        kinds = pa.array(self.contents.target_kinds, pa.string())
        if not len(kinds):
            return interactions
        wanted = pc.is_in(interactions["kind"], value_set=kinds)
        all_are = pc.all(wanted).as_py() is not False
        return interactions if all_are else interactions.filter(wanted)

    @cached_property
    def labelled_exposures(self) -> pa.Table:
        """Rows of `schema.EXPOSURES` that a ranking model can learn from.

        Where no click was there is no conversion; that of a click may be unknown, which is null.
        Where the click is the goal, no conversion is known.

        Raises:
            DataError: The source has no exposures, or knows no conversion and shall.
        """
        exposures = self._with_outcomes(self._read("exposures", EXPOSURES))
        if not exposures.num_rows:
            raise DataError(
                "exposures: the source has none, so no ranking model can be trained: describe "
                "what was shown under data.source.exposures (user_id, item_id, ts, click, "
                "conversion), or draw some: data.sampled_negatives=4; see docs/data.md"
            )
        place = exposures.schema.get_field_index("conversion")
        if self.contents.goal == "click":
            nothing = pa.nulls(exposures.num_rows, pa.int8())
            return exposures.set_column(place, exposures.schema.field(place), nothing)
        if not exposures["conversion"].null_count:
            return exposures
        clicked = pc.equal(exposures["click"], 1)
        conversion = pc.if_else(clicked, exposures["conversion"], pa.scalar(0, pa.int8()))
        num_unknown = conversion.null_count
        if num_unknown == pc.sum(clicked).as_py():
            raise DataError(
                "exposures.conversion: not known for any of them, so conversions cannot be the "
                "goal: map data.source.exposures.conversion, or leave out data.goal"
            )
        if num_unknown:
            _log.warning(
                "%d clicks of unknown conversion: models learn from them as clicks, and are not "
                "judged by them",
                num_unknown,
            )
        return exposures.set_column(place, exposures.schema.field(place), conversion)

    def _with_outcomes(self, exposures: pa.Table) -> pa.Table:
        """What else is known of their conversions, in further columns, where a log tells it."""
        if not (self._folder / "outcomes.parquet").is_file():
            return exposures
        outcomes = self._read("outcomes", OUTCOMES)
        key = ["user_id", "item_id", "ts", "placement"]
        if not outcomes.select(key).equals(exposures.select(key)):
            raise DataError(
                f"{self._folder / 'outcomes.parquet'}: not of these exposures: rerun "
                "`taiji construct`"
            )
        for name in OUTCOMES.names[len(key) :]:
            if name == "value" or outcomes["goal"].null_count == 0:
                exposures = exposures.append_column(name, outcomes[name])
        return exposures

    def examples(self, *splits: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of `schema.EXAMPLES` of these splits, or all; read anew, as nobody needs them twice.

        Histories are the bulk of the artifact, so they are not kept here: name `columns` to do
        without them, or read `example_rows`.
        """
        path = self._folder / "examples.parquet"
        wanted = EXAMPLES if columns is None else pa.schema(map(EXAMPLES.field, columns))
        return read_parquet(path, wanted, only=("split", splits) if splits else None)

    def example_rows(self, *splits: str) -> StoredRows:
        """The same rows where they lie, split by split: a few at a time become a table."""
        path = self._folder / "examples.parquet"
        of_row = read_parquet(path, pa.schema([EXAMPLES.field("split")]))["split"]
        places = [np.flatnonzero(pc.equal(of_row, split)) for split in splits]
        return StoredRows(path, EXAMPLES, np.concatenate(places))

    def targeted_examples(self, split: str) -> pa.Table:
        """The examples of a split that have a target: `sft`, `rl` or `test`.

        Raises:
            DataError: There is none.
        """
        rows = self.targeted_rows(split)
        return rows.slice(0, rows.num_rows)

    def targeted_rows(self, split: str) -> StoredRows:
        """The same where they lie, for splits that may be large.

        Raises:
            DataError: There is none.
        """
        rows = self.example_rows(split)
        rows = rows.where(pc.is_valid(rows.column("target_item_id")))
        if not rows.num_rows:
            raise DataError(
                f"{self._folder / 'examples.parquet'}: no example of the split {split} has a "
                f"target: raise data.num_{split}"
            )
        return rows

    def catalogue(self, examples: pa.Table, size: int) -> pa.Table:
        """The items sold most before the earliest of these examples; see `popular_items`."""
        before = pc.min(examples["cutoff"]).as_py()
        return popular_items(self.items, self.taken, before, size)

    def _read(self, name: str, schema: pa.Schema) -> pa.Table:
        return read_parquet(self._folder / f"{name}.parquet", schema)


def judged_exposures(exposures: pa.Table) -> pa.Table:
    """Those that a model can be judged by: no click of unknown conversion.

    Where the click is the goal, all of them.
    """
    if exposures["conversion"].null_count == exposures.num_rows:
        return exposures
    return exposures.filter(pc.is_valid(exposures["conversion"]))


def contexts_of(examples: pa.Table) -> dict[str, tuple[str, datetime]]:
    """User and cut-off by example: whom a ranking model scores items for, and as of when."""
    columns = (examples[name].to_pylist() for name in ("example_id", "user_id", "cutoff"))
    return {example: (user, cutoff) for example, user, cutoff in zip(*columns, strict=True)}


def read_contents(construct: Path) -> Contents:
    """What the log of a run holds; everything, where the run is older than that file."""
    path = construct / CONTENTS
    return Contents.from_json(read_json(path)) if path.is_file() else Contents()
