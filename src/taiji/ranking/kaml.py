"""KAML (arXiv 2512.13300): conversions of several kinds that advertisers report only in part.

An advertiser pays for one kind of conversion, his goal, and may report others too. That one of the
others was not reported says that it did not happen only of him who reports that kind at all.

- *ADM*, the mask: an exposure trains the tower of its advertiser's goal, and of every kind that he
  reported at least alpha times in the training window.
- *HKE*, the towers: what the mask lets in beyond the goals comes from other advertisers than those
  whom the tower will serve, so each tower sees it through a part of its own.
- *RLU*, the ranking loss: a click that converted stands above one of which no conversion is known,
  whether it is known to have none or not.

On our network: J conversion towers over the shared bottom, losses over the entire space. How the
printed indicator of RLU, alpha and gamma are chosen is ours.

Shape suffixes: N impressions, B impressions of a batch, J kinds, X width of the towers' input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from taiji.arrays import Ints
from taiji.config import KamlSection
from taiji.errors import DataError
from taiji.ranking.columns import code

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Reports:
    """Which conversions of impressions were reported, and by whom.

    Attributes:
        kinds: J names.
        reported_NJ: Whether a conversion of each kind was reported.
        goal_N: o_i, the kind that the impression's advertiser pays for.
        advertiser_N: a(i), a number for each advertiser.
    """

    kinds: tuple[str, ...]
    reported_NJ: Flags
    goal_N: Ints
    advertiser_N: Ints

    @classmethod
    def from_table(cls, table: pa.Table) -> "Reports":
        """Read the columns goal, reported and advertiser of `schema.OUTCOMES`."""
        goal, reported = code(table["goal"]), code(table["reported"])
        sets = [frozenset(filter(None, word.split(","))) for word in reported.levels]
        kinds = tuple(sorted(set(goal.levels).union(*sets)))
        has_LJ = np.array([[kind in one for kind in kinds] for one in sets], dtype=bool)
        place_L = np.array([kinds.index(name) for name in goal.levels], dtype=np.int64)
        return cls(
            kinds,
            has_LJ.reshape(-1, len(kinds))[reported.codes],
            place_L[goal.codes],
            code(table["advertiser"]).codes.astype(np.int64),
        )

    def is_goal(self) -> Flags:
        """M = 1[o_i = j], (N, J)."""
        flags: Flags = self.goal_N[:, None] == np.arange(len(self.kinds))
        return flags


@dataclass(frozen=True)
class KindTargets:
    """What J towers learn of N impressions, as tensors.

    Attributes:
        reported_NJ: 1 for a reported conversion.
        mask_NJ: Which entries are learned from; ADM.
        original_NJ: Which of them come by the tower's own part; M of HKE.
    """

    reported_NJ: Tensor
    mask_NJ: Tensor
    original_NJ: Tensor

    def at(self, rows: Ints) -> "KindTargets":
        """Those of some impressions."""
        return KindTargets(self.reported_NJ[rows], self.mask_NJ[rows], self.original_NJ[rows])


def attribution_mask(reports: Reports, alpha: int) -> Flags:
    """ADM, (N, J): o_i = j or c_i^j >= alpha, c_i^j the advertiser's reports of the kind.

    Args:
        reports: Of the training window, which is the paper's window T.
        alpha: Reports that show that an advertiser reports a kind.
    """
    counts_AJ = np.zeros((int(reports.advertiser_N.max()) + 1, len(reports.kinds)), dtype=np.int64)
    np.add.at(counts_AJ, reports.advertiser_N, reports.reported_NJ.astype(np.int64))
    return reports.is_goal() | (counts_AJ >= alpha)[reports.advertiser_N]


def kind_targets(reports: Reports, section: KamlSection) -> KindTargets:
    """What the towers learn from, by the mask of the section.

    Raises:
        DataError: There is only one kind.
    """
    if len(reports.kinds) < 2:
        raise DataError(
            f"kaml: the log has one kind of conversion, {', '.join(reports.kinds)}: KAML learns "
            "from several: map more under data.source.exposures.conversions, or leave out "
            "ranker.kaml"
        )
    match section.mask:
        case "attribution":
            mask_NJ = attribution_mask(reports, section.alpha)
        case "goal":
            mask_NJ = reports.is_goal()
        case "all":
            mask_NJ = np.ones_like(reports.reported_NJ)
    return KindTargets(
        torch.from_numpy(reports.reported_NJ.astype(np.float32)),
        torch.from_numpy(mask_NJ),
        torch.from_numpy(reports.is_goal()),
    )


def goals_of_items(row_N: Ints, goal_N: Ints, num_rows: int) -> Ints:
    """For each row of the item table the goal that most of its impressions have.

    A row that no impression has takes the goal of most impressions.
    """
    counts = np.zeros((num_rows, int(goal_N.max()) + 1), dtype=np.int64)
    np.add.at(counts, (row_N, goal_N), 1)
    usual = int(counts.sum(axis=0).argmax())
    return np.where(counts.any(axis=1), counts.argmax(axis=1), usual)


class KindTowers(nn.Module):
    """HKE: p_ij = sigmoid(head_j(M h_orig + (1 - M) h_ext)), a tower for each of J kinds.

    Args:
        width: X.
        hidden: Widths of each part; the head is one layer.
        num_kinds: J.
        split: Whether what the mask lets in has a part of its own, h_ext; else h_orig sees all.
        item_rows: Rows of the item table, for the goal by which an item is served.
    """

    goal_of_item: Tensor

    def __init__(
        self, width: int, hidden: Sequence[int], num_kinds: int, *, split: bool, item_rows: int
    ) -> None:
        super().__init__()
        self.original = nn.ModuleList(_part(width, hidden) for _ in range(num_kinds))
        self.extended = (
            nn.ModuleList(_part(width, hidden) for _ in range(num_kinds)) if split else None
        )
        self.heads = nn.ModuleList(nn.Linear([width, *hidden][-1], 1) for _ in range(num_kinds))
        self.register_buffer("goal_of_item", torch.zeros(item_rows, dtype=torch.int64))

    def forward(self, x_BX: Tensor, original_BJ: Tensor | None) -> Tensor:
        """(B, J) logits; M is 1 everywhere unless given, as when serving."""
        logits = []
        for j, head in enumerate(self.heads):
            seen = self.original[j](x_BX)
            if self.extended is not None and original_BJ is not None:
                seen = torch.where(original_BJ[:, j : j + 1], seen, self.extended[j](x_BX))
            logits.append(head(seen))
        return torch.cat(logits, dim=1)

    def of_goals(self, logits_BJ: Tensor, item_B: Tensor) -> Tensor:
        """(B,) logits of the kind by which each item is served."""
        return logits_BJ.gather(1, self.goal_of_item[item_B][:, None]).squeeze(1)

    def start_from(self, targets: KindTargets, click_N: Tensor) -> None:
        """Begin each tower at the rate of its kind among the clicks that it may learn from."""
        for j, head in enumerate(self.heads):
            seen_N = targets.mask_NJ[:, j] & (click_N > 0)
            reported = float(targets.reported_NJ[seen_N, j].sum())
            rate = (reported + 0.5) / (float(seen_N.sum()) + 1)
            assert isinstance(head, nn.Linear)
            with torch.no_grad():
                head.bias.fill_(float(np.log(rate / (1 - rate))))


def _part(width: int, hidden: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers)


def ranking_loss(logits_BJ: Tensor, reported_BJ: Tensor, click_B: Tensor) -> Tensor:
    """RLU: mean of -log sigmoid(z_p - z_n) over pairs of clicks whose order is sure; 0 for none.

    p converted (type A); n is not known to have converted, be that known (B) or not (C). Pairs of
    B and C tell nothing. Our reading of the paper's indicator.
    """
    clicked_B = click_B > 0
    total, num_pairs = logits_BJ.new_zeros(()), 0
    for j in range(logits_BJ.shape[1]):
        converted_B = clicked_B & (reported_BJ[:, j] > 0)
        above, below = logits_BJ[converted_B, j], logits_BJ[clicked_B & ~converted_B, j]
        total = total - functional.logsigmoid(above[:, None] - below[None, :]).sum()
        num_pairs += above.numel() * below.numel()
    return total / max(num_pairs, 1)
