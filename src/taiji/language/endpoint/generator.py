"""Text from any server that speaks the OpenAI protocol.

A prompt goes out as messages, which the server tokenises, or as token ids, in which data cannot
become structure and which are those that the model was trained on. A call is known by its
content: what was answered once, in this run or an earlier attempt of it, is not asked again, and
equal calls of a batch are one. How a server is asked, and how long, is in `client`; how its
answers are read, in `protocol`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taiji.config.engines import OpenAIEngine
from taiji.config.teachers import OpenAITeacher
from taiji.language.endpoint.budget import Budget, Usage
from taiji.language.endpoint.call_store import CallStore, call_key
from taiji.language.endpoint.client import EndpointClient, Failure, Job
from taiji.language.endpoint.protocol import Answer, read_answer, read_text
from taiji.language.generate import Reply, Sampling
from taiji.language.prompt import ChatScaffold, Prompt

Place = tuple[int, int]  # of a reply: prompt, index
Asked = list[dict[str, str]] | list[int]  # messages, or token ids

_PLAIN = {"top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0}
"""Sampling by temperature alone, whatever defaults the model's folder brings to the server."""


@dataclass(frozen=True)
class Asking:
    """Which model of a server is asked, and how.

    Attributes:
        model: The server's name of it.
        scaffold: Makes token ids of prompts; None: prompts go out as messages.
        weights: Which weights it has; the server may hold others under this name later.
    """

    model: str
    scaffold: ChatScaffold | None = None
    weights: str = ""

    @property
    def path(self) -> str:
        """Where prompts go, below the base URL."""
        return "completions" if self.scaffold else "chat/completions"

    def asked(self, prompt: Prompt) -> Asked:
        """The prompt as it goes out."""
        return self.scaffold.prompt_ids(prompt) if self.scaffold else prompt.messages()

    def fields(self, asked: Asked) -> dict[str, Any]:
        """What a request says beside how to sample."""
        if self.scaffold is None:
            return {"model": self.model, "messages": asked}
        ends = {"stop_token_ids": [self.scaffold.end_id]}
        return {"model": self.model, "prompt": asked, **_PLAIN, **ends}

    def read(self, raw: bytes) -> Answer:
        """The answer in the body of a response."""
        return read_text(raw) if self.scaffold else read_answer(raw)


class EndpointGenerator:
    """A server as a `TextGenerator`.

    Args:
        section: Where it is, how patient to be, what it may cost. Its `temperature` and
            `max_new_tokens` are not read here: they come with each `Sampling`.
        store: What earlier attempts have paid for. None: nothing is kept.
        asking: Which model, and how; None: the section's, by messages.

    Attributes:
        name: The model's name at the endpoint.

    Raises:
        ConfigError: The address cannot be used.
        EngineError: httpx is missing, or the key must not travel to this address.
    """

    def __init__(
        self,
        section: OpenAITeacher | OpenAIEngine,
        store: CallStore | None = None,
        asking: Asking | None = None,
    ) -> None:
        self._asking = asking or Asking(section.model or "")
        self.name = self._asking.model
        self._extra = section.extra_body
        self._client = EndpointClient(section, self.name)
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
        asked = [self._asking.asked(prompt) for prompt in prompts]
        opening = [prompt.prefill if self._asking.scaffold else "" for prompt in prompts]
        places: dict[str, list[Place]] = defaultdict(list)
        for p, content in enumerate(asked):
            for i in range(n):
                places[self._call_key(content, i, sampling)].append((p, i))
        for key in list(places):
            if self._store and (answer := self._store.get(key)):
                batch.fill(places.pop(key), answer.reply)
        calls = [(key, asked[p], i) for key, ((p, i), *_) in places.items()]

        def on_outcome(number: int, outcome: Answer | Failure) -> None:
            key, content, _ = calls[number]
            batch.fill(places[key], self._keep(key, content, sampling, outcome))

        if calls:
            bodies = (self._body(content, i, sampling) for _, content, i in calls)
            allowed, read = self._budget.check, self._asking.read
            job = Job(self._asking.path, bodies, read, on_outcome, allowed)
            try:
                self._client.ask(job)
            finally:
                if self._store:
                    self._store.sync()
        return [
            [replace(reply, text=begun + reply.text) if reply.text else reply for reply in row]
            for begun, row in zip(opening, batch.replies(), strict=True)
        ]

    def _keep(self, key: str, asked: Asked, sampling: Sampling, outcome: Answer | Failure) -> Reply:
        """Account for an outcome, and make a reply of it."""
        if isinstance(outcome, Failure):
            answer = Answer(Reply("", outcome.status, 0), None)
            if not outcome.paid:
                return answer.reply
        else:
            answer = outcome
        usage = answer.usage or _most(asked, sampling)
        self._budget.note(usage)
        if self._store:
            self._store.put(key, self.name, answer.reply, usage)
        return answer.reply

    def _call_key(self, asked: Asked, index: int, sampling: Sampling) -> str:
        random = [sampling.seed, index] if sampling.temperature > 0 else []  # greedy: all the same
        how = [sampling.temperature, sampling.max_new_tokens, *random]
        weights = [self._asking.weights] if self._asking.weights else []
        return call_key([self.name, asked, how, self._extra, *weights])

    def _body(self, asked: Asked, index: int, sampling: Sampling) -> dict[str, Any]:
        body: Mapping[str, Any] = {
            **self._asking.fields(asked),
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


def _most(asked: Asked, sampling: Sampling) -> Usage:
    """What a call can have cost at most where the server counts nothing: a token has a byte."""
    num_tokens = sum(len(t["content"].encode()) if isinstance(t, dict) else 1 for t in asked)
    return Usage(num_tokens, sampling.max_new_tokens)
