"""Rollouts by page: filters and slices of an Arrow table, so that 100,000 rows answer at once."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taiji.report.explorer import rollout_rows
from taiji.report.run_files import ReportData


@dataclass(frozen=True)
class Asked:
    """What somebody looks for; an empty string is no filter.

    Attributes:
        words: In the answer or the whole text, whatever the case.
        user: How the pseudonym begins.
        first: Least step; `last` the greatest.
        semantic: Least reward, as `preference`.
    """

    words: str = ""
    user: str = ""
    first: str = ""
    last: str = ""
    rung: str = ""
    status: str = ""
    semantic: str = ""
    preference: str = ""


def find_rollouts(data: ReportData, asked: Asked, page: int, size: int) -> dict[str, Any]:
    """The rows of one page as `explorer.ROLLOUT_COLUMNS` has them, and how many there are.

    Raises:
        ValueError: A bound is no number.
    """
    rollouts = data.rollouts
    if rollouts is None:
        return {"rows": [], "found": 0}
    found = rollouts.filter(_mask(data, asked, rollouts))
    rows = rollout_rows(found.slice(page * size, size), data.examples, data.items)
    return {"rows": rows, "found": found.num_rows}


def values_of(data: ReportData, column: str) -> list[str]:
    """The values that a filter offers, in their order."""
    return [] if data.rollouts is None else sorted(data.rollouts[column].unique().to_pylist())


def _mask(data: ReportData, asked: Asked, rows: pa.Table) -> Any:
    conditions = []
    if asked.words:
        conditions.append(
            pc.or_(
                *(
                    pc.match_substring(rows[name], asked.words, ignore_case=True)
                    for name in ("answer", "completion")
                )
            )
        )
    if asked.user and data.examples is not None:
        own = data.examples.filter(pc.starts_with(data.examples["user_id"], asked.user))
        names = own["example_id"].combine_chunks()
        conditions.append(pc.is_in(rows["example_id"], value_set=names))
    for column, least in (("semantic", asked.semantic), ("preference", asked.preference)):
        if least:
            conditions.append(pc.fill_null(pc.greater_equal(rows[column], float(least)), False))
    if asked.first:
        conditions.append(pc.greater_equal(rows["step"], int(asked.first)))
    if asked.last:
        conditions.append(pc.less_equal(rows["step"], int(asked.last)))
    for column, value in (("rung", asked.rung), ("status", asked.status)):
        if value:
            conditions.append(pc.equal(rows[column], value))
    mask = pc.is_valid(rows["step"])
    for condition in conditions:
        mask = pc.and_(mask, condition)
    return mask
