"""The status of a run whose artifacts are gigabytes: nothing is read twice, and damage is found."""

import json
import os
import subprocess
import sys

import pytest
from test_runner import ALL, load, recipe, run

from taiji.config.loading import dump_recipe
from taiji.errors import DataError
from taiji.runner import State, status
from taiji.store import digests as known_digests
from taiji.store.run_directory import RunDirectory

LARGE = ("construct", "distill", "sft", "infer")


def with_large_files(size):
    """Each of four stages leaves one file of this size, with holes, so that it takes no disk."""

    def loader(name):
        def stage(ctx):
            summary = load(name)(ctx)
            if name in LARGE:
                with (ctx.out / "large.bin").open("wb") as stream:
                    stream.truncate(size)
            return summary

        return stage

    return loader


@pytest.fixture
def bytes_read(monkeypatch):
    """How many bytes were hashed since."""
    read = []
    digest = known_digests.digest_file
    monkeypatch.setattr(
        known_digests, "digest_file", lambda path: read.append(path.stat().st_size) or digest(path)
    )
    return read


def test_nothing_is_read_again_that_has_not_changed(tmp_path, monkeypatch, bytes_read):
    monkeypatch.setattr(known_digests, "_SETTLED_NS", -1)  # nobody writes behind our back here
    run(tmp_path, recipe(), loader=with_large_files(10**7))
    assert sum(bytes_read) > 4 * 10**7
    bytes_read.clear()
    states = dict(status(recipe(), RunDirectory(tmp_path)))
    assert run(tmp_path, recipe(), loader=with_large_files(10**7)).ran() == []
    assert {state for stage, state in states.items() if stage.name in LARGE} == {State.CURRENT}
    assert bytes_read == []
    list(status(recipe(), RunDirectory(tmp_path), verify=True))
    assert sum(bytes_read) > 4 * 10**7


def test_damage_that_times_do_not_tell_is_found_before_it_is_used(
    tmp_path, monkeypatch, bytes_read
):
    monkeypatch.setattr(known_digests, "_SETTLED_NS", -1)
    run(tmp_path, recipe(), loader=with_large_files(10**6))
    path = tmp_path / "construct" / "large.bin"
    known = RunDirectory(tmp_path).digests
    record = json.loads((tmp_path / ".digests.json").read_text())
    with path.open("r+b") as stream:
        stream.write(b"\1")
    stat = path.stat()
    name = f"{stat.st_dev}:{stat.st_ino}"
    # The disk lost a bit by itself: the record knows the file as it is now, with its old digest.
    record["files"][name][1:3] = [stat.st_mtime_ns, stat.st_ctime_ns]
    record["digest"] = known_digests.digest_value(record["files"])
    known_digests.write_json(record, known._record)
    states = dict(status(recipe(), RunDirectory(tmp_path)))
    assert {s for stage, s in states.items() if stage.name == "construct"} == {State.CURRENT}
    with pytest.raises(DataError, match=r"construct/large\.bin: is sha256"):
        run(tmp_path, recipe(ranker={"epochs": 3}), loader=with_large_files(10**6))


def cpu_seconds_of_status(folder, wanted):
    """Of the command itself, in a process of its own, not the first; every stage is up to date.

    The first leaves bytecode, and what the sources say.
    """
    path = folder / "recipe.yaml"
    path.write_text(dump_recipe(wanted))
    command = [sys.executable, "-m", "taiji.cli", "status", str(path), "--runs", "runs"]
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, cwd=folder, env=usual, capture_output=True, check=False)
    began = os.times()
    done = subprocess.run(
        command, cwd=folder, env=usual, capture_output=True, text=True, check=False
    )
    ended = os.times()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("up to date") == len(ALL)
    return sum(ended[2:4]) - sum(began[2:4])


@pytest.mark.slow
def test_the_status_of_gigabytes_is_read_in_two_seconds(tmp_path):
    wanted = recipe()
    run(tmp_path / "runs" / "t", wanted, loader=with_large_files(15 * 10**8))
    spent = cpu_seconds_of_status(tmp_path, wanted)
    sys.stderr.write(f"\nstatus of 6 GB: {spent:.2f} CPU seconds")
    assert spent < 2


@pytest.mark.slow
def test_the_status_of_ten_million_users_is_read_in_two_seconds(tmp_path, monkeypatch):
    """Their 20 million prompts alone are some 90 GB; files with holes have any size.

    Only the digests are made up, when the files are written: to take them is hours of reading, and
    that `status` takes none of them again is what its seconds show.
    """
    monkeypatch.setattr(known_digests, "_SETTLED_NS", -1)
    digest = known_digests.digest_file
    monkeypatch.setattr(
        known_digests,
        "digest_file",
        lambda path: "sha256:" + "0" * 64 if path.name == "large.bin" else digest(path),
    )
    wanted = recipe()
    run(tmp_path / "runs" / "t", wanted, loader=with_large_files(90 * 10**9))
    spent = cpu_seconds_of_status(tmp_path, wanted)
    sys.stderr.write(f"\nstatus of 360 GB: {spent:.2f} CPU seconds")
    assert spent < 2
    monkeypatch.undo()
    (tmp_path / "runs" / "t" / "sft" / "large.bin").write_bytes(b"cut short")
    states = dict(status(wanted, RunDirectory(tmp_path / "runs" / "t")))
    assert {s for stage, s in states.items() if stage.name == "sft"} == {State.DAMAGED}
