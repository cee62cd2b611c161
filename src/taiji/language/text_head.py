"""A small network over frozen text vectors that ranks items: the recommendation head of RPORec.

    r_x, r_y, r_z = what readers make of prompt, chain and answer
    r_sel = r_z if the answer can be read, else r_x
    r_rea = mean of TransformerEncoder([r_x; r_y; r_sel])
    g     = gamma (sigmoid(gate([r_sel; r_rea])) - 1/2)
    h_u   = g r_rea + r_sel,   s(u, v) = h_u . h_v

As in arXiv 2605.21967, on vectors of any `TextEncoder`. It is trained by sampled softmax: the true
item against K random ones. Values that the paper does not give are ours.

Shape suffixes: N users, I items, K negatives, D dimensions of a text's vector, H of the head.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from taiji.arrays import Array, Flags, Ints, Vectors
from taiji.errors import DataError, MissingArtifactError
from taiji.language.held_back import HELD_BACK, held_back, train_until_held_back_stop
from taiji.store.files import read_json, write_json

_WEIGHTS, _DESCRIPTION = "head.safetensors", "head.json"


@dataclass(frozen=True)
class HeadSettings:
    """Size and training of a head.

    Attributes:
        dim: H.
        attention_heads: Of the one Transformer layer.
        gamma: The most that reasoning moves the answer is half of it.
        negatives: K of the sampled softmax.
        learning_rate: Of AdamW.
        epochs: At most; training stops where rows held back no longer gain.
        batch_size: Rows of a step.
    """

    dim: int = 128
    attention_heads: int = 4
    gamma: float = 1.0
    negatives: int = 64
    learning_rate: float = 1e-3
    epochs: int = 10
    batch_size: int = 64


@dataclass(frozen=True)
class HeadTexts:
    """Vectors of what was read and written; a text that is not there is the zero vector.

    Attributes:
        prompt_ND: x.
        chain_ND: y.
        answer_ND: z.
        readable_N: Whether the answer could be read.
    """

    prompt_ND: Vectors
    chain_ND: Vectors
    answer_ND: Vectors
    readable_N: Flags

    def rows(self, rows_N: Ints) -> "HeadTexts":
        """Some of them, in this order."""
        return HeadTexts(
            self.prompt_ND[rows_N],
            self.chain_ND[rows_N],
            self.answer_ND[rows_N],
            self.readable_N[rows_N],
        )

    def prompts_alone(self) -> "HeadTexts":
        """The same users as if nothing had been written: the baseline of every chain."""
        return replace(
            self,
            chain_ND=np.zeros_like(self.chain_ND),
            answer_ND=np.zeros_like(self.answer_ND),
            readable_N=np.zeros_like(self.readable_N),
        )

    def of_others(self, others_N: Ints) -> "HeadTexts":
        """Prompts as they are, with chains and answers of other rows: the control."""
        others = self.rows(others_N)
        return replace(others, prompt_ND=self.prompt_ND)


class TextHead(nn.Module):
    """The head; `fit_head` trains one.

    Args:
        text_dim: D.
        settings: Its size.
    """

    def __init__(self, text_dim: int, settings: HeadSettings) -> None:
        super().__init__()
        self.text_dim, self.settings = text_dim, settings
        size = settings.dim
        self.prompt, self.chain, self.answer, self.item = (
            nn.Sequential(nn.Linear(text_dim, size), nn.ReLU(), nn.Linear(size, size))
            for _ in range(4)
        )
        self.reasoning = nn.TransformerEncoderLayer(
            size, settings.attention_heads, 2 * size, dropout=0.0, batch_first=True
        )
        self.gate = nn.Linear(2 * size, 1)

    def users(self, texts: HeadTexts) -> torch.Tensor:
        """h_u, N x H."""
        prompt_NH = _read(self.prompt, texts.prompt_ND)
        chain_NH = _read(self.chain, texts.chain_ND)
        readable_N1 = torch.from_numpy(texts.readable_N)[:, None]
        chosen_NH = torch.where(readable_N1, _read(self.answer, texts.answer_ND), prompt_NH)
        read_N3H = torch.stack([prompt_NH, chain_NH, chosen_NH], dim=1)
        reasoned_NH = self.reasoning(read_N3H).mean(dim=1)
        return gated(chosen_NH, reasoned_NH, self.gate, self.settings.gamma)

    def items(self, items_ID: Vectors) -> torch.Tensor:
        """h_v, I x H."""
        return _read(self.item, items_ID)

    @torch.no_grad()
    def scores(self, texts: HeadTexts, items_ID: Vectors) -> Array:
        """s(u, v) of every user and item, N x I."""
        scores_NI: Array = (self.users(texts) @ self.items(items_ID).T).double().numpy()
        return scores_NI

    @torch.no_grad()
    def user_vectors(self, texts: HeadTexts) -> Vectors:
        """h_u as a feature, N x H."""
        vectors_NH: Vectors = self.users(texts).numpy()
        return vectors_NH


def gated(
    chosen_NH: torch.Tensor, reasoned_NH: torch.Tensor, gate: nn.Module, gamma: float
) -> torch.Tensor:
    """h_u = g r_rea + r_sel, g = gamma (sigmoid(gate([r_sel; r_rea])) - 1/2)."""
    open_N1 = torch.sigmoid(gate(torch.cat([chosen_NH, reasoned_NH], dim=1)))
    moved_NH: torch.Tensor = gamma * (open_N1 - 0.5) * reasoned_NH + chosen_NH
    return moved_NH


def ndcg_of_true(true_N: Array, others_NK: Array) -> Array:
    """NDCG of one true item among itself and K others: 1 / log2(1 + rank), N numbers.

    Whatever scores as much as the true item stands before it, so a head without an opinion earns
    nothing by it.
    """
    rank_N = 1 + (others_NK >= true_N[:, None]).sum(axis=1)
    ndcg_N: Array = 1 / np.log2(1 + rank_N)
    return ndcg_N


def fit_head(
    texts: HeadTexts, target_N: Ints, items_ID: Vectors, settings: HeadSettings, seed: int
) -> TextHead:
    """Train a head to tell each user's true item from random ones.

    Args:
        texts: Of the users; the log's answer must not be known to whoever wrote them.
        target_N: Which of the items each took.
        items_ID: Vectors of the items.
        settings: Size and training.
        seed: Of weights, negatives and the order of rows.

    Raises:
        DataError: There are too few users or items to hold any back.
        DivergenceError: The loss is NaN or infinite.
    """
    if target_N.size < 2 / HELD_BACK or len(items_ID) < 2:
        raise DataError(
            f"head: {target_N.size} users and {len(items_ID)} items to learn from: needs "
            f"{2 / HELD_BACK:.0f} users and 2 items: raise data.num_rl"
        )
    random = np.random.default_rng(seed)
    held_N, learnt_N = held_back(random, target_N.size)
    held_NK = _negatives(random, held_N.size, settings.negatives, len(items_ID))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = TextHead(texts.prompt_ND.shape[1], settings)

    def loss_of(rows_N: Ints) -> torch.Tensor:
        drawn_NK = _negatives(random, rows_N.size, settings.negatives, len(items_ID))
        return _loss(head, texts.rows(rows_N), target_N[rows_N], drawn_NK, items_ID)

    def held_loss() -> torch.Tensor:
        return _loss(head, texts.rows(held_N), target_N[held_N], held_NK, items_ID)

    return train_until_held_back_stop(head, learnt_N, loss_of, held_loss, settings, random, "head")


def save_head(head: TextHead, folder: Path) -> None:
    """Write weights as safetensors and the shape as JSON into a new or existing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(head.state_dict(), folder / _WEIGHTS)
    description = {"text_dim": head.text_dim, "settings": asdict(head.settings)}
    write_json(description, folder / _DESCRIPTION)


