import math

import numpy as np
import pytest
from rule_toy import rule, step


def test_a_cap_keeps_the_proportions_of_the_push():
    # I = (1, 3, 5) at eta / mu = 1 would move log ratios by 2 and 4; capped at 1 by .5 and 1.
    capped = rule(eta=1.0, max_log_step=1.0)
    capped.step_on_gradients(np.diag([1.0, 3.0, 5.0]))
    assert np.diff(capped.log_weights_K) == pytest.approx([0.5, 0.5])
    gentle = rule(eta=0.1, max_log_step=1.0)  # .4 is below the cap: untouched
    gentle.step_on_gradients(np.diag([1.0, 3.0, 5.0]))
    assert np.diff(gentle.log_weights_K) == pytest.approx([0.2, 0.2])


def test_the_floor_is_part_of_the_state_so_that_nothing_winds_up():
    up, down = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    floored, free = rule(("a", "b"), eta=1.0, floor=0.02), rule(("a", "b"), eta=1.0)
    for _ in range(1000):
        floored.step_on_gradients(up)
        free.step_on_gradients(up)
    assert floored.weights_K == pytest.approx([0.98, 0.02])
    for _ in range(5):  # 5 > log(.98 / .02) = 3.9: enough to change sides
        floored.step_on_gradients(down)
        free.step_on_gradients(down)
    assert floored.weights_K[1] > 0.5
    assert free.weights_K[1] < 1e-300


@pytest.mark.parametrize("kind", ["popo_light", "mgda"])
def test_the_floor_holds_for_rules_without_memory_too(kind):
    pytest.importorskip("torchjd")
    gram_KK = np.diag([1e6, 1.0, 0.0])
    if kind == "popo_light":
        gram_KK = np.array([[0.0, 3.0, 5.0], [1.0, 3.0, 5.0], [0.5, 3.0, 5.0]])
    weights_K = step(rule(rule=kind, floor=0.1), gram_KK)
    assert weights_K.min() == pytest.approx(0.1)
    assert weights_K.sum() == pytest.approx(1)
    assert step(rule(rule=kind), gram_KK).min() < 1e-5


def test_smoothing_averages_i_without_a_slow_start():
    # Weights of ages 0, 1, 2 at .5: 4 : 2 : 1. I_1 = 1, 2, 6 -> 1, 5/3, (4 * 6 + 2 * 2 + 1) / 7.
    smooth = rule(("a", "b"), smoothing=0.5)
    used = [smooth.step_on_gradients(np.diag([x, 0.0]))[0] for x in (1.0, 2.0, 6.0)]
    assert used == pytest.approx([1, 5 / 3, 29 / 7])
    assert np.ptp(smooth.log_weights_K) == pytest.approx(0.1 * sum(used))


def test_smoothing_averages_the_weights_of_rules_without_memory():
    pytest.importorskip("torchjd")
    smooth = rule(("a", "b"), rule="mgda", smoothing=0.5)
    step(smooth, np.diag([4.0, 1.0]))  # .2 : .8
    assert step(smooth, np.diag([1.0, 4.0])) == pytest.approx(
        [(0.2 + 2 * 0.8) / 3, (0.8 + 2 * 0.2) / 3]
    )


def test_a_leak_remembers_the_initial_weights():
    # Fixed point log w = log w(0) + eta / (mu leak) I = log w(0) + (2, 0).
    leaky = rule(("a", "b"), eta=0.1, leak=0.05, initial=[0.1, 0.9])
    for _ in range(500):
        leaky.step_on_gradients(np.diag([1.0, 0.0]))
    want = np.array([0.1 * math.exp(2), 0.9])
    assert leaky.weights_K == pytest.approx(want / want.sum())


def test_trace_normalisation_is_by_the_biased_trace_also_for_split():
    # The unbiased trace is 0 here; dividing by it would explode.
    split = rule(("a", "b"), rule="popo_split", normalise="trace", eta=1.0)
    used = split.step_on_gradients(np.diag([3.0, 5.0]), np.diag([1.0, -1.0]))
    assert used == pytest.approx([1 / 8, -1 / 8])


def test_split_is_not_drawn_to_noise():
    """Reward b is noise: its gradient is long, and its true inner products are 0."""
    rng = np.random.default_rng(17)
    biased, split = rule(("a", "b"), eta=0.2), rule(("a", "b"), rule="popo_split", eta=0.2)
    for _ in range(200):
        blocks_SKD = rng.normal(size=(8, 2, 50)) * [[0.1], [1.0]]
        blocks_SKD[:, 0, 0] += 0.5
        gradients_KD = blocks_SKD.mean(axis=0)
        gram_KK = gradients_KD @ gradients_KD.T
        own_KK = (blocks_SKD @ blocks_SKD.transpose(0, 2, 1)).sum(axis=0)
        split.step_on_gradients(gram_KK, (64 * gram_KK - own_KK) / 56)
        biased.step_on_gradients(gram_KK)
    assert biased.weights_K[1] > 0.99
    assert split.weights_K[0] > 0.99


def test_every_and_warmup_say_when_the_weights_move():
    waiting = rule(every=3, warmup_steps=2)
    assert [n for n in range(1, 13) if waiting.due(n)] == [3, 6, 9, 12]
    assert all(rule().due(n) for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("stride", "every", "moves"),
    [(2, 1, [1, 3, 5, 7, 9]), (2, 4, [1, 5, 9]), (3, 2, [1, 4, 7]), (2, 3, [1, 5, 7])],
)
def test_calls_that_are_several_steps_apart_keep_the_pace(stride, every, moves):
    # (2, 3): multiples of 3 after step 1 are 4 and 7; the first call after 4 is at 5.
    slow = rule(every=every)
    assert [n for n in range(1, 10, stride) if slow.due(n, stride)] == moves


def test_what_cannot_move_asks_for_no_work():
    assert not rule(rule="fixed").due(1)
    assert not rule(("a",)).due(1)


@pytest.mark.parametrize(
    ("kind", "gradients", "unbiased"),
    [
        ("popo", True, False),
        ("popo_split", True, True),
        ("popo_light", False, False),
        ("fixed", False, False),
        ("mgda", True, False),
        ("cagrad", True, False),
    ],
)
def test_a_rule_says_what_it_needs(kind, gradients, unbiased):
    pytest.importorskip("cvxpy")
    assert (rule(rule=kind).settings.needs_gradients, rule(rule=kind).settings.needs_unbiased) == (
        gradients,
        unbiased,
    )
