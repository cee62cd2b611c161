import pytest

from taiji.language.endpoint.budget import Usage
from taiji.language.endpoint.call_store import CallStore, call_key
from taiji.language.endpoint.protocol import Answer
from taiji.language.generate import Reply

REPLY = Reply('line one\nline "two" \u4e2d \U0001f600 ", "check": "', "truncated", 5)
USAGE = Usage(9, 5)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "calls"


def test_what_was_put_in_comes_back_also_after_opening_again(folder):
    store = CallStore(folder)
    assert store.get("a") is None
    assert not folder.exists()  # nothing was paid for, nothing is written
    store.put("a", "m", REPLY, USAGE)
    store.put("b", "m", Reply("", "empty", 1), Usage(1, 1))
    store.sync()
    for reader in (store, CallStore(folder)):
        assert reader.get("a") == Answer(REPLY, USAGE)
        assert reader.get("b") == Answer(Reply("", "empty", 1), Usage(1, 1))
        assert reader.spent("m") == Usage(10, 6)
        assert reader.spent("other") == Usage(0, 0)


def test_writers_do_not_meet_and_later_ones_see_all(folder):
    stores = [CallStore(folder) for _ in range(3)]
    for number, store in enumerate(stores):
        store.put(f"k{number}", "m", REPLY, USAGE)
    assert len(list(folder.iterdir())) == 3
    assert all(CallStore(folder).get(f"k{number}") for number in range(3))


def test_a_cut_last_line_is_absent_without_complaint(folder, caplog):
    store = CallStore(folder)
    store.put("a", "m", REPLY, USAGE)
    store.put("b", "m", REPLY, USAGE)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for stop in range(first, len(whole)):
        file.write_bytes(whole[:stop])
        again = CallStore(folder)
        assert again.get("a") is not None
        assert again.get("b") is None
    assert caplog.text == ""


def test_no_flipped_bit_goes_unnoticed(folder, caplog):
    CallStore(folder).put("a", "m", REPLY, USAGE)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    late = CallStore(folder)
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert CallStore(folder).get("a") is None
        assert late.get("a") is None  # damaged after it was opened
    assert "made again" in caplog.text


def test_a_key_is_the_content():
    key = call_key(["m", [{"role": "user", "content": "x"}], 0.5])
    assert key == call_key(["m", [{"content": "x", "role": "user"}], 0.5])
    assert key != call_key(["m", [{"role": "user", "content": "y"}], 0.5])
    assert len(key) == 64
