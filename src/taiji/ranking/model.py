"""The CTCVR ranking model: two towers over the entire space (ESMM) with target attention.

Both towers learn from all impressions: the first from clicks, their product from clicks that
convert. Only the product is meant to be used; the conversion tower alone is biased where
nobody clicks. Where nobody knows of conversions the click is the goal, and the first tower
stands alone.

Shape suffixes: B pairs of a batch, F dense features, K categorical fields, L items of a
sequence, M codes of a user, V width of a dense vector, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from taiji.ranking.attention import Attention, attention
from taiji.ranking.kaml import KindTargets, KindTowers, ranking_loss
from taiji.schema import Goal

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
        vector_width: V; 0 for arms without dense vectors.
        attention: How a sequence is seen from the target.
        dim: D.
        hidden: Widths of a tower.
        goal: With the click for the goal there is no conversion tower.
        num_kinds: J conversion towers in place of the one; see `taiji.ranking.kaml`.
        split_towers: Each of them in two parts.
    """

    num_dense: int
    field_rows: tuple[int, ...]
    l3_field: int
    num_codes: int
    sub_codes: int
    own_items: int
    neighbour_items: int
    vector_width: int
    attention: Attention
    dim: int
    hidden: tuple[int, ...]
    goal: Goal = "conversion"
    num_kinds: int = 0
    split_towers: bool = False


@dataclass(frozen=True)
class Batch:
    """Rows of embedding tables; sequences end in padding.

    A sequence that all pairs share may be given once, as (1, L).
    """

    dense: Tensor  # (B, F)
    fields: Tensor  # (B, K)
    own_items: Tensor  # (B, L)
    own_l3: Tensor
    neighbour_items: Tensor
    neighbour_l3: Tensor
    codes: Tensor  # (B, M); 0 = the user has none
    vectors: Tensor  # (B, V); zeros = the user has none


@dataclass(frozen=True)
class Logits:
    """Log-odds of a click, and of a conversion given a click where that is the goal."""

    ctr: Tensor  # (B,)
    cvr: Tensor | None
    kinds: Tensor | None = None  # (B, J) of several kinds of conversion

    def log_ctcvr(self) -> Tensor:
        """log(pCTR * pCVR), or log pCTR where the click is the goal."""
        clicked = functional.logsigmoid(self.ctr)
        return clicked if self.cvr is None else clicked + functional.logsigmoid(self.cvr)

    def log_no_ctcvr(self) -> Tensor:
        """log(1 - pCTR * pCVR): no click, or a click without a conversion.

        Written as a sum of the two cases, it stays finite where 1 - p rounds to 0.
        """
        if self.cvr is None:
            return functional.logsigmoid(-self.ctr)
        clicked = functional.logsigmoid(self.ctr)
        return torch.logaddexp(
            functional.logsigmoid(-self.ctr), clicked + functional.logsigmoid(-self.cvr)
        )


def esmm_loss(
    logits: Logits, click_B: Tensor, conversion_B: Tensor, unknown_B: Tensor | None = None
) -> Tensor:
    """BCE(click, pCTR) + BCE(click * conversion, pCTR * pCVR), averaged over all impressions.

    The first term alone where the click is the goal.

    Args:
        logits: Of the towers.
        click_B: 1 for a click.
        conversion_B: 1 for a click that converted.
        unknown_B: True for a click whose conversion nobody knows; see `expected_outcome`.
    """
    click_loss = functional.binary_cross_entropy_with_logits(logits.ctr, click_B)
    if logits.cvr is None:
        return click_loss
    both_B = expected_outcome(click_B * conversion_B, logits.cvr, unknown_B)
    both_loss = -(both_B * logits.log_ctcvr() + (1 - both_B) * logits.log_no_ctcvr())
    return click_loss + both_loss.mean()


def kaml_loss(
    logits: Logits,
    click_B: Tensor,
    targets: KindTargets,
    gamma: float,
    unknown_B: Tensor | None = None,
) -> Tensor:
    """BCE(click, pCTR) + gamma BCE(click * y_j, pCTR * pCVR_j) + (1 - gamma) ranking loss.

    The second term is the mean over the entries that the mask lets in.
    """
    assert logits.kinds is not None, "a model of several kinds"
    click_loss = functional.binary_cross_entropy_with_logits(logits.ctr, click_B)
    silent_BJ = None if unknown_B is None else unknown_B[:, None] & targets.original_NJ
    both_BJ = click_B[:, None] * targets.reported_NJ
    both_BJ = expected_outcome(both_BJ, logits.kinds, silent_BJ)
    each = Logits(logits.ctr[:, None], logits.kinds)
    losses_BJ = -(both_BJ * each.log_ctcvr() + (1 - both_BJ) * each.log_no_ctcvr())
    learned = (losses_BJ * targets.mask_NJ).sum() / targets.mask_NJ.sum()
    ranked = ranking_loss(logits.kinds, targets.reported_NJ, click_B)
    return click_loss + gamma * learned + (1 - gamma) * ranked


