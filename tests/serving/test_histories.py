"""A prompt from events is the prompt from the log."""

import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from data_shop import shop
from parts_at_hand import write_tables

from taiji.config import DataSection
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.examples.examples import write_prompts
from taiji.data.examples.past import since_sql
from taiji.data.tables.reach import Contents
from taiji.schema import EXAMPLES
from taiji.serving.admission import Admission, Sent
from taiji.serving.histories import Histories
from taiji.serving.log import EventLog
from taiji.stages.parts.constructed import CONTENTS
from taiji.store.files import read_parquet, write_json

ITEMS = [f"i{number}" for number in range(12)]
USERS = [f"u{number}" for number in range(9)]
STARTS = datetime(2024, 1, 1, tzinfo=UTC)
KINDS = ("purchase",)
SEARCHES = {
    "modality": "search",
    "files": "searches.csv",
    "user_id": "customer",
    "ts": "when",
    "value": "words",
}


def lines(seed):
    """Orders of several lines, some items twice, and searches, in the order of time."""
    draw = random.Random(seed)
    orders, searches = [], []
    for number in range(150):
        moment = STARTS + timedelta(hours=number * 5, minutes=draw.randrange(60))
        when, customer = moment.isoformat(), draw.choice(USERS)
        for line in draw.sample(range(1, 4), draw.randrange(1, 4)):
            pieces, amount = draw.randrange(1, 4), f"{draw.randrange(100, 900) / 100:.2f}"
            told = (line, draw.choice(["", 3, 5]))
            then = (moment + timedelta(seconds=line)).isoformat()  # scanned one after the other
            orders.append((customer, draw.choice(ITEMS), then, f"o{number}", pieces, amount, *told))
        if draw.random() < 0.3:
            searches.append((customer, when, draw.choice(["tea", "blue mug", "a < b"])))
    return orders, searches


def write(folder, orders, searches, **changes):
    folder.mkdir(exist_ok=True)
    paths = ["Kitchen > Mugs", "Kitchen > Pots", "Garden > Pots", "Garden"]
    items = [f"{item},Thing {n},{paths[n % 4]}" for n, item in enumerate(ITEMS)]
    for name, head, rows in (
        ("items", "sku,name,path", items),
        (
            "orders",
            "customer,sku,when,order,pieces,amount,no,stars",
            [",".join(map(str, r)) for r in orders],
        ),
        ("searches", "customer,when,words", [",".join(r) for r in searches]),
    ):
        (folder / f"{name}.csv").write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    told = {"line": "no", "note": {"template": "rated {stars}"}}
    source = shop(folder, events=[SEARCHES], interactions=told, **changes)
    return DataSection.model_validate({"source": source, "history_items": 5})


def from_log(section, tables, scratch):
    """What construct's code says of every user just after their newest line."""
    engine = DuckDbEngine(scratch)
    for name in ("users", "items", "interactions", "events"):
        engine.read(name, [tables / f"{name}.parquet"])
    moments = "SELECT user_id, ts FROM interactions UNION ALL SELECT user_id, ts FROM events"
    newest = engine.query(f"SELECT user_id, max(ts) AS ts FROM ({moments}) GROUP BY user_id")
    rows = [
        {"user_id": row["user_id"], "cutoff": row["ts"] + timedelta(microseconds=1)}
        for row in newest.to_pylist()
    ]
    engine.register("newest", pa.Table.from_pylist(rows))
    nothing = ("target_item_id", "novel_target_item_id")
    lists = ("target_item_ids", "basket_item_ids")
    nulls = [f"CAST(NULL AS STRING) AS {name}" for name in nothing]
    nulls += [f"CAST(NULL AS ARRAY<STRING>) AS {name}" for name in lists]
    engine.create(
        "asks",
        "SELECT user_id AS example_id, user_id, 'x' AS split, cutoff, "
        f"{since_sql(section.history_days)} AS since, {', '.join(nulls)}, "
        "row_number() OVER (ORDER BY user_id) AS place FROM newest",
    )
    write_prompts(engine, section, scratch / "examples.parquet", KINDS)
    table = read_parquet(scratch / "examples.parquet", EXAMPLES).sort_by("user_id")
    engine.close()
    return table


