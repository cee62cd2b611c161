"""Does a scorer of prefixes save items that a biased generator's beam drops? Known trees of tastes.

    python benchmarks/promise.py               # five seeds, two minutes on a busy core
    python benchmarks/promise.py --seeds 10

World W4 (`worlds.TreeTastes`): items are paths of three symbols, eight children each; the generator
knows half of a taste and adds a bias of its own to every symbol. The path scorer
(`language.path_scorer`) learns from other users' histories, the vectors of which are noisy sums of
the prefixes' own. At each depth the guided beam of `lists.guided` shows it K+ = 4 K of what the
generator proposes and keeps K. The plain beam is widened until the generator has scored as many
prefixes as generator and scorer together have in the guided one.

Written down before: recall of the true prefix at every depth above the plain beam's at equal scored
candidates. With users permuted, or survivors drawn at random, it must not be. If the scorer alone,
over the whole tree, is as good, the generator adds nothing, and that is the finding.
"""

import argparse
import time

import numpy as np
import torch
from worlds import TreeTastes, interval, unit

from taiji.language.path_scorer import Histories, PathSettings, fit_path_scorer
from taiji.lists.guided import guided_beam

LEARNERS, JUDGED, KEEP, TIMES = 1000, 200, 4, 4
TEXT_DIMENSIONS, BLUR = 24, 0.5


def histories_of(world, random):
    """Vectors of the items of a history: what their prefixes are like, laid end to end, blurred."""
    item_ID = np.concatenate(
        [v[world.prefix(np.arange(8**world.depth), n + 1)] for n, v in enumerate(world.prefix_VD)],
        axis=1,
    )
    lines_NLD = unit(item_ID[world.history_NL])
    lines_NLD = unit(lines_NLD + BLUR * unit(random.normal(size=lines_NLD.shape)))
    return Histories(lines_NLD.astype(np.float32), np.ones(lines_NLD.shape[:2], dtype=bool))


class Bench:
    """One draw of the world and the scorer that learnt in it."""

    def __init__(self, seed):
        self.world = TreeTastes.draw(seed, users=LEARNERS + JUDGED)
        self.random = np.random.default_rng((seed, 1))
        depths = range(1, self.world.depth + 1)
        paths_NB = np.stack([self.world.prefix(self.world.next_N, d) for d in depths], axis=1)
        sizes = [len(vectors) for vectors in self.world.prefix_VD]
        histories = histories_of(self.world, self.random)
        learners = np.arange(LEARNERS)
        self.judged = np.arange(LEARNERS, LEARNERS + JUDGED)
        self.true_NB = paths_NB[self.judged]
        self.scorer = fit_path_scorer(
            histories.rows(learners), paths_NB[learners], sizes, PathSettings(epochs=10), seed
        )
        everything = [np.tile(np.arange(size), (JUDGED, 1)) for size in sizes]
        self.worth = [
            self.scorer.scores(histories.rows(self.judged), depth, prefixes_NV)
            for depth, prefixes_NV in enumerate(everything)
        ]
        self.proposed = [level[self.judged] for level in self.world.log_proposed()]

    def expand(self, depth, prefixes):
        branching = self.world.branching
        if depth == 0:
            return np.arange(branching)
        return (prefixes[:, None] * branching + np.arange(branching)).ravel()

    def recall(self, guide, keep=KEEP):
        """Whether each judged user's true prefix is among the first K at each depth, and the cost.

        Args:
            guide: Worth of prefixes at each depth, users x prefixes; None for the plain beam.
            keep: Survivors of each depth; the first K of them count.
        """
        scored = 0

        def of(levels):
            def rate(depth, candidates):
                nonlocal scored
                scored += sum(map(len, candidates))
                return [levels[depth][user, own] for user, own in enumerate(candidates)]

            return rate

        found = guided_beam(
            self.expand,
            of(self.proposed),
            None if guide is None else of(guide),
            users=JUDGED,
            depths=self.world.depth,
            keep=keep,
            shown=TIMES * KEEP,
        )
        hits = [
            [true in own[:KEEP] for true, own in zip(true_N, survivors, strict=True)]
            for true_N, survivors in zip(self.true_NB.T, found, strict=True)
        ]
        return np.array(hits).T, scored / JUDGED

    def ways(self):
        """Recall and cost of each way, from the guided beam and what must not be as good."""
        found = {"guided": self.recall(self.worth)}
        budget, keep = found["guided"][1], KEEP
        found["plain"] = self.recall(None)
        wide = found["plain"]
        while wide[1] < budget:
            keep += 1
            wide = self.recall(None, keep)
        found["plain, as many scored"] = wide
        others = [level[self.random.permutation(JUDGED)] for level in self.worth]
        found["guided, users permuted"] = self.recall(others)
        chance = [self.random.normal(size=level.shape) for level in self.worth]
        found["random survivors"] = self.recall(chance)
        alone = [np.argsort(-level, axis=1)[:, :KEEP] for level in self.worth]
        hits = [(a == t[:, None]).any(axis=1) for a, t in zip(alone, self.true_NB.T, strict=True)]
        found["scorer alone"] = np.stack(hits, axis=1), sum(level.shape[1] for level in self.worth)
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began, found, best = time.perf_counter(), [], []
    for seed in range(args.seeds):
        bench = Bench(seed)
        found.append(bench.ways())
        best.append([bench.world.best_recall(d, KEEP) for d in range(1, bench.world.depth + 1)])
        print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
    print(f"\nrecall of the true prefix among {KEEP}, by depth, and prefixes scored a user")
    for name in found[0]:
        recall = np.mean([seed[name][0].mean(axis=0) for seed in found], axis=0)
        scored = np.mean([seed[name][1] for seed in found])
        print(f"  {name:24} {' '.join(f'{r:.3f}' for r in recall)}  {scored:6.0f}")
    print(f"  {'the best there is':24} {' '.join(f'{r:.3f}' for r in np.mean(best, axis=0))}")
    print("\ndifferences by depth, 95 % intervals over users within seeds")
    pairs = [("guided", other) for other in found[0] if other != "guided"]
    pairs += [(c, "plain, as many scored") for c in ("guided, users permuted", "random survivors")]
    for of, over in pairs:
        by_depth = [
            interval([s[of][0][:, d] * 1.0 - s[over][0][:, d] for s in found], digits=3)
            for d in (0, 1, 2)
        ]
        print(f"  {of} - {over}: {'  '.join(by_depth)}")


if __name__ == "__main__":
    main()
