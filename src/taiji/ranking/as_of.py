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
from taiji.ranking.ledger import Folded, Ledger, State, fold, joint_key, user_weeks
from taiji.ranking.lines import Lines
from taiji.ranking.pairs import Pairs
from taiji.ranking.price_levels import price_level

TRAILING_WEEKS = 8

_DAY = 86_400_000_000  # microseconds, as all times here
_WEEK = WEEK_DAYS * _DAY
_RECENCY_DAYS = 30.0

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
    """Of some users: all of it, and by item, second and third level of category."""

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
        self._done = Lines.from_table(interactions, self._user_ids, self._item_ids)
        alike = taken is None or taken is interactions
        self._taken = (
            self._done if alike else Lines.from_table(taken, self._user_ids, self._item_ids)
        )

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
        start, stop = self._taken.before(user, ts)
        per_item = {name: column.take(item) for name, column in self._item_fields.items()}
        per_user = {name: column.take(user) for name, column in self._user_fields.items()}
        return Pairs(
            dense=self._dense(user, item, ts),
            fields={**per_item, "placement": code(pairs["placement"]), **per_user},
            user_ids=self._names[user],
            ts=ts,
            item_l3=self._item_fields["l3"].codes,
            _events=self._taken.item_E,
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
        start, stop = self._taken.before(user, ts_N[known])
        sizes_N = np.zeros(len(user_ids), dtype=np.int64)
        sizes_N[known] = np.minimum(stop - start, length)
        offsets = np.append(0, np.cumsum(sizes_N))
        back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes_N)
        events = np.repeat(stop - 1, sizes_N[known]) - back
        items = self._item_ids.take(pa.array(self._taken.item_E[events]))
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), items)

    def history_lengths(self, user_ids: NDArray[np.object_], moment: datetime) -> Ints:
        """How many events each user had before a moment."""
        user = places(pa.chunked_array([pa.array(user_ids)]), self._user_ids, "user")
        start, stop = self._done.before(user, np.full(user.size, to_microseconds(moment)))
        return stop - start

    def _users(self, users: Ints) -> "_UserLedgers":
        """What some users did, by user, and by user and item or category."""
        rows, user = self._done.of(users)
        item, ts = self._done.item_E[rows], self._done.ts_E[rows]
        lines = {"lines": np.ones(item.size, dtype=np.int64)}
        prices = self._done.amounts(rows)

        def of(level: str) -> Ints:
            return joint_key(user, self._item_fields[level].codes[item].astype(np.int64))

        return _UserLedgers(
            whole=Ledger(user, ts, lines | prices),
            item=Ledger(of("item"), ts, lines),
            l2=Ledger(of("l2"), ts, lines),
            l3=Ledger(of("l3"), ts, lines | prices),
        )

    @cached_property
    def _items(self) -> "_ItemLedgers":
        """What was taken, by week; of some users at a time, as a user counts once a week."""
        codes, taken = self._item_fields, self._taken
        of: dict[str, Ints] = {name: codes[name].codes.astype(np.int64) for name in ("item", "l3")}
        of["everything"] = np.zeros(len(self._item_ids), dtype=np.int64)
        folded: dict[str, list[Folded]] = {name: [] for name in of}
        for users in taken.some_users():
            rows, user = taken.of(users)
            week = self._weeks(taken.ts_E[rows])
            for name, code_I in of.items():
                key = code_I[taken.item_E[rows]]
                amounts = user_weeks(key, week, user)
                if name == "item":
                    amounts |= taken.amounts(rows)
                folded[name].append(fold(key, week, amounts))
        return _ItemLedgers(**{name: _joined(parts) for name, parts in folded.items()})

    def _dense(self, user: Ints, item: Ints, ts: Ints) -> NDArray[np.float32]:
        """Some users at a time: on the way to 4 bytes a number stand for a few hundred."""
        dense = np.empty((user.size, len(DENSE)), dtype=np.float32)
        order = np.argsort(user, kind="stable")
        for piece in self._done.pieces(user[order]):
            part = order[piece]
            dense[part] = self._some_dense(user[part], item[part], ts[part])
        return dense

    def _some_dense(self, user: Ints, item: Ints, ts: Ints) -> NDArray[np.float32]:
        l2, l3 = (self._item_fields[name].codes[item].astype(np.int64) for name in ("l2", "l3"))
        week = self._weeks(ts)
        users, items = self._users(np.unique(user)), self._items
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


def _joined(parts: Sequence[Folded]) -> Ledger:
    """One ledger of what was folded for some users each."""
    key, week = (np.concatenate([part[n] for part in parts]) for n in (0, 1))
    sums = {name: np.concatenate([part[2][name] for part in parts]) for name in parts[0][2]}
    return Ledger(key, week, sums)


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
