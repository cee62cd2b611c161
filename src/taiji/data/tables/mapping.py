"""From a described table to SQL: the columns of `taiji.schema`, and a fault for each bad row.

Each function returns a `Mapped`: a SELECT that names a row's place (`source`, `file`, `row`),
its canonical columns and, as `raw_...`, the words behind those that can be misread; and the
rules by which a row is refused, in their order. `judged_sql` puts both together.
"""

from dataclasses import dataclass
from datetime import datetime

from taiji.config.kinds import DISLIKE
from taiji.config.mapping import (
    EventsTable,
    ExposuresTable,
    InteractionsTable,
    ItemsTable,
    RawTable,
    UsersTable,
)
from taiji.config.mapping_fields import KindField, NumberField, TextField
from taiji.data.tables.expressions import Columns, identifier, literal
from taiji.data.tables.labels import LABEL_RULES, conversion_columns, flag, kind_rules
from taiji.data.tables.own_tops import TOPS, top_columns, top_rules
from taiji.data.tables.places import place_columns, place_rules, raw_places
from taiji.data.tables.rules import (
    ITEM_ID_RULES,
    ITEM_RULES,
    LEFT_OUT,
    NUMBER_RULES,
    ORPHAN,
    PLACE,
    USER_RULES,
    Mapped,
    Rule,
    missing,
    not_a_number,
    time_rules,
)
from taiji.data.tables.text_files import FILE, ROW
from taiji.data.tables.wanted import wanted_sql

CATALOGUE = "prepared_items"
OF_OUTCOMES = ("advertiser", "goal", "reported", "value")
_INTERACTION = (
    *("user_id", "item_id", "ts", "order_id", "kind", "quantity", "price"),
    *("line", "note"),
)


@dataclass(frozen=True)
class View:
    """A raw table as the engine knows it.

    Attributes:
        relation: What stands after FROM.
        number: Tells several tables of one kind apart.
        columns: How to read its columns.
        numbered: It has columns that tell each row's file and number.
    """

    relation: str
    number: int
    columns: Columns
    numbered: bool = False


def map_users(table: UsersTable, view: View) -> Mapped:
    """Profiles: `user_id` and one column `field_<n>` for each profile field."""
    fields = {f"field_{n}": text for n, text in enumerate(table.profile.values())}
    columns = {
        "user_id": view.columns.key(table.user_id),
        **{name: view.columns.text(text) for name, text in fields.items()},
        **_rounded(view, user_id=table.user_id),
    }
    rules = (*_only(table), *USER_RULES)
    return Mapped(_select(table, view, columns, "user_id"), rules, tuple(columns), ("user_id",))


def map_items(table: ItemsTable, view: View) -> Mapped:
    """The catalogue."""
    levels = ["cast(NULL as string)"] * 3
    if table.categories is not None:
        levels = view.columns.levels(table.categories)
    columns = {
        "item_id": view.columns.key(table.item_id),
        "title": view.columns.text(table.title),
        **{f"category_l{n}": level for n, level in enumerate(levels, start=1)},
        "brand": _optional(table.brand, view),
        "shop_price": _shop_price(table, view),
        **place_columns(table, view.columns),
    }
    outputs = tuple(columns)
    columns |= raw_places(table, view.columns) | _rounded(view, item_id=table.item_id)
    rules = (*_only(table), *ITEM_ID_RULES, *ITEM_RULES, *place_rules(table))
    select = _select(table, view, columns, "item_id")
    return Mapped(select, rules, outputs, ("item_id",), table.repeated, "title")


