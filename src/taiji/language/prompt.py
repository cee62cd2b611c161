"""From a prompt in words to token ids in which data can never be structure.

A prompt is made of two things: the scaffold, which is the chat template and our tags, and
data, which comes from logs or from a model. `ChatScaffold` tokenises them apart. The scaffold
goes through the model's tokenizer, control tokens and all. Data goes through a copy of it that
knows no added token, so the text `<|im_end|>` in a title becomes a few harmless pieces.

The ids therefore differ from those of tokenising the whole string at once, also in innocent
prompts: no token reaches across a border between scaffold and data. This is wanted. A token
that is half ours and half a stranger's would let data choose how our part is read; and with
fixed borders a prompt and its completion are cut the same way in SFT, perplexity, alignment
and inference, whatever the words. The cost is a token or so per border: put borders at line
breaks.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from jinja2 import TemplateError
from tokenizers import Tokenizer

from taiji.errors import EngineError
from taiji.safe_text import defang

if TYPE_CHECKING:  # a second of imports, which whoever only reads a completion has no use for
    from transformers import PreTrainedTokenizerBase

THINK_OPEN = "<think>\n"
THINK_CLOSE_ANSWER_OPEN = "\n</think>\n<answer>\n"
ANSWER_CLOSE = "\n</answer>"


@dataclass(frozen=True)
class Segment:
    """A stretch of the user's turn.

    Attributes:
        text: The words; lines are kept.
        data: True for what comes from logs or a model: it never becomes a control token.
            False for our own fixed words, which are tokenised like the template.
    """

    text: str
    data: bool = True


@dataclass(frozen=True)
class Prompt:
    """One question to a language model.

    Attributes:
        system: Our own instructions.
        user: The user's turn, in order.
        prefill: How the assistant's turn begins, for example `"<think>\\n"`; ours as well.
    """

    system: str
    user: tuple[Segment, ...]
    prefill: str = ""

    def messages(self) -> list[dict[str, str]]:
        """The prompt for a remote chat endpoint, which tokenises on its own.

        There only the first fence holds, so data is defanged here once more, line by line.
        The protocol has no field for a prefill; the endpoint begins its own turn.
        """
        user = "".join(_defang_lines(s.text) if s.data else s.text for s in self.user)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": user}]


@dataclass(frozen=True)
class CompletionIds:
    """An assistant's turn as token ids; the answer is `ids[answer_start:answer_stop]`."""

    ids: list[int]
    answer_start: int
    answer_stop: int


