"""What is wrong with a data set: a code, a place, examples, and what to do about it.

Codes that begin with E make the data unusable, unless they cost no more rows than the recipe
tolerates; codes that begin with W are for a person to weigh. `docs/data.md` lists them all.
Refused rows are counted by reason, and the first of each are kept in quarantine.parquet.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from taiji.errors import DataError

MOST_SAMPLES = 5


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: File or table, with field and column.
        what: What is wrong, in one clause.
        mend: What to do.
        fatal: Nothing can be built from such data.
        rows: How many rows it concerns, and of how many; 0 of 0 if it is not about rows.
        samples: The first few of them.
    """

    code: str
    where: str
    what: str
    mend: str
    fatal: bool
    rows: int = 0
    of: int = 0
    samples: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line: where, what, how often, examples, what to do."""
        share = (
            f": {self.rows:,} of {self.of:,} rows ({self.rows / self.of:.2%})" if self.of else ""
        )
        samples = f", such as {'; '.join(self.samples)}" if self.samples else ""
        return f"{self.where}: {self.code} {self.what}{share}{samples}: {self.mend}"


class UnusableError(DataError):
    """A problem that was met where nothing could go on."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


MOST_KEPT = 1000
"""Rows of one reason that are kept; all of them are counted."""

MERGED = "merged: same item and kind in the same order"
"""Reason of rows that were good and yet are no row of their own."""

QUARANTINE = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("files", pa.string(), nullable=False),  # as the recipe names them
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),  # null where the format numbers none
        pa.field("key", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.string()),  # what stood there, cut
    ]
)


Counts = Mapping[str, int]
"""Rows by what became of them: `kept`, or the reason why not."""
