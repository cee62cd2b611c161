"""Text from a language model, behind one protocol; here by a local model.

The decoding loop is our own, because of three promises that a general `generate` does not
make. A reply depends on the prompt, its index and the seed alone: every row draws from its own
stream of random numbers, so batches and shards can be cut in any way and a resumed run writes
the same text. Sampling is plain: temperature and nothing else, whatever defaults a model's
folder brings. And n replies to one prompt compute the prompt once.

Shape suffixes: P prompts, R rows (replies being written), T tokens, V vocabulary.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from taiji.errors import DivergenceError, EngineError
from taiji.language.completions import Status
from taiji.language.growing_cache import growing_cache
from taiji.language.prompt import ChatScaffold, Prompt


@dataclass(frozen=True)
class Sampling:
    """How to write.

    Attributes:
        max_new_tokens: The longest reply.
        temperature: 0 is greedy: always the likeliest token.
        seed: Where the randomness comes from.
    """

    max_new_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: The assistant's turn, a prefill included, without control tokens.
        status: `ok` if the model ended its turn itself.
        num_tokens: Tokens written, the end of turn included.
    """

    text: str
    status: Status
    num_tokens: int


class TextGenerator(Protocol):
    """Anything that answers prompts."""

    name: str

    def generate(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Reply]]:
        """Write n replies to each prompt, in the order of the prompts.

        Args:
            prompts: May be empty.
            n: At least 1. Greedy replies to one prompt are all the same.
            sampling: How to write.
            on_progress: Called with the number of prompts answered and of all.
        """


@dataclass
class _Row:
    """One reply on its way."""

    prompt: int
    noise: torch.Generator
    ids: list[int] = field(default_factory=list)
    ended: bool = False


