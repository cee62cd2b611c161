"""Stage 4, first half: the tuned models write what they think each user buys next.

Every model of `infer.models` answers the test examples, so that they can be compared. The models
of `features.texts`, the policy among them, answer for the users of the ranking model, whose
features their texts become; if asked for, they also say how likely each category on offer is. The
answer is kept as it came: a malformed one is a result, not an
error.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from taiji.data.calendar import RANK_SPLITS
from taiji.reasoning.prompts import losses
from taiji.schema import TEXTS
from taiji.stages.parts.asked_models import asked_models
from taiji.stages.parts.category_likelihoods import LIKELIHOODS, category_likelihoods
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.given_texts import given_texts, read_given
from taiji.store.files import read_parquet, write_parquet


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
        {name: models[name] for name in ctx.recipe.features.texts},
        answers=ctx.recipe.student.answers,
    )
    write_parquet(table, ctx.out / "likelihoods.parquet", LIKELIHOODS)


def _write_texts(ctx: StageContext, path: Path) -> None:
    logs = Constructed(ctx.inputs["construct"])
    if ctx.recipe.infer.texts_from is not None:
        given = read_given(Path(ctx.recipe.infer.texts_from).expanduser())
        write_parquet(given_texts(given, logs.examples(*RANK_SPLITS).to_pylist()), path, TEXTS)
        return
    examples = {"test": logs.examples("test"), "users": logs.examples(*RANK_SPLITS)}
    plan = plan_texts(ctx.recipe.infer.models, ctx.recipe.features.texts)
    models = asked_models(ctx)
    texts = [
        models[name].texts(" and ".join(sets), pa.concat_tables(examples[one] for one in sets))
        for name, sets in plan.items()
    ]
    write_parquet(pa.concat_tables(texts), path, TEXTS)


def plan_texts(models: Sequence[str], of_users: Sequence[str]) -> dict[str, list[str]]:
    """For which examples each model writes: `test`, and `users` of the ranking model.

    Args:
        models: Who answers the test examples.
        of_users: Who answers for the users of the ranking model.
    """
    plan = {model: ["test"] for model in models}
    for model in of_users:
        plan.setdefault(model, []).append("users")
    return plan


def _summary(texts: pa.Table) -> Summary:
    """How many texts, and for each model the share that holds one readable answer."""
    summary: Summary = {"texts": texts.num_rows}
    models, statuses = texts["model"].to_pylist(), texts["status"].to_pylist()
    for model in dict.fromkeys(models):
        own = [status for name, status in zip(models, statuses, strict=True) if name == model]
        summary[f"{model}_ok"] = round(own.count("ok") / len(own), 4)
    dropped = zip(texts["example_id"].to_pylist(), texts["lines_dropped"].to_pylist(), strict=True)
    return summary | losses(dict(dropped).values())
