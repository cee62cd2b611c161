"""What came of an exposure: click and conversion, of one kind or of several, and their faults."""

from collections.abc import Sequence

from taiji.config.mapping import ExposuresTable
from taiji.config.mapping_fields import TextField
from taiji.data.tables.expressions import Columns, is_one, literal
from taiji.data.tables.rules import Rule, missing

_CLICK_MEND = "conversions follow clicks: set click to 1, or attribute the conversion elsewhere"
_LABEL_MEND = "write 0 or 1; leave an unknown conversion empty"
LABEL_RULES = (
    Rule("E112 click is not 0 or 1", "click", "click IS NULL", "raw_click", _LABEL_MEND),
    Rule(
        "E112 conversion is not 0, 1 or empty",
        "conversion",
        "conversion IS NULL AND raw_conversion IS NOT NULL",
        "raw_conversion",
        _LABEL_MEND,
    ),
    Rule(
        "E113 conversion without a click",
        "conversion",
        "conversion = 1 AND click = 0",
        "row_key",
        _CLICK_MEND,
    ),
)


def kind_rules(kinds: Sequence[str]) -> tuple[Rule, ...]:
    """Of exposures with several kinds of conversion."""
    named = ", ".join(literal(kind) for kind in kinds)
    return (
        missing("goal"),
        Rule(
            "E107 goal is none of the conversions",
            "goal",
            f"NOT goal IN ({named})",
            "goal",
            f"write one of {', '.join(kinds)}, or map its words by values",
        ),
        Rule(
            "E112 a conversion is not 0, 1 or empty",
            "conversions",
            "odd_reports <> ''",
            "odd_reports",
            _LABEL_MEND,
        ),
        Rule(
            "E113 conversion without a click",
            "conversions",
            "reported <> '' AND click = 0",
            "reported",
            _CLICK_MEND,
        ),
    )


def conversion_columns(table: ExposuresTable, columns: Columns) -> dict[str, str]:
    """The word of the goal's conversion, and which kinds were reported by whom."""
    words = {kind: columns.text(text) for kind, text in table.conversions.items()}
    goal, raw = _text(table.goal, columns), _text(table.conversion, columns)
    reported = odd = "''"
    if words:
        whens = " ".join(f"WHEN {literal(kind)} THEN {word}" for kind, word in words.items())
        raw = f"CASE {goal} {whens} END"
        reported, odd = (
            f"concat_ws(',', {', '.join(parts)})"
            for parts in (
                [f"CASE WHEN {flag(w)} = 1 THEN {literal(kind)} END" for kind, w in words.items()],
                [f"CASE WHEN {flag(w)} IS NULL THEN {w} END" for w in words.values()],
            )
        )
    who = table.item_id if table.advertiser is None else table.advertiser
    return {
        "raw_conversion": raw,
        "goal": goal,
        "reported": reported,
        "odd_reports": odd,
        "advertiser": f"coalesce({columns.key(who)}, '')",
    }


def flag(word: str) -> str:
    """1, 0, or null for a word that says neither."""
    return f"CASE WHEN {is_one(word)} THEN 1 WHEN lower({word}) IN ('0', '0.0', 'false') THEN 0 END"


def _text(field: TextField | None, columns: Columns) -> str:
    return "cast(NULL as string)" if field is None else columns.text(field)
