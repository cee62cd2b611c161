import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from weeks import CALENDAR, WEEKS, week_of, week_start

from taiji.config import DataSection, ShareWindows, SplitsSection
from taiji.data.calendar import (
    WINDOWS,
    Calendar,
    LogHours,
    Window,
    hash_sql,
    plan_calendar,
    sample_sql,
    timestamp_sql,
)
from taiji.errors import DataError
from taiji.schema import TIME

CALENDAR_DATES = DataSection().splits.windows
MOMENT = datetime(2017, 7, 1, 3, tzinfo=UTC)


def test_the_windows_of_complete_journey_are_its_weeks():
    assert [window.name for window in CALENDAR.windows] == list(WEEKS)
    for name, (first, last) in WEEKS.items():
        window = CALENDAR.window(name)
        assert window.starts == week_start(first)
        assert window.ends == (week_start(last + 1) if last < 53 else CALENDAR.windows[-1].ends)


def test_weeks_start_at_midnight_of_the_shops_in_both_halves_of_the_year():
    assert len(CALENDAR.week_starts()) == 53
    assert week_start(9) == datetime(2017, 2, 20, 5, tzinfo=UTC)  # winter time
    assert week_start(33) == datetime(2017, 8, 7, 4, tzinfo=UTC)  # summer time
    assert CALENDAR.start("test") == week_start(47) == datetime(2017, 11, 13, 5, tzinfo=UTC)
    assert week_of(week_start(12)) == week_of(week_start(13) - timedelta(seconds=1)) == 12


def test_a_row_belongs_to_one_window_by_its_time():
    edge = CALENDAR.start("rl")
    moments = [edge - timedelta(microseconds=1), edge, CALENDAR.start("test")]
    table = pa.table({"ts": pa.array(moments, TIME)})
    found = {window.name: window.rows(table)["ts"].to_pylist() for window in CALENDAR.windows}
    assert found["reward"] == moments[:1]
    assert found["rl"] == moments[1:2]
    assert found["test"] == moments[2:]
    assert not found["history"] + found["ranker"]


