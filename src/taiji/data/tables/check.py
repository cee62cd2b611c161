"""`taiji data check`: is this data fit for a run, and what should a person know of it?

Prepares the source into a folder that is thrown away, then looks at the tables that came out.
Errors make the data unusable; warnings name what a reader of the results must know.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taiji.config import DataSection
from taiji.data.calendar import (
    LOG_HOURS,
    MOST_OUTSIDE,
    WINDOWS,
    Calendar,
    LogHours,
    plan_calendar,
)
from taiji.data.engine.protocol import Engine
from taiji.data.problems import Problem, UnusableError
from taiji.data.tables import check_sql as sql
from taiji.data.tables.canonical import prepare_all
from taiji.data.tables.reach import Contents, counted
from taiji.data.tables.target_kinds import find_target_kinds
from taiji.errors import DataError

Figures = dict[str, dict[str, Any]]

TABLES = ("users", "items", "interactions", "exposures", "events")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
GUESTS = ("-", "-1", "0", "anonymous", "guest", "na", "unknown")
GUEST_SHARE, LEAST_USERS = 0.2, 20
"""A user with a larger share of the interactions, among so many, is told."""
SENTINELS = ("nan", "null", "none", "unknown", "n/a", "\\n")


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        counts: Table -> reason -> rows, as in quarantine.json.
        figures: Table -> figure -> value.
        problems: Errors and warnings.
        contents: How far the log carries; None where it is not usable at all.
    """

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    contents: Contents | None = None

    @property
    def usable(self) -> bool:
        """Whether a run may start on this data."""
        return not any(problem.fatal for problem in self.problems)


def check(engine: Engine, section: DataSection, seed: int, folder: Path) -> Report:
    """Prepare a source into `folder` and examine what came out."""
    try:
        prepared = prepare_all(engine, section, seed, folder)
    except UnusableError as error:
        return Report(problems=error.problems)
    if not prepared.counts.get("interactions", {}).get("kept"):
        return Report(prepared.counts, problems=tuple(prepared.problems))
    for name in TABLES:
        engine.read(f"checked_{name}", [folder / f"{name}.parquet"])
    try:
        kinds = find_target_kinds(engine, section, "checked_interactions")
    except UnusableError as error:
        return Report(prepared.counts, problems=(*prepared.problems, *error.problems))
    contents = _contents(engine, section, kinds)
    figures = _figures(engine, folder, kinds)
    problems = [*prepared.problems, *_warnings(figures), *_guests(engine, figures)]
    problems += _windows(engine, section, figures)
    return Report(prepared.counts, figures, tuple(problems), contents)


def _contents(engine: Engine, section: DataSection, kinds: tuple[str, ...]) -> Contents:
    """What the log holds; sampled exposures are not drawn here, only counted on."""
    contents = counted(engine, section, kinds, "checked_")
    if section.sampled_negatives is None or contents.exposures:
        return contents
    return replace(contents, exposures=1, clicks=1, goal="click")


def _figures(engine: Engine, folder: Path, target_kinds: tuple[str, ...]) -> Figures:
    figures: Figures = {}
    for name in TABLES:
        rows = pq.read_metadata(folder / f"{name}.parquet").num_rows
        figures[name] = {"rows": rows} | (_row(engine, sql.FIGURES[name]) if rows else {})
    figures["interactions"]["history length"] = _histories(engine)
    kinds = engine.query(sql.KINDS).to_pylist()
    counted_kinds = {row["kind"]: row["num_rows"] for row in kinds}
    figures["interactions"]["kinds"] = counted_kinds
    figures["interactions"]["targets"] = {kind: counted_kinds.get(kind, 0) for kind in target_kinds}
    figures["users"] |= _profiles(folder / "users.parquet")
    if figures["exposures"]["rows"]:
        figures["exposures"] |= _row(engine, sql.LEAKS)
    return figures


def _row(engine: Engine, query: str) -> dict[str, Any]:
    (row,) = engine.query(query).to_pylist()
    return {name.replace("_", " "): value for name, value in row.items()}


def _histories(engine: Engine) -> dict[str, int]:
    """Quantiles of the number of interactions of a user who has any."""
    lengths = engine.query(sql.LENGTHS)
    values, weights = lengths["length"].to_numpy(), lengths["num_users"].to_numpy()
    reached = np.cumsum(weights) / weights.sum()
    places = np.searchsorted(reached, np.array(QUANTILES) - 1e-9)
    return {f"p{q * 100:g}": int(values[place]) for q, place in zip(QUANTILES, places, strict=True)}


def _profiles(path: Path) -> dict[str, Any]:
    """How many users have any field, how often each is known, and words that mean nothing."""
    with_profile, known, sentinels = 0, dict[str, int](), 0
    for batch in pq.ParquetFile(path).iter_batches(columns=["fields"]):
        pairs = batch.column("fields")
        filled = pc.is_valid(pairs.items)
        before = np.concatenate([[0], np.cumsum(filled.to_numpy(zero_copy_only=False))])
        with_profile += int(np.count_nonzero(np.diff(before[pairs.offsets.to_numpy()])))
        for name in pc.value_counts(pairs.keys.filter(filled)).to_pylist():
            known[name["values"]] = known.get(name["values"], 0) + name["counts"]
        words = pc.is_in(pc.utf8_lower(pairs.items), value_set=pa.array(SENTINELS))
        sentinels += pc.sum(words).as_py() or 0
    return {"with profile": with_profile, "known fields": known, "sentinel words": sentinels}


