"""The log lets go of what the runs of all kept versions know, and of nothing else."""

import shutil
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parts_at_hand import shop_run, vouch

from taiji.schema import INTERACTIONS
from taiji.serving.events import Event
from taiji.serving.parts import open_parts
from taiji.serving.publication import publish
from taiji.serving.run import ServedRun
from taiji.store.files import write_parquet

MARCH = datetime(2024, 3, 1, tzinfo=UTC)


def bought(user, item, order, when=MARCH):
    micros = int(when.timestamp() * 1e6)
    facts = (f"{user} {order} {item}", "interactions", user, micros, "purchase", item, order)
    return Event(*facts, 1.0, 9.0)


KNOWN = bought("ann", "mug", "o1", datetime(2024, 1, 3, 10, 0, 7, tzinfo=UTC))  # o1's second line
LATER = bought("ann", "mug", "o9")
SEARCH = Event("s", "events", "bob", int(MARCH.timestamp() * 1e6), "search", "tea", "", None, None)


@pytest.fixture
def parts(tmp_path):
    opened = open_parts(shop_run(tmp_path))
    yield opened
    opened.close()


def newer_run(run):
    """The same run over a longer log, which knows `LATER`."""
    root = run.root.with_name("newer")
    shutil.copytree(run.root, root)
    path = root / "construct" / "interactions.parquet"
    line = {"user_id": "ann", "item_id": "mug", "ts": MARCH, "order_id": "o9", "kind": "purchase"}
    row = pa.Table.from_pylist([line | {"quantity": 1, "price": 9.0}], INTERACTIONS)
    both = pa.concat_tables([pq.read_table(path).cast(INTERACTIONS), row])
    write_parquet(both, path, INTERACTIONS)
    (root / "construct" / "manifest.json").unlink()
    vouch(root, "construct")
    return ServedRun(root, run.recipe)


def left(parts):
    return sorted(parts.log.past(["ann", "bob"]).positions)


def test_what_the_run_knows_leaves_the_log_and_its_user_waits_for_a_refresh(parts):
    parts.log.append([KNOWN, SEARCH])
    done = publish(parts.run, parts.state)
    assert (done.num_waiting, done.num_dropped) == (0, 1)  # they waited already
    assert left(parts) == ["bob"]
    waiting = parts.log.claim(9, debounce=0, max_delay=0, lease=9)
    assert sorted(one.user_id for one in waiting) == ["ann", "bob"]


def test_an_event_stays_until_the_version_that_one_could_go_back_to_knows_it_too(parts):
    parts.log.append([LATER])
    publish(parts.run, parts.state)
    newer = newer_run(parts.run)
    assert publish(newer, parts.state, anew=True).num_dropped == 0
    assert left(parts) == ["ann"]
    assert publish(newer, parts.state, anew=True).num_dropped == 1
    assert left(parts) == []


def test_a_run_that_is_no_longer_there_holds_nothing_back(parts):
    parts.log.append([LATER])
    publish(parts.run, parts.state)
    newer = newer_run(parts.run)
    shutil.rmtree(parts.run.root)
    assert publish(newer, parts.state, anew=True).num_dropped == 1
