"""What POPO remembers from step to step: the log weights, in and out of a checkpoint."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from taiji.alignment.weights import Array
from taiji.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

Rule = Literal["popo", "popo_light", "fixed"]

_FILE = "popo_state.json"


def initial_log_weights(reward_weights: Sequence[float] | None, num_rewards: int) -> Array:
    """log w(0) on the simplex: the user's weights, or uniform."""
    weights_K = np.ones(num_rewards) if reward_weights is None else np.array(reward_weights, float)
    with np.errstate(divide="ignore"):  # rule `fixed` may hold a 0
        return np.asarray(np.log(weights_K / weights_K.sum()), dtype=np.float64)


def save(folder: Path, rule: str, names: Sequence[str], log_weights_K: Array) -> None:
    """Write the state into a checkpoint; fp64 survives the trip through JSON bit for bit."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "rule": rule,
        "rewards": list(names),
        # JSON has no minus infinity, which POPO-light reaches for a reward without spread.
        "log_weights": [value if np.isfinite(value) else None for value in log_weights_K.tolist()],
    }
    (folder / _FILE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")


def load(folder: Path, rule: str, names: Sequence[str]) -> Array:
    """Read the state of a checkpoint.

    Raises:
        ConfigError: The checkpoint is not of this rule and these rewards.
        DataError: The file is damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        raise ConfigError(f"{path}: not there: the checkpoint was not written by PopoTrainer")
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = state["rule"], state["rewards"]
        values = [-np.inf if value is None else float(value) for value in state["log_weights"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged: resume from an earlier checkpoint") from error
    if found != (rule, list(names)):
        raise ConfigError(
            f"{path}: holds rule and rewards {found}, the trainer has {(rule, list(names))}: "
            "resume with the settings that the run began with"
        )
    return np.array(values, dtype=np.float64)


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
