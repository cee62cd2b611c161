"""YAML of a stranger: bounded before it is built, so that no file can hang or exhaust a machine.

A recipe has some hundred settings, a few levels deep. What is much larger, nests deeper, or grows
by aliases is refused from its events alone, which cost no more than the text is long.
"""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    ScalarEvent,
)

from taiji.errors import ConfigError

_MOST_BYTES = 1 << 17
_MOST_VALUES = 10_000
_DEEPEST = 24


def read_text(path: Path) -> str:
    """The text of a recipe.

    Raises:
        ConfigError: It is no file, too large for a recipe, or no text in UTF-8.
    """
    try:
        if not path.is_file():
            what = "is a folder or a device" if path.exists() else "no such file"
            raise ConfigError(f"{path}: cannot be read: {what}: name a recipe")
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{path}: larger than 128 KiB: a recipe holds settings, and no data")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def parse(text: str, where: str, *, round_trip: bool = False) -> Any:
    """What a text says.

    Args:
        text: YAML 1.2.
        where: Begins every message.
        round_trip: Keep lines, as ruamel's own types do.

    Raises:
        ConfigError: It is not valid YAML, or beyond the bounds.
    """
    try:
        _measure(text)
        return YAML(typ="rt" if round_trip else "safe").load(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:  # the text is a stranger's: parsers fail on it in many ways
        raise ConfigError(f"{where}: not valid YAML ({type(error).__name__})") from error


def _measure(text: str) -> None:
    """Count values as they will be once aliases are replaced by what they stand for."""
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchor, and how many values there were before it
    num_values = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_}:
                raise ConfigError(f"*{event.anchor}: stands for what it is itself part of")
            num_values += sizes.get(event.anchor, 1)
        elif isinstance(event, ScalarEvent):
            num_values += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, CollectionStartEvent):
            open_.append((event.anchor, num_values))
            num_values += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = num_values - before
        if num_values > _MOST_VALUES:
            raise ConfigError(f"more than {_MOST_VALUES} values: a recipe holds settings, no data")
        if len(open_) > _DEEPEST:
            raise ConfigError(f"nested deeper than {_DEEPEST} levels: no setting lies so deep")
