"""The CTCVR ranking model: two towers over the entire space (ESMM) with target attention.

Both towers learn from all impressions: the first from clicks, their product from clicks that
convert. Only the product is meant to be used; the conversion tower alone is biased where
nobody clicks. Attention is a plain dot product: of all formulas measured it is two to four
times faster than a network over concatenations, and not worse on this data.

Shape suffixes: B pairs of a batch, F dense features, K categorical fields, L items of a
sequence, M codes of a user, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_DENSE_BOUND = 8.0  # standard deviations beyond which a dense feature says no more

PADDING, UNKNOWN = 0, 1
"""Rows of every embedding table: the first is nothing, the second is all rare or new values."""


@dataclass(frozen=True)
class ModelShape:
    """What it takes to rebuild the network before its weights are loaded.

    Attributes:
        num_dense: F.
        field_rows: Rows of each field's table; the first field is the item itself.
        l3_field: Which field is the category that sequences are matched on.
        num_codes: Values of one intra-user code; 0 for arms without codes.
        sub_codes: M; 0 for arms without codes.
        own_items: L of the user's own sequence.
        neighbour_items: L of the cross-user sequence; 0 for arms without it.
        dim: D.
        hidden: Widths of a tower.
    """

    num_dense: int
    field_rows: tuple[int, ...]
    l3_field: int
    num_codes: int
    sub_codes: int
    own_items: int
    neighbour_items: int
    dim: int
    hidden: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Rows of embedding tables; sequences end in padding."""

    dense: Tensor  # (B, F)
    fields: Tensor  # (B, K)
    own_items: Tensor  # (B, L)
    own_l3: Tensor
    neighbour_items: Tensor
    neighbour_l3: Tensor
    codes: Tensor  # (B, M); 0 = the user has none


@dataclass(frozen=True)
class Logits:
    """Log-odds of a click, and of a conversion given a click."""

    ctr: Tensor  # (B,)
    cvr: Tensor

    def log_ctcvr(self) -> Tensor:
        """log(pCTR * pCVR)."""
        return functional.logsigmoid(self.ctr) + functional.logsigmoid(self.cvr)

    def log_no_ctcvr(self) -> Tensor:
        """log(1 - pCTR * pCVR): no click, or a click without a conversion.

        Written as a sum of the two cases, it stays finite where 1 - p rounds to 0.
        """
        clicked = functional.logsigmoid(self.ctr)
        return torch.logaddexp(
            functional.logsigmoid(-self.ctr), clicked + functional.logsigmoid(-self.cvr)
        )

    def ctcvr_logit(self) -> Tensor:
        """Log-odds of click and conversion."""
        return self.log_ctcvr() - self.log_no_ctcvr()


def esmm_loss(logits: Logits, click_B: Tensor, conversion_B: Tensor) -> Tensor:
    """BCE(click, pCTR) + BCE(click * conversion, pCTR * pCVR), averaged over all impressions."""
    both_B = click_B * conversion_B
    click_loss = functional.binary_cross_entropy_with_logits(logits.ctr, click_B)
    both_loss = -(both_B * logits.log_ctcvr() + (1 - both_B) * logits.log_no_ctcvr())
    return click_loss + both_loss.mean()


class TargetAttention(nn.Module):
    """A sequence seen from the target: softmax(q . k / sqrt(D)) k, and how often it matches.

    A silent key of score 0 and value 0 joins every softmax. An empty sequence is then all
    silence and gives exactly 0, and padding changes nothing.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim, bias=False)
        self.scale = dim**-0.5

    def forward(self, target_BD: Tensor, keys_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the summary of each sequence, shape (B, D)."""
        query_BD = self.query(target_BD) * self.scale
        scores_BL = torch.einsum("bd,bld->bl", query_BD, keys_BLD)
        scores_BL = scores_BL.masked_fill(~mask_BL, -torch.inf)
        with_silence = functional.pad(scores_BL, (1, 0))
        weights_BL = torch.softmax(with_silence, dim=1)[:, 1:]
        return torch.einsum("bl,bld->bd", weights_BL, keys_BLD)


class CtcvrModel(nn.Module):
    """Logits of click and conversion for a batch of pairs."""

    dense_mean: Tensor
    dense_scale: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.tables = nn.ModuleList(_table(rows, shape.dim) for rows in shape.field_rows)
        self.own = TargetAttention(shape.dim)
        self.neighbour = TargetAttention(shape.dim) if shape.neighbour_items else None
        self.codes = (
            _small(nn.Embedding(shape.sub_codes * (shape.num_codes + 1), shape.dim))
            if shape.sub_codes
            else None
        )
        self.register_buffer("dense_mean", torch.zeros(shape.num_dense))
        self.register_buffer("dense_scale", torch.ones(shape.num_dense))
        num_sequences = 2 if shape.neighbour_items else 1
        width = shape.num_dense + shape.dim * (len(shape.field_rows) + shape.sub_codes)
        width += num_sequences * (2 * shape.dim + 2)
        self.ctr = _tower(width, shape.hidden)
        self.cvr = _tower(width, shape.hidden)

    def forward(self, batch: Batch) -> Logits:
        """Return the logits of each pair."""
        fields = [table(batch.fields[:, k]) for k, table in enumerate(self.tables)]
        dense_BF = (batch.dense - self.dense_mean) * self.dense_scale
        parts = [dense_BF.clamp(-_DENSE_BOUND, _DENSE_BOUND), *fields]
        parts += self._look(self.own, batch, batch.own_items, batch.own_l3)
        if self.neighbour is not None:
            neighbour = batch.neighbour_items, batch.neighbour_l3
            parts += self._look(self.neighbour, batch, *neighbour)
        if self.codes is not None:
            offsets_M = torch.arange(self.shape.sub_codes) * (self.shape.num_codes + 1)
            parts.append(self.codes(batch.codes + offsets_M).flatten(1))
        x = torch.cat(parts, dim=1)
        return Logits(self.ctr(x).squeeze(1), self.cvr(x).squeeze(1))

    def _look(
        self, attention: TargetAttention, batch: Batch, item_BL: Tensor, l3_BL: Tensor
    ) -> list[Tensor]:
        """What the target finds in a sequence: summary, its product with the target, matches."""
        items, categories = self.tables[0], self.tables[self.shape.l3_field]
        item_B, l3_B = batch.fields[:, 0], batch.fields[:, self.shape.l3_field]
        target_BD = items(item_B) + categories(l3_B)
        seen_BD = attention(target_BD, items(item_BL) + categories(l3_BL), item_BL != PADDING)
        counts = [_count_matches(item_B, item_BL), _count_matches(l3_B, l3_BL)]
        return [seen_BD, seen_BD * target_BD, torch.log1p(torch.stack(counts, dim=1))]


def _count_matches(target_B: Tensor, sequence_BL: Tensor) -> Tensor:
    """How often the sequence holds the target; unknown values never match each other."""
    known_B = (target_B > UNKNOWN).float()
    return (sequence_BL == target_B[:, None]).sum(dim=1) * known_B


def _table(rows: int, dim: int) -> nn.Embedding:
    """Embeddings of a field; padding and unknown begin at zero."""
    table = _small(nn.Embedding(rows, dim, padding_idx=PADDING))
    with torch.no_grad():
        table.weight[: UNKNOWN + 1] = 0
    return table


def _small(table: nn.Embedding) -> nn.Embedding:
    """A small start: a value that training rarely saw must not shout."""
    nn.init.normal_(table.weight, std=0.05)
    return table


def _tower(width: int, hidden: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 1))
