"""What the feature API costs over a no-op of the same server, and beside Feast on the same Redis.

    python benchmarks/service.py [--feast BIN] [--seconds 3] [--rounds 5]

One Redis server holds the same features twice: our records, and Feast's online store. One process
serves our API (a key is shown with every request), one serves Feast. In turns, in one run:

- requests a second: 16 connections that each ask again as soon as they are answered;
- p50 and p99: an open-loop client that sends at fixed moments, at half of what the slower way
  bears, and counts from the moment when a request was due, so that a stall is not hidden.

`--feast` names the `bin` folder of an environment with `feast[redis]`; without it that part is left
out. Ends with one line of JSON: `over_noop` and `over_feast` are ratios of requests a second with 1
user (`..._100`: with 100 users), `store_ops_per_request` is counted by Redis, `bytes_per_user` is
what a record with its key takes of Redis's memory.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import redis

from taiji.config import Recipe
from taiji.config.loading import dump_recipe
from taiji.schema import ITEMS
from taiji.serving.admission import Admission
from taiji.serving.api.app import Service, build_app
from taiji.serving.api.keys import FILE, KeyRing, add_key
from taiji.serving.blobs import UserBlob
from taiji.serving.parts import open_parts
from taiji.serving.run import ServedRun
from taiji.serving.store import AsOf, Record
from taiji.store.files import write_json, write_parquet

USERS, ITEMS_OF_USER, CODES, BITS = 2000, 100, 8, 6
CONNECTIONS = 16

FEAST_CONFIG = """
project: bench
registry: registry.db
provider: local
online_store: {{type: redis, connection_string: "127.0.0.1:{port},db=1"}}
offline_store: {{type: file}}
entity_key_serialization_version: 3
"""
FEAST_VIEWS = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Int32, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
source = FileSource(name="s", path="{table}", timestamp_field="event_timestamp")
taiji = FeatureView(name="taiji", entities=[user], ttl=timedelta(days=3650), source=source, schema=[
    Field(name="user_id", dtype=String),
    Field(name="codes", dtype=Array(Int32)),
    Field(name="sequence", dtype=Array(String)),
])
"""


def features():
    draw = np.random.default_rng(17)
    codes = draw.integers(0, 1 << BITS, size=(USERS, CODES)).astype(np.int32)
    items = draw.integers(0, 100_000, size=(USERS, ITEMS_OF_USER))
    sequences = [[f"item-{item}" for item in row] for row in items]
    return [f"user-{number}" for number in range(USERS)], codes.tolist(), sequences


