"""Logs of a made-up shop, each written in its own odd way; a number gives the same log for ever."""

import codecs
import gzip
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

NUM_LOGS = 300
TITLES = ("Blue mug", "Tea pot, red", 'The "big" rug', "Kissen grün", "Lamp", "Pan")
DAMAGES = ("cut", "flipped", "mislabelled", "no column", "array", "packed", "empty")
START = datetime(2024, 1, 1, 7, tzinfo=UTC)


@dataclass(frozen=True)
class Log:
    """What was written, and how the recipe says to read it."""

    source: dict
    zone: str
    ways: dict


def write_log(number, folder):
    """Write log `number` into a folder."""
    rng = random.Random(number)
    ways = _ways(rng, number)
    rows = [_written(row, ways, rng) for row in _orders(rng, ways)]
    items = [
        {"sku": f"i{n}", "name": title, "shelf": "AB"[n % 2]} for n, title in enumerate(TITLES)
    ]
    table, folder = _table(ways), folder / "log"
    folder.mkdir()
    names = ["customer", "sku", "when", "receipt", "pieces", "amount", *ways["more"]]
    half = len(rows) // 2 if ways["files"] == 2 else len(rows)
    for place, part in enumerate(p for p in (rows[:half], rows[half:]) if p):
        path = folder / f"orders-{place}{_ending(ways)}"
        path.write_bytes(_damaged(_content(part, names, table, ways, path, rng), ways, rng))
    _write_items(folder / "items.jsonl", items)
    source = {
        "kind": "tables",
        "path": str(folder),
        "tolerance": 1.0,
        "observed_until": "2024-12-31",
        "missing": ["-"],
        "items": {"files": "items.jsonl", "item_id": "sku", "title": "name", "categories": "shelf"},
        "interactions": table | {"files": "orders-*"},
    }
    return Log(source, ways["zone"], ways)


def _ways(rng, number):
    """How this log is odd; every eighth is damaged beyond reading."""
    form = rng.choice(["csv", "csv", "csv", "jsonl", "parquet"])
    encodings = [
        "utf-8",
        "utf-8",
        "utf-8-sig",
        "utf-16",
        "utf-16-le",
        "utf-32",
        "cp1252",
        "gb18030",
    ]
    is_text = form != "parquet"
    return {
        "form": form,
        "encoding": rng.choice(encodings) if is_text else "utf-8",
        "packed": rng.choice(["", "", ".gz", "secretly"]) if is_text else "",
        "newline": rng.choice(["\n", "\r\n", "\r"]) if form == "csv" else "\n",
        "separator": rng.choice([",", ";", "\t", "|", "::", "§"]),
        "quoted": rng.choice(["some", "all", "escaped"]),
        "users": rng.choice(["plain", "plain", "float", "padded", "dashes", "words", "rounded"]),
        "time": rng.choice(
            ["Z", "+02:00", " UTC", " -05:00", "local", "s", "ms", "pattern", "named"]
        ),
        "zone": rng.choice(["UTC", "Europe/Berlin", "America/New_York"]),
        "number": rng.choice(["plain", "comma", "thousands", "dollars", "cents"]),
        "orders": rng.choice(["unique", "days", "months", "nan", "0", "none", "nights"]),
        "more": rng.sample(["_file", "_row", "part", "file", "Sku", "note"], rng.randrange(4)),
        "files": rng.choice([1, 2]),
        "broken": rng.choice([0, 0, 0.05, 0.2]),
        "damage": rng.choice(DAMAGES) if number % 8 == 7 else "",
    }


def _orders(rng, ways):
    """What truly happened: 45 days, one or two orders a day."""
    rows, count = [], 0
    for day in range(45):
        for _ in range(rng.randrange(1, 3)):
            user, count = rng.randrange(1, 6), count + 1
            late = 15 if ways["orders"] == "nights" else 0
            ts = START + timedelta(
                days=day, hours=late + rng.randrange(8), minutes=rng.randrange(60)
            )
            for _ in range(rng.randrange(1, 4)):
                price = rng.choice([9.5, 35.0, 1299.0, 120.25, None])
                rows.append(
                    {"user": user, "item": rng.randrange(len(TITLES)), "ts": ts, "count": count,
                     "order": _order(ways["orders"], count, day, rng), "price": price,
                     "quantity": rng.randrange(1, 4)}
                )  # fmt: skip
                ts += timedelta(minutes=rng.choice([0, 0, 7]))
    return rows


def _order(way, count, day, rng):
    match way:
        case "days":
            return str(count % 2)
        case "months":
            return str(1 + day % 15)
        case "nan" | "0":
            return way if rng.random() < 0.4 else f"r{count}"
        case "none":
            return ""
    return f"r{count}"


