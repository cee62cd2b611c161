"""From pairs to the rows of a model's embedding tables, batch by batch.

Shape suffixes: N pairs, K categorical fields, L items of a sequence, M codes, U users, V width
of a dense vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from taiji.arrays import Ints, Vectors
from taiji.errors import DataError
from taiji.ranking.match import TextMatch
from taiji.ranking.model import PADDING, UNKNOWN, Batch
from taiji.ranking.pairs import Pairs
from taiji.ranking.serving import serving_texts

Arm = Literal["base", "intra", "cross", "both", "vectors", "match"]
"""Blocks that a ranking model may see: none, codes, the cross-user sequence, both of these, or
in their place the embedding itself, as KAR (arXiv 2306.10933) feeds it, or what text and item have
in common (`taiji.ranking.match`)."""

MIN_COUNT = 3
"""Values that training saw less often share the row of the unknown, which so gets trained."""

_GATHER_ROWS = 16_384


@dataclass(frozen=True)
class Vocabulary:
    """The values of one field that training saw often enough, in the order of their rows."""

    values: tuple[str, ...]

    def __len__(self) -> int:
        """Rows of the embedding table."""
        return UNKNOWN + 1 + len(self.values)

    def rows(self, levels: Sequence[str]) -> Ints:
        """Row of each level, then the row of null: an index of -1 lands on padding."""
        place = {value: row for row, value in enumerate(self.values, start=UNKNOWN + 1)}
        return np.array([*(place.get(level, UNKNOWN) for level in levels), PADDING], dtype=np.int64)


def fit_vocabularies(pairs: Pairs, own_items: int) -> dict[str, Vocabulary]:
    """Count the values of the training pairs; items count in sequences as well."""
    vocabularies = {}
    for name, column in pairs.fields.items():
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels))
        if name == "item":
            counts = counts + _count_in_sequences(pairs, own_items, len(column.levels))
        kept = np.flatnonzero(counts >= MIN_COUNT)
        vocabularies[name] = Vocabulary(tuple(column.levels[code] for code in kept))
    return vocabularies


def _count_in_sequences(pairs: Pairs, length: int, num_items: int) -> Ints:
    counts = np.zeros(num_items, dtype=np.int64)
    for begin in range(0, len(pairs), _GATHER_ROWS):
        rows = np.arange(begin, min(begin + _GATHER_ROWS, len(pairs)))
        items = pairs.own_items(rows, length)
        counts += np.bincount(items[items >= 0], minlength=num_items)
    return counts


@dataclass(frozen=True)
class LanguageFeatures:
    """What the language model says of each user, ready to be looked up.

    Attributes:
        user_ids: The users who have features.
        codes: (U + 1, M); intra-user codes; a last row of -1 stands for users without features.
        neighbour_items: (U + 1, L); catalogue rows of the nearest other user's items,
            newest first, then -1; a last row of -1 as above.
        num_codes: How many values a code can take.
        vectors: (U + 1, V); embeddings of the users' texts; a last row of zeros as above.
        match: Compares the users' texts with items; None where the arm may not.
        since: (U,) when each row was written, microseconds, where users have several; else None,
            and the one row of a user serves him whenever.
    """

    user_ids: tuple[str, ...]
    codes: NDArray[np.int32]
    neighbour_items: NDArray[np.int32]
    num_codes: int
    vectors: Vectors
    match: TextMatch | None = None
    since: Ints | None = None

    @classmethod
    def from_table(
        cls,
        table: pa.Table,
        item_ids: Sequence[str],
        *,
        num_codes: int,
        neighbour_items: int,
        vectors: Vectors | None = None,
        match: TextMatch | None = None,
        since: Ints | None = None,
    ) -> "LanguageFeatures":
        """Read one split of `schema.USER_FEATURES`.

        Args:
            table: One row a user.
            item_ids: The catalogue.
            num_codes: How many values a code can take.
            neighbour_items: L; longer sequences lose their oldest items.
            vectors: (U, V), a row for each row of the table; none if no arm asks for them.
            match: Of the same rows; none if no arm asks for it.
            since: Of the same rows; none if users have one each.

        Raises:
            DataError: A user stands there twice, a code is out of range, an item is not in
                the catalogue, or the vectors are not one finite row a user.
        """
        users = tuple(table["user_id"].to_pylist())
        if since is None and len(set(users)) != len(users):
            raise DataError("user features: a user stands there twice: pass one split")
        flat = pc.list_flatten(table["codes"]).to_numpy(zero_copy_only=False)
        codes = np.asarray(flat, dtype=np.int32).reshape(len(users), -1 if users else 0)
        if codes.size and not (codes.min() >= 0 and codes.max() < num_codes):
            raise DataError(f"user features: a code is outside 0..{num_codes - 1}")
        neighbour = _borrowed(table["neighbour_item_ids"], item_ids, neighbour_items)
        missing = np.full((1, codes.shape[1]), -1, dtype=np.int32)
        if match is not None and len(match.names) != len(users) + 1:
            raise DataError("user features: matches of other users: rerun `taiji features`")
        rows = _rows_of(vectors, users)
        codes = np.concatenate([codes, missing])
        return cls(users, codes, neighbour, num_codes, rows, match, since)

    def for_arm(self, arm: Arm) -> "LanguageFeatures":
        """The blocks that an arm of the comparison may see; the others get width 0.

        Raises:
            DataError: The arm `vectors` or `match` is asked for where none were given.
        """
        if arm == "vectors" and not self.vectors.shape[1]:
            raise DataError("user features: no vectors for the arm `vectors`: rerun the stage")
        if arm == "match" and self.match is None:
            raise DataError("user features: nothing to match: set features.match and rerun it")
        with_codes = arm in ("intra", "both")
        codes = self.codes if with_codes else self.codes[:, :0]
        neighbour = (
            self.neighbour_items if arm in ("cross", "both") else self.neighbour_items[:, :0]
        )
        vectors = self.vectors if arm == "vectors" else self.vectors[:, :0]
        num_codes = self.num_codes if with_codes else 0
        match = self.match if arm == "match" else None
        return replace(
            self,
            codes=codes,
            neighbour_items=neighbour,
            num_codes=num_codes,
            vectors=vectors,
            match=match,
        )

    @property
    def match_columns(self) -> tuple[str, ...]:
        """Names of the columns that the arm adds to the dense features of a pair."""
        return () if self.match is None else self.match.column_names

    def rows(self, user_ids: NDArray[np.object_], ts_N: Ints | None = None) -> Ints:
        """Row that serves each user at a moment: his newest by then; -1, the missing, for none.

        Raises:
            DataError: Users have several rows and no moment is given.
        """
        if self.since is not None and ts_N is None:
            raise DataError("user features: several a user: give `pairs.ts` too")
        if self.since is not None and ts_N is not None:
            return serving_texts(self.user_ids, self.since, user_ids, ts_N)
        place = {user: row for row, user in enumerate(self.user_ids)}
        return np.array([place.get(user, -1) for user in user_ids], dtype=np.int64)


def _borrowed(lists: pa.ChunkedArray, item_ids: Sequence[str], length: int) -> NDArray[np.int32]:
    """(U + 1, L) catalogue rows of the first items of each list, then -1; a last row of -1.

    Raises:
        DataError: An item is not in the catalogue.
    """
    neighbour = np.full((len(lists) + 1, length), -1, dtype=np.int32)
    catalogue, row = pa.array(item_ids, pa.string()), 0
    for chunk in lists.chunks:
        items = chunk.flatten()
        places = pc.index_in(items, value_set=catalogue)
        if places.null_count:
            stray = items.filter(pc.is_null(places))[0].as_py()
            raise DataError(f"user features: item {stray!r} is not in the catalogue")
        sizes = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
        of_list = np.repeat(np.arange(sizes.size), sizes)
        place = np.arange(of_list.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = place < length
        neighbour[row + of_list[kept], place[kept]] = places.to_numpy()[kept]
        row += sizes.size
    return neighbour


def _rows_of(vectors: Vectors | None, users: tuple[str, ...]) -> Vectors:
    """The vectors and, below them, the zeros of users who have none."""
    if vectors is None:
        return np.zeros((len(users) + 1, 0), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(users) or not np.isfinite(vectors).all():
        raise DataError(
            f"user features: vectors of shape {vectors.shape} for {len(users)} users: one finite "
            "row a user is needed; rerun `taiji features`"
        )
    return np.pad(vectors.astype(np.float32), ((0, 1), (0, 0)))


NO_LANGUAGE = LanguageFeatures(
    (),
    codes=np.empty((1, 0), dtype=np.int32),
    neighbour_items=np.empty((1, 0), dtype=np.int32),
    num_codes=0,
    vectors=np.empty((1, 0), dtype=np.float32),
)
"""What the base arm is given."""


class Inputs:
    """Pairs in the rows of given vocabularies; sequences are gathered batch by batch.

    Args:
        pairs: What to encode.
        vocabularies: Of the fields that the model knows, in its order.
        own_items: Length of the user's own sequence.
        language: Features by user, cut to the blocks of the arm.

    Attributes:
        dense: (N, F) dense features of the pairs, and behind them what an arm `match` adds.

    Raises:
        DataError: The pairs lack a field that the model knows.
    """

    def __init__(
        self,
        pairs: Pairs,
        vocabularies: Mapping[str, Vocabulary],
        own_items: int,
        language: LanguageFeatures,
    ) -> None:
        self._pairs = pairs
        self._own_items = own_items
        lost = [name for name in vocabularies if name not in pairs.fields]
        if lost:
            raise DataError(f"ranking model: no field {', '.join(lost)} here: train it anew")
        tables = {name: v.rows(pairs.fields[name].levels) for name, v in vocabularies.items()}
        self._fields_NK = np.stack(
            [table[pairs.fields[name].codes] for name, table in tables.items()], axis=1
        )
        self._item_rows = tables["item"]
        self._l3_of_item = np.append(tables["l3"][pairs.item_l3], PADDING)
        self._language = language
        self._user_N = language.rows(pairs.user_ids, pairs.ts)
        self._history_N = pairs.histories()
        self.dense = pairs.dense
        if language.match is not None:
            matched = language.match.columns(self._user_N, pairs.fields["item"].codes)
            self.dense = np.concatenate([pairs.dense, matched], axis=1)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    def batch(self, rows: Ints) -> Batch:
        """Tensors of the pairs at `rows`.

        The candidates of one user at one moment share their sequences, which are then looked up
        once.
        """
        user = self._user_N[rows]
        of_sequences = rows[:1] if self._one_past(rows) else rows
        own = self._pairs.own_items(of_sequences, self._own_items)
        neighbour = self._language.neighbour_items[self._user_N[of_sequences]]
        codes = self._language.codes[user].astype(np.int64) + 1
        return Batch(
            dense=torch.from_numpy(self.dense[rows]),
            fields=torch.from_numpy(self._fields_NK[rows]),
            own_items=torch.from_numpy(self._item_rows[own]),
            own_l3=torch.from_numpy(self._l3_of_item[own]),
            neighbour_items=torch.from_numpy(self._item_rows[neighbour]),
            neighbour_l3=torch.from_numpy(self._l3_of_item[neighbour]),
            codes=torch.from_numpy(codes),
            vectors=torch.from_numpy(self._language.vectors[user]),
        )

    def _one_past(self, rows: Ints) -> bool:
        return all((of[rows] == of[rows[:1]]).all() for of in (self._history_N, self._user_N))
