"""Text from any server that speaks the OpenAI chat protocol.

A call is known by its content: what was answered once, in this run or an earlier attempt of it,
is not asked again, and equal calls of a batch are one. How a server is asked, and how long, is
in `endpoint_client`; how its answers are read, in `chat_protocol`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taiji.config.teachers import OpenAITeacher
from taiji.language.endpoint.budget import Budget, Usage
from taiji.language.endpoint.call_store import CallStore, call_key
from taiji.language.endpoint.client import EndpointClient, Failure, Job
from taiji.language.endpoint.protocol import Answer, read_answer
from taiji.language.generate import Reply, Sampling
from taiji.language.prompt import Prompt

Place = tuple[int, int]  # of a reply: prompt, index
Messages = list[dict[str, str]]


class EndpointGenerator:
    """A chat endpoint as a `TextGenerator`.

    Args:
        section: Where it is, how patient to be, what it may cost. Its `temperature` and
            `max_new_tokens` are not read here: they come with each `Sampling`.
        store: What earlier attempts have paid for. None: nothing is kept.

    Attributes:
        name: The model's name at the endpoint.

    Raises:
        ConfigError: The address cannot be used.
        EngineError: httpx is missing, or the key must not travel to this address.
    """

    def __init__(self, section: OpenAITeacher, store: CallStore | None = None) -> None:
        self.name = section.model
        self._extra = section.extra_body
        self._client = EndpointClient(section)
        self._store = store
        self._budget = Budget(section.budget, store.spent(self.name) if store else Usage(0, 0))

    def generate(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Reply]]:
        """See `TextGenerator.generate`; each reply is a call of its own.

        A call that fails for good gives an empty reply whose status says why.

        Raises:
            EngineError: The key, the address or the model is refused; too many calls in a row
                have failed; or the budget is used up. What has arrived is in the store.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        batch = _Batch(len(prompts), n, on_progress)
        messages = [prompt.messages() for prompt in prompts]
        places: dict[str, list[Place]] = defaultdict(list)
        for p, turns in enumerate(messages):
            for i in range(n):
                places[self._call_key(turns, i, sampling)].append((p, i))
        for key in list(places):
            if self._store and (answer := self._store.get(key)):
                batch.fill(places.pop(key), answer.reply)
        calls = [(key, messages[p], i) for key, ((p, i), *_) in places.items()]

        def on_outcome(number: int, outcome: Answer | Failure) -> None:
            key, turns, _ = calls[number]
            batch.fill(places[key], self._keep(key, turns, sampling, outcome))

        if calls:
            bodies = (self._body(turns, i, sampling) for _, turns, i in calls)
            allowed = self._budget.check
            job = Job("chat/completions", bodies, read_answer, on_outcome, allowed)
            try:
                self._client.ask(job)
            finally:
                if self._store:
                    self._store.sync()
        return batch.replies()

    def _keep(
        self, key: str, messages: Messages, sampling: Sampling, outcome: Answer | Failure
    ) -> Reply:
        """Account for an outcome, and make a reply of it."""
        if isinstance(outcome, Failure):
            answer = Answer(Reply("", outcome.status, 0), None)
            if not outcome.paid:
                return answer.reply
        else:
            answer = outcome
        usage = answer.usage or _most(messages, sampling)
        self._budget.note(usage)
        if self._store:
            self._store.put(key, self.name, answer.reply, usage)
        return answer.reply

    def _call_key(self, messages: Messages, index: int, sampling: Sampling) -> str:
        random = [sampling.seed, index] if sampling.temperature > 0 else []  # greedy: all the same
        how = [sampling.temperature, sampling.max_new_tokens, *random]
        return call_key([self.name, messages, how, self._extra])

    def _body(self, messages: Messages, index: int, sampling: Sampling) -> dict[str, Any]:
        body: Mapping[str, Any] = {
            "model": self.name,
            "messages": messages,
            "temperature": sampling.temperature,
            "seed": (sampling.seed + index) % 2**31,
            "max_tokens": sampling.max_new_tokens,
            **self._extra,
        }
        return {field: value for field, value in body.items() if value is not None}


class _Batch:
    """The replies of one call of `generate`, as they come."""

    def __init__(
        self, num_prompts: int, n: int, on_progress: Callable[[int, int], None] | None
    ) -> None:
        self._rows: list[list[Reply | None]] = [[None] * n for _ in range(num_prompts)]
        self._missing = [n] * num_prompts
        self._answered = 0
        self._on_progress = on_progress

    def fill(self, places: Sequence[Place], reply: Reply) -> None:
        """Put a reply where it belongs, which is several places if calls were equal."""
        for p, i in places:
            self._rows[p][i] = reply
            self._missing[p] -= 1
            if not self._missing[p]:
                self._answered += 1
                if self._on_progress:
                    self._on_progress(self._answered, len(self._rows))

    def replies(self) -> list[list[Reply]]:
        """All of them."""
        return [[reply for reply in row if reply is not None] for row in self._rows]


def _most(messages: Messages, sampling: Sampling) -> Usage:
    """What a call can have cost at most where the server counts nothing: a token has a byte."""
    return Usage(sum(len(turn["content"].encode()) for turn in messages), sampling.max_new_tokens)
