"""Stage 2, ORFT, first half: how likely the true answer is under every chain (Eq. 1).

A stage of its own, because scoring takes hours where choosing takes seconds: another filter or
threshold uses the same scores.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from taiji.config import Recipe
from taiji.language.endpoint.scorer import EndpointScorer
from taiji.language.models import load_causal_lm, load_tokenizer
from taiji.language.pieces import Pieces
from taiji.language.prompt import ChatScaffold
from taiji.language.scoring import ModelScorer, OnProgress, Question, Scorer, compiled_scorer
from taiji.language.workers import Note, Worker
from taiji.reasoning.perplexity import clipped_perplexity, gain, perplexity
from taiji.reasoning.prompts import PromptFitter, losses, prompt_fitter
from taiji.schema import CANDIDATES, SCORES
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.shards import write_shards
from taiji.store.files import read_parquet
from taiji.store.shards import Shards
from taiji.store.stored_rows import StoredRows

_SHARD_ROWS = 32
"""Prompts between two commits: about a minute of scoring on two cores."""

Row = dict[str, Any]
Told = Sequence[tuple[Row, list[Row]]]
"""Examples, each with its chains."""


def score(ctx: StageContext) -> Summary:
    """Write `scores.parquet`: every chain with its scores."""
    path = ctx.out / "scores.parquet"
    _write_scores(ctx, path)
    names = ("example_id", "perplexity", "gain", "lines_dropped")
    return _summary(read_parquet(path, pa.schema(map(SCORES.field, names))))


def _write_scores(ctx: StageContext, path: Path) -> None:
    candidates = read_parquet(ctx.inputs["distill"] / "candidates.parquet", CANDIDATES)
    examples = Constructed(ctx.inputs["construct"]).targeted_rows("sft")
    shards = Shards(ctx.parts("scores"), SCORES)
    pieces = _told(candidates, examples)
    write_shards(ctx, shards, pieces, partial(_rater, ctx.recipe), what="prompts")
    shards.merge(len(pieces), path)


def _told(candidates: pa.Table, examples: StoredRows) -> Pieces[Told]:
    """Each example with its chains, a few dozen at a time: as Python a history is kilobytes."""
    runs = pc.run_end_encode(candidates["example_id"].combine_chunks())
    ends = np.append(0, runs.run_ends)
    places = np.asarray(pc.index_in(runs.values, value_set=examples.column("example_id")))

    def cut(start: int, stop: int) -> Told:
        rows = candidates.slice(ends[start], ends[stop] - ends[start]).to_pylist()
        asked = examples.take(places[start:stop]).to_pylist()
        groups = (list(group) for _, group in groupby(rows, itemgetter("example_id")))
        return list(zip(asked, groups, strict=True))

    return Pieces(len(places), _SHARD_ROWS, cut)


def _rater(recipe: Recipe) -> Worker[Told, pa.Table]:
    """Whoever scores the chains of examples, made where the work is done."""
    scorer, tokenizer = _scorer(recipe)
    fitter = prompt_fitter(recipe, ChatScaffold(tokenizer))

    def rate(told: Told, note: Note) -> pa.Table:
        examples, groups = zip(*told, strict=True)
        rows = _score_groups(scorer, fitter, examples, groups, recipe.score.clip, note)
        return pa.Table.from_pylist(rows, schema=SCORES)

    return rate


def _scorer(recipe: Recipe) -> tuple[Scorer, PreTrainedTokenizerBase]:
    """The model that scores, by its weights or by a server, and its tokenizer."""
    section = recipe.score
    name, server = section.model or recipe.student.model, section.endpoint
    if server is not None:
        return EndpointScorer(server), load_tokenizer(name)
    model, tokenizer = load_causal_lm(name)
    return (compiled_scorer if section.compile else ModelScorer)(model), tokenizer


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


def _summary(scores: pa.Table) -> Summary:
    ok = scores.filter(pc.is_valid(scores["perplexity"]))
    summary: Summary = {"chains": scores.num_rows, "scored": ok.num_rows}
    if ok.num_rows:
        for name in ("perplexity", "gain"):
            summary[f"median_{name}"] = round(pc.quantile(ok[name], 0.5)[0].as_py(), 4)
    of_prompt = zip(*(scores[n].to_pylist() for n in ("example_id", "lines_dropped")), strict=True)
    return summary | losses(dict(of_prompt).values())
