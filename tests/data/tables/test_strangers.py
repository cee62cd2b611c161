"""Tables of two programs that are joined by ids: who meets nobody is told."""

import json

import pytest
from data_shop import ORDERS, prepared, said, shop, write_shop
from test_check import codes, daily_orders, report_of

SPELLINGS = {"{n}.0": None, "{n:05d}": "E114", "U{n}": "E114", "{n}": None}


def log(spell, users=(1, 2, 3, 4)):
    lines = [f"{spell.format(n=n)},mug,2024-01-0{n}T10:00:00Z,o{n},1,5" for n in users]
    return "\n".join([ORDERS.split("\n")[0], *lines, ""])


@pytest.mark.parametrize("spell", SPELLINGS)
def test_profiles_that_meet_nobody_are_an_error(tmp_path, spell):
    write_shop(tmp_path, orders=log("{n}"))
    ids = [spell.format(n=n) for n in (1, 2, 3, 4)]
    (tmp_path / "people.csv").write_text("id,town\n" + "".join(f"{i},Bonn\n" for i in ids))
    people = {"files": "people.csv", "user_id": "id", "profile": {"city": "town"}}
    result, tables = prepared(shop(tmp_path, users=people), tmp_path / "out")
    assert [problem.code for problem in result.problems] == [c for c in [SPELLINGS[spell]] if c]
    if SPELLINGS[spell]:
        assert "0 of 4 users of users are users of interactions, of which there are 4" in said(
            result
        )
        assert repr(ids[0]) in said(result)
    else:
        assert {row["user_id"]: row["fields"][0][1] for row in tables["users"]} == dict.fromkeys(
            ("1", "2", "3", "4"), "Bonn"
        )


@pytest.mark.parametrize("is_one_known", [True, False])
def test_few_users_of_exposures_in_the_log_are_a_warning_and_none_an_error(tmp_path, is_one_known):
    write_shop(tmp_path, orders=log("{n}"))
    first = "1" if is_one_known else "U1"
    shown = "".join(f"{who},mug,2024-01-02,1\n" for who in (first, "U2", "U3", "U4"))
    (tmp_path / "ads.csv").write_text("c,i,t,click\n" + shown)
    ads = {"files": "ads.csv", "user_id": "c", "item_id": "i", "click": "click"}
    ads |= {"ts": {"column": "t", "timezone": "UTC"}}
    result, _ = prepared(shop(tmp_path, exposures=ads), tmp_path / "out")
    what = "W213 1" if is_one_known else "E114 0"
    assert f"{what} of 4 users of exposures are users of interactions" in said(result)
    assert any(problem.fatal for problem in result.problems) != is_one_known


@pytest.mark.parametrize("writes", ["csv", "jsonl"])
def test_ids_of_both_spellings_in_one_column_are_one_user(tmp_path, writes):
    lines = log("{n}") + "\n".join(log("{n}.0").splitlines()[1:]) + "\n"
    write_shop(tmp_path, orders=lines)
    header, *rows = (line.split(",") for line in lines.splitlines())
    values = [dict(zip(header, row, strict=True)) for row in rows]
    numbers = [row | {"customer": json.loads(row["customer"])} for row in values]  # 1 and 1.0
    (tmp_path / "orders.jsonl").write_text("\n".join(map(json.dumps, numbers)))
    source = shop(tmp_path, interactions={"files": f"orders.{writes}"})
    _, tables = prepared(source, tmp_path / "out")
    assert {row["user_id"] for row in tables["users"]} == {"1", "2", "3", "4"}


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "<NA>", "undefined"])
def test_a_word_for_nothing_is_no_user(tmp_path, word):
    write_shop(tmp_path, orders=ORDERS.replace("ann", word))
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert result.counts["interactions"] == {"E103 user_id is a word for nothing": 2, "kept": 2}
    assert {row["user_id"] for row in tables["users"]} == {"bob"}


@pytest.mark.parametrize(
    ("guest", "is_told"), [("0", True), ("-1", True), ("guest", True), ("cid", False)]
)
def test_one_id_for_all_guests_is_told(tmp_path, guest, is_told):
    more = "".join(f"{guest},mug,2024-01-{d:02d}T09:00:00Z,g{d},1,5\n" for d in range(1, 26))
    write_shop(tmp_path, orders=daily_orders() + more)
    assert ("W214" in codes(report_of(shop(tmp_path), tmp_path / "out"))) == is_told


def test_a_catalogue_without_any_category_is_told(tmp_path):
    write_shop(tmp_path, orders=daily_orders())
    report = report_of(shop(tmp_path, items={"categories": None}), tmp_path / "out")
    assert "W217" in codes(report)
