import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ray_session import RAY, session

from taiji.config import LocalCompute, RayCompute
from taiji.errors import ConfigError, DataError, EngineError
from taiji.language.encode import encode_texts
from taiji.language.workers import work


def doubling(log: Path):
    """A worker that writes down who did what, and whom pieces can kill or upset."""
    (log / f"built-{os.getpid()}").touch()

    def worker(piece, note):
        note(1, 2)
        if piece == "die once" and not (log / "died").exists():
            (log / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if piece == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if piece == "upset":
            raise DataError("piece: upset: calm it")
        if piece == "bug":
            raise KeyError("a bug")
        time.sleep(0.05)
        return f"{piece} {piece}"

    return worker


PIECES = {number: f"p{number}" for number in (5, 3, 8, 1, 9, 7)}
DOUBLED = {number: f"{piece} {piece}" for number, piece in PIECES.items()}


def test_here_one_worker_does_all_pieces_and_says_how_far_it_is(tmp_path):
    noted = []
    results = work(LocalCompute(), partial(doubling, tmp_path), PIECES, lambda *n: noted.append(n))
    assert dict(results) == DOUBLED
    assert noted == [(number, 1) for number in PIECES]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("compute", [LocalCompute(), RAY])
def test_without_work_no_worker_is_made(tmp_path, compute):
    assert list(work(compute, partial(doubling, tmp_path), {})) == []
    assert not list(tmp_path.iterdir())


def test_without_ray_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'taiji-rec\[ray\]'"):
        list(work(RAY, partial(doubling, tmp_path), PIECES))


@pytest.mark.slow
def test_gpus_that_are_not_there_are_refused_instead_of_waited_for(tmp_path):
    pytest.importorskip("ray")
    compute = RayCompute(kind="ray", workers=2, gpus=99)
    with pytest.raises(ConfigError, match=r"compute\.gpus: 2 workers need 198 GPUs"):
        list(work(compute, partial(doubling, tmp_path), PIECES))


@pytest.mark.slow
@pytest.mark.parametrize("address", ["localhost:1", "auto"])
def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path, address):
    pytest.importorskip("ray")
    compute = RayCompute(kind="ray", address=address)
    with pytest.raises(ConfigError, match=rf"compute\.address: no Ray cluster at {address}"):
        list(work(compute, partial(doubling, tmp_path), PIECES))


class LengthEncoder:
    name, dimension = "lengths", 2

    def encode(self, texts):
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_texts_are_encoded_in_their_order_and_each_once():
    vectors = encode_texts(LocalCompute(), LengthEncoder, ["aa", "b", "aa", ""])
    assert vectors.tolist() == [[2, 1], [1, 1], [2, 1], [0, 1]]


@pytest.fixture(scope="class")
def ray_session():
    """One cluster for all tests of the class, to which this file is sent along."""
    here = sys.modules[__name__]
    with session() as ray:
        ray.cloudpickle.register_pickle_by_value(here)
        yield ray
        ray.cloudpickle.unregister_pickle_by_value(here)


@pytest.mark.slow
class TestInRay:
    def test_two_actors_give_what_one_process_gives(self, tmp_path, ray_session):
        assert dict(work(RAY, partial(doubling, tmp_path), PIECES)) == DOUBLED
        assert 1 <= len(list(tmp_path.iterdir())) <= 2

    def test_a_killed_actor_is_replaced_and_nothing_is_lost(self, tmp_path, ray_session):
        pieces = PIECES | {4: "die once"}
        results = list(work(RAY, partial(doubling, tmp_path), pieces))
        assert dict(results) == DOUBLED | {4: "die once die once"}
        assert len(results) == len(pieces)  # nothing twice
        assert (tmp_path / "died").exists()

    def test_work_that_always_kills_ends_in_a_message(self, tmp_path, ray_session):
        compute = RayCompute(kind="ray", workers=2, max_retries=1)
        with pytest.raises(EngineError, match=r"compute: 2 workers died over the same work"):
            list(work(compute, partial(doubling, tmp_path), {1: "die", 2: "p2"}))

    def test_errors_of_ours_arrive_as_they_were_and_bugs_as_bugs(self, tmp_path, ray_session):
        with pytest.raises(DataError, match="piece: upset: calm it"):
            list(work(RAY, partial(doubling, tmp_path), {1: "upset"}))
        with pytest.raises(Exception, match="a bug"):
            list(work(RAY, partial(doubling, tmp_path), {1: "bug"}))

    def test_an_actor_has_the_cores_that_the_recipe_says(self, tmp_path, ray_session):
        def build():
            return lambda piece, note: ray_session.get_runtime_context().get_assigned_resources()

        compute = RayCompute(kind="ray", workers=1, cpus=2)
        assert dict(work(compute, build, {1: ""}))[1]["CPU"] == 2

    def test_texts_are_encoded_in_their_order(self, ray_session):
        vectors = encode_texts(RAY, LengthEncoder, ["aa", "b", "aa"])
        assert vectors.tolist() == [[2, 1], [1, 1], [2, 1]]


@pytest.mark.slow
def test_a_cluster_of_our_own_is_gone_afterwards_and_signals_are_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with session() as ray:
        assert ray.is_initialized()
        assert signal.getsignal(signal.SIGTERM) == before
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
