"""What the server counts, and how Prometheus is told of it. No user, item or key is a label."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_SERVED = 8192

Gauges = Callable[[], Mapping[str, float]]


class Ages:
    """Ages of the features served last, for their quantiles."""

    def __init__(self) -> None:
        self._ages = np.full(_SERVED, np.nan, dtype=np.float64)
        self._next = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self._ages[self._next % _SERVED] = seconds
        self._next += 1

    def quantiles(self) -> dict[str, float]:
        """The median and the 99th percentile, or nothing if none was served."""
        known = self._ages[: min(self._next, _SERVED)]
        if not known.size:
            return {}
        p50, p99 = np.percentile(known, [50, 99])
        return {"0.5": float(p50), "0.99": float(p99)}


@dataclass(frozen=True)
class Refusals:
    """Counts events by what was said of them."""

    counter: Counter

    def note(self, verdict: str, number: int = 1) -> None:
        """`taken`, or the code of a rule."""
        self.counter.labels(verdict).inc(number)


class Metrics:
    """All figures of one server.

    Args:
        routes: Paths that may be a label; every other one is `other`.
        gauges: Says how things stand, when asked; empty if it cannot.
        totals: Says what the workers have counted.
    """

    def __init__(self, routes: frozenset[str], gauges: Gauges, totals: Gauges) -> None:
        self.registry = CollectorRegistry()
        self.ages = Ages()
        self._routes = routes
        self._requests = Counter(
            "taiji_requests", "Requests.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "taiji_request_seconds",
            "Seconds of a request.",
            ["route"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self.registry,
        )
        self.store_operations = Counter(
            "taiji_store_operations", "Round trips to the store for reads.", registry=self.registry
        )
        self.served = Counter(
            "taiji_users_served", "Users by status.", ["status"], registry=self.registry
        )
        events = Counter(
            "taiji_events_received", "Events by verdict.", ["verdict"], registry=self.registry
        )
        self.events = Refusals(events)
        self.registry.register(_Standing(self.ages, gauges, totals))

    def observe(self, path: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        route = path if path in self._routes else "other"
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self.registry)


class _Standing(Collector):
    """How things stand when Prometheus asks, and what workers have counted in the log."""

    def __init__(self, ages: Ages, gauges: Gauges, totals: Gauges) -> None:
        self._ages, self._gauges, self._totals = ages, gauges, totals

    def collect(self) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            "taiji_features_age_seconds", "Of the features served last.", labels=["quantile"]
        )
        for quantile, seconds in self._ages.quantiles().items():
            age.add_metric([quantile], seconds)
        yield age
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"taiji_{name}", "See docs/serving.md.", value=value)
        counted = CounterMetricFamily(
            "taiji_worker", "What the workers have done, see docs/serving.md.", labels=["what"]
        )
        for name, value in self._totals().items():
            counted.add_metric([name], value)
        yield counted
