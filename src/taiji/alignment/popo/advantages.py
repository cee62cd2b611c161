"""From rewards to advantages, digit for digit as TRL does it (Eq. 8, 9).

TRL computes advantages deep inside one long method, with the weights that held before the step.
POPO must redo them with the weights of the same step, and once for each reward alone. This is
the same arithmetic in the same order and precision; `PopoTrainer` compares the two at every
generation, so a TRL release that changes the rule stops the run instead of bending it.

Shape suffixes: K rewards, P prompts, G rollouts per prompt, N = P * G.
"""

from dataclasses import dataclass

import torch
from trl.trainer.utils import nanstd

_EPSILON = 1e-4


@dataclass(frozen=True)
class AdvantageRule:
    """How TRL was told to turn rewards into advantages.

    Attributes:
        num_generations: G; rollouts of one prompt stand next to each other.
        scale: TRL's `scale_rewards`: divide by the deviation of the group, the batch, or not.
        aggregation: TRL's `multi_objective_aggregation`: `sum_then_normalize` mixes rewards
            (Eq. 9), `normalize_then_sum` mixes advantages (GDPO).
    """

    num_generations: int
    scale: str
    aggregation: str

    def combined(
        self, rewards_NK: torch.Tensor, weights_K: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages of the mixed rewards.

        A NaN reward does not apply to its rollout and is left out; a rollout to which none
        applies gets advantage 0.

        Returns:
            advantages_N, and for each rollout whether its deviation was zero.
        """
        if self.aggregation == "normalize_then_sum":
            advantages_N, sigma_N = self._normalise_then_sum(rewards_NK, weights_K)
        else:
            advantages_N, sigma_N = self._sum_then_normalise(rewards_NK, weights_K)
        flat_N = torch.isclose(sigma_N, torch.zeros_like(sigma_N))
        return torch.nan_to_num(advantages_N, nan=0.0), flat_N

    def alone(self, rewards_NK: torch.Tensor) -> torch.Tensor:
        """Advantages under each reward alone, N x K."""
        one = rewards_NK.new_ones(1)
        columns = [self.combined(column_N[:, None], one)[0] for column_N in rewards_NK.unbind(1)]
        return torch.stack(columns, dim=1)

    def _sum_then_normalise(
        self, rewards_NK: torch.Tensor, weights_K: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mixed_N = mixed_rewards(rewards_NK, weights_K)
        grouped_PG = mixed_N.view(-1, self.num_generations)
        mean_N = torch.nanmean(grouped_PG, dim=1).repeat_interleave(self.num_generations)
        if self.scale == "batch":
            sigma_N = nanstd(mixed_N).expand_as(mixed_N)
        else:
            sigma_N = nanstd(grouped_PG, dim=1).repeat_interleave(self.num_generations)
        centred_N = mixed_N - mean_N
        return (centred_N if self.scale == "none" else centred_N / (sigma_N + _EPSILON)), sigma_N

    def _normalise_then_sum(
        self, rewards_NK: torch.Tensor, weights_K: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        grouped_PGK = rewards_NK.view(-1, self.num_generations, rewards_NK.shape[1])
        mean_P1K = torch.nanmean(grouped_PGK, dim=1, keepdim=True)
        sigma_P1K = nanstd(grouped_PGK, dim=1, keepdim=True)
        scaled_NK = ((grouped_PGK - mean_P1K) / (sigma_P1K + _EPSILON)).view(rewards_NK.shape)
        summed_N = (scaled_NK * weights_K.to(scaled_NK.device)).nansum(dim=1)
        summed_N[torch.isnan(rewards_NK).all(dim=1)] = torch.nan
        sigma_N = nanstd(summed_N).expand_as(summed_N)
        return (summed_N - torch.nanmean(summed_N)) / (sigma_N + _EPSILON), sigma_N


def mixed_rewards(rewards_NK: torch.Tensor, weights_K: torch.Tensor) -> torch.Tensor:
    """r~ = sum_k w_k r_k over the rewards that apply (Eq. 9); NaN where none does."""
    mixed_N: torch.Tensor = (rewards_NK * weights_K.to(rewards_NK.device)).nansum(dim=1)
    mixed_N[torch.isnan(rewards_NK).all(dim=1)] = torch.nan
    return mixed_N
