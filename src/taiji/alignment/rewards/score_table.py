"""Preference scores exported from somebody's production system, in the ranking model's place."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from taiji.data.ids import plain_ids
from taiji.errors import DataError, MissingArtifactError
from taiji.schema import TIME

Missing = Literal["floor", "item_mean", "refuse"]

_TYPES = {"user_id": pa.string(), "item_id": pa.string(), "score": pa.float64(), "as_of": TIME}
_ALWAYS = datetime.min.replace(tzinfo=UTC)
_REQUIRED = ("user_id", "item_id", "score")


def read_scores(path: Path) -> pa.Table:
    """Read a Parquet or CSV file with the columns user_id, item_id, score and maybe as_of.

    A score is a probability or anything else that is not negative and larger for what is
    preferred. `as_of` is the moment whose knowledge a score stands for; a pair may then have
    one score for each moment.

    Raises:
        MissingArtifactError: There is no such file.
        DataError: It cannot be read, or a cell is not what it must be; names row and column.
    """
    if not path.is_file():
        raise MissingArtifactError(f"align.rewards.scores: {path}: not there")
    table = _read(path)
    missing = [name for name in _REQUIRED if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}: has {', '.join(table.column_names)}"
        )
    columns = [name for name in _TYPES if name in table.column_names]
    table = pa.table({name: _column(table[name], name, path) for name in columns})
    if not table.num_rows:
        raise DataError(f"{path}: holds no row")
    scores_N = table["score"].to_numpy()
    bad_N = ~np.isfinite(scores_N) | (scores_N < 0)
    if bad_N.any():
        row = int(bad_N.argmax())
        raise DataError(
            f"{path}: row {row + 1}: column score: {scores_N[row]} is not a number from 0 up: "
            "export probabilities, not logits"
        )
    _refuse_doubles(table, path)
    return table


class ScoreTable:
    """Scores pairs by looking them up.

    Args:
        table: As `read_scores` gives it.
        contexts: User and cut-off by context id. Where the table has `as_of`, the newest score
            that stands for the cut-off or an earlier moment counts, a later one never does.
        missing: What a pair without a score gets: `floor`, 0 as for an answer that names no
            item; `item_mean`, the mean over the rows of the item that count by then, 0 if it
            has none; `refuse` stops the run.
    """

    def __init__(
        self, table: pa.Table, contexts: Mapping[str, tuple[str, datetime]], missing: Missing
    ) -> None:
        self._contexts = dict(contexts)
        self._missing = missing
        ordered = table.sort_by("as_of") if "as_of" in table.column_names else table
        self._scores: dict[tuple[str, str], list[tuple[datetime, float]]] = defaultdict(list)
        self._means: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
        sums: dict[str, float] = defaultdict(float)
        for row in ordered.to_pylist():
            user_id, item_id, as_of = row["user_id"], row["item_id"], row.get("as_of", _ALWAYS)
            self._scores[user_id, item_id].append((as_of, row["score"]))
            sums[item_id] += row["score"]
            means = self._means[item_id]
            means.append((as_of, sums[item_id] / (len(means) + 1)))

    def score(self, context_ids: Sequence[str], item_ids: Sequence[str]) -> NDArray[np.float64]:
        """The score of each (context, item).

        Raises:
            DataError: A pair has no score and the rule is to refuse it.
        """
        pairs = zip(context_ids, item_ids, strict=True)
        return np.array([self._one(context, item) for context, item in pairs], dtype=np.float64)

    def _one(self, context_id: str, item_id: str) -> float:
        user_id, cutoff = self._contexts[context_id]
        known = _newest(self._scores.get((user_id, item_id), []), cutoff)
        if known is not None:
            return known
        match self._missing:
            case "floor":
                return 0.0
            case "item_mean":
                return _newest(self._means.get(item_id, []), cutoff) or 0.0
            case "refuse":
                raise DataError(
                    f"align.rewards.scores: no score of item {item_id!r} for user {user_id!r} at "
                    f"{cutoff:%Y-%m-%d %H:%M}: export it, or set align.rewards.scores_missing to "
                    "floor or item_mean"
                )


def known_at(table: pa.Table, moment: datetime) -> pa.Table:
    """The rows that stand for this moment or an earlier one; all where there is no `as_of`.

    Raises:
        DataError: There is none.
    """
    if "as_of" not in table.column_names:
        return table
    known = table.filter(pc.less_equal(table["as_of"], pa.scalar(moment, TIME)))
    if not known.num_rows:
        raise DataError(
            f"align.rewards.scores: column as_of: no score stands for {moment:%Y-%m-%d %H:%M}, the "
            "earliest cut-off of alignment, or before it: export older scores, or leave as_of out"
        )
    return known


def _newest(known: Sequence[tuple[datetime, float]], cutoff: datetime) -> float | None:
    """The last value at or before a moment, of values in the order of time."""
    place = bisect_right(known, cutoff, key=lambda entry: entry[0])
    return known[place - 1][1] if place else None


def item_means(table: pa.Table) -> tuple[list[str], NDArray[np.float64]]:
    """Each item and the mean of its scores, by id."""
    means = table.group_by("item_id").aggregate([("score", "mean")]).sort_by("item_id")
    return means["item_id"].to_pylist(), means["score_mean"].to_numpy()


def _read(path: Path) -> pa.Table:
    try:
        if path.suffix.lower() == ".csv":
            # Ids stay text: as numbers, 007 and 7 would be one user.
            texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(_TYPES, pa.string()))
            return pa.csv.read_csv(path, convert_options=texts)
        return pq.read_table(path)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as Parquet or CSV: {error}") from error


def _column(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """A column in its type; the error names the first cell that has no place in it."""
    if name == "as_of" and pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = pc.assume_timezone(column, "UTC")
    try:
        whole = column.cast(_TYPES[name])
    except (pa.ArrowException, ValueError) as error:
        row = next((n for n, cell in enumerate(column) if not _casts(cell, name)), 0)
        raise DataError(
            f"{path}: row {row + 1}: column {name}: {column[row].as_py()!r} is no "
            f"{'time such as 2017-08-01T00:00:00Z' if name == 'as_of' else _TYPES[name]}"
        ) from error
    if name in ("user_id", "item_id"):
        whole = plain_ids(column, f"{path}: column {name}")
    empty = pc.is_null(whole)
    if name == "score" and pc.any(empty).as_py() is not True:
        return whole
    if pc.any(pc.or_(empty, pc.equal(whole.cast(pa.string()), ""))).as_py():
        row = pc.index(pc.or_(empty, pc.equal(whole.cast(pa.string()), "")), True).as_py()
        raise DataError(f"{path}: row {row + 1}: column {name}: is empty")
    return whole


def _casts(cell: pa.Scalar, name: str) -> bool:
    try:
        cell.cast(_TYPES[name])
    except (pa.ArrowException, ValueError):
        return False
    return True


def _refuse_doubles(table: pa.Table, path: Path) -> None:
    keys = [name for name in table.column_names if name != "score"]
    numbered = table.append_column("row", pa.array(range(1, table.num_rows + 1)))
    groups = numbered.group_by(keys).aggregate([("row", "max"), ("row", "count")])
    doubles = groups.filter(pc.greater(groups["row_count"], 1))
    if doubles.num_rows:
        row = pc.min(doubles["row_max"]).as_py()
        raise DataError(f"{path}: row {row}: columns {', '.join(keys)}: stand there twice")
