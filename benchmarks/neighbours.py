"""The nearest other user: queries a second, recall and memory of each search, and of the codes.

    python benchmarks/neighbours.py --sizes 100000
    python benchmarks/neighbours.py --sizes 1000000 --queries 1000 --searches ivf

Vectors are clustered unit vectors of 384 dimensions in which 48 directions matter, as those of a
sentence encoder are. One thread; times are CPU seconds. All searches answer the same sample of
users; recall is against the exact one, which is slow for fewer than a thousand at once. Building
the graph of `hnsw` for a million users takes a quarter of an hour or more. Prints a table for each
size and one for 400 million users, extrapolated from the largest; the last line is JSON about the
largest size.
"""

import argparse
import json
import math
import time

import faiss
import numpy as np

from taiji.config import FeaturesSection
from taiji.ranking.neighbours import (
    GRAPH_EFFORT,
    GRAPH_LINKS,
    PROBED_CELLS,
    build_index,
    search_others,
)
from taiji.ranking.quantise import train_codebook

DIMENSION, LATENT, CENTRES = 384, 48, 2000
SEARCHES = ("exact", "ivf", "hnsw")
CODES = FeaturesSection(sub_vectors=8, bits=8)  # as in recipes/paper.yaml
TRAINED_ON = 20_000
SAME_COSINE = 1e-5

