"""Where Taiji keeps what belongs to a person and no run: caches, and the key of pseudonyms."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """For what can be made again: `$XDG_CACHE_HOME/taiji`, by default `~/.cache/taiji`."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """For what cannot: `$XDG_CONFIG_HOME/taiji`, by default `~/.config/taiji`."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def _xdg(variable: str, default: str) -> Path:
    """As the XDG rules say: an unset, empty or relative value means the default."""
    root = Path(os.environ.get(variable, ""))
    return (root if root.is_absolute() else Path.home() / default) / "taiji"
