"""Scores prefixes of an item's path for a user: the process reward model of Promise.

    y(u, p) = MLP(LayerNorm(e_p + Attention(e_p; W h_1 ... W h_L)))

e_p is an embedding of the prefix as a whole, h the frozen text vectors of the user's history (our
reading of arXiv 2601.04674: there the generator's own states are read). Trained at every depth by
InfoNCE: the true prefix against others of that depth, drawn alike from all.

Shape suffixes: N users, L lines of a history, D dimensions of a text's vector, B depths, C
candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from taiji.arrays import Array, Flags, Ints, Vectors
from taiji.errors import DataError
from taiji.language.held_back import held_back, train_until_held_back_stop

_FEWEST = 20


@dataclass(frozen=True)
class PathSettings:
    """Size and training of a path scorer.

    Attributes:
        dim: Of the embeddings.
        attention_heads: Of the one block.
        negatives: Other prefixes at each depth.
        learning_rate: Of AdamW.
        epochs: At most; training stops where users held back no longer gain.
        batch_size: Users of a step.
    """

    dim: int = 64
    attention_heads: int = 4
    negatives: int = 64
    learning_rate: float = 3e-3
    epochs: int = 20
    batch_size: int = 64


@dataclass(frozen=True)
class Histories:
    """What users did, as vectors of texts.

    Attributes:
        lines_NLD: Zero where there is no line.
        there_NL: Where there is one; every user has one at least.
    """

    lines_NLD: Vectors
    there_NL: Flags

    def rows(self, rows_N: Ints) -> "Histories":
        """Some users, in this order."""
        return Histories(self.lines_NLD[rows_N], self.there_NL[rows_N])


class PathScorer(nn.Module):
    """y(u, p); `fit_path_scorer` trains one.

    Args:
        text_dim: D.
        sizes: How many prefixes each depth has.
        settings: Its size.
    """

    def __init__(self, text_dim: int, sizes: Sequence[int], settings: PathSettings) -> None:
        super().__init__()
        dim = settings.dim
        self.sizes = tuple(sizes)
        self.prefixes = nn.ModuleList(nn.Embedding(size, dim) for size in sizes)
        self.read = nn.Linear(text_dim, dim)
        self.attention = nn.MultiheadAttention(dim, settings.attention_heads, batch_first=True)
        self.score = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1)
        )

    def forward(self, histories: Histories, depth: int, prefixes_NC: Ints) -> torch.Tensor:
        """y of each user's candidates at a depth, 0 being the first symbol; N x C."""
        query_NCH = self.prefixes[depth](torch.from_numpy(prefixes_NC))
        lines_NLH = self.read(torch.from_numpy(histories.lines_NLD))
        hidden_NL = torch.from_numpy(~histories.there_NL)
        seen_NCH, _ = self.attention(
            query_NCH, lines_NLH, lines_NLH, key_padding_mask=hidden_NL, need_weights=False
        )
        scored_NC: torch.Tensor = self.score(query_NCH + seen_NCH).squeeze(2)
        return scored_NC

    @torch.no_grad()
    def scores(self, histories: Histories, depth: int, prefixes_NC: Ints) -> Array:
        """The same as numbers."""
        found_NC: Array = self(histories, depth, prefixes_NC).double().numpy()
        return found_NC


def info_nce(scores_NC: torch.Tensor, same_NC: torch.Tensor) -> torch.Tensor:
    """-log softmax of the first candidate among those that are not the same prefix again.

    Args:
        scores_NC: y, the true prefix first.
        same_NC: Which of the others were drawn equal to the true one.
    """
    kept_NC = scores_NC.masked_fill(same_NC, -torch.inf)
    return nn.functional.cross_entropy(kept_NC, torch.zeros(len(kept_NC), dtype=torch.int64))


def fit_path_scorer(
    histories: Histories,
    paths_NB: Ints,
    sizes: Sequence[int],
    settings: PathSettings,
    seed: int,
) -> PathScorer:
    """Train a path scorer on what users took after their histories.

    Args:
        histories: Of the users.
        paths_NB: Prefix of each depth of the item that each took.
        sizes: How many prefixes each depth has.
        settings: Size and training.
        seed: Of weights, draws and the order of users.

    Raises:
        DataError: There are too few users to hold any back.
        DivergenceError: The loss is NaN or infinite.
    """
    if len(paths_NB) < _FEWEST:
        raise DataError(f"path scorer: {len(paths_NB)} users to learn from: needs {_FEWEST}")
    random = np.random.default_rng(seed)
    held_N, learnt_N = held_back(random, len(paths_NB))
    held = _draws(random, held_N.size, sizes, settings.negatives)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scorer = PathScorer(histories.lines_NLD.shape[2], sizes, settings)

    def loss_of(rows_N: Ints) -> torch.Tensor:
        drawn = _draws(random, rows_N.size, sizes, settings.negatives)
        return _loss(scorer, histories.rows(rows_N), paths_NB[rows_N], drawn)

    def held_loss() -> torch.Tensor:
        return _loss(scorer, histories.rows(held_N), paths_NB[held_N], held)

    return train_until_held_back_stop(
        scorer, learnt_N, loss_of, held_loss, settings, random, "path scorer"
    )


def _draws(
    random: np.random.Generator, rows: int, sizes: Sequence[int], count: int
) -> list[NDArray[np.int64]]:
    return [random.integers(size, size=(rows, count)) for size in sizes]


def _loss(
    scorer: PathScorer, histories: Histories, paths_NB: Ints, drawn: Sequence[Ints]
) -> torch.Tensor:
    """The sum of `info_nce` over the depths."""
    total = torch.zeros(())
    for depth, drawn_NC in enumerate(drawn):
        true_N1 = paths_NB[:, depth, None]
        scores_NC = scorer(histories, depth, np.concatenate([true_N1, drawn_NC], axis=1))
        same_NC = np.concatenate([np.zeros_like(true_N1, dtype=bool), drawn_NC == true_N1], axis=1)
        total = total + info_nce(scores_NC, torch.from_numpy(same_NC))
    return total
