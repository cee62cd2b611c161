"""Every setting, from the fields themselves: for docs/settings.md and `config show --describe`."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from taiji.config.levels import Level, level
from taiji.config.recipe import Recipe

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Any: "any"}


@dataclass(frozen=True)
class Setting:
    """One field of a section.

    Attributes:
        type: In words.
        default: As YAML would have it; `needed` where there is none, empty for a section.
    """

    path: str
    type: str
    default: str
    level: Level
    description: str


@dataclass(frozen=True)
class Block:
    """A section with its settings; one that is used in several places stands where it is first.

    Attributes:
        path: Where it stands, such as `distill.teacher`.
        kind: Which of several that may stand there, such as `openai`; empty for the only one.
    """

    path: str
    kind: str
    summary: str
    settings: tuple[Setting, ...]


def blocks() -> Iterator[Block]:
    """All sections of a recipe, in its order, each once."""
    yield from _blocks(Recipe, "", set())


def describe(recipe: Recipe) -> Iterator[tuple[str, Level, str]]:
    """Path, level and description of every setting that this recipe has, by its kinds."""
    yield from _described(recipe, "", "")


def _blocks(section: type[BaseModel], path: str, seen: set[type]) -> Iterator[Block]:
    seen.add(section)
    settings = [_setting(f"{path}.{name}".strip("."), f) for name, f in _fields(section)]
    yield Block(path, _tag(section), _summary(section), tuple(settings))
    for name, field in _fields(section):
        for child in _sections(field.annotation):
            if child not in seen:
                yield from _blocks(child, f"{path}.{name}".strip("."), seen)


def _described(section: BaseModel, path: str, above: str) -> Iterator[tuple[str, Level, str]]:
    for name, field in type(section).model_fields.items():
        dotted, value = f"{path}.{name}".strip("."), getattr(section, name)
        words = above if name == "kind" and not field.description else field.description or ""
        if isinstance(value, BaseModel):
            yield from _described(value, dotted, words)
        else:
            yield dotted, level(dotted), words


def _fields(section: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Fields without the tag of a union, which the field above it describes."""
    return ((n, f) for n, f in section.model_fields.items() if n != "kind" or not _tag(section))


def _setting(path: str, field: FieldInfo) -> Setting:
    named = get_origin(field.annotation) is dict  # each under a name of the user's
    sections = [] if named else list(_sections(field.annotation))
    tags = [tag for tag in map(_tag, sections) if tag]
    words = _bounded(_type(field.annotation), field.metadata)
    default = _default(field)
    if tags:
        path, words = f"{path}.kind", _choice(tags)
        chosen = field.get_default()
        default = _tag(type(chosen)) if isinstance(chosen, BaseModel) else default
    elif sections and default not in ("null", "needed", "[]"):
        default = ""
    summary = _summary(sections[0]) if sections and not tags else ""
    return Setting(path, words, default, level(path), field.description or summary)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, default=str, ensure_ascii=False)


def _summary(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").partition("\n")[0]


def _tag(section: type[BaseModel]) -> str:
    """The `kind` by which a section is chosen among others."""
    kind = section.model_fields.get("kind")
    values = get_args(kind.annotation) if kind is not None else ()
    is_tag = kind is not None and get_origin(kind.annotation) is Literal and len(values) == 1
    return str(values[0]) if is_tag else ""


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _type(annotation: Any) -> str:
    """A type in words, with its bounds."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bounded(_type(parts[0]), parts[1:])
    if origin in (Union, UnionType):
        return " or ".join("null" if part is NoneType else _type(part) for part in parts)
    if origin is Literal:
        return _choice(parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}" if Ellipsis in parts else f"{len(parts)} numbers"
    if origin is dict:
        words = _type(parts[1])
        return "sections by name" if words.startswith("section") else f"names with {words}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _choice([each.value for each in annotation])
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounded(words: str, constraints: Iterable[Any]) -> str:
    """With the tightest bound of each side: a field may narrow that of its type."""
    found = [(getattr(c, key), key) for c in constraints for key in _BOUNDS if hasattr(c, key)]
    lower = max((one for one in found if one[1][0] == "g"), default=None)  # of equals "gt"
    upper = min((one for one in found if one[1][0] == "l"), key=_upper, default=None)
    told = [f"{_BOUNDS[key]} {bound}" for bound, key in filter(None, (lower, upper))]
    return ", ".join([words, *told])


def _upper(one: tuple[Any, str]) -> tuple[Any, bool]:
    bound, key = one
    return bound, key == "le"


def _choice(values: Any) -> str:
    *others, last = [f"`{value}`" for value in values]
    return f"{', '.join(others)} or {last}" if others else str(last)
