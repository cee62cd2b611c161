"""Ids that other programs rewrote are found; lists that nobody matches are told."""

import codecs

import pyarrow as pa
import pytest

from taiji.data.ids import meeting, plain_ids, read_ids, require_met
from taiji.errors import DataError

KNOWN = pa.array(["1055", "1085", "a,b", "x.0"])


@pytest.mark.parametrize(
    "content",
    [
        b"1055\n1085\n",
        codecs.BOM_UTF8 + b"1055\n1085\n",
        "1055\n1085\n".encode("utf-16"),
        b"1055\r1085",
        b"1055\r\n\r\n 1085 \r\n",
        b"1055.0\n1085.0\n",
        b'"1055"\n"1085"\n',
        b"1055,gdpr\n1085,gdpr\n",
    ],
)
def test_a_list_is_read_however_it_was_saved(tmp_path, content):
    (tmp_path / "ids.txt").write_bytes(content)
    assert read_ids(tmp_path / "ids.txt", KNOWN, "erased").to_pylist() == ["1055", "1085"]


def test_ids_that_look_like_more_than_one_cell_are_taken_whole_if_they_are_known(tmp_path):
    (tmp_path / "ids.txt").write_text("a,b\nx.0\n")
    assert read_ids(tmp_path / "ids.txt", KNOWN, "erased").to_pylist() == ["a,b", "x.0"]


def test_strangers_are_named_and_a_list_of_strangers_is_an_error(tmp_path, caplog):
    (tmp_path / "ids.txt").write_text("user_id,reason\n1055,gdpr\n")
    assert read_ids(tmp_path / "ids.txt", KNOWN, "erased").to_pylist() == ["1055"]
    assert "1 of 2 ids are not known, such as 'user_id'" in caplog.text
    (tmp_path / "ids.txt").write_text("U1055\nU1085\n")
    with pytest.raises(
        DataError, match=r"ids\.txt: E114 none of its 2 ids is known, such as 'U1055'"
    ):
        read_ids(tmp_path / "ids.txt", KNOWN, "erased")
    (tmp_path / "ids.txt").write_text("\n")
    assert len(read_ids(tmp_path / "ids.txt", KNOWN, "erased")) == 0
    with pytest.raises(DataError, match=r"erased: .*cannot be read"):
        read_ids(tmp_path / "gone.txt", KNOWN, "erased")


def test_floats_become_the_whole_numbers_they_were():
    floats = pa.chunked_array([pa.array([1.0, 2.5, None, 1e15])])
    assert plain_ids(floats, "f").to_pylist() == ["1", "2.5", None, "1000000000000000"]
    text = pa.chunked_array([pa.array(["1.0", " 007 ", "v1.0"])])
    assert plain_ids(text, "f").to_pylist() == ["1", "007", "v1.0"]
    with pytest.raises(DataError, match="ids are floats beyond"):
        plain_ids(pa.chunked_array([pa.array([1e16])]), "f")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["1", "2", "9"], None), (["1", "8", "9"], "W213"), (["7", "8", "9"], "E114"), ([], None)],
)
def test_nothing_met_is_an_error_and_little_a_warning(given, expected, caplog):
    met = meeting(
        ("ids here", pa.array(given, pa.string())), ("known ids", pa.array(["1", "2", "3"]))
    )
    problem = met.problem("file", "mend it")
    assert (problem and problem.code) == expected
    if expected == "E114":
        with pytest.raises(
            DataError, match="0 of 3 ids here are known ids, of which there are 3, such as '7'"
        ):
            require_met(problem)
    else:
        require_met(problem)
        assert ("1 of 3 ids here" in caplog.text) == (expected == "W213")
