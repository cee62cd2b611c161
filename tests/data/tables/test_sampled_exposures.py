"""Exposures that nobody was shown: named so, as of the time, and as popular as their items were."""

import os
import shutil
from collections import Counter
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from weeks import week_start

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.tables.sampled_exposures import sample_exposures
from taiji.errors import DataError
from taiji.schema import EXPOSURES, INTERACTIONS

SECTION = DataSection(exposure_share=1.0, sampled_negatives=4)
EARLY, LATE = week_start(10), week_start(20)


def log(later="i9"):
    """`i0` is bought twice as often as `i1`; `later` only after everything else."""
    rows = [
        (f"u{n}", "i0" if n % 3 else "i1", EARLY + timedelta(hours=n), "purchase")
        for n in range(300)
    ]
    rows += [(f"u{n}", later, LATE + timedelta(hours=n), "purchase") for n in range(50)]
    rows += [(f"u{n}", "i7", EARLY + timedelta(minutes=n), "dislike") for n in range(5)]
    columns = ("user_id", "item_id", "ts", "kind")
    fixed = {"quantity": 1, "price": 1.0}
    return pa.Table.from_pylist(
        [dict(zip(columns, r, strict=True)) | {"order_id": str(r[2])} | fixed for r in rows],
        INTERACTIONS,
    )


def sampled(table, folder, seed=17, kind="duckdb", exposures=None, section=SECTION):
    folder.mkdir()
    with open_engine(kind, folder / "scratch") as engine:
        engine.register("interactions", table)
        engine.register("exposures", EXPOSURES.empty_table() if exposures is None else exposures)
        num = sample_exposures(engine, section, seed, folder, ("purchase",))
    found = pq.read_table(folder / "exposures.parquet")
    assert found.num_rows == num
    return found.to_pylist()


def test_what_was_taken_is_clicked_and_what_was_not_is_named_sampled(tmp_path):
    rows = sampled(log(), tmp_path / "out")
    assert {row["placement"] for row in rows} == {"sampled"}
    assert {row["conversion"] for row in rows} == {None}
    taken = {
        (r["user_id"], r["item_id"], r["ts"]) for r in log().to_pylist() if r["kind"][0] == "p"
    }
    clicked = {(r["user_id"], r["item_id"], r["ts"]) for r in rows if r["click"]}
    assert clicked < taken  # before the very first moment there was nothing to draw from
    beside = {(r["user_id"], r["item_id"], r["ts"]) for r in rows if not r["click"]}
    assert beside
    assert not beside & taken
    keys = [(r["user_id"], r["item_id"], r["ts"]) for r in rows]
    assert len(set(keys)) == len(keys)


def test_negatives_are_as_popular_as_their_items_were_by_then(tmp_path):
    """At the late moments two of three past purchases were of i0, so about as many draws are."""
    rows = [r for r in sampled(log(), tmp_path / "out") if r["ts"] >= LATE and not r["click"]]
    drawn = Counter(r["item_id"] for r in rows)
    # Distinct draws: with 4 of them, i0 misses with (1/3)^4 and i1 with (2/3)^4.
    assert drawn["i0"] / 50 == pytest.approx(1 - (1 / 3) ** 4, abs=0.15)
    assert drawn["i1"] / 50 == pytest.approx(1 - (2 / 3) ** 4, abs=0.2)


def test_nothing_at_or_after_a_moment_is_drawn_for_it(tmp_path):
    before = [r for r in sampled(log(), tmp_path / "a") if r["ts"] < LATE]
    after = [r for r in sampled(log(later="i8"), tmp_path / "b") if r["ts"] < LATE]
    assert before == after
    assert "i9" not in {r["item_id"] for r in before}


def test_another_seed_draws_others_and_a_share_keeps_a_share(tmp_path):
    rows = sampled(log(), tmp_path / "a")
    assert rows == sampled(log(), tmp_path / "b")
    assert rows != sampled(log(), tmp_path / "c", seed=18)
    tenth = SECTION.model_copy(update={"exposure_share": 0.1})
    few = sampled(log(), tmp_path / "d", section=tenth)
    assert sum(r["click"] for r in few) == pytest.approx(35, abs=20)


def test_a_log_with_exposures_of_its_own_is_refused(tmp_path):
    real = pa.Table.from_pylist(sampled(log(), tmp_path / "a")[:3], EXPOSURES)
    with pytest.raises(DataError, match="exposures of its own"):
        sampled(log(), tmp_path / "b", exposures=real)


@pytest.mark.slow
def test_both_engines_draw_the_same(tmp_path):
    pytest.importorskip("pyspark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java")
    assert sampled(log(), tmp_path / "a") == sampled(log(), tmp_path / "b", kind="spark")
