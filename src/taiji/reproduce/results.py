"""One report of a study: the paper's tables with ours beside them, as a page, JSON and Markdown."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taiji import __version__
from taiji.report.cells import Table, cell_text, condensed
from taiji.report.comparison import Section, render_comparison
from taiji.report.comparison_charts import comparison_charts
from taiji.report.run_files import ReportData, read_folder
from taiji.reproduce.arms import ARMS, WORLD_TITLES, World, run_name
from taiji.reproduce.paper import WHY_NOT, paper_tables
from taiji.reproduce.study import Study, finished
from taiji.reproduce.tables import world_tables
from taiji.store.files import replacing, write_json

_WORDS = {
    "journey": "Real purchases of 2,500 households. Arms share data, student, budgets and seed.",
    "planted": "Clicks depend on needs that notes tell of and the log does not hold.",
}


def write_results(study: Study) -> Path:
    """Write report.html, results.json and results.md into the folder of a study.

    Returns:
        Where the page is.
    """
    runs = {name: read_folder(root) for name, root in finished(study).items()}
    sections = [_section(study, world, runs) for world in study.worlds]
    told = Section("paper", "The paper's own figures", WHY_NOT, paper_tables())
    page = render_comparison(runs, "The paper's tables on open data", [*sections, told])
    with replacing(study.folder / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    write_json(_figures(study, runs, sections), study.folder / "results.json")
    with replacing(study.folder / "results.md") as temporary:
        temporary.write_text(markdown([*sections, told]), encoding="utf-8")
    return study.folder / "report.html"


def _section(study: Study, world: World, runs: dict[str, ReportData]) -> Section:
    own = {
        arm.name: runs[run_name(w, arm)]
        for w, arm in study.runs()
        if w == world and run_name(w, arm) in runs
    }
    tables = [condensed(table) for table in world_tables(world, own)]
    # The policy of an arm without a row in Table 4 is not looked at.
    drawn = {arm.name: own[arm.name] for arm in ARMS if "table4" in arm.rows and arm.name in own}
    shown = [one for one in tables if one.key in (f"{world}-table1", f"{world}-table4")]
    charts = comparison_charts(drawn, shown, "L1", world)
    return Section(world, WORLD_TITLES[world], _WORDS[world], tables, charts)


def _figures(
    study: Study, runs: dict[str, ReportData], sections: Sequence[Section]
) -> dict[str, Any]:
    """Every table as values, and what they rest on."""
    seconds = {n: sum(m["seconds"] for m in data.manifests) for n, data in runs.items()}
    return {
        "version": __version__,
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "size": study.size,
        "further": list(study.further),
        "seconds": seconds,
        "seeds": {name: data.recipe.seed for name, data in runs.items()},
        "tables": {table.key: _values(table) for part in sections for table in part.tables},
    }


def _values(table: Table) -> list[dict[str, Any]]:
    return [
        {
            column: cell if isinstance(cell, str) else asdict(cell)
            for column, cell in zip(table.columns, row, strict=True)
        }
        for row in table.rows
    ]


def markdown(sections: Sequence[Section]) -> str:
    """The same tables for a document."""
    lines: list[str] = []
    for section in sections:
        lines += [f"## {section.title}", "", section.words, ""]
        for table in section.tables:
            lines += [f"### {table.title}", "", _line(table.columns)]
            lines.append(_line(["---"] * len(table.columns)))
            lines += [_line([cell_text(cell) for cell in row]) for row in table.rows]
            lines += ["", table.caption, ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