def expected_outcome(both_B: Tensor, cvr_B: Tensor, unknown_B: Tensor | None) -> Tensor:
    """Click and conversion; where the conversion is not known, what the model expects of it.

    In the entire space an unknown click cannot simply be left out: the impressions without a click
    would stay, and where a share h of the clicks is silent pCVR would be learned as (1 - h) pCVR,
    as 0 of an advertiser who reports nothing. With pCVR itself in the label's place, held
    constant, the click teaches the conversion tower nothing in expectation, and the rest its level.
    """
    if unknown_B is None:
        return both_B
    return torch.where(unknown_B, torch.sigmoid(cvr_B).detach(), both_B)


class CtcvrModel(nn.Module):
    """Logits of click and conversion for a batch of pairs."""

    dense_mean: Tensor
    dense_scale: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.tables = nn.ModuleList(_table(rows, shape.dim) for rows in shape.field_rows)
        self.own = attention(shape.attention, shape.dim)
        self.neighbour = attention(shape.attention, shape.dim) if shape.neighbour_items else None
        self.codes = (
            _small(nn.Embedding(shape.sub_codes * (shape.num_codes + 1), shape.dim))
            if shape.sub_codes
            else None
        )
        self.vectors = (
            nn.Linear(shape.vector_width, shape.dim, bias=False) if shape.vector_width else None
        )
        self.register_buffer("dense_mean", torch.zeros(shape.num_dense))
        self.register_buffer("dense_scale", torch.ones(shape.num_dense))
        num_sequences = 2 if shape.neighbour_items else 1
        width = shape.num_dense + shape.dim * (len(shape.field_rows) + shape.sub_codes)
        width += num_sequences * (2 * shape.dim + 2) + (shape.dim if shape.vector_width else 0)
        self.ctr = _tower(width, shape.hidden)
        self.cvr: nn.Sequential | None = None
        self.kinds: KindTowers | None = None
        if shape.num_kinds:
            rows, split = shape.field_rows[0], shape.split_towers
            self.kinds = KindTowers(
                width, shape.hidden, shape.num_kinds, split=split, item_rows=rows
            )
        elif shape.goal == "conversion":
            self.cvr = _tower(width, shape.hidden)

    def forward(self, batch: Batch, original_BJ: Tensor | None = None) -> Logits:
        """Return the logits of each pair.

        Args:
            batch: The pairs.
            original_BJ: Of several kinds: what each tower's own part sees; all of it unless given.
        """
        l3_field = self.shape.l3_field
        fields = [table(batch.fields[:, k]) for k, table in enumerate(self.tables)]
        dense_BF = (batch.dense - self.dense_mean) * self.dense_scale
        parts = [dense_BF.clamp(-_DENSE_BOUND, _DENSE_BOUND), *fields]
        target_BD = fields[0] + fields[l3_field]
        items = self._keys(0, batch.own_items, batch.neighbour_items)
        categories = self._keys(l3_field, batch.own_l3, batch.neighbour_l3)
        own_BLD, neighbour_BLD = map(torch.add, items, categories)
        item_B, l3_B = batch.fields[:, 0], batch.fields[:, l3_field]
        sequences = [(self.own, own_BLD, batch.own_items, batch.own_l3)]
        if self.neighbour is not None:
            borrowed = batch.neighbour_items, batch.neighbour_l3
            sequences.append((self.neighbour, neighbour_BLD, *borrowed))
        for look, keys_BLD, item_BL, l3_BL in sequences:
            seen_BD = look(target_BD, keys_BLD, item_BL != PADDING)
            counts = [_count_matches(item_B, item_BL), _count_matches(l3_B, l3_BL)]
            parts += [seen_BD, seen_BD * target_BD, torch.log1p(torch.stack(counts, dim=1))]
        if self.codes is not None:
            offsets_M = torch.arange(self.shape.sub_codes) * (self.shape.num_codes + 1)
            parts.append(self.codes(batch.codes + offsets_M).flatten(1))
        if self.vectors is not None:
            parts.append(self.vectors(batch.vectors))
        x = torch.cat(parts, dim=1)
        ctr_B = self.ctr(x).squeeze(1)
        if self.kinds is not None:
            kinds_BJ = self.kinds(x, original_BJ)
            return Logits(ctr_B, self.kinds.of_goals(kinds_BJ, item_B), kinds_BJ)
        return Logits(ctr_B, None if self.cvr is None else self.cvr(x).squeeze(1))

    def _keys(self, field: int, *sequences: Tensor) -> list[Tensor]:
        """Embeddings of the items of sequences, by one lookup for all.

        Each lookup costs a gradient of the size of the table, and that of `index_select` is
        summed twice as fast as that of `nn.Embedding`. It does not spare the row of padding, but
        attention passes no gradient there.
        """
        weight = self.tables[field].get_parameter("weight")
        keys = weight.index_select(0, torch.cat([rows_BL.flatten() for rows_BL in sequences]))
        pieces = torch.split(keys, [rows_BL.numel() for rows_BL in sequences])
        return [
            piece.view(*rows_BL.shape, self.shape.dim)
            for piece, rows_BL in zip(pieces, sequences, strict=True)
        ]


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
