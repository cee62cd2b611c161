"""Conversions that advertisers report in part: KAML, naive masks, controls, all labels.

    python benchmarks/kaml.py --seeds 5
    python benchmarks/kaml.py --seeds 5 --only kinds --rows 96000

World W3 of `worlds.py`: 60 advertisers, four kinds of conversion, each kind but the goal reported
by half of them. Every way trains the ranking model of the product by `fit_ranker` on the same
impressions and is judged on new ones, by the true conversions of clicks of the goal's kind: AUC
within each kind, averaged over kinds, and log loss. The second table hides conversions of a log of
one kind and compares what may be done with clicks whose outcome is unknown. The last line is JSON.
"""

import argparse
import json
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.nn import functional
from worlds import ADVERTISERS, ITEMS_OF_EACH, SilentAdvertisers

from taiji.config import KamlSection, RankerSection
from taiji.evaluation.metrics import auc, log_loss
from taiji.ranking import descent, kaml, train
from taiji.ranking.as_of import DENSE
from taiji.ranking.columns import Coded
from taiji.ranking.kaml import Reports
from taiji.ranking.pairs import Pairs
from taiji.ranking.train import Labels, fit_ranker, predict

SIZES = {"dim": 8, "hidden": (32, 16), "own_items": 1, "epochs": 4, "batch_size": 256}
KINDS = ("enrol", "install", "order", "pay")


def pairs_of(world) -> Pairs:
    rows = np.arange(len(world.item_N))
    items = tuple(f"i{n}" for n in range(ADVERTISERS * ITEMS_OF_EACH))
    owners = tuple(f"a{n}" for n in range(ADVERTISERS))
    item, owner = Coded(world.item_N.astype(np.int32), items), world.advertiser_N.astype(np.int32)
    nothing = Coded(np.zeros(rows.size, np.int32), ("",))
    words = tuple("abcdefgh")
    traits = {f"user.{f}": Coded(world.traits_NF[:, f].astype(np.int32), words) for f in range(3)}
    fields = {"item": item, "l1": nothing, "l2": nothing, "l3": nothing}
    fields |= {"brand": Coded(owner, owners), "placement": nothing, **traits}
    return Pairs(
        dense=np.zeros((rows.size, len(DENSE)), np.float32),
        fields=fields,
        user_ids=np.array([f"u{n}" for n in rows], dtype=object),
        ts=rows,
        item_l3=np.zeros(len(items), np.int32),
        _events=np.zeros(0, np.int32),
        _start=rows,
        _stop=rows,
    )


def labels_of(world, reported_NJ) -> Labels:
    rows = np.arange(len(world.item_N))
    goal = reported_NJ[rows, world.goal_N].astype(np.float32)
    reports = Reports(KINDS, reported_NJ, world.goal_N, world.advertiser_N)
    return Labels(world.click_N.astype(np.float32), goal, rows, reports=reports)


def dealt_out(mask_NJ, advertiser_N, goal_N, seed):
    """The masks of other advertisers with the same goal, beside each one's own goal."""
    random, donor_A = np.random.default_rng(seed), np.arange(ADVERTISERS)
    goal_A = np.zeros(ADVERTISERS, dtype=int)
    goal_A[advertiser_N] = goal_N
    for goal in np.unique(goal_A):
        circle = random.permutation(np.flatnonzero(goal_A == goal))
        donor_A[circle] = np.roll(circle, 1)
    mask_AJ = np.zeros((ADVERTISERS, mask_NJ.shape[1]), dtype=bool)
    mask_AJ[advertiser_N] = mask_NJ
    return mask_AJ[donor_A[advertiser_N]]


