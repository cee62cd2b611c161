"""Stage 4, first half: the tuned models write what they think each user buys next.

Every model of `infer.models` answers the test examples, so that they can be compared. The models
of `features.texts`, the policy among them, answer for the users of the ranking model, whose
features their texts become. The answer is kept as it came: a malformed one is a result, not an
error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from taiji.config import Recipe
from taiji.data.calendar import RANK_SPLITS
from taiji.language.generate import TransformersGenerator
from taiji.language.models import load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.language.workers import Note
from taiji.reasoning.prompts import PromptFitter, losses, prompt_fitter
from taiji.schema import TEXTS
from taiji.stages.parts.asked_models import sampling_of, text_row
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.shards import write_pieces
from taiji.store.files import Shards, read_parquet


@dataclass(frozen=True)
class Shard:
    """A piece of work that is done at once and never depends on another."""

    model: str
    examples: Sequence[dict[str, Any]]


def infer(ctx: StageContext) -> Summary:
    """Write texts.parquet: one row per model and example."""
    path = ctx.out / "texts.parquet"
    if not path.is_file():  # it is there if an earlier attempt was killed at its very end
        _write_texts(ctx, path)
    return _summary(read_parquet(path, TEXTS))


def _write_texts(ctx: StageContext, path: Path) -> None:
    recipe = ctx.recipe
    constructed = Constructed(ctx.inputs["construct"])
    examples = constructed.examples("test", *RANK_SPLITS).to_pylist()
    section = recipe.infer
    shards = plan_shards(examples, section.models, recipe.features.texts, section.batch_size)
    parts = Shards(ctx.out / "texts.parts", TEXTS)
    build = partial(_Writer, recipe, _sources(ctx))
    write_pieces(ctx, parts, shards, build, size=lambda shard: len(shard.examples), what="texts")
    parts.merge(len(shards), path)


def plan_shards(
    examples: Sequence[dict[str, Any]],
    models: Sequence[str],
    of_users: Sequence[str],
    size: int,
) -> list[Shard]:
    """Who writes for which examples; the same plan after a kill, so that parts fit.

    Args:
        examples: Rows of `schema.EXAMPLES`.
        models: Who answers the test examples.
        of_users: Who answers for the users of the ranking model.
        size: Examples of a shard.
    """
    asked: dict[str, list[dict[str, Any]]] = {
        model: [row for row in examples if row["split"] == "test"] for model in models
    }
    users = [row for row in examples if row["split"] in RANK_SPLITS]
    for model in of_users:
        asked[model] = [*asked.get(model, []), *users]
    return [
        Shard(model, rows[start : start + size])
        for model, rows in asked.items()
        for start in range(0, len(rows), size)
    ]


class _Writer:
    """Holds one model at a time, loaded when the first shard asks for it.

    Args:
        recipe: Of the run.
        sources: Where each model lies, by its name.
    """

    def __init__(self, recipe: Recipe, sources: Mapping[str, str | Path]) -> None:
        self._recipe = recipe
        self._sources = sources
        self._name: str | None = None
        self._fitter: PromptFitter
        self._generator: TransformersGenerator

    def __call__(self, shard: Shard, note: Note) -> pa.Table:
        """Texts for the examples of one shard."""
        if shard.model != self._name:
            self._load(shard.model)
        fitted = [self._fitter.fit(example) for example in shard.examples]
        prompts = [prompt for prompt, _ in fitted]
        replies = self._generator.generate(prompts, 1, sampling_of(self._recipe), note)
        rows = [
            text_row(example["example_id"], shard.model, reply) | {"lines_dropped": dropped}
            for example, (_, dropped), (reply,) in zip(shard.examples, fitted, replies, strict=True)
        ]
        return pa.Table.from_pylist(rows, TEXTS)

    def _load(self, name: str) -> None:
        model, tokenizer = load_causal_lm(str(self._sources[name]), self._recipe.infer.dtype)
        self._fitter = prompt_fitter(self._recipe, ChatScaffold(tokenizer))
        self._generator = TransformersGenerator(
            model, tokenizer, name, self._recipe.infer.batch_size
        )
        self._name = name


def _sources(ctx: StageContext) -> dict[str, str | Path]:
    recipe: Recipe = ctx.recipe
    return {
        "untuned": recipe.student.model,
        "sft": ctx.inputs["sft"].absolute() / "model",  # whoever reads it may be elsewhere
        "policy": ctx.inputs["align"].absolute() / "model",
    }


def _summary(texts: pa.Table) -> Summary:
    """How many texts, and for each model the share that holds one readable answer."""
    summary: Summary = {"texts": texts.num_rows}
    models, statuses = texts["model"].to_pylist(), texts["status"].to_pylist()
    for model in dict.fromkeys(models):
        own = [status for name, status in zip(models, statuses, strict=True) if name == model]
        summary[f"{model}_ok"] = round(own.count("ok") / len(own), 4)
    dropped = zip(texts["example_id"].to_pylist(), texts["lines_dropped"].to_pylist(), strict=True)
    return summary | losses(dict(dropped).values())
