"""Which kinds of interaction can be what is foreseen: purchases, or the strongest there is.

Only these become targets, count as popularity and make a habit. A product that somebody rated
badly or merely looked at is history, and never "really bought next".
"""

from taiji.config import DataSection
from taiji.config.kinds import strongest
from taiji.data.engine.protocol import Engine
from taiji.data.problems import Problem, UnusableError


def find_target_kinds(
    engine: Engine, section: DataSection, table: str = "interactions"
) -> tuple[str, ...]:
    """The kinds of `data.target_kinds`, or the strongest kind of the log.

    Raises:
        UnusableError: The log holds none of them.
    """
    counted = engine.query(f"SELECT kind, count(*) AS num FROM {table} GROUP BY kind ORDER BY kind")
    found = {row["kind"]: row["num"] for row in counted.to_pylist()}
    chosen = section.target_kinds or strongest(found)
    if found and not any(kind in found for kind in chosen):
        here = ", ".join(f"{kind} {num:,}" for kind, num in found.items())
        what = f"the log has no interaction of kind {', '.join(chosen) or 'that could be foreseen'}"
        mend = f"kinds here: {here}: name those that count in data.target_kinds"
        raise UnusableError(Problem("E108", "data.target_kinds", what, mend, fatal=True))
    return chosen


def kinds_sql(kinds: tuple[str, ...]) -> str:
    """The kinds as a list of SQL; each is a plain word, by the recipe."""
    return ", ".join(f"'{kind}'" for kind in kinds) or "''"
