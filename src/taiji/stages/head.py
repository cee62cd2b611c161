"""RPORec, first half: the recommendation head, trained on the student's own chains.

A teacher's chains were written by one who knew the answer; a head that learnt from them would pay
for guessing in that style. So the student after SFT answers the examples of alignment, which SFT
never saw, and three heads learn from a third of the users each (`alignment.rewards.head`).

Shape suffixes: E examples.
"""

import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.compute as pc

from taiji.alignment.rewards.head import THIRDS, Heads, TrueItems, third_of, true_items
from taiji.arrays import Ints, Vectors
from taiji.config import SFT, HeadSection
from taiji.errors import ConfigError
from taiji.evaluation.metrics import bootstrap_interval, mean_statistic
from taiji.language.encode import SentenceEncoder
from taiji.language.encoder_caches import CachedEncoder
from taiji.language.text_head import HeadSettings, HeadTexts, fit_head
from taiji.schema import TEXTS
from taiji.stages.parts.asked_models import AskedModel
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.store.files import write_json, write_parquet

logger = logging.getLogger(__name__)


def head(ctx: StageContext) -> Summary:
    """Write `heads/`, texts.parquet (what the student wrote) and metrics.json.

    Raises:
        ConfigError: The recipe does not ask for a head.
        DataError: There are too few examples to train on.
    """
    section = ctx.recipe.head
    if not section.enabled:
        raise ConfigError("head: nothing reads it: set head.enabled=true")
    logs = Constructed(ctx.inputs["construct"])
    examples = logs.targeted_examples("rl")
    model = AskedModel(SFT, ctx.inputs["sft"].absolute() / "model", ctx)
    written = model.texts("head", examples)
    write_parquet(written, ctx.out / "texts.parquet", TEXTS)
    plain = SentenceEncoder(ctx.recipe.encoder.model, ctx.recipe.encoder.batch_size)
    catalogue = logs.catalogue(examples, ctx.recipe.encoder.catalogue_titles)
    asked = true_items(
        *(examples, logs.items, catalogue, (plain, CachedEncoder(plain))),
        negatives=section.negatives,
        seed=ctx.recipe.seed,
    )
    example_ids: list[str] = examples["example_id"].to_pylist()
    readable_E = pc.equal(written["status"], "ok").to_numpy(zero_copy_only=False)
    chain_ED, answer_ED = (plain.encode(written[name].to_pylist()) for name in ("cot", "answer"))
    texts = asked.texts(example_ids, chain_ED, answer_ED, readable_E)
    heads = _fit(section, asked, example_ids, texts, ctx.recipe.seed)
    alone = _fit(section, asked, example_ids, texts.prompts_alone(), ctx.recipe.seed)
    heads.save(ctx.out / "heads")
    figures = _figures(ctx, asked, example_ids, texts, (heads, alone))
    write_json(figures, ctx.out / "metrics.json")
    if not figures["chains_help"]:
        logger.warning(
            "head: its ranking is no better with the student's chains than on the prompt alone: "
            "paying by it (align.rewards.more: head) gives alignment nothing to climb"
        )
    return {
        "users": len(set(asked.user_of.values())),
        "readable": round(float(readable_E.mean()), 4),
        **{name: round(figures[name], 4) for name in ("ndcg", "ndcg_prompt_alone")},
    }


def _fit(
    section: HeadSection,
    asked: TrueItems,
    example_ids: list[str],
    texts: HeadTexts,
    seed: int,
) -> Heads:
    """One head for each third of the users; what its true items are, it learns from the log."""
    settings = HeadSettings(
        dim=section.dim, epochs=section.epochs, learning_rate=section.learning_rate
    )
    third_E = np.array([third_of(asked.user_of[example_id]) for example_id in example_ids])
    items_ID, target_E = _learnt_items(asked, example_ids)
    fitted = []
    for third in range(THIRDS):
        rows_N = np.flatnonzero(third_E == third)
        learnt = texts.rows(rows_N)
        fitted.append(fit_head(learnt, target_E[rows_N], items_ID, settings, seed + third))
    return Heads(tuple(fitted))


def _learnt_items(asked: TrueItems, example_ids: list[str]) -> tuple[Vectors, Ints]:
    """The catalogue, and behind it true items that it lacks; and which of them is each true one."""
    num = len(asked.items_ID)
    lacking = [example_id for example_id in example_ids if example_id not in asked.place]
    behind = {example_id: num + n for n, example_id in enumerate(lacking)}
    items_ID = np.concatenate(
        [asked.items_ID, *(asked.targets[example_id][None] for example_id in lacking)]
    )
    places = {**asked.place, **behind}
    return items_ID, np.array([places[example_id] for example_id in example_ids])


def _figures(
    ctx: StageContext,
    asked: TrueItems,
    example_ids: list[str],
    texts: HeadTexts,
    heads: tuple[Heads, Heads],
) -> dict[str, Any]:
    """What the chains add, by heads that do not know the user; 95 % intervals over users.

    Args:
        ctx: Of the stage.
        asked: What heads are asked.
        example_ids: In the order of the texts.
        texts: What the student wrote.
        heads: With chains, and on prompts alone.
    """
    users = [asked.user_of[example_id] for example_id in example_ids]
    others_E = np.roll(np.arange(len(users)), 1)  # rows are in the order of their cut-offs
    ndcg_E = {
        "ndcg": asked.ndcg(heads[0], example_ids, texts),
        "ndcg_prompt_alone": asked.ndcg(heads[1], example_ids, texts.prompts_alone()),
        "ndcg_chains_of_others": asked.ndcg(heads[0], example_ids, texts.of_others(others_E)),
    }
    figures: dict[str, Any] = {name: float(values.mean()) for name, values in ndcg_E.items()}
    for name in ("ndcg_prompt_alone", "ndcg_chains_of_others"):
        found = bootstrap_interval(
            mean_statistic(ndcg_E["ndcg"] - ndcg_E[name]),
            users,
            resamples=ctx.recipe.evaluate.bootstrap,
            seed=ctx.recipe.seed,
        )
        figures[f"over_{name.removeprefix('ndcg_')}"] = asdict(found)
    figures["chains_help"] = figures["over_prompt_alone"]["low"] > 0
    return figures
