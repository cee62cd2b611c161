import pytest
import torch
from torch import nn

from taiji.ranking.attention import DinAttention, DotAttention, attention

DIM, ROWS, LENGTH = 8, 520, 3  # more rows than DIN takes at a time


def make(kind, seed=0):
    torch.manual_seed(seed)
    return attention(kind, DIM).double()


def sequences(seed=1):
    """Targets, keys and a mask; the first sequences are empty, the last full."""
    random = torch.Generator().manual_seed(seed)
    target = torch.randn(ROWS, DIM, generator=random, dtype=torch.float64)
    keys = torch.randn(ROWS, LENGTH, DIM, generator=random, dtype=torch.float64)
    lengths = torch.randint(LENGTH + 1, (ROWS, 1), generator=random)
    lengths[:3], lengths[-4:] = 0, LENGTH
    return target, keys, torch.arange(LENGTH) < lengths


def din_as_written(module, target, keys, mask):
    """The paper's way, one item after another: the network over the concatenation itself."""
    network = nn.Sequential(module.concat, nn.ReLU(), module.score)
    summaries = []
    for t, row, real in zip(target, keys, mask, strict=True):
        seen = torch.zeros_like(t)
        for h, is_real in zip(row, real, strict=True):
            if is_real:
                seen = seen + network(torch.cat([t, h, t - h, t * h])) * h
        summaries.append(seen)
    return torch.stack(summaries)


def test_din_equals_the_network_over_the_concatenation():
    module, (target, keys, mask) = make("din"), sequences()
    folded, plain = module(target, keys, mask), din_as_written(module, target, keys, mask)
    torch.testing.assert_close(folded, plain, atol=1e-6, rtol=1e-6)
    assert plain.abs().max() > 0.1


def test_din_has_the_gradients_of_the_concatenation():
    module, (target, keys, mask) = make("din"), sequences()
    keys.requires_grad_()
    inputs = [keys, *module.parameters()]
    ours, theirs = (
        torch.autograd.grad(way(target, keys, mask).square().sum(), inputs)
        for way in (module, lambda *given: din_as_written(module, *given))
    )
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


def test_din_in_single_precision_stays_within_a_millionth():
    module, (target, keys, mask) = make("din"), sequences()
    exact = module(target, keys, mask)
    single = module.float()(target.float(), keys.float(), mask)
    assert (single - exact).abs().max() < 1e-6 * exact.abs().max()


@pytest.mark.parametrize("kind", ["dot", "din"])
def test_padding_of_any_content_and_order_changes_nothing(kind):
    module, (target, keys, mask) = make(kind), sequences()
    expected = module(target, keys, mask)
    noise = torch.randn(ROWS, 5, DIM, dtype=torch.float64)
    longer = torch.cat([keys, noise], dim=1)
    longer_mask = torch.cat([mask, torch.zeros(ROWS, 5, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(module(target, longer, longer_mask), expected)
    order = torch.randperm(LENGTH + 5)
    shuffled = module(target, longer[:, order], longer_mask[:, order])
    torch.testing.assert_close(shuffled, expected)


@pytest.mark.parametrize("kind", ["dot", "din"])
def test_one_sequence_may_serve_all_targets(kind):
    module, (target, keys, mask) = make(kind), sequences()
    shared = module(target, keys[-4:-3], mask[-4:-3])
    apart = module(target, keys[-4:-3].repeat(ROWS, 1, 1), mask[-4:-3].repeat(ROWS, 1))
    torch.testing.assert_close(shared, apart)


@pytest.mark.parametrize("kind", ["dot", "din"])
def test_an_empty_sequence_is_exactly_nothing_and_passes_no_gradient(kind):
    module, (target, keys, _) = make(kind), sequences()
    keys.requires_grad_()
    nobody = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    seen = module(target, keys, nobody)
    seen.sum().backward()
    assert not seen.any()
    assert not keys.grad.any()
    assert not module(target, keys[:, :0], nobody[:, :0]).any()


def test_the_dot_product_by_hand():
    # query = 2 * target; scores 2 * 3 / sqrt(1) = 6 and 0 for the silence: weight e^6 / (1 + e^6)
    module = DotAttention(1).double()
    with torch.no_grad():
        module.query.weight.fill_(2.0)
    one = torch.ones(1, 1, dtype=torch.float64)
    seen = module(one, 3 * one[:, None], torch.ones(1, 1, dtype=torch.bool))
    assert seen.item() == pytest.approx(3 / (1 + torch.exp(torch.tensor(-6.0)).item()))


def test_no_rows_are_answered_with_no_rows():
    for module in (DotAttention(DIM), DinAttention(DIM)):
        mask = torch.zeros(0, LENGTH, dtype=torch.bool)
        assert module(torch.empty(0, DIM), torch.empty(0, LENGTH, DIM), mask).shape == (0, DIM)