def make_run(folder):
    """As much of a run as the API reads."""
    root = folder / "runs" / "bench"
    (root / "features").mkdir(parents=True)
    (root / "construct").mkdir()
    write_json({"sub_vectors": CODES, "bits": BITS}, root / "features" / "codebook.json")
    write_parquet(ITEMS.empty_table(), root / "construct" / "items.parquet", ITEMS)
    limits = {"requests_per_second": 1e6, "store_timeout_seconds": 2.0}
    recipe = Recipe.model_validate(
        {"name": "bench", "serve": {"backend": "redis", "limits": limits}}
    )
    (root / "recipe.resolved.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return ServedRun(root, recipe)


def fill(run):
    parts = open_parts(run)
    version = parts.store.add_version("bench")
    now = time.time()
    rows = zip(*features(), strict=True)
    records = [
        Record(parts.names.of(user), AsOf(1, 0), UserBlob(codes, items, 1, now).pack())
        for user, codes, items in rows
    ]
    with redis.Redis.from_url(os.environ["TAIJI_REDIS_URL"]) as client:
        before = client.info("memory")["used_memory"]
        parts.store.write(version, records, 86_400)
        grown = client.info("memory")["used_memory"] - before
    parts.store.switch(version)
    parts.close()
    return grown / USERS


def serve(folder, port):
    import uvicorn

    from taiji.serving.run import open_run

    run = open_run(Path(folder) / "runs" / "bench")
    parts = open_parts(run)
    admission = Admission(
        run.recipe.data, run.construct / "items.parquet", Path(folder) / "scratch"
    )
    app = build_app(Service(parts, admission, KeyRing(run.state / FILE), on_loopback=True))
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


class Way:
    """A request, ready to be sent, to one server."""

    def __init__(self, name, port, method, path, body=None, key=""):
        self.name, self.port = name, port
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {key}\r\n" if key else ""
        bodies = [json.dumps(one).encode() for one in body] if body else [b""]
        self.requests = [
            f"{head}Content-Length: {len(one)}\r\n\r\n".encode() + one for one in bodies
        ]

    async def ask(self, streams, number):
        reader, writer = streams
        writer.write(self.requests[number % len(self.requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{self.name}: {head[:200]!r}")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        await reader.readexactly(length)


async def capacity(way, seconds):
    """Requests a second of CONNECTIONS that never wait, and how many they were."""
    done, ends = 0, time.perf_counter() + seconds

    async def go(offset):
        nonlocal done
        streams = await asyncio.open_connection("127.0.0.1", way.port, limit=1 << 22)
        number = offset
        while time.perf_counter() < ends:
            await way.ask(streams, number)
            number, done = number + 1, done + 1
        streams[1].close()

    began = time.perf_counter()
    await asyncio.gather(*(go(97 * n) for n in range(CONNECTIONS)))
    return done / (time.perf_counter() - began), done


async def latencies(way, rate, seconds):
    """Seconds from when each request was due until it was answered."""
    idle = asyncio.Queue()
    for _ in range(4 * CONNECTIONS):
        idle.put_nowait(await asyncio.open_connection("127.0.0.1", way.port, limit=1 << 22))
    took, began = [], time.perf_counter()

    async def one(number):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        streams = await idle.get()
        await way.ask(streams, number)
        idle.put_nowait(streams)
        took.append(time.perf_counter() - due)

    await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    while not idle.empty():
        idle.get_nowait()[1].close()
    return np.percentile(took, [50, 99])


def commands(client):
    """Commands that clients sent, without those that are sent once a connection."""
    stats = client.info("commandstats")
    once = ("cmdstat_info", "cmdstat_client", "cmdstat_script", "cmdstat_select", "cmdstat_hello")
    return sum(stat["calls"] for name, stat in stats.items() if not name.startswith(once))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(port, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"nothing listens at {port}")


def start_feast(bin_folder, folder, redis_port, port):
    import pyarrow.parquet as pq

    users, codes, sequences = features()
    moment = pa.array([int(time.time() - 60) * 1_000_000] * USERS, pa.timestamp("us", tz="UTC"))
    repo = folder / "feast"
    repo.mkdir()
    table = {
        "user_id": users,
        "codes": pa.array(codes, pa.list_(pa.int32())),
        "sequence": sequences,
    }
    pq.write_table(pa.table(table | {"event_timestamp": moment}), repo / "features.parquet")
    (repo / "feature_store.yaml").write_text(FEAST_CONFIG.format(port=redis_port))
    (repo / "views.py").write_text(FEAST_VIEWS.format(table=repo / "features.parquet"))
    feast = str(bin_folder / "feast")
    env = os.environ | {"FEAST_USAGE": "False", "PYTHONPATH": ""}
    for words in (["apply"], ["materialize", "2020-01-01T00:00:00", "2100-01-01T00:00:00"]):
        subprocess.run([feast, *words], cwd=repo, check=True, env=env, stdout=subprocess.DEVNULL)
    words = [feast, "serve", "-h", "127.0.0.1", "-p", str(port), "--no-access-log"]
    words += ["--max-requests", "1000000", "--keep-alive-timeout", "60"]  # no restart in between
    return subprocess.Popen(words, cwd=repo, env=env, stdout=subprocess.DEVNULL)


def ways(port, key, feast_port):
    users = features()[0]
    one = [[user] for user in users]
    hundred = [users[start : start + 100] for start in range(0, USERS, 100)]
    made = {"noop": Way("noop", port, "GET", "/healthz", key=key)}
    for name, asked in (("1", one), ("100", hundred)):
        ours = [{"user_ids": ids} for ids in asked]
        made[f"taiji {name}"] = Way(f"taiji {name}", port, "POST", "/v1/features", ours, key)
        if feast_port:
            names = ["taiji:codes", "taiji:sequence"]
            theirs = [{"features": names, "entities": {"user_id": ids}} for ids in asked]
            path = "/get-online-features"
            made[f"feast {name}"] = Way(f"feast {name}", feast_port, "POST", path, theirs)
    return made


async def compare(made, client, seconds, rounds):
    rates = {name: [] for name in made}
    tails = {name: [] for name in made}
    operations = []
    for _ in range(rounds):
        for name, way in made.items():
            before = commands(client)
            rate, asked = await capacity(way, seconds)
            rates[name].append(rate)
            if name.startswith("taiji"):
                operations.append((commands(client) - before) / asked)
        slowest = {n: min(rates[w][-1] for w in made if w.endswith(n)) for n in ("1", "100")}
        for name, way in made.items():
            rate = 0.5 * slowest.get(name.rpartition(" ")[2], rates[name][-1])
            tails[name].append(await latencies(way, max(5.0, rate), seconds))
    return rates, tails, statistics.median(operations)


def report(rates, tails, operations, memory, feast):
    def ratio(a, b):
        pairs = [x / y for x, y in zip(rates[a], rates[b], strict=True)]
        return statistics.median(pairs)

    print(f"{'way':10} {'requests/s':>12} {'spread':>14} {'p50 ms':>8} {'p99 ms':>8}")
    for name, found in rates.items():
        p50, p99 = np.median(np.array(tails[name]), axis=0) * 1000
        spread = f"{min(found):.0f}-{max(found):.0f}"
        print(f"{name:10} {statistics.median(found):12.0f} {spread:>14} {p50:8.2f} {p99:8.2f}")
    told = {
        "over_noop": ratio("taiji 1", "noop"),
        "over_noop_100": ratio("taiji 100", "noop"),
        "over_feast": ratio("taiji 1", "feast 1") if feast else None,
        "over_feast_100": ratio("taiji 100", "feast 100") if feast else None,
        "store_ops_per_request": operations,
        "bytes_per_user": memory,
    }
    print(json.dumps({k: v if v is None else round(v, 3) for k, v in told.items()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--feast", type=Path, help="bin folder of Feast's environment")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]))
        return
    folder = Path(tempfile.mkdtemp(prefix="taiji-service-"))
    os.environ["TAIJI_PSEUDONYM_KEY"] = "a key for a benchmark alone"
    redis_port, port, feast_port = free_port(), free_port(), free_port()
    os.environ["TAIJI_REDIS_URL"] = f"redis://127.0.0.1:{redis_port}/0"
    words = ["redis-server", "--port", str(redis_port), "--save", "", "--dir", str(folder)]
    processes = [subprocess.Popen(words, stdout=subprocess.DEVNULL)]
    try:
        wait_for(redis_port)
        run = make_run(folder)
        memory = fill(run)
        key = add_key(run.state / FILE, "bench", ("read",))
        server = [sys.executable, __file__, "--serve", str(folder), str(port)]
        processes.append(subprocess.Popen(server))
        if options.feast:
            processes.append(start_feast(options.feast, folder, redis_port, feast_port))
            wait_for(feast_port)
        wait_for(port)
        made = ways(port, key, feast_port if options.feast else None)
        client = redis.Redis(port=redis_port)
        found = asyncio.run(compare(made, client, options.seconds, options.rounds))
        report(*found, memory, options.feast)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
