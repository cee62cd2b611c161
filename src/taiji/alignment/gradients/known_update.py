"""The gradient of the update, where the rewards' gradients hold it already.

The update of the step that measured them often needs no further pass. Where its cotangents are
a weighted sum of those of the rewards (advantages mixed, Eq. 9 with `scale_rewards` "none"), its
gradient is the same sum of the g_k. Eq. 9 scales each group by its own spread, so there the sum
differs from one group to the next: the gradients of micro-batches of one group must have been
kept apart. Whether it is so is not assumed but fitted, and a plain backward pass serves where the
fit fails.

Shape suffixes: K rewards, M tokens of micro-batches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from taiji.alignment.gradients import processes
from taiji.alignment.gradients.by_reward import Measured, RewardGradients
from taiji.alignment.gradients.probe import LossProbe
from taiji.alignment.trl_surface import GrpoTrainer

_FIT = 1e-5  # residual of the update's cotangent, as a share of its length

Gradient = list[torch.Tensor]


class Update:
    """A gradient that is already known, handed out in the place of the backward pass."""

    def __init__(
        self,
        measured: Sequence[Measured],
        parameters: Sequence[torch.nn.Parameter],
        gradient: Sequence[torch.Tensor],
    ) -> None:
        self._waiting = {id(m.batch): m.probe for m in measured}
        self._batches = [m.batch for m in measured]  # alive, so that no id is used twice
        self._parameters = parameters
        self._gradient: Sequence[torch.Tensor] | None = gradient

    def take(self, inputs: Mapping[str, Any]) -> LossProbe | None:
        """What answers the loss of this micro-batch; None if it must run the model.

        At the first micro-batch the gradient of them all goes where a backward pass would leave
        it: the optimiser cannot tell.
        """
        probe = self._waiting.pop(id(inputs), None)
        if probe is not None and self._gradient is not None:
            for parameter, part in zip(self._parameters, self._gradient, strict=True):
                parameter.grad = part if parameter.grad is None else parameter.grad + part
            self._gradient = None
        return probe


def known_update(gradients: RewardGradients, trainer: GrpoTrainer) -> Update | None:
    """The gradient of the update under the batches' advantages now, if it costs no pass."""
    windows = trainer.args.steps_per_generation / trainer.current_gradient_accumulation_steps
    if windows > 1 or trainer.args.fp16:
        return None  # later updates see another policy; a scaler scales what we would not
    if trainer.beta != 0 or trainer._entropy_bonus_enabled or trainer.aux_loss_enabled:
        return None  # terms of the loss that are no reward's
    finals = gradients.final_cotangents()
    if gradients.apart:
        gradient = _from_micro_batches(gradients, finals, trainer)
    else:
        factors_K = _fit(gradients.measured, finals, trainer)
        gradient = None if factors_K is None else _combine([(factors_K, gradients.sums)])
    return None if gradient is None else Update(gradients.measured, gradients.parameters, gradient)


def _from_micro_batches(
    gradients: RewardGradients, finals: list[torch.Tensor], trainer: GrpoTrainer
) -> Gradient | None:
    """sum_b sum_k a_bk g_bk, if each micro-batch has its a_K."""
    parts = []
    for measured, final in zip(gradients.measured, finals, strict=True):
        assert measured.sums is not None
        factors_K = _fit([measured], [final], None)
        if factors_K is not None:
            parts.append((factors_K, measured.sums))
    if not processes.all_agree(len(parts) == len(finals), trainer):
        return None
    total = _combine(parts)
    processes.average([total], trainer)
    return total


def _fit(
    measured: Sequence[Measured], finals: Sequence[torch.Tensor], trainer: GrpoTrainer | None
) -> list[float] | None:
    """The a_K with which the rewards' cotangents make up the final ones; None if none does.

    Args:
        measured: The micro-batches that share a_K.
        finals: Their cotangents under the mixed advantages.
        trainer: If the micro-batches of its other processes share a_K too.
    """
    num_rewards = len(measured[0].cotangents)
    columns_KM = torch.stack(
        [torch.cat([m.cotangents[k].flatten() for m in measured]) for k in range(num_rewards)]
    ).double()
    final_M = torch.cat([final.flatten() for final in finals]).double()
    normal_KK, onto_K = columns_KM @ columns_KM.T, columns_KM @ final_M
    equations = torch.cat([normal_KK, onto_K[:, None]], dim=1).cpu().numpy()
    if trainer is not None:
        equations = processes.summed(equations, trainer)
    factors_K = np.linalg.lstsq(equations[:, :-1], equations[:, -1])[0]
    residual_M = torch.from_numpy(factors_K).to(final_M) @ columns_KM - final_M
    squares = np.array([residual_M.square().sum().item(), final_M.square().sum().item()])
    if trainer is not None:
        squares = processes.summed(squares, trainer)
    return factors_K.tolist() if squares[0] <= _FIT**2 * squares[1] else None


def _combine(parts: Sequence[tuple[Sequence[float], list[Gradient]]]) -> Gradient:
    """The sum of a_k g_k over rewards, and over micro-batches that were kept apart."""
    pairs = [pair for factors_K, sums in parts for pair in zip(factors_K, sums, strict=True)]
    factor, gradient = pairs[0]
    total = list(torch._foreach_mul(gradient, factor))
    for factor, gradient in pairs[1:]:
        torch._foreach_add_(total, gradient, alpha=factor)
    return total
