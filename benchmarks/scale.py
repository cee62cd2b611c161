"""CPU and memory of the stages that read a row for each user, without their models.

    python benchmarks/scale.py --users 20000 100000
    python benchmarks/scale.py --users 500 2000          seconds, to see that it works

The generator: every user has 50 interactions in 40 weeks before the first ranking cut-off, among
2,000 items in 100 categories, and one history line of about 60 characters for each; half of the
users are SFT examples with three chains each; each user is asked about at both ranking cut-offs.
Stages run in processes of their own, on the files that `construct` and the stages before would
have left. In the place of models stand a scorer and a writer that answer at once and an encoder
that hashes words: what is measured is all the rest, prompts and their token ids included.

Prints a table; the last line is JSON with the exponents of memory and CPU over users (of what goes
beyond the smallest process, which imports the same) and the peak at the largest size.
"""

import argparse
import hashlib
import json
import math
import re
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

LINES, CHAINS, NUM_ITEMS = 50, 3, 2_000
STAGES = ("nothing", "score", "sft", "infer", "features")
START = datetime(2017, 1, 1, tzinfo=UTC)
CUTOFFS = {"sft": 41, "rank_train": 42, "rank_test": 46}  # weeks after the start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--run", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run_here(arguments.run, arguments.folder)))
        return
    found: dict[str, list[dict[str, float]]] = {stage: [] for stage in arguments.stages}
    for users in arguments.users:
        with tempfile.TemporaryDirectory(prefix="scale-") as work:
            make(Path(work), users)
            for stage in arguments.stages:
                command = [sys.executable, __file__, "--run", stage, "--folder", work]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                row = json.loads(done.stdout.splitlines()[-1])
                found[stage].append(row)
                print(
                    f"{stage:<9} {users:>8,} users  {row['cpu_seconds']:>8.1f} CPU s"
                    f"  {row['peak_gib']:>6.2f} GiB",
                    flush=True,
                )
    print(json.dumps(summary(arguments.users, found)))


