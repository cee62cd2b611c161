"""The tables of the paper, filled with what this run measured and "not run" elsewhere.

Renderer-neutral: a table is a title, a caption, column names and rows of plain cells. The
terminal and the report decide what it looks like. Everything comes from `metrics.json`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from taiji.config import POLICY, SFT, UNTUNED
from taiji.report.abtest_tables import abtest_tables
from taiji.report.cells import (
    NOT_APPLICABLE,
    NOT_RUN,
    Cell,
    Measured,
    Metrics,
    Table,
    Unit,
    figure_cell,
)
from taiji.report.gold_table import gold_table
from taiji.report.list_tables import list_tables, suspicious_table
from taiji.report.ranking_tables import ranking_tables

TRACK_TITLES = {
    "any": "any line of the next basket",
    "novel": "a title new to the user",
}
WRITER_TITLES = {
    UNTUNED: "Untuned student",
    SFT: "Student after SFT",
    POLICY: "Policy after alignment",
    "most_popular": "Most popular",
    "most_popular_new": "Most popular, new to user",
    "most_frequent": "User's most frequent",
    "last_bought": "User's last bought",
}
_PAPERS_WEIGHTINGS = {
    "fixed": "GRPO, fixed weights",
    "popo_light": "POPO-light",
    "popo": "POPO",
}
_OUR_WEIGHTINGS = {
    "gdpo": "GDPO, fixed weights",
    "popo_split": "POPO without noise bias",
    "mgda": "MGDA",
    "cagrad": "CAGrad",
    "tchebycheff": "Smooth Tchebycheff",
}
_DIRECT = "Direct distillation (teacher not shown the answer)"
_RUPR_ROWS = {"none": "RUPR, without selection", "ppl": "RUPR + ORFT"}
_TRAINING = (_DIRECT, *_RUPR_ROWS.values())

_HOW_TO_READ = (
    "Shares of test examples with 95 % bootstrap intervals over users. A title hit at K: the true "
    "title is among the K titles of the catalogue (those sold most before the test window) nearest "
    "to the answer by cosine. L2, L3 and exact title together are the levels one step down, "
    "because one class dominates L1. {goal} is the mean score of the grounded answer, 0 where "
    "there is none; its judge is the very ranker that alignment optimised, so a rise of the policy "
    "there is expected and proves nothing about real users."
)
_LEVELS = {f"category_l{level}": f"Category L{level}" for level in (1, 2, 3)}
_UNITS: dict[str, Unit] = {"semantic": "number", "ctcvr": "rate"}


def build_tables(metrics: Metrics) -> tuple[Table, ...]:
    """All tables of a run, in the order in which the report shows them."""
    ranks = [int(k) for k in metrics["hit_rate_at"]]
    return (
        language_table(metrics, "novel", ranks),
        language_table(metrics, "any", ranks),
        difference_table(metrics, ranks),
        *list_tables(metrics, TRACK_TITLES, list_columns(ranks)),
        *suspicious_table(metrics, WRITER_TITLES),
        online_table(),
        activation_table(metrics, ranks),
        weighting_table(metrics),
        gold_table(metrics, WRITER_TITLES, goal_title(metrics)),
        *ranking_tables(metrics.get("ranking"), metrics.get("contents")),
        *abtest_tables(metrics.get("abtest")),
    )


def language_table(metrics: Metrics, track: str, ranks: Sequence[int]) -> Table:
    """Table 1: what each model, and each trivial answer, is worth."""
    columns = {
        "think_tag_presence": "Think_Tag_Presence",
        "think_non_empty": "Think_Non_Empty",
        "answer_non_empty": "Answer_Non_Empty",
        **_LEVELS,
        **hit_columns(ranks),
        "category_l1_macro": "Macro L1",
        "title_exact": "Title exact",
        "grounded": "Grounded",
        "ctcvr": f"{goal_title(metrics)} (reward ranker)",
    }
    writers = metrics["writers"]
    rows = tuple(
        (WRITER_TITLES.get(name, name), *(_figure(writer["tracks"][track], key) for key in columns))
        for name, writer in _in_order(writers, WRITER_TITLES)
    )
    catalogue = metrics["catalogue"]
    return Table(
        key=f"table1-{track}",
        title=f"Table 1. Language model quality: {TRACK_TITLES[track]}",
        caption=(
            f"{100 * catalogue[f'coverage_{track}']:.1f} % of the true titles are among the "
            f"{catalogue['size']:,} of the catalogue, the others count as misses. "
            + (_HOW_TO_READ.format(goal=goal_title(metrics)) if track == "novel" else "")
        ).strip(),
        columns=("Answer by", *columns.values()),
        rows=rows,
    )


def goal_title(metrics: Metrics) -> str:
    """What ranking models predict in this run: CTCVR, or CTR where the click is the goal."""
    return "CTR" if (metrics.get("contents") or {}).get("goal") == "click" else "CTCVR"


def hit_columns(ranks: Sequence[int]) -> dict[str, str]:
    """Column key and name of each hit rate."""
    return {f"title_hit_rate_at_{k}": f"Title_Hit-Rate@{k}" for k in ranks}


def list_columns(ranks: Sequence[int]) -> dict[str, str]:
    """Key and name of each measure of a list."""
    return {**_LEVELS, **hit_columns(ranks)}


def difference_table(metrics: Metrics, ranks: Sequence[int]) -> Table:
    """Paired differences on the novel track: is a step real, or noise?"""
    columns = {"category_l2": "Category L2", "category_l3": "Category L3", **hit_columns(ranks)}
    rows = tuple(
        (
            " – ".join(WRITER_TITLES.get(pair[side], pair[side]) for side in ("of", "over")),
            *(_figure(pair["metrics"], key) for key in columns),
        )
        for pair in metrics["differences"]
    )
    return Table(
        key="differences",
        title="Differences on novel titles",
        caption=(
            "Paired by user, in points of per cent, with 95 % intervals. "
            "An interval that spans 0 is no evidence of a difference."
        ),
        columns=("Difference", *columns.values()),
        rows=rows,
    )


def online_table() -> Table:
    """Table 2: the paper's live A/B test, which no offline run can stand in for."""
    return Table(
        key="table2",
        title="Table 2. Online A/B test",
        caption="Needs live traffic; an offline run has none.",
        columns=("Arm", "Lift"),
        rows=(("With language features, against without", NOT_RUN),),
    )


