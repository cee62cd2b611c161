"""Stage 2, ORFT: score every chain by the true answer's perplexity and keep the good ones."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedModel

from taiji.artifacts import Shards, read_parquet, write_json, write_parquet
from taiji.errors import DataError
from taiji.language.models import load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.perplexity import perplexity
from taiji.reasoning.prompts import PromptFitter, losses, prompt_fitter
from taiji.reasoning.scoring import score_branches
from taiji.reasoning.selection import KEPT, threshold, verdict
from taiji.schema import CANDIDATES, EXAMPLES, SCORED
from taiji.stages.context import StageContext, Summary

_SHARD_ROWS = 32
"""Prompts between two commits: about a minute of scoring on two cores."""

_SCORES = pa.schema(
    [
        *CANDIDATES,
        pa.field("perplexity", pa.float64()),
        pa.field("num_answer_tokens", pa.int32()),
        pa.field("lines_dropped", pa.int32(), nullable=False),  # of the prompt's history
    ]
)

Row = dict[str, Any]


def refine(ctx: StageContext) -> Summary:
    """Write `scored.parquet` and `threshold.json`: PPL (Eq. 1), R, and who is kept."""
    scored = _score(ctx)
    section = ctx.recipe.refine
    eligible = [
        row["perplexity"]
        for row in scored
        if row["perplexity"] is not None and not (section.drop_leaks and row["leak"])
    ]
    if not eligible:
        raise DataError("refine: no chain can be kept: the teacher's all failed or leak the answer")
    if section.max_perplexity is not None:
        limit, rule, sampled = section.max_perplexity, "fixed", 0
    else:
        sampled = min(len(eligible), section.threshold_sample)
        rule = f"quantile {section.quantile:g}"
        limit = threshold(
            np.array(eligible), quantile=section.quantile, sample=sampled, seed=ctx.recipe.seed
        )
    for row in scored:
        row["reason"] = verdict(
            row["perplexity"],
            row["status"],
            row["leak"],
            threshold=limit,
            drop_leaks=section.drop_leaks,
        )
        row["kept"] = row["reason"] == KEPT
    write_json({"threshold": limit, "rule": rule, "sampled": sampled}, ctx.out / "threshold.json")
    write_parquet(pa.Table.from_pylist(scored, schema=SCORED), ctx.out / "scored.parquet", SCORED)
    (ctx.out / "scores.parquet").unlink()
    dropped = {row["example_id"]: row["lines_dropped"] for row in scored}
    return _summary(scored, eligible, limit) | losses(dropped.values())


def _score(ctx: StageContext) -> list[Row]:
    """Candidates with their perplexities, by resumable shards of prompts."""
    merged = ctx.out / "scores.parquet"
    if not merged.is_file():
        _score_shards(ctx)
    rows: list[Row] = read_parquet(merged, _SCORES).to_pylist()
    return rows


def _score_shards(ctx: StageContext) -> None:
    candidates = read_parquet(ctx.inputs["distill"] / "candidates.parquet", CANDIDATES)
    groups = [list(rows) for _, rows in groupby(candidates.to_pylist(), itemgetter("example_id"))]
    examples = read_parquet(ctx.inputs["construct"] / "examples.parquet", EXAMPLES)
    by_id = {example["example_id"]: example for example in examples.to_pylist()}
    model, tokenizer = load_causal_lm(ctx.recipe.refine.scorer or ctx.recipe.student.model)
    fitter = prompt_fitter(ctx.recipe, ChatScaffold(tokenizer))
    shards = Shards(ctx.out / "shards", _SCORES)
    num_shards = -(-len(groups) // _SHARD_ROWS)
    for index in range(num_shards):
        first = index * _SHARD_ROWS
        if not shards.done(index):
            rows: list[Row] = []
            for number, group in enumerate(groups[first : first + _SHARD_ROWS], start=first):
                example = by_id[group[0]["example_id"]]
                rows += _score_group(model, fitter, example, group)
                ctx.progress(number + 1, len(groups), "prompts")
            shards.write(index, pa.Table.from_pylist(rows, schema=_SCORES))
        ctx.progress(min(first + _SHARD_ROWS, len(groups)), len(groups), "prompts")
    shards.merge(num_shards, ctx.out / "scores.parquet")


def _score_group(
    model: PreTrainedModel,
    fitter: PromptFitter,
    example: Mapping[str, Any],
    group: Sequence[Row],
) -> list[Row]:
    """Eq. 1 for the chains of one prompt; a chain whose status is not `ok` has no score."""
    scaffold = fitter.scaffold
    prompt, dropped = fitter.fit(example)
    ok = [row for row in group if row["status"] == "ok"]
    branches = [scaffold.completion_ids(row["cot"], row["answer"]) for row in ok]
    scores = score_branches(model, scaffold.prompt_ids(prompt), branches) if ok else []
    for row in group:
        row |= {"perplexity": None, "num_answer_tokens": None, "lines_dropped": dropped}
    for row, logprobs in zip(ok, scores, strict=True):
        row |= {"perplexity": perplexity(logprobs), "num_answer_tokens": logprobs.size}
    return list(group)


def _summary(scored: Sequence[Row], eligible: Sequence[float], limit: float) -> Summary:
    survivors = Counter(row["example_id"] for row in scored if row["kept"])
    num_examples = len({row["example_id"] for row in scored})
    leaks = sum(row["leak"] is not None for row in scored)
    return {
        "kept": sum(survivors.values()),
        "kept_share": round(sum(survivors.values()) / len(scored), 4),
        "examples_with_a_chain_share": round(len(survivors) / num_examples, 4),
        "threshold": round(limit, 4),
        "median_perplexity": round(float(np.median(eligible)), 4),
        "leak_share": round(leaks / len(scored), 4),
    }
