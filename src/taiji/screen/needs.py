"""What each stage of a recipe needs: processes, memory a device, disk, tokens, and hours.

Upper bounds by arithmetic, for the longest prompts and completions that the recipe allows; the
formulas of memory stand in `language.footprint`, the rates below. docs/scale.md walks through them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.table import Table

from taiji.config import OpenAIEngine, OpenAITeacher, Recipe
from taiji.language.footprint import ModelShape, TrainingMemory, model_shape, training_memory
from taiji.screen.estimates import num_rank_texts, num_texts, sft_examples

GIB = 2**30

TRAINING_RATE = 300e12
"""Operations a second of a device in training and reading prompts: 30 % of an H100's bfloat16."""

WRITING_RATE = 2_500
"""Tokens a second that a device writes of a model of 7 billion weights; others by their size."""

_WRITTEN_AT = 7.6e9
_ROW_BYTES = 1_200  # of a text, a chain or an example in Parquet, its history compressed
_BACKWARD = 2  # a backward pass costs two forward ones


@dataclass(frozen=True)
class Need:
    """Of one stage; None where nothing can be said.

    Attributes:
        memory: On each device, by purpose; only of training.
        device_bytes: On each device.
        tokens: That a language model reads and writes.
        hours: On all processes together, at the rates above.
    """

    stage: str
    processes: int = 1
    device_bytes: int | None = None
    memory: TrainingMemory | None = None
    disk_bytes: int | None = None
    tokens: int | None = None
    hours: float | None = None


def needs(recipe: Recipe) -> list[Need]:
    """Of the stages that a language model makes large; empty if its sizes are not known."""
    shape = model_shape(recipe.student.model)
    return [] if shape is None else list(_needs(recipe, shape))


def _needs(recipe: Recipe, shape: ModelShape) -> Iterator[Need]:
    student, workers = recipe.student, getattr(recipe.compute, "workers", 1)
    prompt, written = student.max_prompt_tokens, student.max_completion_tokens
    yield Need("construct", disk_bytes=_num_examples(recipe) * _ROW_BYTES * 2)
    yield _distill(recipe, workers)
    chains = recipe.data.num_sft * recipe.distill.candidates
    scored = recipe.data.num_sft * prompt + chains * written
    served = 0 if recipe.score.endpoint else _inference_bytes(shape, prompt + written, 32)
    yield Need(
        "score", workers, served, None, chains * 100, scored,
        _hours(shape.flops(scored, prompt / 2), workers),
    )  # fmt: skip
    yield _sft(recipe, shape)
    yield _align(recipe, shape)
    engine = recipe.infer.engine
    texts, longest = num_texts(recipe), recipe.longest_text()
    rows = getattr(engine, "batch_size", 1)
    yield Need(
        "infer", workers,
        0 if isinstance(engine, OpenAIEngine) else _inference_bytes(shape, prompt + longest, rows),
        None, texts * _ROW_BYTES, texts * (prompt + longest),
        _hours(shape.flops(texts * prompt, prompt / 2), workers)
        + _writing_hours(shape, texts * longest, workers),
    )  # fmt: skip
    encoder = model_shape(recipe.encoder.model)
    embedded = num_rank_texts(recipe) * longest
    yield Need(
        "features", workers,
        None if encoder is None else _inference_bytes(encoder, longest, recipe.encoder.batch_size),
        None,
        None if encoder is None else num_rank_texts(recipe) * encoder.width * 4,
        embedded,
        None if encoder is None else _hours(encoder.flops(embedded, longest / 2), workers),
    )  # fmt: skip


def _distill(recipe: Recipe, workers: int) -> Need:
    teacher, chains = recipe.distill.teacher, recipe.data.num_sft * recipe.distill.candidates
    need = Need("distill", workers, disk_bytes=chains * _ROW_BYTES)
    if teacher.kind == "evidence":
        return need
    prompt = recipe.student.max_prompt_tokens
    read, written = recipe.data.num_sft * prompt, chains * teacher.max_new_tokens
    need = replace(need, tokens=read + written)
    shape = model_shape(teacher.model)
    if shape is None:
        return need
    tokens = prompt + teacher.max_new_tokens
    rows = None if isinstance(teacher, OpenAITeacher) else teacher.batch_size
    return replace(
        need,
        device_bytes=0 if rows is None else _inference_bytes(shape, tokens, rows),
        hours=_hours(shape.flops(read, prompt / 2), workers)
        + _writing_hours(shape, written, workers),
    )


