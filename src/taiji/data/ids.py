"""Ids: what they look like after other programs wrote them, and whether two lists of them meet.

Tables that are joined by ids from two programs may agree in nothing: one wrote 1.0, U1 or 00001
for the other's 1. A join then finds nobody and says nothing, so whoever joins asks `meeting`.
"""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taiji.data.problems import MOST_SAMPLES, Problem, UnusableError
from taiji.errors import DataError

logger = logging.getLogger(__name__)

LITTLE = 0.5
"""A smaller share of the shorter list that is found in the other is told."""

_WHOLE_AS_FLOAT = r"^(-?[0-9]+)\.0$"
_MOST_EXACT = 2.0**53  # beyond it a float no longer counts one by one


@dataclass(frozen=True)
class Meeting:
    """How two lists of different ids meet.

    Attributes:
        given: What the ids are and where they stand, such as "users of profiles".
        known: What they are looked up in, such as "users of the log".
        num_given: How many there are.
        num_known: How many there are to be found.
        num_met: How many were found.
        strangers: Some that were not.
    """

    given: str
    known: str
    num_given: int
    num_known: int
    num_met: int
    strangers: Sequence[str] = ()

    def problem(self, where: str, mend: str, enough: float = LITTLE) -> Problem | None:
        """What a person should know: nothing met is an error, little is a warning.

        Args:
            where: File or table, with the column.
            mend: What to do.
            enough: Share of the shorter list that is to be found in the other.
        """
        least = min(self.num_given, self.num_known)
        if not least or self.num_met >= enough * least:
            return None
        found = f"{self.num_met:,} of {self.num_given:,} {self.given} are {self.known}"
        what = f"{found}, of which there are {self.num_known:,}"
        samples = tuple(map(repr, self.strangers[:MOST_SAMPLES]))
        code = "W213" if self.num_met else "E114"
        return Problem(code, where, what, mend, fatal=not self.num_met, samples=samples)


def require_met(problem: Problem | None) -> None:
    """Raise or log what `Meeting.problem` found.

    Raises:
        DataError: Nothing met.
    """
    if problem is not None and problem.fatal:
        raise UnusableError(problem)
    if problem is not None:
        logger.warning("%s", problem)


def meeting(given: tuple[str, pa.Array], known: tuple[str, pa.Array]) -> Meeting:
    """Compare two lists of ids, each with its name."""
    ours, theirs = pc.unique(given[1]), pc.unique(known[1])
    is_known = pc.is_in(ours, value_set=theirs)
    strangers = ours.filter(pc.invert(is_known))
    num_met = len(ours) - len(strangers)
    few = strangers.slice(0, MOST_SAMPLES).to_pylist()
    return Meeting(given[0], known[0], len(ours), len(theirs), num_met, few)


def plain_ids(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Ids as text, as the tables of a run write them: a float 3.0 and the text 3.0 are 3.

    Raises:
        DataError: A float is too large to be exact, so that two ids may have become one.
    """
    if pa.types.is_floating(column.type):
        if pc.any(pc.greater_equal(pc.abs(column), _MOST_EXACT)).as_py():
            raise DataError(f"{where}: ids are floats beyond 2**53: export them as text")
        is_whole = pc.equal(column, pc.floor(column))
        whole = pc.if_else(is_whole, column, None).cast(pa.int64()).cast(pa.string())
        return pc.if_else(is_whole, whole, column.cast(pa.string()))
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.replace_substring_regex(text, _WHOLE_AS_FLOAT, r"\1")


def read_ids(path: Path, known: pa.Array, setting: str) -> pa.Array:
    """The known ids that a text file lists, one a line; a line may go on behind a comma.

    What Notepad, Excel and pandas make of such a list is understood: byte-order marks, any line
    end, quotes, further columns, and 3.0 for 3.

    Args:
        path: The file.
        known: Every id that there is.
        setting: What errors call the file.

    Raises:
        DataError: It cannot be read, or lists ids of which none is known.
    """
    lines = [line.strip() for line in read_list(path, setting).splitlines()]
    lines = [line for line in lines if line]
    cells = [next(csv.reader([line]), [""])[0].strip() for line in lines]
    plain = plain_ids(pa.chunked_array([pa.array(cells, pa.string())]), setting).to_pylist()
    found = [pc.index_in(pa.array(form, pa.string()), value_set=known).to_pylist()
             for form in (lines, cells, plain)]  # fmt: skip
    places = [next((p for p in forms if p is not None), None) for forms in zip(*found, strict=True)]
    strangers = [cell for cell, place in zip(cells, places, strict=True) if place is None]
    if lines and len(strangers) == len(lines):
        what = f"none of its {len(lines):,} ids is known"
        mend = "write one id a line, as the log writes them"
        samples = tuple(map(repr, strangers[:MOST_SAMPLES]))
        raise UnusableError(
            Problem("E114", f"{setting}: {path}", what, mend, True, samples=samples)
        )
    if strangers:
        logger.warning(
            "%s: %s: %d of %d ids are not known, such as %s: correct them, or leave them out",
            setting, path, len(strangers), len(lines),
            ", ".join(map(repr, strangers[:MOST_SAMPLES])),
        )  # fmt: skip
    return known.take(pa.array([place for place in places if place is not None], pa.int64()))


def read_list(path: Path, setting: str) -> str:
    """The text of a list of ids, in UTF-8 or, behind its mark, in UTF-16.

    Raises:
        DataError: It cannot be read, or is in neither.
    """
    try:
        content = path.read_bytes()
        is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"{setting}: {path}: cannot be read ({error}): a text file with an id a line is needed"
        ) from error
