"""What can be foreseen: purchases, else the strongest kind; never what somebody disliked."""

import pytest
from data_shop import prepared, shop, write_shop
from pydantic import ValidationError

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.problems import UnusableError
from taiji.data.tables.prepare import prepare_tables
from taiji.data.tables.target_kinds import strongest

RATED = (
    "customer,sku,when,order,pieces,amount,stars\n"
    "ann,mug,2024-01-03T10:00:00Z,o1,1,1,5\n"
    "ann,pot,2024-01-04T10:00:00Z,o2,1,1,3.5\n"
    "bob,mug,2024-02-04T09:30:00Z,o3,1,1,4\n"
    "bob,rug,2024-02-05T09:30:00Z,o4,1,1,\n"
)
LIKED = {"rating": "stars", "liked": {"rating": ">= 4"}, "kind": {"constant": "rating"}}


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        (("view", "purchase", "click"), ("purchase",)),
        (("view", "click"), ("click",)),
        (("dislike", "like"), ("like",)),
        (("dislike",), ()),
        (("listen", "dance"), ("listen",)),
        (("knit", "dance"), ("dance",)),
        ((), ()),
    ],
)
def test_the_strongest_kind_is_the_target(kinds, chosen):
    assert strongest(kinds) == chosen


def test_a_rating_is_a_like_or_a_dislike_by_its_threshold(tmp_path):
    write_shop(tmp_path, orders=RATED)
    _, tables = prepared(shop(tmp_path, interactions=LIKED), tmp_path / "out")
    kinds = {(row["user_id"], row["item_id"]): row["kind"] for row in tables["interactions"]}
    assert kinds == {
        ("ann", "mug"): "like",
        ("ann", "pot"): "dislike",
        ("bob", "mug"): "like",
        ("bob", "rug"): "rating",  # nobody said
    }


def test_a_rating_that_is_no_number_is_a_fault_with_its_name(tmp_path):
    write_shop(tmp_path, orders=RATED.replace(",5\n", ",five\n"))
    result, tables = prepared(shop(tmp_path, interactions=LIKED), tmp_path / "out")
    assert len(tables["interactions"]) == 3
    assert "rating is not a number" in str(result.problems[0])


def test_a_rating_without_a_threshold_is_no_recipe(tmp_path):
    with pytest.raises(ValidationError, match="belong together"):
        DataSection.model_validate({"source": shop(tmp_path, interactions={"rating": "stars"})})


def test_kinds_that_the_log_does_not_hold_are_refused_with_those_it_has(tmp_path):
    write_shop(tmp_path)
    section = DataSection.model_validate({"source": shop(tmp_path), "target_kinds": ["order"]})
    (tmp_path / "out").mkdir()
    with (
        open_engine("duckdb", tmp_path / "scratch") as engine,
        pytest.raises(UnusableError, match=r"E108 .* order: kinds here: purchase 4"),
    ):
        prepare_tables(engine, section, 17, tmp_path / "out")
