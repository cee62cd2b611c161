"""Several continuations of one prompt in a single row, the prompt computed once.

The branches lie behind the prompt one after another. A mask lets each token see the prompt
and its own branch up to itself; position ids let each branch start right after the prompt. So
the logits equal those of running prompt + branch on its own, and k branches cost
P + k s tokens instead of k (P + s).

Shape suffixes: R rows, T tokens of the packed row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

PROMPT = -1
"""Owner of a prompt's tokens; branches own theirs by number, from 0."""

PADDING = -2
"""Owner of tokens that nobody sees."""

_KERNELS = ("sdpa", "eager", "flex_attention")
_IN_CHUNKS = "sdpa_in_chunks"

_CHUNK = 96
"""Tokens that attend together; the fastest of what was measured, up to rows of 1,600 tokens."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a packed row lie, before they are tensors.

    Attributes:
        ids: T token ids.
        positions: T positions; each branch counts on from the prompt.
        owners: T owners, for `tree_mask`.
        spans: Where each branch lies in the row, as (start, stop).
        prompt_length: P; the prompt is the first P tokens.
    """

    ids: list[int]
    positions: list[int]
    owners: list[int]
    spans: tuple[tuple[int, int], ...]
    prompt_length: int

    def predictors(self, branch: int) -> list[int]:
        """Positions whose logits predict the tokens of a branch, one for each token.

        The first token is predicted by the last one of the prompt, wherever the branch lies.
        """
        start, stop = self.spans[branch]
        return [self.prompt_length - 1, *range(start, stop - 1)] if stop > start else []


def lay_out(prompt_ids: Sequence[int], branches: Sequence[Sequence[int]]) -> Layout:
    """Lay a prompt and its branches out in one row.

    Raises:
        ValueError: There is no prompt or no branch.
    """
    if not prompt_ids or not branches:
        raise ValueError("a row needs a prompt of at least one token and at least one branch")
    prompt_length = len(prompt_ids)
    ids, positions = list(prompt_ids), list(range(prompt_length))
    owners, spans = [PROMPT] * prompt_length, []
    for owner, branch in enumerate(branches):
        spans.append((len(ids), len(ids) + len(branch)))
        ids.extend(branch)
        positions.extend(range(prompt_length, prompt_length + len(branch)))
        owners.extend([owner] * len(branch))
    return Layout(ids, positions, owners, tuple(spans), prompt_length)


@dataclass(frozen=True)
class Tree:
    """Packed rows, ready to be passed to a causal model.

    Attributes:
        input_ids: (R, T), padded at the end.
        position_ids: (R, T).
        attention_mask: As `tree_mask` makes it.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Any


def pack(rows: Sequence[Layout], model: PreTrainedModel) -> Tree:
    """Make tensors of rows.

    Args:
        rows: At least one.
        model: Whose kernel, type and device they must suit.
    """
    num_tokens = max(len(row.ids) for row in rows)

    def padded(lists: Sequence[Sequence[int]], filling: int) -> Tensor:
        filled = [[*row, *[filling] * (num_tokens - len(row))] for row in lists]
        return torch.tensor(filled, device=model.device)

    return Tree(
        input_ids=padded([row.ids for row in rows], 0),
        position_ids=padded([row.positions for row in rows], 0),
        attention_mask=tree_mask(padded([row.owners for row in rows], PADDING), model),
    )


def tree_mask(owners_RT: Tensor, model: PreTrainedModel) -> Any:
    """Who sees whom: a token sees the prompt and its own branch, up to itself.

    Args:
        owners_RT: The owner of each token: `PROMPT`, a branch, or `PADDING`, which sees itself.
        model: Its attention kernel decides the form.

    Returns:
        For SDPA booleans, (R, 1, T, T); for eager attention numbers to be added to the scores,
        of the same shape; for FlexAttention a block mask, which takes memory for blocks alone.
    """
    kernel = model.config.get_text_config()._attn_implementation
    if kernel == "flex_attention":
        return _block_mask(owners_RT)
    num_tokens = owners_RT.shape[1]
    index_T = torch.arange(num_tokens, device=owners_RT.device)
    own_RTT = owners_RT[:, :, None] == owners_RT[:, None, :]
    sees_RTT = (index_T[:, None] >= index_T[None, :]) & (
        (own_RTT & (owners_RT != PADDING)[:, None, :]) | (owners_RT == PROMPT)[:, None, :]
    )
    # A row that sees nothing would be NaN, and NaN times a mask of 0 is NaN.
    sees_RTT |= torch.eye(num_tokens, dtype=torch.bool, device=owners_RT.device)
    if kernel == "sdpa":
        return sees_RTT[:, None]
    added = torch.zeros(sees_RTT.shape, dtype=model.dtype, device=owners_RT.device)
    return added.masked_fill_(~sees_RTT, torch.finfo(model.dtype).min)[:, None]


def _block_mask(owners_RT: Tensor) -> Any:
    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        owner, seen = owners_RT[row, query], owners_RT[row, key]
        shared = ((owner == seen) & (seen != PADDING)) | (seen == PROMPT)
        return ((query >= key) & shared) | (query == key)

    num_rows, num_tokens = owners_RT.shape
    return create_block_mask(
        sees, num_rows, None, num_tokens, num_tokens, device=owners_RT.device.type
    )


@contextmanager
def chunked_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let SDPA on a CPU attend from a few tokens at a time to those up to them.

    No token sees a later one: chunk by chunk, half of what a mask would only throw away is never
    computed. Heads that share keys share them in memory, too. On other devices and with other
    kernels attention stays as it is, and so it does where Transformers cannot exchange the kernel.

    Args:
        model: Rows under a `tree_mask` are given to it inside, without a cache.
    """
    exchangeable = model._can_set_attn_implementation()  # else it would warn of every batch
    on_cpu = model.device.type == "cpu"
    if model.config._attn_implementation != "sdpa" or not (exchangeable and on_cpu):
        yield
        return
    model.set_attn_implementation(_IN_CHUNKS)
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")


# Compiled, it would be built anew for every number of chunks.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend_in_chunks(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """In the form of Transformers' attention functions."""
    if any(rest.get(name) is not None for name in ("position_bias", "softcap")):
        return sdpa_attention_forward(  # knows what to do with them
            module, query, key, value, attention_mask, scaling=scaling, **rest
        )
    chunks = []
    for first in range(0, query.shape[2], _CHUNK):
        own, seen = slice(first, first + _CHUNK), slice(first + _CHUNK)
        chunk = scaled_dot_product_attention(
            query[:, :, own],
            key[:, :, seen],
            value[:, :, seen],
            attn_mask=attention_mask[:, :, own, seen],
            scale=scaling,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        chunks.append(chunk.transpose(1, 2))
    return torch.cat(chunks, dim=1), None


AttentionInterface.register(_IN_CHUNKS, _attend_in_chunks)


def refuses_tree_mask(model: PreTrainedModel) -> str | None:
    """Why a mask cannot say all about who sees whom in this model; None if it can.

    It cannot with attention kernels that build their own mask, with sliding windows, and with
    layers that carry a state from token to token.
    """
    config = model.config.get_text_config()
    declared = getattr(config, "layer_types", None)
    if declared and set(declared) != {"full_attention"}:
        return f"its layers are {', '.join(sorted(set(declared)))}"
    if not declared and getattr(config, "sliding_window", None) is not None:
        return "its attention slides a window"
    if config._attn_implementation not in _KERNELS:
        return f"its attention kernel {config._attn_implementation} takes no mask of ours"
    return None
