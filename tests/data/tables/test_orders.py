"""One order is one id of one user, day and table; what only looks like one keeps its own times."""

from datetime import UTC, datetime

import pytest
from data_shop import prepared, said, shop, write_shop

HEADER = "customer,sku,when,order,pieces,amount\n"


def orders(*lines):
    return HEADER + "".join(f"{who},{sku},{when}Z,{order},1,5\n" for who, sku, when, order in lines)


def told(tmp_path, *lines, **changes):
    write_shop(tmp_path, orders=orders(*lines))
    result, tables = prepared(shop(tmp_path, **changes), tmp_path / "out")
    found = [(row["item_id"], f"{row['ts']:%m-%dT%H:%M}") for row in tables["interactions"]]
    return result, sorted(found), [row["order_id"] for row in tables["interactions"]]


@pytest.mark.parametrize("word", ["nan", "NULL", "None", "NA", "0", "-1", "<NA>"])
def test_a_word_for_nothing_is_no_order_even_within_a_day(tmp_path, word):
    result, found, _ = told(
        tmp_path,
        ("ann", "mug", "2024-01-03T08:00:00", word),
        ("ann", "mug", "2024-01-03T20:00:00", word),
        ("ann", "mug", "2024-03-31T09:00:00", word),
    )
    assert found == [("mug", "01-03T08:00"), ("mug", "01-03T20:00"), ("mug", "03-31T09:00")]
    (problem,) = result.problems
    assert (problem.code, problem.fatal, problem.rows, problem.of) == ("W212", False, 3, 3)
    assert "words for nothing: each of their lines keeps its own time: 3 of 3 rows" in str(problem)
    assert repr(word) in str(problem)


def test_nothing_of_an_order_is_known_before_it_happened(tmp_path):
    """A visit at 15:00 must not read of the pot that is bought at 20:00."""
    _, found, ids = told(
        tmp_path,
        ("ann", "mug", "2024-01-03T10:00:00", "cart"),
        ("ann", "pot", "2024-01-03T20:00:00", "cart"),
        ("bob", "mug", "2024-01-03T10:00:00", "till"),
        ("bob", "rug", "2024-01-03T10:00:00", "till"),
    )
    assert found == [
        ("mug", "01-03T10:00"),
        ("mug", "01-03T20:00"),  # Ann's, whose order is one
        ("pot", "01-03T20:00"),
        ("rug", "01-03T10:00"),
    ]
    assert ids == ["cart", "cart", "till", "till"]


def test_a_number_that_starts_again_moves_no_purchase(tmp_path):
    result, found, _ = told(
        tmp_path,
        ("ann", "mug", "2024-01-03T08:00:00", "1"),
        ("ann", "pot", "2024-01-03T08:05:00", "1"),
        ("ann", "mug", "2024-02-03T08:00:00", "1"),
        ("bob", "mug", "2024-02-03T08:00:00", "1"),
        ("bob", "rug", "2024-02-03T08:09:00", "1"),
    )
    assert found == [
        ("mug", "01-03T08:00"),
        ("mug", "02-03T08:00"),
        ("mug", "02-03T08:09"),  # Bob's, whose order is one
        ("pot", "01-03T08:05"),
        ("rug", "02-03T08:09"),
    ]
    assert "W212 1 order ids stand on more than one day of a user, up to 31 days apart" in said(
        result
    )
    assert "'1' of user 'ann'" in said(result)


@pytest.mark.parametrize("spell", ["nan", "{n}"])
def test_a_log_without_one_usable_order_id_keeps_its_length(tmp_path, spell):
    """All rows under one word, or under numbers that start again every week."""
    days = [f"2024-0{month}-{day:02d}" for month in (1, 2, 3) for day in range(1, 29)]
    lines = [
        ("ann", "mug", f"{day}T08:00:00", spell.format(n=1 + place % 7))
        for place, day in enumerate(days)
    ]
    result, found, _ = told(tmp_path, *lines)
    assert found == sorted(("mug", f"{day[5:]}T08:00") for day in days)
    assert [problem.code for problem in result.problems] == ["W212"]


def test_the_day_ends_at_the_midnight_of_the_recipe(tmp_path):
    night = (("ann", "mug", "2024-01-03T23:50:00", "o"), ("ann", "pot", "2024-01-04T00:10:00", "o"))
    write_shop(tmp_path, orders=orders(*night))
    for zone, num_moments in (("UTC", 2), ("Europe/Berlin", 1)):
        splits = {"timezone": zone, "windows": {"kind": "shares"}}
        _, tables = prepared(shop(tmp_path), tmp_path / zone[:3], splits=splits)
        assert len({row["ts"] for row in tables["interactions"]}) == num_moments


def test_an_id_in_two_tables_is_an_order_in_each(tmp_path):
    write_shop(tmp_path, orders=orders(("ann", "mug", "2024-01-03T08:00:00", "7")))
    (tmp_path / "seen.csv").write_text(orders(("ann", "pot", "2024-01-03T06:00:00", "7")))
    source = shop(tmp_path)
    seen = source["interactions"] | {"files": "seen.csv", "kind": {"constant": "view"}}
    both = source | {"interactions": [source["interactions"], seen]}
    result, tables = prepared(both, tmp_path / "out")
    assert [(row["item_id"], row["ts"]) for row in tables["interactions"]] == [
        ("pot", datetime(2024, 1, 3, 6, tzinfo=UTC)),
        ("mug", datetime(2024, 1, 3, 8, tzinfo=UTC)),
    ]
    assert len({row["order_id"] for row in tables["interactions"]}) == 2
    assert "W212 2 order ids of a user stand in more than one table" in said(result)


def test_ids_that_look_like_made_ones_stay_apart_from_them(tmp_path):
    _, found, ids = told(
        tmp_path,
        ("ann", "mug", "2024-01-03T08:00:00", ""),
        ("ann", "mug", "2024-01-03T08:00:00", "@2024-01-03 08:00:00"),
        ("ann", "mug", "2024-01-03T08:00:00", "2024-01-03 08:00:00"),
    )
    assert len(found) == len(set(ids)) == 3


def test_lines_of_one_item_that_sum_to_more_than_a_count_can_hold_stop_at_its_most(tmp_path):
    most = 2**31 - 1
    line = f"ann,mug,2024-01-03T08:00:00Z,9,{most},5\n"
    write_shop(tmp_path, orders=HEADER + line + line)
    _, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert [row["quantity"] for row in tables["interactions"]] == [most]
