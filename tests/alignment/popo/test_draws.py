import torch

from taiji.alignment.popo.draws import OwnNoise

STREAMS = [(17, 3, 0, row) for row in range(4)]


def draws(streams, scores_RV, *, temperature=1.0, steps=1):
    noise = OwnNoise(streams, temperature)
    return torch.stack([noise(None, scores_RV).argmax(-1) for _ in range(steps)])


def test_a_row_draws_the_same_wherever_it_is_computed():
    scores_RV = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    together = draws(STREAMS, scores_RV, steps=20)
    for rows in (slice(0, 2), slice(2, 4)):
        assert torch.equal(draws(STREAMS[rows], scores_RV[rows], steps=20), together[:, rows])
    assert len({tuple(row) for row in together.T.tolist()}) == 4  # streams of their own


def test_the_draws_are_those_of_the_softmax():
    # logits log 6, log 3, log 1 at temperature 1: 0.6, 0.3, 0.1
    logits_RV = torch.tensor([[6.0, 3.0, 1.0]]).log().expand(4, -1)
    drawn = draws(STREAMS, logits_RV, steps=5000).flatten()
    shares = torch.bincount(drawn, minlength=3) / drawn.numel()
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.3, 0.1]), atol=0.015, rtol=0)
    # at temperature 0.5 probabilities are squared: 36, 9, 1 of 46
    sharp = draws(STREAMS, logits_RV, temperature=0.5, steps=5000).flatten()
    shares = torch.bincount(sharp, minlength=3) / sharp.numel()
    torch.testing.assert_close(shares, torch.tensor([36.0, 9.0, 1.0]) / 46, atol=0.015, rtol=0)
