"""A shop's run as far as the service's edge needs it: tables, catalogue and a codebook's sizes."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from data_shop import shop, write_shop
from rows import example_row

from taiji.config import DataSection, FeaturesSection, Recipe
from taiji.config.loading import dump_recipe
from taiji.config.serving import ServeSection
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.tables.canonical import prepare
from taiji.ranking.features import DEFAULTS, default_features
from taiji.ranking.quantise import save_codebook, train_codebook
from taiji.schema import EXAMPLES, USER_FEATURES
from taiji.serving.run import ServedRun
from taiji.serving.store import Found
from taiji.store.files import digest_value, write_parquet
from taiji.store.run_directory import Manifest, RunDirectory

USERS = tuple(f"u{number}" for number in range(8))


class Kept:
    """A store for refreshes offline: keeps what is written."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def write(self, version: str, records: Any, ttl_seconds: int) -> list[bool]:
        self.blobs |= {record.name: record.blob for record in records}
        return [True] * len(records)

    async def read(self, names: Any) -> Found:
        return Found(1, [self.blobs.get(name) for name in names])


def shop_section(folder: Path, **section: Any) -> DataSection:
    return DataSection.model_validate(
        {"source": shop(write_shop(folder), **section.pop("source", {}))} | section
    )


def write_tables(section: DataSection, folder: Path) -> None:
    """The canonical tables, as construct writes them."""
    folder.mkdir(parents=True)
    engine = DuckDbEngine(folder / ".engine")
    prepare(engine, section, 17, folder)
    engine.close()


def vouch(root: Path, stage: str) -> None:
    """Have a manifest vouch for what lies in a stage's folder."""
    directory = RunDirectory(root)
    folder = root / stage
    shutil.rmtree(folder / ".engine", ignore_errors=True)
    folder.rename(root / f"{stage}.tmp")
    directory.commit(Manifest(stage, digest_value(stage), digest_value("code"), {}, {}, 17))


def shop_run(folder: Path, **serve: Any) -> ServedRun:
    """A run without models: the API and publications need none."""
    root = folder / "runs" / "shop"
    section = shop_section(folder)
    write_tables(section, root / "construct")
    features = root / "features"
    features.mkdir()
    vectors = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codebook = train_codebook(vectors, FeaturesSection(sub_vectors=2, bits=2), 1)
    save_codebook(codebook, features, {})
    np.save(features / "embeddings.npy", vectors)
    rows = [
        {
            "example_id": f"rank_test-{user}",
            "user_id": user,
            "split": "rank_test",
            "codes": [1, 2],
            "neighbour_user_id": USERS[number - 1],
            "similarity": 0.5,
            "neighbour_item_ids": ["mug", "pot"],
        }
        for number, user in enumerate(USERS)
    ]
    table = pa.Table.from_pylist(rows, USER_FEATURES)
    write_parquet(table, features / "features.parquet", USER_FEATURES)
    write_parquet(default_features([], 2), features / "defaults.parquet", DEFAULTS)
    asked = [
        example_row(
            f"rank_test-{user}",
            "rank_test",
            user_id=user,
            cutoff=datetime(2024, 2, 1, tzinfo=UTC),
            long_tail=True,
        )
        for user in USERS
    ]
    examples = pa.Table.from_pylist(asked, EXAMPLES)
    write_parquet(examples, root / "construct" / "examples.parquet", EXAMPLES)
    (root / "align" / "model").mkdir(parents=True)
    for stage in ("construct", "align", "features"):
        vouch(root, stage)
    recipe = Recipe(name="shop", data=section, serve=ServeSection.model_validate(serve))
    (root / "recipe.resolved.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return ServedRun(root, recipe)
