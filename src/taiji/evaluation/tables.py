"""The tables of the paper, filled with what this run measured and "not run" elsewhere.

Renderer-neutral: a table is a title, a caption, column names and rows of plain cells. The
terminal and the report decide what it looks like. Everything comes from `metrics.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

NOT_RUN = "not run"
NOT_APPLICABLE = "–"
TRACK_TITLES = {
    "any": "any line of the next basket",
    "novel": "a title new to the user",
}
WRITER_TITLES = {
    "untuned": "Untuned student",
    "sft": "Student after SFT",
    "policy": "Policy after alignment",
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
}

_HOW_TO_READ = (
    "Shares of test examples with 95 % bootstrap intervals over users. A title hit at K: the true "
    "title is among the K titles of the catalogue (those sold most before the test window) nearest "
    "to the answer by cosine. L2, L3 and exact title together are the levels one step down, "
    "because one class dominates L1. CTCVR is the mean score of the grounded answer, 0 where there "
    "is none; its judge is the very ranker that alignment optimised, so a rise of the policy there "
    "is expected and proves nothing about real users."
)
_LEVELS = {f"category_l{level}": f"Category L{level}" for level in (1, 2, 3)}
_ARMS = {"base": "Base", "intra": "+ intra-user", "cross": "+ cross-user", "both": "+ both"}
_RANKING = {
    "click_auc": "Click AUC",
    "click_gauc": "Click GAUC",
    "ctcvr_auc": "CTCVR AUC",
    "ctcvr_gauc": "CTCVR GAUC",
    "ctcvr_log_loss": "CTCVR log loss",
}
Unit = Literal["share", "rate", "number", "fine"]
_UNITS: dict[str, Unit] = {"semantic": "number", "ctcvr": "rate"}
_UNITS.update(dict.fromkeys(_RANKING, "fine"))

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A figure with its 95 % interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    unit: Unit = "share"


Cell = Measured | str


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its name."""

    key: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def cell_text(cell: Cell) -> str:
    """One cell as plain text: shares in per cent, other numbers with three digits."""
    if isinstance(cell, str):
        return cell
    return f"{point_text(cell)} {range_text(cell)}".rstrip()


def point_text(cell: Measured) -> str:
    """The figure alone."""
    return _number(cell.value, cell.unit)


def range_text(cell: Measured) -> str:
    """Its interval in brackets; empty where there is none."""
    if cell.low is None or cell.high is None:
        return ""
    low, high = (_number(bound, cell.unit).removesuffix(" %") for bound in (cell.low, cell.high))
    return f"[{low}, {high}]"


def _number(value: float, unit: Unit) -> str:
    match unit:
        case "share":
            return f"{100 * value:.1f} %"
        case "rate":
            return f"{100 * value:.2f} %"
        case "number":
            return f"{value:.3g}"
        case "fine":
            return f"{value:.4f}"


def build_tables(metrics: Metrics) -> tuple[Table, ...]:
    """All tables of a run, in the order in which the report shows them."""
    ranks = [int(k) for k in metrics["hit_rate_at"]]
    return (
        language_table(metrics, "novel", ranks),
        language_table(metrics, "any", ranks),
        difference_table(metrics, ranks),
        online_table(),
        activation_table(metrics, ranks),
        weighting_table(metrics),
        *ranking_tables(metrics),
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
        "ctcvr": "CTCVR (reward ranker)",
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
            + (_HOW_TO_READ if track == "novel" else "")
        ).strip(),
        columns=("Answer by", *columns.values()),
        rows=rows,
    )


def hit_columns(ranks: Sequence[int]) -> dict[str, str]:
    """Column key and name of each hit rate."""
    return {f"title_hit_rate_at_{k}": f"Title_Hit-Rate@{k}" for k in ranks}


