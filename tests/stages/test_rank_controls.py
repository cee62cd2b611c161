"""A world in which the text knows something that no other feature does."""

import market
import market_run
import numpy as np
import pyarrow as pa
import pytest
from rows import example_row, text_row

from taiji import schema
from taiji.config import BoostingSection, RankerSection, RankSection
from taiji.report.ranking_tables import verdict
from taiji.stages import rank as stage
from taiji.stages.features import features
from taiji.stages.rank import rank
from taiji.store.files import read_json, write_parquet

NUM_USERS = 120
EAGER = 3  # every third user clicks often

RECIPE = market_run.recipe(
    ranker=RankerSection(
        dim=4,
        hidden=(16,),
        own_items=8,
        epochs=10,
        batch_size=128,
        learning_rate=1e-2,
        boosting=BoostingSection(
            rounds=25, leaves=7, min_leaf=20, learning_rate=0.2, category_rows=10
        ),
    ),
    rank=RankSection(
        backbones=("network", "lightgbm"), controls=("shuffled", "swapped", "reseeded"), seeds=3
    ),
)


def eager(user: str) -> bool:
    return int(user[1:]) % EAGER == 0


def write_world(folder):
    """Clicks depend on the user's eagerness alone; histories do not."""
    market_run.write_construct(folder)
    world = market.build(num_users=NUM_USERS, per_visit=3)
    random = np.random.default_rng(5)
    users = world.exposures["user_id"].to_pylist()
    click = random.random(len(users)) < np.where([eager(user) for user in users], 0.4, 0.1)
    conversion = click & (random.random(len(users)) < 0.5)
    exposures = world.exposures
    for name, values in (("click", click), ("conversion", conversion)):
        place = schema.EXPOSURES.get_field_index(name)
        exposures = exposures.set_column(place, name, pa.array(values.astype(np.int8)))
    users = world.users.set_column(  # so that no field of the profile tells eagerness
        2, "fields", pa.array([[("age", None)]] * NUM_USERS, schema.USERS.field("fields").type)
    )
    for name, table in (("exposures", exposures), ("users", users)):
        write_parquet(table, folder / f"{name}.parquet", getattr(schema, name.upper()))
    write_parquet(world.interactions, folder / "interactions.parquet", schema.INTERACTIONS)
    rows = [
        example_row(
            f"{split}-{user}",
            split,
            user_id=user,
            cutoff=cutoff,
            profile="Household",
            history_length=9,
        )
        for split, cutoff in market_run.CUTOFFS.items()
        for user in world.users["user_id"].to_pylist()
    ]
    examples = pa.Table.from_pylist(rows, schema.EXAMPLES)
    write_parquet(examples, folder / "examples.parquet", schema.EXAMPLES)
    return rows


def write_texts(folder, examples):
    folder.mkdir()
    rows = [
        text_row(
            row["example_id"],
            cot="eager" if eager(row["user_id"]) else "shy",
            answer=f"thing {n % 5}",
        )
        for n, row in enumerate(examples)
    ]
    write_parquet(pa.Table.from_pylist(rows, schema.TEXTS), folder / "texts.parquet", schema.TEXTS)


@pytest.mark.slow
def test_what_the_text_knows_is_a_lift_and_what_it_does_not_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "RESAMPLES", 100)
    write_texts(tmp_path / "infer", write_world(tmp_path / "construct"))
    features(market_run.context(tmp_path, "features", RECIPE), market_run.WordEncoder)
    rank(market_run.context(tmp_path, "rank", RECIPE))
    metrics = read_json(tmp_path / "rank" / "metrics.json")
    for groups in metrics["backbones"].values():
        found = groups["all"]["contrasts"]
        # click rates of .4 and .1 for a third and two thirds of the exposures: AUC by hand
        pos = np.array([0.4 / 3, 0.1 * 2 / 3])
        neg = np.array([0.6 / 3, 0.9 * 2 / 3])
        pos, neg = pos / pos.sum(), neg / neg.sum()
        oracle = pos[0] * neg[1] + (pos[0] * neg[0] + pos[1] * neg[1]) / 2
        base = groups["all"]["arms"]["base"]["click_auc"]["value"]
        gain = found["intra - base"]["click_auc"]
        assert gain["low"] > 0
        assert gain["value"] == pytest.approx(oracle - base, abs=0.03)
        assert found["both - both:shuffled"]["click_auc"]["low"] > 0, "shuffled loses it again"
        assert found["both - both:swapped"]["click_auc"]["low"] > 0
        for control in ("both:shuffled - base", "base:reseeded - base"):
            for task in ("click_auc", "ctcvr_auc"):
                assert found[control][task]["low"] <= 0 <= found[control][task]["high"], control
        words = verdict(metrics, groups["all"], "click")
        lifts = words.partition("Lift shown: ")[2]
        assert "+ both" in lifts
        assert "+ intra-user codes" in lifts
        assert "shuffled" not in words, "swapped may lift: it lets users be recognised"
        assert "other seeds" not in words
