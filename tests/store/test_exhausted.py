"""Every library that writes or allocates says in its own way that there is nothing left."""

import errno
import os
import resource
import subprocess
from contextlib import contextmanager

import duckdb
import faiss
import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch

from taiji.errors import DataError, ResourceError
from taiji.store.exhausted import ran_out, resource_errors
from taiji.store.files import write_json, write_parquet
from taiji.store.shards import Shards

NUM = 1 << 18
SCHEMA = pa.schema([pa.field("x", pa.float64(), nullable=False)])


def numbers() -> np.ndarray:
    return np.random.default_rng(7).random(NUM)


def with_duckdb(path) -> None:
    with duckdb.connect() as db:
        db.execute(f"COPY (SELECT random() AS x FROM range({NUM})) TO '{path}' (FORMAT parquet)")


def with_faiss(path) -> None:
    index = faiss.IndexFlatL2(64)
    index.add(numbers().astype(np.float32).reshape(-1, 64))
    faiss.write_index(index, str(path))


WRITERS = {
    "python": lambda path: path.write_bytes(bytes(NUM * 8)),
    "json": lambda path: write_json(numbers().tolist(), path),
    "arrow": lambda path: write_parquet(pa.table({"x": numbers()}), path, SCHEMA),
    "shards": lambda path: Shards(path, SCHEMA).write(0, pa.table({"x": numbers()})),
    "numpy": lambda path: np.save(path, numbers()),
    "torch": lambda path: torch.save({"x": torch.from_numpy(numbers())}, path),
    "safetensors": lambda path: safetensors.torch.save_file(
        {"x": torch.from_numpy(numbers())}, path
    ),
    "duckdb": with_duckdb,
    "faiss": with_faiss,
}


@contextmanager
def files_no_larger_than(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_a_limit_on_files_is_a_resource_error_whoever_writes(tmp_path, name):
    with (
        pytest.raises(ResourceError, match=r"ulimit|no space.*GiB free.*run the same command"),
        resource_errors(tmp_path, "lower x"),
        files_no_larger_than(1 << 16),
    ):
        WRITERS[name](tmp_path / "out.npy")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64k", "256k", "512k"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_a_resource_error_whoever_writes(tmp_path, name, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    try:
        with (
            pytest.raises(ResourceError, match=r"no space left: free some"),
            resource_errors(disk, "lower x"),
        ):
            WRITERS[name](disk / "out.npy")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def with_little_duckdb() -> None:
    with duckdb.connect(config={"memory_limit": "1MB", "temp_directory": ""}) as db:
        db.execute("SELECT list(random()) FROM range(10000000)").fetchall()


ALLOCATIONS = {
    "python": lambda: bytes(1 << 60),
    "numpy": lambda: np.empty(1 << 57),
    "torch": lambda: torch.empty(1 << 57),
    "arrow": lambda: pa.allocate_buffer(1 << 60),
    "duckdb": with_little_duckdb,
}


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_too_little_memory_is_a_resource_error_whoever_asks(tmp_path, name):
    with (
        pytest.raises(ResourceError, match="memory ran out: lower x and run the same command"),
        resource_errors(tmp_path, "lower x"),
    ):
        ALLOCATIONS[name]()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "f"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        OSError("131072 requested and 8176 written"),
        Exception("I/O error: No space left on device (os error 28)"),
    ],
)
def test_what_other_versions_and_machines_say_is_known(error):
    assert ran_out(error)


def test_an_error_that_hides_a_full_disk_does_not_blame_the_data(tmp_path):
    wrong = DataError("a stray quote swallows rows")
    wrong.__cause__ = OSError(errno.ENOSPC, "No space left on device", "raw.parquet")
    with (
        pytest.raises(ResourceError, match=r"raw\.parquet: no space left"),
        resource_errors(tmp_path, "lower x"),
    ):
        raise wrong


@pytest.mark.parametrize(
    "error",
    [DataError("bad row"), OSError(errno.ENOENT, "no", "f"), ValueError("memory"), KeyError(1)],
)
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)) as caught, resource_errors(tmp_path, "lower x"):
        raise error
    assert caught.value is error
