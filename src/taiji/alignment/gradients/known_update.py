"""The gradient of the update, where the rewards' gradients hold it already.

The update of the step that measured them often needs no further pass. Where its cotangents are
a weighted sum of those of the rewards (advantages mixed, Eq. 9 with `scale_rewards` "none"), its
gradient is the same sum of the g_k. Eq. 9 scales each group by its own spread, so there the sum
differs from one group to the next: the gradients of micro-batches of one group must have been
kept apart. Where each rollout's own gradient is at hand (LoRA), any mix is free. Whether it is so
is not assumed but fitted, and a plain backward pass serves where the fit fails.

Shape suffixes: K rewards, B rollouts of a micro-batch, C completion tokens, M all tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from taiji.alignment.gradients import processes
from taiji.alignment.gradients.by_reward import Measured, RewardGradients
from taiji.alignment.gradients.probe import LossProbe
from taiji.alignment.gradients.row_scaling import multiples

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


def known_update(gradients: RewardGradients, trainer: Any) -> Update | None:
    """The gradient of the update under the batches' advantages now, if it costs no pass."""
    finals = gradients.final_cotangents()
    if gradients.measured[0].per_rollout:
        gradient = _from_rollouts(gradients, finals, trainer)
    elif gradients.apart:
        gradient = _from_micro_batches(gradients, finals, trainer)
    else:
        factors_K = _fit(gradients.measured, finals, trainer)
        gradient = None if factors_K is None else _combine([(factors_K, gradients.sums)])
    return None if gradient is None else Update(gradients.measured, gradients.parameters, gradient)


def _from_micro_batches(
    gradients: RewardGradients, finals: list[torch.Tensor], trainer: Any
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


def _from_rollouts(
    gradients: RewardGradients, finals: list[torch.Tensor], trainer: Any
) -> Gradient | None:
    """sum_s a_s G_s over all rollouts, if each cotangent lies along its own direction."""
    total, fit = [torch.zeros_like(p) for p in gradients.parameters], True
    for measured, final_BC in zip(gradients.measured, finals, strict=True):
        assert measured.unit_BC is not None
        unit_BC = measured.unit_BC.double()
        factors_B = multiples(final_BC.double()[None], unit_BC)[0]
        residual = factors_B[:, None] * unit_BC - final_BC.double()
        fit = fit and bool(residual.norm() <= _FIT * final_BC.double().norm())
        for place, parameter in zip(total, gradients.parameters, strict=True):
            if (parts := measured.per_rollout.get(id(parameter))) is not None:
                place += torch.tensordot(factors_B.float(), parts, dims=1)
    if not processes.all_agree(fit, trainer):
        return None
    processes.average([total], trainer)
    return total


def _fit(
    measured: Sequence[Measured], finals: Sequence[torch.Tensor], trainer: Any | None
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
