import json
import os
import sys

import pytest

from taiji.store import sources
from taiji.store.sources import Sources


@pytest.fixture
def parsed(monkeypatch):
    """The files that were parsed since."""
    seen = []
    parse = sources.parse_source
    monkeypatch.setattr(sources, "parse_source", lambda path: seen.append(path.name) or parse(path))
    return seen


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "m.py"
    path.write_text("from taiji.a import b\nimport taiji.c\nX = 1\n")
    return path


def read_anew(module):
    """As another process would."""
    known = Sources(module.parent)
    found = known.read(module)
    known.save()
    return found


def test_what_was_parsed_once_is_known_to_the_next_process(module, parsed):
    first = read_anew(module)
    assert first.imports == ["taiji.a", "taiji.a.b", "taiji.c"]
    assert read_anew(module) == first
    assert parsed == ["m.py"]


def test_a_file_of_the_same_size_and_time_is_read_again(module, parsed):
    first, before = read_anew(module), module.stat()
    module.write_text(module.read_text().replace("X = 1", "X = 2"))
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_anew(module).digest != first.digest
    assert parsed == ["m.py", "m.py"]


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"files": {}, "digest": "sha256:0"}'])
def test_a_damaged_record_is_not_believed(module, parsed, damage):
    first = read_anew(module)
    record = module.parent / "__pycache__" / "sources.json"
    record.write_text(damage)
    assert read_anew(module) == first
    assert parsed == ["m.py", "m.py"]
    assert read_anew(module) == first
    assert parsed == ["m.py", "m.py"]


def test_a_changed_digest_in_the_record_is_not_believed(module):
    first = read_anew(module)
    record = module.parent / "__pycache__" / "sources.json"
    value = json.loads(record.read_text())
    value["files"][str(module)][1] = "0" * 64
    record.write_text(json.dumps(value))
    assert read_anew(module) == first


def test_a_folder_that_takes_no_record_costs_time_alone(module, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sources, "write_json", full)
    assert read_anew(module) == read_anew(module)


def test_where_python_leaves_no_bytecode_nothing_is_left(module, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    read_anew(module)
    assert not (module.parent / "__pycache__").exists()
