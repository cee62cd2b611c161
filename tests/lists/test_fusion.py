import numpy as np
import pytest

from taiji.errors import DivergenceError
from taiji.lists.fusion import Choice, fit_fusion, softmax

ALL = np.ones(2, dtype=bool)


def choice(chosen: int, *columns: list[float], open_=None) -> Choice:
    features = np.array(columns, dtype=np.float32).T
    return Choice(features, np.ones(len(features), bool) if open_ is None else open_, chosen)


def test_one_feature_is_weighed_as_by_hand():
    # 9 of 12 choose the title with f = 2 over the one with f = 0. Standardised by the deviation
    # 1, the ridge of 1 turns 12 (sigma(2b) - 9/12) 2 = 0 into 24 (sigma(2b) - 0.75) + b = 0.
    choices = [choice(int(n < 9), [0.0, 2.0]) for n in range(12)]
    (beta,) = fit_fusion(choices, ["f"]).weights_F
    assert 24 * (1 / (1 + np.exp(-2 * beta)) - 0.75) + beta == pytest.approx(0, abs=1e-4)
    assert 0.4 < beta < np.log(3) / 2


def test_a_feature_that_says_nothing_weighs_nothing():
    random = np.random.default_rng(0)
    choices = [
        choice(1, [0.0, 1.0, 0.0], random.normal(size=3).tolist(), [5.0, 5.0, 5.0])
        for _ in range(40)
    ]
    good, noise, constant = fit_fusion(choices, ["good", "noise", "constant"]).weights_F
    assert good > 1.5
    assert abs(noise) < 0.7
    assert constant == pytest.approx(0, abs=1e-9)


def test_the_scale_of_a_feature_does_not_matter():
    def fused(scale: float):
        choices = [choice(int(n % 3 > 0), [0.0, scale]) for n in range(30)]
        return fit_fusion(choices, ["f"]).logits(np.array([[0], [scale]], np.float32))

    assert np.allclose(fused(1), fused(1000), atol=1e-5)


def test_titles_that_cannot_be_chosen_do_not_take_part():
    closed = np.array([True, True, False])
    choices = [choice(n % 2, [0.0, 0.0, 9.0], open_=closed) for n in range(10)]
    choices.append(choice(2, [0.0, 0.0, 9.0], open_=closed))  # cannot be: says nothing
    fusion = fit_fusion(choices, ["f"])
    assert fusion.num_choices == 10
    assert fusion.weights_F.tolist() == [0.0]
    assert softmax(np.array([1.0, 1.0, 50.0]), closed).tolist() == [0.5, 0.5, 0.0]


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ValueError, match="no example"):
        fit_fusion([choice(0, [1.0, 2.0], open_=np.array([False, True]))], ["f"])


def test_a_feature_that_is_not_a_number_is_refused():
    with pytest.raises(DivergenceError, match="not finite"):
        fit_fusion([choice(0, [1.0, float("nan")])], ["f"])
