"""Processes under torch's launcher: how they end, and that none is left. No model is loaded."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from taiji.config import TrainingCompute
from taiji.errors import ConfigError, DataError, EngineError
from taiji.training.launcher import Launch

pytestmark = pytest.mark.slow  # torch is imported in each process

HERE = Path(__file__).parent
TWO = TrainingCompute(processes=2)


@pytest.fixture(autouse=True)
def path(monkeypatch):
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def launch(folder, on_progress=lambda *_: None, **job):
    return Launch("launched", job, folder, TWO).run(on_progress)


def pids(folder):
    """Of both processes, once they have begun."""
    paths = [folder / f"pid-{rank}" for rank in range(2)]
    until = time.monotonic() + 60
    while not all(path.is_file() and path.read_text() for path in paths):
        assert time.monotonic() < until
        time.sleep(0.05)
    return [int(path.read_text()) for path in paths]


def runs(number):
    """Whether a process does anything; who has ended may wait for a parent to take note."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(*numbers, seconds=10):
    until = time.monotonic() + seconds
    while any(map(runs, numbers)):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_the_first_process_is_heard_and_its_summary_comes_back(tmp_path, caplog):
    heard = []
    summary = launch(tmp_path / "l", lambda *told: heard.append(told), do="well")
    assert summary["processes"] == 2
    assert int(summary["threads"]) >= 1
    assert heard == [(1, 2, "steps")]
    assert "mind the gap" in caplog.text


def test_an_error_of_ours_comes_back_as_itself(tmp_path):
    with pytest.raises(DataError, match=r"^nothing to train on$"):
        launch(tmp_path / "first", do="refuse", rank=0)
    with pytest.raises(DataError, match=r"^process 1 of 2: nothing to train on$"):
        launch(tmp_path / "second", do="refuse", rank=1)
    assert gone(*pids(tmp_path / "second"))


def test_a_bug_shows_its_last_lines_and_whose_they_are(tmp_path):
    with pytest.raises(EngineError, match=r"process 1 of 2 ended with 1") as caught:
        launch(tmp_path / "l", do="crash", rank=1)
    assert "RuntimeError: the roof is [31mon fire" in str(caught.value)
    assert gone(*pids(tmp_path / "l"))


def test_a_dead_process_ends_all(tmp_path):
    with pytest.raises(EngineError, match=r"process 1 of 2 was ended by SIGKILL; the same command"):
        launch(tmp_path / "l", do="vanish", rank=1)
    assert gone(*pids(tmp_path / "l"))


def started(folder):
    """A process of its own that waits for two others, which sleep."""
    return subprocess.Popen([sys.executable, __file__, str(folder)], stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whatever_ends_the_command_ends_all(tmp_path, number):
    command = started(tmp_path / "l")
    ours = pids(tmp_path / "l")
    launcher = psutil.Process(ours[0]).ppid()
    command.send_signal(number)
    command.wait(30)
    command.stderr.close()
    assert gone(*ours, launcher)


def test_the_death_of_the_launcher_is_said_and_leaves_nothing(tmp_path):
    command = started(tmp_path / "l")
    ours = pids(tmp_path / "l")
    os.kill(psutil.Process(ours[0]).ppid(), signal.SIGKILL)
    _, said = command.communicate(timeout=30)
    assert b"EngineError: the launcher of 2 processes was ended by SIGKILL" in said
    assert gone(*ours)


def test_an_option_that_torchrun_does_not_have_is_told(tmp_path):
    wrong = TrainingCompute(processes=2, launcher={"no-such-option": 1})
    with pytest.raises((EngineError, ConfigError), match="no-such-option"):
        Launch("launched", {"do": "well"}, tmp_path / "l", wrong).run(lambda *_: None)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    launch(Path(sys.argv[1]), do="sleep")
