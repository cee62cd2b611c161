"""Several continuations of one prompt in a single row, the prompt computed once.

The branches lie behind the prompt one after another. A mask lets each token see the prompt
and its own branch up to itself; position ids let each branch start right after the prompt. So
the logits equal those of running prompt + branch on its own, and k branches cost
P + k s tokens instead of k (P + s).

Shape suffix: T tokens of the packed row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tree:
    """A packed row, ready to be passed to a causal model.

    Attributes:
        input_ids: (1, T).
        position_ids: (1, T).
        attention_mask: (1, 1, T, T), added to the attention scores: 0, or the lowest number.
        spans: Where each branch lies in the row, as (start, stop).
        prompt_length: P; the prompt is the first P tokens.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    spans: tuple[tuple[int, int], ...]
    prompt_length: int

    def predictors(self, branch: int) -> list[int]:
        """Positions whose logits predict the tokens of a branch, one for each token.

        The first token is predicted by the last one of the prompt, wherever the branch lies.
        """
        start, stop = self.spans[branch]
        return [self.prompt_length - 1, *range(start, stop - 1)] if stop > start else []


def pack(
    prompt_ids: Sequence[int],
    branches: Sequence[Sequence[int]],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tree:
    """Pack a prompt and its branches into one row.

    Args:
        prompt_ids: At least one token.
        branches: Continuations, at least one; they do not see each other.
        dtype: The model's, which the additive mask must share.
        device: Where the model is.

    Raises:
        ValueError: There is no prompt or no branch.
    """
    if not prompt_ids or not branches:
        raise ValueError("pack needs a prompt of at least one token and at least one branch")
    prompt_length = len(prompt_ids)
    ids, positions, owners = list(prompt_ids), list(range(prompt_length)), [-1] * prompt_length
    spans = []
    for owner, branch in enumerate(branches):
        spans.append((len(ids), len(ids) + len(branch)))
        ids.extend(branch)
        positions.extend(range(prompt_length, prompt_length + len(branch)))
        owners.extend([owner] * len(branch))
    owner_T = torch.tensor(owners, device=device)
    index_T = torch.arange(len(ids), device=device)
    earlier = index_T[:, None] >= index_T[None, :]
    shared = (owner_T[:, None] == owner_T[None, :]) | (owner_T[None, :] == -1)
    mask = torch.zeros(len(ids), len(ids), dtype=dtype, device=device)
    mask.masked_fill_(~(earlier & shared), torch.finfo(dtype).min)
    return Tree(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        attention_mask=mask[None, None],
        spans=tuple(spans),
        prompt_length=prompt_length,
    )
