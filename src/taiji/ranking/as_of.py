"""What was known about a user and an item just before a moment: the ranking model's inputs.

One definition serves training, judging and the reward, so that no two of them can drift apart.
Everything about the user comes from events strictly before the pair's time; everything about
the item's popularity and price from whole weeks before the pair's week, because a price paid in
the same week nearly gives the conversion away. Rates and shares instead of counts, since counts
grow with the calendar and a model trained in spring would overrate autumn.

Shape suffixes: N pairs, F dense features, L items of a sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.arrays import Array, Ints
from taiji.data.calendar import WEEK_DAYS, Calendar
from taiji.ranking.columns import (
    Coded,
    code,
    microseconds,
    path,
    places,
    profile_columns,
    to_microseconds,
)
from taiji.ranking.ledger import Ledger, State, joint_key, user_weeks
from taiji.ranking.price_levels import log_prices, price_level

TRAILING_WEEKS = 8

_DAY = 86_400_000_000  # microseconds, as all times here
_WEEK = WEEK_DAYS * _DAY
_RECENCY_DAYS = 30.0


@dataclass(frozen=True)
class Pairs:
    """Features of N (user, item, time, placement) pairs.

    Attributes:
        dense: (N, F); one column for each of `DENSE`.
        fields: The categorical columns: item, l1, l2, l3, brand and placement, then `user.<name>`
            for every field of the users' profiles.
        user_ids: The user of each pair.
        ts: When each pair was shown, microseconds.
        item_l3: Category code of each catalogue row, for sequences.
    """

    dense: NDArray[np.float32]
    fields: Mapping[str, Coded]
    user_ids: NDArray[np.object_]
    ts: Ints
    item_l3: NDArray[np.int32]
    _events: NDArray[np.int32]
    _start: Ints
    _stop: Ints

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.dense)

    def take(self, rows: Ints) -> "Pairs":
        """The pairs at `rows`."""
        return replace(
            self,
            dense=self.dense[rows],
            fields={name: column.take(rows) for name, column in self.fields.items()},
            user_ids=self.user_ids[rows],
            ts=self.ts[rows],
            _start=self._start[rows],
            _stop=self._stop[rows],
        )

    def histories(self) -> Ints:
        """A number for each pair, the same for pairs of a user with the same past."""
        return joint_key(self._start, self._stop)

    def own_items(self, rows: Ints, length: int) -> NDArray[np.int32]:
        """Catalogue rows of the last `length` items before each pair, newest first, then -1."""
        return _last(self._events, self._start[rows], self._stop[rows], length)


DENSE = (
    "user_item_lines_a_year",
    "user_l3_lines_a_year",
    "user_l2_lines_a_year",
    "user_item_share_of_orders",
    "user_l3_share_of_orders",
    "user_item_share_of_l3",
    "user_item_recency",
    "user_l3_recency",
    "user_l2_recency",
    "user_lines_a_week",
    "user_history_lines",
    "user_history_weeks",
    "item_share_of_users",
    "item_share_of_users_ever",
    "l3_share_of_users",
    "item_price_known",
    "item_price_to_user",
    "item_price_to_user_l3",
)


class AsOf:
    """The event log, prepared to be asked what was known at a moment.

    Args:
        users: Columns of `schema.USERS`.
        items: Columns of `schema.ITEMS`; its row order is the catalogue order.
        interactions: Columns of `schema.INTERACTIONS`, any order: what users did.
        taken: Those of them that make an item popular and that sequences are made of: nothing
            merely viewed, nothing disliked. All of them unless given.
        calendar: Of the log; popularity and prices are known by its weeks.

    Raises:
        DataError: Interactions name users or items that the other tables do not have.
    """

    def __init__(
        self,
        *,
        users: pa.Table,
        items: pa.Table,
        interactions: pa.Table,
        calendar: Calendar,
        taken: pa.Table | None = None,
    ) -> None:
        self._user_ids = users["user_id"].combine_chunks()
        self._item_ids = items["item_id"].combine_chunks()
        levels = [f"category_l{level}" for level in (1, 2, 3)]
        self._item_fields = {
            "item": Coded(np.arange(len(items), dtype=np.int32), tuple(self._item_ids.to_pylist())),
            **{f"l{n}": code(path(items, levels[:n])) for n in (1, 2, 3)},
            "brand": code(items["brand"]),
        }
        self._user_fields = profile_columns(users["fields"])
        starts = [to_microseconds(start) for start in calendar.week_starts()]
        self._week_starts = np.array(starts, dtype=np.int64)
        self._fold_users(interactions)
        self._fold_items(interactions if taken is None else taken)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The catalogue: item ids in the order of catalogue rows."""
        return self._item_fields["item"].levels

    def features(self, pairs: pa.Table) -> Pairs:
        """Features of the pairs in the columns user_id, item_id, ts and placement.

        Raises:
            DataError: A pair names a user or an item that the tables do not have.
        """
        user = places(pairs["user_id"], self._user_ids, "user")
        item = places(pairs["item_id"], self._item_ids, "item")
        ts = microseconds(pairs["ts"])
        start, stop = self._span(user, ts)
        per_item = {name: column.take(item) for name, column in self._item_fields.items()}
        per_user = {name: column.take(user) for name, column in self._user_fields.items()}
        return Pairs(
            dense=self._dense(user, item, ts),
            fields={**per_item, "placement": code(pairs["placement"]), **per_user},
            user_ids=pairs["user_id"].to_numpy(zero_copy_only=False),
            ts=ts,
            item_l3=self._item_fields["l3"].codes,
            _events=self._events,
            _start=start,
            _stop=stop,
        )

    def last_items(
        self, user_ids: Sequence[str], cutoffs: Sequence[datetime], length: int
    ) -> list[list[str]]:
        """Ids of the last `length` items that each user took strictly before a cut-off.

        Newest first.
        """
        user = places(pa.chunked_array([pa.array(user_ids, pa.string())]), self._user_ids, "user")
        ts = np.array([to_microseconds(cutoff) for cutoff in cutoffs], dtype=np.int64)
        start, stop = self._span(user, ts)
        rows = _last(self._events, start, stop, length)
        return [[self.item_ids[item] for item in row if item >= 0] for row in rows]

    def history_lengths(self, user_ids: NDArray[np.object_], moment: datetime) -> Ints:
        """How many events each user had before a moment."""
        user = places(pa.chunked_array([pa.array(user_ids)]), self._user_ids, "user")
        return self._of_user.before(user, np.full(user.size, to_microseconds(moment))).sums["lines"]

    def _fold_users(self, interactions: pa.Table) -> None:
        """Fold what users did into ledgers by user, and by user and item or category."""
        item = places(interactions["item_id"], self._item_ids, "item")
        user = places(interactions["user_id"], self._user_ids, "user")
        ts = microseconds(interactions["ts"])
        l2, l3 = (self._item_fields[name].codes[item].astype(np.int64) for name in ("l2", "l3"))
        lines, prices = {"lines": np.ones(item.size, dtype=np.int64)}, log_prices(interactions)
        self._of_user = Ledger(user, ts, lines | prices)
        self._of_user_item = Ledger(joint_key(user, item), ts, lines)
        self._of_user_l2 = Ledger(joint_key(user, l2), ts, lines)
        self._of_user_l3 = Ledger(joint_key(user, l3), ts, lines | prices)

    def _fold_items(self, taken: pa.Table) -> None:
        """Fold what was taken into ledgers by week, and into each user's sequence."""
        item = places(taken["item_id"], self._item_ids, "item")
        user = places(taken["user_id"], self._user_ids, "user")
        ts, prices = microseconds(taken["ts"]), log_prices(taken)
        l3 = self._item_fields["l3"].codes[item].astype(np.int64)
        week = self._weeks(ts)
        self._of_item = Ledger(item, week, prices | user_weeks(item, week, user))
        self._of_l3 = Ledger(l3, week, user_weeks(l3, week, user))
        everything = np.zeros_like(item)
        self._of_all = Ledger(everything, week, user_weeks(everything, week, user))
        order = np.lexsort((item, ts, user))
        self._events = item[order].astype(np.int32)
        self._first_event = np.searchsorted(user[order], np.arange(len(self._user_ids) + 1))
        self._of_taken = Ledger(user, ts, {"lines": np.ones(item.size, dtype=np.int64)})

    def _span(self, user: Ints, ts: Ints) -> tuple[Ints, Ints]:
        """Where the user's events before `ts` begin and end."""
        start = self._first_event[user]
        return start, start + self._of_taken.before(user, ts).sums["lines"]

    def _dense(self, user: Ints, item: Ints, ts: Ints) -> NDArray[np.float32]:
        l2, l3 = (self._item_fields[name].codes[item].astype(np.int64) for name in ("l2", "l3"))
        week = self._weeks(ts)
        whole = self._of_user.before(user, ts)
        same_item = self._of_user_item.before(joint_key(user, item), ts)
        same_l2 = self._of_user_l2.before(joint_key(user, l2), ts)
        same_l3 = self._of_user_l3.before(joint_key(user, l3), ts)
        history_weeks = np.where(whole.moments > 0, (ts - whole.first_at) / _WEEK, 0.0)
        weeks = np.maximum(history_weeks, 1.0)
        recent_item, ever_item = self._shares(self._of_item, item, week)
        recent_l3, _ = self._shares(self._of_l3, l3, week)
        price, known = price_level(_trailing(self._of_item, item, week))
        to_user, to_user_l3 = (
            np.where(known & has, price - level, 0.0)
            for level, has in (price_level(whole.sums), price_level(same_l3.sums))
        )
        columns = [
            *(np.log1p(52 * one.sums["lines"] / weeks) for one in (same_item, same_l3, same_l2)),
            *(_log_share(one.moments, whole.moments) for one in (same_item, same_l3)),
            same_item.sums["lines"] / np.maximum(same_l3.sums["lines"], 1),
            *(_recency(one, ts) for one in (same_item, same_l3, same_l2)),
            np.log1p(whole.sums["lines"] / weeks),
            np.log1p(whole.sums["lines"]),
            np.log1p(history_weeks),
            *(recent_item, ever_item, recent_l3),
            *(known, to_user, to_user_l3),
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def _weeks(self, ts: Ints) -> Ints:
        """The calendar's week of each moment; 0 is whatever comes before its first week."""
        return np.searchsorted(self._week_starts, ts, side="right").astype(np.int64)

    def _shares(self, ledger: Ledger, key: Ints, week: Ints) -> tuple[Array, Array]:
        """Log of the mean weekly share of active users who bought, lately and ever.

        Promotions move the recent share; the long-run share is the base that they lift.
        """
        everything = np.zeros_like(key)
        recent, recent_all = (
            _trailing(one, of, week)["user_weeks"]
            for one, of in ((ledger, key), (self._of_all, everything))
        )
        ever, ever_all = (
            one.before(of, week).sums["user_weeks"]
            for one, of in ((ledger, key), (self._of_all, everything))
        )
        return _per_ten_thousand(recent, recent_all), _per_ten_thousand(ever, ever_all)


def _trailing(ledger: Ledger, key: Ints, week: Ints) -> dict[str, Ints]:
    """Sums over the whole weeks just before `week`, `TRAILING_WEEKS` of them."""
    now, then = (ledger.before(key, week - lag).sums for lag in (0, TRAILING_WEEKS))
    return {name: now[name] - then[name] for name in now}


def _last(events: NDArray[np.int32], start: Ints, stop: Ints, length: int) -> NDArray[np.int32]:
    at = stop[:, None] - 1 - np.arange(length)
    last = np.full(at.shape, -1, dtype=np.int32)
    inside = at >= start[:, None]
    last[inside] = events[at[inside]]
    return last


def _recency(state: State, ts: Ints) -> Array:
    """1 just after a purchase, falling to 0 with its age; 0 if there was none."""
    days = np.where(state.moments > 0, (ts - state.last_at) / _DAY, np.inf)
    return np.exp(-days / _RECENCY_DAYS)


def _log_share(part: Ints, whole: Ints) -> Array:
    return np.log((part + 0.1) / (whole + 1.0))


def _per_ten_thousand(part: Ints, whole: Ints) -> Array:
    return np.log1p(10_000 * part / np.maximum(whole, 1))
