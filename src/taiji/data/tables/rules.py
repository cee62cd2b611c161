"""Why a row is refused: the rules of every table, and the SQL that judges rows by them.

The codes are listed in `docs/data.md`. The first rule that holds names the fault of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from taiji.data.engine.keys import joined_key
from taiji.data.tables.expressions import literal

LONGEST_TITLE = 4096
LONGEST_FOUND = 200
LEFT_OUT = "left out by only"
PLACE = ("source", "file", "row_no", "row_key")
"""Where a row stood: number of its table, file, row in the file, and its key."""

NO_ID = (
    *("\\n", "#n/a", "(null)", "<na>", "n/a", "nan", "nat"),
    *("nil", "none", "null", "undefined"),
)
"""Words that programs write where there is no id, in lower case."""

SAME_ROW = ", same row"

KEPT = " | kept: "
"""Between what stood in a repeated row and what stands in the one that is kept."""
BLANK_TITLE = "E104 blank title"
FURTHER = "merged: further row of an item"
_NAMED_ZONE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.,]+ *\\[?[A-Za-z]{2}"
_EARLIEST = "timestamp_ntz '1990-01-01 00:00:00'"
_MOST = 2_147_483_647


@dataclass(frozen=True)
class Rule:
    """Why a row is refused.

    Attributes:
        fault: Code and reason, as counted.
        field: The field of the recipe that is to blame.
        when: SQL condition over the columns of the SELECT.
        value: SQL for what stood there.
        mend: What to do about it.
    """

    fault: str
    field: str
    when: str
    value: str
    mend: str


@dataclass(frozen=True)
class Mapped:
    """A SELECT and its rules.

    Attributes:
        outputs: The canonical columns.
        key: Those of them that no two rows may share; empty if rows have no key.
        repeated: What becomes of rows that share it and differ: refused, or one of them stays.
        named: The column that tells such rows apart for a person; empty for none.
    """

    select: str
    rules: tuple[Rule, ...]
    outputs: tuple[str, ...]
    key: tuple[str, ...] = ()
    repeated: Literal["refuse", "first", "last", "most_frequent"] = "refuse"
    named: str = ""


def copies(key: Sequence[str]) -> tuple[str, str]:
    """The faults of rows that share a key: the same again, and something else."""
    name = ", ".join(key)
    return f"E105 repeated {name}{SAME_ROW}", f"E105 repeated {name}, different row"


def judged_sql(mapped: Mapped) -> str:
    """Return a SELECT of all rows: `PLACE`, `outputs`, `fault` and `found`, null if kept."""
    whens = "\n        ".join(f"WHEN {r.when} THEN {literal(r.fault)}" for r in mapped.rules)
    values = "\n        ".join(
        f"WHEN {rule.when} THEN substr(cast({rule.value} as string), 1, {LONGEST_FOUND})"
        for rule in mapped.rules
    )
    columns = ", ".join((*PLACE, *mapped.outputs))
    judged = f"""
SELECT {columns},
    CASE
        {whens}
    END AS fault,
    CASE
        {values}
    END AS found
FROM (
{mapped.select}
)"""
    return _without_repeats(judged, mapped, columns) if mapped.key else judged


def _without_repeats(judged: str, mapped: Mapped, columns: str) -> str:
    """Of the good rows with one key one stays: the first, or as `mapped.repeated` says.

    Where rows have no numbers, the order is that of their content.
    """
    content = joined_key(*(f"cast({column} as string)" for column in mapped.outputs), "''")
    key, good = ", ".join(mapped.key), "fault IS NULL"
    named, counts, blank = mapped.named or "row_key", "", "false"
    if mapped.repeated == "refuse":
        same, other = copies(mapped.key)
        repeat = f"CASE WHEN content = kept THEN {literal(same)} ELSE {literal(other)} END"
    else:  # a line without a title is no fault where another names the item
        repeat, blank = literal(FURTHER), f"fault = {literal(BLANK_TITLE)} AND num_good > 0"
        counts = f""",
        count(*) OVER (PARTITION BY {key}, {good}, {named}) AS num_alike,
        count_if({good}) OVER (PARTITION BY {key}) AS num_good"""
    window = f"(PARTITION BY {key}, {good} ORDER BY {_ORDERS[mapped.repeated]})"
    return f"""
WITH judged AS ({judged}),
described AS (SELECT *, {content} AS content{counts} FROM judged),
ranked AS (
    SELECT *,
        row_number() OVER {window} AS place,
        first_value(content) OVER {window} AS kept,
        first_value({named}) OVER {window} AS kept_name
    FROM described
)
SELECT {columns},
    CASE WHEN {blank} THEN {repeat} WHEN fault IS NOT NULL OR place = 1 THEN fault
        ELSE {repeat} END AS fault,
    CASE WHEN fault IS NOT NULL THEN found
        WHEN place > 1 AND {named} <> kept_name
            THEN substr(concat({named}, {literal(KEPT)}, kept_name), 1, {LONGEST_FOUND})
        WHEN place > 1 THEN row_key END AS found
