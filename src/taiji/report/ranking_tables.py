"""Tables of the ranking comparison, and in plain words whether there is a lift."""

from collections.abc import Iterator
from typing import Any

from taiji.config import PROMPT, SFT, UNTUNED
from taiji.report.cells import NOT_APPLICABLE, NOT_RUN, Cell, Metrics, Table, figure_cell

_TASKS = {"ctcvr": "click and conversion (CTCVR)", "click": "click"}
_MEASURES = {"auc": "AUC", "gauc": "GAUC", "log_loss": "Log loss", "ece": "ECE"}
_GROUPS = {
    "all": "all users",
    "long_tail": "long-tail users",
    "covered": "users with language features",
}
_BACKBONES = {"network": "network", "lightgbm": "LightGBM"}
_ARMS = {
    "base": "Base",
    "intra": "+ intra-user codes",
    "cross": "+ cross-user sequence",
    "both": "+ both",
    "vectors": "+ dense vectors",
    "match": "+ match of text and item",
}
_VARIANTS = {
    "shuffled": "shuffled among users",
    "swapped": "of one other user",
    "random_neighbour": "of a random user",
    "reseeded": "other seeds",
    SFT: "text after SFT",
    UNTUNED: "untuned text",
    PROMPT: "what models read, as it is",
}
_EFFECTS = {
    "codes": "Effect of the codes",
    "sequence": "Effect of the sequence",
    "interaction": "Interaction of both",
}
_HOW_TO_READ = (
    "Intervals are 95 %, over users; differences are paired, on the same draws of users. An effect "
    "is averaged over both levels of the other feature; the interaction is what both have beyond "
    "their sum. The last column says what the interval of the AUC shows."
)
_ONE_SEED = (
    "One seed: the intervals leave out that a model trained again differs from itself, so none "
    "shows a lift; raise rank.seeds."
)
_MANY_SEEDS = "Means over {seeds} seeds, ± their deviation; intervals hold the chance of seeds too."


def ranking_tables(ranking: Metrics | None, contents: Metrics | None = None) -> tuple[Table, ...]:
    """A table for each backbone, group of users and task; one of words where nothing has run.

    Args:
        ranking: Figures of `rank`.
        contents: What the log holds, as `construct` wrote it.
    """
    known = contents or {}
    if known and not known["exposures"]:
        return ()
    if not ranking:
        rows = tuple((title, *[NOT_RUN] * 5) for title in list(_ARMS.values())[:4])
        return (_table("ranking", "all users", "Not ranked yet.", rows),)
    return tuple(_tables(ranking, sampled=bool(known.get("sampled"))))


def _tables(ranking: Metrics, *, sampled: bool) -> Iterator[Table]:
    for backbone in sorted(ranking["backbones"], key=_own_last):
        groups = ranking["backbones"][backbone]
        name = _BACKBONES.get(backbone, backbone)
        for group, whose in _GROUPS.items():
            for task, what in _TASKS.items():
                if group in groups and _is_measured(groups[group], task):
                    yield _table(
                        f"ranking-{backbone}-{group}-{task}",
                        f"{what}, {whose}, {name}{', sampled exposures' if sampled else ''}",
                        _caption(ranking, groups[group], task, first=group == "all"),
                        tuple(_rows(ranking, groups[group], task)),
                    )


def _is_measured(figures: Metrics, task: str) -> bool:
    """Where the click is the goal nothing is said of conversions."""
    return any(f"{task}_auc" in arm for arm in figures["arms"].values())


def _table(key: str, whose: str, caption: str, rows: tuple[tuple[Cell, ...], ...]) -> Table:
    return Table(
        key=key,
        title=f"Ranking with language features: {whose}",
        caption=caption,
        columns=("Ranking model", *_MEASURES.values(), "Shown"),
        rows=rows,
    )


