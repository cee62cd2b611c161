"""Whom a setting is for: the paper names it, everybody may need it, or few should touch it."""

from typing import Literal

Level = Literal["paper", "usual", "expert"]

PAPER = frozenset(
    {
        "data.history_items",
        "data.neighbour_items",
        "student.model",
        "student.max_prompt_tokens",
        "student.max_completion_tokens",
        "encoder.model",
        "distill.mode",
        "distill.teacher.kind",
        "distill.teacher.model",
        "distill.candidates",
        "refine.filter",
        "refine.quantile",
        "refine.threshold_sample",
        "sft.epochs",
        "sft.loss",
        "sft.learning_rate",
        "simulate.normaliser",
        "align.rewards.semantic",
        "align.rewards.preference",
        "align.weights.rule",
        "align.weights.eta",
        "align.weights.mu",
        "align.weights.light_epsilon",
        "align.weights.initial",
        "align.steps",
        "align.prompts_per_step",
        "align.num_generations",
        "align.learning_rate",
        "align.loss_type",
        "align.beta",
        "features.quantiser",
        "rank.arms",
        "abtest.bucket_share",
        "evaluate.hit_rate_at",
    }
)
"""What the paper's text, equations or tables name; the description has its value, or says ours."""

EXPERT = frozenset(
    {
        "engine_memory_gib",
        "compute.cpus",
        "compute.gpus",
        "compute.max_retries",
        "compute.training.launcher",
        "compute.training.sequences_at_a_time",
        "data.source.missing",
        "data.source.tolerance",
        "data.splits.period_days",
        "data.text.profile",
        "data.text.templates",
        "data.text.max_title_characters",
        "data.text.unsaid_kind",
        "encoder.batch_size",
        "distill.teacher.dtype",
        "distill.teacher.tensor_parallel_size",
        "distill.teacher.gpu_memory_share",
        "distill.teacher.max_model_tokens",
        "distill.teacher.timeout_seconds",
        "distill.teacher.retry",
        "distill.teacher.extra_body",
        "score",
        "refine.drop_leaks",
        "sft.lora.alpha",
        "sft.lora.targets",
        "sft.max_tokens",
        "sft.checkpoint_steps",
        "sft.trainer",
        "ranker",
        "simulate.pool_pairs",
        "simulate.popularity_discount",
        "simulate.min_interaction_share",
        "simulate.max_constant_capture",
        "simulate.min_best_items",
        "simulate.min_gauc_lead",
        "align.rewards.scores_missing",
        "align.rewards.term_overlap",
        "align.rewards.cosine_floor",
        "align.rewards.soft_items",
        "align.rewards.soft_temperature",
        "align.rewards.gate",
        "align.weights",
        "align.temperature",
        "align.checkpoint_steps",
        "align.trainer",
        "infer.temperature",
        "infer.engine",
        "infer.engines",
        "features.texts",
        "features.sub_vectors",
        "features.bits",
        "features.neighbours",
        "rank.controls",
        "rank.texts",
        "abtest.candidates",
        "abtest.worlds",
        "abtest.warmup_weeks",
        "abtest.salt",
        "abtest.persona",
        "abtest.budget",
        "abtest.cost_control",
        "evaluate.candidates",
        "evaluate.calibration",
        "report.pseudonym_key_env",
        "serve.redis_url_env",
        "serve.refresh.kind_values",
        "serve.refresh.lease_seconds",
        "serve.limits",
        "serve.drift_alarm",
    }
)
"""For those who know why; a section stands for all that is below it."""


def level(path: str) -> Level:
    """The level of a setting by its dotted path."""
    if path in PAPER:
        return "paper"
    parts = path.split(".")
    above = (".".join(parts[: n + 1]) for n in range(len(parts)))
    return "expert" if EXPERT.intersection(above) else "usual"
