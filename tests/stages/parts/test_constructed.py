"""What construct wrote is read once, and what is missing in it is said."""

from datetime import UTC, datetime

import market
import pyarrow as pa
import pytest
from rows import example_row
from weeks import CALENDAR

import taiji.schema
from taiji.data.catalogue import popular_items
from taiji.errors import DataError
from taiji.schema import EXAMPLES, EXPOSURES, OUTCOMES
from taiji.stages.parts.constructed import Constructed, contexts_of, judged_exposures
from taiji.store.files import read_parquet, write_parquet


def write(folder, *conversions, click=None):
    shown = {"user_id": "u", "item_id": "i", "ts": datetime(2024, 1, 1, tzinfo=UTC)}
    clicks = click or [1] * len(conversions)
    rows = [
        shown | {"placement": "", "click": clicked, "conversion": conversion}
        for clicked, conversion in zip(clicks, conversions, strict=True)
    ]
    write_parquet(pa.Table.from_pylist(rows, EXPOSURES), folder / "exposures.parquet", EXPOSURES)


def read(folder):
    return Constructed(folder).labelled_exposures


def test_no_exposures_is_an_error_that_names_the_table_and_how_to_give_it(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match=r"none.*data\.source\.exposures \(user_id, item_id, ts"):
        read(tmp_path)


def test_conversions_that_nobody_knows_are_an_error(tmp_path):
    write(tmp_path, None, None)
    with pytest.raises(DataError, match=r"not known.*data\.source\.exposures\.conversion"):
        read(tmp_path)


def test_clicks_of_unknown_conversion_are_learned_from_counted_and_not_judged_by(tmp_path, caplog):
    write(tmp_path, 1, None, 0)
    found = read(tmp_path)
    assert found["conversion"].to_pylist() == [1, None, 0]
    assert "1 clicks of unknown conversion" in caplog.text
    assert judged_exposures(found)["conversion"].to_pylist() == [1, 0]


def test_where_no_click_was_there_is_no_conversion(tmp_path):
    write(tmp_path, 1, None, None, click=(1, 0, 1))
    assert read(tmp_path)["conversion"].to_pylist() == [1, 0, None]


def test_outcomes_stand_beside_the_exposures_they_belong_to(tmp_path):
    write(tmp_path, 1, 0)
    rows = read_parquet(tmp_path / "exposures.parquet").select(OUTCOMES.names[:4]).to_pylist()
    more = {"advertiser": "a", "goal": "pay", "reported": "pay", "value": 3.0}
    table = pa.Table.from_pylist([row | more for row in rows], OUTCOMES)
    write_parquet(table, tmp_path / "outcomes.parquet", OUTCOMES)
    found = read(tmp_path)
    assert found.column_names == [*EXPOSURES.names, *more]
    write_parquet(table.slice(1), tmp_path / "outcomes.parquet", OUTCOMES)
    with pytest.raises(DataError, match="not of these exposures"):
        read(tmp_path)


def example(number, split, target="i00"):
    cutoff = datetime(2024, 1, 1 + number, tzinfo=UTC)
    return example_row(f"e{number}", split, user_id="u000", cutoff=cutoff, target_item_id=target)


@pytest.fixture
def constructed(tmp_path):
    logs = market.build(num_users=3)
    for name in ("users", "items", "interactions"):
        table, schema = getattr(logs, name), getattr(taiji.schema, name.upper())
        write_parquet(table, tmp_path / f"{name}.parquet", schema)
    CALENDAR.write(tmp_path / "windows.json")
    splits = ("sft", "rl", "test", "test", "rank_train")
    rows = [example(n, split) for n, split in enumerate(splits)] + [example(9, "test", None)]
    table = pa.Table.from_pylist(rows, EXAMPLES)
    write_parquet(table, tmp_path / "examples.parquet", EXAMPLES)
    return Constructed(tmp_path)


def test_each_table_is_read_once(constructed, tmp_path):
    before = constructed.interactions, constructed.as_of
    for path in tmp_path.glob("*.parquet"):
        path.unlink()
    assert before == (constructed.interactions, constructed.as_of)
    assert constructed.as_of.item_ids == tuple(constructed.items["item_id"].to_pylist())


def test_examples_come_by_split(constructed):
    def ids(table):
        return table["example_id"].to_pylist()

    assert ids(constructed.examples()) == ["e0", "e1", "e2", "e3", "e4", "e9"]
    assert ids(constructed.examples("rl", "rank_train")) == ["e1", "e4"]
    assert ids(constructed.targeted_examples("test")) == ["e2", "e3"]
    with pytest.raises(DataError, match=r"rank_test.*raise data\.num_rank_test"):
        constructed.targeted_examples("rank_test")


def test_the_catalogue_ends_before_the_earliest_example(constructed):
    tests = constructed.targeted_examples("test")
    before = tests["cutoff"][0].as_py()
    log = constructed.interactions
    assert constructed.catalogue(tests, 5).equals(popular_items(constructed.items, log, before, 5))


def test_a_context_is_a_user_at_a_moment(constructed):
    contexts = contexts_of(constructed.examples("sft"))
    assert contexts == {"e0": ("u000", datetime(2024, 1, 1, tzinfo=UTC))}
