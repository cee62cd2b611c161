"""How fast prompts are made, and in how much memory: Taiji, the pandas way and plain Polars.

    python benchmarks/construct.py --copies 1 20 --repeats 3

The job: of every user of Complete Journey the 50 newest interactions before 1 December 2017, each
as a line of text, and a profile with habits from all of the past; written as Parquet. Each way
runs in a process of its own, by turns, from the same files, and must write the same texts.
`--copies 20` is the log twenty times over with new users: 29 million interactions. Needs
`pip install polars`. Prints a table; the last line is JSON about the largest size.
"""

import argparse
import hashlib
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.config import DataSection
from taiji.data.construction import prepare_tables
from taiji.data.engine import open_engine
from taiji.data.examples import write_prompts
from taiji.data.splits import timestamp_sql
from taiji.data.text import Habits, age_text, item_text, price_text, profile_text, wording

WAYS = ("taiji", "pandas", "polars")
MEASURED = ("seconds", "cpu_seconds", "peak_gib")
SECTION = DataSection(exposure_share=0.001)
CUTOFF = datetime(2017, 12, 1, 5, tzinfo=UTC)
ZONE = SECTION.splits.timezone
TABLES = ("users", "items", "interactions", "events")
_SEED = 17


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run_here(arguments.run, arguments.folder, arguments.out)))
        return
    with tempfile.TemporaryDirectory(prefix="construct-") as work:
        rows = []
        for copies in arguments.copies:
            folder = Path(work) / f"x{copies}"
            num_rows = make_tables(folder, copies)
            rows.append(compare(folder, num_rows, arguments.ways, arguments.repeats))
            print_row(rows[-1])
        print(json.dumps(summary(rows)))


def make_tables(folder: Path, copies: int) -> int:
    """Write the tables, repeated with new users at slightly other times; return the rows."""
    folder.mkdir()
    with open_engine("duckdb", folder / "scratch") as engine:
        prepare_tables(engine, SECTION, _SEED, folder)
        copied = pa.table({"copy": [f"-{copy}" if copy else "" for copy in range(copies)],
                           "n": list(range(copies))})  # fmt: skip
        engine.register("copies", copied)
        for name in ("users", "interactions"):
            told = {"user_id": "concat(t.user_id, copy) AS user_id",
                    "order_id": "concat(t.order_id, copy) AS order_id",
                    "ts": "t.ts + n * INTERVAL 1 SECOND AS ts"}  # fmt: skip
            columns = [told.get(column, f"t.{column}") for column in engine.columns(name)]
            path = folder / f"{name}.parquet"
            schema = pq.read_schema(path)
            sql = f"SELECT {', '.join(columns)} FROM {name} AS t CROSS JOIN copies"
            num_rows = engine.write(sql, folder / "copied.parquet", schema)
            (folder / "copied.parquet").replace(path)
    return num_rows


def compare(folder: Path, num_rows: int, ways: tuple[str, ...], repeats: int) -> dict:
    """Run every way by turns; medians of seconds and of peak memory."""
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            out = folder / f"{way}.parquet"
            command = [sys.executable, __file__, "--run", way, "--folder", folder, "--out", out]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]) | digest(out))
    texts = {run["digest"] for runs in found.values() for run in runs}
    if len(texts) != 1:
        raise SystemExit(f"the ways disagree: {found}")
    medians = {
        way: {key: statistics.median(run[key] for run in runs) for key in MEASURED}
        for way, runs in found.items()
    }
    return {"interactions": num_rows, "prompts": found[ways[0]][0]["prompts"], "ways": medians}


def digest(path: Path) -> dict:
    """A digest of all texts, whatever the order of the rows."""
    total, prompts = 0, 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1024, columns=["user_id", "profile", "history"]):
            for row in batch.to_pylist():
                lines = [line["text"] if isinstance(line, dict) else line
                         for line in row["history"]]  # fmt: skip
                key = "\x1f".join((row["user_id"], row["profile"], *lines))
                total ^= int.from_bytes(hashlib.sha256(key.encode()).digest())
                prompts += 1
    return {"digest": f"{total:064x}", "prompts": prompts}


def run_here(way: str, folder: Path, out: Path) -> dict:
    began = time.perf_counter()
    match way:
        case "taiji":
            with_taiji(folder, out)
        case "pandas":
            with_pandas(folder, out)
        case _:
            with_polars(folder, out)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_gib": peak_gib(),
    }


