"""Rollouts whose randomness is their own: the same in one process and in many, and after a resume.

Each rollout of a generation draws from a stream that hangs on the seed, the step and its place
among all rollouts. The largest of logits / temperature + Gumbel noise is a draw from the softmax,
so `generate` may be greedy.

Shape suffixes: R rows, V vocabulary.
"""

import copy
import hashlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class OwnNoise:
    """A logits processor: temperature, and noise from each row's own stream.

    Args:
        streams: For each row numbers that are its own.
        temperature: Of the draws.
    """

    def __init__(self, streams: Sequence[Sequence[int]], temperature: float) -> None:
        self._seeds = [_seed(stream) for stream in streams]
        self._temperature = temperature
        self._noise: list[torch.Generator] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (R, V) whose largest is the row's draw."""
        if not self._noise:
            self._noise = [torch.Generator(scores.device).manual_seed(s) for s in self._seeds]
        noise_RV = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
        for noise_V, stream in zip(noise_RV, self._noise, strict=True):
            noise_V.exponential_(generator=stream)
        return scores.float() / self._temperature - noise_RV.log_()


@contextmanager
def own_draws(model: Any, streams: Sequence[Sequence[int]]) -> Iterator[None]:
    """Within, `model.generate` samples each row from its own stream.

    Args:
        model: Whose `generate` is given a generation configuration that samples by temperature.
        streams: One for each row.
    """
    generate = model.generate

    def drawing(*args: Any, generation_config: Any, **kwargs: Any) -> Any:
        config = copy.deepcopy(generation_config)
        noise = OwnNoise(streams, config.temperature)
        config.do_sample, config.temperature = False, None
        config.top_p = config.top_k = config.min_p = None
        return generate(*args, generation_config=config, logits_processor=[noise], **kwargs)

    outer = vars(model).get("generate")
    model.generate = drawing
    try:
        yield
    finally:
        del model.generate
        if outer is not None:
            model.generate = outer


def draws_by_temperature_alone(args: Any) -> bool:
    """Whether nothing but the temperature shapes the draws, so that they can be made this way."""
    return (
        (args.top_p is None or args.top_p >= 1)
        and not args.top_k
        and not args.min_p
        and not args.generation_kwargs
        and not args.use_vllm
    )


def _seed(stream: Sequence[int]) -> int:
    key = hashlib.blake2b(array("q", stream).tobytes(), digest_size=8)
    return int.from_bytes(key.digest(), "big") >> 1
