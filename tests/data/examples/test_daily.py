"""Days written one after the other against one rebuild, and against the rule in words."""

import random
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from data_shop import shop, write_shop
from hypothesis import given, settings
from hypothesis import strategies as st

from taiji.config import DataSection, Recipe
from taiji.data.engine import open_engine
from taiji.data.examples.daily import days, read_current, run_day, write_day
from taiji.errors import DataError, MissingArtifactError
from taiji.schema import EVENTS, INTERACTIONS, ITEMS, USERS
from taiji.store.files import read_parquet

ZONE = ZoneInfo("America/New_York")
FIRST = date(2017, 3, 9)  # the clocks go forward on the 12th
NUM_DAYS = 6
SECTION = DataSection(history_items=3)
ITEM_IDS = [f"i{n}" for n in range(5)]


def moment(day, hour):
    """An hour after the local midnight of a day, counted from the first."""
    midnight = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=ZONE) + timedelta(days=day)
    return midnight.astimezone(UTC) + timedelta(hours=hour)


def log(*visits):
    """Visits as (user, day, hour, item)."""
    rows = [
        {
            "user_id": user,
            "item_id": item,
            "ts": moment(day, hour),
            "order_id": f"{user}-{day}-{hour}-{item}",
            "kind": "purchase",
            "quantity": 1,
            "price": 1.0,
        }
        for user, day, hour, item in visits
    ]
    return pa.Table.from_pylist(rows, INTERACTIONS)


def open_log(engine, interactions, events=None):
    users = sorted(set(interactions["user_id"].to_pylist()))
    people = [{"user_id": user, "holdout": False, "fields": []} for user in users]
    things = [{"item_id": item, "title": f"Thing {item}"} for item in ITEM_IDS]
    engine.register("users", pa.Table.from_pylist(people, USERS))
    engine.register("items", pa.Table.from_pylist(things, ITEMS))
    engine.register("events", events or EVENTS.empty_table())
    engine.register("interactions", interactions)


@pytest.fixture
def engine(tmp_path):
    with open_engine("duckdb", tmp_path / "scratch") as opened:
        yield opened


def day_of(ts):
    return ts.astimezone(ZONE).date()


def touched_by_the_rule(interactions, day, history_days):
    """Users with an event on the day, or one that has left the window since the day before."""
    users = set()
    for row in interactions.to_pylist():
        moments = [row["ts"]]
        if history_days is not None:
            moments.append(row["ts"] + timedelta(days=history_days))
        if day in map(day_of, moments):
            users.add(row["user_id"])
    return users


visits = st.lists(
    st.tuples(
        st.sampled_from(["u0", "u1", "u2", "u3"]),
        st.integers(0, NUM_DAYS - 1),
        st.integers(0, 22),
        st.sampled_from(ITEM_IDS),
    ),
    min_size=1,
    max_size=25,
    unique=True,
)


@settings(max_examples=3, deadline=None)
@given(visits, st.sampled_from([None, 1, 3]))
def test_days_one_after_the_other_are_the_rebuild_of_the_last(found, history_days):
    interactions = log(*found)
    section = SECTION.model_copy(update={"history_days": history_days})
    first = min(map(day_of, interactions["ts"].to_pylist()))
    last = FIRST + timedelta(days=NUM_DAYS - 1)
    with (
        tempfile.TemporaryDirectory() as root,
        open_engine("duckdb", Path(root) / "scratch") as engine,
    ):
        daily, whole = Path(root) / "daily", Path(root) / "whole"
        open_log(engine, interactions)
        day = first
        while day <= last:
            report = write_day(engine, section, day, daily)
            touched = read_parquet(report.path)["user_id"].to_pylist()
            if day > first:
                assert set(touched) == touched_by_the_rule(interactions, day, history_days)
            assert report.num_touched == len(touched)
            day += timedelta(days=1)
        write_day(engine, section, last, whole, rebuild=True)
        assert read_current(daily, last).equals(read_current(whole, last))
        # A day that was left out is caught up with.
        late = Path(root) / "late"
        write_day(engine, section, first, late)
        write_day(engine, section, last, late)
        assert read_current(late, last).equals(read_current(whole, last))


def test_prompts_hold_the_newest_lines_of_the_window_and_nothing_of_the_day_after(engine, tmp_path):
    rng = random.Random(2)
    found = {
        (f"u{rng.randrange(3)}", rng.randrange(NUM_DAYS), rng.randrange(23), rng.choice(ITEM_IDS))
        for _ in range(60)
    }
    interactions = log(*found)
    open_log(engine, interactions)
    day, history_days = FIRST + timedelta(days=4), 3
    section = SECTION.model_copy(update={"history_days": history_days})
    write_day(engine, section, day, tmp_path)
    rows = read_current(tmp_path, day).to_pylist()
    assert len(rows) == 3
    for row in rows:
        past = [
            (event["ts"], event["order_id"], event["item_id"])
            for event in interactions.to_pylist()
            if event["user_id"] == row["user_id"]
            and row["cutoff"] - timedelta(days=history_days) <= event["ts"] < row["cutoff"]
        ]
        newest = sorted(past, reverse=True)[: SECTION.history_items]
        assert [(line["ts"], line["item_id"]) for line in row["history"]] == [
            (ts, item) for ts, _, item in newest
        ]
        assert row["history_length"] == len(past)
        assert day_of(row["cutoff"] - timedelta(seconds=1)) <= day


