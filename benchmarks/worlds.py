"""Worlds whose truth is known, for the claims of related systems (docs/related.md).

    W1 SwitchingShoppers   an early and a late taste; a known share returns to the early one
    W2 HeavyTails          a spike at 0, a log-normal body and a second mode; the mean is known
    W3 SilentAdvertisers   kinds of conversion, all of them, and what advertisers report of them
    W4 TreeTastes          items on a tree, tastes of prefixes, a proposer with a known bias

NumPy only, seconds to draw. A world is one frozen dataclass: `draw(seed, ...)` makes it, and what
nobody can do better stands beside the data as a method.

Shape suffixes: N users, L events of a history, I items, T tastes, D dimensions of a text's vector,
V prefixes of one depth, J kinds of conversion, A advertisers, F features.
"""

from dataclasses import dataclass

import numpy as np


def unit(vectors):
    """The same directions at length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@dataclass(frozen=True)
class SwitchingShoppers:
    """W1: the last lines of a history show the late taste; the next item may follow the early one.

    Attributes:
        returning: Share of users whose next item is of their early taste; the others' is of their
            late one.
        taste_I: The taste of each item; every taste has as many items.
        early_N: Taste of the first half of each history.
        late_N: Taste of the second half, never the early one.
        history_NL: Items, the oldest first.
        next_N: The next item.
        taste_TD: What a text that names a taste means, without the noise of its words.
        item_ID: What the item's title means.
        blur: Length of the noise of a text's words, in lengths of its meaning.
    """

    returning: float
    taste_I: np.ndarray
    early_N: np.ndarray
    late_N: np.ndarray
    history_NL: np.ndarray
    next_N: np.ndarray
    taste_TD: np.ndarray
    item_ID: np.ndarray
    blur: float

    @classmethod
    def draw(
        cls, seed, *, users=2000, tastes=8, items=400, events=20, dimensions=64, returning=0.8
    ):
        random, blur = np.random.default_rng(seed), 0.75
        taste_I = np.arange(items) % tastes
        early_N = random.integers(tastes, size=users)
        late_N = (early_N + random.integers(1, tastes, size=users)) % tastes
        next_taste_N = np.where(random.random(users) < returning, early_N, late_N)
        halves = [np.repeat(of_N[:, None], events // 2, 1) for of_N in (early_N, late_N)]
        taste_TD = unit(random.normal(size=(tastes, dimensions)))

        def item_of(taste):
            return taste + tastes * random.integers(items // tastes, size=np.shape(taste))

        return cls(
            returning=returning,
            taste_I=taste_I,
            early_N=early_N,
            late_N=late_N,
            history_NL=item_of(np.concatenate(halves, axis=1)),
            next_N=item_of(next_taste_N),
            taste_TD=taste_TD,
            item_ID=_blurred(taste_TD[taste_I], blur, random),
            blur=blur,
        )

    @property
    def hidden_N(self):
        """The taste of each user's next item."""
        return self.taste_I[self.next_N]

    def texts(self, taste_N, random):
        """Vectors of texts that each name a taste, in words of their own; N x D, of length 1."""
        return _blurred(self.taste_TD[taste_N], self.blur, random)

    def last_lines(self, lines):
        """What a reader of the last lines has read: the mean of their titles, of length 1."""
        return unit(self.item_ID[self.history_NL[:, -lines:]].mean(axis=1))

    def best_log_likelihood(self, *, knows_early):
        """Mean log p of the next item for who knows the late taste, and the early one or not."""
        num_tastes = len(self.taste_TD)
        chance = self.returning if knows_early else self.returning / (num_tastes - 1)
        staying = 1 - self.returning
        of_taste = sum(
            share * np.log(p)
            for share, p in ((self.returning, chance), (staying, staying))
            if share
        )
        return of_taste - np.log(len(self.taste_I) / num_tastes)


