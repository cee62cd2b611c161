"""What an 8B model's profiles of readers add to a ranking by likes, beside what the titles add.

    python benchmarks/dbbook.py FOLDER

The folder holds the DBbook files of github.com/swapUniba/LLM-user-profiles-for-recsys,
data/01_user_profiles/dbbook: likes, titles, and a profile of each reader by Llama3-ChatQA-1.5-8B,
written of his train likes. The base ranks by likes alone. A profile has seen all train likes of its
reader, so that stacks are fitted on the test labels of one half of the readers and judged on the
other half, over several random halvings. `match` is the cosine of a reader's text with the title
and with the texts of those who liked the book; `nearest readers` what the 100 readers of the
nearest texts make of it; `history` has the titles that a reader liked in the place of the profile.
Embeddings are kept in --cache.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from taiji.evaluation.influence import extra_users
from taiji.language.encode import SentenceEncoder
from taiji.lift.figures import gain_figures
from taiji.lift.stack import Judge, Rows

HALVINGS = 6
FACTORS = 32
RESAMPLES = 500
MOST_TITLES = 20
PRIOR = 5.0
NEAREST = 100


def read(folder):
    def pairs(name):
        rows = [line.split("\t") for line in (folder / name).read_text().splitlines()]
        return [(user, item, float(like)) for user, item, like in rows]

    titles = {}
    for line in (folder / "mapping_items.tsv").read_text(encoding="utf-8").splitlines():
        item, _, rest = line.partition("\t")
        titles[item] = rest.split(";")[0]
    lines = (folder / "profiles.jsonl").read_text(encoding="utf-8").splitlines()
    profiles = {str(row["user"]): row["profile"] for row in map(json.loads, lines)}
    return pairs("train_sorted.tsv"), pairs("test_sorted.tsv"), titles, profiles


def coded(train, test):
    users = {user: n for n, user in enumerate(sorted({row[0] for row in train + test}))}
    items = {item: n for n, item in enumerate(sorted({row[1] for row in train + test}))}

    def columns(rows):
        user, item, like = zip(*rows, strict=True)
        return (
            np.array([users[u] for u in user]),
            np.array([items[i] for i in item]),
            np.array(like),
        )

    return users, items, columns(train), columns(test)


def residuals(train, shape):
    """Rates and counts of readers and of books, and what likes are beyond the rates, (U, I)."""
    user, item, like = train
    mean = like.mean()

    def rates(by, size):
        count = np.bincount(by, minlength=size)
        return (np.bincount(by, like, minlength=size) + PRIOR * mean) / (count + PRIOR), count

    of_user, of_item = rates(user, shape[0]), rates(item, shape[1])
    beyond = like - of_user[0][user] - of_item[0][item] + mean
    return of_user, of_item, sparse.csr_array((beyond, (user, item)), shape=shape)


def base_columns(train, asked, shape):
    """What likes alone say of each asked pair: rates, item-item residuals, factors."""
    (of_user, users), (of_item, items), matrix = residuals(train, shape)
    norms = np.sqrt(np.maximum(np.asarray(matrix.multiply(matrix).sum(axis=0)), 1e-9))
    normed = matrix @ sparse.diags_array(1 / norms)
    cosine = (normed.T @ normed).tocsr()
    u, i = asked
    near = np.array([(matrix[[a]] @ cosine[:, [b]]).sum() for a, b in zip(u, i, strict=True)])
    left, strength, right = randomized_svd(matrix, FACTORS, random_state=0)
    svd = (left[u] * strength * right.T[i]).sum(axis=1)
    return np.column_stack(
        [of_user[u], of_item[i], np.log1p(users[u]), np.log1p(items[i]), near, svd]
    )


def text_columns(vectors, titles, train, asked):
    """Cosine of a reader's text to the title, and to the texts of those who liked the book."""
    user, item, like = train
    u, i = asked
    weights = np.where(like > 0, 1.0, -1.0)
    shape = titles.shape[0], vectors.shape[0]
    votes = sparse.csr_array((weights, (item, user)), shape=shape) @ vectors
    counts = np.bincount(item, minlength=shape[0])[:, None]
    taste = votes / (counts + PRIOR)
    return np.column_stack(
        [(vectors[u] * titles[i]).sum(axis=1), (vectors[u] * taste[i]).sum(axis=1)]
    ).astype(np.float32)


