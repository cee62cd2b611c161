"""Answers that know the catalogue: what a model wrote, its likelihoods and the log, put together.

For each example a model's lists of the catalogue's titles are:

- `nearest`: by cosine to the free answer, as in the paper's hit rate;
- `reranked`: a few candidates by the model's likelihood of their titles, the others behind them;
- `fused`: a conditional logit of the log's priors, the cosine and the likelihoods;
- `prior_only`: the same logit without anything from a language model;
- `head` and `fused_head`, where a run trained heads: by the head's opinion of what the model wrote,
  and the logit with that opinion beside the rest;
- `guided`, where a run asks for it: titles that a guided beam found, the others behind them.

On the track of novel titles all of them strike out what the user has bought; the paper's hit rate
does not. Weights are fitted on examples whose cut-offs lie before those that judge.

Shape suffixes: E examples, C titles, D dimensions, F features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.arrays import Array, Ints, Vectors
from taiji.lists.fusion import Choice, Fusion, fit_fusion, softmax
from taiji.lists.priors import Moment, TitlePriors
from taiji.lists.title_lists import TitleList, Titles, interleave
from taiji.schema import TRACKS

PRIOR_FEATURES = ("popularity", "own", "recency", "related", "own level 2", "own level 3")
MODEL_FEATURES = ("cosine", "candidate", "likelihood", "likelihood for anybody")
HEAD_FEATURES = (*MODEL_FEATURES, "head")
MODEL_LISTS = ("nearest", "reranked", "fused")
PRIOR_ONLY = "prior_only"

_FLOOR = 1e-6  # of a share, so that its logarithm exists
_TEMPERATURE = 0.02  # of cosines taken for belief, as in grounding
_MONTH = 30 * 24 * 3600 * 1e6  # microseconds

ListsOf = Callable[[int, Moment, str], Mapping[str, TitleList]]


@dataclass(frozen=True)
class Cohort:
    """Examples, and what the log says of each title at their cut-offs."""

    examples: pa.Table
    priors: TitlePriors


@dataclass(frozen=True)
class TitleLikelihoods:
    """How likely a model finds some candidates of one example.

    Attributes:
        places: The candidates, as places of the openings; of titles those of the catalogue.
        likelihood: log P of each behind prompt and chain.
        anybody: log P of each for a shopper of whom nothing is known.
    """

    places: NDArray[np.int64]
    likelihood: Array
    anybody: Array


@dataclass(frozen=True)
class ModelSignals:
    """What a model says of examples, in their order.

    Attributes:
        cosine_EC: Of its answer and each title.
        likelihoods: Of each example's candidates.
        head_EC: log P of each title as a trained head sees it, which read what the model wrote.
        guided: Titles that a guided beam ended with, best first.
    """

    cosine_EC: NDArray[np.float32]
    likelihoods: Sequence[TitleLikelihoods]
    head_EC: Array | None = None
    guided: Sequence[Ints] | None = None

    def without_head(self) -> "ModelSignals":
        """The same as if no head had been trained."""
        return replace(self, head_EC=None)


def choose_candidates(
    moment: Moment, cosine_C: NDArray[np.float32], size: int
) -> NDArray[np.int64]:
    """The titles that a likelihood is worth computing for, the same for both tracks.

    Dealt out by turns from the nearest to the answer, what is bought together with the user's
    items, what everybody buys, and the user's own.
    """
    lists = moment.lists()
    names = ("item_to_item_new", "popular_new", "own_frequent")
    orders = [_order(cosine_C.astype(np.float64))]
    orders += [_order(lists[name].score_C) for name in names]
    return interleave([order[:size] for order in orders], size)


def fit_fusions(
    cohort: Cohort, signals: ModelSignals | None, titles: Titles, items: pa.Table
) -> dict[str, Fusion]:
    """One fusion for each track; a track without any usable example has none.

    Args:
        cohort: Examples that come before those to be judged.
        signals: What the model says of them; None for the priors alone.
        titles: The catalogue.
        items: Gives the titles of targets.
    """
    places = titles.places(items)
    names: tuple[str, ...] = PRIOR_FEATURES
    if signals is not None:
        names += MODEL_FEATURES if signals.head_EC is None else HEAD_FEATURES
    choices: dict[str, list[Choice]] = {track: [] for track in TRACKS}
    rows = cohort.examples.select(list(TRACKS.values())).to_pylist()
    for row, moment in cohort.priors.moments(cohort.examples):
        features_CF = _features(titles, moment, signals, row)
        for track, column in TRACKS.items():
            chosen = places.get(rows[row][column])
            open_C = _open(moment, track)
            if chosen is not None and open_C[chosen]:
                choices[track].append(Choice(features_CF, open_C, chosen))
    return {track: fit_fusion(found, names) for track, found in choices.items() if found}


def model_lists(
    titles: Titles,
    signals: ModelSignals,
    fusions: Mapping[str, Fusion],
    with_head: Mapping[str, Fusion] | None = None,
) -> ListsOf:
    """The lists of `MODEL_LISTS`; `fused` is missing on a track that has no fusion.

    Args:
        titles: The catalogue.
        signals: What the model says.
        fusions: Weights of each track, a head's opinion apart.
        with_head: The same with it, for `head` and `fused_head`.
    """
    head_EC = signals.head_EC

    def lists_of(row: int, moment: Moment, track: str) -> dict[str, TitleList]:
        open_C = _open(moment, track)
        cosine_C = signals.cosine_EC[row].astype(np.float64)
        lists = {"nearest": TitleList(cosine_C, softmax(cosine_C / _TEMPERATURE, open_C))}
        lists["reranked"] = _reranked(signals.likelihoods[row], cosine_C, open_C)
        if track in fusions:
            features_CF = _features(titles, moment, signals.without_head(), row)
            lists["fused"] = _weighed(fusions[track], features_CF, open_C)
        if head_EC is not None:
            lists["head"] = TitleList(head_EC[row], softmax(head_EC[row], open_C))
        if with_head and track in with_head:
            features_CF = _features(titles, moment, signals, row)
            lists["fused_head"] = _weighed(with_head[track], features_CF, open_C)
        if signals.guided is not None:
            lists["guided"] = _in_front(signals.guided[row], cosine_C, open_C)
        return {name: listed.without(~open_C) for name, listed in lists.items()}

    return lists_of


def prior_lists(
    titles: Titles, fusions: Mapping[str, Fusion], paths_EC: Array | None = None
) -> ListsOf:
    """What the log alone gives: `priors.LISTS`, and `prior_only` where there is a fusion.

    Args:
        titles: The catalogue.
        fusions: Weights of each track.
        paths_EC: What a scorer of paths thinks of each title, for the list `paths`.
    """

    def lists_of(row: int, moment: Moment, track: str) -> dict[str, TitleList]:
        lists = moment.lists()
        if track in fusions:
            lists[PRIOR_ONLY] = _weighed(
                fusions[track], _features(titles, moment, None, row), _open(moment, track)
            )
        if paths_EC is not None:
            open_C = _open(moment, track)
            known_C = open_C & np.isfinite(paths_EC[row])
            score_C = np.where(known_C, paths_EC[row], 0.0)
            listed = TitleList(paths_EC[row], softmax(score_C, known_C))
            lists["paths"] = listed.without(~open_C)
        return lists

    return lists_of


def judge_lists(
    lists_of: ListsOf, cohort: Cohort, titles: Titles, items: pa.Table
) -> list[dict[str, Any]]:
    """One row for each track, list and example that has the track's truth, in this order."""
    truths = {row["item_id"]: row for row in items.to_pylist()}
    examples = cohort.examples.to_pylist()
    found: list[tuple[tuple[str, str, int], dict[str, Any]]] = []
    for row, moment in cohort.priors.moments(cohort.examples):
        example = examples[row]
        for track, column in TRACKS.items():
            if example[column] is None:
                continue
            truth = truths[example[column]]
            for name, listed in lists_of(row, moment, track).items():
                figures = {
                    "track": track,
                    "list": name,
                    "example_id": example["example_id"],
                    "user_id": example["user_id"],
                    "target_item_id": truth["item_id"],
                    "true_l1": truth["category_l1"],
                    **titles.judge(listed, truth),
                }
                found.append(((track, name, row), figures))
    return [figures for _, figures in sorted(found, key=lambda pair: pair[0])]


