"""What was known about a user and an item just before a moment: the ranking model's inputs.

One definition serves training, judging and the reward, so that no two of them can drift apart.
Everything about the user comes from events strictly before the pair's time; everything about
the item's popularity and price from whole weeks before the pair's week, because a price paid in
the same week nearly gives the conversion away. Rates and shares instead of counts, since counts
grow with the calendar and a model trained in spring would overrate autumn.

Shape suffixes: N pairs, F dense features, L items of a sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

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
from taiji.ranking.pairs import Pairs
from taiji.ranking.price_levels import log_prices, price_level

TRAILING_WEEKS = 8

_DAY = 86_400_000_000  # microseconds, as all times here
_WEEK = WEEK_DAYS * _DAY
_RECENCY_DAYS = 30.0
_PAIRS_AT_A_TIME = 1 << 17


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


@dataclass(frozen=True)
class _UserLedgers:
    """Of users: all of it, and by item, second and third level of category."""

    whole: Ledger
    item: Ledger
    l2: Ledger
    l3: Ledger


@dataclass(frozen=True)
class _ItemLedgers:
    """Of weeks: by item, by third level of category, and all of it."""

    item: Ledger
    l3: Ledger
    everything: Ledger


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
        self._names = self._user_ids.to_numpy(zero_copy_only=False)  # one string a user, shared
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
        self._interactions = interactions
        self._taken = interactions if taken is None else taken
        self._user_N = places(interactions["user_id"], self._user_ids, "user").astype(np.int32)
        self._item_N = places(interactions["item_id"], self._item_ids, "item").astype(np.int32)
        self._fold_sequences()

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
            user_ids=self._names[user],
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
        ts = np.array([to_microseconds(cutoff) for cutoff in cutoffs], dtype=np.int64)
        lists = self.item_lists(pa.array(user_ids, pa.string()), ts, length)
        return list(lists.to_pylist())

    def item_lists(self, user_ids: pa.Array, ts_N: Ints, length: int) -> pa.ListArray:
        """The same for many users, as lists of item ids; empty where the user is null."""
        known = np.flatnonzero(np.asarray(user_ids.is_valid()))
        user = places(pa.chunked_array([user_ids.drop_null()]), self._user_ids, "user")
        start, stop = self._span(user, ts_N[known])
        sizes_N = np.zeros(len(user_ids), dtype=np.int64)
        sizes_N[known] = np.minimum(stop - start, length)
        offsets = np.append(0, np.cumsum(sizes_N))
        back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes_N)
        events = np.repeat(stop - 1, sizes_N[known]) - back
        items = self._item_ids.take(pa.array(self._events[events]))
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), items)

    def history_lengths(self, user_ids: NDArray[np.object_], moment: datetime) -> Ints:
        """How many events each user had before a moment."""
        user = places(pa.chunked_array([pa.array(user_ids)]), self._user_ids, "user")
        at = np.full(user.size, to_microseconds(moment))
        return self._users.whole.before(user, at).sums["lines"]

    def _fold_sequences(self) -> None:
        """Put what each user took into an order; what only features need waits until then."""
        user, item = self._taken_by()
        ts = microseconds(self._taken["ts"])
        order = np.lexsort((item, ts, user))
        self._events = item[order].astype(np.int32)
        self._first_event = np.searchsorted(user[order], np.arange(len(self._user_ids) + 1))
        self._of_taken = Ledger(user, ts, {"lines": np.ones(item.size, dtype=np.int64)})

    def _taken_by(self) -> tuple[Ints, Ints]:
        """Who took what."""
        if self._taken is self._interactions:
            return self._user_N.astype(np.int64), self._item_N.astype(np.int64)
        user = places(self._taken["user_id"], self._user_ids, "user")
        return user, places(self._taken["item_id"], self._item_ids, "item")

    @cached_property
    def _users(self) -> "_UserLedgers":
        """What users did, by user, and by user and item or category."""
        user, item = self._user_N.astype(np.int64), self._item_N.astype(np.int64)
        ts, prices = microseconds(self._interactions["ts"]), log_prices(self._interactions)
        lines = {"lines": np.ones(item.size, dtype=np.int64)}

        def of(level: str) -> Ints:
            return joint_key(user, self._item_fields[level].codes[item].astype(np.int64))

        return _UserLedgers(
            whole=Ledger(user, ts, lines | prices),
            item=Ledger(joint_key(user, item), ts, lines),
            l2=Ledger(of("l2"), ts, lines),
            l3=Ledger(of("l3"), ts, lines | prices),
        )

    @cached_property
    def _items(self) -> "_ItemLedgers":
        """What was taken, by week."""
        user, item = self._taken_by()
        l3 = self._item_fields["l3"].codes[item].astype(np.int64)
        week, everything = self._weeks(microseconds(self._taken["ts"])), np.zeros_like(item)
        return _ItemLedgers(
            item=Ledger(item, week, log_prices(self._taken) | user_weeks(item, week, user)),
            l3=Ledger(l3, week, user_weeks(l3, week, user)),
            everything=Ledger(everything, week, user_weeks(everything, week, user)),
        )

    def _span(self, user: Ints, ts: Ints) -> tuple[Ints, Ints]:
        """Where the user's events before `ts` begin and end."""
        start = self._first_event[user]
        return start, start + self._of_taken.before(user, ts).sums["lines"]

    def _dense(self, user: Ints, item: Ints, ts: Ints) -> NDArray[np.float32]:
        """Some pairs at a time: on the way to 4 bytes a number stand for a few hundred."""
        dense = np.empty((user.size, len(DENSE)), dtype=np.float32)
        for start in range(0, user.size, _PAIRS_AT_A_TIME):
            part = slice(start, start + _PAIRS_AT_A_TIME)
            dense[part] = self._some_dense(user[part], item[part], ts[part])
        return dense

    def _some_dense(self, user: Ints, item: Ints, ts: Ints) -> NDArray[np.float32]:
        l2, l3 = (self._item_fields[name].codes[item].astype(np.int64) for name in ("l2", "l3"))
        week = self._weeks(ts)
        users, items = self._users, self._items
        whole = users.whole.before(user, ts)
        same_item = users.item.before(joint_key(user, item), ts)
        same_l2 = users.l2.before(joint_key(user, l2), ts)
        same_l3 = users.l3.before(joint_key(user, l3), ts)
        history_weeks = np.where(whole.moments > 0, (ts - whole.first_at) / _WEEK, 0.0)
        weeks = np.maximum(history_weeks, 1.0)
        recent_item, ever_item = self._shares(items.item, item, week)
        recent_l3, _ = self._shares(items.l3, l3, week)
        price, known = price_level(_trailing(items.item, item, week))
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
            for one, of in ((ledger, key), (self._items.everything, everything))
        )
        ever, ever_all = (
            one.before(of, week).sums["user_weeks"]
            for one, of in ((ledger, key), (self._items.everything, everything))
        )
        return _per_ten_thousand(recent, recent_all), _per_ten_thousand(ever, ever_all)


def _trailing(ledger: Ledger, key: Ints, week: Ints) -> dict[str, Ints]:
    """Sums over the whole weeks just before `week`, `TRAILING_WEEKS` of them."""
    now, then = (ledger.before(key, week - lag).sums for lag in (0, TRAILING_WEEKS))
    return {name: now[name] - then[name] for name in now}


def _recency(state: State, ts: Ints) -> Array:
    """1 just after a purchase, falling to 0 with its age; 0 if there was none."""
    days = np.where(state.moments > 0, (ts - state.last_at) / _DAY, np.inf)
    return np.exp(-days / _RECENCY_DAYS)


def _log_share(part: Ints, whole: Ints) -> Array:
    return np.log((part + 0.1) / (whole + 1.0))


def _per_ten_thousand(part: Ints, whole: Ints) -> Array:
    return np.log1p(10_000 * part / np.maximum(whole, 1))