FROM ranked"""


_FIRST = "source, file, row_no, content"
_ORDERS = {
    "refuse": _FIRST,
    "first": _FIRST,
    "last": "source DESC, file DESC, row_no DESC, content DESC",
    "most_frequent": f"num_alike DESC, {_FIRST}",
}


def missing(field: str, when: str = "") -> Rule:
    """A field that must not be empty is."""
    mend = "fill the column, or map another one"
    return Rule(f"E103 no {field}", field, when or f"{field} IS NULL", "row_key", mend)


def time_rules(limit: datetime) -> tuple[Rule, ...]:
    """A moment cannot be read, is not fixed, or is before 1990 or at or after `limit`."""
    latest = f"timestamp_ntz '{limit:%Y-%m-%d %H:%M:%S}'"
    return (
        missing("ts", "raw_ts IS NULL"),
        Rule(
            "E109 time in a zone that is only named",
            "ts",
            f"ts IS NULL AND raw_ts RLIKE {literal(_NAMED_ZONE)}",
            "raw_ts",
            "write the offset, such as +01:00: names such as EST mean several",
        ),
        Rule(
            "E102 time cannot be read",
            "ts",
            "ts IS NULL",
            "raw_ts",
            "set ts.format: iso, s, ms, us or a pattern such as %d/%m/%Y %H:%M",
        ),
        Rule(
            "E109 time without a zone",
            "ts",
            "NOT has_zone",
            "raw_ts",
            "say where the clock stood: ts: {column: COLUMN, timezone: Europe/Berlin}, or UTC",
        ),
        Rule(
            f"E109 time outside 1990-01-01 to {limit:%Y-%m-%d}",
            "ts",
            f"ts < {_EARLIEST} OR ts >= {latest}",
            "raw_ts",
            "check ts.format (s, ms or us?), correct the rows, or set observed_until; where the "
            "source has no ts.format, convert the file to seconds",
        ),
    )


def _id_rules(field: str) -> tuple[Rule, ...]:
    """An id is empty, a word for nothing, or a number that has lost its last digits."""
    words = ", ".join(map(literal, NO_ID))
    no_word = Rule(
        f"E103 {field} is a word for nothing",
        field,
        f"lower({field}) IN ({words})",
        field,
        "all such rows would be one: give each an id of its own, or raise tolerance to leave them",
    )
    mend = "write ids as text or whole numbers: as floats two of them may have become one"
    when = f"{field}_rounded"
    rounded = Rule(f"E102 {field} is a rounded number", field, when, field, mend)
    return missing(field), no_word, rounded


USER_RULES = _id_rules("user_id")
ITEM_ID_RULES = _id_rules("item_id")


ORPHAN = Rule(
    "E106 item not in the catalogue",
    "item_id",
    "known_item_id IS NULL",
    "item_id",
    "add the item to items, or map the column that holds the same ids",
)


def not_a_number(field: str) -> Rule:
    """There is something, and it is no number."""
    return Rule(
        f"E102 {field} is not a number",
        field,
        f"{field} IS NULL AND raw_{field} IS NOT NULL",
        f"raw_{field}",
        f"set {field}.decimal, {field}.strip for signs between thousands, or name words in missing",
    )


NUMBER_RULES = (
    missing("quantity", "raw_quantity IS NULL"),
    not_a_number("quantity"),
    Rule(
        "E111 quantity is no positive whole number",
        "quantity",
        f"quantity <= 0 OR quantity > {_MOST} OR quantity <> floor(quantity)",
        "raw_quantity",
        "returns are no purchases: leave them out; of goods by weight do not map the quantity",
    ),
    not_a_number("price"),
    Rule(
        "E111 price is not positive",
        "price",
        "price <= 0",
        "raw_price",
        "leave refunds out; if 0 means unknown set price.zero_is_missing: true",
    ),
)


ITEM_RULES = (
    Rule(
        BLANK_TITLE,
        "title",
        "title IS NULL OR NOT title RLIKE '\\\\S'",
        "row_key",
        "give the item a title, or build one from other columns with a template",
    ),
    Rule(
        f"E104 title over {LONGEST_TITLE} characters",
        "title",
        f"length(title) > {LONGEST_TITLE}",
        "title",
        "map the column that holds the name, not the description",
    ),
    Rule(
        "E110 a category level is missing above another",
        "categories",
        "(category_l1 IS NULL AND coalesce(category_l2, category_l3) IS NOT NULL)"
        " OR (category_l2 IS NULL AND category_l3 IS NOT NULL)",
        "concat_ws(' > ', coalesce(category_l1, '?'), coalesce(category_l2, '?'), category_l3)",
        "fill the upper level, or take fewer levels",
    ),
)