def _warnings(figures: Figures) -> Iterator[Problem]:
    users, items, interactions = (figures[name] for name in ("users", "items", "interactions"))
    rows, num_items = interactions["rows"], items["rows"]
    sentinels = users["sentinel words"] + items["sentinel words"]
    if sentinels:
        what = f"{sentinels:,} values of profiles and items are words such as NaN or Unknown"
        yield _warn("W201", "users, items", what, "name them in data.source.missing")
    if items["without category"] == num_items:
        what = "no item has a category: figures of category levels will be empty"
        yield _warn("W217", "items.categories", what, "map categories, if the source has them")
    if (share := interactions["largest level 1"] / rows) > 0.5:
        what = f"one top category has {share:.0%} of the interactions"
        yield _warn("W202", "items", what, "judge level 1 against the constant guess")
    if (share := items["items that share a title"] / num_items) > 0.1:
        what = f"{share:.0%} of the items share title and categories with another"
        yield _warn("W203", "items", what, "add what tells them apart to the title's template")
    if users["known fields"] and (share := users["with profile"] / users["rows"]) < 0.5:
        what = f"only {share:.0%} of the users have a profile"
        yield _warn("W204", "users", what, "read results for users with and without one apart")
    share = 1 - interactions["pairs"] / rows
    if not 0.05 <= share <= 0.5:
        what = f"{share:.0%} of the interactions repeat an earlier item of the user"
        mend = "compare with user-frequency" if share > 0.5 else "expect little from history alone"
        yield _warn("W205", "interactions", what, mend)
    if users["known fields"]:
        what = "profiles have no date: they may tell of what came later"
        yield _warn("W207", "users", what, "use a snapshot from before the first target")
    foreseen = figures["exposures"].get("conversions already in the log") or 0
    if foreseen > 0.01 * (figures["exposures"].get("conversions") or 0):
        what = (
            f"{foreseen:,} conversions are in the interactions up to a day before they were shown"
        )
        yield _warn("W211", "exposures", what, "make both tables use one clock: labels may leak")


def _guests(engine: Engine, figures: Figures) -> Iterator[Problem]:
    """Whether one id seems to stand for everybody without one."""
    busiest = engine.query(sql.BUSIEST).to_pylist()
    user, num_rows = busiest[0]["user_id"], busiest[0]["num_rows"]
    others = busiest[1]["num_rows"] if busiest[1:] else 0
    share = num_rows / figures["interactions"]["rows"]
    is_crowd = share > GUEST_SHARE and figures["interactions"]["users"] >= LEAST_USERS
    if is_crowd or (user.lower() in GUESTS and num_rows > others > 0):
        what = f"user {user!r} has {share:.0%} of the interactions, the next has {others:,} rows"
        mend = "if this is everybody without an id, leave those rows out or give guests ids"
        yield _warn("W214", "interactions.user_id", what, mend)


def _windows(engine: Engine, section: DataSection, figures: Figures) -> Iterator[Problem]:
    """Whether every window of the splits holds interactions, and how labels drift."""
    hours = engine.query(LOG_HOURS.format(interactions="checked_interactions"))
    log = LogHours.from_rows(hours.to_pylist())
    try:
        calendar = plan_calendar(section.splits, log)
    except DataError as error:
        yield Problem("E115", "data.splits", str(error), "give dates or other shares", fatal=True)
        return
    counted = {row["window"]: row for row in engine.query(_by_window(calendar)).to_pylist()}
    empty = [name for name in WINDOWS[1:] if not (counted.get(name) or {}).get("interactions")]
    figures["windows"] = {
        name: _span(calendar, name)
        | {k: v for k, v in counted.get(name, {}).items() if k != "window"}
        for name in WINDOWS
    }
    if empty:
        first, last = log.starts[0], log.starts[-1]
        what = f"no interactions in {', '.join(empty)}: the log goes from {first:%F} to {last:%F}"
        mend = "set data.splits.windows to dates inside it, or to {kind: shares}"
        yield Problem("E115", "data.splits", what, mend, fatal=True)
        return
    if (outside := log.outside(calendar)) > MOST_OUTSIDE:
        what = f"{outside:.0%} of the interactions lie outside all windows"
        mend = "set data.splits.windows to dates that hold them, or to {kind: shares}"
        yield _warn("W218", "data.splits", what, mend)
    rates = [_rate(counted[name]) for name in ("reward", "test")]
    if rates[0] and rates[1] is not None and abs(rates[1] / rates[0] - 1) > 0.2:
        what = f"clicks go from {rates[0]:.2%} of the exposures in reward to {rates[1]:.2%} in test"
        yield _warn("W206", "exposures", what, "report calibration; learn from newer windows")


def _rate(counted: Mapping[str, Any]) -> float | None:
    return counted["clicks"] / counted["exposures"] if counted["exposures"] else None


def _span(calendar: Calendar, name: str) -> dict[str, Any]:
    window = calendar.window(name)
    return {"starts": window.starts, "ends": window.ends}


def _by_window(calendar: Calendar) -> str:
    def case(moments: Mapping[str, tuple[datetime, datetime]]) -> str:
        return " ".join(
            f"WHEN ts >= timestamp_ntz '{a:%Y-%m-%d %H:%M:%S}' "
            f"AND ts < timestamp_ntz '{b:%Y-%m-%d %H:%M:%S}' THEN '{name}'"
            for name, (a, b) in moments.items()
        )

    spans = {window.name: (window.starts, window.ends) for window in calendar.windows}
    return sql.BY_WINDOW.format(window=f"CASE {case(spans)} END")


def _warn(code: str, where: str, what: str, mend: str) -> Problem:
    return Problem(code, where, what, mend, fatal=False)
