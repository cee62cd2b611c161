"""All rewards' gradients from one backward pass through the activations.

Where rollouts do not share activations, a rollout's part of a weight gradient is
delta_s^T x_s, with x_s the input of the module that owns the weight and delta_s the gradient
of its output. If the cotangent of reward k is A_k[s] u_s, with the same direction u_s for all
rewards, then delta is linear in A_k[s]: one pass with u_s gives every module's delta, and
g_k = sum_s A_k[s] delta_s^T x_s. Counting a forward pass as 1, that costs 1 + 1 + K instead of
1 + 2K for K separate products. For small matrices such as LoRA's the parts of the rollouts are
kept one by one, and every later mix of rewards is a weighted sum of them.

Shape suffixes: K rewards, B rollouts, C completion tokens, T tokens, N real completion tokens,
D dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import functional_call

from taiji.alignment.gradients import forward
from taiji.alignment.gradients.forward import Rows, Scored

_TOLERANCE = 1e-5  # of a cotangent's length, for what counts as parallel

Sink = Callable[[torch.Tensor, torch.Tensor], None]


class CannotScaleRowsError(Exception):
    """A module's rows are not the rollouts; the general way serves instead."""


@dataclass(frozen=True)
class Directions:
    """Cotangents of K rewards as multiples of one direction for each rollout.

    Attributes:
        unit_BC: u_s.
        scales_KB: A_k[s].
    """

    unit_BC: torch.Tensor
    scales_KB: torch.Tensor


def common_directions(cotangents: Sequence[torch.Tensor]) -> Directions | None:
    """Split cotangents into directions and factors; None if a rollout has more than one direction.

    They are parallel on the first update after generation, and not once a ratio is clipped on
    one side, nor with a KL term.
    """
    stacked_KBC = torch.stack(list(cotangents)).double()
    length_KB = stacked_KBC.norm(dim=2)
    longest_B = length_KB.argmax(dim=0)
    unit_BC = stacked_KBC[longest_B, torch.arange(stacked_KBC.shape[1])]
    scales_KB = multiples(stacked_KBC, unit_BC)
    residual_KB = (stacked_KBC - scales_KB[..., None] * unit_BC).norm(dim=2)
    if bool((residual_KB > _TOLERANCE * length_KB).any()):
        return None
    return Directions(unit_BC.float(), scales_KB.float())


def multiples(stacked_KBC: torch.Tensor, unit_BC: torch.Tensor) -> torch.Tensor:
    """The factors a_KB for which a u is nearest to each cotangent; 0 where u vanishes."""
    squared_B = (unit_BC * unit_BC).sum(dim=1)
    return (stacked_KBC * unit_BC).sum(dim=2) / squared_B.where(squared_B > 0, 1.0)


