import hashlib
import itertools
from datetime import UTC, datetime

import duckdb
import pytest

from taiji.data.splits import (
    WEEKS,
    hash_sql,
    sample_sql,
    stable_share,
    week_start,
    window_start,
    windows_sql,
)


def test_windows_follow_one_another_without_gap_or_overlap():
    weeks = [w for first, last in WEEKS.values() for w in range(first, last + 1)]
    assert weeks == list(range(1, 54))


def test_weeks_start_at_midnight_of_the_shops_in_both_halves_of_the_year():
    assert week_start(9) == datetime(2017, 2, 20, 5, tzinfo=UTC)  # winter time
    assert week_start(33) == datetime(2017, 8, 7, 4, tzinfo=UTC)  # summer time
    assert window_start("test") == week_start(47) == datetime(2017, 11, 13, 5, tzinfo=UTC)


def test_the_relation_of_weeks_is_the_same_calendar():
    rows = duckdb.sql(f"SELECT * FROM {windows_sql()} ORDER BY week").fetchall()
    assert [(week, name) for week, name, _, _ in rows] == [
        (w, name) for name, (first, last) in WEEKS.items() for w in range(first, last + 1)
    ]
    assert all(starts.replace(tzinfo=UTC) == week_start(week) for week, _, starts, _ in rows)
    assert all(row[3] == after[2] for row, after in itertools.pairwise(rows))


def test_shares_never_change():
    # 64 bits of BLAKE2b of "holdout|42" over 2^64, by hashlib alone.
    digest = hashlib.blake2b(b"holdout|42", digest_size=8).digest()
    assert stable_share("42", "holdout") == pytest.approx(int.from_bytes(digest) / 2**64)
    assert stable_share("42", "holdout") == pytest.approx(0.8935294177, abs=1e-9)


def test_shares_are_spread_over_the_unit_interval_and_depend_on_the_salt():
    shares = [stable_share(str(i), "a") for i in range(2000)]
    assert all(0 <= share < 1 for share in shares)
    assert sum(share < 0.1 for share in shares) == pytest.approx(200, abs=45)  # 3.3 sigma
    assert stable_share("1", "a") != stable_share("1", "b")


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
