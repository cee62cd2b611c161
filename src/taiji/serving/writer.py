"""From prompts to replies: the policy in this process, or a server that speaks OpenAI's protocol.

The prompt is the one of `infer`, within the same budget of tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taiji.config.teachers import OpenAITeacher
from taiji.language.endpoint.generator import EndpointGenerator
from taiji.language.generate import TextGenerator, TransformersGenerator
from taiji.language.models import load_causal_lm, load_tokenizer
from taiji.language.prompt import ChatScaffold, Prompt
from taiji.reasoning.prompts import PromptFitter, prompt_fitter
from taiji.serving.run import ServedRun
from taiji.stages.parts.asked_models import sampling_of, text_row

RETRIED = frozenset({"http_error", "timeout"})
"""Statuses that say nothing of the user: the old features stay, and it is tried again."""


@dataclass(frozen=True)
class Written:
    """A reply.

    Attributes:
        row: Of `schema.TEXTS`.
        tokens: Of the prompt and the reply.
    """

    row: Mapping[str, Any]
    tokens: int


class Writer:
    """Asks the policy of a run.

    Raises:
        EngineError: The model cannot be loaded, or the endpoint not be used.
    """

    def __init__(self, run: ServedRun) -> None:
        recipe = run.recipe
        self._sampling = sampling_of(recipe)
        policy, engine = str(run.policy.absolute()), recipe.serve.engine
        self._generator: TextGenerator
        if isinstance(engine, OpenAITeacher):
            self._scaffold = ChatScaffold(load_tokenizer(policy))
            self._generator = EndpointGenerator(engine)
        else:
            model, tokenizer = load_causal_lm(policy, engine.dtype)
            self._scaffold = ChatScaffold(tokenizer)
            self._generator = TransformersGenerator(model, tokenizer, "policy", engine.batch_size)
        self._fitter: PromptFitter = prompt_fitter(recipe, self._scaffold)

    def fit(self, example: Mapping[str, Any]) -> tuple[Prompt, int]:
        """The prompt of an example, and the tokens that it and its reply cost at most."""
        prompt, _ = self._fitter.fit(example)
        return prompt, self._num_tokens(prompt) + self._sampling.max_new_tokens

    def write(
        self, examples: Sequence[Mapping[str, Any]], prompts: Sequence[Prompt]
    ) -> list[Written]:
        """A reply to each prompt.

        Raises:
            EngineError: The engine does not work at all.
        """
        replies = self._generator.generate(prompts, 1, self._sampling)
        return [
            Written(
                text_row(example["example_id"], "policy", reply),
                self._num_tokens(prompt) + reply.num_tokens,
            )
            for example, prompt, (reply,) in zip(examples, prompts, replies, strict=True)
        ]

    def _num_tokens(self, prompt: Prompt) -> int:
        return len(self._scaffold.prompt_ids(prompt))
