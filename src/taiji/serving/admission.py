"""Events are rows of the recipe's own mapping, judged by the very rules that judge the log.

A row comes as JSON, with the columns of the raw table; it is read as a line of JSON lines would be.
A source that has no mapping takes the canonical columns.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.config import DataSection
from taiji.config.mapping import EventsTable, InteractionsTable
from taiji.config.sources import CompleteJourneySource
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.sources.known import described
from taiji.data.tables.expressions import Columns, literal
from taiji.data.tables.mapping import CATALOGUE, View, map_events, map_interactions
from taiji.data.tables.misfits import table_columns
from taiji.data.tables.orders import NO_ORDER_WORDS
from taiji.data.tables.parquet_files import Kind
from taiji.data.tables.rules import Mapped, judged_sql
from taiji.data.tables.text_files import FILE, ROW
from taiji.errors import DataError
from taiji.serving.events import Event, Table

_NO_TABLE = ("E101", "no such table", "table")
_RAW = "raw_events_{}"

# The key of an order as `taiji.data.tables.orders` makes it.
_ORDER_KEY = (
    f"CASE WHEN order_id IS NULL OR lower(order_id) IN ({NO_ORDER_WORDS}) "
    "THEN concat('@', cast(ts as string)) "
    "WHEN order_id LIKE '@%' THEN concat('@@', order_id) ELSE order_id END"
)

Raw = InteractionsTable | EventsTable


@dataclass(frozen=True)
class Sent:
    """An event as a client sends it.

    Attributes:
        table: `interactions` or `events`, and where the recipe has several, `events.1`.
        row: The columns of the raw table.
        event_id: Known to the client; empty: rows that are alike are one event.
    """

    table: str
    row: Mapping[str, Any]
    event_id: str = ""


@dataclass(frozen=True)
class Refused:
    """Why an event was not taken in; what stood in the row is not said again.

    Attributes:
        index: Of the event in the request.
        code: Of the rule, such as E106; docs/data.md lists them.
        mend: What to do.
    """

    index: int
    code: str
    reason: str
    field: str
    mend: str


@dataclass(frozen=True)
class _Kind:
    """A table that events may belong to."""

    table: Table
    number: int
    section: Raw
    names: tuple[str, ...]

    @property
    def relation(self) -> str:
        return _RAW.format(self.number)

    @property
    def columns(self) -> tuple[str, ...]:
        """What the engine calls them: a raw column may have any name."""
        return tuple(f"c{number}" for number in range(len(self.names)))

    def mapped(self, limit: datetime, missing: Sequence[str]) -> Mapped:
        """The rules, as of a day."""
        kinds: dict[str, Kind] = dict.fromkeys(self.names, "text")
        names = {name: self.columns[number] for number, name in enumerate(self.names)}
        view = View(self.relation, self.number, Columns(kinds, missing, names), numbered=True)
        if isinstance(self.section, InteractionsTable):
            return map_interactions(self.section, view, limit)
        return map_events(self.section, view, limit)


class Admission:
    """Judges events; one at a time, whoever calls.

    Args:
        section: The recipe's `data`.
        items: The run's items.parquet: the catalogue.
        scratch: A folder of its own.
    """

    def __init__(self, section: DataSection, items: Path, scratch: Path) -> None:
        tables, self._missing = _tables(section)
        self._kinds = {
            name: _Kind(table, number, raw, tuple(sorted(table_columns(raw))))
            for number, (name, table, raw) in enumerate(tables)
        }
        self._engine = DuckDbEngine(scratch, memory_gib=0.5)
        self._engine.register(CATALOGUE, pq.read_table(items, columns=["item_id"]))
        self._lock = threading.Lock()

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The tables that events may belong to, and the columns of each."""
        return {name: kind.names for name, kind in self._kinds.items()}

    def judge(self, sent: Sequence[Sent]) -> tuple[list[Event], list[Refused]]:
        """Canonical rows of the events that may be taken in, and why the others may not."""
        events: list[tuple[int, Event]] = []
        refused = [
            Refused(index, *_NO_TABLE, mend=f"one of {', '.join(self._kinds)}")
            for index, one in enumerate(sent)
            if one.table not in self._kinds
        ]
        for name, kind in self._kinds.items():
            own = [(index, one) for index, one in enumerate(sent) if one.table == name]
            if own:
                taken, bad = self._judge(kind, own)
                events += taken
                refused += bad
        ordered = [event for _, event in sorted(events, key=lambda pair: pair[0])]
        return ordered, sorted(refused, key=lambda one: one.index)

    def _judge(
        self, kind: _Kind, own: Sequence[tuple[int, Sent]]
    ) -> tuple[list[tuple[int, Event]], list[Refused]]:
        columns = {
            column: pa.array([_text(one.row, name) for _, one in own], pa.string())
            for column, name in zip(kind.columns, kind.names, strict=True)
        }
        columns[FILE] = pa.array(["request"] * len(own), pa.string())
        columns[ROW] = pa.array([index for index, _ in own], pa.int64())
        mapped = kind.mapped(_limit(), self._missing)
        with self._lock:
            self._engine.register(kind.relation, pa.table(columns))
            rows = self._engine.query(_canonical_sql(judged_sql(mapped), kind)).to_pylist()
        rules = {rule.fault: rule for rule in mapped.rules}
        by_index = dict(own)
        events: list[tuple[int, Event]] = []
        refused: list[Refused] = []
        for row in rows:
            index, fault = row["row_no"], row["fault"]
            if fault is None:
                events.append((index, _event(row, kind.table, by_index[index].event_id)))
                continue
            code, _, reason = fault.partition(" ") if fault[0] == "E" else ("E100", "", fault)
            rule = rules.get(fault)
            blamed = (rule.field, rule.mend) if rule else ("event_id", "send each event once")
            refused.append(Refused(index, code, reason, *blamed))
        return events, refused

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()


