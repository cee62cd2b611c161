"""A slow reader of logs in plain Python, after docs/data.md and nothing of the product's.

It shares no code with the product, so that both do not make the same mistake.
"""

import gzip
import json
import re
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

NO_ID = {"\\n", "#n/a", "(null)", "<na>", "n/a", "nan", "nat", "nil", "none", "null", "undefined"}
NO_ORDER = NO_ID | {"-", "--", "?", "0", "-1", "na", "unknown"}
ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ]([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d)(?:[.,](\d+))?)?)?"
    r" ?(Z|UTC|GMT|(?:UTC|GMT)?([+-])(\d\d?)(?::?([0-5]\d))?)?)?",
    re.IGNORECASE,
)


class RefusedError(Exception):
    """The file cannot be read as the recipe says."""


def read_table(paths, table):
    """Rows of all files as dicts of text (or of Parquet values); None for a row that is broken."""
    rows, headers, keys = [], [], set()
    for path in paths:
        if path.suffix == ".parquet":
            try:
                found = pq.read_table(path).to_pylist()
            except (pa.ArrowException, OSError) as error:
                raise RefusedError(error) from error
            headers.append(set(pq.read_schema(path).names))
        elif ".jsonl" in path.suffixes:
            found = _json_rows(_decoded(path, table))
            keys = keys.union(*(row for row in found if row))
            headers.append(keys)  # of all files: a key may be absent from one
        else:
            found, header = _csv_rows(_decoded(path, table), table)
            headers.append(set(header))
        rows += found
    mapped = set(_columns(table))
    for header in headers[-1:] if keys else headers:
        if not mapped <= header:
            raise RefusedError(mapped - header)
    return rows


def _columns(table):
    for name in ("user_id", "item_id", "order_id", "ts", "quantity", "price", "title"):
        field = table.get(name)
        if isinstance(field, str):
            yield field
        elif isinstance(field, dict) and "column" in field:
            yield field["column"]


def _decoded(path, table):
    content = path.read_bytes()
    encoding = table.get("encoding", "utf-8")
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        for mark in (b"\xff\xfe", b"\xfe\xff"):
            if content.startswith(mark) and not encoding.startswith(("utf-16", "utf-32")):
                raise RefusedError("mark")
        text = content.decode(encoding, "surrogateescape").removeprefix("\ufeff")
    except (UnicodeError, EOFError, OSError, ValueError) as error:
        raise RefusedError(error) from error
    except Exception as error:  # zlib.error
        raise RefusedError(error) from error
    if "\0" in text[:4096]:
        raise RefusedError("NUL")
    if "\n" not in text:
        text = text.replace("\r", "\n")
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _json_rows(text):
    if text.lstrip().startswith("["):
        raise RefusedError("array")
    rows = []
    for line in text.split("\n"):
        if line.strip():
            try:
                row = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
            except ValueError:
                row = None
            rows.append(row if isinstance(row, dict) else None)
    return rows


def _csv_rows(text, table):
    """Sign by sign: quotes, doubled quotes, escapes, separators of any length."""
    separator, quote = table.get("separator", ","), table.get("quote", '"')
    escape = table.get("escape")
    rows, cells, cell, inside, place = [], [], [], False, 0
    while place < len(text):
        sign = text[place]
        if escape and sign == escape:
            cell.append(text[place + 1])
            place += 2
        elif inside and sign == quote and text[place + 1 : place + 2] == quote:
            cell.append(quote)
            place += 2
        elif quote and sign == quote and (inside or not cell):
            inside = not inside
            place += 1
        elif not inside and text.startswith(separator, place):
            cells.append("".join(cell))
            cell, place = [], place + len(separator)
        elif not inside and sign in "\r\n":
            if cells or cell:
                rows.append([*cells, "".join(cell)])
            cells, cell, place = [], [], place + 1
        else:
            cell.append(sign)
            place += 1
    if cells or cell:
        rows.append([*cells, "".join(cell)])
    if not rows:
        raise RefusedError("empty")
    header = [name.strip() for name in rows[0]]
    whole = (dict(zip(header, row, strict=True)) if len(row) == len(header) else None
             for row in rows[1:])  # fmt: skip
    return list(whole), header


