"""From a YAML file and `section.key=value` overrides to a checked `Recipe`.

YAML 1.2 is read, so `1e-7` is a number and `no` is a word. All mistakes are reported at once,
each with file, line, dotted path and a suggestion.
"""

import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from taiji.config import Recipe
from taiji.config.yaml_text import parse, read_text
from taiji.errors import ConfigError

Path_ = tuple[str, ...]

_MOST_KEYS = 24
_MOST_SHOWN = 120
_SECRETS = ("key", "secret", "token", "password")  # somebody may put one where its name belongs


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe and where each of its values came from.

    Attributes:
        origins: Dotted path -> `file:line` or `command line`; a path not in it has its default.
    """

    recipe: Recipe
    origins: Mapping[str, str]

    def origin(self, dotted: str) -> str:
        """Where the value of a setting came from: a line, the command line, or its default."""
        return self.origins.get(dotted, "default")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, override and check a recipe.

    Args:
        path: A YAML file.
        overrides: `section.key=value`, the value read as YAML.

    Raises:
        ConfigError: The file or an override cannot be used; the message lists every mistake.
    """
    tree = _read_yaml(path)
    origins = {".".join(keys): f"{path}:{line}" for keys, line in _lines(tree)}
    plain: dict[str, Any] = _plain(tree)
    given = [_parse_override(override) for override in overrides]
    for keys, value in sorted(given, key=lambda one: one[0][-1] != "kind"):
        replaced = _assign(plain, keys, value)
        origins = {k: v for k, v in origins.items() if not k.startswith(f"{'.'.join(replaced)}.")}
        origins[".".join(keys)] = "command line"
    try:
        return LoadedRecipe(Recipe.model_validate(plain), origins)
    except ValidationError as error:
        lines = [_explain(detail, origins, path) for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML that loads to the same recipe."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(recipe.model_dump(mode="json"), stream)
    return stream.getvalue()


def leaves(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Every setting as (dotted path, value)."""
    yield from _leaves(recipe.model_dump(mode="json"), ())


def _leaves(value: Any, keys: Path_) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _leaves(child, (*keys, key))
    else:
        yield ".".join(keys), value


def _read_yaml(path: Path) -> CommentedMap:
    tree = parse(read_text(path), str(path), round_trip=True)
    if not isinstance(tree, CommentedMap):
        raise ConfigError(f"{path}: expected sections such as `data:`, found {type(tree).__name__}")
    return tree


def _lines(tree: CommentedMap, keys: Path_ = ()) -> Iterator[tuple[Path_, int]]:
    for key, value in tree.items():
        yield (*keys, str(key)), tree.lc.key(key)[0] + 1
        if isinstance(value, CommentedMap):
            yield from _lines(value, (*keys, str(key)))


def _plain(value: Any) -> Any:
    """Drop ruamel's round-trip types, which strict validation would refuse."""
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _parse_override(override: str) -> tuple[Path_, Any]:
    dotted, equals, text = override.partition("=")
    keys = tuple(dotted.strip().split("."))
    if not equals or not all(keys) or len(keys) > _MOST_KEYS:
        raise ConfigError(f"{dotted!r}: expected section.key=value, such as sft.epochs=2")
    return keys, _plain(parse(text, dotted))


def _assign(tree: dict[str, Any], keys: Path_, value: Any) -> Path_:
    """Set a value; what it replaced. Another kind begins anew: settings of the old one go."""
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{'.'.join(keys)}: {key} is a value, not a section")
    of_another = keys[-1] == "kind" and tree.get("kind", value) != value
    if of_another:
        tree.clear()
    tree[keys[-1]] = value
    return keys[:-1] if of_another else keys


def _explain(detail: ErrorDetails, origins: Mapping[str, str], path: Path) -> str:
    keys, known = _locate(tuple(str(key) for key in detail["loc"]))
    where = f"{_origin(keys, origins) or path}: {'.'.join(keys)}"
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{where}: no such setting: {hint}"
    if detail["type"] == "missing":
        return f"{where}: required, but not given"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    if not keys:  # two sections do not fit each other, and the message names them
        return f"{path}: {message}"
    return f"{where}: {message}{_found(keys, detail['input'])}"


def _found(keys: Path_, value: Any) -> str:
    """The value that was found, unless it may be a secret or is long."""
    secret = any(word in key.lower() for key in keys for word in _SECRETS)
    if secret or not isinstance(value, bool | int | float | str):
        return ""
    shown = repr(value)
    return f", found {shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + ' ...'}"


def _origin(keys: Path_, origins: Mapping[str, str]) -> str | None:
    """The origin of the setting, of a part of it, or of the deepest section above it."""
    inside = [origin for path, origin in origins.items() if path.startswith(f"{'.'.join(keys)}.")]
    candidates = (".".join(keys[:depth]) for depth in range(len(keys), 0, -1))
    above = [origins[dotted] for dotted in candidates if dotted in origins]
    return next(iter([*inside, *above]), None)


def _locate(loc: Path_) -> tuple[Path_, list[str]]:
    """The path as the user writes it, and the settings known beside its last key.

    Pydantic puts the tag of a union (`distill.teacher.openai.model`) into a location.
    """
    models: list[type[BaseModel]] = [Recipe]
    keys: list[str] = []
    known: list[str] = []
    for key in loc:
        tagged = [model for model in models if len(models) > 1 and _kind(model) == key]
        if tagged:
            models = tagged
            continue
        known = sorted({name for model in models for name in model.model_fields})
        fields = [model.model_fields[key] for model in models if key in model.model_fields]
        if fields or len(models) != 1:  # else a name of the user's choice, as of a profile field
            models = [child for field in fields for child in _models_in(field.annotation)]
        keys.append(key)
    return tuple(keys), known


def _kind(model: type[BaseModel]) -> str | None:
    tags = get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()
    return tags[0] if tags else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
