"""The gradients of all rewards over one generation: Eq. 6.

One forward pass, then one vector-Jacobian product for each reward on the graph that they share;
where FSDP2 leaves its shares, the same through `.grad`. The tests hold both against float64.

g_k is the gradient of the policy's part of Eq. 8 under the advantages of reward k alone. The KL
term is no reward's: it enters the update, and neither g_k nor I.

Shape suffixes: K rewards, B rollouts of a micro-batch, C completion tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from taiji.alignment.gradients import gram, processes
from taiji.alignment.gradients.gram import Array, GradientSum
from taiji.alignment.gradients.probe import LossProbe
from taiji.alignment.trl_surface import Batch, GrpoTrainer

ALONE = "popo_advantages"
"""The column with each rollout's advantage under each reward alone, B x K."""


class ProbedTrainer(GrpoTrainer, Protocol):
    """A trainer whose loss can be asked for without its model."""

    def probed_loss(self, inputs: Mapping[str, Any], probe: LossProbe) -> torch.Tensor:
        """The policy's part of TRL's loss, without a KL term, as the probe answers it."""
        ...


@dataclass(frozen=True)
class Geometry:
    """Inner products of the rewards' gradients.

    Attributes:
        gram_KK: <g_i, g_j>.
        unbiased_KK: An estimate of what gram_KK would be without the noise of the sample:
            products of a micro-batch with itself are left out. Unbiased where micro-batches are
            independent samples. None if not asked for.
    """

    gram_KK: Array
    unbiased_KK: Array | None


@dataclass
class Measured:
    """One micro-batch after its forward pass.

    Attributes:
        probe: Answers TRL's loss without the model.
        cotangents: dL_k / d log-probabilities for each reward, B x C.
        sums: Its part of each g_k, if micro-batches are kept apart.
    """

    batch: Batch
    probe: LossProbe
    cotangents: list[torch.Tensor]
    sums: list[list[torch.Tensor]] | None = None


class RewardGradients:
    """g_k for each reward, averaged over the update windows that a generation will fill.

    Args:
        trainer: A PopoTrainer in training mode.
        unbiased: Whether `popo_split` needs the products of different micro-batches alone.

    Attributes:
        parameters: The trained ones, anew for each generation: engines put other objects in
            their place when training begins.
        measured: Micro-batches so far.
        sums: g_k over all of them, averaged over processes; there once finished.
        apart: Whether each micro-batch keeps its own part as well.
    """

    def __init__(self, trainer: ProbedTrainer, *, unbiased: bool) -> None:
        self._trainer = trainer
        self.parameters = [p for p in trainer.model.parameters() if p.requires_grad]
        self._num_rewards = len(trainer.reward_funcs)
        self.sums: list[list[torch.Tensor]] = []
        self._totals = self._new_sums()
        self._blocks_KK: Array | None = None
        self._unbiased = unbiased
        self.apart = bool(trainer.args.popo_keep_micro_batches)
        self.measured: list[Measured] = []

    def add(self, batch: Batch) -> None:
        """Run one micro-batch forward and add its part to each g_k."""
        alone = self._unbiased or self.apart
        sums = self._new_sums() if alone else self._totals
        measured = self._measure(batch, sums)
        self.measured.append(measured)
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

        Raises:
            DivergenceError: A gradient is NaN or infinite.
        """
        self.sums = [total.tensors() for total in self._totals]
        self._totals.clear()  # or this process's own sums would stay beside the averages
        processes.average(self.sums, self._trainer)
        gram_KK = processes.total_gram(gram.gram(processes.local(self.sums)), self._trainer)
        gram_KK = gram_KK / num_windows**2
        if self._blocks_KK is None:
            return Geometry(gram_KK, None)
        blocks_KK, num = processes.total_blocks(self._blocks_KK, len(self.measured), self._trainer)
        blocks_KK = blocks_KK / num_windows**2
        return Geometry(gram_KK, (gram_KK - blocks_KK) * num / (num - 1))

    def final_cotangents(self) -> list[torch.Tensor]:
        """dL / d log-probabilities of each micro-batch under its advantages now."""
        loss = self._trainer.probed_loss
        return [m.probe.cotangent(loss(m.batch, m.probe)) for m in self.measured]

    def _measure(self, batch: Batch, sums: list[GradientSum]) -> Measured:
        probe = LossProbe()
        cotangents = [
            probe.cotangent(self._trainer.probed_loss({**batch, "advantages": advantages_B}, probe))
            for advantages_B in batch[ALONE].unbind(dim=1)
        ]
        if processes.is_sharded(self._trainer):
            with processes.reducing(self._trainer):
                probe.accumulate_shares(cotangents, self.parameters, sums)
        else:
            probe.accumulate(cotangents, self.parameters, sums)
        return Measured(batch, probe, cotangents)

    def _new_sums(self) -> list[GradientSum]:
        return [GradientSum(self.parameters) for _ in range(self._num_rewards)]


def measure(trainer: ProbedTrainer, *, unbiased: bool) -> tuple[RewardGradients, Geometry]:
    """The rewards' gradients over the buffered generation, and their inner products.

    Raises:
        DivergenceError: A gradient is NaN or infinite.
    """
    processes.reshard(trainer)
    gradients = RewardGradients(trainer, unbiased=unbiased)
    batches = trainer._buffered_inputs
    for batch in batches:
        gradients.add(batch)
    return gradients, gradients.finish(len(batches) / trainer.current_gradient_accumulation_steps)
