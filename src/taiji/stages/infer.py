"""Stage 4, first half: the tuned models write what they think each user buys next.

Every model of `infer.models` answers the test examples, so that they can be compared. The models
of `features.texts`, the policy among them, answer for the users of the ranking model, whose
features their texts become; if asked for, they also say how likely each category on offer is.
Beside them may stand `prompt`, what they read. The answer is kept as it came: a malformed one is a
result, not an error.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taiji.config import PROMPT
from taiji.data.calendar import RANK_SPLITS
from taiji.reasoning.prompts import losses
from taiji.schema import TEXTS
from taiji.stages.parts.asked_models import asked_models
from taiji.stages.parts.category_likelihoods import LIKELIHOODS, category_likelihoods
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.given_texts import given_texts, read_given
from taiji.stages.parts.prompt_texts import prompt_texts
from taiji.store.files import read_parquet, write_parquet, write_tables


def infer(ctx: StageContext) -> Summary:
    """Write texts.parquet: one row per model and example; likelihoods.parquet if asked for."""
    path = ctx.out / "texts.parquet"
    _write_texts(ctx, path)
    texts = read_parquet(path, TEXTS)
    if ctx.recipe.infer.likelihoods:
        _write_likelihoods(ctx, texts)
    return _summary(texts)


def _write_likelihoods(ctx: StageContext, texts: pa.Table) -> None:
    models = asked_models(ctx)
    table = category_likelihoods(
        Constructed(ctx.inputs["construct"]),
        texts,
        {name: models[name] for name in ctx.recipe.features.texts if name != PROMPT},
        answers=ctx.recipe.student.answers,
    )
    write_parquet(table, ctx.out / "likelihoods.parquet", LIKELIHOODS)


def _write_texts(ctx: StageContext, path: Path) -> None:
    logs = Constructed(ctx.inputs["construct"])
    read: Iterable[pa.Table] = ()
    if PROMPT in ctx.recipe.features.texts:
        read = prompt_texts(logs.example_rows(*RANK_SPLITS))
    if ctx.recipe.infer.texts_from is not None:
        given = read_given(Path(ctx.recipe.infer.texts_from).expanduser())
        asked = logs.examples(*RANK_SPLITS, columns=["example_id", "user_id", "cutoff"])
        write_tables(chain(given_texts(given, asked), read), path, TEXTS)
        return
    splits = {"test": ("test",), "users": tuple(RANK_SPLITS)}
    plan = plan_texts(ctx.recipe.infer.models, ctx.recipe.features.texts)
    models = asked_models(ctx)
    texts = [
        models[name].texts(
            " and ".join(sets), logs.example_rows(*(split for one in sets for split in splits[one]))
        )
        for name, sets in plan.items()
    ]
    write_tables(chain(texts, read), path, TEXTS)


def plan_texts(models: Sequence[str], of_users: Sequence[str]) -> dict[str, list[str]]:
    """For which examples each model writes: `test`, and `users` of the ranking model.

    Args:
        models: Who answers the test examples.
        of_users: Whose text the users of the ranking model get; `prompt` asks nobody.
    """
    plan = {model: ["test"] for model in models}
    for model in (name for name in of_users if name != PROMPT):
        plan.setdefault(model, []).append("users")
    return plan


def _summary(texts: pa.Table) -> Summary:
    """How many texts, and for each model the share that holds one readable answer."""
    summary: Summary = {"texts": texts.num_rows}
    models = set(texts["model"].unique().to_pylist()) - {PROMPT}  # which has no form to keep
    for model in sorted(models):
        own = texts["status"].filter(pc.equal(texts["model"], model))
        num_ok = pc.sum(pc.equal(own, "ok")).as_py() or 0
        summary[f"{model}_ok"] = round(num_ok / len(own), 4)
    cut = texts.select(["example_id", "lines_dropped"]).filter(
        pc.greater(texts["lines_dropped"], 0)
    )
    # Each example once, however many models were asked about it.
    dropped = cut.group_by("example_id").aggregate([("lines_dropped", "max")])
    return summary | losses(dropped["lines_dropped_max"].to_pylist())
