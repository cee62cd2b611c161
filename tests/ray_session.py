"""One small Ray cluster of this machine, and no trace of it afterwards."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from taiji.config import RayCompute
from taiji.language.workers import _cluster

RAY = RayCompute(kind="ray", workers=2)


@contextmanager
def session() -> Iterator[object]:
    pytest.importorskip("ray")
    with _cluster(RAY) as ray:
        yield ray
    with warnings.catch_warnings():  # Ray forgets its daemons, which are gone, without a wait
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