def _rows(ranking: Metrics, figures: Metrics, task: str) -> Iterator[tuple[Cell, ...]]:
    kinds, seeds = ranking["contrasts"], int(ranking["seeds"])
    arms, contrasts = figures["arms"], figures["contrasts"]
    for arm in sorted(arms, key=_place):
        yield (_title(arm), *_cells(arms[arm], task), NOT_APPLICABLE)
    for kind in ("lift", "effect", "control", "loss"):
        for name in sorted(contrasts, key=_place):
            if kinds[name] == kind:
                found = contrasts[name]
                yield (
                    _contrast_title(name),
                    *_cells(found, task),
                    shown(name, found, task, seeds=seeds),
                )


def _cells(figures: Metrics, task: str) -> list[Cell]:
    return [figure_cell(figures, f"{task}_{measure}", "fine") for measure in _MEASURES]


def shown(name: str, figures: Metrics, task: str, *, seeds: int) -> str:
    """What the interval of the AUC says: a lift, a loss, or neither.

    One seed shows neither: trained with another, a model differs from itself by as much.
    """
    more, less, neither = (
        ("more than the sum", "less than the sum", "no interaction shown")
        if name == "interaction"
        else ("lift shown", "loss shown", "no lift shown")
    )
    figure = figures[f"{task}_auc"]
    if figure["low"] is None or figure["high"] is None:
        return "cannot be judged"
    if figure["low"] <= 0 <= figure["high"]:
        return neither
    if seeds == 1:
        return "takes more seeds"
    return more if figure["low"] > 0 else less


def _caption(ranking: Metrics, figures: Metrics, task: str, *, first: bool) -> str:
    counts = ", ".join(
        f"{figures[name]:,} {name}"
        for name in ("exposures", "users", "clicks", "conversions")
        if name in figures
    )
    seeds = int(ranking["seeds"])
    sentences = [
        f"{counts}.",
        verdict(ranking, figures, task),
        _ONE_SEED if seeds == 1 else _MANY_SEEDS.format(seeds=seeds),
        _HOW_TO_READ if first else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def verdict(ranking: Metrics, figures: Metrics, task: str) -> str:
    """In plain words: which arms lift, which do not, and whether a control lifts as well."""
    kinds, seeds = ranking["contrasts"], int(ranking["seeds"])
    said: dict[str, list[str]] = {}
    for name, found in figures["contrasts"].items():
        if kinds[name] == "lift":
            said.setdefault(shown(name, found, task, seeds=seeds), []).append(
                _title(name.split(" - ")[0])
            )
    sentences = [
        f"{what[0].upper()}{what[1:]}: {', '.join(sorted(arms))}." for what, arms in said.items()
    ]
    lifting = [
        _title(name.split(" - ")[0])
        for name, found in figures["contrasts"].items()
        if kinds[name] == "control" and shown(name, found, task, seeds=seeds) == "lift shown"
    ]
    if lifting:
        sentences.append(
            f"A control lifts too ({', '.join(sorted(lifting))}): of a lift, only what the arm "
            "keeps over its control comes from what the features mean."
        )
    return " ".join(sorted(sentences))


def _contrast_title(name: str) -> str:
    if name in _EFFECTS:
        return _EFFECTS[name]
    of, over = name.split(" - ")
    return f"{_title(of)} – {_title(over)}"


def _title(variant: str) -> str:
    arm, _, how = variant.partition(":")
    title = _ARMS.get(arm, arm)
    return f"{title}, {_VARIANTS[how]}" if how else title


def _own_last(backbone: str) -> tuple[int, str]:
    known = list(_BACKBONES)
    return known.index(backbone) if backbone in known else len(known), backbone


def _place(name: str) -> tuple[Any, ...]:
    """Our order; JSON keeps its keys sorted."""
    order = [*_ARMS, *_EFFECTS]
    arm, _, how = name.split(" - ")[0].partition(":")
    hows = ["", *_VARIANTS]
    return bool(how), order.index(arm), hows.index(how), name