def difference_table(metrics: Metrics, ranks: Sequence[int]) -> Table:
    """Paired differences on the novel track: is a step real, or noise?"""
    columns = {"category_l2": "Category L2", "category_l3": "Category L3", **hit_columns(ranks)}
    rows = tuple(
        (
            f"{WRITER_TITLES[pair['of']]} – {WRITER_TITLES[pair['over']]}",
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
    refine, align = metrics.get("refine"), metrics.get("align")
    selects = refine is not None and refine["selects"]
    rule = align["rule"] if align is not None else None
    measured_by = {
        "Untuned": "untuned",
        "Direct distillation (teacher not shown the answer)": None,
        "RUPR, without selection": None if selects else "sft",
        "RUPR + ORFT": "sft" if selects else None,
        "RUPR + ORFT + POPO": "policy" if selects and rule == "popo" else None,
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


def weighting_table(metrics: Metrics) -> Table:
    """Table 4: reward weighting, the paper's three and that of this run; a run measures one."""
    align = metrics.get("align")
    rule = align["rule"] if align is not None else None
    titles = _PAPERS_WEIGHTINGS | ({} if rule is None else {rule: weighting_title(rule)})
    rows = tuple(
        (
            title,
            _writer_figure(metrics, "policy" if key == rule else None, "any", "semantic"),
            _writer_figure(metrics, "policy" if key == rule else None, "any", "ctcvr"),
            *(_weights(align) if key == rule and align is not None else (NOT_RUN, NOT_RUN)),
        )
        for key, title in titles.items()
    )
    return Table(
        key="table4",
        title="Table 4. Reward weighting",
        caption=(
            "The policy's answers on the test examples: mean cosine to the true item's text "
            "(Eq. 3), mean CTCVR by the reward ranker, and where the weights ended."
        ),
        columns=("Rule", "Semantic reward", "CTCVR", "Last w, semantic", "Last w, preference"),
        rows=rows,
    )


def weighting_title(scheme: str) -> str:
    """A weighting by name, as `align.weights.scheme` gives it: a rule, and what it acts on."""
    rule, _, where = scheme.partition(" ")
    title = (_PAPERS_WEIGHTINGS | _OUR_WEIGHTINGS)[rule]
    return f"{title}, {where}" if where else title


def ranking_tables(metrics: Metrics) -> tuple[Table, ...]:
    """The ranking model with and without the language features, and the paired differences."""
    ranking = metrics.get("ranking") or {"arms": {}, "differences": {}, "covered": None}
    tables = [_ranking_table(ranking, "ranking", "all exposures of the test window")]
    if ranking["covered"]:
        covered = ranking["covered"]
        tables.append(_ranking_table(covered, "ranking-covered", "users with language features"))
    return tuple(tables)


def _ranking_table(ranking: Metrics, key: str, whose: str) -> Table:
    arms, differences = ranking["arms"], ranking["differences"]
    rows: list[tuple[Cell, ...]] = [
        (title, *(_figure(arms[arm], name) if arm in arms else NOT_RUN for name in _RANKING))
        for arm, title in _ARMS.items()
    ]
    rows.extend(
        (f"{_ARMS[arm]} – base", *(_figure(figures, name) for name in _RANKING))
        for arm, figures in _in_order(differences, _ARMS)
    )
    counts = [
        f"{ranking[name]:,} {name}"
        for name in ("exposures", "users", "clicks", "conversions")
        if name in ranking
    ]
    return Table(
        key=key,
        title=f"Ranking with language features: {whose}",
        caption=f"{', '.join(counts) or 'Not ranked yet'}. Intervals over users, differences "
        "paired; higher is better, but for the log loss.",
        columns=("Ranking model", *_RANKING.values()),
        rows=tuple(rows),
    )


def _in_order(figures: Metrics, order: Sequence[str] | Mapping[str, str]) -> list[tuple[str, Any]]:
    """Items in our order; JSON keeps its keys sorted."""
    return [(name, figures[name]) for name in order if name in figures]


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
    figure = figures.get(key)
    if figure is None or figure["value"] is None:
        return NOT_APPLICABLE
    unit = _UNITS.get(key, "share")
    return Measured(float(figure["value"]), figure["low"], figure["high"], unit)