def map_interactions(
    table: InteractionsTable, view: View, limit: datetime, *, shop_prices: bool = False
) -> Mapped:
    """What users did; `event_id` is null where the source has none.

    Args:
        shop_prices: The catalogue has a column `shop_price`, which stands where no price is said.
    """
    words = view.columns
    quantity = "cast(1 as double)" if table.quantity is None else words.number(table.quantity)
    price = "cast(NULL as double)" if table.price is None else words.number(table.price)
    raw_price = _raw(table.price, view)
    if table.price is not None and table.price.zero_is_missing:
        raw_price = f"CASE WHEN {price} = 0 THEN NULL ELSE {raw_price} END"
        price = f"nullif({price}, cast(0 as double))"
    if table.price is not None and table.price.per == "line":
        price = f"{price} / nullif({quantity}, cast(0 as double))"
    columns = {
        "user_id": words.key(table.user_id),
        "item_id": words.key(table.item_id),
        **_rounded(view, user_id=table.user_id, item_id=table.item_id),
        "ts": words.moment(table.ts),
        "order_id": _key(table.order_id, view),
        "kind": _liked(table, view, _kind(table.kind, view)),
        "quantity": quantity,
        "price": price,
        "line": _line(table, view),
        "note": _optional(table.note, view),
        "event_id": _key(table.event_id, view),
        "raw_ts": words.word(table.ts.column),
        "has_zone": words.has_zone(table.ts),
        "raw_kind": words.word(table.kind.column) if table.kind.column else "''",
        "raw_quantity": "'1'" if table.quantity is None else _raw(table.quantity, view),
        "raw_price": raw_price,
        "raw_rating": _raw(table.rating, view),
        "raw_line": _raw(table.line, view),
        "rating": "cast(NULL as double)" if table.rating is None else words.number(table.rating),
    }
    rules = (
        *_only(table),
        *USER_RULES,
        *ITEM_ID_RULES,
        *time_rules(limit),
        missing("kind", "raw_kind IS NULL"),
        Rule("E107 kind not mapped", "kind", "kind IS NULL", "raw_kind", "name the word in values"),
        ORPHAN,
        *NUMBER_RULES,
        not_a_number("rating"),
        *((not_a_number("line"),) if table.line is not None else ()),
    )
    if shop_prices:
        columns["own_price"] = columns.pop("price")
    select = _with_items(_select(table, view, columns, "user_id"), shop_prices=shop_prices)
    if table.event_id is None:
        return Mapped(select, rules, _INTERACTION)
    rules = (*rules, missing("event_id"))
    return Mapped(select, rules, (*_INTERACTION, "event_id"), ("event_id",))


def _shop_price(table: ItemsTable, view: View) -> str:
    """What the shop asks; whatever is no price is none, as nothing is judged by it."""
    if table.price is None:
        return "cast(NULL as double)"
    price = view.columns.number(table.price)
    return f"CASE WHEN {price} > 0 THEN {price} END"


def _line(table: InteractionsTable, view: View) -> str:
    """Where a row stood in its order, as far as a column says it."""
    number = "NULL" if table.line is None else view.columns.number(table.line)
    return f"cast({number} as bigint)"


def _liked(table: InteractionsTable, view: View, kind: str) -> str:
    """The kind of a row that is rated; one without a rating keeps what it is."""
    if table.rating is None or table.liked is None:
        return kind
    rating = view.columns.number(table.rating)
    return (
        f"CASE WHEN {kind} IS NULL THEN NULL WHEN {rating} {table.liked.rating} THEN 'like' "
        f"WHEN {rating} IS NOT NULL THEN '{DISLIKE}' ELSE {kind} END"
    )