def _features(titles: Titles, moment: Moment, signals: ModelSignals | None, row: int) -> Vectors:
    """C x F, in the order of `PRIOR_FEATURES` and, of a model, its own."""
    recency_C = np.where(moment.bought_C, np.exp((moment.latest_C - moment.cutoff) / _MONTH), 0.0)
    columns = [_log_share(moment.popularity_C), np.log1p(moment.own_C), recency_C]
    columns.append(_log_share(moment.related_C))
    columns += [np.log1p(titles.category_mass(level, moment.own_C)) for level in (2, 3)]
    if signals is not None:
        of_titles = signals.likelihoods[row]
        columns.append(signals.cosine_EC[row].astype(np.float64))
        for values in (1.0, _centred(of_titles.likelihood), _centred(of_titles.anybody)):
            column_C = np.zeros(moment.own_C.size)
            column_C[of_titles.places] = values
            columns.append(column_C)
        if signals.head_EC is not None:
            columns.append(_centred(signals.head_EC[row]))
    return np.stack(columns, axis=1).astype(np.float32)


def _weighed(fusion: Fusion, features_CF: Vectors, open_C: NDArray[np.bool_]) -> TitleList:
    logits_C = fusion.logits(features_CF)
    return TitleList(np.where(open_C, logits_C, -np.inf), softmax(logits_C, open_C))