@pytest.mark.parametrize("seed", [1, 2])
def test_a_prompt_from_events_equals_the_one_from_the_log(tmp_path, seed):
    orders, searches = lines(seed)
    whole = write(tmp_path / "whole", orders, searches)
    write_tables(whole, tmp_path / "whole_tables")
    expected = from_log(whole, tmp_path / "whole_tables", tmp_path / "a")

    cut, cut_searches = len(orders) // 2 + 1, len(searches) // 2  # in the midst of an order
    part = write(tmp_path / "part", orders[:cut], searches[:cut_searches])
    write_tables(part, tmp_path / "part_tables")
    admission = Admission(part, tmp_path / "part_tables" / "items.parquet", tmp_path / "b")
    columns = ("customer", "sku", "when", "order", "pieces", "amount", "no", "stars")
    sent = [
        Sent("interactions", dict(zip(columns, map(str, row), strict=True)), f"line {number}")
        for number, row in enumerate(orders[cut:])
    ]
    sent += [
        Sent("events", dict(zip(("customer", "when", "words"), row, strict=True)))
        for row in searches[cut_searches:]
    ]
    random.Random(seed).shuffle(sent)  # late events are events too
    events, refused = admission.judge(sent)
    admission.close()
    assert not refused
    log = EventLog(tmp_path / "log.sqlite", {})
    assert log.append(events) == len(events)
    assert log.append(events[:7]) == 0  # again
    write_json(Contents(target_kinds=KINDS).to_json(), tmp_path / "part_tables" / CONTENTS)
    histories = Histories(tmp_path / "part_tables", part, tmp_path / "c", 0.5)
    told = histories.tell(USERS, log.past(USERS))
    histories.close()
    same = ["user_id", "cutoff", "profile", "history", "history_length", "long_tail"]
    assert told.examples.select(same).equals(expected.select(same))
    assert "rated 5" in str(expected["history"].to_pylist())
    micros = expected["cutoff"].cast(pa.int64()).to_pylist()
    assert [told.event_times[user] + 1 for user in expected["user_id"].to_pylist()] == micros

    # A newer run knows the events: they count once.
    write_json(Contents(target_kinds=KINDS).to_json(), tmp_path / "whole_tables" / CONTENTS)
    newer = Histories(tmp_path / "whole_tables", whole, tmp_path / "d", 0.5)
    assert newer.tell(USERS, log.past(USERS)).examples.select(same).equals(expected.select(same))
    newer.close()


def test_a_user_whom_the_run_does_not_know_has_a_prompt_and_one_without_a_past_none(tmp_path):
    orders, searches = lines(3)
    section = write(tmp_path / "shop", orders, searches)
    write_tables(section, tmp_path / "tables")
    admission = Admission(section, tmp_path / "tables" / "items.parquet", tmp_path / "a")
    row = {"customer": "stranger", "sku": "i1", "when": "2024-05-01T00:00:00Z", "order": "x"}
    events, _ = admission.judge([Sent("interactions", row | {"pieces": "1", "amount": "2.00"})])
    admission.close()
    log = EventLog(tmp_path / "log.sqlite", {})
    log.append(events)
    histories = Histories(tmp_path / "tables", section, tmp_path / "b", 0.5)
    told = histories.tell(["stranger", "nobody"], log.past(["stranger", "nobody"]))
    histories.close()
    (example,) = told.examples.to_pylist()
    assert example["user_id"] == "stranger"
    assert example["history"][0]["text"] == "Thing 1; Kitchen; Pots; 2.00; 1 minute before"


def test_a_recipe_that_tells_what_is_on_offer_counts_the_exposures_of_the_run(tmp_path):
    orders, searches = lines(4)
    user, _, newest, *_ = orders[-1]
    days = [datetime.fromisoformat(newest) - timedelta(days=ago) for ago in (1, 2, 30)]
    shown = [("i0", days[0]), ("i0", days[1]), ("i1", days[0]), ("i2", days[2])]
    rows = [f"{user},{sku},{when.isoformat()},0" for sku, when in shown]
    folder = tmp_path / "shop"
    exposures = {"user_id": "customer", "item_id": "sku", "ts": "when", "click": "hit"}
    section = write(folder, orders, searches, exposures=exposures | {"files": "shown.csv"})
    table = "\n".join(["customer,sku,when,hit", *rows, ""])
    (folder / "shown.csv").write_text(table, encoding="utf-8")
    section = section.model_copy(update={"offer_categories": 2, "exposure_share": 1.0})
    write_tables(section, tmp_path / "tables")
    write_json(Contents(target_kinds=KINDS).to_json(), tmp_path / "tables" / CONTENTS)
    histories = Histories(tmp_path / "tables", section, tmp_path / "a", 0.5)
    told = histories.tell([user], EventLog(tmp_path / "log.sqlite", {}).past([user]))
    histories.close()
    assert told.examples["offer"].to_pylist() == [["Mugs", "Pots"]]