def _written(row, ways, rng):
    """The cells of a row as text (or as Parquet's own values)."""
    user = row["user"]
    users = {
        "plain": str(user), "float": f"{user}.0" if rng.random() < 0.5 else str(user),
        "padded": f"{user:05d}", "dashes": f"A-{user}-{row['count'] % 2}",
        "words": "nan" if rng.random() < 0.2 else f"u{user}",
        "rounded": "1.2e+17" if rng.random() < 0.1 else f"{user}e4",
    }  # fmt: skip
    cells = {
        "customer": users[ways["users"]],
        "sku": f"i{row['item']}",
        "when": _time(row["ts"], ways),
        "receipt": row["order"],
        "pieces": str(row["quantity"]),
        "amount": "" if row["price"] is None else _price(row["price"], ways["number"]),
        **{name: f'{name}, "x" {row["count"]}' for name in ways["more"]},
    }
    if rng.random() < ways["broken"]:
        name, value = rng.choice(
            [("customer", ""), ("sku", "ghost"), ("when", "soon"), ("pieces", "-1"), ("pieces", ""),
             ("amount", "free"), ("amount", "-5"), ("when", ""), ("amount", "-")]
        )  # fmt: skip
        cells[name] = value
    return cells


def _time(ts, ways):
    local = ts.astimezone(ZoneInfo(ways["zone"]))
    match ways["time"]:
        case "Z" | " UTC":
            return f"{ts:%Y-%m-%d %H:%M:%S}{ways['time']}"
        case "+02:00":
            return f"{ts + timedelta(hours=2):%Y-%m-%dT%H:%M}+02:00"
        case " -05:00":
            return f"{ts - timedelta(hours=5):%Y-%m-%d %H:%M:%S},250 -05:00"
        case "s":
            return str(int(ts.timestamp()))
        case "ms":
            return str(int(ts.timestamp() * 1000) + 7)
        case "pattern":
            return f"{local:%d/%m/%Y %H:%M}"
        case "named":
            return f"{local:%Y-%m-%d %H:%M:%S}" + (" EST" if ts.day % 5 == 0 else "")
    return f"{local:%Y-%m-%d %H:%M:%S}"


def _price(price, way):
    match way:
        case "comma":
            return f"{price:.2f}".replace(".", ",")
        case "thousands":  # the dot is not named, so it is refused
            return f"{price:,.2f}".translate(str.maketrans(",.", ".,"))
        case "dollars":
            return f"${price:,.2f}"
        case "cents":
            return str(round(price * 100))
    return f"{price:.2f}"


def _table(ways):
    when = {"column": "when"}
    when |= {"format": ways["time"]} if ways["time"] in ("s", "ms") else {"timezone": ways["zone"]}
    when |= {"format": "%d/%m/%Y %H:%M"} if ways["time"] == "pattern" else {}
    price = {"column": "amount"} | {
        "comma": {"decimal": ","}, "thousands": {"decimal": ","}, "dollars": {"strip": "$,"},
        "cents": {"unit": 0.01},
    }.get(ways["number"], {})  # fmt: skip
    table = {"user_id": "customer", "item_id": "sku", "ts": when, "quantity": "pieces"}
    table |= {"price": price, "order_id": None if ways["orders"] == "none" else "receipt"}
    table |= {"format": ways["form"], "encoding": ways["encoding"]}
    if ways["form"] == "csv":
        table |= {"separator": ways["separator"]}
        table |= {"escape": "\\"} if ways["quoted"] == "escaped" else {}
    return table


def _ending(ways):
    return f".{ways['form']}" + (".gz" if ways["packed"] == ".gz" else "")


def _content(rows, names, table, ways, path, rng):
    if ways["damage"] == "no column" and path.name.startswith("orders-0"):
        rows = [{("price" if k == "amount" else k): v for k, v in row.items()} for row in rows]
        names = ["price" if name == "amount" else name for name in names]
    if ways["form"] == "parquet":
        return _parquet(rows, names, rng)
    if ways["form"] == "jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        if ways["damage"] == "array":
            lines = [f"[{','.join(lines)}]"]
        elif ways["broken"]:
            lines.insert(len(lines) // 2, '{"customer": "torn')
    else:
        lines = [ways["separator"].join(_cell(name, ways) for name in names)]
        lines += [ways["separator"].join(_cell(row[name], ways) for name in names) for row in rows]
        if ways["broken"]:
            lines.insert(len(lines) // 2, "torn")
    content = (ways["newline"].join(lines) + ways["newline"]).encode(ways["encoding"], "replace")
    if ways["damage"] == "mislabelled":
        content = codecs.BOM_UTF16_LE + content.decode(ways["encoding"]).encode("utf-16-le")
    return gzip.compress(content, mtime=0) if ways["packed"] else content


def _cell(text, ways):
    signs = (ways["separator"], '"', "\\", "\r", "\n")
    if ways["quoted"] != "all" and not any(sign in text for sign in signs):
        return text
    if ways["quoted"] == "escaped":
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return '"' + text.replace('"', '""') + '"'


def _parquet(rows, names, rng):
    table = pa.table({name: [row[name] or None for row in rows] for name in names})
    if rng.random() < 0.5:
        table = table.set_column(1, "sku", table["sku"].cast(pa.binary()))
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    return buffer.getvalue().to_pybytes()


def _damaged(content, ways, rng):
    match ways["damage"]:
        case "cut" if ways["packed"] or ways["form"] == "parquet":
            return content[: len(content) // 2]
        case "flipped" if ways["packed"]:
            spot = len(content) // 2
            return content[:spot] + bytes([content[spot] ^ 0xFF] * 9) + content[spot + 9 :]
        case "packed":
            return b"\x28\xb5\x2f\xfd" + content
        case "empty":
            return b""
    return content


def _write_items(path, items):
    path.write_text("\n".join(json.dumps(item) for item in items), encoding="utf-8")
