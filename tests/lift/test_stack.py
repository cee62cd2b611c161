import numpy as np
import pytest

from taiji.evaluation.influence import extra_users
from taiji.lift.figures import figure, gain_figures
from taiji.lift.stack import Judge, Rows, Stack

WEIGHT = 1.5


def world(seed, num_users=400, per_user=15, weight=WEIGHT):
    """Rows whose clicks depend on a logit and on a column that the logit does not hold."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(num_users), per_user)
    logit = random.normal(-2, 1, user.size)
    column = (random.random(user.size) < 0.2).astype(np.float32)
    chance = 1 / (1 + np.exp(-(logit + weight * column)))
    click = (random.random(user.size) < chance).astype(float)
    groups = {"all": np.ones(user.size, dtype=bool), "few": user < 100}
    rows = Rows(user, {"click": click, "ctcvr": click}, {"click": logit, "ctcvr": logit}, groups)
    return rows, np.column_stack([column])


def figures(weight=WEIGHT, column=None):
    gains = []
    for seed in (0, 1):
        held, held_column = world(2 * seed + 1, weight=weight)
        test, test_column = world(100, weight=weight)
        judge = Judge(held, test, seed)
        if column is not None:
            random = np.random.default_rng(seed)
            held_column, test_column = (
                (random.random(of.shape) < 0.2).astype(np.float32)
                for of in (held_column, test_column)
            )
        gains.append(judge.gain(held_column, test_column))
    return gains, gain_figures(gains, extra_users(400, 200, seed=0), 0)


def test_a_stack_finds_the_weight_of_a_planted_column():
    rows, columns = world(3, num_users=2000)
    stack = Stack.fit(rows.logits["click"], columns, rows.labels["click"])
    assert stack.weights_F[0] == pytest.approx(WEIGHT, abs=0.1)
    assert stack.slope == pytest.approx(1.0, abs=0.1)


def test_counting_a_row_twice_is_having_it_twice():
    rows, columns = world(3, num_users=20)
    logit, label = rows.logits["click"], rows.labels["click"]
    twice = Stack.fit(logit, columns, label, np.full(label.size, 2.0))
    again = Stack.fit(np.tile(logit, 2), np.tile(columns, (2, 1)), np.tile(label, 2))
    assert twice.weights_F == pytest.approx(again.weights_F)


def test_a_few_clicks_overturn_nothing():
    # One click on the only row with the column: the likelihood alone would say infinity.
    logit, column = np.full(50, -3.0), np.zeros((50, 1), np.float32)
    label = np.zeros(50)
    column[0], label[0] = 1, 1
    assert Stack.fit(logit, column, label).weights_F[0] < 2.0


def test_a_planted_column_is_recovered():
    _, found = figures()
    for group in ("all", "few"):
        for measure in ("click_auc", "click_gauc"):
            assert found[group][measure]["low"] > 0.02


def test_a_column_of_chance_covers_nothing():
    _, found = figures(column="chance")
    figure_ = found["all"]["click_auc"]
    assert figure_["low"] <= 0 <= figure_["high"]


def test_log_likelihood_is_counted_in_nats_a_thousand():
    held, held_column = world(1)
    test, test_column = world(100)
    found = Judge(held, test, 0).log_likelihood("click", held_column, test_column)
    assert 5 < found.value < 100
    nothing = Judge(held, test, 0).log_likelihood(
        "click", np.zeros_like(held_column), np.zeros_like(test_column)
    )
    assert nothing.value == pytest.approx(0.0, abs=1e-6)


def test_doubt_about_the_fit_widens_an_interval():
    gains, _ = figures()
    seeds = [one["click"]["all"].found["click_auc"] for one in gains]
    extra = extra_users(400, 200, seed=0)
    sure = figure(seeds, [[0.1, 0.1, 0.1]] * 2, extra, 0)
    unsure = figure(seeds, [[0.0, 0.1, 0.2]] * 2, extra, 0)
    assert unsure.half_width > 2 * sure.half_width


def test_a_further_group_is_judged_as_if_it_had_been_there_from_the_start():
    held, held_column = world(1)
    test, test_column = world(100)
    without = Rows(test.user_N, test.labels, test.logits, {"all": test.groups["all"]})
    later = Judge(held, without, 0).with_group("few", test.groups["few"])
    gains = [one.gain(held_column, test_column) for one in (later, Judge(held, test, 0))]
    extra = extra_users(400, 200, seed=0)
    assert gain_figures(gains[:1], extra, 0) == gain_figures(gains[1:], extra, 0)


def test_log_likelihood_is_that_of_the_group():
    held, held_column = world(1)
    test, test_column = world(100)
    judge = Judge(held, test, 0)
    everybody, few = (
        judge.log_likelihood("click", held_column, test_column, group) for group in ("all", "few")
    )
    rest = judge.with_group("rest", ~test.groups["few"])
    others = rest.log_likelihood("click", held_column, test_column, "rest")
    assert everybody.value == pytest.approx(0.25 * few.value + 0.75 * others.value)
    assert few.value != pytest.approx(others.value)
