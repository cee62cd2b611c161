"""Skewed values with a known mean: residual codes against flat bins, LightGBM and ZILN.

    python benchmarks/values.py --seeds 5

World W2 of `worlds.py`. Every head of the product learns the same rows and says E[value] of new
ones, whose true mean is known. Figures: mean absolute error of the mean; the same in mean squares;
calibration, the mean over tenths of the predictions of |predicted - actual|, over the mean; Gini of
the values in the order of the predictions, over that of the best order. `flat bins`, the head
`bins`, has as many bins as there are codes in all, behind the same encoder; `random below` has
codes of the second level and lower drawn at random, their centres computed anew. The last line is
JSON.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from kaml import each_seed, show
from worlds import HeavyTails

from taiji.config import ValueSection
from taiji.ranking import residual_codes as rq
from taiji.ranking.value_columns import Standard
from taiji.ranking.values import fit_values

TRAIN, TEST = 8_000, 8_000


def random_below(value_N, codes, seed):
    """The first level as it is; below it codes at random, centres their rows' mean rest."""
    random, code_NL = np.random.default_rng(seed), codes.code_NL.copy()
    rest_N, centres = np.log1p(value_N) - codes.centres[0][code_NL[:, 0]], [codes.centres[0]]
    for level in range(1, code_NL.shape[1]):
        size = len(codes.centres[level])
        code_NL[:, level] = random.integers(size, size=value_N.size)
        counts = np.maximum(np.bincount(code_NL[:, level], minlength=size), 1)
        centres.append(np.bincount(code_NL[:, level], rest_N, size) / counts)
        rest_N = rest_N - centres[-1][code_NL[:, level]]
    return rq.Codes(code_NL, tuple(centres))


def measures(found_N, world, seconds):
    value_N, mean_N = world.value_N, world.mean_N
    order = np.argsort(found_N)
    actual, said = (
        np.array([part.mean() for part in np.array_split(of[order], 10)])
        for of in (value_N, found_N)
    )
    return {
        "mae": float(np.abs(found_N - mean_N).mean()),
        "rmse": float(np.sqrt(((found_N - mean_N) ** 2).mean())),
        "deciles": float(np.abs(actual - said).mean() / value_N.mean()),
        "gini": gini(value_N, found_N) / gini(value_N, value_N),
        "seconds": seconds,
    }


def gini(value_N, score_N):
    """1 - 2 x area under the share of value that the rows up to a score hold."""
    held = np.cumsum(value_N[np.argsort(score_N, kind="stable")]) / value_N.sum()
    return float(1 - 2 * held.mean())


def part(world, rows):
    return replace(world, **{name: of[rows] for name, of in vars(world).items()})


def value_heads(seed):
    world = HeavyTails.draw(seed, rows=TRAIN + TEST)
    seen, new = part(world, slice(TRAIN)), part(world, slice(TRAIN, None))
    standard = Standard.fit(seen.features_NF)
    x, later = (standard.apply(of.features_NF) for of in (seen, new))
    section = ValueSection(kind="rq").rq
    log_N = np.log1p(seen.value_N)
    centred_N = (log_N - log_N.mean()) / log_N.std()
    codes = rq.residual_codes(seen.value_N, section.levels, section.codes)
    found = {}

    def note(name, predict, level=True):
        start = time.process_time()
        of_seen, of_new = predict()
        factor = seen.value_N.mean() / of_seen.mean() if level else 1.0
        found[name] = measures(factor * of_new, new, time.process_time() - start)

    def with_codes(codes, section=section):
        def predict():
            network = rq.fit_rq(x, centred_N, codes, section, seed)
            return tuple(rq.expected_values(network, z, codes.centres) for z in (x, later))

        return predict

    def by_number():
        network = rq.fit_rq(x, centred_N, codes, section, seed)
        return tuple(
            np.expm1(rq.regressed(network, z) * log_N.std() + log_N.mean()).clip(0)
            for z in (x, later)
        )

    def product(kind):
        def predict():
            head = fit_values(seen.features_NF, seen.value_N, ValueSection(kind=kind), seed)
            return head.predict(seen.features_NF), head.predict(new.features_NF)

        return predict

    note("flat bins", product("bins"))
    note("rq", with_codes(codes))
    note("rq, its regressor", by_number)
    note("tweedie", product("tweedie"))
    note("ziln", product("ziln"))
    one = rq.Codes(codes.code_NL[:, :1], codes.centres[:1])
    note("rq, one level", with_codes(one))
    note("random below", with_codes(random_below(seen.value_N, codes, seed)))
    without = section.model_copy(update={"own_codes": 0.0})
    note("rq, true codes only", with_codes(codes, without))
    note("rq, no contrast", with_codes(codes, section.model_copy(update={"contrast_weight": 0.0})))
    note("the overall mean", lambda: (np.ones(len(x)), np.ones(len(later))))
    note("true mean", lambda: (seen.mean_N, new.mean_N), level=False)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keeps each seed, so that a killed run goes on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = each_seed(value_heads, arguments.seeds, arguments.folder)
    shown = ("mae", "rmse", "deciles", "gini")
    result = show(found, "flat bins", (*shown, "seconds"))
    print()
    for base in ("tweedie", "ziln", "rq, one level"):
        show(found, base, shown)
        print()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