def neighbour_columns(vectors, train, asked, shape):
    """What the readers of the nearest texts make of the book: residuals, smoothed, and how many."""
    normed = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    near = normed @ normed.T
    np.fill_diagonal(near, -np.inf)
    nearest = np.argpartition(-near, NEAREST, axis=1)[:, :NEAREST]
    rows = np.repeat(np.arange(shape[0]), NEAREST)
    chosen = sparse.csr_array((np.ones(rows.size), (rows, nearest.ravel())), shape=near.shape)
    of_all = residuals(train, shape)[2]
    read = sparse.csr_array((np.ones(train[0].size), train[:2]), shape=shape)
    total, count = (np.asarray((chosen @ of).tocsr()[asked]).ravel() for of in (of_all, read))
    return np.column_stack([total / (count + PRIOR), np.log1p(count)]).astype(np.float32)


def rows_of(user, like, logit, groups):
    return Rows(user, {"click": like, "ctcvr": like}, {"click": logit, "ctcvr": logit}, groups)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("dbbook-vectors"))
    arguments = parser.parse_args()
    train, test, titles, profiles = read(arguments.folder)
    users, items, train, (user, item, like) = coded(train, test)
    shape = len(users), len(items)
    liked = {}
    for u, i, yes in zip(*train, strict=True):
        if yes:
            liked.setdefault(int(u), []).append(int(i))
    names = sorted(items, key=items.get)
    titled = [titles.get(name, name) for name in names]
    by_user = sorted(users, key=users.get)
    texts = {
        "titles": titled,
        "profile": [profiles.get(name, "") for name in by_user],
        "history": [
            "; ".join(titled[i] for i in liked.get(n, ())[:MOST_TITLES])
            for n in range(len(by_user))
        ],
    }
    vectors = embedded(texts, arguments.cache)
    shuffled = vectors["profile"][np.random.default_rng(1).permutation(shape[0])]
    asked = user, item
    base = base_columns(train, asked, shape)
    known = np.bincount(train[0], minlength=shape[0])
    texts = {"history": vectors["history"], "profile": vectors["profile"], "shuffled": shuffled}
    match = {
        name: text_columns(own, vectors["titles"], train, asked) for name, own in texts.items()
    }
    near = {name: neighbour_columns(own, train, asked, shape) for name, own in texts.items()}
    columns = {
        f"{arm}: {name}": own
        for arm, by_text in (("match", match), ("nearest readers", near))
        for name, own in by_text.items()
    }
    for name in ("profile", "shuffled"):
        columns[f"match: history + {name}"] = np.column_stack([match["history"], match[name]])
    columns["all of it: history"] = np.column_stack([match["history"], near["history"]])
    for name in ("profile", "shuffled"):
        further = [columns["all of it: history"], match[name], near[name]]
        columns[f"all of it: history + {name}"] = np.column_stack(further)
    report(columns, base, known, user, like)


def embedded(texts, cache):
    cache.mkdir(parents=True, exist_ok=True)
    found = {}
    encoder = None
    for name, own in texts.items():
        path = cache / f"{name}.npy"
        if not path.is_file():
            encoder = encoder or SentenceEncoder("all-minilm-l6-v2")
            np.save(path, encoder.encode(own))
        found[name] = np.load(path)
    return found


def report(columns, base, known, user, like):
    gains = {name: [] for name in columns}
    for halving in range(HALVINGS):
        first = np.random.default_rng(halving).random(known.size) < 0.5
        held, test = first[user], ~first[user]
        model = LogisticRegression(C=1.0, max_iter=1000).fit(base[held], like[held])
        logit = model.decision_function(base)
        groups = {
            "all": np.ones(test.sum(), dtype=bool),
            "cold": known[user[test]] <= 5,
            "warm": known[user[test]] >= 15,
        }
        judge = Judge(
            rows_of(user[held], like[held], logit[held], {}),
            rows_of(user[test], like[test], logit[test], groups),
            halving,
        )
        for name, own in columns.items():
            gains[name].append(padded(judge.gain(own[held], own[test]), known.size))
        print(f"halving {halving + 1}: base {judge.base()}", flush=True)
    extra = extra_users(known.size, RESAMPLES, 0)
    for name, own in gains.items():
        for group, figures in gain_figures(own, extra, 0).items():
            for measure in ("click_auc", "click_gauc"):
                one = figures[measure]
                print(
                    f"{name}, {group}, {measure.removeprefix('click_').upper()}: "
                    f"{one['value']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
                )


def padded(gain, num_users):
    """Influences over all readers: a halving judges only some, the last ones may be missing."""
    for by_group in gain.values():
        for one in by_group.values():
            for name, found in one.found.items():
                missing = num_users - found.users_U.size
                wider = np.pad(found.users_U, (0, missing))
                one.found[name] = type(found)(found.value, wider)
    return gain


if __name__ == "__main__":
    main()
