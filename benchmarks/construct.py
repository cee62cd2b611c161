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
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from construct_ways import CUTOFF, SECTION, with_pandas, with_polars

from taiji.data.calendar import timestamp_sql
from taiji.data.engine import open_engine
from taiji.data.examples.examples import write_prompts
from taiji.data.tables.prepare import prepare_tables

WAYS = ("taiji", "pandas", "polars")
MEASURED = ("seconds", "cpu_seconds", "peak_gib")
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
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
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
            engine.read(name, [folder / f"{name}.parquet"])
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
        write_prompts(engine, SECTION, out, ("purchase",))


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
