"""What the rule for the weights and a bonus remember, in and out of a checkpoint."""

import json
import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from taiji.alignment.popo.update import Bonus
from taiji.alignment.popo.weight_rule import WeightRule
from taiji.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

_FILE = "popo_state.json"
_BONUS = "popo_bonus.safetensors"


def save(folder: Path, rule: WeightRule, bonus: Bonus | None = None) -> None:
    """Write the state into a checkpoint; fp64 survives the trip through JSON bit for bit."""
    folder.mkdir(parents=True, exist_ok=True)
    state = json.dumps(rule.state_dict(), allow_nan=False)
    (folder / _FILE).write_text(state, encoding="utf-8")
    if bonus is not None:
        save_file({n: t.contiguous() for n, t in bonus.state_dict().items()}, folder / _BONUS)


def load(folder: Path, rule: WeightRule, bonus: Bonus | None = None) -> None:
    """Bring a rule, and a bonus if there is one, to the state of a checkpoint.

    Raises:
        ConfigError: The checkpoint is not of this rule and these rewards, or had no such bonus.
        DataError: The file is damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        raise ConfigError(f"{path}: not there: the checkpoint was not written by PopoTrainer")
    try:
        rule.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        if isinstance(error, ConfigError | DataError):
            raise type(error)(f"{path}: {error}") from error
        raise DataError(f"{path}: damaged: resume from an earlier checkpoint") from error
    if bonus is not None:
        _load_bonus(folder / _BONUS, bonus)


def _load_bonus(path: Path, bonus: Bonus) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: not there: the checkpoint was written without a bonus")
    try:
        bonus.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: damaged, or of another bonus: resume from an earlier checkpoint"
        ) from error


def warn_of_inexact_resume(args: Any) -> None:
    """Say so when a checkpoint may fall between two generations.

    TRL does not save rollouts. A checkpoint in the middle of their use makes the resumed run
    generate afresh, and it then differs from one that was never killed.
    """
    updates = args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps
    if args.save_strategy == "steps" and args.save_steps % updates:
        logger.warning(
            "save_steps=%s is no multiple of the %s updates that one generation serves: "
            "a resumed run will not repeat the original exactly",
            args.save_steps,
            updates,
        )
