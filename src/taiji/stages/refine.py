"""Stage 2, ORFT: score every chain by the true answer's log-probability and keep the good ones."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from taiji.artifacts import Shards, read_parquet, write_json, write_parquet
from taiji.config import Recipe, RefineSection
from taiji.errors import DataError
from taiji.language.models import load_causal_lm, load_tokenizer
from taiji.language.prompt import ChatScaffold
from taiji.language.workers import Note, Worker
from taiji.reasoning.endpoint_scorer import EndpointScorer
from taiji.reasoning.perplexity import clipped_perplexity, gain, perplexity
from taiji.reasoning.prompts import PromptFitter, losses, prompt_fitter
from taiji.reasoning.scoring import ModelScorer, OnProgress, Question, Scorer
from taiji.reasoning.selection import KEPT, Rule, Selection, select
from taiji.schema import CANDIDATES, EXAMPLES, SCORED
from taiji.stages.context import StageContext, Summary
from taiji.stages.pieces import write_pieces

_SHARD_ROWS = 32
"""Prompts between two commits: about a minute of scoring on two cores."""

_SCORES = pa.schema(
    [
        *(field for field in SCORED if field.name not in ("kept", "reason")),
        pa.field("lines_dropped", pa.int32(), nullable=False),  # of the prompt's history
    ]
)

Row = dict[str, Any]


def refine(ctx: StageContext) -> Summary:
    """Write `scored.parquet` with every score of every chain, and `threshold.json` with R."""
    scored = _score(ctx)
    section = ctx.recipe.refine
    try:
        selection = select(scored, selection_rule(section, ctx.recipe.seed))
    except ValueError as error:
        raise DataError(
            "refine: no chain can be kept: the teacher's all failed or leak the answer"
        ) from error
    for row, reason in zip(scored, selection.reasons, strict=True):
        row |= {"reason": reason, "kept": reason == KEPT}
    choice = {
        "filter": section.filter,
        "threshold": selection.threshold,
        "rule": selection.rule,
        "sampled": selection.sampled,
    }
    write_json(choice, ctx.out / "threshold.json")
    write_parquet(pa.Table.from_pylist(scored, schema=SCORED), ctx.out / "scored.parquet", SCORED)
    (ctx.out / "scores.parquet").unlink()
    dropped = {row["example_id"]: row["lines_dropped"] for row in scored}
    return _summary(scored, selection) | losses(dropped.values())


def selection_rule(section: RefineSection, seed: int) -> Rule:
    """How a recipe chooses; with it `select` can choose anew from a scored table."""
    return Rule(
        filter=section.filter,
        quantile=section.quantile,
        sample=section.threshold_sample,
        seed=seed,
        threshold=section.threshold,
        top_m=section.top_m,
        drop_leaks=section.drop_leaks,
    )


def _score(ctx: StageContext) -> list[Row]:
    """Candidates with their scores, by resumable shards of prompts."""
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
    told = [(by_id[group[0]["example_id"]], group) for group in groups]
    shards = Shards(ctx.out / "shards", _SCORES)
    starts = range(0, len(told), _SHARD_ROWS)
    pieces = [told[first : first + _SHARD_ROWS] for first in starts]
    write_pieces(ctx, shards, pieces, partial(_rater, ctx.recipe), size=len, what="prompts")
    shards.merge(len(starts), ctx.out / "scores.parquet")


def _rater(recipe: Recipe) -> Worker[Sequence[tuple[Row, list[Row]]], pa.Table]:
    """Whoever scores the chains of examples, made where the work is done."""
    section = recipe.refine
    scorer, tokenizer = _scorer(recipe)
    fitter = prompt_fitter(recipe, ChatScaffold(tokenizer))

    def rate(told: Sequence[tuple[Row, list[Row]]], note: Note) -> pa.Table:
        examples, groups = zip(*told, strict=True)
        rows = _score_groups(scorer, fitter, examples, groups, section.clip, note)
        return pa.Table.from_pylist(rows, schema=_SCORES)

    return rate


def _scorer(recipe: Recipe) -> tuple[Scorer, PreTrainedTokenizerBase]:
    """The model that scores, by its weights or by a server, and its tokenizer."""
    name, server = recipe.refine.scorer or recipe.student.model, recipe.refine.scorer_endpoint
    if server is not None:
        return EndpointScorer(server), load_tokenizer(name)
    model, tokenizer = load_causal_lm(name)
    return ModelScorer(model), tokenizer


def _score_groups(
    scorer: Scorer,
    fitter: PromptFitter,
    examples: Sequence[Mapping[str, Any]],
    groups: Sequence[Sequence[Row]],
    clip: float,
    on_progress: OnProgress | None = None,
) -> list[Row]:
    """All scores of the chains of each prompt; a chain whose status is not `ok` has none.

    Beside its chains each prompt is asked with an empty one, for the gain.
    """
    scaffold = fitter.scaffold
    asked: list[tuple[Question, list[Row]]] = []
    for example, group in zip(examples, groups, strict=True):
        prompt, dropped = fitter.fit(example)
        for row in group:
            row |= dict.fromkeys(("perplexity", "gain", "clipped", "num_answer_tokens"))
            row["lines_dropped"] = dropped
        ok = [row for row in group if row["status"] == "ok"]
        if ok:
            chains = [("", ok[0]["answer"]), *((row["cot"], row["answer"]) for row in ok)]
            branches = [scaffold.completion_ids(cot, answer) for cot, answer in chains]
            asked.append((Question(scaffold.prompt_ids(prompt), branches), ok))
    scores = scorer.score([question for question, _ in asked], on_progress)
    for (_, ok), (bare, *logprobs) in zip(asked, scores, strict=True):
        for row, chain in zip(ok, logprobs, strict=True):
            row["perplexity"] = perplexity(chain)
            row["gain"] = gain(chain, bare)
            row["clipped"] = clipped_perplexity(chain, clip)
            row["num_answer_tokens"] = chain.size
    return [row for group in groups for row in group]


def _summary(scored: Sequence[Row], selection: Selection) -> Summary:
    survivors = Counter(row["example_id"] for row in scored if row["kept"])
    num_examples = len({row["example_id"] for row in scored})
    with_score = [row for row in scored if row["perplexity"] is not None]
    leaks = Counter(row["leak"] for row in scored if row["leak"] is not None)
    summary: Summary = {
        "kept": sum(survivors.values()),
        "kept_share": round(sum(survivors.values()) / len(scored), 4),
        "examples_with_a_chain_share": round(len(survivors) / num_examples, 4),
        "rule": selection.rule,
    }
    if selection.threshold is not None:
        summary["threshold"] = round(selection.threshold, 4)
    return summary | {
        "median_perplexity": round(float(np.median([r["perplexity"] for r in with_score])), 4),
        "median_gain": round(float(np.median([row["gain"] for row in with_score])), 4),
        "leak_share": round(leaks.total() / len(scored), 4),
    }