def load_head(folder: Path) -> TextHead:
    """Read what `save_head` wrote.

    Raises:
        MissingArtifactError: A file is not there.
        DataError: A file is damaged.
    """
    description: Mapping[str, Any] = read_json(folder / _DESCRIPTION)
    if not (folder / _WEIGHTS).is_file():
        raise MissingArtifactError(f"{folder / _WEIGHTS}: not there: rerun the stage")
    try:
        head = TextHead(description["text_dim"], HeadSettings(**description["settings"]))
        head.load_state_dict(load_file(folder / _WEIGHTS))
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{folder}: not a head ({error}): rerun the stage") from error
    return head.eval()


def _read(reader: nn.Module, vectors_ND: Vectors) -> torch.Tensor:
    """What a reader makes of texts; of none it makes 0."""
    texts_ND = torch.from_numpy(np.ascontiguousarray(vectors_ND, dtype=np.float32))
    there_N1 = (texts_ND != 0).any(dim=1, keepdim=True)
    read_NH: torch.Tensor = reader(texts_ND) * there_N1
    return read_NH


def _negatives(random: np.random.Generator, rows: int, count: int, num_items: int) -> Ints:
    return random.integers(num_items, size=(rows, count))


def _loss(
    head: TextHead, texts: HeadTexts, target_N: Ints, drawn_NK: Ints, items_ID: Vectors
) -> torch.Tensor:
    """Cross-entropy of the true item; a draw that hit it is left out."""
    distinct_J, place = np.unique(
        np.concatenate([target_N[:, None], drawn_NK], axis=1), return_inverse=True
    )
    items_JH = head.items(items_ID[distinct_J])
    chosen_NCH = items_JH[torch.from_numpy(place.reshape(target_N.size, -1))]
    logits_NC = (head.users(texts)[:, None, :] * chosen_NCH).sum(dim=2)
    hit_NK = torch.from_numpy(drawn_NK == target_N[:, None])
    logits_NC = torch.cat([logits_NC[:, :1], logits_NC[:, 1:].masked_fill(hit_NK, -torch.inf)], 1)
    return nn.functional.cross_entropy(logits_NC, torch.zeros(target_N.size, dtype=torch.int64))
