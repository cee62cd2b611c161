"""Log-probabilities of the true answer under each chain of a prompt, for Eq. 1.

The prompt is computed once: its chains lie behind it in one row, under a mask by which each
sees the prompt and itself (`language.tree`). Logits are computed at the answers' positions
alone. With k branches of s tokens and a prompt of P, sharing saves up to k(P+s)/(P+ks);
`benchmarks/perplexity.py` measures what comes of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from taiji.arrays import Array
from taiji.errors import DivergenceError
from taiji.language.compiled import compile_blocks
from taiji.language.output_head import has_plain_head
from taiji.language.prompt import CompletionIds
from taiji.language.tree import Layout, chunked_attention, lay_out, pack, refuses_tree_mask

OnProgress = Callable[[int, int], None]

_BATCH_TOKENS = 2048
"""Of all rows of a batch: larger products run a tenth faster on two cores, up to here."""


@dataclass(frozen=True)
class Question:
    """A prompt, and the chains under which its answer is to be scored.

    Attributes:
        prompt_ids: The student's prompt. It never contains the answer.
        branches: One completion for each chain; what follows the answer is not computed.
    """

    prompt_ids: Sequence[int]
    branches: Sequence[CompletionIds]


class Scorer(Protocol):
    """Anything that can say how likely an answer is."""

    def score(
        self, questions: Sequence[Question], on_progress: OnProgress | None = None
    ) -> list[list[Array]]:
        """log P(y_t | prompt, chain, y_<t) of the answer's tokens, for each branch of each."""


class ModelScorer:
    """A local causal model. It takes a few questions of like length at a time, one row each.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._packs = refuses_tree_mask(model) is None and has_plain_head(model)

    def score(
        self, questions: Sequence[Question], on_progress: OnProgress | None = None
    ) -> list[list[Array]]:
        """See `Scorer.score`.

        Raises:
            DivergenceError: The model gives a log-probability that is not finite.
        """
        scores: list[list[Array]] = [[] for _ in questions]
        done = 0
        for batch in _batches(questions) if self._packs else [[i] for i in range(len(questions))]:
            asked = [questions[number] for number in batch]
            found = _packed(self._model, asked) if self._packs else _one_by_one(self._model, asked)
            for number, logprobs in zip(batch, found, strict=True):
                scores[number] = logprobs
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(questions))
        if not all(np.isfinite(logprobs).all() for logprobs in chain.from_iterable(scores)):
            raise DivergenceError("scoring: a log-probability is not finite: the scorer is broken")
        return scores


def compiled_scorer(model: PreTrainedModel) -> ModelScorer:
    """A scorer whose blocks are compiled: for minutes of scoring or more.

    Args:
        model: As `ModelScorer` takes it; its blocks are changed in place.

    Raises:
        EngineError: See `compile_blocks`.
    """
    scorer = ModelScorer(model)
    branch = CompletionIds([0] * 8, answer_start=4, answer_stop=8)
    question = Question([0] * 16, [branch, branch])

    def rehearse() -> None:
        scorer.score([question])  # a single row is a case of its own to the compiler
        scorer.score([question, question])

    compile_blocks(model, rehearse)
    return scorer


def _batches(questions: Sequence[Question]) -> Iterator[list[int]]:
    """Numbers of questions of like length, each batch within `_BATCH_TOKENS`."""

    def size(number: int) -> int:
        question = questions[number]
        return len(question.prompt_ids) + sum(b.answer_stop for b in question.branches)

    batch: list[int] = []
    for number in sorted(range(len(questions)), key=size):
        if batch and (len(batch) + 1) * size(number) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


@torch.inference_mode()
def _packed(model: PreTrainedModel, questions: Sequence[Question]) -> list[list[Array]]:
    rows, wanted = zip(*(_row(question) for question in questions), strict=True)
    tree = pack(rows, model)
    width = tree.input_ids.shape[1]
    decoder, head = model.get_decoder(), model.get_output_embeddings()  # type: ignore[no-untyped-call]
    with chunked_attention(model):
        output = decoder(
            input_ids=tree.input_ids,
            position_ids=tree.position_ids,
            attention_mask=_as_added(tree.attention_mask, model),
            use_cache=False,
        )
    places = [number * width + place for number, row in enumerate(wanted) for place in row]
    hidden_ND = output.last_hidden_state.flatten(0, 1)[torch.tensor(places, device=model.device)]
    branches = [branch for question in questions for branch in question.branches]
    logprobs_N = _logprobs(head(hidden_ND), branches)
    parts = iter(np.split(logprobs_N, np.cumsum([len(_answer(b)) for b in branches])[:-1]))
    return [[next(parts) for _ in question.branches] for question in questions]


def _row(question: Question) -> tuple[Layout, list[int]]:
    """A question's row, and the places in it that predict its answers' tokens."""
    branches = question.branches
    shared = _common_opening(branches)
    row = lay_out(
        [*question.prompt_ids, *branches[0].ids[:shared]],
        [branch.ids[shared : branch.answer_stop] for branch in branches],
    )
    places = (
        row.predictors(number)[branch.answer_start - shared :]
        for number, branch in enumerate(branches)
    )
    return row, [*chain.from_iterable(places)]


def _common_opening(branches: Sequence[CompletionIds]) -> int:
    """How many tokens before any answer all branches begin with: they join the prompt."""
    openings = [branch.ids[: branch.answer_start] for branch in branches]
    columns = enumerate(zip(*openings, strict=False))
    return next((i for i, ids in columns if len(set(ids)) > 1), min(map(len, openings)))


def _as_added(mask: Any, model: PreTrainedModel) -> Any:
    """On a CPU what SDPA would make of booleans anew in every layer."""
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool or mask.device.type != "cpu":
        return mask
    added = torch.zeros(mask.shape, dtype=model.dtype)
    return added.masked_fill_(~mask, float("-inf"))


@torch.inference_mode()
def _one_by_one(model: PreTrainedModel, questions: Sequence[Question]) -> list[list[Array]]:
    """For models that take no mask of ours, or do more than a product to get their logits."""
    found: list[list[Array]] = []
    for question in questions:
        found.append([])
        for branch in question.branches:
            ids = [*question.prompt_ids, *branch.ids[: branch.answer_stop]]
            output = model(
                input_ids=torch.tensor([ids], device=model.device),
                logits_to_keep=len(_answer(branch)) + 1,
                use_cache=False,
            )
            found[-1].append(_logprobs(output.logits[0, :-1], [branch]))
    return found


def _answer(branch: CompletionIds) -> list[int]:
    return branch.ids[branch.answer_start : branch.answer_stop]


def _logprobs(logits_NV: torch.Tensor, branches: Sequence[CompletionIds]) -> Array:
    """Of the answers' tokens, branch after branch."""
    ids = [*chain.from_iterable(_answer(branch) for branch in branches)]
    logits_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    picked_N = logits_NV.gather(1, torch.tensor(ids, device=logits_NV.device)[:, None])[:, 0]
    values: Array = (picked_N - logits_NV.logsumexp(dim=-1)).double().cpu().numpy()
    return values
