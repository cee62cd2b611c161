"""The gradient of TRL's own loss under several advantages, for one forward pass.

TRL's loss sees the model through per-token log-probabilities alone. Hand it a leaf in their
place and its derivative with respect to the leaf is exact for every loss type, clip, ratio and
mask, without a line of the loss being copied; the chain rule through the model is then one
vector-Jacobian product for each reward on a graph that all share. Cost, counting a forward as
1: 1 + 2K, against 3K for K separate passes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from taiji.alignment.gradients.gram import GradientSum

Forward = Callable[..., tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]]


class LossProbe:
    """Stands between TRL's loss and the model for one micro-batch.

    The first forward runs the model and keeps its graph; every forward is answered by the same
    leaf. Entropies are passed on detached and the router's loss not at all: an entropy bonus or
    a balance of experts is no part of Eq. 8.
    """

    def __init__(self) -> None:
        self._logprobs: torch.Tensor | None = None
        self._leaf: torch.Tensor | None = None
        self._entropies: torch.Tensor | None = None

    def forward(
        self, model_forward: Forward, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Answer in the place of TRL's per-token log-probabilities and entropies."""
        if self._leaf is None:
            self._logprobs, entropies, _ = model_forward(*args, **kwargs)
            self._leaf = self._logprobs.detach().requires_grad_()
            self._entropies = None if entropies is None else entropies.detach()
        return self._leaf, self._entropies, None

    def cotangent(self, loss: torch.Tensor) -> torch.Tensor:
        """dL / d log-probabilities, for a loss computed from the leaf."""
        assert self._leaf is not None, "the loss was computed without a forward"
        return torch.autograd.grad(loss, self._leaf)[0]

    def accumulate(
        self,
        cotangents: Sequence[torch.Tensor],
        parameters: Sequence[torch.nn.Parameter],
        sums: Sequence[GradientSum],
    ) -> None:
        """Add each reward's gradient to its sums, and let the graph go.

        Args:
            cotangents: One for each reward. One that is zero everywhere costs no backward pass.
            parameters: The parameters that count.
            sums: One for each reward.
        """
        assert self._logprobs is not None, "there was no forward"
        live = [k for k, cotangent in enumerate(cotangents) if cotangent.any()]
        for k in live:
            gradient = torch.autograd.grad(
                self._logprobs,
                parameters,
                grad_outputs=cotangents[k],
                retain_graph=k != live[-1],
                allow_unused=True,
            )
            for place, part in enumerate(gradient):
                if part is not None:
                    sums[k].add(place, part)
        self.forget()

    def accumulate_shares(
        self,
        cotangents: Sequence[torch.Tensor],
        parameters: Sequence[torch.nn.Parameter],
        sums: Sequence[GradientSum],
    ) -> None:
        """The same where FSDP2 holds the parameters in shares.

        Its leaves are passing copies; only `.grad` has the averaged share of this process. All
        processes take every product, even a vanishing one: each is a collective operation.
        """
        assert self._logprobs is not None, "there was no forward"
        kept = [parameter.grad for parameter in parameters]
        for k, cotangent in enumerate(cotangents):
            for parameter in parameters:
                parameter.grad = None
            last = k == len(cotangents) - 1
            torch.autograd.backward(self._logprobs, cotangent, retain_graph=not last)
            for place, parameter in enumerate(parameters):
                if parameter.grad is not None:
                    sums[k].add(place, parameter.grad)
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient
        self.forget()

    def forget(self) -> None:
        """Let the graph go; the leaf goes on answering."""
        self._logprobs = None
