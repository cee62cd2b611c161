import random

import pytest

from taiji.store.vouched import vouch
from taiji.training.checkpoints import newest_complete, restore_metrics


@pytest.fixture
def folder(tmp_path):
    for step in (2, 10):
        checkpoint = tmp_path / f"checkpoint-{step}"
        (checkpoint / "inner").mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"weights")
        (checkpoint / "inner" / "state.bin").write_bytes(b"state")
        (checkpoint / "metrics.jsonl").write_text(f'{{"step": {step}}}\n')
    vouch(tmp_path / "checkpoint-2")
    return tmp_path


def test_a_checkpoint_that_nobody_vouched_for_does_not_count(folder):
    assert newest_complete(folder) == (folder / "checkpoint-2", 2)
    assert (folder / "checkpoint-10").is_dir()


def test_the_newest_is_meant_by_number(folder):
    vouch(folder / "checkpoint-10")
    assert newest_complete(folder) == (folder / "checkpoint-10", 10)


def test_flipped_bits_in_any_file_set_a_checkpoint_aside(folder, caplog):
    rng = random.Random(7)
    names = ("model.safetensors", "inner/state.bin", "metrics.jsonl", "complete.json")
    for number in range(36):
        vouch(folder / "checkpoint-10")
        path = folder / "checkpoint-10" / names[number % len(names)]
        good = path.read_bytes()
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        assert newest_complete(folder) == (folder / "checkpoint-2", 2)
        assert "checkpoint-10" in caplog.text
        caplog.clear()
        aside = (folder / "checkpoint-10.damaged").rename(folder / "checkpoint-10")
        (aside / names[number % len(names)]).write_bytes(good)


def test_a_checkpoint_under_the_number_of_another_is_set_aside(folder):
    vouch(folder / "checkpoint-10")
    (folder / "checkpoint-10").rename(folder / "checkpoint-12")
    assert newest_complete(folder) == (folder / "checkpoint-2", 2)


def test_a_cut_or_lost_file_makes_a_checkpoint_worthless(folder):
    (folder / "checkpoint-2" / "inner" / "state.bin").unlink()
    assert newest_complete(folder) is None
    assert (folder / "checkpoint-2.damaged").is_dir()


def test_metrics_go_back_to_what_they_were_at_the_checkpoint(folder):
    (folder / "metrics.jsonl").write_text('{"step": 2}\n{"step": 3}\n{"st')
    assert restore_metrics(folder, folder / "checkpoint-2").read_text() == '{"step": 2}\n'
    assert restore_metrics(folder, None).read_text() == ""


def test_no_folder_has_no_checkpoint(tmp_path):
    assert newest_complete(tmp_path / "nowhere") is None
