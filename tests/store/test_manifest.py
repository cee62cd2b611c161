import copy
import json
import random
from dataclasses import replace

import pytest

from taiji.errors import DataError
from taiji.store.files import digest_value, json_text
from taiji.store.manifest import Manifest, Output, read_manifest, sealed

D = "sha256:" + "0123456789abcdef" * 4
MANIFEST = Manifest(
    stage="score",
    key=D,
    code=D,
    settings={"score": D, "data.text": D},
    inputs={"construct": D, "distill": D},
    seed=17,
    seconds=3.5,
    finished="2026-01-31T12:00:00+00:00",
    versions={"numpy": "2.1.0"},
    summary={"chains": 3, "median": 4.25, "rule": "ppl"},
    outputs={"scores.parquet": Output(10, D, 3), "model/a.json": Output(2, D)},
)


def test_a_manifest_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "manifest.json"
    assert read_manifest(path) is None
    path.write_text(sealed(MANIFEST))
    assert read_manifest(path) == MANIFEST


def edits(value):
    """Every field, at any depth, missing, renamed, doubled, or of another type or range."""
    wrong = [None, True, -1, 10**40, 0.5, "", "x", "../x", [], {}, {"a": 1}, D[:-1], D.upper()]
    for where in list(_paths(value)):
        *parents, last = where

        def at(tree, parents=parents):
            for key in parents:
                tree = tree[key]
            return tree

        for new in wrong:
            changed = copy.deepcopy(value)
            if at(changed)[last] != new or type(at(changed)[last]) is not type(new):
                at(changed)[last] = new
                yield changed
        changed = copy.deepcopy(value)
        del at(changed)[last]
        yield changed
        changed = copy.deepcopy(value)
        at(changed)[last + "x"] = at(changed).pop(last)
        yield changed


def _paths(value, above=()):
    for key, child in value.items():
        yield (*above, key)
        if isinstance(child, dict):
            yield from _paths(child, (*above, key))


def test_every_edited_manifest_is_refused_with_its_mend(tmp_path):
    path = tmp_path / "manifest.json"
    text = sealed(MANIFEST)
    num = 0
    for changed in edits(json.loads(text)):
        path.write_text(json_text(changed))
        with pytest.raises(DataError, match="rm -r"):
            read_manifest(path)
        num += 1
    assert num > 400


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("seconds", "3.5"),
        ("seconds", -1.0),
        ("seed", 1.0),
        ("key", "sha256:" + "G" * 64),
        ("stage", "scores"),
        ("inputs", {"nowhere": D}),
        ("finished", "yesterday"),
        ("summary", {"chains": [1]}),
        ("summary", {"chains": True}),
        ("versions", {"numpy": 2}),
        ("outputs", {"../a": {"bytes": 1, "sha256": D, "rows": None}}),
        ("outputs", {"/a": {"bytes": 1, "sha256": D, "rows": None}}),
        ("outputs", {".raw/a": {"bytes": 1, "sha256": D, "rows": None}}),
        ("outputs", {"a//b": {"bytes": 1, "sha256": D, "rows": None}}),
        ("outputs", {"a": {"bytes": 1, "sha256": D, "rows": None, "more": 1}}),
        ("more", 1),
    ],
)
def test_a_field_that_cannot_be_is_refused_even_under_a_fitting_seal(tmp_path, field, wrong):
    value = json.loads(sealed(MANIFEST))
    value.pop("digest")
    value[field] = wrong
    path = tmp_path / "manifest.json"
    path.write_text(json_text(value | {"digest": digest_value(value)}))
    with pytest.raises(DataError, match=field):
        read_manifest(path)


@pytest.mark.parametrize("text", ["", "[]", "1", "{}", "null", '"x"', "[" * 100_000, "\x00"])
def test_what_is_no_manifest_at_all_is_refused(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(DataError, match="rm -r"):
        read_manifest(path)


def test_flipped_bits_cuts_and_doubled_keys_are_refused(tmp_path):
    path = tmp_path / "manifest.json"
    good = sealed(MANIFEST).encode()
    rng = random.Random(7)
    bad = [good[:-1], good + b" ", good.replace(b"{", b'{"seed": 18,', 1)]
    for _ in range(300):
        flipped = bytearray(good)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        bad.append(bytes(flipped))
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(DataError, match="rm -r"):
            read_manifest(path)


def test_outputs_digest_depends_on_names_and_contents():
    other = replace(MANIFEST, outputs={"scores.parquet": Output(10, D.replace("0", "1"), 3)})
    assert MANIFEST.outputs_digest != other.outputs_digest
