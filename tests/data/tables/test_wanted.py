"""`only`: which rows are meant."""

import pytest
from data_shop import prepared, shop, write_shop
from pydantic import ValidationError

from taiji.config.mapping_fields import OnlyField

ROWS = {"536": "ok", "C537": "ok", "A538": "lost", "539": "", "540": "late"}


@pytest.mark.parametrize(
    ("only", "kept"),
    [
        ({"state": ["ok", "late"]}, {"536", "C537", "540"}),
        ({"state": {"any_of": ["ok"]}}, {"536", "C537"}),
        ({"state": {"none_of": ["lost"]}}, {"536", "C537", "539", "540"}),
        ({"state": {"filled": True}}, {"536", "C537", "A538", "540"}),
        ({"order": {"begins_not": ["C", "A"]}}, {"536", "539", "540"}),
        ({"order": {"begins": ["C"]}}, {"C537"}),
        ({"order": {"begins_not": ["C"]}, "state": {"filled": True}}, {"536", "A538", "540"}),
        ({"state": {"none_of": ["lost"], "filled": True}}, {"536", "C537", "540"}),
    ],
)
def test_rows_that_are_not_meant_are_left_out_and_counted(tmp_path, only, kept):
    lines = "".join(
        f"ann,mug,2024-01-{n:02d}T10:00:00Z,{order},1,5,{state}\n"
        for n, (order, state) in enumerate(ROWS.items(), start=1)
    )
    write_shop(tmp_path, orders="customer,sku,when,order,pieces,amount,state\n" + lines)
    result, tables = prepared(shop(tmp_path, interactions={"only": only}), tmp_path / "out")
    assert {row["order_id"] for row in tables["interactions"]} == kept
    assert result.counts["interactions"] == {
        "kept": len(kept),
        "left out by only": len(ROWS) - len(kept),
    }
    assert result.problems == []


def test_a_rule_that_says_nothing_is_refused():
    with pytest.raises(ValidationError, match="needs one of any_of"):
        OnlyField()