def word(value, missing=()):
    """Trimmed text, or None."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value == int(value):
        value = int(value)
    text = str(value).strip(" ")
    return None if not text or text in missing else text


def key(value, missing=()):
    """An id; RefusedError stands for a row that has none."""
    if isinstance(value, float) and abs(value) >= 2**53:
        raise RefusedError("rounded")
    text = word(value, missing)
    if text is None or text.lower() in NO_ID:
        raise RefusedError("no id")
    if isinstance(value, str) and re.fullmatch(r"-?\d([.,]\d+)?[eE][+]\d+", text):
        raise RefusedError("rounded")
    return re.sub(r"^(-?\d+)\.0$", r"\1", text)


def number(value, field, missing=()):
    """A float; None if nothing stands there."""
    text = word(value, missing)
    if text is None:
        return None
    field = field if isinstance(field, dict) else {}
    if isinstance(value, str):
        text = "".join(sign for sign in text if sign not in field.get("strip", "")).strip(" ")
        point = re.escape(field.get("decimal", "."))
        if not re.fullmatch(rf"[+-]?(\d+{point}?\d*|{point}\d+)([eE][+-]?\d+)?", text):
            raise RefusedError("no number")
        text = text.replace(",", ".")
    return float(text) * field.get("unit", 1)


def moment(value, field):
    """A time in UTC."""
    field = field if isinstance(field, dict) else {}
    zone, form = field.get("timezone"), field.get("format", "iso")
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            return value.astimezone(UTC)
        return value.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    text = word(value)
    if text is None:
        raise RefusedError("no time")
    if form in ("s", "ms", "us"):
        micros = round(number(text, {}) * {"s": 10**6, "ms": 10**3, "us": 1}[form])
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    if form != "iso":
        try:
            return datetime.strptime(text, form).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        except ValueError as error:
            raise RefusedError(error) from error
    found = ISO.fullmatch(text)
    if found is None:
        raise RefusedError("time")
    day, hour, minute, second, fraction, offset, sign, hours, minutes = found.groups()
    local = datetime.combine(date.fromisoformat(day), datetime.min.time()) + timedelta(
        hours=int(hour or 0), minutes=int(minute or 0), seconds=int(second or 0),
        microseconds=int((fraction or "0")[:6].ljust(6, "0")),
    )  # fmt: skip
    if offset:
        shift = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        return (local + shift if sign == "-" else local - shift).replace(tzinfo=UTC)
    if zone is None:
        raise RefusedError("no zone")
    return local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def interactions(rows, table, items, until, zone, missing=()):
    """Merged lines as (user, item, time, quantity, price), and how many rows were good."""
    good = []
    for row in rows:
        try:
            good.append(_line(row, table, items, until, missing))
        except RefusedError:
            continue
    days = defaultdict(set)
    for user, _, ts, order, _, _ in good:
        days[user, order].add(ts.astimezone(ZoneInfo(zone)).date())
    lasts = {}
    for user, _, ts, order, _, _ in good:
        lasts[user, order] = max(ts, lasts.get((user, order), ts))
    merged = defaultdict(list)
    for user, item, ts, order, quantity, price in good:
        is_order = order is not None and order.lower() not in NO_ORDER
        if is_order and len(days[user, order]) == 1:
            merged[user, ("order", order), item, lasts[user, order]].append((quantity, price))
        else:
            merged[user, ("moment", ts), item, ts].append((quantity, price))
    told = []
    for (user, _, item, ts), lines in merged.items():
        priced = [(quantity, price) for quantity, price in lines if price is not None]
        paid = sum(Decimal(str(price)) * quantity for quantity, price in priced)
        mean = float(paid / sum(quantity for quantity, _ in priced)) if priced else None
        told.append((user, item, ts, sum(quantity for quantity, _ in lines), mean))
    return sorted(told, key=str), len(good)


def _line(row, table, items, until, missing):
    if row is None:
        raise RefusedError("broken")

    def cell(name):
        field = table[name]
        return row.get(field["column"] if isinstance(field, dict) else field)

    user, item = key(cell("user_id"), missing), key(cell("item_id"), missing)
    ts = moment(cell("ts"), table["ts"])
    if item not in items or not datetime(1990, 1, 1, tzinfo=UTC) <= ts < until:
        raise RefusedError("item or time")
    order = None if table.get("order_id") is None else word(cell("order_id"), missing)
    order = order and re.sub(r"^(-?\d+)\.0$", r"\1", order)
    quantity = number(cell("quantity"), table["quantity"], missing)
    price = number(cell("price"), table["price"], missing)
    if quantity is None or quantity <= 0 or quantity != int(quantity):
        raise RefusedError("quantity")
    if price is not None and price <= 0:
        raise RefusedError("price")
    return user, item, ts, order, int(quantity), price
