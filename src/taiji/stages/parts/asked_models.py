"""A language model that is asked on behalf of a judge: what it writes, how likely it finds titles.

Work is cut into parts that are kept, so what was killed goes on, and the model is loaded only if
there is a part to do.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from taiji.config import Recipe
from taiji.language.completions import parse_completion
from taiji.language.generate import Reply, Sampling, TransformersGenerator
from taiji.language.models import load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.lists.answers import Opinion
from taiji.lists.likelihood import TitleLikelihood
from taiji.reasoning.prompts import PromptFitter, prompt_fitter
from taiji.schema import TEXTS
from taiji.stages.parts.context import Progress, StageContext
from taiji.store.files import Shards, read_parquet

_OPINION_ROWS = 8

OPINIONS = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("places", pa.list_(pa.int64()), nullable=False),  # rows of the catalogue
        pa.field("likelihood", pa.list_(pa.float64()), nullable=False),
        pa.field("anybody", pa.list_(pa.float64()), nullable=False),
    ]
)

Row = dict[str, Any]


class Respondent:
    """One model and what it has said so far.

    Args:
        name: As tables call it.
        source: Folder or Hub name of the model.
        recipe: Its prompts and how it decodes.
        folder: Where its parts lie; they must not outlive what they depend on.
        progress: Called as the parts are done.
    """

    def __init__(
        self, name: str, source: str | Path, recipe: Recipe, folder: Path, progress: Progress
    ) -> None:
        self.name = name
        self._source = source
        self._recipe = recipe
        self._folder = folder
        self._progress = progress

    def texts(self, what: str, examples: Sequence[Row]) -> list[Row]:
        """What the model writes: one row of `schema.TEXTS` for each example, in their order.

        Args:
            what: Names the set of examples.
            examples: Rows of `schema.EXAMPLES`.
        """
        return self._in_parts(
            f"{what}-texts", TEXTS, examples, self._recipe.infer.batch_size, self._write
        )

    def opinions(
        self,
        what: str,
        examples: Sequence[Row],
        texts: Sequence[Row],
        candidates: Sequence[NDArray[np.int64]],
        catalogue: pa.Table,
    ) -> list[Opinion]:
        """How likely the model finds each example's candidates, behind the chain it wrote.

        Args:
            what: Names the set of examples.
            examples: Rows of `schema.EXAMPLES`.
            texts: What the model wrote for them.
            candidates: Rows of the catalogue, for each example.
            catalogue: Rows of `schema.ITEMS`, one for each title.
        """
        asked = [
            {"example": example, "cot": text["cot"], "places": places.tolist()}
            for example, text, places in zip(examples, texts, candidates, strict=True)
        ]
        likelihood: TitleLikelihood | None = None

        def score(part: Sequence[Row]) -> list[Row]:
            nonlocal likelihood
            likelihood = likelihood or TitleLikelihood(self._model[0], self._fitter, catalogue)
            return [_opinion_row(likelihood, row) for row in part]

        rows = self._in_parts(f"{what}-opinions", OPINIONS, asked, _OPINION_ROWS, score)
        return [
            Opinion(
                np.array(row["places"], np.int64),
                np.array(row["likelihood"], np.float64),
                np.array(row["anybody"], np.float64),
            )
            for row in rows
        ]

    def _forget(self) -> None:
        """Let go of the model, so that many can be asked one after another."""
        for name in ("_model", "_fitter"):
            vars(self).pop(name, None)

    @cached_property
    def _model(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return load_causal_lm(str(self._source), self._recipe.infer.dtype)

    @cached_property
    def _fitter(self) -> PromptFitter:
        return prompt_fitter(self._recipe, ChatScaffold(self._model[1]))

    def _write(self, examples: Sequence[Row]) -> list[Row]:
        generator = TransformersGenerator(*self._model, self.name, self._recipe.infer.batch_size)
        fitted = [self._fitter.fit(example) for example in examples]
        prompts = [prompt for prompt, _ in fitted]
        replies = generator.generate(prompts, 1, sampling_of(self._recipe))
        return [
            text_row(example["example_id"], self.name, reply) | {"lines_dropped": dropped}
            for example, (_, dropped), (reply,) in zip(examples, fitted, replies, strict=True)
        ]

    def _in_parts(
        self,
        what: str,
        columns: pa.Schema,
        asked: Sequence[Row],
        size: int,
        work: Callable[[Sequence[Row]], list[Row]],
    ) -> list[Row]:
        whole = self._folder / f"{self.name}-{what}.parquet"
        if not whole.is_file():
            shards = Shards(self._folder / f"{self.name}-{what}.parts", columns)
            starts = range(0, len(asked), size)
            for index, start in enumerate(starts):
                if not shards.done(index):
                    rows = work(asked[start : start + size])
                    shards.write(index, pa.Table.from_pylist(rows, columns))
                done = min(start + size, len(asked))
                self._progress(done, len(asked), f"{what.replace('-', ' ')} by {self.name}")
            shards.merge(len(starts), whole)
            self._forget()
        told: list[Row] = read_parquet(whole, columns).to_pylist()
        return told


def all_respondents(ctx: StageContext) -> dict[str, Respondent]:
    """The models that a run can ask, by name; none is loaded before it is asked."""
    sources: dict[str, str | Path] = {
        "untuned": ctx.recipe.student.model,
        "sft": ctx.inputs["sft"] / "model",
        "policy": ctx.inputs["align"] / "model",
        **ctx.recipe.evaluate.models,
    }
    return {
        name: Respondent(name, source, ctx.recipe, ctx.out, ctx.progress)
        for name, source in sources.items()
    }


def sampling_of(recipe: Recipe) -> Sampling:
    """How models write when they are asked, wherever a recipe asks them."""
    return Sampling(
        max_new_tokens=recipe.longest_text(),
        temperature=recipe.infer.temperature,
        seed=recipe.seed,
    )


def text_row(example_id: str, model: str, reply: Reply) -> dict[str, Any]:
    """One row of TEXTS. What the generator says (truncated, ...) goes before what parsing says."""
    parsed = parse_completion(reply.text)
    return {
        "example_id": example_id,
        "model": model,
        "status": parsed.status if reply.status == "ok" else reply.status,
        "completion": reply.text,
        "cot": parsed.cot,
        "answer": parsed.answer,
    }


def _opinion_row(likelihood: TitleLikelihood, asked: Row) -> Row:
    example, places = asked["example"], asked["places"]
    return {
        "example_id": example["example_id"],
        "places": places,
        "likelihood": likelihood.score(example, asked["cot"], places).tolist(),
        "anybody": likelihood.score_for_anybody(example, places).tolist(),
    }