def _reranked(of_titles: TitleLikelihoods, cosine_C: Array, open_C: NDArray[np.bool_]) -> TitleList:
    """Candidates in front, by likelihood; a cosine is at most 1, so all others stand behind."""
    likelihood_C = np.full(cosine_C.size, -np.inf)
    likelihood_C[of_titles.places] = of_titles.likelihood
    asked_C = open_C & np.isfinite(likelihood_C)
    belief_C = softmax(np.where(asked_C, likelihood_C, 0.0), asked_C)
    _, order_C = np.unique(likelihood_C, return_inverse=True)  # equals stay equal
    return TitleList(np.where(asked_C, 2.0 + order_C, cosine_C), belief_C)


def _in_front(best: Ints, cosine_C: Array, open_C: NDArray[np.bool_]) -> TitleList:
    """Titles in their order; a cosine is at most 1, so all others stand behind."""
    score_C = cosine_C.copy()
    score_C[best] = 1.0 + np.arange(best.size, 0, -1)
    chosen_C = np.zeros(cosine_C.size, dtype=bool)
    chosen_C[best] = True
    belief_C = softmax(np.zeros(cosine_C.size), open_C & chosen_C)
    return TitleList(score_C, belief_C)


def _open(moment: Moment, track: str) -> NDArray[np.bool_]:
    """Titles that a track's truth can be."""
    bought_C = moment.bought_C
    return ~bought_C if track == "novel" else np.ones(bought_C.size, dtype=bool)


def _order(score_C: Array) -> NDArray[np.int64]:
    """Titles that stand on a list, best first, the earlier row of equals first."""
    order = np.argsort(-score_C, kind="stable")
    return order[np.isfinite(score_C[order])]


def _log_share(count_C: Array) -> Array:
    total = count_C.sum()
    shares_C: Array = np.log(count_C / total + _FLOOR) if total > 0 else np.zeros(count_C.size)
    return shares_C


def _centred(values: Array) -> Array:
    centred: Array = values - values.mean() if values.size else values
    return centred
