"""Stage 2, ORFT: fine-tune the student on the kept chains (Eq. 2)."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from taiji.config import SftSection
from taiji.errors import DataError
from taiji.language.models import load_causal_lm, save_whole
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.prompts import losses, prompt_fitter
from taiji.reasoning.sft import StudentRun, TrainingRow, train_student
from taiji.schema import SCORED
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.store.files import append_jsonl, read_jsonl, read_parquet, replacing
from taiji.training.checkpoints import METRICS, newest_complete, restore_metrics
from taiji.training.model_card import model_card
from taiji.training.processes import first_says, is_first, shards

_ROWS_AT_A_TIME = 256
_READ_OF_CHAINS = pa.schema(
    [SCORED.field(name) for name in ("example_id", "teacher", "cot", "answer", "kept")]
)

Ids = Sequence[int]


def sft(ctx: StageContext) -> Summary:
    """Write `model/` and `metrics.jsonl`, one row for each optimisation step."""
    section, student = ctx.recipe.sft, ctx.recipe.student
    training = ctx.recipe.compute.training
    model, tokenizer = load_causal_lm(student.model, shards=shards(training))
    kept, left_out = _kept_rows(ctx, ChatScaffold(tokenizer))
    checkpoints = ctx.parts("checkpoints")
    resumed = newest_complete(checkpoints)
    metrics = restore_metrics(checkpoints, resumed[0] if resumed else None)

    def on_step(row: dict[str, float], num_steps: int) -> None:
        append_jsonl(row, metrics)
        ctx.progress(int(row["step"]), num_steps, "steps")

    num_trained = train_student(
        model,
        tokenizer,
        [chain.row for chain in kept],
        StudentRun(section, ctx.recipe.seed, checkpoints, training),
        on_step,
    )
    steps = first_says(lambda: read_jsonl(metrics))
    summary: Summary = {
        "examples": len(kept),
        "users": len({chain.user_id for chain in kept}),
        "completion_tokens": sum(len(chain.row.completion_ids) for chain in kept),
        **left_out,
        "steps": len(steps),
        "trained_parameters": num_trained,
        "first_loss": round(steps[0]["loss"], 4),
        "last_loss": round(steps[-1]["loss"], 4),
    }
    teachers = ", ".join(sorted({chain.teacher for chain in kept}))
    _save(ctx, model, tokenizer, summary | {"teacher": teachers})
    if is_first():
        with replacing(ctx.out / METRICS) as temporary:
            temporary.write_bytes(metrics.read_bytes())
    return summary


@dataclass(frozen=True)
class _Chain:
    """A kept chain as token ids, who wrote it, and what its prompt lost to the budget."""

    row: TrainingRow
    teacher: str
    user_id: str
    lines_dropped: int


def _kept_rows(ctx: StageContext, scaffold: ChatScaffold) -> tuple[list[_Chain], dict[str, int]]:
    """At most `num_examples` kept chains, or as many as the budget of tokens takes.

    Also how much was left out. A completion beyond `max_completion_tokens` is left out: the
    student could never end it.
    """
    scored = read_parquet(ctx.inputs["refine"] / "scored.parquet", _READ_OF_CHAINS)
    kept = scored.filter(scored["kept"])
    chains = kept.take(np.random.default_rng(ctx.recipe.seed).permutation(kept.num_rows))
    completions, num_too_long = _completions(ctx, chains, scaffold)
    if not completions:
        raise DataError(
            f"sft: nothing to train on: {len(chains)} chains kept, {num_too_long} longer than "
            "student.max_completion_tokens: raise it, or refine.quantile"
        )
    rows = _with_prompts(ctx, chains.take(pa.array(completions)), completions.values(), scaffold)
    if ctx.recipe.sft.max_tokens is not None:
        rows = _within_budget(rows, ctx.recipe.sft.max_tokens)
    return rows, {"too_long": num_too_long, **losses(row.lines_dropped for row in rows)}


def _completions(
    ctx: StageContext, chains: pa.Table, scaffold: ChatScaffold
) -> tuple[dict[int, Ids], int]:
    """Token ids of the first chains that are short enough, by place; and how many are too long."""
    limit, most = ctx.recipe.student.max_completion_tokens, ctx.recipe.sft.num_examples
    found: dict[int, Ids] = {}
    num_too_long = 0
    for start in range(0, len(chains), _ROWS_AT_A_TIME):
        part = chains.select(["cot", "answer"]).slice(start, _ROWS_AT_A_TIME)
        for place, row in enumerate(part.to_pylist(), start):
            ids = scaffold.completion_ids(row["cot"], row["answer"]).ids
            if len(ids) > limit:
                num_too_long += 1
            elif len(found) < most:
                found[place] = array("i", ids)
    return found, num_too_long


def _with_prompts(
    ctx: StageContext, chains: pa.Table, completions: Iterable[Ids], scaffold: ChatScaffold
) -> list[_Chain]:
    """Chains with the prompts of their examples.

    Examples are gone through as they lie, a few at a time: as Python a history is kilobytes.
    """
    examples = Constructed(ctx.inputs["construct"]).targeted_rows("sft")
    places = pc.index_in(chains["example_id"], value_set=examples.column("example_id"))
    place_N = np.asarray(places, dtype=np.int64)
    fitter, teachers = prompt_fitter(ctx.recipe, scaffold), chains["teacher"].to_pylist()
    asked = np.unique(place_N)
    prompts: dict[int, tuple[Ids, str, int]] = {}
    for start in range(0, asked.size, _ROWS_AT_A_TIME):
        part = asked[start : start + _ROWS_AT_A_TIME]
        for place, example in zip(part.tolist(), examples.take(part).to_pylist(), strict=True):
            prompt, dropped = fitter.fit(example)
            prompts[place] = array("i", scaffold.prompt_ids(prompt)), example["user_id"], dropped
    rows = []
    for place, teacher, completion in zip(place_N.tolist(), teachers, completions, strict=True):
        prompt_ids, user_id, dropped = prompts[place]
        rows.append(_Chain(TrainingRow(prompt_ids, completion), teacher, user_id, dropped))
    return rows


def _within_budget(rows: Sequence[_Chain], max_tokens: int) -> list[_Chain]:
    """The chains in order, from the first again after the last, as far as the tokens go."""
    lengths = np.cumsum([len(chain.row.completion_ids) for chain in rows])
    rounds, rest = divmod(max_tokens, int(lengths[-1]))
    taken = [*rows] * rounds + [*rows[: int(np.searchsorted(lengths, rest, side="right"))]]
    if not taken:
        raise DataError(
            f"sft.max_tokens: {max_tokens}: less than the first completion's {lengths[0]}: raise it"
        )
    return taken


def _save(
    ctx: StageContext,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    figures: Mapping[str, Any],
) -> None:
    """A folder that transformers loads, with a model card."""
    folder = ctx.out / "model"
    save_whole(model, folder)
    if not is_first():
        return
    tokenizer.save_pretrained(folder)
    section = ctx.recipe.sft
    settings = {
        "loss": "next token over chain and answer, prompt masked (Eq. 2)",
        "epochs": section.epochs if section.max_tokens is None else "by tokens",
        "learning rate": section.learning_rate,
        "batch size": section.batch_size,
        "trained": _trained(section),
        "seed": ctx.recipe.seed,
        **{name.replace("_", " "): value for name, value in figures.items()},
    }
    card = model_card(
        title="Student after ORFT",
        base_model=ctx.recipe.student.model,
        trained_on=(
            f"{figures['examples']} chains of thought of teacher `{figures['teacher']}` on the "
            f"log `{ctx.recipe.data.source.kind}`, selected by ORFT."
        ),
        settings=settings,
    )
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(card, encoding="utf-8")


def _trained(section: SftSection) -> str:
    if section.lora is not None:
        targets = ", ".join(section.lora.targets or ("all linear layers",))
        return f"an adapter of rank {section.lora.rank} on {targets}, merged"
    return f"the last {section.trainable_layers} blocks" if section.trainable_layers else "all"
