"""Further fields of TRL's configurations, checked: no key may silently do nothing."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from taiji.errors import ConfigError
from taiji.rule_settings import RuleSettings, argument

_ELSEWHERE = {
    "output_dir": "the run directory decides where",
    "seed": "set `seed` of the recipe",
    "learning_rate": "set `{section}.learning_rate`",
    "num_train_epochs": "set `{section}.epochs` or `{section}.steps`",
    "max_steps": "set `{section}.epochs` or `{section}.steps`",
    "per_device_train_batch_size": "set `{section}.batch_size` or `{section}.prompts_per_step`",
    "num_generations": "set `{section}.num_generations`",
    "beta": "set `{section}.beta`",
    "loss_type": "set `{section}.loss_type`",
    "reward_weights": "set `{section}.weights.initial`",
    "multi_objective_aggregation": "set `{section}.weights.act_on`",
    **{argument(f.name): f"set `{{section}}.weights.{f.name}`" for f in fields(RuleSettings)},
    "temperature": "set `{section}.temperature`",
    "max_completion_length": "set `student.max_completion_tokens`",
    "save_steps": "set `{section}.checkpoint_steps`",
    "save_strategy": "set `{section}.checkpoint_steps`",
    "save_total_limit": "one whole checkpoint is kept",
    "save_only_model": "a checkpoint without the optimiser could not resume",
    "resume_from_checkpoint": "a killed stage resumes by itself",
    "logging_steps": "metrics.jsonl has a row for every step",
    "logging_strategy": "metrics.jsonl has a row for every step",
    "disable_tqdm": "the command line shows the progress",
    "gradient_checkpointing": "it is called `activation_checkpointing` now",
    "gradient_checkpointing_kwargs": "it is called `activation_checkpointing_kwargs` now",
    "model_init_kwargs": "set `student.model`",
    "trust_remote_code": "code that comes with a model never runs",
    **dict.fromkeys(
        (
            "assistant_only_loss",
            "chat_template_path",
            "completion_only_loss",
            "dataset_kwargs",
            "dataset_num_proc",
            "dataset_text_field",
            "eos_token",
            "max_length",
            "packing",
            "packing_strategy",
            "pad_token",
            "truncation_mode",
        ),
        "examples reach TRL as token ids, so it would do nothing",
    ),
}


def check_trainer_arguments(cls: type, mapping: Mapping[str, Any], path: str) -> None:
    """Refuse what TRL does not have, and what the recipe already says elsewhere.

    Args:
        cls: SFTConfig, GRPOConfig or a subclass.
        mapping: The recipe's `trainer` mapping.
        path: Where it stands in the recipe, such as `sft.trainer`.

    Raises:
        ConfigError: A key is no field of `cls` (the closest one is suggested), or is decided
            by another setting.
    """
    known = {field.name for field in fields(cls) if field.init}
    section = path.partition(".")[0]
    for key in mapping:
        if key not in known:
            close = difflib.get_close_matches(key, known - _ELSEWHERE.keys(), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see the fields of TRL's class"
            raise ConfigError(f"{path}.{key}: {cls.__name__} has no such field: {hint}")
        if key in _ELSEWHERE:
            mend = _ELSEWHERE[key].format(section=section)
            raise ConfigError(f"{path}.{key}: cannot be set here: {mend}")