def map_exposures(table: ExposuresTable, view: View, limit: datetime) -> Mapped:
    """What was shown, with its labels."""
    words = view.columns
    columns = {
        "user_id": words.key(table.user_id),
        "item_id": words.key(table.item_id),
        **_rounded(view, user_id=table.user_id, item_id=table.item_id),
        "ts": words.moment(table.ts),
        "placement": f"coalesce({_optional(table.placement, view)}, '')",
        "raw_click": words.text(table.click),
        **conversion_columns(table, words),
        **top_columns(table.own_top, words),
        "raw_value": _raw(table.value, view),
        "value": "cast(NULL as double)" if table.value is None else words.number(table.value),
        "raw_ts": words.word(table.ts.column),
        "has_zone": words.has_zone(table.ts),
    }
    labels = {name: flag(columns[f"raw_{name}"]) for name in ("click", "conversion")}
    kinds = tuple(table.conversions)
    rules = (
        *_only(table),
        *USER_RULES,
        *ITEM_ID_RULES,
        *time_rules(limit),
        missing("click", "raw_click IS NULL"),
        *LABEL_RULES,
        *(kind_rules(kinds) if kinds else ()),
        *((not_a_number("value"),) if table.value is not None else ()),
        *top_rules(table.own_top),
        ORPHAN,
    )
    key = ("user_id", "item_id", "ts", "placement")
    select = _with_items(_select(table, view, columns | labels, "user_id"))
    told = (*OF_OUTCOMES, *(TOPS if table.own_top is not None else ()))
    return Mapped(select, rules, (*key, "click", "conversion", *told), key)


def map_events(table: EventsTable, view: View, limit: datetime) -> Mapped:
    """Any other behaviour."""
    words = view.columns
    weight = "cast(NULL as double)" if table.weight is None else words.number(table.weight)
    columns = {
        "user_id": words.key(table.user_id),
        **_rounded(view, user_id=table.user_id),
        "ts": words.moment(table.ts),
        "modality": literal(table.modality),
        "value": words.text(table.value),
        "weight": weight,
        "raw_ts": words.word(table.ts.column),
        "has_zone": words.has_zone(table.ts),
        "raw_weight": _raw(table.weight, view),
    }
    rules = (
        *_only(table),
        *USER_RULES,
        *time_rules(limit),
        missing("value", "value IS NULL"),
        not_a_number("weight"),
    )
    key = ("user_id", "ts", "modality", "value")
    return Mapped(_select(table, view, columns, "user_id"), rules, (*key, "weight"), key)


def _select(table: RawTable, view: View, columns: dict[str, str], key: str) -> str:
    place = (identifier(FILE), identifier(ROW))
    file, row = place if view.numbered else ("cast(NULL as string)", "cast(NULL as bigint)")
    everything = {
        **dict(zip(PLACE, (str(view.number), file, row, columns[key]), strict=True)),
        **columns,
        "wanted": wanted_sql(table, view.columns),
    }
    body = ",\n    ".join(f"{sql} AS {name}" for name, sql in everything.items())
    return f"SELECT\n    {body}\nFROM {view.relation}"


def _with_items(select: str, *, shop_prices: bool = False) -> str:
    """Say of each row whether the catalogue has its item; what is not said of a price, it knows."""
    known, price = "item_id AS known_item_id", ""
    if shop_prices:
        known += ", shop_price"
        price = ", CASE WHEN raw_price IS NULL THEN shop_price ELSE own_price END AS price"
    return f"""
SELECT mapped.*, known_item_id{price}
FROM (
{select}
) AS mapped
LEFT JOIN (SELECT {known} FROM {CATALOGUE}) AS known ON item_id = known_item_id"""


def _optional(field: TextField | None, view: View) -> str:
    return "cast(NULL as string)" if field is None else view.columns.text(field)


def _key(field: TextField | None, view: View) -> str:
    return "cast(NULL as string)" if field is None else view.columns.key(field)


def _rounded(view: View, **ids: TextField) -> dict[str, str]:
    return {f"{name}_rounded": view.columns.is_rounded(field) for name, field in ids.items()}


def _raw(field: NumberField | None, view: View) -> str:
    return "cast(NULL as string)" if field is None else view.columns.word(field.column)


def _kind(field: KindField, view: View) -> str:
    if field.constant is not None:
        return literal(field.constant)
    whens = " ".join(
        f"WHEN {literal(word)} THEN {literal(kind)}" for word, kind in (field.values or {}).items()
    )
    return f"CASE {view.columns.word(field.column or '')} {whens} END"


def _only(table: RawTable) -> tuple[Rule, ...]:
    if not table.only:
        return ()
    return (Rule(LEFT_OUT, "only", "NOT wanted", "row_key", "nothing: the recipe asks for it"),)
