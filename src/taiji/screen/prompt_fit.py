"""How many history lines a prompt leaves out, by the run's own tokenizer; it loads PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taiji.config import Recipe
from taiji.language.models import load_tokenizer
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.prompts import prompt_fitter


def lines_dropped(example: Mapping[str, Any], run: Path, recipe: Recipe) -> int:
    """Oldest lines that the student's prompt of one example has no room for.

    Raises:
        ConfigError: Not even the profile fits.
        EngineError: The tokenizer is not here.
    """
    tuned = run / "sft" / "model"
    model = str(tuned.absolute()) if tuned.is_dir() else recipe.student.model
    scaffold = ChatScaffold(load_tokenizer(model, offline=True))
    return prompt_fitter(recipe, scaffold).fit(example)[1]
