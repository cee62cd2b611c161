"""What may shape an update beside the rewards: a bonus on advantages, a factor on tokens.

Seams for related systems (docs/related.md). Without them not a bit of the update is another.

Shape suffixes: P prompts, G rollouts per prompt, B = P * G rollouts of this process, C completion
tokens.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from taiji.alignment.popo.batches import ROW
from taiji.alignment.trl_surface import Batch, GrpoTrainer
from taiji.errors import ConfigError, EngineError
from taiji.rule_settings import RuleSettings

TOKENS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
"""The columns of a micro-batch that a bonus may read."""

_RATIO_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")


class Bonus(Protocol):
    """What is added to advantages after they were normalised. I of Eq. 6 never sees it."""

    def __call__(
        self, tokens: Mapping[str, torch.Tensor], mixed_PG: torch.Tensor, step: int
    ) -> torch.Tensor:
        """One number for each rollout, P x G; called once a generation.

        Args:
            tokens: `TOKENS` of the rollouts, group by group.
            mixed_PG: Their rewards, mixed with the weights of the step; NaN where none applies.
            step: Updates so far.
        """
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All that the next call depends on, for a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `state_dict`."""
        ...


class TokenFactor(Protocol):
    """What multiplies A * grad log pi of a token, in the place of a clipped ratio."""

    def __call__(
        self, logp_BC: torch.Tensor, old_logp_BC: torch.Tensor, advantage_B1: torch.Tensor
    ) -> torch.Tensor:
        """B x C numbers, none below 0; nothing flows back through them.

        Args:
            logp_BC: log pi of each token now.
            old_logp_BC: The same when the rollouts were drawn.
            advantage_B1: Of each rollout.
        """
        ...


def refuse_bonus(trainer: GrpoTrainer) -> None:
    """A bonus sees the rollouts of one process.

    Raises:
        EngineError: There are several, whose bonuses would drift apart.
    """
    if trainer.accelerator.num_processes > 1:
        raise EngineError(
            "bonus: learns from the rollouts of one process, and there are "
            f"{trainer.accelerator.num_processes}: train in one, or leave the bonus out"
        )


def add_bonus(
    bonus: Bonus, batches: Sequence[Batch], mixed_PG: torch.Tensor, step: int
) -> torch.Tensor:
    """Add a bonus to the advantages of a generation's micro-batches, in place; returns it, B."""
    order = torch.cat([batch[ROW] for batch in batches]).argsort()
    tokens = {name: torch.cat([batch[name] for batch in batches])[order] for name in TOKENS}
    bonus_B = bonus(tokens, mixed_PG, step).flatten()
    for batch in batches:
        batch["advantages"] = batch["advantages"] + bonus_B[batch[ROW]]
    return bonus_B


def make_room_for_factor(trainer: GrpoTrainer, settings: RuleSettings) -> None:
    """Open TRL's clip, so that a factor put in the place of the ratio arrives as it is.

    Raises:
        ConfigError: The rule for the weights weighs gradients of each reward alone, which a factor
            that hangs on the sign of the mixed advantage would falsify; or the loss knows no
            ratio of single tokens.
    """
    if settings.needs_gradients:
        raise ConfigError(
            f"rule {settings.rule}: its gradients of each reward alone do not sum to an update "
            "under a factor for each token: use popo_light, tchebycheff or fixed"
        )
    if trainer.loss_type not in _RATIO_LOSSES:
        raise ConfigError(
            f"loss_type {trainer.loss_type}: has no ratio that a factor for each token could stand "
            f"in for: use one of {', '.join(_RATIO_LOSSES)}"
        )
    args = trainer.args
    if args.importance_sampling_level != "token" or args.delta is not None:
        raise ConfigError(
            "importance_sampling_level, delta: a factor for each token takes the place of both: "
            "leave them at TRL's defaults"
        )
    if trainer.beta != 0 and args.use_bias_correction_kl:
        raise ConfigError(
            "use_bias_correction_kl: multiplies the KL term by the ratio, whose place a factor "
            "for each token takes: set it to False"
        )
    trainer.epsilon_low, trainer.epsilon_high = 1.0, math.inf


def put_factor(inputs: Batch, logp_BC: torch.Tensor, factor: TokenFactor) -> None:
    """Make TRL's ratio of each token the factor: exp(logp - old) = f if old = logp - log f.

    The gradient of f-valued A * exp(logp - old) is then A * f * grad logp.
    """
    now_BC = logp_BC.detach()
    old_BC = inputs.get("old_per_token_logps")
    old_BC = now_BC if old_BC is None else old_BC
    factor_BC = factor(now_BC, old_BC, inputs["advantages"].view(-1, 1)).detach()
    inputs["old_per_token_logps"] = now_BC - factor_BC.log()
