"""GBPO's factor of a token: values by hand, and its bound."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taiji.alignment.popo.gbpo import gbpo_factor

CHANCES = st.floats(1e-6, 1 - 1e-6)


def factor(now, old, advantage):
    logs = (torch.tensor([[chance]], dtype=torch.float64).log() for chance in (now, old))
    return gbpo_factor(*logs, torch.tensor([[advantage]])).item()


@pytest.mark.parametrize(
    ("now", "old", "advantage", "by_hand"),
    [
        (0.2, 0.4, 1.0, 0.5),  # the ratio
        (0.4, 0.2, 1.0, 1.0),  # never above 1: old is raised to .4
        (0.2, 0.2, -1.0, 0.25),  # on-policy: .2 / (1 - .2)
        (0.6, 0.6, -1.0, 1.0),  # .6 / max(.6, .4)
        (0.01, 0.5, -1.0, 0.01 / 0.99),  # rare by now: hardly pushed further
        (0.9, 0.5, -1.0, 1.8),  # 1 - pi of its gradient makes .18 of it
        (0.3, 0.1, 0.0, 1.0),
    ],
)
def test_factors_by_hand(now, old, advantage, by_hand):
    assert factor(now, old, advantage) == pytest.approx(by_hand)


@given(now=CHANCES, old=CHANCES, advantage=st.sampled_from([-1.0, 1.0]))
def test_what_reaches_the_tokens_own_logit_is_never_above_one(now, old, advantage):
    assert 0 < factor(now, old, advantage) * (1 - now) <= 1 + 1e-9


def test_a_token_that_cannot_be_drawn_has_a_factor_that_is_a_number():
    assert 0 < factor(1e-40, 1e-40, 1.0) <= 1
    assert 0 < factor(1e-40, 1e-40, -1.0) < 1e-20
