"""Three hundred oddly written logs: each is read as a plain reader reads it, or refused."""

from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from mutated_logs import NUM_LOGS, write_log
from reference_reader import RefusedError, interactions, read_table

from taiji.config import DataSection
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.tables.check import check

UNTIL = datetime(2025, 1, 1, tzinfo=UTC)
EVERY = 12  # of the fast suite


@pytest.mark.parametrize(
    "number",
    [
        number if number % EVERY == 7 else pytest.param(number, marks=pytest.mark.slow)
        for number in range(NUM_LOGS)
    ],
)
def test_a_log_is_read_right_or_refused_in_words(tmp_path, number):
    log = write_log(number, tmp_path)
    report, tables = _checked(log, tmp_path)
    assert all(problem.mend and problem.where for problem in report.problems)
    table = log.source["interactions"]
    paths = sorted((tmp_path / "log").glob("orders-*"))
    try:
        rows = read_table(paths, table)
        items = {f"i{n}" for n in range(6)}
        expected, num_good = interactions(
            rows, table, items, UNTIL, log.zone, log.source["missing"]
        )
    except RefusedError:
        assert not report.usable, log.ways
        assert {problem.code for problem in report.problems if problem.fatal} <= {"E101", "E102"}
        return
    counts = report.counts["interactions"]
    assert sum(counts.values()) == len(rows), log.ways
    kept = counts.get("kept", 0) + sum(n for why, n in counts.items() if why.startswith("merged"))
    assert kept == num_good, (log.ways, counts)
    found = [
        (row["user_id"], row["item_id"], row["ts"], row["quantity"], row["price"]) for row in tables
    ]
    found.sort(key=str)
    assert [row[:4] for row in found] == [row[:4] for row in expected], log.ways
    assert [row[4] for row in found] == pytest.approx([row[4] for row in expected], abs=1e-5)


def _checked(log, folder):
    out = folder / "out"
    out.mkdir()
    splits = {"windows": {"kind": "shares"}, "timezone": log.zone}
    section = DataSection.model_validate({"source": log.source, "splits": splits})
    engine = DuckDbEngine(folder / "scratch")
    try:
        report = check(engine, section, 17, out)
    finally:
        engine.close()
    path = out / "interactions.parquet"
    return report, pq.read_table(path).to_pylist() if path.is_file() else []
