"""What a run has so far, read for people: users under pseudonyms, nothing where nothing is."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.errors import ConfigError
from taiji.pipeline import STAGES
from taiji.schema import (
    CANDIDATES,
    EXAMPLES,
    ITEMS,
    JUDGEMENTS,
    ROLLOUTS,
    SCORED,
    TEXTS,
    USER_FEATURES,
)
from taiji.store.files import read_json, read_jsonl, read_parquet
from taiji.store.pseudonym import Pseudonyms, load_pseudonyms
from taiji.store.run_directory import ATTEMPTS
from taiji.store.stored_rows import StoredRows

Row = Mapping[str, Any]
T = TypeVar("T")

_USER_IDS = frozenset({"user_id", "neighbour_user_id"})
_ATTEMPT = frozenset({"stage", "key", "resumed", "began"})
_CALL = frozenset({"model", "prompt_tokens", "completion_tokens"})
RECIPE = "recipe.resolved.yaml"

_WITHOUT_HISTORIES = pa.schema([field for field in EXAMPLES if field.name != "history"])

_SIZED = ("users", "items", "interactions", "exposures")


@dataclass(frozen=True)
class ReportData:
    """What a run has so far; None, or empty, where a stage has not finished.

    Attributes:
        sizes: Row counts by table name.
        examples: Without their histories, which are kilobytes each and shown for a few.
        histories: Where those are, row for row; None where the table has them.
        manifests: The manifest of each finished stage, in the order of the pipeline.
        attempts: What `attempts.jsonl` says: each time that a stage began.
        calls: Tokens that an endpoint was sent and sent back, by model.
    """

    recipe: Recipe
    sizes: Mapping[str, int] = field(default_factory=dict)
    examples: pa.Table | None = None
    histories: StoredRows | None = None
    items: pa.Table | None = None
    candidates: pa.Table | None = None
    scored: pa.Table | None = None
    threshold: Row | None = None
    sft_steps: Sequence[Row] = ()
    align_steps: Sequence[Row] = ()
    rollouts: pa.Table | None = None
    texts: pa.Table | None = None
    features: pa.Table | None = None
    judgements: pa.Table | None = None
    metrics: Row | None = None
    ceiling: Row | None = None
    surplus: Row | None = None
    manifests: Sequence[Row] = ()
    attempts: Sequence[Row] = ()
    calls: Mapping[str, Row] = field(default_factory=dict)


def read_run(recipe: Recipe, inputs: Mapping[str, Path], root: Path) -> ReportData:
    """Read the artifacts that are there.

    Args:
        recipe: Of the run.
        inputs: Folder of each stage that may have run, in the order of the pipeline.
        root: The run directory.

    Raises:
        ConfigError: The key of the pseudonyms cannot be used.
        DataError: An artifact is damaged.
    """
    files = _Files(inputs, load_pseudonyms(recipe.report.pseudonym_key_env))
    return ReportData(
        recipe=recipe,
        sizes=files.sizes(),
        examples=files.table("construct", "examples.parquet", _WITHOUT_HISTORIES),
        histories=files.maybe("construct", "examples.parquet", all_rows),
        items=files.table("construct", "items.parquet", ITEMS),
        candidates=files.table("distill", "candidates.parquet", CANDIDATES),
        scored=files.table("refine", "scored.parquet", SCORED),
        threshold=files.maybe("refine", "threshold.json", read_json),
        sft_steps=files.maybe("sft", "metrics.jsonl", read_jsonl) or (),
        align_steps=files.maybe("align", "metrics.jsonl", read_jsonl) or (),
        rollouts=files.table("align", "rollouts.parquet", ROLLOUTS),
        texts=files.table("infer", "texts.parquet", TEXTS),
        features=files.table("features", "features.parquet", USER_FEATURES),
        judgements=files.table("evaluate", "judgements.parquet", JUDGEMENTS),
        metrics=files.maybe("evaluate", "metrics.json", read_json),
        ceiling=files.maybe("ceiling", "metrics.json", read_json),
        surplus=files.maybe("surplus", "metrics.json", read_json),
        manifests=files.manifests(),
        attempts=_whole_lines(root / ATTEMPTS, _ATTEMPT),
        calls=calls_by_model(root / "calls"),
    )


def all_rows(examples: Path) -> StoredRows:
    """Histories of examples, where they lie."""
    num_rows = pq.read_metadata(examples).num_rows
    return StoredRows(examples, pa.schema([EXAMPLES.field("history")]), np.arange(num_rows))


def with_histories(examples: pa.Table, chosen: Any, histories: StoredRows | None) -> pa.Table:
    """Some examples with all that is known of them.

    Args:
        examples: As `ReportData` has them.
        chosen: A flag for each of them.
        histories: As `ReportData` has them.
    """
    part = examples.filter(chosen)
    if histories is None:
        return part
    rows = np.flatnonzero(np.asarray(chosen))
    return part.append_column(EXAMPLES.field("history"), histories.take(rows)["history"])


def read_folder(root: Path) -> ReportData:
    """A run directory with the recipe that lies in it.

    Raises:
        ConfigError: No run lies there, or its recipe is one of another version.
        DataError: An artifact is damaged.
    """
    path = root / RECIPE
    if not path.is_file():
        raise ConfigError(f"{root}: no run here: name a folder such as runs/demo")
    stages = (stage.name for stage in STAGES)
    inputs = {s: root / s for s in stages if (root / s / "manifest.json").is_file()}
    return read_run(load_recipe(path).recipe, inputs, root)


def calls_by_model(folder: Path) -> dict[str, dict[str, int]]:
    """Replies and tokens of each model behind an endpoint, from the store of paid calls.

    A line that is no JSON is one that a kill has cut; the store itself checks what it uses.
    """
    found: dict[str, dict[str, int]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for row in _whole_lines(path, _CALL):
            known = found.setdefault(row["model"], {"replies": 0, "sent": 0, "received": 0})
            known["replies"] += 1
            known["sent"] += row["prompt_tokens"]
            known["received"] += row["completion_tokens"]
    return found


def _whole_lines(path: Path, keys: frozenset[str]) -> list[dict[str, Any]]:
    """Lines that have these keys; a kill or a power cut may have cut others."""
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        return rows
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and keys <= row.keys():
            rows.append(row)
    return rows


class _Files:
    """Artifacts by stage and name; what is not there is None, what is damaged is an error."""

    def __init__(self, inputs: Mapping[str, Path], pseudonyms: Pseudonyms) -> None:
        self._inputs = inputs
        self._pseudonyms = pseudonyms

    def maybe(self, stage: str, name: str, read: Callable[[Path], T]) -> T | None:
        path = self._inputs.get(stage, Path()) / name
        return read(path) if stage in self._inputs and path.is_file() else None

    def table(self, stage: str, name: str, schema: pa.Schema) -> pa.Table | None:
        """A page is passed on, so no raw user id may even reach what renders it."""
        table = self.maybe(stage, name, lambda path: read_parquet(path, schema))
        return None if table is None else named(table, self._pseudonyms)

    def sizes(self) -> dict[str, int]:
        """Rows of the constructed tables, from their footers."""
        found = {
            name: self.maybe("construct", f"{name}.parquet", lambda path: pq.read_metadata(path))
            for name in _SIZED
        }
        return {name: footer.num_rows for name, footer in found.items() if footer is not None}

    def manifests(self) -> list[dict[str, Any]]:
        """Manifests in the order in which the pipeline names its stages."""
        found = (self.maybe(stage, "manifest.json", read_json) for stage in self._inputs)
        return [manifest for manifest in found if manifest is not None]


def named(table: pa.Table, pseudonyms: Pseudonyms) -> pa.Table:
    """The same table with pseudonyms in the place of every user id."""
    for column in _USER_IDS.intersection(table.schema.names):
        known = table[column].combine_chunks().dictionary_encode()
        names = pa.array(map(pseudonyms.of, known.dictionary.to_pylist()), pa.string())
        place = table.schema.get_field_index(column)
        table = table.set_column(place, table.schema.field(place), names.take(known.indices))
    return table
