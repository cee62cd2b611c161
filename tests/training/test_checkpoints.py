import json

import pytest

from taiji.training.checkpoints import mark_complete, newest_complete


@pytest.fixture
def folder(tmp_path):
    for step in (2, 10):
        checkpoint = tmp_path / f"checkpoint-{step}"
        (checkpoint / "inner").mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"weights")
        (checkpoint / "inner" / "state.bin").write_bytes(b"state")
    mark_complete(tmp_path / "checkpoint-2")
    return tmp_path


def test_an_unmarked_checkpoint_does_not_count(folder):
    assert newest_complete(folder) == (folder / "checkpoint-2", 2)


def test_the_newest_is_meant_by_number(folder):
    mark_complete(folder / "checkpoint-10")
    assert newest_complete(folder) == (folder / "checkpoint-10", 10)


def test_a_cut_or_lost_file_makes_a_checkpoint_worthless(folder):
    mark_complete(folder / "checkpoint-10")
    (folder / "checkpoint-10" / "model.safetensors").write_bytes(b"wei")
    assert newest_complete(folder) == (folder / "checkpoint-2", 2)
    (folder / "checkpoint-2" / "inner" / "state.bin").unlink()
    assert newest_complete(folder) is None


def test_a_damaged_marker_vouches_for_nothing(folder):
    (folder / "checkpoint-2" / "complete.json").write_text('{"model.safe')
    assert newest_complete(folder) is None


def test_the_marker_lists_every_file(folder):
    files = json.loads((folder / "checkpoint-2" / "complete.json").read_text())
    assert files == {"inner/state.bin": 5, "model.safetensors": 7}


def test_no_folder_has_no_checkpoint(tmp_path):
    assert newest_complete(tmp_path / "nowhere") is None
