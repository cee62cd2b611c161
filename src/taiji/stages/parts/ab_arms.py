"""The models of a simulated A/B test, and what each says of every candidate."""

import numpy as np

from taiji.abtest.requests import Inventory, Requests
from taiji.abtest.response import Response
from taiji.abtest.trial import ARMS, Models
from taiji.errors import ConfigError
from taiji.ranking.comparison import Variant, reseed
from taiji.ranking.inputs import Arm
from taiji.ranking.train import Labels, Ranker, fit_ranker, load_ranker, predict
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.language_features import FeatureSource

_BACKBONE = "network"
_RESEEDED = Variant("base:reseeded", "base", control="reseeded")
_REQUESTS_AT_ONCE = 1000


def load_rankers(ctx: StageContext) -> dict[Arm, Ranker]:
    """The models of `rank`, first seed, by arm.

    Raises:
        ConfigError: `rank` was not asked for what a comparison needs.
    """
    section = ctx.recipe.rank
    if _BACKBONE not in section.backbones or "base" not in section.arms:
        raise ConfigError(
            f"abtest: compares arms of the backbone `{_BACKBONE}` with its base: add "
            f"`{_BACKBONE}` to rank.backbones and `base` to rank.arms"
        )
    folder = ctx.inputs["rank"] / "models" / _BACKBONE
    return {arm: load_ranker(folder / arm) for arm in ARMS if arm in section.arms}


def refit_base(ctx: StageContext, logs: Constructed, source: FeatureSource) -> Ranker:
    """The base model once more with another seed: a difference that has no cause."""
    train = logs.calendar.window("ranker").rows(logs.labelled_exposures)
    seen, _ = source.of(_RESEEDED)
    return fit_ranker(
        logs.as_of.features(train),
        Labels.from_exposures(train),
        ctx.recipe.ranker,
        seed=reseed(_RESEEDED, ctx.recipe.seed),
        language=seen,
        on_step=lambda done, total: ctx.progress(done, total, "the base model, another seed"),
    )


def score_candidates(
    ctx: StageContext,
    logs: Constructed,
    requests: Requests,
    inventory: Inventory,
    response: Response,
) -> Models:
    """pCTCVR of every candidate of every request by each model, and the truth."""
    rankers = load_rankers(ctx)
    source = FeatureSource(ctx, logs.as_of, logs.calendar)
    reseeded = refit_base(ctx, logs, source)
    later = {arm: source.of(Variant(arm, arm))[1] for arm in rankers}
    shape = requests.item_RC.shape
    names = (*rankers, "reseeded", "truth")
    scores = {name: np.empty(shape, dtype=np.float32) for name in names}
    for begin in range(0, shape[0], _REQUESTS_AT_ONCE):
        ctx.progress(begin, shape[0], "scoring the candidates of every request")
        rows = slice(begin, min(begin + _REQUESTS_AT_ONCE, shape[0]))
        pairs = logs.as_of.features(requests.pairs(inventory, rows, rankers["base"].placement))
        users = np.repeat(requests.user_R[rows], shape[1])
        for arm, ranker in rankers.items():
            scores[arm][rows] = predict(ranker, pairs, later[arm]).ctcvr.reshape(-1, shape[1])
        again = predict(reseeded, pairs, later["base"]).ctcvr
        scores["reseeded"][rows] = again.reshape(-1, shape[1])
        scores["truth"][rows] = response.probability(pairs, users).reshape(-1, shape[1])
    return Models({arm: scores[arm] for arm in rankers}, scores["reseeded"], scores["truth"])
