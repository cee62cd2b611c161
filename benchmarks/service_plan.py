"""What 400 million users and 10,000 requests a second would take of the near-online service.

    python benchmarks/service_plan.py [--users 400e6] [--requests 10000] [--tokens-per-second 10000]

Three kinds of numbers, kept apart: *measured* ones, from `benchmarks/service.py` and from a run,
for one core of the machine that the docs name; *assumed* ones, which nobody here can measure and
which are printed with the result; and *simulated* ones: how many generations a visit makes under
the rule by which events of a user are gathered, and how long a request waits at a server for
others. Nothing is added for what was not measured: networks, a fan-out over shards, failures in the
night.
"""

import argparse
from dataclasses import dataclass, fields, replace
from math import ceil

import numpy as np

DAY = 86_400


@dataclass(frozen=True)
class Measured:
    """Of one core.

    Attributes:
        bytes_per_user: Redis's memory for one record with its key.
        requests_per_core: Of one user each, on the core of one server process.
    """

    bytes_per_user: float = 1744.0
    requests_per_core: float = 728.0


@dataclass(frozen=True)
class Assumed:
    """What a platform would have to say of itself.

    Attributes:
        active_share: Of the users, on one day.
        visits: Of an active user, on one day.
        events: Of one visit; the number is geometric.
        gap_seconds: Mean time between the events of a visit; exponential.
        peak: Load of the busiest hour over the mean.
        load: Share of a core or of a GPU that is used at the peak.
        shard_gib: Memory of one Redis process.
        fill: Share of it that records may take.
        copies: Of each record: a primary and its replicas.
        tokens_per_generation: Prompt and reply together; 260 + 96 are the demo's limits.
        tokens_per_second: Of one GPU with many requests at once, prompts and replies together.
    """

    active_share: float = 0.3
    visits: float = 3.0
    events: float = 20.0
    gap_seconds: float = 20.0
    peak: float = 2.5
    load: float = 0.5
    shard_gib: float = 32.0
    fill: float = 0.6
    copies: int = 2
    tokens_per_generation: float = 356.0
    tokens_per_second: float = 10_000.0


@dataclass(frozen=True)
class Plan:
    """What it takes.

    Attributes:
        generations_per_second: At the peak.
        wait_ms: p99 of a request's wait for others at its server.
    """

    memory_gib: float
    shards: int
    cores: int
    wait_ms: float
    events_per_second: float
    generations_per_second: float
    tokens_per_second: float
    gpus: int


def generations(moments, debounce, max_delay):
    """How often a user is written about whose events come at these moments, without any queue.

    The rule of `EventLog.claim`: `debounce` seconds after the last event, but no later than
    `max_delay` seconds after the first one that was not known yet.
    """
    number, first, due = 0, None, None
    for moment in moments:
        if due is not None and moment >= due:
            number, first = number + 1, None
        if first is None:
            first = moment
        due = min(moment + debounce, first + max_delay)
    return number + (due is not None)


def generations_per_visit(assumed, debounce, max_delay, *, num_visits=20_000, seed=17):
    """The mean over simulated visits."""
    draw = np.random.default_rng(seed)
    lengths = draw.geometric(1 / assumed.events, num_visits)
    visits = (np.cumsum(draw.exponential(assumed.gap_seconds, length)) for length in lengths)
    return float(np.mean([generations(visit, debounce, max_delay) for visit in visits]))


def wait_p99(service_seconds, load, *, num_requests=200_000, seed=17):
    """p99 of the wait at one server to which requests come at random (Lindley's recursion).

    Args:
        service_seconds: Of each request.
        load: Share of the time in which the server works.
    """
    draw = np.random.default_rng(seed)
    gaps = draw.exponential(service_seconds / load, num_requests)
    waits, wait = np.empty(num_requests), 0.0
    for number, gap in enumerate(gaps):
        waits[number] = wait
        wait = max(0.0, wait + service_seconds - gap)
    return float(np.percentile(waits, 99))


def plan(users, requests, measured, assumed, per_visit):
    """Multiply out.

    Args:
        requests: A second, at the peak, of one user each.
        per_visit: Generations of one visit.
    """
    memory = users * measured.bytes_per_user / 2**30
    visits = users * assumed.active_share * assumed.visits / DAY * assumed.peak
    written = visits * per_visit
    tokens = written * assumed.tokens_per_generation
    return Plan(
        memory_gib=memory * assumed.copies,
        shards=ceil(memory / (assumed.shard_gib * assumed.fill)) * assumed.copies,
        cores=ceil(requests / (measured.requests_per_core * assumed.load)),
        wait_ms=1000 * wait_p99(1 / measured.requests_per_core, assumed.load),
        events_per_second=visits * assumed.events,
        generations_per_second=written,
        tokens_per_second=tokens,
        gpus=ceil(tokens / (assumed.tokens_per_second * assumed.load)),
    )


WAYS = (
    ("20 s of quiet, at most 60 s (defaults)", 20, 60),
    ("2 min of quiet, at most 10 min", 120, 600),
    ("once a visit", 1800, DAY),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=float, default=400e6)
    parser.add_argument("--requests", type=float, default=10_000.0)
    known = (Measured(), Assumed())
    for defaults in known:
        for field in fields(defaults):
            name = f"--{field.name.replace('_', '-')}"
            value = getattr(defaults, field.name)
            parser.add_argument(name, type=type(value), default=value)
    options = vars(parser.parse_args())
    measured, assumed = (
        replace(one, **{field.name: options[field.name] for field in fields(one)}) for one in known
    )
    print(measured, assumed, sep="\n")
    made = []
    for words, debounce, max_delay in WAYS:
        per_visit = generations_per_visit(assumed, debounce, max_delay)
        took = plan(options["users"], options["requests"], measured, assumed, per_visit)
        made.append((words, per_visit, took))
    first = made[0][2]
    print(f"records: {first.memory_gib:,.0f} GiB in {first.shards} Redis processes")
    print(f"requests: {first.cores} cores, p99 of the wait for others {first.wait_ms:.1f} ms")
    print(f"events: {first.events_per_second:,.0f} a second")
    print(f"\n{'a user is written about':42} {'a visit':>8} {'a second':>10} {'tokens/s':>12} GPUs")
    for words, per_visit, one in made:
        told = f"{per_visit:8.2f} {one.generations_per_second:10,.0f}"
        print(f"{words:42} {told} {one.tokens_per_second:12,.0f} {one.gpus:,}")


if __name__ == "__main__":
    main()
