import numpy as np
import pytest
import torch

from taiji.alignment.gradients.gram import GradientSum, cosines, gram, norms
from taiji.alignment.popo.weights import alignment_scores
from taiji.errors import DivergenceError


def test_alignment_follows_eq_6_by_hand():
    # g_1 = (1, 2, 2), g_2 = (0, 1, -1): sum (1, 3, 1); I_1 = 9, I_2 = 2
    gradients = [
        (torch.tensor([1.0]), torch.tensor([[2.0, 2.0]])),
        (torch.tensor([0.0]), torch.tensor([[1.0, -1.0]])),
    ]
    products = gram(gradients)
    assert products.tolist() == [[9, 0], [0, 2]]
    assert alignment_scores(products).tolist() == [9, 2]


def test_three_rewards_include_the_self_term_and_the_cross_terms():
    # g = (1, 0), (1, 1), (-1, 0); sum (1, 1)
    gradients = [(torch.tensor(g),) for g in ([1.0, 0.0], [1.0, 1.0], [-1.0, 0.0])]
    assert alignment_scores(gram(gradients)).tolist() == [1, 2, -1]


def test_with_two_rewards_the_difference_is_that_of_the_squared_lengths():
    torch.manual_seed(0)
    g_1, g_2 = torch.randn(100), torch.randn(100)
    i_1, i_2 = alignment_scores(gram([(g_1,), (g_2,)]))
    assert i_1 - i_2 == pytest.approx((g_1 @ g_1 - g_2 @ g_2).item(), rel=1e-5)


def test_totals_are_exact_where_one_fp32_sum_is_not():
    # 3 million equal products of 1e-4 * 1e-4: a running fp32 sum stalls
    gradient = (torch.full((3_000_000,), 1e-4),)
    assert gram([gradient])[0, 0] == pytest.approx(0.03, rel=1e-6)


def test_half_precision_gradients_do_not_overflow():
    gradient = (torch.full((1000,), 300.0, dtype=torch.float16),)
    assert gram([gradient])[0, 0] == pytest.approx(9e7)


def test_cosines_by_hand_and_of_a_gradient_that_vanishes():
    # (3, 4), (4, 3), 0: cos 24/25
    gradients = [(torch.tensor(g),) for g in ([3.0, 4.0], [4.0, 3.0], [0.0, 0.0])]
    cosine = cosines(gram(gradients))
    assert cosine[0, 1] == pytest.approx(24 / 25)
    assert np.diag(cosine) == pytest.approx([1, 1, 0])


def test_a_gradient_that_is_not_finite_is_named():
    with pytest.raises(DivergenceError, match="reward 1"):
        gram([(torch.ones(2),), (torch.tensor([1.0, float("nan")]),)])


def test_norms_by_hand():
    assert norms(np.array([[25.0, 3.0], [3.0, 4.0]])).tolist() == [5, 2]


def test_a_sum_of_gradients_changes_none_of_them_even_where_two_weights_share_one():
    weights = [torch.zeros(2), torch.zeros(2), torch.zeros(3)]
    total = GradientSum(weights)
    kept = [torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), torch.tensor([0.5, 0.25])]
    for shared in kept:  # an addition hands both its terms the very same tensor
        for place in (0, 1):
            total.add(place, shared)
    assert [part.tolist() for part in total.tensors()] == [[11.5, 22.25], [11.5, 22.25], [0, 0, 0]]
    assert [part.tolist() for part in kept] == [[1, 2], [10, 20], [0.5, 0.25]]


def test_a_sum_of_sums_changes_no_summand():
    first, second = GradientSum([torch.zeros(1)]), GradientSum([torch.zeros(1)])
    first.add(0, torch.tensor([1.0]))
    second.add_all(first.tensors())
    for _ in range(2):
        second.add(0, torch.tensor([2.0]))
    assert (first.tensors()[0].item(), second.tensors()[0].item()) == (1, 5)
