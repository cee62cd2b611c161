"""Where items are: degrees that can be read, and both of them or none."""

import pyarrow.parquet as pq
import pytest
from data_shop import prepared, said, shop, write_shop
from pydantic import ValidationError

from taiji.config import Recipe
from taiji.schema import PLACES

HEAD = "sku,name,path,lat,lon\n"
PLACED = {"latitude": "lat", "longitude": "lon"}


def write_places(folder, **places):
    rows = [f"{item},{item},Shop,{place}\n" for item, place in places.items()]
    return shop(write_shop(folder, items=HEAD + "".join(rows)), items=PLACED)


def test_places_stand_beside_the_items_that_have_one(tmp_path):
    source = write_places(tmp_path, mug="52.52,13.405", pot=",", rug="-90,180")
    result, tables = prepared(source, tmp_path / "out")
    assert result.counts["items"] == {"kept": 3}
    assert "latitude" not in tables["items"][0]
    found = pq.read_table(tmp_path / "out" / "places.parquet")
    assert found.schema.equals(PLACES)
    assert found.to_pylist() == [
        {"item_id": "mug", "latitude": 52.52, "longitude": 13.405},
        {"item_id": "rug", "latitude": -90.0, "longitude": 180.0},
    ]


def test_bad_places_are_named_with_row_and_field(tmp_path):
    source = write_places(
        tmp_path,
        **{"mug": "52.52,13.4", "a": "90.1,0", "b": "0,-181", "c": "52.5,", "d": ",13"},
        **{"e": "north,13", "f": "0,0"},
    )
    result, _ = prepared(source, tmp_path / "out")
    assert result.counts["items"] == {
        "E102 latitude is not a number": 1,
        "E118 latitude beyond 90 degrees": 1,
        "E118 longitude beyond 180 degrees": 1,
        "E118 no latitude beside a longitude": 1,
        "E118 no longitude beside a latitude": 1,
        "E118 place is 0, 0": 1,
        "kept": 1,
    }
    assert "items.latitude (column lat): E118 latitude beyond 90" in said(result)
    assert "items.csv row 3 '90.1, 0'" in said(result)
    assert "items.csv row 5 '52.5, ?'" in said(result)


def test_a_log_of_one_place_or_none_has_no_places(tmp_path):
    prepared(shop(write_shop(tmp_path)), tmp_path / "out")
    assert not (tmp_path / "out" / "places.parquet").exists()
    result, _ = prepared(write_places(tmp_path, mug=",", pot=",", rug=","), tmp_path / "empty")
    assert "E118 no item has a place" in said(result)
    assert any(problem.fatal for problem in result.problems)


def test_a_reward_for_distance_without_places_is_no_recipe(tmp_path):
    paid = {"rewards": {"more": [{"kind": "distance"}]}}
    source = shop(tmp_path, items=PLACED)
    recipe = {"name": "far", "data": {"source": source}, "align": paid}
    assert "distance" in Recipe.model_validate(recipe).align.rewards.names
    for elsewhere in (shop(tmp_path), "complete_journey"):
        with pytest.raises(ValidationError, match=r"map data\.source\.items\.latitude"):
            Recipe.model_validate(recipe | {"data": {"source": elsewhere}})
    with pytest.raises(ValidationError, match="belong together"):
        Recipe.model_validate(
            recipe | {"data": {"source": shop(tmp_path, items={"latitude": "a"})}}
        )