class OutputTape:
    """Inputs and output gradients of every module that owns a trained weight.

    Args:
        model: Decoder and plain head (`forward.has_plain_head`).
        parameters: The trained ones.

    Raises:
        CannotScaleRowsError: A trained parameter belongs to no module that can be recorded.
    """

    def __init__(self, model: Any, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._model = model
        self._parameters = parameters
        wanted = {id(parameter) for parameter in parameters}
        self._head = model.get_output_embeddings()
        self._owners = [
            module
            for module in model.modules()
            if module is not self._head and any(id(p) in wanted for p in _own(module).values())
        ]
        self._trains_head = id(self._head.weight) in wanted
        held = {id(p) for module in [*self._owners, self._head] for p in _own(module).values()}
        if wanted - held:
            raise CannotScaleRowsError("a trained parameter belongs to no module of the model")
        self._num_rollouts = 0
        self._on_output: Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], None] | None = None

    def small(self) -> bool:
        """Whether each rollout's own gradients take no more memory than the model."""
        size = sum(p.numel() for p in self._parameters)
        linear = all(type(module) is torch.nn.Linear for module in self._owners)
        whole = sum(p.numel() for p in self._model.parameters())
        return linear and not self._trains_head and size * self._num_rollouts <= whole

    @contextmanager
    def recording(self, num_rollouts: int) -> Iterator[None]:
        """Within, weights pass for constants, so that a backward pass costs activations alone."""
        self._num_rollouts = num_rollouts
        handles = [module.register_forward_hook(self._record) for module in self._owners]
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for parameter in self._parameters:
                parameter.requires_grad_(True)

    def forward(self, rows: Rows, temperature: float) -> tuple[Scored, "Head"]:
        """Log-probabilities, and the border at which the backward pass will start."""
        hidden_ND = forward.decode(self._model, rows)
        leaf_ND = hidden_ND.detach().requires_grad_()
        logprobs_N, entropies_N = forward.apply_head(
            self._model, leaf_ND, rows.targets_N, temperature
        )
        scored = forward.spread(logprobs_N, entropies_N, rows)
        return scored, Head(hidden_ND, leaf_ND, logprobs_N, rows, temperature)

    def sum_rewards(self, head: "Head", directions: Directions, sinks: Sequence[Sink]) -> None:
        """Add g_k for each reward, weight by weight, to its sink."""

        def on_output(module: torch.nn.Module, x: torch.Tensor, delta: torch.Tensor) -> None:
            for scale_B, sink in zip(directions.scales_KB, sinks, strict=True):
                scaled = delta * scale_B.view(-1, *[1] * (delta.dim() - 1))
                for parameter, gradient in _weight_gradients(module, x, scaled):
                    sink(parameter, gradient)

        self._backward(head, directions.unit_BC, on_output)
        if self._trains_head:
            self._head_gradients(head, directions, sinks)

    def per_rollout(self, head: "Head", unit_BC: torch.Tensor) -> dict[int, torch.Tensor]:
        """Each rollout's own gradient under u_s, B x (shape of the weight), by parameter id."""
        found: dict[int, torch.Tensor] = {}

        def on_output(module: torch.nn.Module, x: torch.Tensor, delta: torch.Tensor) -> None:
            assert isinstance(module, torch.nn.Linear)
            delta, x = delta.flatten(1, -2), x.flatten(1, -2)
            parts = {id(module.weight): torch.bmm(delta.transpose(1, 2), x)}
            if module.bias is not None:
                parts[id(module.bias)] = delta.sum(dim=1)
            for key, value in parts.items():
                found[key] = found[key] + value if key in found else value

        self._backward(head, unit_BC, on_output)
        return found

    def _backward(
        self,
        head: "Head",
        unit_BC: torch.Tensor,
        on_output: Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], None],
    ) -> None:
        unit_N = unit_BC[head.rows.there_BC]
        (delta_ND,) = torch.autograd.grad(head.logprobs_N, head.leaf_ND, unit_N)
        self._on_output = on_output
        try:
            if head.hidden_ND.requires_grad:
                torch.autograd.backward(head.hidden_ND, delta_ND)
        finally:
            self._on_output = None

    def _record(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._on_output is not None:  # a module run once more, for its own weights' gradients
            return
        x = args[0] if len(args) == 1 else None
        if not isinstance(x, torch.Tensor) or not isinstance(output, torch.Tensor):
            raise CannotScaleRowsError(f"{type(module).__name__} takes more than one tensor")
        if x.shape[0] != self._num_rollouts or output.dim() < 3:
            raise CannotScaleRowsError(f"rows of {type(module).__name__} are not rollouts")
        if not output.requires_grad:
            output.requires_grad_()  # the lowest trained module: nothing below it is needed
        x = x.detach()

        def pass_on(delta: torch.Tensor) -> None:
            if self._on_output is not None:
                self._on_output(module, x, delta)

        output.register_hook(pass_on)  # type: ignore[no-untyped-call]

    def _head_gradients(self, head: "Head", directions: Directions, sinks: Sequence[Sink]) -> None:
        weight = self._head.weight
        with torch.enable_grad():
            weight.requires_grad_(True)
            logprobs_N, _ = forward.apply_head(
                self._model, head.leaf_ND.detach(), head.rows.targets_N, head.temperature
            )
            for scale_B, sink in zip(directions.scales_KB, sinks, strict=True):
                scaled_BC = directions.unit_BC * scale_B[:, None]
                (gradient,) = torch.autograd.grad(
                    logprobs_N, weight, scaled_BC[head.rows.there_BC], retain_graph=True
                )
                sink(weight, gradient)


@dataclass(frozen=True)
class Head:
    """Where the decoder ends and the head begins, for one forward pass."""

    hidden_ND: torch.Tensor
    leaf_ND: torch.Tensor
    logprobs_N: torch.Tensor
    rows: Rows
    temperature: float


def _own(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return dict(module.named_parameters(recurse=False))


def _weight_gradients(
    module: torch.nn.Module, x: torch.Tensor, delta: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The gradient of each of a module's own weights for one output gradient."""
    if type(module) is torch.nn.Linear:
        delta_RD, x_RD = delta.flatten(0, -2), x.flatten(0, -2)
        yield module.weight, delta_RD.T @ x_RD
        if module.bias is not None:
            yield module.bias, delta_RD.sum(dim=0)
        return
    own = _own(module)
    with torch.enable_grad():
        leaves = {name: p.detach().requires_grad_() for name, p in own.items()}
        output = functional_call(module, leaves, (x,))
        gradients = torch.autograd.grad(output, list(leaves.values()), delta)
    yield from zip(own.values(), gradients, strict=True)