def test_a_day_can_be_run_again_after_late_events(engine, tmp_path):
    early = log(("u0", 0, 1, "i0"), ("u1", 0, 2, "i1"), ("u0", 1, 3, "i2"))
    late = pa.concat_tables([early, log(("u1", 1, 4, "i3"))])
    second = FIRST + timedelta(days=1)
    open_log(engine, early)
    write_day(engine, SECTION, FIRST, tmp_path)
    report = write_day(engine, SECTION, second, tmp_path)
    assert (report.num_touched, report.num_users, report.after) == (1, 2, FIRST)
    before = report.path.read_bytes()
    write_day(engine, SECTION, second, tmp_path)
    assert report.path.read_bytes() == before
    open_log(engine, late)
    assert write_day(engine, SECTION, second, tmp_path).num_touched == 2
    assert days(tmp_path) == [FIRST, second]
    by_user = {row["user_id"]: row for row in read_current(tmp_path, second).to_pylist()}
    assert [line["item_id"] for line in by_user["u1"]["history"]] == ["i3", "i1"]


def test_a_search_touches_a_user_too(engine, tmp_path):
    search = {"user_id": "u1", "ts": moment(1, 5), "modality": "search", "value": "lamp"}
    interactions = log(("u0", 0, 1, "i0"), ("u1", 0, 2, "i1"))
    open_log(engine, interactions, pa.Table.from_pylist([search], EVENTS))
    write_day(engine, SECTION, FIRST, tmp_path)
    report = write_day(engine, SECTION, FIRST + timedelta(days=1), tmp_path)
    (row,) = read_parquet(report.path).to_pylist()
    assert row["user_id"] == "u1"
    assert "lamp" in row["profile"]


def test_who_has_nothing_left_in_the_window_has_no_prompt(engine, tmp_path):
    open_log(engine, log(("u0", 0, 1, "i0"), ("u1", 3, 2, "i1")))
    section = SECTION.model_copy(update={"history_days": 2})
    third = FIRST + timedelta(days=3)
    for number in range(4):
        write_day(engine, section, FIRST + timedelta(days=number), tmp_path)
    assert read_current(tmp_path, FIRST)["user_id"].to_pylist() == ["u0"]
    assert read_current(tmp_path, third)["user_id"].to_pylist() == ["u1"]


@pytest.mark.slow
def test_a_user_with_a_million_events_costs_memory_for_fifty(tmp_path):
    num_events = 1_000_000
    moments = pa.array([moment(0, 1) + timedelta(milliseconds=50 * n) for n in range(num_events)])
    interactions = pa.table(
        {
            "user_id": pa.array(["u0"] * num_events),
            "item_id": pa.array(ITEM_IDS * (num_events // len(ITEM_IDS))),
            "ts": moments,
            "order_id": pa.array([f"{n:07d}" for n in range(num_events)]),
            "kind": pa.array(["view"] * num_events),
            "quantity": pa.array([1] * num_events),
            "price": pa.nulls(num_events, pa.float64()),
        }
    ).cast(INTERACTIONS)
    with open_engine("duckdb", tmp_path / "scratch", memory_gib=0.5) as engine:
        open_log(engine, interactions)
        report = write_day(engine, DataSection(), FIRST + timedelta(days=1), tmp_path)
    (row,) = read_parquet(report.path).to_pylist()
    assert row["history_length"] == num_events
    assert [line["ts"] for line in row["history"]] == moments.to_pylist()[:-51:-1]


def test_a_day_before_the_log_and_an_empty_folder_are_errors(engine, tmp_path):
    open_log(engine, log(("u0", 0, 1, "i0")))
    with pytest.raises(DataError, match="give a later day"):
        write_day(engine, SECTION, FIRST - timedelta(days=1), tmp_path)
    with pytest.raises(MissingArtifactError):
        read_current(tmp_path, FIRST)


def test_a_folder_that_is_no_day_is_named(engine, tmp_path):
    open_log(engine, log(("u0", 0, 1, "i0")))
    write_day(engine, SECTION, FIRST, tmp_path)
    for name in ("dt=latest", "dt=20170309", "dt="):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompts.parquet").write_bytes(b"")
        with pytest.raises(DataError, match=rf"{name}: .* is no date as YYYY-MM-DD: move it away"):
            days(tmp_path)
        (tmp_path / name / "prompts.parquet").unlink()


@pytest.mark.parametrize("left", [0, 10, -20])
def test_a_truncated_day_is_named_and_can_be_written_again(engine, tmp_path, left):
    open_log(engine, log(("u0", 0, 1, "i0"), ("u1", 0, 2, "i1")))
    path = write_day(engine, SECTION, FIRST, tmp_path).path
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    with pytest.raises(DataError, match=r"damaged Parquet .*: write 2017-03-09 again"):
        write_day(engine, SECTION, FIRST + timedelta(days=1), tmp_path)
    write_day(engine, SECTION, FIRST, tmp_path)
    assert path.read_bytes() == whole
    assert write_day(engine, SECTION, FIRST + timedelta(days=1), tmp_path).num_touched == 0


def test_what_a_killed_run_left_is_gone_and_never_among_the_days(tmp_path):
    write_shop(tmp_path)
    recipe = Recipe.model_validate({"name": "shop", "data": {"source": shop(tmp_path)}})
    out = tmp_path / "days"
    leftovers = [tmp_path / ".days.scratch" / "tables" / "users.parquet"]
    leftovers.append(out / "dt=2024-02-03" / ".prompts.parquet.99.tmp")
    for path in leftovers:
        path.parent.mkdir(parents=True)
        path.write_text("ann")
    run_day(recipe, date(2024, 2, 4), out)
    assert not any(path.exists() for path in leftovers)
    names = {path.name for path in out.rglob("*") if path.is_file()}
    assert names == {".lock", "prompts.parquet"}
    assert not (tmp_path / ".days.scratch").exists()
