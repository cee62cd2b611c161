"""Erasing a user: no byte is left, others borrow nothing of theirs, nothing brings them back."""

import asyncio
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rows import KilledError
from typer.testing import CliRunner

from taiji.cli import app
from taiji.errors import ConfigError, MissingArtifactError
from taiji.runner import State, status
from taiji.serving.admission import Admission, Sent
from taiji.serving.blobs import unpack_blob
from taiji.serving.forget import forget, is_genuine
from taiji.serving.forget_run import _words_without
from taiji.serving.parts import open_parts
from taiji.serving.publication import publish
from taiji.serving.run import open_any_run, open_run
from taiji.stages.construct import construct
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.erased import FILE
from taiji.store.run_directory import RunDirectory

pytestmark = pytest.mark.service


@pytest.fixture
def run(served, tmp_path):
    """A copy of the run, published, with events in log and queue."""
    shutil.copytree(served.root, tmp_path / "runs" / "tiny")
    return open_run(tmp_path / "runs" / "tiny")


@pytest.fixture
def canary(run):
    """A user who lends to others."""
    table = pq.read_table(run.features / "features.parquet")
    return table.filter(np.asarray(table["split"]) == "rank_test")["neighbour_user_id"][0].as_py()


def start(run, served, canary):
    parts = open_parts(run)
    publish(run, parts.state)
    scratch = run.state / ".admission"
    admission = Admission(run.recipe.data, run.construct / "items.parquet", scratch)
    rows = [row for row in served.events if row["customer"] == canary][:20] + served.events[:20]
    rows[:0] = [served.events[0] | {"customer": canary}]
    events, _ = admission.judge([Sent("interactions", row, f"e{n}") for n, row in enumerate(rows)])
    admission.close()
    parts.log.append(events[::2])
    parts.bus.publish([event.pack() for event in events[1::2]])
    return parts


