"""A shop of a dozen items whose histories and answers can be seen by eye."""

from datetime import UTC, datetime, timedelta
from typing import Any

from rows import example_row

from taiji.config.text import TextSection
from taiji.data.examples.text import Wording, age_text, kind_text, price_text, wording
from taiji.data.item_text import SEPARATOR, item_text

WORDS = wording(TextSection(currency="USD"), [])
NOW = datetime(2017, 6, 1, 12, tzinfo=UTC)

SHELVES = [
    ("Private label yogurt 6 oz", "Grocery", "Yogurt", "Yogurt cups"),
    ("National brand yogurt 32 oz", "Grocery", "Yogurt", "Yogurt tubs"),
    ("National brand yogurt 4 oz", "Grocery", "Yogurt", "Yogurt cups"),
    ("Private label white bread 20 oz", "Grocery", "Bread", "White bread"),
    ("National brand bagels 12 oz", "Grocery", "Bread", "Bagels"),
    ("National brand ice cream 48 oz", "Grocery", "Ice cream", "Premium"),
    ("Private label salad mix 16 oz", "Produce", "Salad", "Salad mix"),
    ("National brand bananas", "Produce", "Fruit", "Bananas"),
    ("National brand baby diapers 21 ct", "Drug", "Diapers", "Baby diapers"),
    ("National brand alkaline battery 4 ct", "Drug", "Batteries", "Alkaline"),
    ("Private label greeting card", "Gifts", "Cards", None),
    ("National brand gift wrap", "Gifts", None, None),
]
ITEMS: list[dict[str, Any]] = [
    {
        "item_id": f"i{number}",
        "title": title,
        "category_l1": first,
        "category_l2": second,
        "category_l3": third,
        "brand": " ".join(title.split()[:2]),
    }
    for number, (title, first, second, third) in enumerate(SHELVES)
]
PROFILE = (
    "Household: age 35-44, income 50-74K USD, household of 4, kids: 2. "
    "Buys mostly yogurt, salad and bread; usually pays 1.00 to 3.99 USD; 30% private label; "
    "shops mostly on weekday evenings."
)


def history_line(
    item: str, price: float | None, before: timedelta, words: Wording, kind: str | None = None
) -> str:
    """One line put together alone, as the renderer puts many together at a time."""
    parts = [item]
    if price is not None:
        parts.append(price_text(price, words))
    if kind is not None and kind != words.unsaid_kind:
        parts.append(kind_text(kind, words))
    return SEPARATOR.join([*parts, age_text(before // timedelta(minutes=1), words)])


def line(item: int, days: int, price: float | None = None) -> dict[str, Any]:
    age = timedelta(days=days)
    text = history_line(item_text(ITEMS[item]), price, age, WORDS)
    return {"item_id": f"i{item}", "ts": NOW - age, "price": price, "text": text}


def example(
    *history: tuple[int, int] | tuple[int, int, float],
    example_id: str = "e1",
    profile: str = PROFILE,
    **columns: Any,
) -> dict[str, Any]:
    """A row of `schema.EXAMPLES`; history as (item, days ago[, price]), newest first."""
    given = {
        "split": "sft",
        "cutoff": NOW,
        "profile": profile,
        "history": [line(*purchase) for purchase in history],
        "history_length": len(history),
        "target_item_id": "i0",
    }
    return example_row(example_id, **(given | columns))
