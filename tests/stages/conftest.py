"""Fixtures of the reasoning stages."""

import pyarrow as pa
import pytest
from reasoning_run import context, write_construct

from taiji.schema import CANDIDATES
from taiji.stages.distill import distill
from taiji.stages.score import score
from taiji.store.files import read_parquet, write_parquet


@pytest.fixture
def run(tmp_path):
    """A run directory in which `construct` has finished."""
    write_construct(tmp_path / "run" / "construct")
    return tmp_path / "run"


@pytest.fixture
def student(tmp_path, tiny_model, smollm2_tokenizer):
    """A folder with a tiny untrained student."""
    tiny_model.save_pretrained(tmp_path / "student")
    smollm2_tokenizer.save_pretrained(tmp_path / "student")
    return tmp_path / "student"


@pytest.fixture
def distilled(run, student):
    """Candidates of the evidence teacher; one of them truncated, one leaking."""
    ctx = context(run, "distill", student)
    distill(ctx)
    path = ctx.out / "candidates.parquet"
    rows = read_parquet(path, CANDIDATES).to_pylist()
    rows[1] |= {"status": "truncated", "cot": ""}
    rows[2] |= {"leak": "title"}
    for row in rows[3:]:
        row["leak"] = None
    write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), path, CANDIDATES)
    return run


@pytest.fixture
def run_scored(distilled, student):
    """A run directory in which `score` has finished too."""
    score(context(distilled, "score", student))
    return distilled
