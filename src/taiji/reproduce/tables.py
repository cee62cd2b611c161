"""The paper's tables from the runs of a study: each row is a model of one arm, judged alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taiji.config import POLICY, SFT, UNTUNED
from taiji.report.abtest_tables import abtest_tables
from taiji.report.cells import NOT_RUN, Cell, Table, Unit, figure_cell
from taiji.report.comparison import paired_tables
from taiji.report.comparison_charts import Runs
from taiji.report.paper_tables import WRITER_TITLES
from taiji.reproduce.arms import ARMS, LEAD, World

Row = tuple[Cell, ...]
Place = tuple[str, str, str]
"""Title of a row, the arm whose run holds it, and which of its writers it is."""

_FORM = {
    "think_tag_presence": "Think tag",
    "think_non_empty": "Think non-empty",
    "answer_non_empty": "Answer non-empty",
}
_ON: Mapping[World, str] = {"journey": "Complete Journey", "planted": "the planted world"}
_FURTHER = ("light", "split", "tchebycheff")
_BASELINES = ("most_popular", "most_popular_new", "most_frequent", "last_bought")
_HOW = (
    "Target: any line of the next basket. Shares with 95 % intervals over users; "
    "CTCVR by the ranking model that alignment was paid by."
)
_RULES = [(arm.rows["table4"], arm.name, POLICY) for arm in ARMS if "table4" in arm.rows]


def world_tables(world: World, runs: Runs) -> list[Table]:
    """Tables 1, 3, 4 and 2 of one world, and differences between its arms.

    Args:
        world: Which.
        runs: Its runs that have been judged, by arm.
    """
    where = _ON[world]
    ranks = _ranks(runs)
    found = [
        _table(world, "table1", f"Table 1 on {where}", _language(ranks), _first(), runs),
        _table(world, "table3", f"Table 3 on {where}", _FORM | _language(ranks), _third(), runs),
        _table(world, "table4", f"Table 4 on {where}", _judged(ranks), _RULES, runs),
    ]
    ordered = {name: runs[name] for name in ("fixed", LEAD, *_FURTHER) if name in runs}
    lead = runs.get(LEAD)
    metrics = None if lead is None else lead.metrics
    further = [
        *(paired_tables(ordered) if len(ordered) > 1 else ()),
        *abtest_tables(None if metrics is None else metrics.get("abtest"))[:3],
    ]
    # Both worlds have these: a key names one table of a study.
    return [*found, *(replace(one, key=f"{world}-{one.key}") for one in further)]


def _first() -> list[Place]:
    return [
        ("Untuned student", LEAD, UNTUNED),
        ("Teacher: not a language model here", "", ""),
        ("ORFT", LEAD, SFT),
        ("ORFT + POPO-light", "light", POLICY),
        ("ORFT + POPO", LEAD, POLICY),
        *((f"Trivial: {WRITER_TITLES[name].lower()}", LEAD, name) for name in _BASELINES),
    ]


def _third() -> list[Place]:
    return [
        ("Without RUPR: the teacher is not shown the truth", "direct", SFT),
        ("With RUPR", LEAD, SFT),
    ]


def _ranks(runs: Runs) -> list[int]:
    known = (data.metrics["hit_rate_at"] for data in runs.values() if data.metrics is not None)
    return sorted({int(k) for ranks in known for k in ranks})


def _language(ranks: Sequence[int]) -> dict[str, str]:
    levels = {f"category_l{n}": f"L{n}" for n in (1, 2, 3)}
    hits = {f"title_hit_rate_at_{k}": f"Hit@{k}" for k in ranks}
    return levels | hits | {"ctcvr": "CTCVR"}


def _judged(ranks: Sequence[int]) -> dict[str, str]:
    return {**_language(ranks), "semantic": "Semantic"}


def _table(
    world: World,
    key: str,
    title: str,
    columns: Mapping[str, str],
    rows: Sequence[Place],
    runs: Runs,
) -> Table:
    return Table(
        key=f"{world}-{key}",
        title=title,
        caption=_HOW,
        columns=("Answer by", *columns.values()),
        rows=tuple(_row(title, runs, arm, writer, columns) for title, arm, writer in rows),
    )


def _row(title: str, runs: Runs, arm: str, writer: str, columns: Mapping[str, str]) -> Row:
    metrics = runs[arm].metrics if arm in runs else None
    writers: Mapping[str, Any] = {} if metrics is None else metrics["writers"]
    if writer not in writers:
        return (title, *[NOT_RUN] * len(columns))
    figures = writers[writer]["tracks"]["any"]
    return (title, *(figure_cell(figures, key, _UNITS.get(key, "share")) for key in columns))


_UNITS: Mapping[str, Unit] = {"semantic": "number", "ctcvr": "rate"}
