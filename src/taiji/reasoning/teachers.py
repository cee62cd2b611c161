"""RUPR's teachers: whoever is shown the true next item and writes chains that lead to it.

Two kinds: a language model, local or behind an endpoint, and a deterministic writer that
argues from facts. Neither writes the tags or the answer; our code puts them around.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from taiji import config
from taiji.config.text import TextSection
from taiji.data.item_text import item_text
from taiji.errors import ConfigError
from taiji.language.completions import list_answer, split_chain, without_opening
from taiji.language.encode import SentenceEncoder, TextEncoder
from taiji.language.endpoint.call_store import CallStore
from taiji.language.endpoint.generator import EndpointGenerator
from taiji.language.engines import open_generator
from taiji.language.generate import Reply, Sampling, TextGenerator
from taiji.language.prompt import THINK_OPEN, Prompt
from taiji.reasoning.evidence import write_chains, write_direct, write_readings
from taiji.reasoning.history_lines import READ_TEMPLATES
from taiji.reasoning.prompts import direct_prompt, rupr_prompt
from taiji.safe_text import defang
from taiji.templates import Templates

OnProgress = Callable[[int, int], None]

_KEPT_VECTORS = 65_536  # 100 MB of MiniLM's

_TAG = re.compile(r"</?[A-Za-z|]")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")


@dataclass(frozen=True)
class TeacherTask:
    """One example to explain.

    Attributes:
        example: A row of `schema.EXAMPLES`, its history cut to what the student's prompt shows.
        target: The true next item, a row of `schema.ITEMS`.
        mode: `direct`: the teacher must not look at the target; its text ends in an answer of
            its own, which `prompts.split_own_answer` takes off.
        others: Further true items, where an answer names several.
        num_answers: How many the student is asked for; a basket may hold fewer.
    """

    example: Mapping[str, Any]
    target: Mapping[str, Any]
    mode: Literal["rupr", "direct"] = "rupr"
    others: Sequence[Mapping[str, Any]] = ()
    num_answers: int = 1

    @property
    def answer(self) -> str:
        """The true answer as text: `title; level 1; level 2; level 3`.

        Where several are asked for it is a list, of one line too if no other is known.
        """
        if self.num_answers == 1:
            return item_text(self.target)
        return list_answer([item_text(item) for item in (self.target, *self.others)])


class Teacher(Protocol):
    """Writes k chains of thought for each task."""

    @property
    def name(self) -> str:
        """As it stands in the candidates table and on the model card."""

    def write(
        self, tasks: Sequence[TeacherTask], k: int, on_progress: OnProgress | None = None
    ) -> list[list[Reply]]:
        """k replies for each task, in order; the text of a reply is a chain and nothing else."""


class EvidenceTeacher:
    """Argues from facts in the prompt, strong evidence first. Deterministic.

    Args:
        purchases: Items are bought; else they are read, watched, clicked or liked.
        encoder: By whose vectors a clause of the profile can mean an item; None: words alone.
        only_meant: Argue from such clauses alone, for each item of the answer; needs an encoder.
    """

    name = "evidence"

    def __init__(
        self,
        *,
        purchases: bool = True,
        encoder: TextEncoder | None = None,
        only_meant: bool = False,
    ) -> None:
        self._purchases, self._encoder, self._only_meant = purchases, encoder, only_meant
        self._vector = lru_cache(_KEPT_VECTORS)(self._encode_one)  # users say the same things

    def write(
        self, tasks: Sequence[TeacherTask], k: int, on_progress: OnProgress | None = None
    ) -> list[list[Reply]]:
        """k chains for each task, from the strongest evidence to the weakest."""
        replies: list[list[Reply]] = []
        for task in tasks:
            chains = self._chains(task, k)
            replies.append(
                [Reply(chain, "ok" if chain else "empty", len(chain.split())) for chain in chains]
            )
            if on_progress is not None:
                on_progress(len(replies), len(tasks))
        return replies

    def _chains(self, task: TeacherTask, k: int) -> list[str]:
        if task.mode == "direct":
            return write_direct(task.example, k, purchases=self._purchases)
        if self._only_meant:
            targets = (task.target, *task.others)
            return write_readings(
                task.example, targets, k, self._nearest, purchases=self._purchases
            )
        nearest = None if self._encoder is None else self._nearest
        return write_chains(
            task.example, task.target, k, purchases=self._purchases, nearest=nearest
        )

    def _nearest(self, clauses: Sequence[str], name: str) -> tuple[int, float]:
        cosine_N = np.stack([self._vector(clause) for clause in clauses]) @ self._vector(name)
        return int(cosine_N.argmax()), float(cosine_N.max())

    def _encode_one(self, text: str) -> NDArray[np.float32]:
        assert self._encoder is not None, "asked for where there is one"
        (vector_D,) = self._encoder.encode([text])
        return np.asarray(vector_D, dtype=np.float32)


class LanguageModelTeacher:
    """A text generator that is asked for the reasoning alone.

    Args:
        generator: A local model or an endpoint.
        sampling: Length, temperature and seed; the k chains of a task are its k samples.
        templates: The words of its prompt.
    """

    def __init__(self, generator: TextGenerator, sampling: Sampling, templates: Templates) -> None:
        self._generator = generator
        self._sampling = sampling
        self._templates = templates
        self.name = generator.name

    def write(
        self, tasks: Sequence[TeacherTask], k: int, on_progress: OnProgress | None = None
    ) -> list[list[Reply]]:
        """k cleaned samples for each task; see `clean` for what becomes of their text."""
        prompts = [_prompt(task, self._templates) for task in tasks]
        replies = self._generator.generate(prompts, k, self._sampling, on_progress)
        return [[clean(reply) for reply in group] for group in replies]


def _prompt(task: TeacherTask, templates: Templates) -> Prompt:
    if task.mode == "direct":
        return direct_prompt(task.example, templates)
    return rupr_prompt(task.example, task.answer, templates)


def clean(reply: Reply) -> Reply:
    """Make a model's reply a chain: one paragraph of whole sentences, without any tag.

    A model that thinks before it writes is quoted from after its last `</think>`; only where
    nothing whole follows, its thoughts are the chain. The text ends where the model begins a tag
    of its own. A reply that ran into the token limit is cut back to its last whole sentence and
    is then `ok`; without one it stays `truncated`, and so do thoughts that ran into it. Nothing
    left is `empty`. A reply that failed keeps its status.
    """
    if reply.status not in ("ok", "truncated"):
        return Reply("", reply.status, reply.num_tokens)
    thought, written = split_chain(reply.text)
    cut = reply.status == "truncated"
    if thought is not None:
        chain = _chain(written, cut, reply.num_tokens)
        if chain.status == "ok":
            return chain
        return _chain(thought, False, reply.num_tokens)
    chain = _chain(written, cut, reply.num_tokens)
    if cut and chain.status == "ok" and written.lstrip().startswith(THINK_OPEN.strip()):
        return replace(chain, status="truncated")  # it was still thinking
    return chain


def _chain(text: str, cut: bool, num_tokens: int) -> Reply:
    """The sentences of `text` up to its first tag; whole ones if it was cut in the middle."""
    raw = without_opening(text)
    before_tag = _TAG.split(raw, maxsplit=1)[0]
    chain = defang(" ".join(before_tag.split()))
    if cut and before_tag == raw:
        ends = [match.end() for match in _SENTENCE_END.finditer(chain)]
        if not ends:
            return Reply(chain, "truncated" if chain else "empty", num_tokens)
        chain = chain[: ends[-1]]
    return Reply(chain, "ok" if chain else "empty", num_tokens)


def build_teacher(
    section: config.Teacher, text: TextSection, seed: int, calls: Path | None = None
) -> Teacher:
    """The teacher that the recipe names, asked in the recipe's language.

    Args:
        section: Which one.
        text: The language and the words of its prompt.
        seed: Where a sampled reply's randomness comes from.
        calls: The folder of what an endpoint was paid for; see `CallStore`.

    Raises:
        ConfigError: The evidence teacher cannot read the history lines of this recipe.
        EngineError: Its model cannot be loaded or its endpoint cannot be used.
    """
    if isinstance(section, config.EvidenceTeacher):
        _require_readable(text)
        encoder = None if section.encoder is None else SentenceEncoder(section.encoder)
        purchases = text.unsaid_kind == "purchase"
        return EvidenceTeacher(purchases=purchases, encoder=encoder, only_meant=section.only_meant)
    sampling = Sampling(section.max_new_tokens, section.temperature, seed)
    templates = text.resolved()
    return LanguageModelTeacher(build_generator(section, calls), sampling, templates)


def build_generator(
    section: config.TransformersTeacher | config.VllmTeacher | config.OpenAITeacher,
    calls: Path | None = None,
) -> TextGenerator:
    """The text generator behind a teacher that is a language model."""
    if isinstance(section, config.OpenAITeacher):  # its tokenizer is its own business
        return EndpointGenerator(section, CallStore(calls) if calls else None)
    return open_generator(section, section.model, name=section.model)


def _require_readable(text: TextSection) -> None:
    """The evidence teacher reads history lines and writes chains in English, in our words."""
    if text.language != "en":
        raise ConfigError(
            f"distill.teacher: evidence writes English only, and data.text.language is "
            f"{text.language}: choose the teacher transformers or openai"
        )
    replaced = sorted(READ_TEMPLATES & set(text.templates))
    if replaced:
        raise ConfigError(
            f"distill.teacher: evidence reads history lines by our words, and "
            f"data.text.templates replaces {', '.join(replaced)}: choose the teacher "
            "transformers or openai, or leave them"
        )
