"""Stage 4, first half: the tuned models write what they think each user buys next.

Every model of `infer.models` answers the test examples, so that they can be compared. Only the
policy answers for the users of the ranking model, whose features its texts become. The answer
is kept as it came: a malformed one is a result, not an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from taiji.artifacts import Shards, read_parquet
from taiji.config import Recipe
from taiji.language.generate import Reply, Sampling, TransformersGenerator
from taiji.language.models import load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.completions import parse_completion
from taiji.reasoning.prompts import PromptFitter, losses, prompt_fitter
from taiji.schema import EXAMPLES, TEXTS
from taiji.stages.context import StageContext, Summary

SHARD_EXAMPLES = 32
FEATURE_SPLITS = ("rank_train", "rank_test")


@dataclass(frozen=True)
class Shard:
    """A piece of work that is done at once and never depends on another."""

    index: int
    model: str
    examples: Sequence[dict[str, Any]]


def infer(ctx: StageContext) -> Summary:
    """Write texts.parquet: one row per model and example."""
    path = ctx.out / "texts.parquet"
    if not path.is_file():  # it is there if an earlier attempt was killed at its very end
        _write_texts(ctx, path)
    return _summary(read_parquet(path, TEXTS))


def _write_texts(ctx: StageContext, path: Path) -> None:
    examples = read_parquet(ctx.inputs["construct"] / "examples.parquet", EXAMPLES).to_pylist()
    shards = plan_shards(examples, ctx.recipe.infer.models)
    parts = Shards(ctx.out / "texts.parts", TEXTS)
    writer = _Writer(ctx)
    for shard in shards:
        if not parts.done(shard.index):
            parts.write(shard.index, writer.write(shard))
        ctx.progress(shard.index + 1, len(shards), f"texts by {shard.model}")
    parts.merge(len(shards), path)


def plan_shards(examples: Sequence[dict[str, Any]], models: Sequence[str]) -> list[Shard]:
    """Who writes for which examples; the same plan after a kill, so that parts fit."""
    work: dict[str, list[dict[str, Any]]] = {
        model: [row for row in examples if row["split"] == "test"] for model in models
    }
    features = [row for row in examples if row["split"] in FEATURE_SPLITS]
    work["policy"] = [*work.get("policy", []), *features]
    pieces = [
        (model, rows[start : start + SHARD_EXAMPLES])
        for model, rows in work.items()
        for start in range(0, len(rows), SHARD_EXAMPLES)
    ]
    return [Shard(index, model, rows) for index, (model, rows) in enumerate(pieces)]


class _Writer:
    """Holds one model at a time, loaded when the first unfinished shard asks for it."""

    def __init__(self, ctx: StageContext) -> None:
        self._recipe = ctx.recipe
        self._sources = _sources(ctx)
        self._name: str | None = None
        self._fitter: PromptFitter
        self._generator: TransformersGenerator

    def write(self, shard: Shard) -> pa.Table:
        """Texts for the examples of one shard."""
        if shard.model != self._name:
            self._load(shard.model)
        fitted = [self._fitter.fit(example) for example in shard.examples]
        sampling = Sampling(
            max_new_tokens=self._recipe.student.max_completion_tokens,
            temperature=self._recipe.infer.temperature,
            seed=self._recipe.seed + shard.index,  # of its own, whatever ran before
        )
        replies = self._generator.generate([prompt for prompt, _ in fitted], 1, sampling)
        rows = [
            text_row(example["example_id"], shard.model, reply) | {"lines_dropped": dropped}
            for example, (_, dropped), (reply,) in zip(shard.examples, fitted, replies, strict=True)
        ]
        return pa.Table.from_pylist(rows, TEXTS)

    def _load(self, name: str) -> None:
        model, tokenizer = load_causal_lm(str(self._sources[name]))
        self._fitter = prompt_fitter(self._recipe, ChatScaffold(tokenizer))
        self._generator = TransformersGenerator(
            model, tokenizer, name, self._recipe.infer.batch_size
        )
        self._name = name


def text_row(example_id: str, model: str, reply: Reply) -> dict[str, Any]:
    """One row of TEXTS. What the generator says (truncated, ...) goes before what parsing says."""
    parsed = parse_completion(reply.text)
    return {
        "example_id": example_id,
        "model": model,
        "status": parsed.status if reply.status == "ok" else reply.status,
        "completion": reply.text,
        "cot": parsed.cot,
        "answer": parsed.answer,
    }


def _sources(ctx: StageContext) -> dict[str, str | Path]:
    recipe: Recipe = ctx.recipe
    return {
        "untuned": recipe.student.model,
        "sft": ctx.inputs["sft"] / "model",
        "policy": ctx.inputs["align"] / "model",
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