class ChatScaffold:
    """The chat template of one tokenizer, cut at the places where contents go.

    Attributes:
        control_ids: Every id that the tokenizer gives to an added token, marked special or
            not (`</think>` often is not), and its special ids.
        end_id: The token that ends the assistant's turn in this template.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Cut the template once.

        Raises:
            EngineError: The tokenizer has no fast backend or no chat template that shows
                both turns.
        """
        self._tokenizer = tokenizer
        self.control_ids = frozenset(tokenizer.added_tokens_decoder) | frozenset(
            tokenizer.all_special_ids
        )
        self._plain = _without_added_tokens(tokenizer)
        head, middle, tail, end = _cut_template(tokenizer)
        self._head_ids = self._scaffold_ids(head)
        self._middle_ids = self._scaffold_ids(middle)
        # Some templates of reasoning models open the chain; here the chain opens itself.
        self._tail_ids = self._scaffold_ids(tail.removesuffix(THINK_OPEN))
        end_ids = self._scaffold_ids(end)
        ends = end_ids and end_ids[0] in self.control_ids
        self.end_id: int = end_ids[0] if ends else _eos_id(tokenizer)

    def data_ids(self, text: str) -> list[int]:
        """Token ids of `text` as plain words: never a control id, whatever the text.

        Where the vocabulary itself would give a control id, the text is cut inside that token
        and its parts are tokenised. A single character that only a control id could stand for
        (an unknown one, in a vocabulary without bytes) is left out.
        """
        ids: list[int] = []
        todo = [text.encode("utf-8", "replace").decode("utf-8")]
        while todo:
            part = todo.pop()
            encoding = self._plain.encode(part, add_special_tokens=False)
            if self.control_ids.isdisjoint(encoding.ids):
                ids.extend(encoding.ids)
            elif len(part) > 1:
                spans = [
                    span
                    for id_, span in zip(encoding.ids, encoding.offsets, strict=True)
                    if id_ in self.control_ids
                ]
                todo.extend(reversed(_cut_inside(part, spans)))
        return ids

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of the whole prompt, ready for generation.

        The control ids in it are the template's own (and those of our fixed words), in the
        template's order, whatever the data.
        """
        ids = [*self._head_ids, *self.data_ids(prompt.system), *self._middle_ids]
        for data, run in groupby(prompt.user, key=lambda segment: segment.data):
            text = "".join(segment.text for segment in run)
            ids.extend(self.data_ids(text) if data else self._scaffold_ids(text))
        return [*ids, *self._tail_ids, *self._scaffold_ids(prompt.prefill)]

    def completion_ids(self, cot: str, answer: str) -> CompletionIds:
        """Token ids of `<think>`, chain, `</think>`, `<answer>`, answer, `</answer>`, end of turn.

        They follow the ids of a prompt without prefill. The tags are cut as for a prefill of
        `"<think>\\n"`, so a prompt with that prefill is a prefix of prompt and completion.
        """
        before = [
            *self._scaffold_ids(THINK_OPEN),
            *self.data_ids(cot),
            *self._scaffold_ids(THINK_CLOSE_ANSWER_OPEN),
        ]
        answer_ids = self.data_ids(answer)
        after = [*self._scaffold_ids(ANSWER_CLOSE), self.end_id]
        stop = len(before) + len(answer_ids)
        return CompletionIds([*before, *answer_ids, *after], len(before), stop)

    def _scaffold_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False) if text else []
        return ids


def _defang_lines(text: str) -> str:
    return "\n".join(defang(line) for line in text.split("\n"))


def _without_added_tokens(tokenizer: "PreTrainedTokenizerBase") -> Tokenizer:
    """A copy of the fast tokenizer that has never heard of an added token."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise EngineError(
            f"tokenizer {type(tokenizer).__name__}: has no fast backend, so data cannot be kept"
            " apart from control tokens: use a model with a tokenizer.json"
        )
    return _bare(backend.to_str())


@lru_cache(maxsize=4)  # half a second each, and every stage and generator wants one
def _bare(serialised: str) -> Tokenizer:
    state = json.loads(serialised)
    state |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(state))


def _cut_inside(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Cut `text` around and in the middle of each span, into at least two parts."""
    cuts = {0, len(text)}
    for start, stop in spans:
        cuts |= {start, (start + stop) // 2, stop}
    if len(cuts) == 2:  # spans that point nowhere: halve, so that it ends
        cuts.add(len(text) // 2)
    borders = sorted(cuts)
    return [text[a:b] for a, b in pairwise(borders)]


def _eos_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    if not isinstance(tokenizer.eos_token_id, int):
        raise EngineError("tokenizer: has no end-of-sequence token: set one in its folder")
    return tokenizer.eos_token_id


def _cut_template(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, str, str, str]:
    """The template's text before system, between, after user, and after the assistant.

    Contents are stood in for by markers that no template can contain, so nothing that a
    template does to contents (default system prompts, trimming, dates) depends on data. Where
    a template has no system turn, the system text opens the user's.
    """
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise EngineError(f"model {name!r}: has no chat template: use an instruction-tuned one")
    system, user, reply = (f"x{uuid.uuid4().hex}" for _ in range(3))
    separate = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    merged = [{"role": "user", "content": f"{system}\n\n{user}"}]
    for turns in (separate, merged):
        answered = [*turns, {"role": "assistant", "content": reply}]
        try:
            asked, told = _render(tokenizer, turns, True), _render(tokenizer, answered, False)
        except TemplateError:  # how a template says that it has no system turn
            continue
        if asked.count(system) == asked.count(user) == 1 and system in asked.partition(user)[0]:
            head, _, rest = asked.partition(system)
            middle, _, tail = rest.partition(user)
            return head, middle, tail, told.partition(reply)[2]
    raise EngineError(
        f"model {name!r}: its chat template does not show system and user: use another"
    )


def _render(tokenizer: "PreTrainedTokenizerBase", turns: list[dict[str, str]], ask: bool) -> str:
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
    assert isinstance(text, str)  # one conversation, not tokenised
    return text
