"""An error over the tolerance names the setting that would allow it, and that setting works."""

import re

import pytest
from data_shop import ORDERS, prepared, said, shop, write_shop
from pydantic import ValidationError

from taiji.config import DataSection


def test_the_setting_that_an_error_names_lets_these_rows_go_and_no_others(tmp_path):
    orders = ORDERS + "bob,sofa,2024-02-06T09:30:00Z,o4,1,80.00\n"  # 1 of 5 rows
    source = shop(write_shop(tmp_path, orders=orders), tolerance=0.0)
    result, _ = prepared(source, tmp_path / "refused")
    (problem,) = result.problems
    assert problem.fatal
    found = re.search(r"data\.source\.allow\.(\w+)\.(E\d+)=([0-9.]+)", str(problem))
    assert found.groups() == ("interactions", "E106", "0.2")
    allowed = source | {"allow": {found[1]: {found[2]: float(found[3])}}}
    result, tables = prepared(allowed, tmp_path / "allowed")
    assert not any(problem.fatal for problem in result.problems)
    assert len(tables["interactions"]) == 4
    elsewhere = source | {"allow": {"items": {"E106": 1.0}, "interactions": {"E103": 1.0}}}
    result, _ = prepared(elsewhere, tmp_path / "elsewhere")
    assert "E106" in said(result)
    assert any(problem.fatal for problem in result.problems)


@pytest.mark.parametrize("allow", [{"shops": {"E106": 0.1}}, {"items": {"bad": 0.1}}])
def test_a_table_or_code_that_is_none_is_refused(tmp_path, allow):
    with pytest.raises(ValidationError):
        DataSection.model_validate({"source": shop(tmp_path, allow=allow)})
