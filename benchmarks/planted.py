"""How much of a planted lift reaches the ranking model, by text and by channel.

    python benchmarks/planted.py                       # strength 2, size 1: minutes on two cores
    python benchmarks/planted.py --strengths 0 1 2 --sizes 1 4 --seeds 3 --out planted.jsonl

In the world of `data.sources.planted` clicks depend on needs that notes tell of. An oracle that
knows the needs says what there is to gain; each row says which share of it is recovered, from which
text, through which channel of the ranking model. Rows that stand in --out are not computed again.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from taiji.config import FeaturesSection
from taiji.evaluation.influence import auc_influence, extra_users, gauc_influence
from taiji.language.encode import SentenceEncoder
from taiji.lift.figures import figure
from taiji.ranking.as_of import AsOf
from taiji.ranking.categories import path_text
from taiji.ranking.inputs import LanguageFeatures
from taiji.ranking.match import TextMatch
from taiji.ranking.named import nearest_categories
from taiji.ranking.neighbours import most_similar_other_user
from taiji.ranking.quantise import train_codebook
from taiji.ranking.serving import dealt_out
from taiji.ranking.train import Labels, fit_ranker, predict
from taiji.screen.planting import notes_of, plant, planted_recipe
from taiji.screen.selftest import RESAMPLES, names_only, planted_lift
from taiji.stages.parts.constructed import Constructed

CODEBOOK = FeaturesSection(sub_vectors=8, bits=6)
BORROWED = 100
CHANNELS = ("names", "cosine", "both", "vectors")


def texts_of(planted, encode):
    """Text and names of each period of each user, by what wrote it."""
    tree, needs = planted.world.categories, planted.needs
    random = np.random.default_rng(7)
    notes = notes_of(planted)
    half = needs.copy()
    wrong = random.random(needs.shape) < 0.5
    leaves = np.unique(tree.of_item)
    half[wrong] = random.choice(leaves, size=int(wrong.sum()))
    others = dealt_out(planted.users, planted.starts, "benchmark")

    def words(names):
        return [". ".join(path_text(tree.paths[n]) for n in row if n >= 0) for row in names]

    named = {
        "needs named": needs,
        "one need named": needs[:, :1],
        "needs named, half right": half,
        "needs of others": needs[others],
        "needs read by the encoder": nearest_categories(
            notes, planted.starts, tree, encode, needs.shape[1]
        ),
    }
    return {
        **{name: (names, words(names)) for name, names in named.items()},
        "raw note": (None, notes),
    }


def rows_of_window(planted, part):
    """Rows of the period that a window is, by user."""
    starts = np.unique(planted.starts)
    first = int(getattr(planted.windows, f"{part}_pairs").ts.min())
    return np.flatnonzero(planted.starts == starts[starts <= first].max())


def language(planted, asof, channel, rows, names, vectors, codebook, items):
    """What one arm is given in one window."""
    users = [planted.users[row] for row in rows]
    num = len(users) + 1
    codes = np.empty((num, 0), dtype=np.int32)
    borrowed, dense, match, num_codes = codes, np.empty((num, 0), np.float32), None, 0
    match channel:
        case "names":
            match = names_only(planted, names[rows])
        case "cosine":
            nothing = np.full((num, 1), -1, dtype=np.int64)
            texts = np.pad(vectors[rows], ((0, 1), (0, 0)))
            match = TextMatch(planted.world.categories, nothing, texts, items)
        case "vectors":
            dense = np.pad(vectors[rows], ((0, 1), (0, 0)))
        case "both":
            found = codebook.compute_codes(vectors[rows]).astype(np.int32)
            codes = np.concatenate([found, np.full((1, found.shape[1]), -1, dtype=np.int32)])
            num_codes = codebook.num_codes
            borrowed = sequences(planted, asof, rows, vectors)
    return LanguageFeatures(tuple(users), codes, borrowed, num_codes, dense, match)


def sequences(planted, asof, rows, vectors):
    """What the nearest other user had bought by then."""
    users = [planted.users[row] for row in rows]
    nearest = most_similar_other_user(vectors[rows], users).rows
    moment = np.datetime64(int(planted.starts[rows[0]]), "us").astype(object)
    items = asof.last_items([users[n] for n in nearest], [utc(moment)] * len(users), BORROWED)
    place = {item: row for row, item in enumerate(asof.item_ids)}
    borrowed = np.full((len(users) + 1, BORROWED), -1, dtype=np.int32)
    for row, own in enumerate(items):
        borrowed[row, : len(own)] = [place[item] for item in own]
    return borrowed


def utc(moment):
    from datetime import UTC

    return moment.replace(tzinfo=UTC)


def gains_of_arm(planted, asof, channel, names, vectors, items):
    """Click AUC and GAUC over the frozen model of each seed."""
    windows = planted.windows
    train, test = rows_of_window(planted, "train"), rows_of_window(planted, "test")
    codebook = train_codebook(vectors[train], CODEBOOK, 17) if channel == "both" else None
    seen, later = (
        language(planted, asof, channel, rows, names, vectors, codebook, items)
        for rows in (train, test)
    )
    click = Labels.from_exposures(windows.test).click.astype(np.float64)
    _, user = np.unique(windows.test_pairs.user_ids, return_inverse=True)
    found = {"click_auc": [], "click_gauc": []}
    for one in planted.seeds:
        ranker = fit_ranker(
            windows.train_pairs,
            Labels.from_exposures(windows.train),
            planted.recipe.ranker,
            seed=planted.recipe.seed + one.number,
            language=seen,
        )
        ctr = predict(ranker, windows.test_pairs, later).ctr
        for name, measure in (("click_auc", auc_influence), ("click_gauc", gauc_influence)):
            base = one.judge.base_influence("click", "all", name)
            found[name].append(measure(click, ctr, user, one.judge.num_users) - base)
    return found


def study(arguments, done, write):
    encode = SentenceEncoder("all-minilm-l6-v2").encode
    for strength in arguments.strengths:
        for size in arguments.sizes:
            wanted = [
                (name, channel)
                for name in arguments.texts
                for channel in arguments.channels
                if not (name == "raw note" and channel == "names")
            ]
            todo = [pair for pair in wanted if (strength, size, *pair) not in done]
            if not todo:
                continue
            with tempfile.TemporaryDirectory() as folder:
                one_world(strength, size, todo, arguments, Path(folder), encode, done, write)


NAMES = (
    "needs named",
    "one need named",
    "needs named, half right",
    "needs of others",
    "needs read by the encoder",
    "raw note",
)


def one_world(strength, size, todo, arguments, folder, encode, done, write):
    recipe = planted_recipe(arguments.users, strength, size=size)
    planted = plant(recipe, folder, arguments.seeds)
    logs = Constructed(planted.construct)
    asof: AsOf = logs.as_of
    extra = extra_users(planted.seeds[0].judge.num_users, RESAMPLES, recipe.seed)
    oracle = planted_lift(planted, strength)
    lift = figure(oracle, [], extra, recipe.seed)
    common = {"strength": strength, "size": size, "users": len(set(planted.users))}
    base = planted.seeds[0].judge.base()["all"]["click_auc"]
    if (strength, size, "oracle", "known weight") not in done:
        write(
            {**common, "text": "oracle", "channel": "known weight", "base": base, **lift.to_json()}
        )
    from taiji.data.item_text import item_texts

    items = encode(item_texts(logs.items))
    texts = texts_of(planted, encode)
    for name, channel in todo:
        names, words = texts[name]
        vectors = encode(words)
        gains = gains_of_arm(planted, asof, channel, names, vectors, items)
        found = figure(gains["click_auc"], [], extra, recipe.seed)
        gauc = figure(gains["click_gauc"], [], extra, recipe.seed)
        share = found.value / lift.value if lift.value and found.value is not None else None
        row = {**common, "text": name, "channel": channel, "recovered": share}
        write(row | found.to_json() | {"gauc": gauc.to_json()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--strengths", type=float, nargs="+", default=[2.0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--texts", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--channels", nargs="+", choices=CHANNELS, default=CHANNELS)
    parser.add_argument("--out", type=Path, default=Path("planted.jsonl"))
    arguments = parser.parse_args()
    known = arguments.out.read_text().splitlines() if arguments.out.is_file() else []
    rows = [json.loads(line) for line in known]
    done = {(row["strength"], row["size"], row["text"], row["channel"]) for row in rows}

    def write(row):
        with arguments.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        share = row.get("recovered")
        part = "" if share is None else f", {100 * share:.0f} % of the oracle"
        print(
            f"strength {row['strength']:g}, size {row['size']:g}: {row['text']}, {row['channel']}: "
            f"{row['value']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]{part}",
            flush=True,
        )

    study(arguments, done, write)


if __name__ == "__main__":
    main()
