"""What was known about a user and an item just before a moment: the ranking model's inputs.

One definition serves training, judging and the reward, so that no two of them can drift apart.
Everything about the user comes from events strictly before the pair's time; everything about
the item's popularity and price from whole weeks before the pair's week, because a price paid in
the same week nearly gives the conversion away. Rates and shares instead of counts, since counts
grow with the calendar and a model trained in spring would overrate autumn.

How it is fast: events are folded once into ledgers of running sums; a pair then costs one
as-of join a ledger instead of a scan of its history. The sums are of integers, so that the
order of addition can never show in a feature.

Shape suffixes: N pairs, F dense features, L items of a sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.data.splits import WEEKS, week_start
from taiji.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DEMOGRAPHICS = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_composition",
    "kids_count",
)
FIELDS = ("item", "l1", "l2", "l3", "brand", "placement", *DEMOGRAPHICS)

TRAILING_WEEKS = 8

_DAY = 86_400_000_000  # microseconds, as all times here
_WEEK = 7 * _DAY
_WEEK_STARTS = [week_start(week) for week in range(1, WEEKS["test"][1] + 1)]
_RECENCY_DAYS = 30.0
_LOG_PRICE_UNIT = 1e-6  # logs of prices are summed as whole millionths


@dataclass(frozen=True)
class Coded:
    """A categorical column: a code for each row into the distinct values, -1 for null."""

    codes: NDArray[np.int32]
    levels: tuple[str, ...]

    def take(self, rows: Ints) -> "Coded":
        """The column at `rows`."""
        return Coded(self.codes[rows], self.levels)


@dataclass(frozen=True)
class Pairs:
    """Features of N (user, item, time, placement) pairs.

    Attributes:
        dense_NF: One column for each of `DENSE`.
        fields: One categorical column for each of `FIELDS`.
        user_ids: The user of each pair.
        placement: Placement of each pair, as given.
        item_l3: Category code of each catalogue row, for sequences.
    """

    dense_NF: NDArray[np.float32]
    fields: Mapping[str, Coded]
    user_ids: NDArray[np.object_]
    item_l3: NDArray[np.int32]
    _events: NDArray[np.int32]
    _start_N: Ints
    _stop_N: Ints

    def __len__(self) -> int:
        return len(self.dense_NF)

    def own_items(self, rows: Ints, length: int) -> NDArray[np.int32]:
        """Catalogue rows of the last `length` items before each pair, newest first, then -1."""
        return _last(self._events, self._start_N[rows], self._stop_N[rows], length)


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
        interactions: Columns of `schema.INTERACTIONS`, any order.

    Raises:
        DataError: Interactions name users or items that the other tables do not have.
    """

    def __init__(self, *, users: pa.Table, items: pa.Table, interactions: pa.Table) -> None:
        self._user_ids = users["user_id"].combine_chunks()
        self._item_ids = items["item_id"].combine_chunks()
        paths = [f"category_l{level}" for level in (1, 2, 3)]
        self._item_fields = {
            "item": Coded(np.arange(len(items), dtype=np.int32), tuple(self._item_ids.to_pylist())),
            **{f"l{n}": _code(_path(items, paths[:n])) for n in (1, 2, 3)},
            "brand": _code(items["brand"]),
        }
        self._user_fields = {name: _code(users[name]) for name in DEMOGRAPHICS}
        self._database = duckdb.connect(":memory:")
        self._fold(interactions)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The catalogue: item ids in the order of catalogue rows."""
        return self._item_fields["item"].levels

    def features(self, pairs: pa.Table) -> Pairs:
        """Features of the pairs in the columns user_id, item_id, ts and placement.

        Raises:
            DataError: A pair names a user or an item that the tables do not have.
        """
        user = _places(pairs["user_id"], self._user_ids, "user")
        item = _places(pairs["item_id"], self._item_ids, "item")
        ts = _microseconds(pairs["ts"])
        start, stop = self._span(user, ts)
        per_item = {name: column.take(item) for name, column in self._item_fields.items()}
        per_user = {name: column.take(user) for name, column in self._user_fields.items()}
        return Pairs(
            dense_NF=self._dense(user, item, ts),
            fields={**per_item, "placement": _code(pairs["placement"]), **per_user},
            user_ids=pairs["user_id"].to_numpy(zero_copy_only=False),
            item_l3=self._item_fields["l3"].codes,
            _events=self._events,
            _start_N=start,
            _stop_N=stop,
        )

    def last_items(
        self, user_ids: Sequence[str], cutoffs: Sequence[datetime], length: int
    ) -> list[list[str]]:
        """Ids of each user's last `length` items strictly before a cut-off, newest first."""
        user = _places(pa.chunked_array([pa.array(user_ids, pa.string())]), self._user_ids, "user")
        ts = np.array([_to_microseconds(cutoff) for cutoff in cutoffs], dtype=np.int64)
        start, stop = self._span(user, ts)
        rows = _last(self._events, start, stop, length)
        return [[self.item_ids[item] for item in row if item >= 0] for row in rows]

    def _fold(self, interactions: pa.Table) -> None:
        """Fold the events into ledgers: running sums for each key, one row a moment."""
        item = _places(interactions["item_id"], self._item_ids, "item")
        events = {
            "user": _places(interactions["user_id"], self._user_ids, "user"),
            "item": item,
            "l2": self._item_fields["l2"].codes[item].astype(np.int64),
            "l3": self._item_fields["l3"].codes[item].astype(np.int64),
            "ts": _microseconds(interactions["ts"]),
        }
        price = interactions["price"].to_numpy()
        priced = np.nan_to_num(price) > 0
        log_price = np.log(np.where(priced, price, 1.0)) / _LOG_PRICE_UNIT
        events["week"] = _weeks(events["ts"])
        events["priced"] = priced.astype(np.int64)
        events["log_price"] = np.rint(log_price).astype(np.int64)
        self._database.register("event", pa.table(events))
        for name, key, at in (
            ("of_user", "user", "ts"),
            ("of_user_item", _pair_key("user", "item"), "ts"),
            ("of_user_l2", _pair_key("user", "l2"), "ts"),
            ("of_user_l3", _pair_key("user", "l3"), "ts"),
            ("of_item", "item", "week"),
            ("of_l3", "l3", "week"),
            ("of_all", "0", "week"),
        ):
            self._database.execute(_LEDGER.format(name=name, key=key, at=at))
        order = np.lexsort((events["item"], events["ts"], events["user"]))
        self._events = events["item"][order].astype(np.int32)
        self._first_event = np.searchsorted(
            events["user"][order], np.arange(len(self._user_ids) + 1)
        )
        self._database.unregister("event")

    def _span(self, user: Ints, ts: Ints) -> tuple[Ints, Ints]:
        """First and last-but-one position of each user's events before `ts`."""
        start = self._first_event[user]
        return start, start + self._before("of_user", user, ts)["lines"]

    def _before(self, ledger: str, key: Ints, at: Ints) -> dict[str, Ints]:
        """The state of each key strictly before `at`; zeros where nothing had happened."""
        asked = pa.table({"row": np.arange(key.size), "key": key, "at": at})
        self._database.register("asked", asked)
        found = self._database.execute(_BEFORE.format(name=ledger)).fetchnumpy()
        self._database.unregister("asked")
        return {name: np.asarray(column, dtype=np.int64) for name, column in found.items()}

    def _dense(self, user: Ints, item: Ints, ts: Ints) -> NDArray[np.float32]:
        l2, l3 = (self._item_fields[name].codes[item].astype(np.int64) for name in ("l2", "l3"))
        week = _weeks(ts)
        whole = self._before("of_user", user, ts)
        same_item = self._before("of_user_item", _key(user, item), ts)
        same_l2 = self._before("of_user_l2", _key(user, l2), ts)
        same_l3 = self._before("of_user_l3", _key(user, l3), ts)
        recent_item, ever_item = self._shares("of_item", item, week)
        recent_l3, _ = self._shares("of_l3", l3, week)
        history_weeks = np.where(whole["lines"] > 0, (ts - whole["first_at"]) / _WEEK, 0.0)
        years = np.maximum(history_weeks, 1.0) / 52
        price, known = _price_level(self._trailing("of_item", item, week))
        to_user, to_user_l3 = (
            np.where(known & has, price - level, 0.0)
            for level, has in (_price_level(whole), _price_level(same_l3))
        )
        columns = [
            *(np.log1p(one["lines"] / years) for one in (same_item, same_l3, same_l2)),
            *(_log_share(one["moments"], whole["moments"]) for one in (same_item, same_l3)),
            same_item["lines"] / np.maximum(same_l3["lines"], 1),
            *(_recency(one, ts) for one in (same_item, same_l3, same_l2)),
            np.log1p(whole["lines"] / (52 * years)),
            np.log1p(whole["lines"]),
            np.log1p(history_weeks),
            *(recent_item, ever_item, recent_l3),
            *(known, to_user, to_user_l3),
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def _trailing(self, ledger: str, key: Ints, week: Ints) -> dict[str, Ints]:
        """Sums over the whole weeks just before `week`, `TRAILING_WEEKS` of them."""
        now = self._before(ledger, key, week)
        then = self._before(ledger, key, week - TRAILING_WEEKS)
        return {name: now[name] - then[name] for name in now}

    def _shares(self, ledger: str, key: Ints, week: Ints) -> tuple[Floats, Floats]:
        """Log of the mean weekly share of active users who bought, lately and ever.

        Promotions move the recent share; the long-run share is the base that they lift.
        """
        everyone = np.zeros_like(key)
        recent, active = (
            self._trailing(name, of, week)["user_weeks"]
            for name, of in ((ledger, key), ("of_all", everyone))
        )
        ever, ever_active = (
            self._before(name, of, week)["user_weeks"]
            for name, of in ((ledger, key), ("of_all", everyone))
        )
        return _per_ten_thousand(recent, active), _per_ten_thousand(ever, ever_active)


# The running sums of one key. A user-week is a user who is there at least once in a week.
_LEDGER = """
CREATE TABLE {name} AS
SELECT key, at,
    sum(lines) OVER running AS lines,
    count(*) OVER running AS moments,
    min(at) OVER running AS first_at,
    sum(user_weeks) OVER running AS user_weeks,
    sum(priced) OVER running AS priced,
    sum(log_price) OVER running AS log_price
FROM (
    SELECT {key} AS key, {at} AS at, count(*) AS lines, count(DISTINCT "user") AS user_weeks,
        sum(priced) AS priced, sum(log_price) AS log_price
    FROM event GROUP BY ALL
)
WINDOW running AS (PARTITION BY key ORDER BY at)
ORDER BY key, at
"""

# Keys nobody asks for are dropped first: the join sorts what is left.
_BEFORE = """
SELECT coalesce(lines, 0) AS lines, coalesce(moments, 0) AS moments,
    coalesce(found.at, 0) AS last_at, coalesce(first_at, 0) AS first_at,
    coalesce(user_weeks, 0) AS user_weeks, coalesce(priced, 0) AS priced,
    coalesce(log_price, 0) AS log_price
FROM asked ASOF LEFT JOIN (
    SELECT * FROM {name} WHERE key IN (SELECT key FROM asked)
) AS found ON asked.key = found.key AND asked.at > found.at
ORDER BY asked.row
"""


def _weeks(ts: Ints) -> Ints:
    """The source's week of each moment; 0 is whatever comes before its first week."""
    starts = np.array([_to_microseconds(start) for start in _WEEK_STARTS], dtype=np.int64)
    return np.searchsorted(starts, ts, side="right").astype(np.int64)


def _key(high: Ints, low: Ints) -> Ints:
    """One integer for a pair of codes; a null category (-1) gets a key of its own."""
    return (high << 32) + low + 1


def _pair_key(high: str, low: str) -> str:
    return f'("{high}" << 32) + {low} + 1'


def _last(events: NDArray[np.int32], start: Ints, stop: Ints, length: int) -> NDArray[np.int32]:
    at = stop[:, None] - 1 - np.arange(length)
    inside = at >= start[:, None]
    return np.where(inside, events[np.where(inside, at, 0)], -1).astype(np.int32)


def _price_level(sums: Mapping[str, Ints]) -> tuple[Floats, NDArray[np.bool_]]:
    """Log of the geometric mean price, and whether there is any."""
    known = sums["priced"] > 0
    return sums["log_price"] * _LOG_PRICE_UNIT / np.maximum(sums["priced"], 1), known


def _recency(state: Mapping[str, Ints], ts: Ints) -> Floats:
    """1 just after a purchase, falling to 0 with its age; 0 if there was none."""
    days = np.where(state["lines"] > 0, (ts - state["last_at"]) / _DAY, np.inf)
    return np.exp(-days / _RECENCY_DAYS)


def _log_share(part: Ints, whole: Ints) -> Floats:
    return np.log((part + 0.1) / (whole + 1.0))


def _per_ten_thousand(part: Ints, whole: Ints) -> Floats:
    return np.log1p(10_000 * part / np.maximum(whole, 1))


def _path(items: pa.Table, columns: list[str]) -> pa.Array:
    """The full category path, null if its last level is: one name may stand under two parents."""
    *parents, last = (items[name] for name in columns)
    parts = [*(pc.fill_null(parent, "") for parent in parents), last]
    return pc.binary_join_element_wise(*parts, "\x1f")


def _code(column: pa.ChunkedArray) -> Coded:
    encoded = pc.dictionary_encode(column)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return Coded(codes.astype(np.int32), tuple(encoded.dictionary.to_pylist()))


def _places(ids: pa.ChunkedArray, known: pa.Array, what: str) -> Ints:
    places = pc.index_in(ids, value_set=known)
    if places.null_count:
        stray = ids.filter(pc.is_null(places))[0].as_py()
        raise DataError(
            f"ranking: {places.null_count} rows name a {what} that the {what}s table lacks, "
            f"e.g. {stray!r}: rebuild the tables together"
        )
    return places.to_numpy().astype(np.int64)


def _microseconds(column: pa.ChunkedArray) -> Ints:
    return column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy().astype(np.int64)


def _to_microseconds(moment: datetime) -> int:
    return int(pa.scalar(moment, pa.timestamp("us", tz="UTC")).cast(pa.int64()).as_py())