def test_windows_go_to_a_file_and_back(tmp_path):
    CALENDAR.write(tmp_path / "windows.json")
    assert Calendar.read(tmp_path / "windows.json") == CALENDAR
    content = json.loads((tmp_path / "windows.json").read_text())
    assert content["windows"][2]["starts"] == "2017-08-07T04:00:00+00:00"
    content["windows"][2]["starts"] = "2017-01-01T00:00:00+00:00"
    (tmp_path / "windows.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="reward ends"):
        Calendar.read(tmp_path / "windows.json")
    (tmp_path / "windows.json").write_text("{}")
    with pytest.raises(DataError, match="rerun construct"):
        Calendar.read(tmp_path / "windows.json")


def test_windows_that_overlap_or_are_empty_or_out_of_order_are_refused():
    history, reward, *others = CALENDAR.windows
    late = replace(history, ends=reward.starts + timedelta(seconds=1))
    with pytest.raises(DataError, match="history ends"):
        Calendar("UTC", (late, reward, *others))
    with pytest.raises(DataError, match="in this order"):
        Calendar("UTC", (reward, history, *others))
    with pytest.raises(DataError, match="reward is empty"):
        Calendar("UTC", (history, replace(reward, ends=reward.starts), *others))


def test_dates_that_do_not_rise_and_shares_that_do_not_sum_are_no_recipe():
    with pytest.raises(ValidationError, match="must hold"):
        CALENDAR_DATES.model_validate(dict(CALENDAR_DATES) | {"rl": date(2017, 1, 1)})
    with pytest.raises(ValidationError, match="sum to 1"):
        ShareWindows(test=0.5)
    with pytest.raises(ValidationError, match="no time zone"):
        SplitsSection(timezone="Mars/Olympus")


def hours_of(*counts, start=MOMENT, step=timedelta(days=1)):
    return LogHours(tuple(start + n * step for n in range(len(counts))), counts)


@given(st.integers(20, 3000), st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"]))
def test_shares_cover_the_log_from_midnight_to_midnight(num_days, timezone):
    log = hours_of(*[3] * num_days)
    calendar = plan_calendar(SplitsSection(timezone=timezone), log)
    assert calendar.windows[0].starts <= MOMENT
    assert log.starts[-1] < calendar.windows[-1].ends
    assert log.outside(calendar) == 0
    assert [window.name for window in calendar.windows] == list(WINDOWS)
    for window, after in zip(calendar.windows, calendar.windows[1:], strict=False):
        assert window.ends == after.starts
        assert after.starts.astimezone(ZoneInfo(timezone)).hour == 0
    whole = calendar.windows[-1].ends - calendar.windows[0].starts
    reward: Window = calendar.window("reward")
    assert abs((reward.ends - reward.starts) / whole - 0.45) <= 1.1 / num_days


def test_shares_are_shares_of_interactions_and_not_of_time():
    """A shop that grew: by time the first three fifths of the log would hold a tenth of it."""
    log = hours_of(*[1] * 60, *[20] * 40)
    calendar = plan_calendar(SplitsSection(), log)
    counted = {
        window.name: sum(
            count
            for start, count in zip(log.starts, log.counts, strict=True)
            if window.starts <= start < window.ends
        )
        / sum(log.counts)
        for window in calendar.windows
    }
    wanted = {"history": 0.15, "reward": 0.45, "rl": 0.11, "ranker": 0.15, "test": 0.14}
    assert counted == pytest.approx(wanted, abs=0.02)


def test_a_log_of_a_week_is_divided_at_hours_and_a_log_of_four_hours_not_at_all():
    calendar = plan_calendar(SplitsSection(), hours_of(*[5] * 100, step=timedelta(hours=1)))
    assert calendar.start("reward") == MOMENT + timedelta(hours=15)
    assert calendar.windows[-1].ends == MOMENT + timedelta(hours=100)
    with pytest.raises(DataError, match="4 hours: too short for 5 windows"):
        plan_calendar(SplitsSection(), hours_of(1, 1, 1, 1))


def test_a_day_with_most_of_the_log_leaves_every_window_a_day():
    calendar = plan_calendar(SplitsSection(), hours_of(*[1] * 10, 1000, *[1] * 10))
    starts = [window.starts for window in calendar.windows]
    assert starts == sorted(set(starts))


def test_what_lies_outside_the_windows_is_a_share_of_the_log():
    log = LogHours(
        (CALENDAR.windows[0].starts - timedelta(hours=1), MOMENT, CALENDAR.windows[-1].ends),
        (1, 6, 3),
    )
    assert log.outside(CALENDAR) == 0.4


def test_a_moment_in_sql_is_utc():
    moment = datetime(2017, 7, 1, 3, 4, 5, 6, tzinfo=UTC)
    assert timestamp_sql(moment) == "TIMESTAMP '2017-07-01 03:04:05.000006'"


def test_the_sql_hash_is_plain_md5_of_a_readable_key():
    query = f"SELECT {hash_sql('line-17', 'u', 'o')} FROM (SELECT '7' AS u, 12 AS o)"
    ((out,),) = duckdb.sql(query).fetchall()
    assert out == hashlib.md5(b"line-17|7|12").hexdigest() == "730f0f0c04fe1cae11c48b67231d6444"


def test_a_salt_cannot_become_code():
    with pytest.raises(ValueError, match="salt"):
        hash_sql("x'); DROP TABLE y; --", "u")


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_sample_takes_its_share_by_the_key_alone(share):
    query = f"SELECT i FROM range(20000) t(i) WHERE {sample_sql(share, 's', 'i')} ORDER BY i"
    kept = [row[0] for row in duckdb.sql(query).fetchall()]
    assert len(kept) == pytest.approx(20000 * share, rel=0.1)
    bound = share * 2**32
    assert kept == [
        i for i in range(20000) if int(hashlib.md5(f"s|{i}".encode()).hexdigest()[:8], 16) < bound
    ]


def test_weeks_may_be_counted_from_a_window_that_begins_within_one():
    days = timedelta(days=10)
    starts = [datetime(2024, 1, 1, tzinfo=UTC) + number * days for number in range(6)]
    names = ("history", "reward", "rl", "ranker", "test")
    windows = tuple(Window(n, a, b) for n, a, b in zip(names, starts, starts[1:], strict=False))
    calendar = Calendar("UTC", windows)
    assert calendar.week_starts("test") == [starts[4], starts[4] + timedelta(days=7)]
    assert starts[4] not in calendar.week_starts()


def test_the_last_rows_of_a_log_are_within_its_windows_where_clocks_differ_by_half_an_hour():
    section = SplitsSection(timezone="Asia/Kolkata", windows=ShareWindows())
    last = datetime(2024, 3, 30, 18, tzinfo=UTC)  # until 00:29 of the next day there
    hours = [last - timedelta(hours=number) for number in reversed(range(30 * 24))]
    calendar = plan_calendar(section, LogHours(tuple(hours), (1,) * len(hours)))
    assert last + timedelta(minutes=59) < calendar.windows[-1].ends
