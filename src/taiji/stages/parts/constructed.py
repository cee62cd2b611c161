"""What `construct` wrote, as the stages ask it."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taiji.data.calendar import Calendar
from taiji.errors import DataError
from taiji.ranking.as_of import AsOf
from taiji.schema import EXPOSURES, INTERACTIONS, ITEMS, USERS
from taiji.store.files import read_parquet


def read_event_log(construct: Path) -> AsOf:
    """Read users, items, interactions and the calendar."""
    return AsOf(
        users=read_parquet(construct / "users.parquet", USERS),
        items=read_parquet(construct / "items.parquet", ITEMS),
        interactions=read_parquet(construct / "interactions.parquet", INTERACTIONS),
        calendar=Calendar.read(construct / "windows.json"),
    )


_log = logging.getLogger(__name__)


def labelled_exposures(construct: Path) -> pa.Table:
    """Return the exposures whose conversion is known.

    Raises:
        DataError: The source has no exposures, or knows no conversion.
    """
    exposures = read_parquet(construct / "exposures.parquet", EXPOSURES)
    if not exposures.num_rows:
        raise DataError(
            "exposures: the source has none, so no CTCVR model can be trained: describe what was "
            "shown under data.source.exposures (user_id, item_id, ts, click, conversion); "
            "see docs/data.md. `taiji sft` works without"
        )
    known = exposures.filter(pc.is_valid(exposures["conversion"]))
    if not known.num_rows:
        raise DataError(
            "exposures.conversion: not known for any of them, so no CTCVR model can be trained: "
            "map data.source.exposures.conversion, to the column of click if a click is the goal "
            "(for MIND: data.source.conversion=click)"
        )
    if num_unknown := exposures.num_rows - known.num_rows:
        _log.warning("%d exposures left out: their conversion is not known", num_unknown)
    return known
