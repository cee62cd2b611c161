"""The artifacts of `construct` that the reasoning stages read, for a shop of a dozen items."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from shop import ITEMS, example

from taiji import schema
from taiji.config import Recipe
from taiji.stages.parts.context import StageContext
from taiji.store.files import write_parquet

NUM_EXAMPLES = 20


def write_construct(folder: Path) -> None:
    """Items, `NUM_EXAMPLES` SFT examples with targets all over the shop, one of split test."""
    rows = [
        example(
            (number % 12, 2, 0.99),
            ((number + 5) % 12, 9, 2.5),
            (3, 40),
            example_id=f"e{number:03d}",
            target_item_id=f"i{(number * 7 + 1) % 12}",
        )
        for number in range(NUM_EXAMPLES)
    ]
    rows.append(example(example_id="held", split="test"))
    folder.mkdir(parents=True)
    examples = pa.Table.from_pylist(rows, schema=schema.EXAMPLES)
    write_parquet(examples, folder / "examples.parquet", schema.EXAMPLES)
    items = pa.Table.from_pylist(ITEMS, schema=schema.ITEMS)
    write_parquet(items, folder / "items.parquet", schema.ITEMS)


def context(run: Path, stage: str, model: Path, *, progress=lambda *_: None, **sections: Any):
    """The context of `stage` in `run`, with the artifacts that are there as inputs."""
    recipe = Recipe.model_validate(
        {"name": "tiny", "student": {"model": str(model), "max_completion_tokens": 256}} | sections
    )
    out = run / stage
    out.mkdir(exist_ok=True)
    inputs = {path.name: path for path in run.iterdir() if path != out}
    return StageContext(recipe, out, inputs, progress)
