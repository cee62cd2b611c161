"""The gradients of all rewards over one generation: Eq. 6.

Three ways lead to the same g_k, each checked against float64 in the tests:

- `products`: one forward pass, then one vector-Jacobian product for each reward. Always right.
- `rows`: one backward pass through the activations (`row_scaling`), where rollouts do not share
  their prompt. The first step compares it with `products` and falls back if they differ.
- `sharded`: as `products`, but through `.grad`, where FSDP2 leaves its shares.

Shape suffixes: K rewards, B rollouts of a micro-batch, C completion tokens, M all tokens.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from taiji.alignment.gradients import gram, processes
from taiji.alignment.gradients.gram import Array, GradientSum
from taiji.alignment.gradients.probe import LossProbe
from taiji.alignment.gradients.row_scaling import (
    CannotScaleRowsError,
    Directions,
    OutputTape,
    common_directions,
)

logger = logging.getLogger(__name__)

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
        sums: Its part of each g_k, if micro-batches are kept apart.
    """

    batch: Batch
    probe: LossProbe
    cotangents: list[torch.Tensor]
    unit_BC: torch.Tensor | None = None
    per_rollout: dict[int, torch.Tensor] = field(default_factory=dict)
    sums: list[list[torch.Tensor]] | None = None


class RewardGradients:
    """g_k for each reward, averaged over the update windows that a generation will fill.

    Args:
        trainer: A PopoTrainer in training mode.
        parameters: Trained parameters that count: all, or those of an approximation.
        unbiased: Whether `popo_split` needs the products of different micro-batches alone.

    Attributes:
        measured: Micro-batches so far.
        sums: g_k over all of them, averaged over processes; there once finished.
        apart: Whether each micro-batch keeps its own part as well.
    """

    def __init__(
        self, trainer: Any, parameters: Sequence[torch.nn.Parameter], *, unbiased: bool
    ) -> None:
        self._trainer = trainer
        self.parameters = list(parameters)
        self._num_rewards = len(trainer.reward_funcs)
        self.sums: list[list[torch.Tensor]] = []
        self._totals = self._new_sums()
        self._blocks_KK: Array | None = None
        self._unbiased = unbiased
        self.apart = bool(trainer.args.popo_keep_micro_batches)
        self._num_blocks = 0
        self.measured: list[Measured] = []

    def add(self, batch: Batch, tape: OutputTape | None) -> None:
        """Run one micro-batch forward and add its part to each g_k."""
        alone = self._unbiased or self.apart
        sums = self._new_sums() if alone else self._totals
        measured = (
            self._by_products(batch, sums) if tape is None else self._by_rows(batch, sums, tape)
        )
        self.measured.append(measured)
        self._num_blocks += 1
        if not alone:
            return
        parts = [part.tensors() for part in sums]
        measured.sums = parts if self.apart else None
        if self._unbiased:
            block_KK = processes.total_gram(gram.gram(processes.local(parts)), self._trainer)
            self._blocks_KK = block_KK + (0 if self._blocks_KK is None else self._blocks_KK)
        for total, part in zip(self._totals, parts, strict=True):
            total.add_all(part)

    def finish(self, num_windows: float) -> Geometry:
        """Combine micro-batches and processes.

        Args:
            num_windows: Updates that the micro-batches fill. Without it the step size of Eq. 5
                would grow with the square of how many there are.
        """
        self.sums = [total.tensors() for total in self._totals]
        self._totals.clear()  # or this process's own sums would stay beside the averages
        processes.average(self.sums, self._trainer)
        gram_KK = processes.total_gram(gram.gram(processes.local(self.sums)), self._trainer)
        gram_KK = gram_KK / num_windows**2
        if self._blocks_KK is None:
            return Geometry(gram_KK, None)
        blocks_KK, num = processes.total_blocks(self._blocks_KK, self._num_blocks, self._trainer)
        blocks_KK = blocks_KK / num_windows**2
        return Geometry(gram_KK, (gram_KK - blocks_KK) * num / (num - 1))

    def final_cotangents(self) -> list[torch.Tensor]:
        """dL / d log-probabilities of each micro-batch under its advantages now."""
        return [m.probe.cotangent(self._loss(m.batch, m.probe)) for m in self.measured]

    # -- Ways ----------------------------------------------------------------------------------

    def _by_products(self, batch: Batch, sums: list[GradientSum]) -> Measured:
        probe = LossProbe()
        cotangents = self._cotangents(batch, probe)
        if processes.is_sharded(self._trainer):
            with processes.reducing(self._trainer):
                probe.accumulate_shares(cotangents, self.parameters, sums)
        else:
            probe.accumulate(cotangents, self.parameters, sums)
        return Measured(batch, probe, cotangents)

    def _by_rows(self, batch: Batch, sums: list[GradientSum], tape: OutputTape) -> Measured:
        with tape.recording(len(batch["completion_ids"])):
            probe = LossProbe(tape)
            cotangents = self._cotangents(batch, probe)
            directions = common_directions(cotangents)
            if directions is None:
                raise CannotScaleRowsError("the rewards' cotangents are not parallel")
            measured = Measured(batch, probe, cotangents)
            places = {id(p): number for number, p in enumerate(self.parameters)}
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

    def _new_sums(self) -> list[GradientSum]:
        return [GradientSum(self.parameters) for _ in range(self._num_rewards)]


def same_geometry(one: Geometry, other: Geometry) -> bool:
    """Whether two ways of measuring agree."""
    scale = abs(other.gram_KK).max()
    return bool(abs(one.gram_KK - other.gram_KK).max() <= _AGREE * scale)


def _sink(total: GradientSum, places: Mapping[int, int]) -> Any:
    def add(parameter: torch.Tensor, gradient: torch.Tensor) -> None:
        if (place := places.get(id(parameter))) is not None:
            total.add(place, gradient)

    return add


def _add_rollouts(
    per_rollout: Mapping[int, torch.Tensor],
    directions: Directions,
    places: Mapping[int, int],
    sums: list[GradientSum],
) -> None:
    for key, parts in per_rollout.items():
        if (place := places.get(key)) is None:
            continue
        for scale_B, total in zip(directions.scales_KB, sums, strict=True):
            total.add(place, torch.tensordot(scale_B, parts, dims=1))
