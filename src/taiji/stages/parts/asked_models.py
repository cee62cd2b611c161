"""The language models that a run asks: what they write, and how likely they find answers.

Whatever asks a tuned model asks it here: in this process, in vLLM or at a server, as the recipe
says. Work is cut into shards that are kept, and a server's replies are kept one by one, so what
was killed goes on; it is done where the recipe says; and a model is loaded only where there is
a shard to do. How likely answers are is asked of the weights themselves, wherever texts come from.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.config import POLICY, SFT, UNTUNED, Recipe, TransformersEngine
from taiji.language.completions import parse_completion
from taiji.language.engines import open_generator
from taiji.language.generate import Reply, Sampling, TextGenerator
from taiji.language.models import load_causal_lm, load_tokenizer
from taiji.language.prompt import ChatScaffold
from taiji.language.workers import Note, Worker
from taiji.lists.answers import TitleLikelihoods
from taiji.lists.likelihood import Opening, OpeningScorer
from taiji.reasoning.prompts import prompt_fitter
from taiji.schema import TEXTS
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.shards import rows_of, write_shards
from taiji.store.files import digest_value
from taiji.store.manifest import NAME as MANIFEST
from taiji.store.manifest import read_manifest
from taiji.store.shards import Shards
from taiji.store.stored_rows import StoredRows

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


class AskedModel:
    """One model and what it has said so far.

    Args:
        name: As tables call it.
        source: Folder or Hub name of the model.
        ctx: Its recipe says how the model is prompted, by what and how it decodes and where that
            is done. What was said is kept in `ctx.parts` and, of servers, in `ctx.calls`.
    """

    def __init__(self, name: str, source: str | Path, ctx: StageContext) -> None:
        self.name = name
        self._source = str(source)
        self._ctx = ctx

    def texts(self, what: str, examples: pa.Table | StoredRows) -> pa.Table:
        """What the model writes: one row of `schema.TEXTS` for each example, in their order.

        Args:
            what: Names the set of examples.
            examples: Rows of `schema.EXAMPLES`.
        """
        recipe = self._ctx.recipe
        size = recipe.infer.engine_of(self.name).prompts_between_commits
        build = partial(_writer, recipe, _Opening(self.name, self._source, self._ctx))
        return self._in_shards(f"{what} texts", TEXTS, examples, size, build)

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
        build = partial(_rater, self.name, self._source, self._ctx.recipe, openings)
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
        asked: pa.Table | StoredRows,
        size: int,
        build: Callable[[], Worker[pa.Table, pa.Table]],
    ) -> pa.Table:
        folder = self._ctx.parts("asked") / f"{self.name}-{what.replace(' ', '-')}"
        shards = Shards(folder, columns)
        pieces = rows_of(asked, size)
        write_shards(self._ctx, shards, pieces, build, what=f"{what} by {self.name}")
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


class _Opening:
    """How a model is opened where the work is done, on whatever machine."""

    def __init__(self, name: str, source: str, ctx: StageContext) -> None:
        self.name, self.source = name, source
        self._calls = ctx.calls.absolute()
        own = any(Path(source).is_relative_to(path.absolute()) for path in ctx.inputs.values())
        self._weights = _artifact_state(Path(source)) if own else _folder_state(Path(source))

    def open(self, recipe: Recipe) -> TextGenerator:
        """Whatever writes the model's texts."""
        return open_generator(
            recipe.infer.engine_of(self.name),
            self.source,
            name=self.name,
            calls=self._calls,
            weights=self._weights,
        )


def _artifact_state(folder: Path) -> str:
    """What tells weights of this run from those of another attempt at the same place.

    A server holds weights under a name; what earlier ones wrote is not taken for theirs.
    """
    manifest = read_manifest(folder.parent / MANIFEST)
    if manifest is None:  # a stage by itself, without a runner
        return _folder_state(folder)
    own = {n: o.sha256 for n, o in manifest.outputs.items() if n.startswith(f"{folder.name}/")}
    return digest_value(own)


def _folder_state(folder: Path) -> str:
    """The same of weights from elsewhere; a name of the Hub tells itself."""
    files = sorted(folder.glob("*.safetensors"))
    states = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return digest_value([str(folder), states])


def _writer(recipe: Recipe, opening: _Opening) -> Worker[pa.Table, pa.Table]:
    """Whoever has the model write, made where the work is done."""
    name, generator = opening.name, opening.open(recipe)
    fitter = prompt_fitter(recipe, ChatScaffold(load_tokenizer(opening.source)))

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


def _rater(
    name: str, source: str, recipe: Recipe, openings: Sequence[Opening]
) -> Worker[pa.Table, pa.Table]:
    """Whoever scores openings by the model, made where the work is done."""
    engine = recipe.infer.engine_of(name)
    dtype = engine.dtype if isinstance(engine, TransformersEngine) else "auto"
    model, tokenizer = load_causal_lm(source, dtype)
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