@dataclass(frozen=True)
class TreeTastes:
    """W4: an item is a path; each step of it is drawn by how the user likes the prefix so far.

    Prefixes of one depth are numbered so that the children of v are v * branching and the
    `branching - 1` numbers after it.

    Attributes:
        branching: Children of a prefix.
        user_ND: The users' tastes.
        prefix_VD: For each depth, what its prefixes are like.
        sharpness: How strongly a user's taste decides.
        bluntness: Which share of that the proposer knows.
        bias_V: For each depth, what the proposer adds to a prefix's logit, whoever asks.
        history_NL: Items (prefixes of full depth) that each user took.
        next_N: The next one.
    """

    branching: int
    user_ND: np.ndarray
    prefix_VD: tuple
    sharpness: float
    bluntness: float
    bias_V: tuple
    history_NL: np.ndarray
    next_N: np.ndarray

    @classmethod
    def draw(
        cls, seed, *, users=2000, branching=8, depth=3, dimensions=8, events=20, bias=1.5,
        sharpness=4.0, bluntness=0.5,
    ):  # fmt: skip
        random = np.random.default_rng(seed)
        sizes = [branching**level for level in range(1, depth + 1)]
        user_ND = unit(random.normal(size=(users, dimensions)))
        prefix_VD = tuple(unit(random.normal(size=(size, dimensions))) for size in sizes)
        bias_V = tuple(bias * random.normal(size=size) for size in sizes)
        given = (branching, user_ND, prefix_VD, sharpness, bluntness, bias_V)
        none = np.empty((users, 0), dtype=np.int64)
        truth_NV = np.exp(cls(*given, history_NL=none, next_N=none).log_truth()[-1])
        upper_NV = truth_NV.cumsum(axis=1)
        draws = random.random((users, events + 1))
        taken = [np.searchsorted(row, u * row[-1]) for row, u in zip(upper_NV, draws, strict=True)]
        taken_NL = np.stack(taken)
        return cls(*given, history_NL=taken_NL[:, :-1], next_N=taken_NL[:, -1])

    @property
    def depth(self):
        return len(self.prefix_VD)

    def prefix(self, items, level):
        """The prefixes of items at a level, 1 being the first symbol."""
        return items // self.branching ** (self.depth - level)

    def log_truth(self):
        """For each depth, log p of each prefix for each user; N x V."""
        return self._log_paths(self.sharpness, [np.zeros(len(bias_V)) for bias_V in self.bias_V])

    def log_proposed(self):
        """The same as the proposer has it: half blind, and biased alike for everybody."""
        return self._log_paths(self.sharpness * self.bluntness, self.bias_V)

    def best_recall(self, level, beam):
        """The most that `beam` prefixes of a level can recall: the mass of the likeliest."""
        likely_NV = np.sort(np.exp(self.log_truth()[level - 1]), axis=1)
        return likely_NV[:, -beam:].sum(axis=1).mean()

    def _log_paths(self, sharpness, bias_V):
        paths, above_NV = [], np.zeros((len(self.user_ND), 1))
        for vectors_VD, bias in zip(self.prefix_VD, bias_V, strict=True):
            logits_NV = sharpness * self.user_ND @ vectors_VD.T + bias
            siblings = logits_NV.reshape(len(logits_NV), -1, self.branching)
            siblings = siblings - np.logaddexp.reduce(siblings, axis=2, keepdims=True)
            above_NV = (above_NV[:, :, None] + siblings).reshape(len(logits_NV), -1)
            paths.append(above_NV)
        return paths


def _blurred(meaning_ND, blur, random):
    noise_ND = unit(random.normal(size=meaning_ND.shape))
    return unit(meaning_ND + blur * noise_ND)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


@dataclass(frozen=True)
class HeavyTails:
    """W2: a value with a spike at 0, a log-normal body and a second mode far above it.

    Attributes:
        features_NF: What a model may see, standard normal.
        value_N: What it has to foretell.
        mean_N: E[value | features], which it cannot beat.
    """

    features_NF: np.ndarray
    value_N: np.ndarray
    mean_N: np.ndarray

    @classmethod
    def draw(cls, seed, *, rows=16_000):
        """W2. Two of eight features say nothing; the chance of the second mode is not monotone."""
        random = np.random.default_rng((seed, 2))
        x = random.normal(size=(rows, 8))
        nothing_N = _sigmoid(-0.5 + 1.2 * x[:, 0] - 0.8 * x[:, 1])
        large_N = _sigmoid(-2.5 + 1.5 * x[:, 2] ** 2 - 1.0 * x[:, 0])
        body_N = 2.0 + 0.7 * x[:, 3] + 0.5 * x[:, 4] * x[:, 5]
        large_mean_N, spread, large_spread = 4.5 + 0.3 * x[:, 3], 0.8, 0.25
        draw_N = random.random(rows)
        is_large_N = random.random(rows) < large_N
        z_N = random.normal(size=rows)
        value_N = np.where(
            is_large_N, np.exp(large_mean_N + large_spread * z_N), np.exp(body_N + spread * z_N)
        )
        value_N = np.where(draw_N < nothing_N, 0.0, value_N)
        mean_N = (1 - nothing_N) * (
            large_N * np.exp(large_mean_N + large_spread**2 / 2)
            + (1 - large_N) * np.exp(body_N + spread**2 / 2)
        )
        return cls(x, value_N, mean_N)


