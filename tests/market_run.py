"""A run over the market in which `construct`, and if asked `infer`, have finished."""

import hashlib
from pathlib import Path

import market
import numpy as np
import pyarrow as pa
from rows import example_row, text_row
from weeks import CALENDAR, window_start

from taiji import schema
from taiji.config import (
    BoostingSection,
    FeaturesSection,
    RankerSection,
    RankSection,
    Recipe,
    SimulateSection,
)
from taiji.stages.parts.context import StageContext
from taiji.store.files import write_parquet

NUM_RANK_USERS = 30
CUTOFFS = {"rank_train": window_start("ranker"), "rank_test": window_start("test")}


class WordEncoder:
    """A bag of hashed words: equal texts are equal, shared words bring texts near."""

    name = "words"
    dimension = 16

    def encode(self, texts):
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                place = int.from_bytes(digest, "big")
                vectors[row] += np.random.default_rng(place).normal(size=self.dimension)
            vectors[row] /= max(float(np.linalg.norm(vectors[row])), 1e-12)
        return vectors


def recipe(**sections) -> Recipe:
    settings = {
        "ranker": RankerSection(
            dim=4,
            hidden=(16,),
            own_items=8,
            epochs=2,
            batch_size=256,
            boosting=BoostingSection(rounds=20, leaves=7, min_leaf=10, learning_rate=0.2),
        ),
        "simulate": SimulateSection(pool_pairs=200),
        "features": FeaturesSection(sub_vectors=4, bits=3),
        "rank": RankSection(seeds=2),
    }
    return Recipe(name="market", **(settings | sections))


def write_construct(folder: Path, num_users: int = 40) -> market.Market:
    folder.mkdir(parents=True)
    world = market.build(num_users)
    CALENDAR.write(folder / "windows.json")
    write_parquet(world.users, folder / "users.parquet", schema.USERS)
    write_parquet(world.items, folder / "items.parquet", schema.ITEMS)
    write_parquet(world.interactions, folder / "interactions.parquet", schema.INTERACTIONS)
    write_parquet(world.exposures, folder / "exposures.parquet", schema.EXPOSURES)
    rows = [
        example_row(
            f"{split}-u{user:03d}",
            split,
            user_id=f"u{user:03d}",
            cutoff=cutoff,
            profile="Household",
            history_length=9,
        )
        for split, cutoff in CUTOFFS.items()
        for user in range(NUM_RANK_USERS)
    ]
    examples = pa.Table.from_pylist(rows, schema.EXAMPLES)
    write_parquet(examples, folder / "examples.parquet", schema.EXAMPLES)
    return world


def write_texts(
    folder: Path,
    *,
    silent: int = 0,
    without: int = 0,
    test: str = "",
    models: tuple[str, ...] = ("policy",),
) -> None:
    """Texts of the policy and, word for word the same but for their end, of other models.

    The first `silent` users wrote nothing, the next something malformed, the last `without` have
    no row; texts of the test split end in `test`.
    """
    folder.mkdir(parents=True)
    rows = [
        text_row(
            f"{split}-u{user:03d}",
            model,
            status="empty" if user < silent else "malformed" if user == silent else "ok",
            completion="" if user < silent else f"raw words {user % 7}",
            cot="" if user <= silent else f"likes shelf {user % 6} and aisle {user % 3}",
            answer=""
            if user <= silent
            else f"thing {user % 4}{test if split == 'rank_test' else ''}"
            + ("" if model == "policy" else f" of {model}"),
        )
        for model in models
        for split in CUTOFFS
        for user in range(NUM_RANK_USERS - without)
    ]
    table = pa.Table.from_pylist(rows, schema.TEXTS)
    write_parquet(table, folder / "texts.parquet", schema.TEXTS)


def context(run: Path, stage: str, settings: Recipe) -> StageContext:
    done = {path.name: path for path in run.iterdir()}
    out = run / stage
    out.mkdir()
    return StageContext(settings, out, done, lambda done, total, what: None)
