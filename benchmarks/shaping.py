"""OneRec-V2's shaping of feedback: does it follow taste where long clips collect seconds?

    python benchmarks/shaping.py --seeds 5 --spread 1

World W2 of `worlds.py` with the length of clips as a confounder: 300 users see 120 clips each. The
value of W2 is what a view is worth to its user, and its known mean the taste; seconds are that
value x the user's patience x (length / 20)^gamma. Lengths are log-normal about 20 seconds with
standard deviation `--spread`; neither they nor patience have anything to do with taste. `shaped` is
the conversion that the product's own SQL derives (`own_top`, a quarter, five earlier views). Beside
it: seconds; seconds over length; the top quarter of either over everybody; `own, no bucket`, the
same SQL with all lengths in one bucket; and the control, buckets permuted among the views. Shown:
rank correlation (Spearman) with the taste over the views whose conversion is known; differences
are `shaped` minus the other, 95 % over users drawn anew within their seeds, for fixed ranks. The
last line is JSON.
"""

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata
from worlds import HeavyTails, interval

from taiji.config.mapping_fields import OwnTopField
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.tables.own_tops import shaped_sql

USERS, VIEWS, GAMMAS = 300, 120, (0.25, 0.5, 0.75, 1.0)
TOP = OwnTopField.model_validate({"of": "seconds", "within": "length"})
_START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())


def shaped(engine, seconds_N, bucket_N):
    """The conversion of each view, NaN where it is not known."""
    number = np.arange(seconds_N.size)
    ids = pa.array([f"{n:06d}" for n in number])
    texts = {name: pa.array([""] * number.size) for name in ("placement", "advertiser", "reported")}
    nothing = {name: pa.nulls(number.size, pa.string()) for name in ("goal", "fault")}
    columns = {
        "source": pa.array(np.zeros(number.size, np.int64)),
        "user_id": pa.array([f"u{n // VIEWS:03d}" for n in number]),
        "item_id": ids,
        "ts": pa.array((_START + 60 * (number % VIEWS)) * 10**6, pa.timestamp("us")),
        "click": pa.array(np.ones(number.size, np.int32)),
        "value": pa.nulls(number.size, pa.float64()),
        "top_number": pa.array(seconds_N),
        "top_bucket": pa.array(bucket_N.astype(np.int64)),
        "disliked": pa.nulls(number.size, pa.int32()),
    }
    engine.register("judged_0", pa.table(columns | texts | nothing))
    found = engine.query(f"SELECT conversion FROM ({shaped_sql({0: TOP})}) ORDER BY item_id")
    return found["conversion"].to_pandas().to_numpy(dtype=np.float64)


def signals(seed, gamma, spread, engine):
    """Every signal of each view, and the taste that it should follow."""
    world = HeavyTails.draw(seed, rows=USERS * VIEWS)
    random = np.random.default_rng((seed, 8))
    length_N = np.round(20 * np.exp(spread * random.normal(size=world.value_N.size)), 1)
    patience_N = np.repeat(np.exp(0.7 * random.normal(size=USERS)), VIEWS)
    seconds_N = np.round(world.value_N * patience_N * (length_N / 20) ** gamma, 1)
    bucket_N, ratio_N = np.floor(np.log2(length_N + 1e-6)), seconds_N / np.maximum(length_N, 0.1)
    return world.mean_N, {
        "shaped": shaped(engine, seconds_N, bucket_N),
        "seconds": seconds_N,
        "top quarter of seconds": 1.0 * (seconds_N > np.quantile(seconds_N, 0.75)),
        "seconds / length": ratio_N,
        "top quarter of seconds / length": 1.0 * (ratio_N > np.quantile(ratio_N, 0.75)),
        "own, no bucket": shaped(engine, seconds_N, np.zeros_like(bucket_N)),
        "control: buckets permuted": shaped(engine, seconds_N, random.permutation(bucket_N)),
    }


def by_user(taste_N, told):
    """What each user adds to every signal's correlation with the taste; their mean is that."""
    known_N = np.all([np.isfinite(signal_N) for signal_N in told.values()], axis=0)
    owner = np.repeat(np.arange(USERS), VIEWS)[known_N]
    taste_M = standard(taste_N[known_N])
    found = {}
    for name, signal_N in told.items():
        products = standard(signal_N[known_N]) * taste_M
        found[name] = np.bincount(owner, products, minlength=USERS) * USERS / owner.size
    return found, float(known_N.mean())


def standard(values):
    ranks = rankdata(values)
    return (ranks - ranks.mean()) / ranks.std()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--spread", type=float, default=1.0)
    asked = parser.parse_args()
    began, result = time.process_time(), {}
    with tempfile.TemporaryDirectory() as folder:
        engine = DuckDbEngine(Path(folder) / "scratch")
        for gamma in GAMMAS:
            rows = [
                by_user(*signals(seed, gamma, asked.spread, engine)) for seed in range(asked.seeds)
            ]
            seeds = [found for found, _ in rows]
            print(f"gamma {gamma}: {np.mean([share for _, share in rows]):.3f} of the views")
            for name in seeds[0]:
                whole = interval([found[name] for found in seeds])
                over = interval([found["shaped"] - found[name] for found in seeds])
                result[f"{gamma} {name}"] = [whole, over]
                print(f"  {name:32}{whole}   shaped - it: {over}")
        engine.close()
    print(f"{time.process_time() - began:.1f} CPU seconds")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