ITEMS_OF_EACH, ADVERTISERS = 5, 60
_SHARES = (0.5, 0.25, 0.15, 0.1)  # of advertisers, by goal
_LEVELS = (-1.2, -1.8, -2.2, -2.8)  # log-odds of each kind
_STRAY = 0.02  # of what advertisers do not report as a rule


@dataclass(frozen=True)
class SilentAdvertisers:
    """W3: J kinds of conversion, complete labels, and what advertisers report of them.

    Attributes:
        traits_NF: Three traits of the user, each one of eight words.
        item_N: What was shown.
        advertiser_N: Whose it is.
        goal_N: The kind that he pays for.
        click_N: Whether it was clicked.
        converted_NJ: What happened after the click; nobody sees all of it.
        reported_NJ: What was reported of it.
        reports_AJ: Which kinds each advertiser reports.
        rate_NJ: True chance of each kind given a click.
    """

    traits_NF: np.ndarray
    item_N: np.ndarray
    advertiser_N: np.ndarray
    goal_N: np.ndarray
    click_N: np.ndarray
    converted_NJ: np.ndarray
    reported_NJ: np.ndarray
    reports_AJ: np.ndarray
    rate_NJ: np.ndarray

    @classmethod
    def draw(cls, seed, *, rows=48_000, off_goal=-1.0):
        """W3. Who reports what but his goal is drawn by a coin; conversions beside the goal differ.

        Args:
            seed: Of everything.
            rows: Impressions.
            off_goal: How much rarer a kind is that is not the goal; its tastes differ too.
        """
        random = np.random.default_rng((seed, 3))
        num_kinds = len(_SHARES)
        goal_A = random.permutation(np.repeat(np.arange(4), np.multiply(_SHARES, 60).astype(int)))
        is_goal_AJ = goal_A[:, None] == np.arange(num_kinds)
        reports_AJ = is_goal_AJ | (random.random((ADVERTISERS, num_kinds)) < 0.5)
        shared, own, off = (random.normal(size=(3, 8, k)) for k in (1, num_kinds, num_kinds))
        quality_I = 0.5 * random.normal(size=ADVERTISERS * ITEMS_OF_EACH)
        traits_NF = random.integers(8, size=(rows, 3))
        item_N = random.integers(quality_I.size, size=rows)
        advertiser_N = item_N // ITEMS_OF_EACH
        taste_NJ = sum(
            0.5 * shared[f, traits_NF[:, f]] + 0.5 * own[f, traits_NF[:, f]] for f in range(3)
        )
        strange_NJ = sum(0.4 * off[f, traits_NF[:, f]] for f in range(3))
        is_goal_NJ = is_goal_AJ[advertiser_N]
        beside_NJ = np.where(is_goal_NJ, 0.0, off_goal + strange_NJ)
        rate_NJ = _sigmoid(np.array(_LEVELS) + taste_NJ + quality_I[item_N][:, None] + beside_NJ)
        click_N = random.random(rows) < _sigmoid(0.5 * shared[0, traits_NF[:, 0], 0])
        converted_NJ = click_N[:, None] & (random.random(rate_NJ.shape) < rate_NJ)
        stray_NJ = random.random(rate_NJ.shape) < _STRAY
        return cls(
            traits_NF,
            item_N,
            advertiser_N,
            goal_A[advertiser_N],
            click_N,
            converted_NJ,
            converted_NJ & (reports_AJ[advertiser_N] | stray_NJ),
            reports_AJ,
            rate_NJ,
        )


def interval(differences, digits=4, resamples=2000):
    """Mean and 95 % interval of per-user differences: users drawn anew within their seeds."""
    random = np.random.default_rng(0)
    means = [
        np.mean([d[random.integers(d.size, size=d.size)].mean() for d in differences])
        for _ in range(resamples)
    ]
    told = (np.mean([d.mean() for d in differences]), *np.quantile(means, [0.025, 0.975]))
    value, low, high = (f"{number:+.{digits}f}" for number in told)
    return f"{value} [{low}, {high}]"
