"""Where items are: latitude and longitude in degrees, and their faults."""

from taiji.config.mapping import ItemsTable
from taiji.data.tables.expressions import Columns
from taiji.data.tables.rules import Rule, not_a_number

_DEGREES = "write degrees, such as 52.52 and 13.40; are latitude and longitude exchanged?"
_BOTH = "give both, or leave both empty where no place is known"


def place_columns(table: ItemsTable, columns: Columns) -> dict[str, str]:
    """Latitude and longitude, null where the table maps none."""
    fields = {"latitude": table.latitude, "longitude": table.longitude}
    return {
        name: "cast(NULL as double)" if field is None else columns.number(field)
        for name, field in fields.items()
    }


def raw_places(table: ItemsTable, columns: Columns) -> dict[str, str]:
    """The words behind them; none where the table maps none."""
    fields = {"raw_latitude": table.latitude, "raw_longitude": table.longitude}
    return {name: columns.word(field.column) for name, field in fields.items() if field is not None}


def place_rules(table: ItemsTable) -> tuple[Rule, ...]:
    """An item that is nowhere on the earth, or only half of its place is known."""
    if table.latitude is None:
        return ()
    return (
        not_a_number("latitude"),
        not_a_number("longitude"),
        _rule("latitude beyond 90 degrees", "latitude", "abs(latitude) > 90", _DEGREES),
        _rule("longitude beyond 180 degrees", "longitude", "abs(longitude) > 180", _DEGREES),
        _rule(
            "no latitude beside a longitude",
            "latitude",
            "latitude IS NULL AND longitude IS NOT NULL",
            _BOTH,
        ),
        _rule(
            "no longitude beside a latitude",
            "longitude",
            "longitude IS NULL AND latitude IS NOT NULL",
            _BOTH,
        ),
        _rule("place is 0, 0", "latitude", "latitude = 0 AND longitude = 0", _BOTH),
    )


def _rule(what: str, field: str, when: str, mend: str) -> Rule:
    found = "concat(coalesce(raw_latitude, '?'), ', ', coalesce(raw_longitude, '?'))"
    return Rule(f"E118 {what}", field, when, found, mend)
