"""Which rollouts meet in a step: the order of prompts, and micro-batches that hold whole groups.

TRL deals the rollouts of a generation out to micro-batches at random. Rollouts of one prompt
share its computation only within a micro-batch, and two micro-batches are independent samples
only if no group lies in both. Groups stay whole here; which of them meet remains TRL's draw.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from taiji.alignment.trl_surface import Batch, GrpoTrainer


class EpochSampler(torch.utils.data.Sampler[int]):
    """TRL's sampler, with an order that depends on the epoch alone.

    TRL draws each epoch's order from one generator that runs on. A resumed run starts that
    generator anew and would see the order of the first epoch again; here the draws of the epochs
    before are made up for first. An uninterrupted run sees TRL's order exactly.

    Args:
        sampler: TRL's RepeatSampler, shuffling.
        trainer: Whose `state.epoch` says how many epochs are done.
    """

    def __init__(self, sampler: Any, trainer: GrpoTrainer) -> None:
        self._sampler = sampler
        self._trainer = trainer

    def __len__(self) -> int:
        """Draws in an epoch, repeats included."""
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        """The order of the epoch that the trainer is in."""
        self._sampler.generator.manual_seed(self._sampler.seed)
        for _ in range(int(self._trainer.state.epoch or 0)):
            torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)
        return iter(self._sampler)


ROW = "popo_row"
"""The column that says which rollout of the generation a row is."""


def hold_whole_groups(num_rows: int, num_generations: int) -> bool:
    """Whether a micro-batch of so many rollouts can hold whole groups only."""
    return num_rows % num_generations == 0


def with_whole_groups(batches: Sequence[Batch], num_generations: int) -> list[Batch]:
    """The same rollouts, dealt out group by group, groups in the order in which TRL drew them.

    Args:
        batches: Micro-batches of equal size, with the column `ROW`.
        num_generations: G.

    Returns:
        The batches as they are if they cannot hold whole groups, or hold columns that are not
        rows, such as images.
    """
    num_rows = len(batches[0][ROW])
    if not hold_whole_groups(num_rows, num_generations) or not _all_rows(batches[0], num_rows):
        return list(batches)
    rows = torch.cat([batch[ROW] for batch in batches])
    drawn: dict[int, list[int]] = {}
    for place, row in enumerate(rows.tolist()):
        drawn.setdefault(row // num_generations, []).append(place)
    order = [
        place
        for places in drawn.values()
        for place in sorted(places, key=lambda place: int(rows[place]))
    ]
    whole = {name: _joined([batch[name] for batch in batches], order) for name in batches[0]}
    return [
        {name: _slice(value, start, start + num_rows) for name, value in whole.items()}
        for start in range(0, len(order), num_rows)
    ]


def _all_rows(batch: Batch, num_rows: int) -> bool:
    return all(
        not isinstance(value, torch.Tensor) or value.dim() == 0 or len(value) == num_rows
        for value in batch.values()
    ) and not any(isinstance(value, list) for value in batch.values())


def _joined(values: list[Any], order: list[int]) -> Any:
    first = values[0]
    if not isinstance(first, torch.Tensor) or first.dim() == 0:
        return first  # such as the number of tokens, the same in all of them
    return torch.cat(values)[order]


def _slice(value: Any, start: int, stop: int) -> Any:
    return value[start:stop] if isinstance(value, torch.Tensor) and value.dim() else value
