"""How often text of the ranking users is asked for, and what prompts say is on offer."""

from datetime import UTC, timedelta

import pyarrow as pa
import pytest
from test_examples import EVERYTHING, SEED, item, world
from weeks import CALENDAR

from taiji.data.calendar import RANK_SPLITS
from taiji.data.engine import open_engine
from taiji.data.examples.examples import draw_examples, rank_moments
from taiji.schema import EXAMPLES, EXPOSURES
from taiji.store.files import read_parquet

START = CALENDAR.start("ranker")
HOUR = timedelta(hours=1)


def shown(user, item_id, ts, click=0):
    return {
        "user_id": user,
        "item_id": item_id,
        "ts": ts,
        "placement": "",
        "click": click,
        "conversion": click,
    }


def draw(tmp_path, exposures=(), more_orders=(), **settings):
    weeks = CALENDAR.week_starts()
    orders = [
        (user, f"o{user}{n}", week + HOUR, {f"i{n % 8}": 1.0})
        for user in ("u1", "u2")
        for n, week in enumerate(weeks)
    ]
    built = world([*orders, *more_orders], items=[item(f"i{n}") for n in range(8)])
    path = tmp_path / f"examples-{len(list(tmp_path.iterdir()))}.parquet"
    section = EVERYTHING.model_copy(update=settings)
    with open_engine("duckdb", tmp_path / "scratch") as engine:
        for name, table in vars(built).items():
            engine.register(name, table)
        engine.register("exposures", pa.Table.from_pylist(list(exposures), EXPOSURES))
        draw_examples(engine, section, SEED, path)
    rows = read_parquet(path, EXAMPLES).to_pylist()
    assert len({row["example_id"] for row in rows}) == len(rows)
    return [row for row in rows if row["split"] in RANK_SPLITS]


def test_one_moment_a_window_unless_told(tmp_path):
    rows = draw(tmp_path)
    assert sorted({row["example_id"] for row in rows}) == [
        "rank_test-u1",
        "rank_test-u2",
        "rank_train-u1",
        "rank_train-u2",
    ]


@pytest.mark.parametrize(("refresh", "days"), [("week", 7), ("day", 1)])
def test_a_moment_for_each_week_or_day_of_a_window(tmp_path, refresh, days):
    rows = [row for row in draw(tmp_path, refresh=refresh) if row["split"] == "rank_train"]
    window = CALENDAR.window("ranker")
    moments = sorted({row["cutoff"] for row in rows})
    assert moments[0] == window.starts
    assert moments[-1] < window.ends
    assert len(moments) == round((window.ends - window.starts) / timedelta(days=days))
    assert len(rows) == 2 * len(moments)


def test_moments_are_midnights_of_the_local_clock():
    moments = [moment for moment, _ in rank_moments(CALENDAR, "ranker", "day")]
    # The clocks of New York go back on 5 November 2017, inside the window.
    assert {moment.astimezone(UTC).hour for moment in moments} == {4, 5}


def test_a_moment_for_each_visit_with_what_was_known_then(tmp_path):
    later = [START + 30 * HOUR, START + 300 * HOUR]
    exposures = [shown("u1", f"i{n}", ts) for ts in later for n in range(3)]
    rows = [row for row in draw(tmp_path, exposures, refresh="visit") if row["user_id"] == "u1"]
    assert sorted(row["cutoff"] for row in rows if row["split"] == "rank_train") == later
    for row in rows:
        assert all(line["ts"] < row["cutoff"] for line in row["history"])
    first, second = sorted(rows, key=lambda row: row["cutoff"])[:2]
    assert first["history_length"] < second["history_length"]


def test_what_happens_at_or_after_a_refresh_changes_nothing_of_it(tmp_path):
    """An order and a view planted at the second visit, and many after it."""
    visits = [START + 30 * HOUR, START + 300 * HOUR]
    exposures = [shown("u1", "i1", ts) for ts in visits]
    later = [visits[1], *(visits[1] + n * 50 * HOUR for n in (1, 2))]
    planted = [("u1", f"late{n}", ts, {"i7": 5.0}) for n, ts in enumerate(later)]
    more = [shown("u2", "i7", ts, click=1) for ts in later]
    settings = {"refresh": "visit", "offer_categories": 3}
    plain = draw(tmp_path, exposures, **settings)
    with_future = draw(tmp_path, [*exposures, *more], planted, **settings)
    for ts in visits:
        (before,), (after,) = (
            [row for row in rows if (row["user_id"], row["cutoff"]) == ("u1", ts)]
            for rows in (plain, with_future)
        )
        assert before == after


def offers(rows):
    return {row["example_id"]: row["offer"] for row in rows}


def test_an_offer_is_what_was_shown_most_in_the_week_before(tmp_path):
    day = timedelta(days=1)
    exposures = [
        *[shown("u1", "i0", START - 2 * day) for _ in range(3)],
        *[shown("u2", "i1", START - 2 * day) for _ in range(2)],
        shown("u2", "i2", START - 30 * day),
    ]
    rows = draw(tmp_path, exposures, offer_categories=2)
    found = offers(rows)
    assert found["rank_train-u1"] == found["rank_train-u2"] == ["Kind 0", "Kind 1"]
    assert found["rank_test-u1"] == []


def test_prompts_say_nothing_of_an_offer_unless_told(tmp_path):
    assert set(map(str, offers(draw(tmp_path)).values())) == {"None"}


def test_what_is_shown_at_or_after_the_moment_and_any_click_change_no_offer(tmp_path):
    day = timedelta(days=1)
    before = [shown("u1", "i0", START - 2 * day), shown("u1", "i1", START - 2 * day)]
    future = [shown("u1", "i2", START + n * HOUR, click=1) for n in range(9)]
    plain = offers(draw(tmp_path, before, offer_categories=3))["rank_train-u1"]
    with_future = offers(draw(tmp_path, [*before, *future], offer_categories=3))["rank_train-u1"]
    clicked = [row | {"click": 1, "conversion": 1} for row in before]
    with_clicks = offers(draw(tmp_path, clicked, offer_categories=3))["rank_train-u1"]
    assert plain == with_future == with_clicks == ["Kind 0", "Kind 1"]
