import os

import pytest

from taiji.store import digests
from taiji.store.digests import KnownDigests
from taiji.store.files import digest_file


@pytest.fixture
def read(monkeypatch):
    """Names of the files whose content was read."""
    names = []

    def reading(path):
        names.append(path.name)
        return digest_file(path)

    monkeypatch.setattr(digests, "digest_file", reading)
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)  # files of a test are always young
    return names


def test_what_has_not_changed_is_not_read_again_by_another_process(tmp_path, read):
    file, record = tmp_path / "big.bin", tmp_path / "r.json"
    file.write_bytes(b"a")
    first = KnownDigests(record)
    assert first.known(file) == first.known(file) == digest_file(file)
    first.save()
    assert read == ["big.bin"]
    second = KnownDigests(record)
    assert second.known(file) == digest_file(file)
    assert read == ["big.bin"]
    assert second.taken(file) == second.taken(file) == digest_file(file)
    assert read == ["big.bin", "big.bin"]


def test_a_change_is_seen_though_size_and_mtime_are_the_same(tmp_path, read):
    file, record = tmp_path / "big.bin", tmp_path / "r.json"
    file.write_bytes(b"a")
    before = file.stat()
    first = KnownDigests(record)
    first.known(file)
    first.save()
    file.write_bytes(b"b")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert KnownDigests(record).known(file) == digest_file(file)


def test_a_moved_folder_keeps_its_digests(tmp_path, read):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "big.bin").write_bytes(b"a")
    first = KnownDigests(tmp_path / "r.json")
    first.known(tmp_path / "a" / "big.bin")
    first.save()
    (tmp_path / "a").rename(tmp_path / "b")
    KnownDigests(tmp_path / "r.json").known(tmp_path / "b" / "big.bin")
    assert read == ["big.bin"]


def test_a_file_as_young_as_its_digest_is_read_again(tmp_path, read, monkeypatch):
    monkeypatch.setattr(digests, "_SETTLED_NS", 10**12)
    (tmp_path / "big.bin").write_bytes(b"a")
    first = KnownDigests(tmp_path / "r.json")
    first.known(tmp_path / "big.bin")
    first.save()
    KnownDigests(tmp_path / "r.json").known(tmp_path / "big.bin")
    assert read == ["big.bin", "big.bin"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"files": {}, "digest": "x"}'])
def test_a_damaged_record_costs_time_alone(tmp_path, read, text):
    (tmp_path / "big.bin").write_bytes(b"a")
    (tmp_path / "r.json").write_text(text)
    assert KnownDigests(tmp_path / "r.json").known(tmp_path / "big.bin").startswith("sha256:")


def test_nothing_is_written_where_there_is_no_run(tmp_path, read):
    (tmp_path / "big.bin").write_bytes(b"a")
    known = KnownDigests(tmp_path / "nowhere" / "r.json")
    known.known(tmp_path / "big.bin")
    known.save()
    assert not (tmp_path / "nowhere").exists()
