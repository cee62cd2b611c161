"""What a run showed, and what it did not, in a sentence each: for its last lines and its page."""

from collections.abc import Iterator, Mapping
from typing import Any

from taiji.report.cells import Cell, Measured, Metrics, cell_text, figure_cell, point_text
from taiji.report.ranking_tables import shown
from taiji.report.stage_words import (
    Figures,
    by_writer,
    count,
    numbers,
    percent,
    stage_words,
    writer_name,
)

_FEW_TESTS = 1000
_HIT_RATE = "title_hit_rate_at_"
_ONE_SEED = "one seed cannot tell it from chance"


def seen(figures: Mapping[str, Figures], metrics: Metrics) -> Iterator[tuple[str, str]]:
    """What was done; form learnt, filter, weights, answers, ranking: as far as the run has them.

    Args:
        figures: Summary of each stage's manifest.
        metrics: `metrics.json` of `evaluate`.
    """
    parts = {
        "done": _done(figures),
        "form": _form(figures.get("infer", {})),
        "filter": stage_words("refine", figures.get("refine", {})),
        "weights": _weights(metrics.get("align")),
        "answers": _answers(metrics["writers"]),
        "ranking": _ranking(metrics.get("ranking"), metrics.get("contents") or {}),
    }
    return ((label, text) for label, text in parts.items() if text)


def not_seen(figures: Mapping[str, Figures], metrics: Metrics) -> Iterator[str]:
    """What such a run does not show, and why."""
    reasons = []
    num_tests = metrics["catalogue"].get("targets_any")
    if num_tests is not None and num_tests < _FEW_TESTS:
        reasons.append(f"{num_tests} answers were tested")
    ranking = metrics.get("ranking")
    if ranking and int(ranking["seeds"]) == 1:
        reasons.append("each ranking model trained once")
    if reasons:
        yield f"a lift, or its absence: {', '.join(reasons)}"
    if "evidence" in str(figures.get("distill", {}).get("teacher", "")):
        yield "what a language model teaches: the teacher only states facts"
    if not ranking and not (metrics.get("contents") or {}).get("exposures", 1):
        yield "what the text does for a ranking model: the log has no exposures"
    yield "what users do: all of it is offline"
    yield "how it compares with the paper, whose logs are not public"


def _done(figures: Mapping[str, Figures]) -> str:
    try:
        return "; ".join(
            (
                f"logs of {count(figures['construct']['users'], 'user')}",
                f"{count(figures['distill']['candidates'], 'chain')} of thought",
                f"a student tuned on {figures['sft']['examples']}, aligned on "
                f"{count(figures['align']['rollouts'], 'rollout')}",
                "its words as features at "
                f"{count(figures['features']['users_with_features'], 'moment')}",
            )
        )
    except KeyError:
        return ""  # of another version, or not all stages have run


def _form(figures: Figures) -> str:
    form = numbers(figures, suffix="_ok")
    return f"in the form asked for: {by_writer(form)}" if form else ""


def _weights(align: Metrics | None) -> str:
    if not align or "first" not in align:
        return ""
    first, last = (numbers(align[end], prefix="w_") for end in ("first", "last"))
    moves = {name: (f"{first[name]:.2f}", f"{weight:.2f}") for name, weight in last.items()}
    words = [f"{name} {a} to {b}" if a != b else f"{name} {b}" for name, (a, b) in moves.items()]
    still = " (hardly moved)" if all(was == now for was, now in moves.values()) else ""
    return f"{align['rule']}, {count(align['steps'], 'step')}: {', '.join(words)}{still}"


def _answers(writers: Mapping[str, Any]) -> str:
    """The last model beside the best trivial answer, by the category of the next basket.

    Where nothing has a category, by its title among the nearest 50 or so.
    """
    tracks = [writer["tracks"]["any"] for writer in writers.values()]
    measure, what = "category_l1", "right category L1 of the next basket"
    if not any(measure in track for track in tracks):
        ranks = sorted({int(n.rpartition("_")[2]) for t in tracks for n in t if _HIT_RATE in n})
        if not ranks:
            return ""
        measure, what = f"{_HIT_RATE}{ranks[0]}", f"true title among the nearest {ranks[0]}"
    level = {
        name: figure_cell(writer["tracks"]["any"], measure, "share")
        for name, writer in writers.items()
    }
    models = [name for name, writer in writers.items() if writer["kind"] == "model"]
    trivial = [n for n in writers if n not in models and isinstance(level[n], Measured)]
    best = max(trivial, key=lambda name: _value(level[name]), default=None)
    own = "policy" if "policy" in models else next(iter(models), None)
    named = [f"{writer_name(n)} {_share(level[n])}" for n in (own, best) if n]
    return f"{what}: {', '.join(named)}" if named else ""


def _ranking(ranking: Metrics | None, contents: Metrics) -> str:
    if not ranking:
        return ""
    task, title = "ctcvr", "CTCVR AUC"
    if contents.get("goal") == "click":
        sampled = " on sampled exposures" if contents["sampled"] else ""
        task, title = "click", f"click AUC{sampled}"
    groups = next(iter(ranking["backbones"].values()))["all"]
    found = lift_figure(ranking)
    name = None if found is None else found[0]
    base = figure_cell(groups["arms"]["base"], f"{task}_auc", "fine")
    if name is None:
        return f"{title} {cell_text(base)} without the text"
    with_text = figure_cell(groups["arms"][name.split(" - ")[0]], f"{task}_auc", "fine")
    seeds = int(ranking["seeds"])
    verdict = shown(name, groups["contrasts"][name], task, seeds=seeds)
    points = [point_text(c) if isinstance(c, Measured) else c for c in (base, with_text)]
    said = _ONE_SEED if seeds == 1 else verdict
    return f"{title} {points[0]} without the text, {points[1]} with it: {said}"


def lift_figure(ranking: Metrics) -> tuple[str, Metrics] | None:
    """The contrast that says what the text does, of the first backbone: both, or what there is."""
    groups = next(iter(ranking["backbones"].values()))["all"]
    lifts = [n for n in groups["contrasts"] if ranking["contrasts"][n] == "lift"]
    lifts = [n for n in lifts if n.split(" - ")[0] in groups["arms"]]
    name = "both - base" if "both - base" in lifts else next(iter(lifts), None)
    return None if name is None else (name, groups["contrasts"][name])


def _share(cell: Cell) -> str:
    """A share in whole per cent: more digits would promise what few answers cannot keep."""
    if isinstance(cell, str):
        return cell
    if cell.low is None or cell.high is None:
        return percent(cell.value)
    return f"{percent(cell.value)} [{100 * cell.low:.0f}, {100 * cell.high:.0f}]"


def _value(cell: Cell) -> float:
    return cell.value if isinstance(cell, Measured) else float("-inf")
