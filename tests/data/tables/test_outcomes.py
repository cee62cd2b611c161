"""Several kinds of conversion, their goal and value, from the columns of a log."""

import pyarrow.parquet as pq
import pytest
from data_shop import prepared, shop, write_shop
from pydantic import ValidationError

from taiji.config.mapping import ExposuresTable
from taiji.schema import EXPOSURES, OUTCOMES

COLUMNS = {"user_id": "customer", "item_id": "sku", "click": "clicked"}
KINDS = COLUMNS | {
    "files": "ads.csv",
    "ts": {"column": "at", "timezone": "UTC"},
    "conversions": {"install": "installed", "pay": "paid"},
    "goal": "wants",
    "advertiser": "owner",
    "value": "worth",
}
HEAD = "customer,sku,at,clicked,installed,paid,wants,owner,worth\n"


def write_ads(folder, *rows):
    lines = [f"ann,mug,2024-02-0{n + 1}T10:00:00,{row}\n" for n, row in enumerate(rows)]
    (folder / "ads.csv").write_text(HEAD + "".join(lines), encoding="utf-8")
    return shop(write_shop(folder), exposures=KINDS)


def test_the_conversion_is_that_of_the_goal_and_outcomes_hold_the_rest(tmp_path):
    source = write_ads(
        tmp_path, "1,1,0,pay,acme,5", "1,1,1,pay,acme,7.5", "1,1,,install,bolt,", "1,,,pay,acme,"
    )
    result, tables = prepared(source, tmp_path / "out")
    assert result.counts["exposures"] == {"kept": 4}
    assert [row["conversion"] for row in tables["exposures"]] == [0, 1, 1, None]
    assert set(tables["exposures"][0]) == set(EXPOSURES.names)
    outcomes = pq.read_table(tmp_path / "out" / "outcomes.parquet")
    assert outcomes.schema.equals(OUTCOMES)
    told = [
        (row["advertiser"], row["goal"], row["reported"], row["value"])
        for row in outcomes.to_pylist()
    ]
    assert told == [
        ("acme", "pay", "install", None),
        ("acme", "pay", "install,pay", 7.5),
        ("bolt", "install", "install", None),
        ("acme", "pay", "", None),
    ]


def test_rows_that_cannot_be_read_are_named(tmp_path):
    rows = ["1,0,0,rent,acme,", "1,perhaps,0,pay,acme,", "0,1,0,pay,acme,", "1,0,1,pay,acme,much"]
    result, _ = prepared(write_ads(tmp_path, *rows), tmp_path / "out")
    assert result.counts["exposures"] == {
        "E102 value is not a number": 1,
        "E107 goal is none of the conversions": 1,
        "E112 a conversion is not 0, 1 or empty": 1,
        "E113 conversion without a click": 1,
    }


def test_a_log_of_one_kind_has_no_outcomes(tmp_path):
    one = {
        k: v for k, v in KINDS.items() if k not in ("conversions", "goal", "advertiser", "value")
    }
    write_ads(tmp_path, "1,1,0,pay,acme,5")
    prepared(shop(tmp_path, exposures=one | {"conversion": "paid"}), tmp_path / "out")
    assert not (tmp_path / "out" / "outcomes.parquet").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"goal": None}, "belong together"),
        ({"conversion": "paid"}, "not both"),
        ({"conversions": {}, "goal": None}, "advertiser belongs"),
        ({"conversions": {"a,b": "paid"}}, "pattern"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        ExposuresTable.model_validate(KINDS | change)
