"""The run of `small_run` on disk, whole enough for a page, for a server of pages, and to train."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import small_run

from taiji import schema
from taiji.config import Recipe
from taiji.config.loading import dump_recipe
from taiji.pipeline import STAGES
from taiji.store.files import append_jsonl, digest_value, write_json, write_parquet
from taiji.store.run_directory import Manifest, RunDirectory
from taiji.store.shards import Shards

KEY = digest_value("a run that was never run")


def recipe(name: str, **changes: Any) -> Recipe:
    return Recipe.model_validate({"name": name, **changes})


def write(root: Path, tables: dict[str, pa.Table] | None = None, **changes: Any) -> RunDirectory:
    """A finished run in `root`; `tables` replace those of `small_run`, by name."""
    found = {
        "scored": small_run.scored(),
        "examples": small_run.examples(),
        "rollouts": small_run.rollouts(),
        **(tables or {}),
    }
    directory = RunDirectory(root)
    root.mkdir(parents=True)
    text = dump_recipe(recipe(root.name, **changes))
    (root / "recipe.resolved.yaml").write_text(text, encoding="utf-8")
    for stage in STAGES:
        if stage.name not in ("ceiling", "surplus", "abtest", "head"):
            work = directory.begin(stage.name, KEY)
            _WRITERS.get(stage.name, lambda *_: None)(work, found)
            summary = {"rows": 3, "note": small_run.HOSTILE[0]}
            directory.commit(
                Manifest(stage.name, KEY, KEY, {}, {}, 17, seconds=1.5, summary=summary)
            )
            row = {"stage": stage.name, "key": KEY, "resumed": False, "began": "2026-01-31T12:00"}
            append_jsonl(row, root / "attempts.jsonl")
    return directory


def write_busy(root: Path) -> Path:
    """A run whose alignment this very process works at, four steps on; where its parts are."""
    work = write(root).begin("align", KEY.replace("a", "b"))
    parts = work / ".parts"
    Shards(parts / "rollouts.x", schema.ROLLOUTS).write(0, small_run.rollouts())
    (parts / "checkpoints.x").mkdir()
    metrics = parts / "checkpoints.x" / "metrics.jsonl"
    for row in small_run.align_steps():
        append_jsonl(row, metrics)
    with metrics.open("a") as stream:
        stream.write('{"step": 5, "w_sem')  # being written
    (root / ".lock").write_text(f"process {os.getpid()} on {os.uname().nodename}")
    return parts


def _construct(work: Path, tables: dict[str, pa.Table]) -> None:
    write_parquet(tables["examples"], work / "examples.parquet", schema.EXAMPLES)
    write_parquet(small_run.items(), work / "items.parquet", schema.ITEMS)


def _refine(work: Path, tables: dict[str, pa.Table]) -> None:
    write_parquet(tables["scored"], work / "scored.parquet", schema.SCORED)
    write_json(
        {"threshold": small_run.THRESHOLD, "rule": "q", "sampled": 6}, work / "threshold.json"
    )


def _sft(work: Path, _: dict[str, pa.Table]) -> None:
    for step in (1, 2):
        append_jsonl({"step": step, "loss": 3.0 - step}, work / "metrics.jsonl")


def _align(work: Path, tables: dict[str, pa.Table]) -> None:
    for row in small_run.diagnosed_steps():
        append_jsonl(row, work / "metrics.jsonl")
    write_parquet(tables["rollouts"], work / "rollouts.parquet", schema.ROLLOUTS)


def _infer(work: Path, _: dict[str, pa.Table]) -> None:
    write_parquet(small_run.texts(), work / "texts.parquet", schema.TEXTS)


def _features(work: Path, _: dict[str, pa.Table]) -> None:
    write_parquet(small_run.features(), work / "features.parquet", schema.USER_FEATURES)


def _evaluate(work: Path, _: dict[str, pa.Table]) -> None:
    write_parquet(small_run.judgements(), work / "judgements.parquet", schema.JUDGEMENTS)
    write_json(small_run.metrics(), work / "metrics.json")


_WRITERS = {
    "construct": _construct,
    "refine": _refine,
    "sft": _sft,
    "align": _align,
    "infer": _infer,
    "features": _features,
    "evaluate": _evaluate,
}


def many(rows: int) -> dict[str, pa.Table]:
    """So many chains and rollouts of the same few users, each with figures of its own."""
    scored = small_run.scored().to_pylist()
    chains = [
        {**scored[n % 6], "candidate": n % 100, "perplexity": 1.0 + (n * 7919 % rows) / 100}
        for n in range(rows)
    ]
    for chain in chains:
        chain["kept"] = chain["perplexity"] < small_run.THRESHOLD
        chain["reason"] = "kept" if chain["kept"] else "perplexity"
    drawn = small_run.rollouts().to_pylist()
    rollouts = [{**drawn[n % 8], "step": 1 + n // 8, "semantic": n / rows} for n in range(rows)]
    return {
        "scored": pa.Table.from_pylist(chains, schema.SCORED),
        "rollouts": pa.Table.from_pylist(rollouts, schema.ROLLOUTS),
    }
