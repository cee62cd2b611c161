"""Completions of one prompt in one row, the prompt computed once.

GRPO repeats each prompt G times. With P prompt and C completion tokens a shared row holds
P + G C tokens in the place of G (P + C): at P = 13,000, C = 2,048 and G = 4 about a third.
Rows, positions and mask are those of `taiji.language.tree`, with one twist: the prompt's last
token opens every branch anew. So each completion token is predicted by the token before it in
the row, and any model that scores next-token labels can score the row.

Shape suffixes: B rollouts, C completion tokens, R shared rows, T tokens of a shared row.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from taiji.language.growing_cache import growing_cache
from taiji.language.tree import PADDING, PROMPT

IGNORED = -100  # the label of a token that is not scored


@dataclass(frozen=True)
class SharedRows:
    """A micro-batch with each run of equal prompts packed into one row.

    Attributes:
        input_ids_RT: Prompt, then the branches; padded at the end.
        position_ids_RT: Each branch counts on from the prompt.
        owners_RT: For `tree_mask`.
        labels_RT: The completion tokens; `IGNORED` elsewhere.
        places_BC: Where in the flattened R x T each completion token lies; 0 where there is none.
    """

    input_ids_RT: torch.Tensor
    position_ids_RT: torch.Tensor
    owners_RT: torch.Tensor
    labels_RT: torch.Tensor
    places_BC: torch.Tensor


def share_prompts(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, num_completion_tokens: int
) -> SharedRows | None:
    """Pack rollouts whose neighbours have the same prompt.

    Args:
        input_ids: B x (P + C), prompts padded on the left, completions on the right.
        attention_mask: 0 for padding.
        num_completion_tokens: C.

    Returns:
        The packed rows, or None if no two neighbours share a prompt.
    """
    starts = _group_starts(input_ids, attention_mask, num_completion_tokens)
    if len(starts) > len(input_ids):  # every group is a single rollout
        return None
    prompt_width = input_ids.shape[1] - num_completion_tokens
    real = attention_mask.bool()
    columns: dict[str, list[torch.Tensor]] = {
        "ids": [],
        "positions": [],
        "owners": [],
        "labels": [],
    }
    offsets = []
    for start, stop in pairwise(starts):
        prompt = input_ids[start, :prompt_width][real[start, :prompt_width]]
        completions = [
            input_ids[row, prompt_width:][real[row, prompt_width:]] for row in range(start, stop)
        ]
        offsets.append(_append_row(columns, prompt, completions))
    ids_RT, positions_RT, owners_RT, labels_RT = (
        pad_sequence(columns[name], batch_first=True, padding_value=padding)
        for name, padding in (
            ("ids", 0), ("positions", 0), ("owners", PADDING), ("labels", IGNORED)
        )
    )  # fmt: skip
    width = ids_RT.shape[1]
    first_B = torch.tensor(
        [row * width + offset for row, group in enumerate(offsets) for offset in group],
        device=input_ids.device,
    )
    column_C = torch.arange(num_completion_tokens, device=input_ids.device)
    places_BC = (first_B[:, None] + column_C) * real[:, prompt_width:]
    return SharedRows(ids_RT, positions_RT, owners_RT, labels_RT, places_BC)


def num_tokens_saved(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, num_completion_tokens: int
) -> int:
    """How many tokens `share_prompts` would spare the model."""
    starts = _group_starts(input_ids, attention_mask, num_completion_tokens)
    if len(starts) > len(input_ids):
        return 0
    real, width = attention_mask.sum(dim=1), input_ids.shape[1] - num_completion_tokens
    prompts = attention_mask[:, :width].sum(dim=1)
    branches = real - prompts + 1  # each opens with the prompt's last token
    longest = max(
        int(prompts[start] - 1 + branches[start:stop].sum()) for start, stop in pairwise(starts)
    )
    return input_ids.numel() - (len(starts) - 1) * longest


def _group_starts(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, num_completion_tokens: int
) -> list[int]:
    """First rows of the runs of equal prompts, and the number of rows at the end."""
    width = input_ids.shape[1] - num_completion_tokens
    prompts, masks = input_ids[:, :width], attention_mask[:, :width]
    same = ((prompts[1:] == prompts[:-1]) & (masks[1:] == masks[:-1])).all(dim=1).tolist()
    return [0, *(row for row, equal in enumerate(same, start=1) if not equal), len(input_ids)]


def _append_row(
    columns: dict[str, list[torch.Tensor]], prompt: torch.Tensor, completions: list[torch.Tensor]
) -> list[int]:
    """Add one shared row; return where each completion begins in it."""
    common, last = prompt[:-1], prompt[-1:]
    ids, labels = [common], [torch.full_like(common, IGNORED)]
    positions = [torch.arange(len(common), device=prompt.device)]
    owners, offsets, length = [torch.full_like(common, PROMPT)], [], len(common)
    for number, completion in enumerate(completions):
        branch = torch.cat([last, completion])
        ids.append(branch)
        labels += [torch.full_like(last, IGNORED), completion]
        positions.append(torch.arange(len(branch), device=prompt.device) + len(common))
        owners.append(torch.full_like(branch, number))
        offsets.append(length + 1)
        length += len(branch)
    for name, parts in (("ids", ids), ("positions", positions), ("owners", owners)):
        columns[name].append(torch.cat(parts))
    columns["labels"].append(torch.cat(labels))
    return offsets


@contextmanager
def shared_prefill(model: Any) -> Iterator[None]:
    """Within, `model.generate` computes each run of equal prompts once.

    The prompts but their last tokens are computed for one row of each run, and the cache is then
    dealt out to the others; from there `generate` goes on as ever, in a cache that does not copy
    itself for every token. A generation that wants another cache, none, or beams goes its own way.
    """
    generate = model.generate

    def sharing(*, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
        starts = _group_starts(input_ids, attention_mask, 0)
        is_plain = _takes_a_cache(kwargs.get("generation_config"))
        if is_plain and len(starts) <= len(input_ids) and input_ids.shape[1] > 1:
            kwargs["past_key_values"] = _prefill(model, input_ids, attention_mask, starts)
        return generate(input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    model.generate = sharing
    try:
        yield
    finally:
        del model.generate


def _takes_a_cache(config: GenerationConfig | None) -> bool:
    """Whether a generation goes on from a dynamic cache with one row for each row of its input."""
    if config is None:
        return True
    several = (config.num_beams or 1) > 1 or (config.num_return_sequences or 1) > 1
    return not several and not config.cache_implementation and config.use_cache is not False


def _prefill(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, starts: list[int]
) -> Any:
    first = torch.tensor(starts[:-1], device=input_ids.device)
    ids, mask = input_ids[first, :-1], attention_mask[first, :-1]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = growing_cache(model.config)
    model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    repeats = torch.tensor(starts, device=input_ids.device).diff()
    cache.batch_select_indices(
        torch.arange(len(first), device=ids.device).repeat_interleave(repeats)
    )
    return cache