def ways(world, seed):
    """Name -> section, labels, and a patch of the product for what it does not offer."""
    seen, all_known = labels_of(world, world.reported_NJ), labels_of(world, world.converted_NJ)
    both = RankerSection(**SIZES, kaml=KamlSection())
    unmasked = {"mask": "all"}

    def with_kaml(**settings):
        return both.model_copy(update={"kaml": KamlSection(**settings)})

    own = kaml.attribution_mask

    def of_others(reports, alpha):
        return dealt_out(own(reports, alpha), world.advertiser_N, world.goal_N, seed)

    def of_rows(self):
        goal_N = np.random.default_rng(seed).permutation(self.goal_N)
        return goal_N[:, None] == np.arange(len(self.kinds))

    def any_part(reports, section):
        targets = kaml.kind_targets(reports, section)
        with mock.patch.object(Reports, "is_goal", of_rows):
            parts = torch.from_numpy(reports.is_goal())
        return kaml.KindTargets(targets.reported_NJ, targets.mask_NJ, parts)

    plain = {"split_towers": False, "gamma": 1.0}
    return {
        "goal alone": (with_kaml(mask="goal", **plain), seen, None),
        "all zeros": (with_kaml(mask="all", **plain), seen, None),
        "ADM": (with_kaml(**plain), seen, None),
        "ADM + HKE": (with_kaml(gamma=1.0), seen, None),
        "KAML": (both, seen, None),
        "oracle": (with_kaml(**unmasked), all_known, None),
        "masks dealt out": (both, seen, (kaml, "attribution_mask", of_others)),
        "parts dealt out": (both, seen, (train, "kind_targets", any_part)),
        "one kind (no KAML)": (both.model_copy(update={"kaml": None}), seen, None),
    }


def judge(ranker, pairs, world):
    found = predict(ranker, pairs)
    rows = np.flatnonzero(world.click_N)
    cvr, goal = (found.ctcvr / found.ctr)[rows], world.goal_N[rows]
    truth = world.converted_NJ[rows, goal].astype(np.float64)
    aucs = [auc(truth[goal == j], cvr[goal == j]) for j in range(len(KINDS))]
    return {"auc": float(np.mean(aucs)), "log_loss": log_loss(truth, cvr), "rarest": aucs[-1]}


def one_seed(seed, num_rows):
    world = SilentAdvertisers.draw(seed, rows=2 * num_rows)
    seen, new = (
        type(world)(
            **{
                name: value if name == "reports_AJ" else value[part]
                for name, value in vars(world).items()
            }
        )
        for part in (slice(num_rows), slice(num_rows, None))
    )
    pairs, later = pairs_of(seen), pairs_of(new)
    found = {}
    for name, (section, labels, patch) in ways(seen, seed).items():
        start = time.process_time()
        if patch is None:
            ranker = fit_ranker(pairs, labels, section, seed=seed)
        else:
            with mock.patch.object(*patch):
                ranker = fit_ranker(pairs, labels, section, seed=seed)
        found[name] = judge(ranker, later, new) | {"seconds": time.process_time() - start}
    return found


def hidden_world(seed, num_rows, hidden=0.5):
    """A log of one kind; of half of the advertisers no conversion is known at all."""
    world = SilentAdvertisers.draw(seed, rows=2 * num_rows)
    silent_A = np.random.default_rng((seed, 5)).random(ADVERTISERS) < hidden
    return world, silent_A


def of_known(logits, click_B, conversion_B, unknown_B):
    """The ESMM loss whose second term is the mean over impressions of known outcome."""
    both_B, known_B = click_B * conversion_B, ~unknown_B
    clicks = functional.binary_cross_entropy_with_logits(logits.ctr, click_B)
    both = both_B * logits.log_ctcvr() + (1 - both_B) * logits.log_no_ctcvr()
    return clicks - both[known_B].mean()


FIT_CALIBRATION = train.Calibration.fit


def calibrated_on_known(ctr, cvr, click, both, unknown):
    known = ~unknown
    of_clicks = FIT_CALIBRATION(ctr, None, click, both)
    of_both = FIT_CALIBRATION(ctr[known], cvr[known], click[known], both[known])
    return train.Calibration(of_clicks.click, of_both.conversion)


