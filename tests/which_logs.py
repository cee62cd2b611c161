"""The logs of "Which log is yours?" in docs/data.md, written small, and how far each carries."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
RECIPES = dict(
    re.findall(
        r"^\*\*(.+?)\.?\*\*.*?```yaml\n(.*?)```",
        PAGE.partition("## Which log is yours?")[2].partition("\n## ")[0],
        re.MULTILINE | re.DOTALL,
    )
)
RANKING = frozenset({"simulate", "rank", "abtest"})


@dataclass(frozen=True)
class Carries:
    """How far a log gets.

    Attributes:
        left_out: Stages that it cannot reach.
        kinds: What is foreseen.
        levels: Of categories that answers are asked for.
        unwanted: The item `i5` is never foreseen: it was disliked, or merely seen.
    """

    left_out: frozenset[str]
    goal: str
    kinds: tuple[str, ...]
    levels: int
    unwanted: bool = False


CARRIES = {
    "Purchases, nothing else": Carries(RANKING, "click", ("purchase",), 2),
    "The same, with exposures that were drawn": Carries(
        frozenset({"abtest"}), "click", ("purchase",), 2
    ),
    "Ratings or reviews": Carries(RANKING, "click", ("like",), 0, unwanted=True),
    "Several kinds of behaviour": Carries(RANKING, "click", ("purchase",), 0, unwanted=True),
    "Impressions and clicks, no conversions": Carries(
        frozenset({"abtest"}), "click", ("click",), 0, unwanted=True
    ),
    "Impressions, clicks and conversions": Carries(frozenset(), "conversion", ("purchase",), 2),
    "Lines of orders in one file": Carries(RANKING, "click", ("purchase",), 0),
    "Orders as JSON, with a list of lines": Carries(RANKING, "click", ("purchase",), 2),
    "What is listened to, watched or read": Carries(RANKING, "click", ("listen",), 0),
    "Categories in a file of their own": Carries(RANKING, "click", ("purchase",), 3),
    "Titles in another script": Carries(RANKING, "click", ("like",), 0, unwanted=True),
}


def write_logs(folder: Path, *, users: int = 6, days: int = 50, items: int = 6) -> None:
    """All files that the recipes name, below `folder`/shop; every sixth item is unwanted."""
    shop = folder / "shop"
    shop.mkdir()
    files: dict[str, list[str]] = {
        "items.csv": ["sku,name,department,aisle,maker"],
        "items-zh.csv": ["sku,name"],
        "shelves.csv": ["product,shelf"],
        "orders.csv": ["who,sku,when"],
        "reviews.csv": ["who,sku,when,stars"],
        "events.csv": ["who,sku,when,what"],
        "shown.csv": ["who,sku,when,clicked,bought"],
        "plays.csv": ["who,sku,when,seconds"],
        "lines.csv": ["invoice,who,sku,what,when"],
        "orders.jsonl": [],
    }
    for n in range(items):
        files["items.csv"].append(f"i{n},Green tea {n},Drinks,Tea,Acme")
        files["items-zh.csv"].append(f"i{n},绿茶{'甲乙丙丁戊己'[n % 6]}{n}号")
        files["shelves.csv"] += [f"i{n},{level}" for level in ("Drinks", "Tea", "Green")]
    for who in range(users):
        for day in range(days):
            item, other = (who + day) % items, (who + 3 * day + 1) % items
            moment = datetime(2024, 1, 1, 8, tzinfo=UTC) + timedelta(days=day, hours=who % 12)
            when, unwanted = f"{moment:%FT%TZ}", item % 6 == 5
            line = f"u{who},i{item},{when}"
            files["orders.csv"].append(line)
            files["reviews.csv"].append(f"{line},{2 if unwanted else 5}")
            files["events.csv"].append(f"{line},{'pv' if unwanted else 'buy'}")
            files["shown.csv"].append(f"{line},{int(not unwanted)},{int(item % 6 == 0)}")
            files["plays.csv"].append(f"{line},{30 + day}")
            # A note of staff, a cancelled order and a customer who gave no name.
            name = "damaged" if day == 7 else f"Green tea {item}"
            files["lines.csv"].append(f"{day}-{who},u{who},i{item},{name},{when}")
            if day % 10 == 0:
                files["lines.csv"].append(f"C{day}-{who},u{who},i{other},{name},{when}")
                files["lines.csv"].append(f"{day}-x{who},,i{other},Green tea {other},{when}")
            lines = [{"sku": f"i{n}", "pieces": 1} for n in dict.fromkeys((item, other))]
            order = {"customer": {"id": f"u{who}"}, "placed": when, "lines": lines}
            files["orders.jsonl"].append(json.dumps(order))
    for name, rows in files.items():
        (shop / name).write_text("\n".join([*rows, ""]), "utf-8")
