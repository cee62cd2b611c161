"""Whom to advertise to, when, and with what: requests from the logged visits of the test window.

A request is a user at a moment at which the log saw him. Its candidates are drawn from the
advertisements that ran in that week, whoever saw them, so that every user gets the same chances.

Shape suffixes: R requests, C candidates of a request, V visits, I items, A advertisers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.abtest.market import SLICES_A_WEEK
from taiji.arrays import Array, Ints
from taiji.errors import DataError
from taiji.ranking.columns import code, microseconds, places, to_microseconds
from taiji.schema import TIME

_SEPARATOR = "\x1f"
_TCPA_OF_PRICE = 0.2  # what an advertiser pays for a conversion, as a share of his mean price


@dataclass(frozen=True)
class Inventory:
    """Users and items in the order in which requests number them, and who advertises what.

    Attributes:
        advertiser_I: Owner of each item.
        tcpa_A: What a conversion is worth to each owner, before any draw, in currency.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    advertiser_I: NDArray[np.int32]
    tcpa_A: Array

    @classmethod
    def build(cls, users: pa.Table, items: pa.Table, log: pa.Table) -> "Inventory":
        """Owners are brand within level 2; they pay a share of the mean price in `log`.

        Args:
            users: Columns of `schema.USERS`.
            items: Columns of `schema.ITEMS`.
            log: Columns of `schema.INTERACTIONS`, before the test window.

        Raises:
            DataError: All items have one owner.
        """
        columns = [
            pc.fill_null(items[name], "") for name in ("brand", "category_l1", "category_l2")
        ]
        owner = code(pc.binary_join_element_wise(*columns, _SEPARATOR))
        if len(owner.levels) < 2:
            raise DataError(
                "abtest: items have neither brands nor categories, so one advertiser owns them "
                "all and there is no auction: map brand or categories in data.source"
            )
        item_ids = items["item_id"].combine_chunks()
        priced = log.filter(pc.greater(pc.fill_null(log["price"], 0.0), 0.0))
        owner_E = owner.codes[places(priced["item_id"], item_ids, "item")]
        sums, counts = (
            np.bincount(owner_E, weights=weights, minlength=len(owner.levels))
            for weights in (np.log(np.asarray(priced["price"], dtype=np.float64)), None)
        )
        mean = np.exp(sums.sum() / max(1, counts.sum()))
        price_A = np.where(counts > 0, np.exp(sums / np.maximum(counts, 1)), mean)
        return cls(
            users["user_id"].combine_chunks(), item_ids, owner.codes, _TCPA_OF_PRICE * price_A
        )


@dataclass(frozen=True)
class Requests:
    """Requests in the order of time.

    Attributes:
        user_R: Row of the user in the inventory.
        ts_R: Microseconds since 1970, UTC.
        item_RC: Rows of the candidates in the inventory, all distinct.
        week_R: 0 for the first week of the window.
        slice_R: Number of the slice of traffic, `SLICES_A_WEEK` equal ones in each week.
    """

    user_R: Ints
    ts_R: Ints
    item_RC: Ints
    week_R: Ints
    slice_R: Ints

    def pairs(self, inventory: Inventory, rows: slice, placement: str) -> pa.Table:
        """Every (user, candidate, moment) of some requests, as the ranking model asks for them."""
        item_RC = self.item_RC[rows]
        times = item_RC.shape[1]
        user_N, ts_N = (np.repeat(column[rows], times) for column in (self.user_R, self.ts_R))
        return pa.table(
            {
                "user_id": inventory.user_ids.take(pa.array(user_N)),
                "item_id": inventory.item_ids.take(pa.array(item_RC.ravel())),
                "ts": pa.array(ts_N).cast(TIME),
                "placement": pa.repeat(pa.scalar(placement), user_N.size),
            }
        )


def draw_requests(
    exposures: pa.Table,
    inventory: Inventory,
    week_starts: Sequence[datetime],
    *,
    num_requests: int,
    num_candidates: int,
    seed: int,
) -> Requests:
    """Spread requests evenly over the visits, and give each its candidates.

    Args:
        exposures: Of the test window; the order of rows does not matter.
        inventory: Users and items.
        week_starts: First moments of the weeks of the log.
        num_requests: How many; more than visits ask in some visits more than once.
        num_candidates: How many distinct advertisements compete.
        seed: Of which visits ask more often, and of the candidates.

    Raises:
        DataError: There are no exposures, or a week has fewer than two advertisements.
    """
    if not exposures.num_rows:
        raise DataError(
            "abtest: no exposure lies in the test window: widen data.splits.windows, or raise "
            "data.exposure_share"
        )
    random = np.random.default_rng([seed, 1])
    user_N = places(exposures["user_id"], inventory.user_ids, "user")
    item_N = places(exposures["item_id"], inventory.item_ids, "item")
    ts_N = microseconds(exposures["ts"])
    starts = np.array([to_microseconds(start) for start in week_starts], dtype=np.int64)
    week_N = np.searchsorted(starts, ts_N, side="right")
    visit_V2 = np.unique(np.stack([ts_N, user_N], axis=1), axis=0)
    times_V = np.full(len(visit_V2), num_requests // len(visit_V2))
    times_V[random.permutation(times_V.size)[: num_requests % times_V.size]] += 1
    ts_R, user_R = np.repeat(visit_V2, times_V, axis=0).T
    week_R = np.searchsorted(starts, ts_R, side="right")
    ads = {int(week): np.unique(item_N[week_N == week]) for week in np.unique(week_R)}
    width = min(num_candidates, *(one.size for one in ads.values()))
    if width < 2:
        raise DataError(
            "abtest: a week of the test window has one advertisement only, so nothing can compete: "
            "raise data.exposure_share"
        )
    item_RC = np.concatenate(
        [_candidates(ads[int(week)], int((week_R == week).sum()), width, random) for week in ads]
    )
    week_R = week_R - week_N.min()
    return Requests(user_R, ts_R, item_RC, week_R, _slice_numbers(week_R))


def _candidates(ads: Ints, rows: int, width: int, random: np.random.Generator) -> Ints:
    """`width` distinct advertisements for each row, every one as likely as another."""
    picked = np.empty((rows, width), dtype=np.int64)
    for begin in range(0, rows, 1024):
        part = picked[begin : begin + 1024]
        keys = random.random((len(part), ads.size), dtype=np.float32)
        part[:] = ads[np.argpartition(keys, width - 1, axis=1)[:, :width]]
    return picked


def _slice_numbers(week_R: Ints) -> Ints:
    """Cut each week, whose rows stand in the order of time, into slices of equal traffic."""
    first_R = np.searchsorted(week_R, week_R)
    size_R = np.searchsorted(week_R, week_R, side="right") - first_R
    within_R = (np.arange(week_R.size) - first_R) * SLICES_A_WEEK // size_R
    return np.asarray(week_R * SLICES_A_WEEK + within_R)
