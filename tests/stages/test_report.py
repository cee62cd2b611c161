import pyarrow as pa
import pytest

from taiji import schema
from taiji.config import Recipe
from taiji.errors import DataError
from taiji.report.run_files import read_run
from taiji.stages.parts.context import StageContext
from taiji.stages.report import report
from taiji.store.files import append_jsonl, write_json, write_parquet


def context(tmp_path, *stages: str) -> StageContext:
    (tmp_path / "report").mkdir()
    for stage in stages:
        (tmp_path / stage).mkdir()
    return StageContext(
        recipe=Recipe(name="tiny"),
        out=tmp_path / "report",
        inputs={stage: tmp_path / stage for stage in stages},
        progress=lambda done, total, what: None,
    )


def test_a_run_without_any_artifact_has_a_page(tmp_path):
    ctx = context(tmp_path)
    summary = report(ctx)
    page = (ctx.out / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert 'data-testid="missing-construct"' in page
    assert summary["bytes"] == len(page.encode())


def test_what_is_there_is_read_and_what_is_not_is_none(tmp_path):
    ctx = context(tmp_path, "construct", "refine", "align")
    row = {"user_id": "u1", "holdout": False, "fields": []}
    users = pa.Table.from_pylist([row], schema.USERS)
    write_parquet(users, tmp_path / "construct" / "users.parquet", schema.USERS)
    write_json(
        {"threshold": 4.6, "rule": "fixed", "sampled": 0}, tmp_path / "refine/threshold.json"
    )
    append_jsonl({"step": 1, "w_semantic": 0.5}, tmp_path / "align" / "metrics.jsonl")
    write_json({"stage": "construct", "seconds": 2.0}, tmp_path / "construct" / "manifest.json")
    data = read_run(ctx.recipe, ctx.inputs, tmp_path)
    assert data.sizes == {"users": 1}
    assert data.threshold == {"threshold": 4.6, "rule": "fixed", "sampled": 0}
    assert data.align_steps == [{"step": 1, "w_semantic": 0.5}]
    assert [manifest["stage"] for manifest in data.manifests] == ["construct"]
    assert data.examples is data.metrics is data.rollouts is None


def test_a_damaged_artifact_is_an_error_and_not_an_empty_place(tmp_path):
    ctx = context(tmp_path, "construct")
    (tmp_path / "construct" / "examples.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match=r"examples\.parquet"):
        report(ctx)