def _sft(recipe: Recipe, shape: ModelShape) -> Need:
    training, section = recipe.compute.training, recipe.sft
    prompt, written = recipe.student.max_prompt_tokens, recipe.student.max_completion_tokens
    each = training.share("sft.batch_size", section.batch_size)
    rows = each // training.micro_batches(each)
    checkpointed = bool(section.trainer.get("activation_checkpointing", True))
    memory = replace(
        _weights(recipe, shape, section.trainable_layers),
        activations=shape.activations(
            rows * (prompt + written), checkpointed=checkpointed, bytes_each=2
        ),
        logits=shape.logits(rows * written),
    )
    tokens = round(sft_examples(recipe) * section.epochs) * (prompt + written)
    return _trained("sft", recipe, shape, memory, tokens)


def _align(recipe: Recipe, shape: ModelShape) -> Need:
    """Rollouts, the pass that Eq. 6 takes, and the update; prompts once for all their rollouts."""
    section, training = recipe.align, recipe.compute.training
    prompt, written = recipe.student.max_prompt_tokens, recipe.student.max_completion_tokens
    prompts = training.share("align.prompts_per_step", section.prompts_per_step)
    group = section.num_generations
    row = prompt + group * written
    probes = section.weights.rule not in ("popo_light", "fixed")
    weights = _weights(recipe, shape, section.trainable_layers)
    memory = replace(
        weights,
        activations=shape.activations(
            row,
            checkpointed=bool(section.trainer.get("activation_checkpointing", True)),
            bytes_each=2,
        ),
        logits=shape.logits(group * written),
        cache=shape.cache(prompts * group * (prompt + written), 2),
        by_reward=len(section.rewards.names) * probes * weights.gradients,
    )
    if section.beta:  # the reference model of the KL term, whole on each device
        memory = replace(memory, weights=memory.weights + 4 * shape.parameters)
    steps = section.steps * section.prompts_per_step
    need = _trained("align", recipe, shape, memory, steps * row, passes=2 if probes else 1)
    generated = steps * group * written
    assert need.hours is not None
    hours = need.hours + _writing_hours(shape, generated, training.total)
    return replace(need, tokens=steps * row + generated, hours=hours)


def _weights(recipe: Recipe, shape: ModelShape, layers: int | None) -> TrainingMemory:
    training = recipe.compute.training
    sharded = training.strategy == "fsdp2"
    share = 1.0 if layers is None else layers * shape.block_parameters / shape.parameters
    return training_memory(
        shape,
        shards=training.total if sharded else 1,
        copies=1 if sharded else training.total,
        trained_share=min(1.0, share),
    )


def _trained(
    stage: str, recipe: Recipe, shape: ModelShape, memory: TrainingMemory, tokens: int,
    passes: int = 1,
) -> Need:  # fmt: skip
    total = recipe.compute.training.total
    context = recipe.student.max_prompt_tokens / 2
    forward = shape.flops(tokens, context)
    return Need(
        stage, total, memory.total, memory,
        disk_bytes=shape.parameters * (2 * 12 + 4),  # two checkpoints for a moment, the model
        tokens=tokens,
        hours=_hours(forward * (1 + _BACKWARD) * passes, total),
    )  # fmt: skip


def _inference_bytes(shape: ModelShape, tokens: int, rows: int) -> int:
    return 2 * shape.parameters + shape.cache(rows * tokens, 2)


def _hours(operations: float, devices: int) -> float:
    return operations / TRAINING_RATE / devices / 3600


def _writing_hours(shape: ModelShape, tokens: int, devices: int) -> float:
    return tokens / WRITING_RATE * (shape.parameters / _WRITTEN_AT) / devices / 3600


def _num_examples(recipe: Recipe) -> int:
    data = recipe.data
    return data.num_sft + data.num_rl + data.num_test + 2 * data.num_rank_users


def needs_table(found: list[Need]) -> Table:
    """A row a stage, and what training's memory is made of."""
    table = Table(
        "stage", "processes", "GiB a device", "of which", "disk GiB", "tokens", "hours",
        header_style="bold", box=None,
    )  # fmt: skip
    for need in found:
        parts = vars(need.memory) if need.memory else {}
        made_of = ", ".join(
            f"{name.replace('_', ' ')} {_gib(value)}" for name, value in parts.items() if value
        )
        table.add_row(
            need.stage, str(need.processes), _gib(need.device_bytes), made_of,
            _gib(need.disk_bytes), _count(need.tokens),
            "" if need.hours is None else _hours_in_words(need.hours),
        )  # fmt: skip
    return table


def assumptions() -> str:
    """What the hours take for granted, in a line."""
    return (
        f"Longest prompts and completions; {TRAINING_RATE / 1e12:.0f} TFLOP/s a device in training "
        f"and reading, {WRITING_RATE:,} tokens a second written of 7.6 billion weights."
    )


def _gib(value: int | None) -> str:
    if value is None:
        return ""
    return f"{value / GIB:.3g}" if value else "0"


def _hours_in_words(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _count(value: int | None) -> str:
    if value is None:
        return ""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return str(value)