def peak_gib() -> float:
    """Peak resident memory since this program began; `ru_maxrss` would count the parent's too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20


def with_taiji(folder: Path, out: Path) -> None:
    with open_engine("duckdb", folder / "scratch") as engine:
        for name in TABLES:
            engine.read(name, [folder / f"{name}.parquet"], "parquet")
        engine.create(
            "asks",
            f"""
            SELECT
                user_id AS example_id, user_id, 'day' AS split, {timestamp_sql(CUTOFF)} AS cutoff,
                TIMESTAMP '1900-01-01 00:00:00' AS since,
                CAST(NULL AS STRING) AS target_item_id,
                CAST(NULL AS STRING) AS novel_target_item_id,
                CAST(NULL AS ARRAY<STRING>) AS target_item_ids,
                CAST(NULL AS ARRAY<STRING>) AS basket_item_ids,
                row_number() OVER (ORDER BY user_id) AS place
            FROM users
            """,
        )
        engine.read("log", [folder / "interactions.parquet"], "parquet")
        write_prompts(engine, SECTION, out)


def words_of(fields: list[tuple[str, str | None]]):
    return wording(SECTION.text, [name for name, _ in fields])


def times_of_day(weekday, hour):
    """Names in the order of `weekday` (0 = Monday) and `hour`, for arrays of numbers."""
    part = {**dict.fromkeys(range(5, 12), "mornings"), **dict.fromkeys(range(12, 17), "afternoons"),
            **dict.fromkeys(range(17, 22), "evenings")}  # fmt: skip
    return [
        f"{'weekend' if day >= 5 else 'weekday'} {part.get(clock, 'nights')}"
        for day, clock in zip(weekday, hour, strict=True)
    ]


def told(fields, categories, low, high, share, moment, words) -> str:
    habits = Habits(
        top_categories=categories or (),
        price_band=None if low is None or low != low else (low, high),
        private_label_share=None if share is None or share != share else share,
        shopping_time=moment,
    )
    return profile_text(dict(fields), habits, words)


def with_pandas(folder: Path, out: Path) -> None:
    import numpy as np
    import pandas as pd

    log = pd.read_parquet(folder / "interactions.parquet")
    items = pd.read_parquet(folder / "items.parquet")
    users = pd.read_parquet(folder / "users.parquet")
    words = words_of(users["fields"].iloc[0])
    log = log[log["ts"] < CUTOFF].sort_values(["user_id", "ts", "order_id", "item_id"])
    log = log.merge(items, on="item_id", how="left")
    newest = log.groupby("user_id").tail(SECTION.history_items).iloc[::-1]

    def line(row) -> str:
        parts = [item_text(row["title"], *(row[f"category_l{n}"] for n in (1, 2, 3)))]
        if not np.isnan(row["price"]):
            parts.append(price_text(row["price"], words))
        return "; ".join([*parts, age_text((CUTOFF - row["ts"]) // pd.Timedelta("1h"), words)])

    lines = newest.apply(line, axis=1)
    told_of = pd.DataFrame({"history": lines.groupby(newest["user_id"]).agg(list)})
    prices = log[["user_id", "price"]].dropna().sort_values(["user_id", "price"])
    sizes = prices.groupby("user_id").size()
    starts = sizes.cumsum() - sizes
    for name, share in (("low", 0.25), ("high", 0.75)):
        at = starts + np.ceil(sizes * share).astype(int) - 1
        told_of[name] = pd.Series(prices["price"].to_numpy()[at], index=sizes.index)
    told_of["share"] = (log["brand"] == "Private label").groupby(log["user_id"]).sum() / (
        log.groupby("user_id")["brand"].count()
    )
    counts = log.groupby(["user_id", "category_l1", "category_l2"]).size().rename("num")
    counts = counts.reset_index().sort_values(
        ["user_id", "num", "category_l1", "category_l2"], ascending=[True, False, True, True]
    )
    told_of["top"] = counts.groupby("user_id").head(3).groupby("user_id")["category_l2"].agg(list)
    orders = log.drop_duplicates(["user_id", "order_id"])[["user_id", "ts"]]
    local = orders["ts"].dt.tz_convert(ZONE)
    orders["moment"] = times_of_day(local.dt.dayofweek, local.dt.hour)
    counts = orders.groupby(["user_id", "moment"]).size().rename("num").reset_index()
    counts = counts.sort_values(["user_id", "num", "moment"], ascending=[True, False, True])
    told_of["moment"] = counts.groupby("user_id")["moment"].first()
    whole = users.merge(told_of, left_on="user_id", right_index=True, how="left")
    whole = whole.astype(object).where(whole.notna(), None)
    whole["profile"] = whole.apply(
        lambda row: told(
            row["fields"], row["top"], row["low"], row["high"], row["share"], row["moment"], words
        ),
        axis=1,
    )
    whole["history"] = [lines if isinstance(lines, list) else [] for lines in whole["history"]]
    whole[["user_id", "profile", "history"]].to_parquet(out, compression="zstd")


def with_polars(folder: Path, out: Path) -> None:
    import polars as pl

    user = "user_id"
    log = pl.scan_parquet(folder / "interactions.parquet").filter(pl.col("ts") < CUTOFF)
    items = pl.read_parquet(folder / "items.parquet")
    people = pq.read_table(folder / "users.parquet").select([user, "fields"]).to_pylist()
    words = words_of(people[0]["fields"])
    names = ("title", "category_l1", "category_l2", "category_l3")
    texts = [item_text(*row) for row in items.select(names).iter_rows()]
    said = items.select("item_id", pl.Series("item", texts))
    newest = (
        log.sort(user, "ts", "order_id", "item_id", descending=[False, True, True, True])
        .group_by(user, maintain_order=True)
        .head(SECTION.history_items)
        .with_columns(hours=(pl.lit(CUTOFF) - pl.col("ts")).dt.total_hours())
        .join(said.lazy(), on="item_id", how="left", maintain_order="left")
        .collect(engine="streaming")
    )
    prices = {price: f"{price:.2f} USD" for price in newest["price"].drop_nulls().unique()}
    ages = {hours: age_text(hours, words) for hours in newest["hours"].unique()}
    lines = newest.with_columns(
        text=pl.concat_str(
            "item",
            pl.col("price").replace_strict(prices, return_dtype=pl.String),
            pl.col("hours").replace_strict(ages, return_dtype=pl.String),
            separator="; ",
            ignore_nulls=True,
        )
    )
    history = lines.group_by(user, maintain_order=True).agg(history="text")
    bought = log.join(items.lazy(), on="item_id", how="left")
    at = [(pl.col("price").drop_nulls().len() * share).ceil().cast(pl.Int64) - 1
          for share in (0.25, 0.75)]  # fmt: skip
    numbers = bought.group_by(user).agg(
        *(pl.col("price").drop_nulls().sort().get(place, null_on_oob=True).alias(name)
          for name, place in zip(("low", "high"), at, strict=True)),
        share=(pl.col("brand") == "Private label").sum() / pl.col("brand").count(),
    )  # fmt: skip
    top = (
        bought.filter(pl.col("category_l2").is_not_null())
        .group_by(user, "category_l1", "category_l2")
        .agg(num=pl.len())
        .sort(user, "num", "category_l1", "category_l2", descending=[False, True, False, False])
        .group_by(user, maintain_order=True)
        .agg(top=pl.col("category_l2").head(3))
    )
    orders = log.select(user, "order_id", pl.col("ts").dt.convert_time_zone(ZONE)).unique(
        [user, "order_id"]
    )
    clock = orders.select(
        user, (pl.col("ts").dt.weekday() - 1).alias("day"), pl.col("ts").dt.hour().alias("hour")
    )
    counted = clock.group_by(user, "day", "hour").agg(num=pl.len()).collect(engine="streaming")
    counted = counted.with_columns(moment=pl.Series(times_of_day(counted["day"], counted["hour"])))
    moments = (
        counted.group_by(user, "moment")
        .agg(pl.col("num").sum())
        .sort(user, "num", "moment", descending=[False, True, False])
        .group_by(user, maintain_order=True)
        .agg(pl.col("moment").first())
    )
    figures = numbers.join(top, on=user, how="left").collect(engine="streaming")
    figures = figures.join(moments, on=user, how="left").join(history, on=user, how="left")
    known = {row[user]: row for row in figures.select(pl.exclude("history")).iter_rows(named=True)}
    keys = ("top", "low", "high", "share", "moment")
    profiles = []
    for person in people:
        row = known.get(person[user], dict.fromkeys(keys))
        profiles.append(told(person["fields"], *(row[key] for key in keys), words))
    frame = pl.DataFrame({user: [person[user] for person in people], "profile": profiles})
    empty = pl.lit([], dtype=pl.List(pl.String))
    whole = frame.join(figures.select(user, "history"), on=user, how="left")
    whole.with_columns(pl.col("history").fill_null(empty)).write_parquet(out, compression="zstd")


def print_row(row: dict) -> None:
    for way, figures in row["ways"].items():
        rate = row["prompts"] / figures["seconds"]
        print(
            f"{row['interactions']:>12,} interactions  {way:7}  {figures['seconds']:8.1f} s  "
            f"{figures['cpu_seconds']:8.1f} CPU s  {rate:8,.0f} prompts/s  "
            f"{figures['peak_gib']:5.2f} GiB",
            flush=True,
        )


def summary(rows: list[dict]) -> dict:
    """Of the largest size; how time grows is against rows, from the smallest size to it."""
    small, large = rows[0], rows[-1]
    ours = large["ways"]["taiji"]
    grown = ours["seconds"] / small["ways"]["taiji"]["seconds"]
    others = {way: figures for way, figures in large["ways"].items() if way != "taiji"}
    return {
        "interactions": large["interactions"],
        "prompts_per_second": large["prompts"] / ours["seconds"],
        "peak_gib": ours["peak_gib"],
        "time_over_rows": grown / (large["interactions"] / small["interactions"]),
        **{f"speedup_over_{way}": f["seconds"] / ours["seconds"] for way, f in others.items()},
        **{f"peak_gib_{way}": figures["peak_gib"] for way, figures in others.items()},
    }


if __name__ == "__main__":
    main()