ALL_USERS = 400_000_000
RAM_GIB, USABLE, CORES = 512, 0.8, 64
ASSUMED = f"""\
Assumed: machines of {RAM_GIB} GiB, {USABLE:.0%} of it for the index, with {CORES} cores as fast as
this one and not slowed by one another. The vectors themselves, {{:,.0f}} GiB, lie in files beside
it. Users are dealt to the machines at random, a query goes to all of them and the best answer wins.
Among the N users of a machine a query takes time in proportion to N (exact), to sqrt(N) (ivf:
{PROBED_CELLS} of 2 sqrt(N) cells), at best to log N (hnsw: {GRAPH_LINKS} links, effort
{GRAPH_EFFORT}). Recall at that size is not known: the stage measures it on a sample."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=SEARCHES)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    for size in arguments.sizes:
        searches = dict.fromkeys(("exact", *arguments.searches))  # recall is against exact
        figures = measure(size, arguments.queries, tuple(searches))
        print_size(size, figures)
    print_extrapolation(size, figures)
    print(json.dumps(summary(size, figures)))


def vectors(size: int) -> np.ndarray:
    random = np.random.default_rng(17)
    centres = random.normal(size=(CENTRES, LATENT)).astype(np.float32)
    into = random.normal(size=(LATENT, DIMENSION)).astype(np.float32) / math.sqrt(LATENT)
    out = np.empty((size, DIMENSION), dtype=np.float32)
    for start in range(0, size, 100_000):
        rows = out[start : start + 100_000]
        latent = centres[random.integers(CENTRES, size=len(rows))]
        latent = latent + 0.6 * random.normal(size=latent.shape).astype(np.float32)
        rows[:] = latent @ into + 0.15 * random.normal(size=rows.shape).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return out


def measure(size: int, num_queries: int, searches: tuple[str, ...]) -> dict:
    users_ND = vectors(size)
    users = np.arange(size)
    queries = np.random.default_rng(0).choice(size, size=min(num_queries, size), replace=False)
    figures: dict[str, dict] = {}
    for search in searches:
        began = time.process_time()
        index = build_index(users_ND, search)
        built = time.process_time()
        found = search_others(index, users_ND, users, queries)
        ended = time.process_time()
        if search == "exact":
            best = found.similarity
        figures[search] = {
            "build_seconds": built - began,
            "queries_per_second": len(queries) / (ended - built),
            "recall": float((found.similarity >= best - SAME_COSINE).mean()),
            "bytes_per_user": num_bytes(index) / size,
        }
        del index
    return figures | {"codes": measure_codes(users_ND)}


def measure_codes(users_ND: np.ndarray) -> dict:
    """The quantiser of the features: not an index, but what each user costs as a feature."""
    began = time.process_time()
    codebook = train_codebook(users_ND[:TRAINED_ON], CODES, seed=17)
    trained = time.process_time()
    codebook.compute_codes(users_ND[:TRAINED_ON])
    return {
        "build_seconds": trained - began,
        "users_per_second": len(users_ND[:TRAINED_ON]) / (time.process_time() - trained),
        "reconstruction_error": codebook.reconstruction_error(users_ND[-TRAINED_ON:]),
        "bytes_per_user": codebook.quantiser.sa_code_size(),
    }


def num_bytes(index: faiss.Index) -> int:
    """What the index would take as a file, which is what it takes in memory; nothing is kept."""
    counted = 0

    def count(chunk: bytes) -> int:
        nonlocal counted
        counted += len(chunk)
        return len(chunk)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))
    return counted


def print_size(size: int, figures: dict) -> None:
    print(f"\n{size:,} users, {DIMENSION} dimensions, one thread")
    print(f"{'search':8} {'built, CPU s':>13} {'queries/CPU s':>14} {'recall@1':>9} {'B/user':>8}")
    for search in (name for name in figures if name != "codes"):
        row = figures[search]
        print(
            f"{search:8} {row['build_seconds']:13.1f} {row['queries_per_second']:14,.0f} "
            f"{row['recall']:9.3f} {row['bytes_per_user']:8,.0f}"
        )
    codes = figures["codes"]
    print(
        f"codes    {codes['build_seconds']:13.1f} {codes['users_per_second']:14,.0f} "
        f"{'':9} {codes['bytes_per_user']:8,.0f}   (M = {CODES.sub_vectors} of {CODES.bits} bits, "
        f"error on others {codes['reconstruction_error']:.3f}; users coded a CPU second)"
    )


def print_extrapolation(size: int, figures: dict) -> None:
    print(f"\n{ALL_USERS:,} users, extrapolated from {size:,}")
    print(
        f"{'search':8} {'index':>9} {'machines':>9} {'core hours, everybody once':>27} {'days':>7}"
    )
    for search in (name for name in figures if name != "codes"):
        row = figures[search]
        gib = ALL_USERS * row["bytes_per_user"] / 2**30
        machines = math.ceil(gib / (RAM_GIB * USABLE))
        seconds = growth(search, ALL_USERS / machines, size) / row["queries_per_second"]
        hours = ALL_USERS * machines * seconds / 3600
        days = hours / (machines * CORES) / 24
        print(f"{search:8} {gib:6,.0f} GiB {machines:9} {hours:27,.0f} {days:7.1f}")
    gib = ALL_USERS * figures["codes"]["bytes_per_user"] / 2**30
    print(f"codes    {gib:6.1f} GiB")
    vectors_gib = ALL_USERS * DIMENSION * 4 / 2**30
    print(ASSUMED.format(vectors_gib))


def growth(search: str, users: float, measured: int) -> float:
    """How much longer a query takes among `users` than among `measured`."""
    match search:
        case "exact":
            return users / measured
        case "ivf":
            return math.sqrt(users / measured)
        case _:
            return math.log(users) / math.log(measured)


def summary(size: int, figures: dict) -> dict:
    exact = figures["exact"]["queries_per_second"]
    told = {"users": size, "code_bytes_per_user": figures["codes"]["bytes_per_user"]}
    for search in (name for name in figures if name != "codes"):
        row = figures[search]
        told |= {
            f"{search}_queries_per_second": row["queries_per_second"],
            f"{search}_recall": row["recall"],
            f"{search}_bytes_per_user": row["bytes_per_user"],
        }
        if search != "exact":
            told[f"{search}_speedup"] = row["queries_per_second"] / exact
    return {name: round(value, 4) for name, value in told.items()}


if __name__ == "__main__":
    main()
