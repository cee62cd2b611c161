from datetime import UTC, datetime

import pytest
from data_shop import ORDERS, prepared, shop, write_shop
from parts_at_hand import shop_section, write_tables

from taiji.config import DataSection
from taiji.serving.admission import Admission, Sent

EVENTS = {
    "modality": "search",
    "files": "searches.csv",
    "user_id": "customer",
    "ts": "when",
    "value": "words",
}
BAD_ROWS = (
    {"customer": "", "sku": "mug", "when": "2024-03-01T10:00:00Z", "pieces": "1"},
    {"customer": "ann", "sku": "", "when": "2024-03-01T10:00:00Z", "pieces": "1"},
    {"customer": "ann", "sku": "nothing", "when": "2024-03-01T10:00:00Z", "pieces": "1"},
    {"customer": "ann", "sku": "mug", "when": "yesterday", "pieces": "1"},
    {"customer": "ann", "sku": "mug", "when": "2024-03-01 10:00:00", "pieces": "1"},
    {"customer": "ann", "sku": "mug", "when": "2024-03-01T10:00:00Z", "pieces": "half"},
    {"customer": "ann", "sku": "mug", "when": "2024-03-01T10:00:00Z", "pieces": "-1"},
    {"customer": "ann", "sku": "mug", "when": "1924-03-01T10:00:00Z", "pieces": "1"},
)


@pytest.fixture
def admission(tmp_path):
    section = shop_section(tmp_path)
    write_tables(section, tmp_path / "tables")
    made = Admission(section, tmp_path / "tables" / "items.parquet", tmp_path / "scratch")
    yield made
    made.close()


def row(**changes):
    known = {"customer": "ann", "sku": "mug", "when": "2024-03-01T10:00:00Z", "order": "o9"}
    return known | {"pieces": "2", "amount": "30.00"} | changes


def test_a_row_of_the_raw_table_becomes_a_row_of_the_canonical_one(admission):
    (event,), refused = admission.judge([Sent("interactions", row(), "e1")])
    assert refused == []
    moment = datetime(2024, 3, 1, 10, tzinfo=UTC)
    assert (event.event_id, event.user_id, event.subject) == ("e1", "ann", "mug")
    assert event.ts == int(moment.timestamp()) * 1_000_000
    assert (event.kind, event.order_id, event.amount, event.price) == ("purchase", "o9", 2.0, 15.0)


def test_numbers_of_json_read_as_in_a_file(admission):
    numbers = row(pieces=2, amount=30.0, order=9)
    (event,), _ = admission.judge([Sent("interactions", numbers)])
    assert (event.amount, event.price, event.order_id) == (2.0, 15.0, "9")


def test_a_row_is_refused_by_the_rule_that_refuses_it_in_the_log(admission, tmp_path):
    _, refused = admission.judge([Sent("interactions", bad) for bad in BAD_ROWS])
    columns = ORDERS.splitlines()[0].split(",")
    lines = [",".join(bad.get(name, "") for name in columns) for bad in BAD_ROWS]
    write_shop(tmp_path, orders="\n".join([ORDERS.strip(), *lines, ""]))
    result, _ = prepared(shop(tmp_path), tmp_path / "log")
    reasons = {why for why in result.counts["interactions"] if why.startswith("E")}
    assert [one.index for one in refused] == list(range(len(BAD_ROWS)))
    assert {f"{one.code} {one.reason}".split(" to 20")[0] for one in refused} == {
        why.split(" to 20")[0]
        for why in reasons  # the log ends when its recipe says
    }


def test_what_stood_in_a_refused_row_is_not_said(admission):
    _, (refused,) = admission.judge([Sent("interactions", row(sku="canary-of-a-secret"))])
    assert refused.code == "E106"
    assert "canary" not in str(refused)


def test_good_rows_pass_beside_bad_ones_in_their_order(admission):
    rows = [row(order="1"), row(sku="x"), row(order="2"), row(when=None), row(order="3")]
    events, refused = admission.judge([Sent("interactions", one) for one in rows])
    assert [event.order_id for event in events] == ["1", "2", "3"]
    assert [(one.index, one.code) for one in refused] == [(1, "E106"), (3, "E103")]


def test_a_table_that_the_recipe_has_not_is_named(admission):
    _, (refused,) = admission.judge([Sent("exposures", row())])
    assert (refused.index, refused.code) == (0, "E101")
    assert "interactions" in refused.mend


def test_equal_rows_without_ids_are_one_event_and_ids_are_kept(admission):
    first, second = (admission.judge([Sent("interactions", row())])[0][0] for _ in range(2))
    assert first.event_id == second.event_id
    other = admission.judge([Sent("interactions", row(pieces="3"))])[0][0]
    assert other.event_id != first.event_id


def test_hostile_values_are_values(admission):
    hostile = row(customer="a'; DROP TABLE x; --", order="\ud800 \x00 {}")
    (event,), _ = admission.judge([Sent("interactions", hostile)])
    assert event.user_id == "a'; DROP TABLE x; --"
    assert "\ud800" not in event.order_id


def test_other_behaviour_is_taken_in_by_its_own_table(tmp_path):
    section = DataSection.model_validate({"source": shop(write_shop(tmp_path))})
    write_tables(section, tmp_path / "tables")
    source = section.source.model_copy(
        update={
            "events": DataSection.model_validate(
                {"source": shop(tmp_path, events=[EVENTS])}
            ).source.events
        }
    )
    section = section.model_copy(update={"source": source})
    admission = Admission(section, tmp_path / "tables" / "items.parquet", tmp_path / "scratch")
    searched = {"customer": "ann", "when": "2024-03-01T10:00:00Z", "words": "blue mug"}
    (event,), refused = admission.judge([Sent("events", searched), Sent("events", {})])
    assert (event.table, event.kind, event.subject) == ("events", "search", "blue mug")
    assert [one.code for one in refused] == ["E103"]
    admission.close()


@pytest.mark.parametrize("word", ["0", "-", "NaN"])
def test_a_word_for_no_order_is_none_as_in_the_log(admission, word):
    (event,), _ = admission.judge([Sent("interactions", row(order=word))])
    assert event.order_id.startswith("@")


def test_a_column_with_a_dot_in_its_name_is_found_as_in_the_log(tmp_path):
    section = DataSection.model_validate({"source": shop(write_shop(tmp_path))})
    write_tables(section, tmp_path / "tables")
    (raw,) = section.source.interactions
    dotted = raw.model_copy(
        update={"user_id": raw.user_id.model_copy(update={"column": "customer.id"})}
    )
    source = section.source.model_copy(update={"interactions": (dotted,)})
    admission = Admission(
        section.model_copy(update={"source": source}),
        tmp_path / "tables" / "items.parquet",
        tmp_path / "scratch",
    )
    for told in ({"customer.id": "ann"}, {"customer": {"id": "ann"}}):
        (event,), refused = admission.judge([Sent("interactions", row() | told)])
        assert (event.user_id, refused) == ("ann", [])
    admission.close()