def one_seed_of_unknown(seed, num_rows):
    world, silent_A = hidden_world(seed, num_rows)
    rows = np.arange(2 * num_rows)
    truth = world.converted_NJ[rows, world.goal_N].astype(np.float32)
    click = world.click_N.astype(np.float32)
    late = np.random.default_rng((seed, 6)).random(rows.size) < 0.3
    unknown = world.click_N & (silent_A[world.advertiser_N] | late)
    pairs, section = pairs_of(world), RankerSection(**SIZES)
    train_rows, test_rows = rows[:num_rows], rows[num_rows:]
    told = np.where(unknown, 0, truth).astype(np.float32)

    def fit(at, conversion, silent=None):
        labels = Labels(click[at], conversion[at], at, unknown=silent)
        return fit_ranker(pairs.take(at), labels, section, seed=seed)

    def fit_without(at, conversion, silent):
        """Unknown clicks teach the click alone, and are not calibrated on."""
        with (
            mock.patch.object(descent, "esmm_loss", of_known),
            mock.patch.object(train.Calibration, "fit", calibrated_on_known),
        ):
            return fit(at, conversion, silent)

    fits = {
        "as no conversion": fit(train_rows, told),
        "the row left out": fit(train_rows[~unknown[:num_rows]], told),
        "out of the CTCVR term": fit_without(train_rows, told, unknown[:num_rows]),
        "expected (ours)": fit(train_rows, told, unknown[:num_rows]),
        "all known": fit(train_rows, truth),
    }
    found = {}
    for name, ranker in fits.items():
        predicted = predict(ranker, pairs.take(test_rows))
        silent = silent_A[world.advertiser_N[test_rows]]
        happened, score = truth[test_rows], predicted.ctcvr
        found[name] = {
            "log_loss": log_loss(happened, score),
            "level": float(score.mean() / happened.mean()),
            "level_silent": float(score[silent].mean() / happened[silent].mean()),
            "auc": auc(happened, score),
        }
    return found


def interval(values):
    """Mean and 95 % interval by Student's t over seeds."""
    from scipy.stats import t

    values = np.asarray(values)
    half = t.ppf(0.975, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def each_seed(measure, num_seeds, folder, *sizes):
    """Figures of every seed; those that lie in the folder are read again."""
    found, stem = [], "-".join([measure.__name__, *map(str, sizes)])
    for seed in range(num_seeds):
        path = None if folder is None else folder / f"{stem}-{seed}.json"
        if path is None or not path.is_file():
            figures = measure(seed, *sizes)
            if path is not None:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(figures), encoding="utf-8")
        else:
            figures = json.loads(path.read_text(encoding="utf-8"))
        found.append(figures)
    return found


def show(found, base, measures):
    print(f"{'':22}" + "".join(f"{m:>12}" for m in measures) + f"   over `{base}`: mean [95 %]")
    table = {}
    for name in found[0]:
        means = [np.mean([one[name][m] for one in found]) for m in measures]
        over = {m: interval([o[name][m] - o[base][m] for o in found]) for m in measures}
        table[name] = {
            m: {"mean": float(x), "over": over[m]} for m, x in zip(measures, means, strict=True)
        }
        told = "  ".join(f"{m} {a:+.4f} [{b:+.4f}, {c:+.4f}]" for m, (a, b, c) in over.items())
        print(f"{name:22}" + "".join(f"{x:12.4f}" for x in means) + "   " + told)
    return table


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keeps each seed, so that a killed run goes on")
    parser.add_argument("--only", choices=["kinds", "unknown"])
    parser.add_argument("--rows", type=int, default=24_000, help="to learn, and as many to judge")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {}
    if arguments.only != "unknown":
        found = each_seed(one_seed, arguments.seeds, arguments.folder, arguments.rows)
        result["kinds"] = show(found, "goal alone", ("auc", "log_loss", "rarest", "seconds"))
        print()
        show(found, "all zeros", ("auc", "log_loss"))
        print()
        show(found, "KAML", ("auc", "log_loss"))
        print()
    if arguments.only != "kinds":
        found = each_seed(one_seed_of_unknown, arguments.seeds, arguments.folder, arguments.rows)
        result["unknown"] = show(found, "all known", ("auc", "log_loss", "level", "level_silent"))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
