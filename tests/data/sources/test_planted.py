import re

import numpy as np
import pyarrow.compute as pc
import pytest

from taiji.config.sources import PlantedSource
from taiji.data.sources.planted import PERIODS, TEST_PERIOD, build_tables, describe, world_folder
from taiji.data.sources.planted_words import DISTRACTORS, NEEDS


def source(**settings):
    return PlantedSource(**{"kind": "planted", "users": 200, **settings})


@pytest.fixture(scope="module")
def tables():
    return build_tables(source())


def words(text):
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3}


def test_no_note_names_its_category():
    for need in NEEDS:
        for note in need.notes:
            assert not words(note) & words(need.l3), (need.l3, note)


def test_notes_are_told_apart():
    told = [note for need in NEEDS for note in need.notes] + list(DISTRACTORS)
    assert len(set(told)) == len(told)


def test_the_last_paraphrase_is_told_in_the_test_window_alone(tables):
    held_out = {need.notes[2] for need in NEEDS}
    week = (pc.cast(tables["notes"]["ts"], "int64").to_numpy() / 604_800_000_000) - 2_818.57
    starts = np.sort(np.unique(np.round(week - week.min())))
    notes = np.array(tables["notes"]["note"].to_pylist())
    last = week - week.min() > PERIODS[TEST_PERIOD] - 1
    assert starts.size >= len(PERIODS) - 1
    assert not set(notes[~last]) & held_out
    assert set(notes[last]) <= held_out | set(DISTRACTORS)


def test_a_note_lies_before_all_that_its_needs_bring_about(tables):
    """Nothing at or after a period's start is needed to read of it, and no note is late."""
    needs, notes = tables["needs"], tables["notes"]
    starts = np.unique(pc.cast(needs["starts"], "int64").to_numpy())
    ts = pc.cast(notes["ts"], "int64").to_numpy()
    ahead = starts[np.searchsorted(starts, ts)] - ts
    assert (ahead > 0).all()
    assert (ahead < 3_600_000_000).all()
    first = pc.min(pc.cast(tables["exposures"]["ts"], "int64")).as_py()
    assert first > starts[1]


def click_rates(strength):
    """Of shown items that the user needs, and of the others."""
    found = build_tables(source(strength=strength))
    needs = found["needs"]
    rows = zip(
        needs["user_id"].to_pylist(),
        needs["starts"].to_pylist(),
        needs["ends"].to_pylist(),
        needs["l3"].to_pylist(),
        strict=True,
    )
    wanted: dict = {}
    for user, starts, ends, l3 in rows:
        wanted.setdefault((user, l3), []).append((starts, ends))
    l3_of = dict(
        zip(found["items"]["item_id"].to_pylist(), found["items"]["l3"].to_pylist(), strict=True)
    )
    clicks: dict = {True: [], False: []}
    for row in found["exposures"].to_pylist():
        spans = wanted.get((row["user_id"], l3_of[row["item_id"]]), ())
        clicks[any(a <= row["ts"] < b for a, b in spans)].append(row["click"])
    return np.mean(clicks[True]), np.mean(clicks[False])


def test_clicks_follow_needs_as_strongly_as_asked():
    needed, others = click_rates(2.0)
    assert needed > 3 * others
    needed, others = click_rates(0.0)
    assert needed == pytest.approx(others, abs=0.012)


def test_one_seed_draws_one_world_and_size_multiplies_users():
    assert build_tables(source())["exposures"].equals(build_tables(source())["exposures"])
    assert build_tables(source(size=2.0))["users"].num_rows == 400
    assert not build_tables(source(seed=1))["notes"].equals(build_tables(source())["notes"])


def test_a_world_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    described = describe(source(users=20))
    folder = world_folder(source(users=20))
    assert described.path == str(folder)
    written = (folder / "exposures.parquet").stat().st_mtime_ns
    describe(source(users=20))
    assert (folder / "exposures.parquet").stat().st_mtime_ns == written
    assert world_folder(source(users=20, strength=1.0)) != folder
