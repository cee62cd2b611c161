import random
from pathlib import Path

import pytest

from taiji.store.vouched import copy_vouched, is_whole, vouch


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "models" / "base"
    (made / "inner").mkdir(parents=True)
    (made / "weights.bin").write_bytes(bytes(range(256)))
    (made / "inner" / "config.json").write_text("{}")
    return made


def test_without_a_marker_a_folder_does_not_count_and_stays(folder):
    assert not is_whole(folder)
    assert folder.is_dir()
    vouch(folder)
    assert is_whole(folder)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    rng = random.Random(len(data))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: _flip(folder / "weights.bin"),
        lambda folder: _flip(folder / "complete.json"),
        lambda folder: (folder / "inner" / "config.json").unlink(),
        lambda folder: (folder / "more.bin").write_text("x"),
        lambda folder: (folder / "weights.bin").rename(folder / "inner" / "weights.bin"),
    ],
)
def test_what_differs_from_what_was_vouched_for_is_set_aside_by_name(folder, harm, caplog):
    vouch(folder)
    harm(folder)
    assert not is_whole(folder)
    assert not folder.exists()
    assert folder.with_name("base.damaged").is_dir()
    assert str(folder) in caplog.text


def test_a_folder_in_another_place_is_not_what_was_vouched_for(folder):
    vouch(folder)
    elsewhere = folder.rename(folder.with_name("both"))
    assert not is_whole(elsewhere)


def test_damage_upon_damage_keeps_the_newer(folder):
    for content in ("first", "second"):
        folder.mkdir(exist_ok=True)
        (folder / "weights.bin").write_text("whole")
        vouch(folder)
        (folder / "weights.bin").write_text(content)
        assert not is_whole(folder)
    assert (folder.with_name("base.damaged") / "weights.bin").read_text() == "second"


def test_a_copy_goes_without_its_marker(folder, tmp_path):
    vouch(folder)
    copy_vouched(folder, tmp_path / "out" / "base")
    found = sorted(path.name for path in (tmp_path / "out" / "base").rglob("*"))
    assert found == ["config.json", "inner", "weights.bin"]