def holds(folder: Path, word: str) -> list[str]:
    """Files that hold a word, packed or not."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            held = word.encode() in path.read_bytes()
            if path.suffix == ".parquet":
                held |= word in str(pq.read_table(path).to_pylist())
            if held:
                found.append(str(path.relative_to(folder)))
    return found


def test_no_byte_of_the_user_is_left_and_the_run_stands_as_it_stood(run, served, canary):
    parts = start(run, served, canary)
    directory = RunDirectory(run.root)
    before = dict(status(run.recipe, directory))
    (run.root / "calls").mkdir()
    (run.root / "calls" / "1.jsonl").write_text(canary)
    assert len(holds(run.state.parent, canary)) >= 8
    receipt = forget(canary, parts)
    assert holds(run.state.parent, canary) == []
    assert holds(run.state.parent, f"note {canary}") == []
    after = dict(status(run.recipe, RunDirectory(run.root)))
    assert {s.name: v for s, v in after.items()} == {s.name: v for s, v in before.items()}
    for stage, state in after.items():
        if state is State.CURRENT:
            RunDirectory(run.root).verify(stage.name)
    told = json.loads(receipt.read_text())
    assert told["online"]["events"] > 0
    assert told["runs"]["tiny"]["rows"]["construct/interactions.parquet"] > 0
    assert told["runs"]["tiny"]["models_trained_on_them"]
    assert is_genuine(receipt, parts)
    receipt.write_text(receipt.read_text().replace('"events"', '"nothing"'))
    assert not is_genuine(receipt, parts)
    parts.close()


def test_nobody_borrows_from_the_user_any_more(run, served, canary):
    parts = start(run, served, canary)
    borrowers = borrowing_from(run, canary, splits=["rank_test"])  # whom the store serves
    assert borrowers
    forget(canary, parts)
    assert borrowing_from(run, canary) == []
    names = [parts.names.of(user) for user in [*borrowers, canary]]
    *others, own = asyncio.run(parts.store.read(names)).blobs
    assert unpack_blob(own).erased
    assert all(not unpack_blob(blob).items for blob in others)
    table = pq.read_table(run.features / "features.parquet")
    assert len(np.load(run.features / "embeddings.npy")) == table.num_rows
    parts.close()


def borrowing_from(run, user, splits=("rank_train", "rank_test")):
    table = pq.read_table(run.features / "features.parquet")
    mask = (np.asarray(table["neighbour_user_id"]) == user) & np.isin(table["split"], splits)
    return sorted(set(table.filter(mask)["user_id"].to_pylist()))


def test_neither_events_nor_the_log_bring_the_user_back(run, served, canary, tmp_path):
    parts = start(run, served, canary)
    forget(canary, parts)
    out = run.root / "construct.again"
    out.mkdir()
    construct(StageContext(served.whole, out, {}, lambda *_: None))
    assert canary not in pq.read_table(out / "users.parquet")["user_id"].to_pylist()
    assert holds(out, canary) == []
    parts.close()


def test_forgetting_twice_is_forgetting_once(run, served, canary):
    parts = start(run, served, canary)
    receipt = forget(canary, parts)
    first, state = receipt.read_text(), content(run.root)
    assert forget(canary, parts) == receipt
    assert receipt.read_text() == first
    assert content(run.root) == state
    assert forget("a stranger", parts).is_file()
    parts.close()


@pytest.mark.parametrize(
    "at", [3, 15, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 6, 10, 21))]
)
def test_killed_at_any_point_and_repeated_it_ends_the_same(run, served, canary, at, monkeypatch):
    twin = run.root.parent.parent / "twin" / "runs" / "tiny"
    shutil.copytree(run.root, twin)
    other = start(open_run(twin), served, canary)
    forget(canary, other)
    other.close()
    parts = start(run, served, canary)
    calls = 0
    real = Path.rename, Path.replace

    def counted(which):
        def rename(self, target):
            nonlocal calls
            calls += 1
            if calls == at:
                raise KilledError
            return real[which](self, target)

        return rename

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted(0))
        patch.setattr(Path, "replace", counted(1))
        with pytest.raises(KilledError):
            forget(canary, parts)
    forget(canary, parts)
    assert holds(run.state.parent, canary) == []
    assert content(run.root) == content(twin)
    parts.close()


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_ends_the_same(run, served, canary):
    twin = run.root.parent.parent / "twin" / "runs" / "tiny"
    shutil.copytree(run.root, twin)
    other = start(open_run(twin), served, canary)
    forget(canary, other)
    other.close()
    start(run, served, canary).close()
    words = [sys.executable, "-m", "taiji.cli", "forget", canary, "--run", str(run.root)]
    draw, num_killed = random.Random(5), 0
    for _ in range(20):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        while process.poll() is None and not any((run.state / FILE).parent.glob(f"{FILE}-wal")):
            time.sleep(0.005)  # until it has begun
        try:
            process.wait(draw.uniform(0, 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            num_killed += 1
        if process.wait() == 0:
            break
    assert process.returncode == 0 or subprocess.run(words, check=False).returncode == 0
    assert num_killed
    assert holds(run.state.parent, canary) == []
    assert content(run.root) == content(twin)


def test_redis_and_the_files_of_before_hold_no_byte_of_the_user(
    run, served, canary, redis_process, redis_server, monkeypatch
):
    before = start(run, served, canary)  # the service began with files
    before.close()
    monkeypatch.setenv("TAIJI_REDIS_URL", redis_process.url)
    parts = start(open_run(run.root, ["serve.backend=redis"]), served, canary)
    assert holds(redis_process.folder, canary)  # in messages; records have hashes
    assert holds(run.state, canary) == ["log.sqlite", "queue.sqlite"]
    receipt = forget(canary, parts)
    assert holds(redis_process.folder, canary) == []
    assert holds(run.state.parent, canary) == []
    assert json.loads(receipt.read_text())["online"]["messages"] >= 2  # of both queues
    (own,) = asyncio.run(parts.store.read([parts.names.of(canary)])).blobs
    assert unpack_blob(own).erased
    for version in parts.store.versions().described:
        lenders = {unpack_blob(record.blob).lender for record in parts.store.scan(version)}
        assert parts.names.of(canary) not in lenders
    parts.close()


def test_the_command_needs_a_user_alone_and_means_all_runs_of_the_folder(
    run, served, canary, monkeypatch
):
    start(run, served, canary).close()
    shutil.copytree(run.root, run.root.with_name("second"))
    monkeypatch.chdir(run.root.parent.parent)
    done = CliRunner().invoke(app, ["forget", canary])
    assert done.exit_code == 0, done.output
    assert "receipt" in done.output
    assert holds(run.state.parent, canary) == []


def test_runs_that_disagree_on_where_features_are_are_asked_about(run):
    second = run.root.with_name("second")
    shutil.copytree(run.root, second)
    path = second / "recipe.resolved.yaml"
    path.write_text(path.read_text().replace("backend: sqlite", "backend: redis"))
    with pytest.raises(ConfigError, match="name with --run the one"):
        open_any_run(run.root.parent)
    assert open_any_run(run.root.parent, ["serve.backend=redis"]).recipe.serve.backend == "redis"
    with pytest.raises(MissingArtifactError, match="no run here"):
        open_any_run(run.root / "construct")


def content(root):
    """What a run holds, without the moments at which it was written."""
    held = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not path.is_file() or name in (".lock", ".digests.json", "lineage.json"):
            continue
        held[name] = path.read_bytes()
    return held


def test_a_name_in_a_vocabulary_loses_its_letters_and_keeps_its_place(tmp_path):
    source = tmp_path / "ranker.json"
    source.write_text(json.dumps({"fields": {"note": ["a", "canary", "b"]}, "seen": {"canary": 2}}))
    assert _words_without(source, tmp_path / "new.json", frozenset({"canary"})) == 2
    told = json.loads((tmp_path / "new.json").read_text())
    assert told["fields"]["note"][0::2] == ["a", "b"]
    assert len(told["fields"]["note"]) == 3
    assert "canary" not in (tmp_path / "new.json").read_text()
