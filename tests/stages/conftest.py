"""Fixtures of the reasoning stages."""

import pytest
from reasoning_run import write_construct


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
