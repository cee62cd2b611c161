"""The language features that each variant of the comparison is given, for both of its windows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.config import POLICY
from taiji.data.calendar import RANK_SPLITS, Calendar
from taiji.errors import ConfigError, DataError
from taiji.ranking.as_of import AsOf
from taiji.ranking.columns import microseconds
from taiji.ranking.comparison import Variant, swapped, with_sequences
from taiji.ranking.inputs import LanguageFeatures
from taiji.ranking.serving import random_others
from taiji.schema import TIME, USER_FEATURES
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.match_features import read_match
from taiji.store.files import read_json, read_parquet

Both = dict[str, LanguageFeatures]
"""By split: what was known before the training window, and before the test window."""


class FeatureSource:
    """Reads the features of each text once, and spoils them where a control wants it.

    Args:
        ctx: Of the stage `rank`.
        asof: For the catalogue, and for the sequences of random users.
        calendar: For the moments before which those sequences lie.

    Raises:
        ConfigError: A text of `rank.texts` has no features.
    """

    def __init__(self, ctx: StageContext, asof: AsOf, calendar: Calendar) -> None:
        self._asof = asof
        self._calendar = calendar
        self._seed = ctx.recipe.seed
        arms = ctx.recipe.rank.arms
        self._by_text: dict[str, Both] = {
            text: _read(ctx, _folder(ctx, text), asof, arms) for text in ctx.recipe.rank.texts
        }

    def covered(self, user_ids: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Which users have features of the policy's text in the test window."""
        known = pa.array(self._by_text[POLICY]["rank_test"].user_ids, pa.string())
        return np.asarray(pc.is_in(pa.array(user_ids, pa.string()), value_set=known))

    def of(self, variant: Variant) -> tuple[LanguageFeatures, LanguageFeatures]:
        """Features for the training window and for the test window."""
        both = self._by_text[variant.text]
        match variant.control:
            case "shuffled":
                both = {split: swapped(one, self._salt(split)) for split, one in both.items()}
            case "swapped":
                both = {split: swapped(one, self._salt("both")) for split, one in both.items()}
            case "random_neighbour":
                both = {split: self._random_neighbour(split, one) for split, one in both.items()}
            case "reseeded" | None:
                pass
        seen, later = (both[split].for_arm(variant.arm) for split in RANK_SPLITS)
        return seen, later

    def _salt(self, split: str) -> str:
        return f"{self._seed}|{split}"

    def _random_neighbour(self, split: str, language: LanguageFeatures) -> LanguageFeatures:
        """What a random other user had bought by then, in the place of the nearest one's."""
        names = sorted(set(language.user_ids))
        donors = dict(zip(names, random_others(names, self._salt(split)), strict=True))
        others = [names[donors[user]] for user in language.user_ids]
        cutoffs = [self._calendar.start(RANK_SPLITS[split])] * len(others)
        if language.since is not None:
            cutoffs = pa.array(language.since, TIME).to_pylist()
        length = language.neighbour_items.shape[1]
        sequences = self._asof.last_items(others, cutoffs, length)
        return with_sequences(language, sequences, self._asof.item_ids)


def features_folder(artifact: Path, model: str) -> Path:
    """Where the features of a model's texts lie in the artifact of `features`."""
    return artifact if model == POLICY else artifact / model


def _folder(ctx: StageContext, text: str) -> Path:
    folder = features_folder(ctx.inputs["features"], text)
    if not (folder / "features.parquet").is_file():
        raise ConfigError(
            f"rank.texts: {text}: {folder} holds no features: name it in features.texts too"
        )
    return folder


def _read(ctx: StageContext, folder: Path, asof: AsOf, arms: Sequence[str]) -> Both:
    """Features of both splits, of one width."""
    table = read_parquet(folder / "features.parquet", USER_FEATURES)
    bits = int(read_json(folder / "codebook.json")["bits"])
    longest = pc.max(pc.list_value_length(table["neighbour_item_ids"])).as_py()
    with_match = "match" in arms
    vectors = _vectors(folder, table.num_rows) if with_match or "vectors" in arms else None
    match = None
    if with_match and vectors is not None:
        inputs = ctx.inputs
        items = Constructed(inputs["construct"]).items
        match, named = read_match(folder, inputs["features"], items, vectors)
        if named["example_id"].to_pylist() != table["example_id"].to_pylist():
            raise DataError(f"{folder}: names of other texts: rerun features")
    since = _written_at(ctx, table)
    both: Both = {}
    for split in RANK_SPLITS:
        rows: Any = pc.equal(table["split"], split)
        own = np.append(np.flatnonzero(np.asarray(rows)), table.num_rows)
        both[split] = LanguageFeatures.from_table(
            table.filter(rows),
            asof.item_ids,
            num_codes=1 << bits,
            neighbour_items=int(longest or 0),
            vectors=None if vectors is None else vectors[np.asarray(rows)],
            match=None if match is None else match.take(own),
            since=None if since is None else since[np.asarray(rows)],
        )
    return both


def _written_at(ctx: StageContext, table: pa.Table) -> NDArray[np.int64] | None:
    """When each row's text was asked for; None if texts are asked for once a window."""
    examples = Constructed(ctx.inputs["construct"]).examples(
        *RANK_SPLITS, columns=["example_id", "user_id", "split", "cutoff"]
    )
    place = pc.index_in(table["example_id"], value_set=examples["example_id"].combine_chunks())
    if place.null_count:
        raise DataError("features: of other examples than construct's: rerun features")
    # Of all examples: those that have a text may be one a user and yet of different moments.
    moments = examples.group_by(["split", "cutoff"]).aggregate([]).num_rows
    if moments <= len(RANK_SPLITS):
        return None
    return microseconds(examples["cutoff"].take(place))


def _vectors(folder: Path, num_rows: int) -> NDArray[np.float32]:
    """One row for each row of features.parquet."""
    path = folder / "embeddings.npy"
    try:
        vectors: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}): rerun features") from error
    if len(vectors) != num_rows:
        raise DataError(f"{path}: {len(vectors)} rows for {num_rows} users: rerun features")
    return vectors
