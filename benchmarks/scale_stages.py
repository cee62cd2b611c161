"""One stage of `scale.py` in this process, with stand-ins where a language model would work.

In the place of models stand a scorer that finds every token as likely, a writer that says the same
to everybody and an encoder that hashes words into 384 numbers: what is measured is all the rest.
`refine` and `align` leave what later stages read of them: perplexities drawn at random, and 800
rollouts. The ranking models are real.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scale_log import SOURCE

WIDTH = 384
"""Numbers of a vector, as the default encoder has."""


def recipe_of(log: Path, users: int) -> dict[str, Any]:
    """The recipe that is measured: half of the users teach, all are ranked, 500 test examples."""
    return {
        "name": "scale",
        "data": {
            "source": {**SOURCE, "path": str(log)},
            "splits": {"windows": {"kind": "shares"}},
            "num_sft": users // 2,
            "num_rank_users": users,
            "exposure_share": 1.0,
        },
        "student": {"max_prompt_tokens": 2048},
        "simulate": {"admission": "report"},
        "sft": {"num_examples": 10**9},
        "infer": {"texts_from": str(log / "texts.parquet")},
        "features": {"neighbours": "ivf"},
        "rank": {"arms": ["base", "both"]},
        "evaluate": {"bootstrap": 100},
    }


class Words:
    """A bag of hashed words in the place of an encoder."""

    name, dimension = "words", WIDTH

    def __init__(self, *_: object) -> None:
        self._places: dict[str, int] = {}

    def encode(self, texts: Sequence[str]) -> Any:
        """Unit vectors of texts."""
        vectors_ND = np.zeros((len(texts), WIDTH), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                place = self._places.setdefault(word, zlib.crc32(word.encode()) % WIDTH)
                vectors_ND[row, place] += 1
        return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True).clip(1e-9)


class Flat:
    """A scorer that finds every token as likely."""

    def score(self, questions: Any, on_progress: Any = None) -> Any:
        """Log-probabilities of every branch."""
        return [
            [np.full(b.answer_stop - b.answer_start, -1.0) for b in question.branches]
            for question in questions
        ]


class Parrot:
    """A writer that says the same to everyone, after the prompt was tokenised."""

    name = "parrot"

    def __init__(self, scaffold: Any) -> None:
        self._scaffold = scaffold

    def generate(self, prompts: Any, n: int, sampling: Any, on_progress: Any = None) -> Any:
        """One reply a prompt."""
        from taiji.language.generate import Reply

        for prompt in prompts:
            self._scaffold.prompt_ids(prompt)
        return [[Reply("<think>Due.</think><answer>Milk</answer>", "ok", 9)]] * len(prompts)


def import_all() -> None:
    """What every stage imports: the constant that they all begin from."""
    from taiji.stages import (  # fmt: skip
        construct,
        distill,
        evaluate,
        features,
        infer,
        rank,
        refine,
        report,
        score,
        sft,
        simulate,
    )

    del construct, distill, evaluate, features, infer, rank, refine, report, score, sft, simulate


def run_stage(name: str, size: Path, users: int) -> None:
    """Do one stage on what the stages before it left below `size`/run."""
    from taiji.config import Recipe
    from taiji.stage_function import stage_function
    from taiji.stages.parts.context import StageContext

    recipe = Recipe.model_validate(recipe_of(size / "log", users))
    run = size / "run"
    os.environ["XDG_CACHE_HOME"] = str(size.parent / "cache")
    inputs = {path.name: path for path in run.iterdir() if path.name != name and path.is_dir()}
    out = (size / "also" if name in ("score", "sft", "infer-asked") else run) / name
    out.mkdir(parents=True, exist_ok=True)
    ctx = StageContext(recipe, out, inputs, lambda *_: None)
    match name:
        case "score" | "sft" | "infer-asked":
            _with_stand_ins(name, ctx)
        case "features":
            from taiji.stages.features import features

            features(ctx, Words)
        case "evaluate":
            from taiji.stages import evaluate

            evaluate.SentenceEncoder = Words  # type: ignore[misc, assignment]
            evaluate.evaluate(ctx)
        case _:
            stage_function(name)(ctx)


def _with_stand_ins(name: str, ctx: Any) -> None:
    from taiji.language.models import SMOLLM2, load_tokenizer
    from taiji.language.prompt import ChatScaffold
    from taiji.reasoning import sft as training
    from taiji.stages import infer, score, sft
    from taiji.stages.parts import asked_models

    tokenizer = load_tokenizer(SMOLLM2)
    scaffold = ChatScaffold(tokenizer)
    match name:
        case "score":
            score._scorer = lambda recipe: (Flat(), tokenizer)
            score.score(ctx)
        case "sft":
            rows, _ = sft._kept_rows(ctx, scaffold)
            training._dataset([chain.row for chain in rows], ctx.out / "rows.arrow")
        case _:
            asked_models.open_generator = lambda *_, **__: Parrot(scaffold)
            asked_models.load_tokenizer = lambda name: tokenizer
            section = ctx.recipe.infer.model_copy(update={"texts_from": None, "models": ["policy"]})
            asked = ctx.recipe.model_copy(update={"infer": section})
            infer.infer(type(ctx)(asked, ctx.out, ctx.inputs, ctx.progress))


def stand_in(name: str, run: Path) -> None:
    """What a stage that is not measured would have left, written batch by batch."""
    from taiji import schema
    from taiji.language.models import SMOLLM2, load_tokenizer
    from taiji.store.files import append_jsonl, write_json, write_parquet

    folder = run / name
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(17)
    match name:
        case "tokenizer":
            os.environ["XDG_CACHE_HOME"] = str(run.parent.parent / "cache")
            load_tokenizer(SMOLLM2)  # unpacked once, and not while a stage is measured
        case "score":
            source = pq.ParquetFile(run / "distill" / "candidates.parquet")
            with pq.ParquetWriter(folder / "scores.parquet", schema.SCORES) as writer:
                for batch in source.iter_batches(1 << 16):
                    writer.write_table(_scored(pa.table(batch), rng))
        case "align":
            (run / "sft").mkdir(exist_ok=True)  # a server's models are named by their folders
            path = run / "construct" / "examples.parquet"
            rl = [("split", "=", "rl")]
            examples = pq.read_table(path, columns=["example_id"], filters=rl)
            ids = examples["example_id"].to_pylist()
            rows = [
                _rollout(step, ids[step % len(ids)]) for step in range(1, 201) for _ in range(4)
            ]
            rollouts = pa.Table.from_pylist(rows, schema.ROLLOUTS)
            write_parquet(rollouts, folder / "rollouts.parquet", schema.ROLLOUTS)
            for step in range(1, 201):
                weights = {"w_semantic": 0.5, "w_preference": 0.5}
                append_jsonl({"step": step, **weights}, folder / "metrics.jsonl")
        case _:
            write_json({}, folder / "metrics.json")


def _scored(candidates: pa.Table, rng: np.random.Generator) -> pa.Table:
    from taiji import schema

    num = candidates.num_rows
    columns: dict[str, Any] = {name: candidates[name] for name in candidates.column_names}
    columns |= {
        "perplexity": pa.array(rng.lognormal(1.5, 0.5, num)),
        "gain": pa.array(np.zeros(num)),
        "clipped": pa.array(np.ones(num)),
        "num_answer_tokens": pa.array(np.full(num, 20, np.int32)),
        "lines_dropped": pa.array(np.zeros(num, np.int32)),
    }
    return pa.table({name: columns[name] for name in schema.SCORES.names}, schema.SCORES)


def _rollout(step: int, example_id: str) -> Mapping[str, Any]:
    text = "<think>Due.</think><answer>Milk</answer>"
    return {
        "step": step, "example_id": example_id, "completion": text, "status": "ok",
        "answer": "Milk", "rung": "none", "cosine": 0.0, "semantic": 0.3, "preference": 0.0,
        "format": 1.0,
    }  # fmt: skip
