"""Trains a small network until rows that it does not learn from no longer gain."""

from collections.abc import Callable
from copy import deepcopy
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from taiji.arrays import Ints
from taiji.errors import DivergenceError

HELD_BACK = 0.1
_PATIENCE = 2  # epochs without a lower loss on the rows held back

Network = TypeVar("Network", bound=nn.Module)


class Passes(Protocol):
    """How long, and in what steps."""

    @property
    def learning_rate(self) -> float:
        """Of AdamW."""

    @property
    def epochs(self) -> int:
        """At most."""

    @property
    def batch_size(self) -> int:
        """Rows of a step."""


def held_back(random: np.random.Generator, num_rows: int) -> tuple[Ints, Ints]:
    """Rows that judge, a tenth of all and two at least, and rows to learn from."""
    rows_N = random.permutation(num_rows)
    num_held = max(2, int(HELD_BACK * num_rows))
    return rows_N[:num_held], rows_N[num_held:]


def train_until_held_back_stop(
    network: Network,
    learnt_N: Ints,
    loss_of: Callable[[Ints], torch.Tensor],
    held_loss: Callable[[], torch.Tensor],
    passes: Passes,
    random: np.random.Generator,
    name: str,
) -> Network:
    """Train a network in place and leave it as it was when the held rows lost least.

    Args:
        network: Its weights change.
        learnt_N: Rows to learn from.
        loss_of: The loss of some of them.
        held_loss: The loss of the rows held back.
        passes: How long.
        random: Of the order of rows.
        name: Of the network, for messages.

    Raises:
        DivergenceError: The loss is NaN or infinite.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=passes.learning_rate)
    best, best_state, waited = np.inf, deepcopy(network.state_dict()), 0
    for _ in range(passes.epochs):
        order_N = random.permutation(learnt_N)
        for begin in range(0, order_N.size, passes.batch_size):
            loss = loss_of(order_N[begin : begin + passes.batch_size])
            if not torch.isfinite(loss):
                raise DivergenceError(f"{name}: the loss is {loss.item()}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            found = float(held_loss())
        if found < best:
            best, best_state, waited = found, deepcopy(network.state_dict()), 0
        elif (waited := waited + 1) > _PATIENCE:
            break
    network.load_state_dict(best_state)
    return network.eval()
