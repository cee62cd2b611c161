"""Whether the texts of a run on the planted world name what their users need, and where they fail.

    python benchmarks/planted_texts.py runs/planted                         # shares of needs
    python benchmarks/planted_texts.py runs/planted --truth needs.jsonl     # both needs as texts

The texts of `--truth`, given as `infer.texts_from`, are what `taiji surplus` can show for the same
users at the most. Shares are means over texts, with 95 % over users.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from taiji.config.loading import load_recipe
from taiji.data.item_text import complete_path
from taiji.data.sources.planted import world_folder
from taiji.data.sources.planted_words import DISTRACTORS, NEEDS
from taiji.ranking.categories import Categories, path_text
from taiji.ranking.named import NameReader

MEASURES = {
    "names": "categories that the text names",
    "right": "of these, share that the user needs",
    "found": "share of the needs that are named",
    "quoted": "share of the needs whose note the chain quotes",
    "idle": "share of chains that quote a note which means nothing",
    "read": "share of the quoted needs whose category is named",
}
RESAMPLES = 1000
NOTES = {note: (need.l1, need.l2, need.l3) for need in NEEDS for note in need.notes}


def needs_of(recipe):
    """Needed paths by user, each with the moment from which on it holds."""
    table = pq.read_table(world_folder(recipe.data.source) / "needs.parquet")
    told = defaultdict(list)
    for row in table.to_pylist():
        told[row["user_id"]].append((row["starts"], row["ends"], complete_path(levels(row))))
    return told


def levels(row):
    return row["l1"], row["l2"], row["l3"]


def texts_of(run):
    """Rows of infer/texts.parquet with user, split and moment of each."""
    told = pq.read_table(run / "construct" / "examples.parquet")
    columns = told.select(["example_id", "user_id", "split", "cutoff"]).to_pylist()
    examples = {row["example_id"]: row for row in columns}
    rows = pq.read_table(run / "infer" / "texts.parquet").to_pylist()
    return [row | examples[row["example_id"]] for row in rows]


def judged(row, wanted, reader, tree):
    """The measures of one text; those that have no meaning for it are left out."""
    named = {tree.paths[node] for node in reader.read(row["answer"], row["completion"])}
    chain = row["cot"].casefold()
    told = [path for note, path in NOTES.items() if bare(note) in chain]
    quoted = wanted & {complete_path(path) for path in told}
    found = {
        "names": len(named),
        "found": len(named & wanted) / len(wanted),
        "quoted": len(quoted) / len(wanted),
        "idle": float(any(bare(note) in chain for note in DISTRACTORS)),
    }
    if named:
        found["right"] = len(named & wanted) / len(named)
    if quoted:
        found["read"] = len(quoted & named) / len(quoted)
    return found


def bare(note):
    """A chain may end its quotation otherwise than the note does."""
    return note.casefold().rstrip(".!?")


def interval(values, users):
    """Mean and its 95 %, users drawn with replacement."""
    place = np.unique(users, return_inverse=True)[1]
    sums, sizes = np.bincount(place, weights=values), np.bincount(place)
    shares = [1 / len(sums)] * len(sums)
    times = np.random.default_rng(7).multinomial(len(sums), shares, RESAMPLES)
    low, high = np.quantile((times @ sums) / (times @ sizes), [0.025, 0.975])
    return f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"


def report(run, recipe):
    tree, needs = Categories.from_items(items := read_items(run)), needs_of(recipe)
    reader = NameReader(items, tree)
    groups = defaultdict(list)
    for row in texts_of(run):
        wanted = needed(needs, row)
        if wanted:
            found = judged(row, wanted, reader, tree)
            groups[row["model"], row["split"]].append((row["user_id"], found))
    for (model, split), rows in sorted(groups.items()):
        print(f"{model}, {split}: {len(rows)} texts")
        for name, words in MEASURES.items():
            some = [(user, found[name]) for user, found in rows if name in found]
            if some:
                users, values = zip(*some, strict=True)
                print(f"  {words}: {interval(np.array(values), np.array(users))}")


def read_items(run):
    return pq.read_table(run / "construct" / "items.parquet")


def needed(needs, row):
    """What a user needs at the moment of a text."""
    told = needs.get(row["user_id"], ())
    return {path for starts, ends, path in told if starts <= row["cutoff"] < ends}


def write_truth(run, recipe, out):
    """A line for each ranking user and moment: both needs, in the words of the categories."""
    needs = needs_of(recipe)
    rows = pq.read_table(run / "construct" / "examples.parquet").to_pylist()
    with out.open("w", encoding="utf-8") as stream:
        for row in rows:
            if row["split"] in ("rank_train", "rank_test"):
                text = "\n".join(path_text(path) for path in sorted(needed(needs, row)))
                told = {"user": row["user_id"], "time": row["cutoff"].isoformat(), "text": text}
                stream.write(json.dumps(told) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--truth", type=Path, help="write the needs as texts, and nothing else")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.run / "recipe.resolved.yaml").recipe
    if arguments.truth:
        write_truth(arguments.run, recipe, arguments.truth)
    else:
        report(arguments.run, recipe)


if __name__ == "__main__":
    main()
