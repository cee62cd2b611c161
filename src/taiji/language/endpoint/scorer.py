"""Log-probabilities of answers (Eq. 1) from a server that tells those of a prompt.

The protocol's `/completions` with `echo` scores what is sent. It is sent as token ids of the
scorer's own tokenizer, so nothing in a title becomes structure and the answer's tokens are ours
to point at. vLLM takes ids; a server that takes text only answers with an error, which ends the
run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taiji.arrays import Array
from taiji.config.engines import EndpointSection
from taiji.errors import DivergenceError, EngineError
from taiji.language.endpoint.budget import Budget, Usage
from taiji.language.endpoint.client import EndpointClient, Failure, Job
from taiji.language.endpoint.protocol import NotAReplyError, read_json, read_usage
from taiji.language.scoring import OnProgress, Question


@dataclass(frozen=True)
class _Scored:
    """What a server says of one sequence of tokens; the first has nothing before it."""

    logprobs: Sequence[float | None]
    usage: Usage | None


class EndpointScorer:
    """A model behind an endpoint as a `Scorer`. One call for each branch.

    Args:
        section: Where it is, how patient to be, what it may cost.

    Raises:
        ConfigError: The address cannot be used.
        EngineError: httpx is missing, or the key must not travel to this address.
    """

    def __init__(self, section: EndpointSection) -> None:
        self._model = section.model
        self._client = EndpointClient(section, section.model)
        self._budget = Budget(section.budget, Usage(0, 0))

    def score(
        self, questions: Sequence[Question], on_progress: OnProgress | None = None
    ) -> list[list[Array]]:
        """See `Scorer.score`.

        Raises:
            EngineError: A call failed for good, the server does not score token ids, or the
                budget is used up.
            DivergenceError: A log-probability is not finite.
        """
        calls = [
            (q, [*question.prompt_ids, *branch.ids[: branch.answer_stop]], branch)
            for q, question in enumerate(questions)
            for branch in question.branches
        ]
        scores: dict[int, Array] = {}
        missing = [len(question.branches) for question in questions]

        def on_outcome(number: int, outcome: _Scored | Failure) -> None:
            q, ids, branch = calls[number]
            if isinstance(outcome, Failure):
                raise EngineError(f"scorer {self._model}: {outcome.complaint}")
            self._budget.note(outcome.usage or Usage(len(ids), 1))
            num_answer = branch.answer_stop - branch.answer_start
            scores[number] = self._answer_part(outcome.logprobs, len(ids), num_answer)
            missing[q] -= 1
            if on_progress and not missing[q]:
                on_progress(sum(not left for left in missing), len(questions))

        if calls:
            bodies = (self._body(ids) for _, ids, _ in calls)
            allowed = self._budget.check
            self._client.ask(Job("completions", bodies, _read_scored, on_outcome, allowed))
        grouped: list[list[Array]] = [[] for _ in questions]
        for number, (q, _, _) in enumerate(calls):
            grouped[q].append(scores[number])
        return grouped

    def _body(self, ids: list[int]) -> dict[str, object]:
        """`max_tokens` is 1 because some servers do not take 0."""
        return {
            "model": self._model,
            "prompt": ids,
            "echo": True,
            "logprobs": 1,
            "max_tokens": 1,
            "temperature": 0.0,
        }

    def _answer_part(
        self, logprobs: Sequence[float | None], num_ids: int, num_answer: int
    ) -> Array:
        if len(logprobs) not in (num_ids, num_ids + 1):  # some leave out the token they wrote
            raise EngineError(
                f"scorer {self._model}: {len(logprobs)} log-probabilities for {num_ids} tokens: "
                "the server does not score prompts of token ids: use vLLM, or a local scorer"
            )
        values = np.array(logprobs[num_ids - num_answer : num_ids], dtype=np.float64)
        if not np.isfinite(values).all():
            raise DivergenceError(
                f"scorer {self._model}: a log-probability is not finite: the scorer is broken"
            )
        return values


def _read_scored(raw: bytes) -> _Scored:
    """The body of a completion with `echo`."""
    payload = read_json(raw)
    try:
        (choice,) = payload["choices"]
        logprobs = choice["logprobs"]["token_logprobs"]
    except (KeyError, TypeError, ValueError) as error:
        raise NotAReplyError("without log-probabilities") from error
    if not isinstance(logprobs, list) or not all(
        value is None or type(value) in (int, float) for value in logprobs
    ):
        raise NotAReplyError("with log-probabilities that are no numbers")
    return _Scored(logprobs, read_usage(payload))