def _tables(section: DataSection) -> tuple[list[tuple[str, Table, Raw]], Sequence[str]]:
    """Name, kind and section of each table, and the words that stand for nothing."""
    if isinstance(section.source, CompleteJourneySource):
        canonical = InteractionsTable.model_validate(
            {"files": "-", "kind": {"column": "kind", "values": {"purchase": "purchase"}}}
            | {name: name for name in ("user_id", "item_id", "ts", "order_id")}
            | {name: name for name in ("quantity", "price")}
        )
        return [("interactions", "interactions", canonical)], ()
    source = described(section.source)
    groups: list[tuple[Table, Sequence[Raw]]] = [
        ("interactions", source.interactions),
        ("events", source.events),
    ]
    tables = [
        (table if len(several) == 1 else f"{table}.{number}", table, raw)
        for table, several in groups
        for number, raw in enumerate(several)
    ]
    return tables, source.missing


def _limit() -> datetime:
    """The end of the day, as for a log that is read today."""
    return _end_of(datetime.now(UTC).date())


@lru_cache(maxsize=1)
def _end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _canonical_sql(judged: str, kind: _Kind) -> str:
    if kind.table == "interactions":
        columns = "kind, item_id AS subject, quantity AS amount, price, line, note"
        columns += f", {_ORDER_KEY} AS order_id"
        columns += ", event_id" if _has_event_id(kind) else ", cast(NULL as string) AS event_id"
    else:
        columns = "modality AS kind, value AS subject, weight AS amount"
        columns += ", cast(NULL as double) AS price, '' AS order_id"
        columns += ", cast(NULL as bigint) AS line, cast(NULL as string) AS note"
        columns += ", cast(NULL as string) AS event_id"
    table = literal(kind.table)
    return f"SELECT row_no, fault, {table} AS kind_of_table, user_id, ts, {columns} FROM ({judged})"


def _has_event_id(kind: _Kind) -> bool:
    return isinstance(kind.section, InteractionsTable) and kind.section.event_id is not None


def _event(row: Mapping[str, Any], table: Table, sent_id: str) -> Event:
    moment: datetime = row["ts"]
    micros = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )
    facts = (table, row["user_id"], micros, row["kind"], row["subject"], row["order_id"])
    amounts = (row["amount"], row["price"], row["line"], row["note"])
    own = json.dumps([*facts, *amounts], ensure_ascii=True).encode()
    event_id = sent_id or row["event_id"] or hashlib.blake2b(own, digest_size=16).hexdigest()
    return Event(event_id, *facts, *amounts)


def _text(row: Mapping[str, Any], name: str) -> str | None:
    """A value as the text that it would be in a file; `a.b` is a name, or b inside of a."""
    value: Any = row
    for key in [name] if name in row else name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    if value is None:
        return None
    if not isinstance(value, str):
        try:
            value = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError(f"events: column {name}: not a value of JSON") from error
    text: str = value
    return text.encode("utf-8", "replace").decode()