class TransformersGenerator:
    """A local causal model.

    Attributes:
        name: What manifests call it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        batch_size: int = 32,
    ) -> None:
        """Prepare the scaffold.

        Args:
            model: Is used where it lies, in evaluation mode.
            tokenizer: Its own.
            name: What manifests call it.
            batch_size: Rows at a time: replies, not prompts. On a CPU 32 decodes a third more
                tokens per second than 16, and 64 no more than 32.
        """
        self.name = name
        self._model = model
        self._tokenizer = tokenizer
        self._scaffold = ChatScaffold(tokenizer)
        self._batch_size = batch_size
        self._end_ids = frozenset({self._scaffold.end_id}) | _declared_ends(model, tokenizer)

    def generate(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Reply]]:
        """See `TextGenerator.generate`; batches hold prompts of like length.

        Raises:
            EngineError: A prompt with its reply is longer than the model's window.
            DivergenceError: The model's logits are not numbers.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        prompt_ids = [self._scaffold.prompt_ids(prompt) for prompt in prompts]
        self._check_window(prompt_ids, sampling.max_new_tokens)
        order = sorted(range(len(prompts)), key=lambda p: len(prompt_ids[p]))
        step = max(1, self._batch_size // n)
        replies: list[list[Reply]] = [[] for _ in prompts]
        nn.Module.eval(self._model)
        for start in range(0, len(order), step):
            batch = order[start : start + step]
            for row in self._write(batch, prompt_ids, n, sampling):
                replies[row.prompt].append(self._reply(prompts[row.prompt].prefill, row))
            if on_progress:
                on_progress(min(start + step, len(order)), len(order))
        return replies

    @torch.inference_mode()
    def _write(
        self, batch: Sequence[int], prompt_ids: Sequence[list[int]], n: int, sampling: Sampling
    ) -> list[_Row]:
        """Decode all rows of a batch; a row that has ended leaves the computation."""
        device = self._model.device
        input_ids, mask = _pad_left([prompt_ids[p] for p in batch], device)
        rows = [
            _Row(p, _row_generator(prompt_ids[p], i, sampling.seed, device))
            for p in batch
            for i in range(n)
        ]
        position_ids = (mask.cumsum(-1) - 1).clamp_min(0)
        cache = growing_cache(self._model.config)
        logits_RV = self._forward(input_ids, mask, position_ids, cache)
        if n > 1:
            cache.batch_repeat_interleave(n)
            logits_RV, mask = logits_RV.repeat_interleave(n, 0), mask.repeat_interleave(n, 0)
        live = rows
        while True:
            tokens = _choose(logits_RV, live, sampling.temperature)
            for row, token in zip(live, tokens, strict=True):
                row.ids.append(token)
                row.ended = token in self._end_ids
            keep = [i for i, row in enumerate(live) if not row.ended]
            if not keep or len(live[keep[0]].ids) == sampling.max_new_tokens:
                return rows
            if len(keep) < len(live):
                live = [live[i] for i in keep]
                chosen = torch.tensor(keep, device=device)
                cache.batch_select_indices(chosen)
                mask = mask[chosen]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
            last = torch.tensor([[row.ids[-1]] for row in live], device=device)
            logits_RV = self._forward(last, mask, mask.sum(-1, keepdim=True) - 1, cache)

    def _forward(
        self, input_ids: Tensor, mask: Tensor, position_ids: Tensor, cache: Cache
    ) -> Tensor:
        """Logits of the last token (R, V) in float32; the cache takes the tokens in."""
        out = self._model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_RV: Tensor = out.logits[:, -1].float()
        if logits_RV.isnan().any():
            raise DivergenceError(f"{self.name}: logits are not numbers: the weights are broken")
        return logits_RV

    def _reply(self, prefill: str, row: _Row) -> Reply:
        text = self._tokenizer.decode(
            row.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)  # one row
        status: Status = "ok" if row.ended else "truncated"
        return Reply(prefill + text, status if text.strip() else "empty", len(row.ids))

    def _check_window(self, prompt_ids: Sequence[list[int]], max_new_tokens: int) -> None:
        window = getattr(self._model.config, "max_position_embeddings", None)
        longest = max(map(len, prompt_ids), default=0)
        if window is not None and longest + max_new_tokens > window:
            raise EngineError(
                f"{self.name}: a prompt of {longest} tokens and a reply of {max_new_tokens} exceed"
                f" its window of {window}: lower max_prompt_tokens or the reply's limit"
            )


def _choose(logits_RV: Tensor, rows: Sequence[_Row], temperature: float) -> list[int]:
    """The next token of each row.

    The largest of logits / temperature + Gumbel noise is a draw from the softmax, and noise
    can come from each row's own stream.
    """
    if temperature > 0:
        noise_RV = torch.empty_like(logits_RV)
        for noise_V, row in zip(noise_RV, rows, strict=True):
            noise_V.exponential_(generator=row.noise)
        logits_RV = logits_RV / temperature - noise_RV.log_()
    return [int(token) for token in logits_RV.argmax(-1)]


def _row_generator(
    prompt_ids: Sequence[int], index: int, seed: int, device: torch.device
) -> torch.Generator:
    """A stream of random numbers of its own for each reply."""
    return torch.Generator(device).manual_seed(reply_seed(prompt_ids, index, seed, num_bytes=8))


def reply_seed(prompt_ids: Sequence[int], index: int, seed: int, *, num_bytes: int) -> int:
    """A number that belongs to (seed, prompt, index) and nothing else.

    It has one bit less than `num_bytes`, because whoever takes it reads it as signed.
    """
    key = hashlib.blake2b(array("q", [seed, index, *prompt_ids]).tobytes(), digest_size=num_bytes)
    return int.from_bytes(key.digest(), "big") >> 1


def _pad_left(rows: Sequence[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask (P, T), so that all rows end at the same column."""
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + row for row in rows]  # masked: any id serves
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _declared_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids by which the model's folder says that a text is over."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    ends = [*declared] if isinstance(declared, list) else [declared]
    return frozenset(id_ for id_ in [*ends, tokenizer.eos_token_id] if isinstance(id_, int))
