"""What of a run left the machine, by its recipe and by the replies that were paid for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from taiji.config import Recipe
from taiji.config.engines import ServerSection

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Sent:
    """Something that was given to somebody else.

    Attributes:
        stage: Which stage gave it.
        what: What was given, in words.
        to: Host and model.
        replies: How many came back; None where nobody counts them.
        tokens: Sent and received together.
    """

    stage: str
    what: str
    to: str
    replies: int | None = None
    tokens: int | None = None


def sent_out(recipe: Recipe, calls: Mapping[str, Mapping[str, int]]) -> list[Sent]:
    """Everything that this run gave to a server or to other machines, in the order of the stages.

    Args:
        recipe: Of the run.
        calls: Replies and tokens by model, as `run_files.calls_by_model` counts them.
    """
    return list(_sent(recipe, calls))


def _sent(recipe: Recipe, calls: Mapping[str, Mapping[str, int]]) -> Iterator[Sent]:
    prompts = "profiles, histories and true next items, in clear"
    teacher: Any = recipe.distill.teacher
    if isinstance(teacher, ServerSection):
        counted = calls.get(teacher.model)  # type: ignore[attr-defined]
        yield Sent("distill", prompts, _address(teacher), *_figures(counted))
    if recipe.score.endpoint is not None:
        yield Sent("score", f"{prompts}, with chains", _address(recipe.score.endpoint))
    for engine in (recipe.infer.engine, *recipe.infer.engines.values()):
        if isinstance(engine, ServerSection):
            asking = "infer, head" if recipe.head.enabled else "infer"
            yield Sent(asking, "profiles and histories, in clear", _address(engine))
    if recipe.compute.kind == "ray" and recipe.compute.address is not None:
        where = f"Ray cluster at {recipe.compute.address}"
        yield Sent("distill, score, infer", "prompts and models", where)


def _address(section: ServerSection) -> str:
    """Host and model; a user or a password in the address stays out."""
    host = urlsplit(section.base_url).hostname or "?"
    here = " (this machine)" if host in _HERE else ""
    model = getattr(section, "model", None) or "of the run"
    return f"{host}{here}, model {model}"


def _figures(counted: Mapping[str, int] | None) -> tuple[int | None, int | None]:
    if counted is None:
        return None, None
    return counted["replies"], counted["sent"] + counted["received"]
