"""The order of prompts, so that a resumed run sees what it would have seen."""

from collections.abc import Iterator
from typing import Any

import torch


class EpochSampler(torch.utils.data.Sampler[int]):
    """TRL's sampler, with an order that depends on the epoch alone.

    TRL draws each epoch's order from one generator that runs on. A resumed run starts that
    generator anew and would see the order of the first epoch again; here the draws of the epochs
    before are made up for first. An uninterrupted run sees TRL's order exactly.

    Args:
        sampler: TRL's RepeatSampler, shuffling.
        trainer: Whose `state.epoch` says how many epochs are done.
    """

    def __init__(self, sampler: Any, trainer: Any) -> None:
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
