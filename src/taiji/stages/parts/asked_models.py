"""The language models that a run asks: what they write, and how likely they find answers.

Whatever asks a tuned model asks it here. Work is cut into shards that are kept, so what was
killed goes on; it is done where the recipe says; and a model is loaded only where there is a
shard to do.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from taiji.config import POLICY, SFT, UNTUNED, Recipe
from taiji.language.completions import parse_completion
from taiji.language.generate import Reply, Sampling, TextGenerator, TransformersGenerator
from taiji.language.models import load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.language.workers import Note, Worker
from taiji.lists.answers import TitleLikelihoods
from taiji.lists.likelihood import Opening, OpeningScorer
from taiji.reasoning.prompts import prompt_fitter
from taiji.schema import TEXTS
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.shards import write_shards
from taiji.store.shards import Shards

_SCORED_ROWS = 8
"""Examples between two commits where openings are scored: hundreds of branches each."""

_LIKELIHOODS = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("places", pa.list_(pa.int64()), nullable=False),  # of the openings
        pa.field("likelihood", pa.list_(pa.float64()), nullable=False),
        pa.field("anybody", pa.list_(pa.float64()), nullable=False),
    ]
)

OpenGenerator = Callable[[str, str, Recipe], tuple[TextGenerator, PreTrainedTokenizerBase]]
"""Called with a model's name, its folder or Hub name, and the recipe, where the work is done."""


def open_here(
    name: str, source: str, recipe: Recipe
) -> tuple[TextGenerator, PreTrainedTokenizerBase]:
    """Load the model into this process."""
    model, tokenizer = load_causal_lm(source, recipe.infer.dtype)
    return TransformersGenerator(model, tokenizer, name, recipe.infer.batch_size), tokenizer


class AskedModel:
    """One model and what it has said so far.

    Args:
        name: As tables call it.
        source: Folder or Hub name of the model.
        ctx: Its recipe says how the model is prompted, how it decodes and where that is done.
            What was said is kept in `ctx.parts`.
        open_generator: Makes whatever writes the model's texts.
    """

    def __init__(
        self,
        name: str,
        source: str | Path,
        ctx: StageContext,
        open_generator: OpenGenerator = open_here,
    ) -> None:
        self.name = name
        self._source = str(source)
        self._ctx = ctx
        self._open_generator = open_generator

    def texts(self, what: str, examples: pa.Table) -> pa.Table:
        """What the model writes: one row of `schema.TEXTS` for each example, in their order.

        Args:
            what: Names the set of examples.
            examples: Rows of `schema.EXAMPLES`.
        """
        recipe = self._ctx.recipe
        build = partial(_writer, self.name, self._source, recipe, self._open_generator)
        return self._in_shards(f"{what} texts", TEXTS, examples, recipe.infer.batch_size, build)

    def likelihoods(
        self,
        what: str,
        examples: pa.Table,
        texts: pa.Table,
        candidates: Sequence[NDArray[np.int64]],
        openings: Sequence[Opening],
    ) -> list[TitleLikelihoods]:
        """How likely the model finds each example's candidates, behind the chain it wrote.

        Args:
            what: Names the set of examples.
            examples: Rows of `schema.EXAMPLES`.
            texts: What the model wrote for them.
            candidates: Places of openings, for each example.
            openings: Titles or categories, as an answer begins with them.
        """
        places = pa.array(candidates, pa.list_(pa.int64()))
        asked = examples.append_column("cot", texts["cot"]).append_column("places", places)
        build = partial(_rater, self._source, self._ctx.recipe, openings)
        told = self._in_shards(f"{what} likelihoods", _LIKELIHOODS, asked, _SCORED_ROWS, build)
        columns = (told[name] for name in ("places", "likelihood", "anybody"))
        return [
            TitleLikelihoods(*(cell.values.to_numpy() for cell in cells))
            for cells in zip(*columns, strict=True)
        ]

    def _in_shards(
        self,
        what: str,
        columns: pa.Schema,
        asked: pa.Table,
        size: int,
        build: Callable[[], Worker[pa.Table, pa.Table]],
    ) -> pa.Table:
        folder = self._ctx.parts("asked") / f"{self.name}-{what.replace(' ', '-')}"
        shards = Shards(folder, columns)
        starts = range(0, asked.num_rows, size)
        pieces = [asked.take(_range(start, size, asked.num_rows)) for start in starts]
        what = f"{what} by {self.name}"
        write_shards(self._ctx, shards, pieces, build, size=len, what=what)
        return pa.concat_tables([columns.empty_table(), *shards.all(len(pieces))])


def asked_models(
    ctx: StageContext, further: Mapping[str, str] | None = None
) -> dict[str, AskedModel]:
    """The models that a run can ask, by name; none is loaded before it is asked.

    Args:
        ctx: Of a stage that reads `sft` and `align`.
        further: Models that the run did not tune: folder or Hub name, by name.
    """
    sources: dict[str, str | Path] = {
        UNTUNED: ctx.recipe.student.model,
        SFT: ctx.inputs["sft"].absolute() / "model",  # whoever reads it may be elsewhere
        POLICY: ctx.inputs["align"].absolute() / "model",
        **(further or {}),
    }
    return {name: AskedModel(name, source, ctx) for name, source in sources.items()}


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


def _writer(
    name: str, source: str, recipe: Recipe, open_generator: OpenGenerator
) -> Worker[pa.Table, pa.Table]:
    """Whoever has the model write, made where the work is done."""
    generator, tokenizer = open_generator(name, source, recipe)
    fitter = prompt_fitter(recipe, ChatScaffold(tokenizer))

    def write(examples: pa.Table, note: Note) -> pa.Table:
        fitted = [fitter.fit(example) for example in examples.to_pylist()]
        replies = generator.generate([prompt for prompt, _ in fitted], 1, sampling_of(recipe), note)
        example_ids = examples["example_id"].to_pylist()
        rows = [
            text_row(example_id, name, reply) | {"lines_dropped": dropped}
            for example_id, (_, dropped), (reply,) in zip(example_ids, fitted, replies, strict=True)
        ]
        return pa.Table.from_pylist(rows, TEXTS)

    return write


def _rater(source: str, recipe: Recipe, openings: Sequence[Opening]) -> Worker[pa.Table, pa.Table]:
    """Whoever scores openings by the model, made where the work is done."""
    model, tokenizer = load_causal_lm(source, recipe.infer.dtype)
    scorer = OpeningScorer(model, prompt_fitter(recipe, ChatScaffold(tokenizer)), openings)

    def rate(asked: pa.Table, note: Note) -> pa.Table:
        rows = []
        for row in asked.to_pylist():
            places = row["places"]
            rows.append(
                {
                    "example_id": row["example_id"],
                    "places": places,
                    "likelihood": scorer.score(row, row["cot"], places),
                    "anybody": scorer.score_for_anybody(row, places),
                }
            )
            note(len(rows), asked.num_rows)
        return pa.Table.from_pylist(rows, _LIKELIHOODS)

    return rate


def _range(start: int, size: int, stop: int) -> pa.Array:
    return pa.array(range(start, min(start + size, stop)), pa.int64())
