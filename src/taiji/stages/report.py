"""Write report.html from whatever the run has so far."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.report.page import ReportData, render_report
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
from taiji.stages.parts.context import StageContext, Summary
from taiji.store.files import read_json, read_jsonl, read_parquet, replacing
from taiji.store.pseudonym import Pseudonyms, load_pseudonyms

T = TypeVar("T")
_USER_IDS = frozenset({"user_id", "neighbour_user_id"})
_SIZED = ("users", "items", "interactions", "exposures")


def report(ctx: StageContext) -> Summary:
    """Write report.html. A stage that has not run leaves a message in its place."""
    page = render_report(gather(ctx))
    with replacing(ctx.out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return {"bytes": len(page.encode("utf-8", errors="replace"))}


def gather(ctx: StageContext) -> ReportData:
    """Read the artifacts that are there, users under their pseudonyms.

    Raises:
        ConfigError: The key of the pseudonyms cannot be used.
    """
    files = _Files(ctx.inputs, load_pseudonyms(ctx.recipe.report.pseudonym_key_env))
    return ReportData(
        recipe=ctx.recipe,
        sizes=files.sizes(),
        examples=files.table("construct", "examples.parquet", EXAMPLES),
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
        manifests=files.manifests(),
    )


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
        if table is None:
            return None
        for column in _USER_IDS.intersection(schema.names):
            known = table[column].combine_chunks().dictionary_encode()
            names = pa.array(map(self._pseudonyms.of, known.dictionary.to_pylist()), pa.string())
            place = schema.get_field_index(column)
            table = table.set_column(place, schema.field(place), names.take(known.indices))
        return table

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