def activation_table(metrics: Metrics, ranks: Sequence[int]) -> Table:
    """Table 3: what each step of reasoning activation adds, as far as this run measured it."""
    trained, aligned = _training_row(metrics), _papers_alignment(metrics)
    names = [*_TRAINING, *([trained] if trained and trained not in _TRAINING else [])]
    measured_by = {
        "Untuned": UNTUNED,
        **{name: SFT if name == trained else None for name in names},
        "RUPR + ORFT + POPO": POLICY if aligned else None,
    }
    columns = {**_LEVELS, **hit_columns(ranks)}
    rows = tuple(
        (name, *(_writer_figure(metrics, writer, "any", key) for key in columns))
        for name, writer in measured_by.items()
    )
    return Table(
        key="table3",
        title="Table 3. Reasoning activation",
        caption="Target: any line of the next basket. Other rows need a run of their own.",
        columns=("Training", *columns.values()),
        rows=rows,
    )


def _training_row(metrics: Metrics) -> str | None:
    """The row of Table 3 that this run's student after SFT fills."""
    refine, distill = metrics.get("refine"), metrics.get("distill") or {}
    if refine is None:
        return None
    chosen = refine["filter"] if refine["selects"] else "none"
    if distill.get("mode") == "direct":
        return _DIRECT if chosen == "none" else f"{_DIRECT}, kept by {chosen}"
    return _RUPR_ROWS.get(chosen, f"RUPR, kept by {chosen}")


def _papers_alignment(metrics: Metrics) -> bool:
    align = metrics.get("align")
    by_paper = _training_row(metrics) == _RUPR_ROWS["ppl"]
    return by_paper and align is not None and align["rule"] == "popo"


def weighting_table(metrics: Metrics) -> Table:
    """Table 4: reward weighting, the paper's three and that of this run; a run measures one."""
    align = metrics.get("align")
    rule = align["rule"] if align is not None else None
    titles = _PAPERS_WEIGHTINGS | ({} if rule is None else {rule: weighting_title(rule)})
    rows = tuple(
        (
            title,
            _writer_figure(metrics, POLICY if key == rule else None, "any", "semantic"),
            _writer_figure(metrics, POLICY if key == rule else None, "any", "ctcvr"),
            *(_weights(align) if key == rule and align is not None else (NOT_RUN, NOT_RUN)),
        )
        for key, title in titles.items()
    )
    return Table(
        key="table4",
        title="Table 4. Reward weighting",
        caption=(
            "The policy's answers on the test examples: mean cosine to the true item's text "
            f"(Eq. 3), mean {goal_title(metrics)} by the reward ranker, and where the weights "
            "ended."
        ),
        columns=(
            "Rule",
            "Semantic reward",
            goal_title(metrics),
            "Last w, semantic",
            "Last w, preference",
        ),
        rows=rows,
    )


def weighting_title(scheme: str) -> str:
    """A weighting by name, as `align.weights.scheme` gives it: a rule, and what it acts on."""
    rule, _, where = scheme.partition(" ")
    title = (_PAPERS_WEIGHTINGS | _OUR_WEIGHTINGS)[rule]
    return f"{title}, {where}" if where else title


def _in_order(figures: Metrics, order: Sequence[str] | Mapping[str, str]) -> list[tuple[str, Any]]:
    """Items in our order, and those of names that are not ours behind; JSON sorts its keys."""
    names = [*(name for name in order if name in figures), *sorted(set(figures) - set(order))]
    return [(name, figures[name]) for name in names]


def _weights(align: Metrics) -> tuple[Cell, Cell]:
    """Where the weights of the paper's two rewards ended; a run may pay others."""
    ends = (align["last"].get(f"w_{name}") for name in ("semantic", "preference"))
    semantic, preference = (
        NOT_APPLICABLE if end is None else Measured(float(end), unit="number") for end in ends
    )
    return semantic, preference


def _writer_figure(metrics: Metrics, writer: str | None, track: str, key: str) -> Cell:
    if writer is None or writer not in metrics["writers"]:
        return NOT_RUN
    return _figure(metrics["writers"][writer]["tracks"][track], key)


def _figure(figures: Metrics, key: str) -> Cell:
    """A figure by name; none where it is not defined, as for the tags of a trivial answer."""
    return figure_cell(figures, key, _UNITS.get(key, "share"))
