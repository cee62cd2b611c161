"""The arithmetic and the two simulations of benchmarks/service_plan.py, by hand."""

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("service_plan")


@pytest.mark.parametrize(
    ("moments", "number"),
    [
        ([], 0),
        ([5], 1),
        (range(0, 60, 3), 1),  # 20 events in a minute
        ([0, 19, 38], 1),
        ([0, 21], 2),  # quiet for 20 s in between
        (range(0, 121, 10), 3),  # never quiet: due at 60 and 120, and 120 begins the third
    ],
)
def test_generations_follow_the_rule_of_the_log(study, moments, number):
    assert study.generations(moments, 20, 60) == number


def test_once_a_visit_is_once_a_visit(study):
    assert study.generations_per_visit(study.Assumed(), 1800, 86_400, num_visits=500) == 1.0


def test_waits_at_half_load_are_those_of_the_theory(study):
    # M/D/1 at half load: P(wait > t) = .661 exp(-1.256 t) for large t, so p99 = 3.34 services.
    assert study.wait_p99(1.0, 0.5) == pytest.approx(3.34, abs=0.2)
    assert study.wait_p99(1.0, 0.01) < 1.0


def test_a_plan_by_hand(study):
    measured = study.Measured(bytes_per_user=1024, requests_per_core=1000)
    assumed = study.Assumed(
        tokens_per_generation=10,
        active_share=0.5,
        visits=2,
        events=4,
        peak=2,
        load=0.5,
        shard_gib=1,
        fill=0.5,
        copies=2,
        tokens_per_second=100,
    )
    made = study.plan(86_400 * 1024, 10_000, measured, assumed, per_visit=1.5)
    assert made.memory_gib == 2 * 86_400 / 1024  # GiB of one copy: 86,400 x 1 KiB x 1,024 users
    assert made.shards == 2 * 169  # 84.375 GiB at half a GiB each, and once more
    assert made.cores == 20
    visits = 1024 * 0.5 * 2 * 2  # a second, at the peak
    assert made.events_per_second == visits * 4
    assert made.generations_per_second == visits * 1.5
    assert made.tokens_per_second == visits * 1.5 * 10
    assert made.gpus == np.ceil(visits * 15 / 50)
