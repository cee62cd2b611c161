"""Ids and titles that look like one thing and are two, or like two and are one.

A join by ids finds nobody and says nothing where one program wrote `A1` and another `a1`; a product
that staff renamed "damaged" is sold under that name. Neither is a fault of a row, so both are told.
"""

from collections.abc import Iterator, Mapping, Sequence

from taiji.data.engine.protocol import Engine
from taiji.data.ids import Meeting
from taiji.data.problems import MOST_SAMPLES, Problem
from taiji.data.tables import canonical_sql as sql
from taiji.data.tables.expressions import literal
from taiji.data.tables.misfits import Opened
from taiji.data.tables.rules import FURTHER, KEPT, ORPHAN

# Two spellings of one id; `{ids}` are the different ids, as `id`.
_ALIKE = """
WITH ids AS ({ids})
SELECT lower(id) AS plain, count(*) AS num, min(id) AS one, max(id) AS other
FROM ids
GROUP BY lower(id)
HAVING count(*) > 1
"""
_COUNTED = "SELECT count(*) AS num_groups, sum(num) AS num_ids FROM ({alike})"
_FIRST = "SELECT one, other FROM ({alike}) ORDER BY plain LIMIT {most}"

# Titles of one item, told apart by their words alone.
_TITLES = """
WITH told AS (
    SELECT item_id, title,
        trim(regexp_replace(lower(title), '[^\\\\p{{L}}\\\\p{{N}}]+', ' ')) AS plain
    FROM ({rows})
),
counted AS (
    SELECT item_id, plain, min(title) AS title, count(*) AS num_rows
    FROM told
    GROUP BY item_id, plain
)
SELECT item_id, title, num_rows,
    count(*) OVER (PARTITION BY item_id) AS num_titles,
    row_number() OVER (PARTITION BY item_id ORDER BY num_rows DESC, title) AS place
FROM counted
"""
_DIFFERING = "SELECT count(*) AS num FROM differing_titles WHERE num_titles > 1 AND place = 1"
_SHOWN = """
SELECT first.item_id, first.title, second.title AS other
FROM differing_titles AS first
JOIN differing_titles AS second ON second.item_id = first.item_id AND second.place = 2
WHERE first.place = 1
ORDER BY second.num_rows DESC, first.item_id
LIMIT {most}
"""


def strangers(
    engine: Engine, numbers: Mapping[str, Sequence[int]], opened: Sequence[Opened]
) -> Iterator[Problem]:
    """Tables whose ids hardly meet: those of users, and the keys of joined files."""
    mend = "write the ids of both as one program does: 1, 1.0, 00001 and U1 are four users"
    known = sql.users_of(numbers["interactions"]) if numbers.get("interactions") else ""
    for table in ("users", "exposures", "events"):
        if known and numbers.get(table):
            names = (f"users of {table}", "users of interactions")
            given = sql.users_of(numbers[table])
            if problem := _met(engine, names, given, known).problem(f"{table}.user_id", mend):
                yield problem
    for one in opened:
        if one.keys is not None:
            names = (f"keys of {one.name}", "keys of the joined file")
            where = f"{one.label}: {one.name}.join"
            if problem := _met(engine, names, *one.keys).problem(where, mend):
                yield problem


def alike_ids(engine: Engine, numbers: Mapping[str, Sequence[int]]) -> Iterator[Problem]:
    """Ids that differ in case alone, in whatever table they stand."""
    acting = [n for table, several in numbers.items() if table != "items" for n in several]
    naming = [n for name in ("items", "interactions", "exposures") for n in numbers.get(name, [])]
    for field, several in (("user_id", acting), ("item_id", naming)):
        selects = " UNION ALL ".join(
            f"SELECT {field} AS id FROM judged_{n} "
            f"WHERE fault IS NULL OR fault = {literal(ORPHAN.fault)}"
            for n in several
        )
        alike = _ALIKE.format(ids=f"SELECT DISTINCT id FROM ({selects})")
        (row,) = engine.query(_COUNTED.format(alike=alike)).to_pylist()
        if row["num_groups"]:
            found = engine.query(_FIRST.format(alike=alike, most=MOST_SAMPLES)).to_pylist()
            samples = tuple(f"{one['one']!r} and {one['other']!r}" for one in found)
            what = f"{int(row['num_ids']):,} ids differ from another in case alone"
            mend = "if both are one, write them alike before they are read: here they are two"
            yield Problem("W220", field, what, mend, fatal=False, samples=samples)


def differing_titles(engine: Engine, numbers: Sequence[int]) -> Iterator[Problem]:
    """Items whose rows name them in different words."""
    rows = " UNION ALL ".join(
        f"SELECT item_id, title FROM judged_{n} WHERE title IS NOT NULL AND "
        f"(fault IS NULL OR fault LIKE 'E105%' OR fault = {literal(FURTHER)})"
        for n in numbers
    )
    engine.create("differing_titles", _TITLES.format(rows=rows))
    if number := engine.query(_DIFFERING)["num"][0].as_py():
        found = engine.query(_SHOWN.format(most=MOST_SAMPLES)).to_pylist()
        samples = tuple(f"{r['item_id']}: {r['title']!r} and {r['other']!r}" for r in found)
        what = f"{number:,} items have titles that differ in words"
        mend = (
            f"set items.repeated: most_frequent, first or last; quarantine.parquet has both, as "
            f"{KEPT.strip(' |')}"
        )
        yield Problem("W219", "items.title", what, mend, fatal=False, samples=samples)


def _met(engine: Engine, names: tuple[str, str], given: str, known: str) -> Meeting:
    (row,) = engine.query(sql.MET.format(given=given, known=known)).to_pylist()
    ask = sql.STRANGERS.format(given=given, known=known, most=MOST_SAMPLES)
    found = tuple(engine.query(ask)["user_id"].to_pylist())
    return Meeting(*names, **row, strangers=found)
