"""The gradients of all rewards over one generation: Eq. 6, and the update where it is free.

Three ways lead to the same g_k, each checked against float64 in the tests:

- `products`: one forward pass, then one vector-Jacobian product for each reward. Always right.
- `rows`: one backward pass through the activations (`row_scaling`), where rollouts do not share
  their prompt. The first step compares it with `products` and falls back if they differ.
- `sharded`: as `products`, but through `.grad`, where FSDP2 leaves its shares.

The update of the same step often needs no further pass. Where its cotangents are a weighted sum
of those of the rewards (advantages mixed, Eq. 9 with `scale_rewards` "none"), its gradient is the
same sum of the g_k; where each rollout's own gradient is at hand (LoRA), any mix is. Whether it
is so is not assumed but fitted, and a plain backward pass serves where the fit fails.

Shape suffixes: K rewards, B rollouts of a micro-batch, C completion tokens, M all tokens.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from taiji.alignment import gradients, parallel
from taiji.alignment.gradients import Array
from taiji.alignment.probe import LossProbe
from taiji.alignment.row_scaling import (
    CannotScaleRowsError,
    Directions,
    OutputTape,
    common_directions,
    multiples,
)

logger = logging.getLogger(__name__)

_FIT = 1e-5  # residual of the update's cotangent, as a share of its length
_AGREE = 1e-3  # of the two ways' inner products at the first step

Batch = dict[str, Any]


@dataclass(frozen=True)
class Geometry:
    """Inner products of the rewards' gradients.

    Attributes:
        gram_KK: <g_i, g_j>.
        unbiased_KK: An unbiased estimate of what gram_KK would be without the noise of the
            sample: products of a micro-batch with itself are left out. None if not asked for.
    """

    gram_KK: Array
    unbiased_KK: Array | None


@dataclass
class Measured:
    """One micro-batch after its forward pass.

    Attributes:
        probe: Answers TRL's loss without the model.
        cotangents: dL_k / d log-probabilities for each reward.
        unit_BC: The direction that all rewards share in each rollout, if it was needed.
        per_rollout: Each rollout's gradient along it, by parameter id.
    """

    batch: Batch
    probe: LossProbe
    cotangents: list[torch.Tensor]
    unit_BC: torch.Tensor | None = None
    per_rollout: dict[int, torch.Tensor] = field(default_factory=dict)


class RewardGradients:
    """g_k for each reward, averaged over the update windows that a generation will fill.

    Args:
        trainer: A PopoTrainer in training mode.
        parameters: Trained parameters that count: all, or those of an approximation.
        unbiased: Whether `popo_split` needs the products of different micro-batches alone.
    """

    def __init__(
        self, trainer: Any, parameters: Sequence[torch.nn.Parameter], *, unbiased: bool
    ) -> None:
        self._trainer = trainer
        self._parameters = list(parameters)
        self._num_rewards = len(trainer.reward_funcs)
        self._sums = self._zeros()
        self._blocks_KK: Array | None = None
        self._unbiased = unbiased
        self._num_blocks = 0
        self._measured: list[Measured] = []

    def add(self, batch: Batch, tape: OutputTape | None) -> None:
        """Run one micro-batch forward and add its part to each g_k."""
        sums = self._zeros() if self._unbiased else self._sums
        self._measured.append(
            self._by_products(batch, sums) if tape is None else self._by_rows(batch, sums, tape)
        )
        self._num_blocks += 1
        if self._unbiased:
            block_KK = parallel.total_gram(gradients.gram(parallel.local(sums)), self._trainer)
            self._blocks_KK = block_KK + (0 if self._blocks_KK is None else self._blocks_KK)
            for total, part in zip(self._sums, sums, strict=True):
                torch._foreach_add_(total, part)

    def finish(self, num_windows: float) -> Geometry:
        """Combine micro-batches and processes.

        Args:
            num_windows: Updates that the micro-batches fill. Without it the step size of Eq. 5
                would grow with the square of how many there are.
        """
        parallel.average(self._sums, self._trainer)
        gram_KK = parallel.total_gram(gradients.gram(parallel.local(self._sums)), self._trainer)
        gram_KK = gram_KK / num_windows**2
        if self._blocks_KK is None:
            return Geometry(gram_KK, None)
        blocks_KK, num = parallel.total_blocks(self._blocks_KK, self._num_blocks, self._trainer)
        blocks_KK = blocks_KK / num_windows**2
        return Geometry(gram_KK, (gram_KK - blocks_KK) * num / (num - 1))

    def update(self) -> "Update | None":
        """The gradient of the update under the batches' advantages now, if it costs no pass."""
        finals = [m.probe.cotangent(self._loss(m.batch, m.probe)) for m in self._measured]
        if self._measured[0].per_rollout:
            gradient = self._from_rollouts(finals)
        else:
            gradient = self._from_rewards(finals)
        return None if gradient is None else Update(self._measured, self._parameters, gradient)

    # -- Ways ----------------------------------------------------------------------------------

    def _by_products(self, batch: Batch, sums: list[list[torch.Tensor]]) -> Measured:
        probe = LossProbe()
        cotangents = self._cotangents(batch, probe)
        if parallel.is_sharded(self._trainer):
            with parallel.reducing(self._trainer):
                probe.accumulate_shares(cotangents, self._parameters, sums)
        else:
            probe.accumulate(cotangents, self._parameters, sums)
        return Measured(batch, probe, cotangents)

    def _by_rows(self, batch: Batch, sums: list[list[torch.Tensor]], tape: OutputTape) -> Measured:
        with tape.recording(len(batch["completion_ids"])):
            probe = LossProbe(tape)
            cotangents = self._cotangents(batch, probe)
            directions = common_directions(cotangents)
            if directions is None:
                raise CannotScaleRowsError("the rewards' cotangents are not parallel")
            measured = Measured(batch, probe, cotangents)
            places = {id(p): number for number, p in enumerate(self._parameters)}
            assert probe.head is not None, "the model did not run under the tape"
            if tape.small():
                measured.unit_BC = directions.unit_BC
                measured.per_rollout = tape.per_rollout(probe.head, directions.unit_BC)
                _add_rollouts(measured.per_rollout, directions, places, sums)
            else:
                tape.sum_rewards(probe.head, directions, [_sink(total, places) for total in sums])
        probe.forget()
        return measured

    def _cotangents(self, batch: Batch, probe: LossProbe) -> list[torch.Tensor]:
        return [
            probe.cotangent(self._loss({**batch, "advantages": advantages_B}, probe))
            for advantages_B in batch["popo_advantages"].unbind(dim=1)
        ]

    def _loss(self, batch: Batch, probe: LossProbe) -> torch.Tensor:
        loss: torch.Tensor = self._trainer._probed_loss(batch, probe)
        return loss

    # -- The update, where it costs nothing ----------------------------------------------------

    def _from_rewards(self, finals: list[torch.Tensor]) -> list[torch.Tensor] | None:
        """sum_k a_k g_k, if one a_K gives the cotangents of all micro-batches."""
        columns_KM = torch.stack(
            [
                torch.cat([m.cotangents[k].flatten() for m in self._measured])
                for k in range(self._num_rewards)
            ]
        ).double()
        final_M = torch.cat([final.flatten() for final in finals]).double()
        factors_K = torch.linalg.lstsq(columns_KM.T, final_M[:, None], driver="gelsd").solution[
            :, 0
        ]
        if not _fits(factors_K @ columns_KM, final_M):
            return None
        return [
            sum((factor * part for factor, part in zip(factors_K.tolist(), parts, strict=True)),
                torch.zeros_like(parts[0]))
            for parts in zip(*self._sums, strict=True)
        ]  # fmt: skip

    def _from_rollouts(self, finals: list[torch.Tensor]) -> list[torch.Tensor] | None:
        """sum_s a_s G_s over all rollouts, if each cotangent lies along its own direction."""
        total = [torch.zeros_like(p) for p in self._parameters]
        for measured, final_BC in zip(self._measured, finals, strict=True):
            assert measured.unit_BC is not None
            unit_BC = measured.unit_BC.double()
            factors_B = multiples(final_BC.double()[None], unit_BC)[0]
            if not _fits(factors_B[:, None] * unit_BC, final_BC.double()):
                return None
            for place, parameter in zip(total, self._parameters, strict=True):
                if (parts := measured.per_rollout.get(id(parameter))) is not None:
                    place += torch.tensordot(factors_B.float(), parts, dims=1)
        parallel.average([total], self._trainer)
        return total

    def _zeros(self) -> list[list[torch.Tensor]]:
        return [[torch.zeros_like(p) for p in self._parameters] for _ in range(self._num_rewards)]


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


def same_geometry(one: Geometry, other: Geometry) -> bool:
    """Whether two ways of measuring agree."""
    scale = abs(other.gram_KK).max()
    return bool(abs(one.gram_KK - other.gram_KK).max() <= _AGREE * scale)


def _fits(fitted: torch.Tensor, final: torch.Tensor) -> bool:
    return bool((fitted - final).norm() <= _FIT * final.norm())


def _sink(total: list[torch.Tensor], places: Mapping[int, int]) -> Any:
    def add(parameter: torch.Tensor, gradient: torch.Tensor) -> None:
        if (place := places.get(id(parameter))) is not None:
            total[place] += gradient

    return add


def _add_rollouts(
    per_rollout: Mapping[int, torch.Tensor],
    directions: Directions,
    places: Mapping[int, int],
    sums: list[list[torch.Tensor]],
) -> None:
    for key, parts in per_rollout.items():
        if (place := places.get(key)) is None:
            continue
        for scale_B, total in zip(directions.scales_KB, sums, strict=True):
            total[place] += torch.tensordot(scale_B, parts, dims=1)
