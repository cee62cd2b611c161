from datetime import timedelta

import market
import numpy as np
import pyarrow as pa
import pytest
from rows import example_row
from weeks import CALENDAR, window_start

from taiji import schema
from taiji.alignment.rewards.reward import Rollout
from taiji.config import HeadSection, Recipe, RewardsSection, StudentSection
from taiji.errors import ConfigError
from taiji.language.encode import SentenceEncoder
from taiji.stages.head import head
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.paid_rewards import RunSoFar, paid_rewards, watchers
from taiji.store.files import read_json, read_parquet, write_parquet

USERS = 75
WHOLE = "<think>\nwhy\n</think>\n<answer>\ntea\n</answer>"


def example(number):
    return example_row(
        f"rl{number}",
        "rl",
        user_id=f"u{number:03d}",
        cutoff=window_start("rl") + timedelta(days=1),
        profile="Somebody.",
        target_item_id=f"i{number % 6}0",
    )


@pytest.fixture(scope="module")
def ctx(tmp_path_factory, tiny_student):
    """What construct and sft leave behind, and a recipe that asks for a head."""
    root = tmp_path_factory.mktemp("run")
    logs = market.build(num_users=4)
    (root / "construct").mkdir()
    for name in ("users", "items", "interactions"):
        path = root / "construct" / f"{name}.parquet"
        write_parquet(getattr(logs, name), path, getattr(schema, name.upper()))
    CALENDAR.write(root / "construct" / "windows.json")
    rows = pa.Table.from_pylist([example(n) for n in range(USERS)], schema.EXAMPLES)
    write_parquet(rows, root / "construct" / "examples.parquet", schema.EXAMPLES)
    (root / "sft").mkdir()
    (root / "sft" / "model").symlink_to(tiny_student)
    (root / "head").mkdir()
    recipe = Recipe(
        name="tiny",
        student=StudentSection(max_completion_tokens=2),
        head=HeadSection(enabled=True, dim=8, epochs=1, negatives=5),
    )
    inputs = {name: root / name for name in ("construct", "sft", "head")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield StageContext(recipe, root / "head", inputs, lambda *_: None)


@pytest.fixture(scope="module")
def summary(ctx):
    return head(ctx)


def test_the_student_writes_and_heads_learn(ctx, summary):
    texts = read_parquet(ctx.out / "texts.parquet", schema.TEXTS)
    assert set(texts["model"].to_pylist()) == {"sft"}
    assert texts.num_rows == summary["users"] == USERS
    figures = read_json(ctx.out / "metrics.json")
    assert 0 < figures["ndcg"] <= 1
    for over in ("over_prompt_alone", "over_chains_of_others"):
        assert figures[over]["low"] <= figures[over]["value"] <= figures[over]["high"]
    # A student that knows nothing helps nobody, and the stage says so.
    assert figures["chains_help"] is False


def test_a_recipe_that_pays_by_the_head_gets_its_ranking(ctx, summary):
    logs = Constructed(ctx.inputs["construct"])
    examples = logs.targeted_examples("rl")
    encoder = SentenceEncoder(ctx.recipe.encoder.model)
    run = RunSoFar(ctx, logs, examples, logs.catalogue(examples, 100), encoder)
    paid = paid_rewards(RewardsSection(more=({"kind": "head"},)), lambda: run)
    assert list(paid) == ["semantic", "preference", "head_ndcg"]
    rollouts = [
        Rollout(f"rl{n}", WHOLE, "ok", "tea", None, "none", 0.0, 0.0, None, 0.0, chain="why")
        for n in range(12)
    ]
    earned = paid["head_ndcg"](rollouts)
    ranks = 2 ** (1 / np.array(earned)) - 1
    assert ranks == pytest.approx(np.round(ranks))
    assert ranks.min() >= 1
    assert ranks.max() <= 6, "the true item and five others"
    watched = watchers(paid)
    assert list(watched) == ["head_ndcg"]
    assert watched["head_ndcg"](rollouts) != earned


def test_a_head_that_nobody_reads_is_not_trained(ctx):
    idle = StageContext(Recipe(name="tiny"), ctx.out, ctx.inputs, ctx.progress)
    with pytest.raises(ConfigError, match=r"head\.enabled"):
        head(idle)


def test_a_reward_without_a_head_is_refused():
    with pytest.raises(ValueError, match=r"head\.enabled: true"):
        Recipe.model_validate({"name": "a", "align": {"rewards": {"more": [{"kind": "head"}]}}})
