"""RQ regression (arXiv 2602.23012): a skewed number as a short sequence of codes, coarse to fine.

    r_0 = log(1 + y);  k_l = nearest of K centres to r_{l-1};  r_l = r_{l-1} - c_{l,k_l}

so that r_0 is about c_1 + ... + c_L. A network reads the features into the first state of an LSTM;
step l reads code l - 1 and gives logits of the codes of level l. Three losses: cross-entropy of
the codes, Huber of the number that a small regressor reads from the states, and Rank-N-Contrast of
the features' embedding. Scheduled sampling: the code that step l reads is the true one, or the
network's own, that more and more often.

Ours: log(1 + y), L, K, weights and schedule, which the paper does not give; and how E[y] is read: a
number that Huber fits to logarithms is no mean, so the codes' own distribution is summed over all
paths, each worth exp(c_1 + ... + c_L) - 1. The regressor's number stands beside it.

Shape suffixes: N rows, B rows of a batch, F features, L levels, K codes of a level, P paths,
D units.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from taiji.arrays import Array, Ints
from taiji.config import RqSection
from taiji.errors import DivergenceError

LossOf = Callable[[Tensor, float], Tensor]
"""Loss of the rows of a batch, at a share of the training in [0, 1)."""

UNITS = 32
_ROUNDS = 50  # of Lloyd's algorithm
_FEWEST = 50  # samples of a code
_CONTRASTED = 64  # rows of a batch: the contrast is cubic in them
_TEMPERATURE = 2.0
_PIECE = 2048


def fit_centres(residual_N: Array, num_codes: int, *, medians: bool) -> Array:
    """Centres of one level, ascending: K-means in one dimension, or K-medians.

    Started from quantiles, so nothing is drawn; a centre that nothing is near stays where it is.
    """
    quantiles = (np.arange(num_codes) + 0.5) / num_codes
    centres_K = np.unique(np.quantile(residual_N, quantiles))
    middle = np.median if medians else np.mean
    for _ in range(_ROUNDS):
        code_N = nearest(residual_N, centres_K)
        moved_K = np.array(
            [
                middle(residual_N[code_N == k]) if (code_N == k).any() else centre
                for k, centre in enumerate(centres_K)
            ]
        )
        if np.array_equal(moved_K, centres_K):
            break
        centres_K = moved_K
    return np.asarray(centres_K, dtype=np.float64)


def most_codes(num_codes: int, num_rows: int) -> int:
    """Codes of a level: at most those asked for, and as many as leave `_FEWEST` rows to each."""
    return max(1, min(num_codes, num_rows // _FEWEST))


def nearest(residual_N: Array, centres_K: Array) -> Ints:
    """The code of each number: the first of its nearest centres."""
    code_N: Ints = np.abs(residual_N[:, None] - centres_K).argmin(axis=1).astype(np.int64)
    return code_N


@dataclass(frozen=True)
class Codes:
    """Numbers in codes.

    Attributes:
        code_NL: k_l of each row.
        centres: c_l of each level; levels may have fewer than K.
    """

    code_NL: Ints
    centres: tuple[Array, ...]


def residual_codes(y_N: Array, num_levels: int, num_codes: int) -> Codes:
    """Codes of log(1 + y), K-medians first and K-means below."""
    residual_N, codes, centres = np.log1p(y_N), [], []
    most = most_codes(num_codes, y_N.size)
    for level in range(num_levels):
        centres.append(fit_centres(residual_N, most, medians=level == 0))
        codes.append(nearest(residual_N, centres[-1]))
        residual_N = residual_N - centres[-1][codes[-1]]
    return Codes(np.stack(codes, axis=1), tuple(centres))


def rank_n_contrast(embedding_BD: Tensor, label_B: Tensor, temperature: float) -> Tensor:
    """Mean over i and j of -log(exp(s_ij / t) / sum of exp(s_ik / t)), s minus the distance.

    The sum is over all k but i that are at least as far from i in label as j is.
    """
    num = label_B.numel()
    if num < 2:
        return embedding_BD.new_zeros(())
    others = ~torch.eye(num, dtype=torch.bool)
    gap_BB = (label_B[:, None] - label_B).abs()
    squares_BB = (embedding_BD[:, None] - embedding_BD).square().sum(dim=2)
    score_BB = -(squares_BB + 1e-12).sqrt() / temperature
    farther_BBB = (gap_BB[:, None, :] >= gap_BB[:, :, None]) & others[:, None, :]
    rivals_BB = score_BB[:, None, :].masked_fill(~farther_BBB, -math.inf).logsumexp(dim=2)
    return (rivals_BB - score_BB)[others].mean()


class RqNetwork(nn.Module):
    """Codes of a number from features, one after another, and the number.

    Args:
        num_features: F; features are taken to be standardised.
        sizes: K of each level.
    """

    def __init__(self, num_features: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = encoder(num_features)
        self.cell = nn.LSTMCell(UNITS, UNITS)
        self.start = nn.Parameter(torch.zeros(UNITS))
        self.codes = nn.ModuleList(nn.Embedding(size, UNITS) for size in sizes[:-1])
        self.heads = nn.ModuleList(nn.Linear(UNITS, size) for size in sizes)
        self.number = nn.Sequential(
            nn.Linear(UNITS * len(sizes), UNITS), nn.ReLU(), nn.Linear(UNITS, 1)
        )

    def begin(self, features_BF: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The embedding of the features, which is the LSTM's first state."""
        embedding_BD = self.encoder(features_BF)
        return embedding_BD, (embedding_BD, torch.zeros_like(embedding_BD))

    def step(
        self, level: int, code_B: Tensor | None, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Logits of the codes of a level; `code_B` is that of the level before."""
        read = self.start.expand_as(state[0]) if code_B is None else self.codes[level - 1](code_B)
        state = self.cell(read, state)
        return self.heads[level](state[0]), state


def encoder(num_features: int) -> nn.Sequential:
    """Features to `UNITS` numbers; the same for every network of values."""
    return nn.Sequential(
        nn.Linear(num_features, 2 * UNITS), nn.ReLU(), nn.Linear(2 * UNITS, UNITS), nn.Tanh()
    )


def rq_loss(
    network: RqNetwork,
    features_BF: Tensor,
    code_BL: Tensor,
    log_value_B: Tensor,
    section: RqSection,
    own: float,
    generator: torch.Generator,
) -> Tensor:
    """Codes + number + contrast; a code is the network's own with the chance `own`."""
    embedding_BD, state = network.begin(features_BF)
    loss, code_B, states = embedding_BD.new_zeros(()), None, []
    for level in range(len(network.sizes)):
        logits_BK, state = network.step(level, code_B, state)
        loss = loss + functional.cross_entropy(logits_BK, code_BL[:, level])
        states.append(state[0])
        drawn_B = torch.multinomial(logits_BK.detach().softmax(1), 1, generator=generator)[:, 0]
        lucky_B = torch.rand(len(drawn_B), generator=generator) < own
        code_B = torch.where(lucky_B, drawn_B, code_BL[:, level])
    number_B = network.number(torch.cat(states, dim=1)).squeeze(1)
    loss = loss + section.number_weight * functional.huber_loss(number_B, log_value_B)
    if section.contrast_weight:
        few = slice(0, _CONTRASTED)
        contrast = rank_n_contrast(embedding_BD[few], log_value_B[few], _TEMPERATURE)
        loss = loss + section.contrast_weight * contrast
    return loss


def fit_rq(
    features_NF: Array, log_value_N: Array, codes: Codes, section: RqSection, seed: int
) -> RqNetwork:
    """Train by Adam; same seed, same bits.

    Args:
        features_NF: Standardised.
        log_value_N: log(1 + y), standardised, for regressor and contrast.
        codes: Of the same rows.
        section: Weights and schedule.
        seed: Of weights, batches and drawn codes.

    Raises:
        DivergenceError: The loss is NaN or infinite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RqNetwork(features_NF.shape[1], tuple(map(len, codes.centres)))
    generator = torch.Generator().manual_seed(seed)
    features, code = torch.from_numpy(features_NF).float(), torch.from_numpy(codes.code_NL)
    log_value = torch.from_numpy(log_value_N).float()

    def loss_of(rows: Tensor, share: float) -> Tensor:
        own = section.own_codes * share
        return rq_loss(
            network, features[rows], code[rows], log_value[rows], section, own, generator
        )

    descend(network, len(features), section.epochs, section.learning_rate, generator, loss_of)
    return network


def descend(
    network: nn.Module,
    num_rows: int,
    epochs: int,
    learning_rate: float,
    generator: torch.Generator,
    loss_of: LossOf,
    batch_size: int = 256,
) -> None:
    """Adam over shuffled batches, the rate falling to 0; `loss_of` hears how far training is.

    Raises:
        DivergenceError: The loss is NaN or infinite.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    steps = epochs * -(-num_rows // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    step = 0
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(num_rows, generator=generator), batch_size):
            loss = loss_of(rows, step / steps)
            if not torch.isfinite(loss):
                raise DivergenceError(f"value head: loss is {loss.item()} at step {step}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step += 1


def expected_values(network: RqNetwork, features_NF: Array, centres: tuple[Array, ...]) -> Array:
    """E[y]: sum over all paths of p(path) (exp(c_1 + ... + c_L) - 1), (N,)."""
    means = []
    with torch.inference_mode():
        for features_BF in torch.split(torch.from_numpy(features_NF).float(), _PIECE):
            _, state = network.begin(features_BF)
            means.append(_expected(network, state, centres))
    return torch.cat(means).double().numpy() if means else np.zeros(0)


def _expected(
    network: RqNetwork, state: tuple[Tensor, Tensor], centres: tuple[Array, ...]
) -> Tensor:
    """Level by level, every code of a level behind every path so far: rows are (B x P)."""
    num = state[0].shape[0]
    chance_BP, sum_BP = torch.ones(num, 1), torch.zeros(num, 1)
    code: Tensor | None = None
    for level, centres_K in enumerate(centres):
        logits, state = network.step(level, code, state)
        size, paths = len(centres_K), chance_BP.shape[1]
        share_BPK = logits.softmax(dim=1).view(num, paths, size)
        centre_K = torch.from_numpy(centres_K).float()
        chance_BP = (chance_BP[:, :, None] * share_BPK).flatten(1)
        sum_BP = (sum_BP[:, :, None] + centre_K).flatten(1)
        if level + 1 < len(centres):
            code = torch.arange(size).repeat(num * paths)
            state = (state[0].repeat_interleave(size, 0), state[1].repeat_interleave(size, 0))
    return (chance_BP * torch.expm1(sum_BP)).sum(dim=1)


def regressed(network: RqNetwork, features_NF: Array) -> Array:
    """What the regressor says along the likeliest codes: standardised log(1 + y), (N,)."""
    with torch.inference_mode():
        _, state = network.begin(torch.from_numpy(features_NF).float())
        states, code_N = [], None
        for level in range(len(network.sizes)):
            logits, state = network.step(level, code_N, state)
            code_N = logits.argmax(dim=1)
            states.append(state[0])
        number_N: Array = network.number(torch.cat(states, dim=1)).squeeze(1).double().numpy()
    return number_N