def summary(users: list[int], found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Exponents between the smallest and the largest size."""
    base = found.get("nothing", [{"peak_gib": 0.0, "cpu_seconds": 0.0}])[0]
    exponents: dict[str, dict[str, float]] = {}
    for stage, rows in found.items():
        if stage != "nothing" and len(users) > 1:
            exponents[stage] = {
                key: math.log(
                    max(rows[-1][key] - base[key], 1e-3) / max(rows[0][key] - base[key], 1e-3)
                ) / math.log(users[-1] / users[0])
                for key in ("peak_gib", "cpu_seconds")
            }  # fmt: skip
    return {
        "users": users,
        "exponents": exponents,
        "peak_gib": {stage: rows[-1]["peak_gib"] for stage, rows in found.items()},
    }


def make(root: Path, users: int) -> None:
    """Write what earlier stages would have left."""
    from taiji import schema
    from taiji.config import DataSection
    from taiji.data.calendar import plan_calendar
    from taiji.store.files import write_parquet

    rng = np.random.default_rng(17)
    for stage in ("construct", "distill", "refine", "sft", "align", "infer", "features"):
        (root / stage).mkdir()
    items = pa.Table.from_pylist(
        [
            {
                "item_id": f"i{n}", "title": f"Thing number {n} of its kind, 500 g",
                "category_l1": f"Hall {n % 10}", "category_l2": f"Aisle {n % 100}",
                "category_l3": f"Shelf {n % 400}", "brand": f"Brand {n % 50}",
            }
            for n in range(NUM_ITEMS)
        ],
        schema.ITEMS,
    )  # fmt: skip
    write_parquet(items, root / "construct" / "items.parquet", schema.ITEMS)
    names = pa.array([f"u{n:07d}" for n in range(users)])
    people = pa.table(
        {
            "user_id": names,
            "holdout": pa.array(np.zeros(users, bool)),
            "fields": pa.array([[]] * users, schema.USERS.field("fields").type),
        }
    )
    write_parquet(people, root / "construct" / "users.parquet", schema.USERS)
    bought = rng.integers(0, NUM_ITEMS, users * LINES)
    minutes = np.sort(rng.integers(0, 40 * 7 * 24 * 60, (users, LINES)), axis=1).ravel()
    times = np.datetime64(START.replace(tzinfo=None), "us") + minutes.astype("timedelta64[m]")
    who = pa.array(np.repeat(np.arange(users), LINES))
    log = pa.table(
        {
            "user_id": names.take(who),
            "item_id": items["item_id"].combine_chunks().take(pa.array(bought)),
            "ts": pa.array(times).cast(schema.TIME),
            "order_id": pa.array(np.arange(users * LINES)).cast(pa.string()),
            "kind": pa.array(["purchase"]).take(pa.array(np.zeros(users * LINES, np.int64))),
            "quantity": pa.array(np.ones(users * LINES, np.int32)),
            "price": pa.array(rng.uniform(1, 9, users * LINES).round(2)),
        }
    )
    write_parquet(log, root / "construct" / "interactions.parquet", schema.INTERACTIONS)
    tables = [examples(split, names, log, items) for split in CUTOFFS]
    tables[0] = tables[0].slice(0, users // 2)
    write_parquet(
        pa.concat_tables(tables), root / "construct" / "examples.parquet", schema.EXAMPLES
    )
    plan_calendar(DataSection().splits).write(root / "construct" / "windows.json")
    chains(root, tables[0])
    texts = pa.concat_tables(written(table) for table in tables[1:])
    write_parquet(texts, root / "infer" / "texts.parquet", schema.TEXTS)


def examples(split: str, names: pa.Array, log: pa.Table, items: pa.Table) -> pa.Table:
    """One example for each user, with all of their lines."""
    from taiji import schema

    users, weeks = len(names), CUTOFFS[split]
    words = ["Thing number of its kind, 500 g; 4.99 USD; bought 12 weeks before"]
    struct = pa.StructArray.from_arrays(
        [
            log["item_id"].combine_chunks(),
            log["ts"].combine_chunks(),
            log["price"].combine_chunks(),
            pa.array(words).take(pa.array(np.zeros(users * LINES, np.int64))),
        ],
        fields=list(schema.HISTORY_ITEM),
    )
    offsets = pa.array(np.arange(0, users * LINES + 1, LINES), pa.int32())
    flags = pa.array(np.zeros(users, bool))
    columns = {
        "example_id": pa.array([f"{split}{n:07d}" for n in range(users)]),
        "user_id": names,
        "split": pa.array([split] * users),
        "cutoff": pa.array([START + timedelta(weeks=weeks)] * users, schema.TIME),
        "profile": pa.array(["Shops on weekday evenings, mostly groceries."] * users),
        "history": pa.ListArray.from_arrays(offsets, struct),
        "history_length": pa.array(np.full(users, LINES, np.int32)),
        "long_tail": flags,
        "holdout": flags,
        "target_item_id": items["item_id"].combine_chunks().take(pa.array(np.arange(users) % 900)),
    }
    for field in schema.EXAMPLES:
        columns.setdefault(field.name, pa.nulls(users, field.type))
    return pa.table({name: columns[name] for name in schema.EXAMPLES.names})


def chains(root: Path, told: pa.Table) -> None:
    """Three chains for each SFT example, every second of them kept."""
    from taiji import schema
    from taiji.store.files import write_parquet

    num = told.num_rows * CHAINS
    which = pa.array(np.repeat(np.arange(told.num_rows), CHAINS))
    columns: dict[str, Any] = {
        "example_id": told["example_id"].combine_chunks().take(which),
        "candidate": pa.array(np.tile(np.arange(CHAINS, dtype=np.int8), told.num_rows)),
        "teacher": pa.array(["evidence"] * num),
        "status": pa.array(["ok"] * num),
        "cot": pa.array(
            ["They buy things of this shelf every other week, and the last are gone."] * num
        ),
        "answer": pa.array(["Thing number 7 of its kind, 500 g; Hall 7; Aisle 7; Shelf 7"] * num),
        "perplexity": pa.array(np.full(num, 2.0)),
        "num_answer_tokens": pa.array(np.full(num, 20, np.int32)),
        "kept": pa.array(np.arange(num) % 2 == 0),
        "reason": pa.array(["kept"] * num),
    }
    for place, name in (("distill", "candidates"), ("refine", "scored")):
        wanted = schema.CANDIDATES if name == "candidates" else schema.SCORED
        table = {f.name: columns.get(f.name, pa.nulls(num, f.type)) for f in wanted}
        write_parquet(pa.table(table), root / place / f"{name}.parquet", wanted)


def written(asked: pa.Table) -> pa.Table:
    """What the policy would have written for each."""
    from taiji import schema

    num = asked.num_rows
    numbers = [f"Thing number {n % 900} of its kind; Hall {n % 10}" for n in range(num)]
    cot = ["They buy things of this shelf every other week."] * num
    columns = {
        "example_id": asked["example_id"].combine_chunks(),
        "model": pa.array(["policy"] * num),
        "status": pa.array(["ok"] * num),
        "completion": pa.array([f"<think>{cot[0]}</think><answer>{n}</answer>" for n in numbers]),
        "cot": pa.array(cot),
        "answer": pa.array(numbers),
        "lines_dropped": pa.array(np.zeros(num, np.int32)),
    }  # fmt: skip
    return pa.table(columns, schema.TEXTS)


class Words:
    """A bag of hashed words in the place of an encoder."""

    name, dimension = "words", 64

    def encode(self, texts: list[str]) -> Any:
        rows = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                rows[row, hashlib.blake2b(word.encode(), digest_size=1).digest()[0] % 64] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)


class Flat:
    """A scorer that finds every token as likely."""

    def score(self, questions: Any, on_progress: Any = None) -> Any:
        return [
            [np.full(b.answer_stop - b.answer_start, -1.0) for b in question.branches]
            for question in questions
        ]


class Parrot:
    """A writer that says the same to everyone, after the prompt was tokenised."""

    name = "parrot"

    def __init__(self, scaffold: Any) -> None:
        self._scaffold = scaffold

    def generate(self, prompts: Any, n: int, sampling: Any, on_progress: Any = None) -> Any:
        from taiji.language.generate import Reply

        for prompt in prompts:
            self._scaffold.prompt_ids(prompt)
        return [[Reply("<think>Due.</think><answer>Milk</answer>", "ok", 9)]] * len(prompts)


def run_here(stage: str, root: Path) -> dict[str, float]:
    """Run one stage in this process."""
    from taiji.config import Recipe
    from taiji.language.models import SMOLLM2, load_tokenizer
    from taiji.language.prompt import ChatScaffold
    from taiji.reasoning import sft as training
    from taiji.stages import features, infer, score, sft
    from taiji.stages.parts import asked_models
    from taiji.stages.parts.context import StageContext

    tokenizer = load_tokenizer(SMOLLM2)
    score._scorer = lambda recipe: (Flat(), tokenizer)
    scaffold = ChatScaffold(tokenizer)
    asked_models.open_generator = lambda *_, **__: Parrot(scaffold)
    asked_models.load_tokenizer = lambda name: tokenizer
    sections = {
        "student": {"max_prompt_tokens": 2048},
        "infer": {"models": ["policy"]},
        "sft": {"num_examples": 10**9},
        "features": {"sub_vectors": 8, "bits": 6, "neighbours": "ivf"},
    }
    recipe = Recipe.model_validate({"name": "scale", **sections})
    out = root / "work" / stage
    out.mkdir(parents=True)
    inputs = {path.name: path for path in root.iterdir() if path.name != "work"}
    ctx = StageContext(recipe, out, inputs, lambda *_: None)
    before = resource.getrusage(resource.RUSAGE_SELF)
    match stage:
        case "score":
            score.score(ctx)
        case "sft":
            rows, _ = sft._kept_rows(ctx, scaffold)
            training._dataset([chain.row for chain in rows])
        case "infer":
            infer.infer(ctx)
        case "features":
            features.features(ctx, Words)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": cpu, "peak_gib": peak_gib()}


def peak_gib() -> float:
    """Peak resident memory since this program began; `ru_maxrss` would count the parent's too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20


if __name__ == "__main__":
    main()
