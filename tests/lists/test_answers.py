from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from rows import example_row

from taiji import schema
from taiji.lists.answers import (
    Cohort,
    ModelSignals,
    TitleLikelihoods,
    choose_candidates,
    fit_fusions,
    judge_lists,
    model_lists,
    prior_lists,
)
from taiji.lists.priors import LISTS, TitlePriors
from taiji.lists.title_lists import Titles

START = datetime(2017, 1, 1, tzinfo=UTC)
NUM_TITLES, NUM_USERS = 6, 12
ITEMS = pa.Table.from_pylist(
    [
        {"item_id": f"i{n}", "title": f"Title {n}", "category_l1": "G", "category_l2": f"A{n // 2}"}
        for n in range(NUM_TITLES)
    ],
    schema.ITEMS,
)
TITLES = Titles(ITEMS)


def cohort(targets: list[int]) -> Cohort:
    """Everybody has bought title 0, and every second one also 1; then they buy `targets`."""
    rows = [(f"u{n}", f"i{item}", n) for n in range(NUM_USERS) for item in range(1 + n % 2)]
    users, items, hours = zip(*rows, strict=True)
    times = pa.array([START + timedelta(hours=hour) for hour in hours], schema.TIME)
    log = pa.table({"user_id": list(users), "item_id": list(items), "ts": times})
    cutoff = START + timedelta(days=9)
    examples = [
        example_row(
            f"e{n}",
            user_id=f"u{n}",
            cutoff=cutoff,
            history_length=1,
            target_item_id=f"i{target}",
            novel_target_item_id=f"i{target}" if target > 1 else None,
        )
        for n, target in enumerate(targets)
    ]
    priors = TitlePriors(log, ITEMS, TITLES, cutoff)
    return Cohort(pa.Table.from_pylist(examples, schema.EXAMPLES), priors)


def signals(*, near: list[int], likely: list[int]) -> ModelSignals:
    """Answers nearest to `near`; of the candidates 2 to 5 the model finds `likely` likeliest."""
    places = np.arange(2, NUM_TITLES)
    cosine = np.full((len(near), NUM_TITLES), 0.1, np.float32)
    cosine[np.arange(len(near)), near] = 0.9
    likelihoods = [np.where(places == n, -1.0, -9.0) for n in likely]
    return ModelSignals(
        cosine, [TitleLikelihoods(places, one, np.full(4, -5.0)) for one in likelihoods]
    )


def ranks(rows: list[dict], name: str, track: str) -> list[int]:
    return [r["title_rank"] for r in rows if (r["list"], r["track"]) == (name, track)]


def test_each_list_orders_by_what_its_name_says():
    exam = cohort([3, 4])
    said = signals(near=[0, 4], likely=[3, 5])
    rows = judge_lists(model_lists(TITLES, said, {}), exam, TITLES, ITEMS)
    assert {row["list"] for row in rows} == {"nearest", "reranked"}  # nothing was fitted
    assert ranks(rows, "reranked", "novel") == [1, 4]
    # Equals rank behind: all but the nearest are equally near; what is bought is struck out.
    assert ranks(rows, "nearest", "any") == [6, 1]
    assert ranks(rows, "nearest", "novel") == [5, 1]
    tops = [row["top_item_id"] for row in rows if row["track"] == "novel"]
    assert not {"i0"} & set(tops)


def test_a_model_that_knows_is_weighed_and_one_that_guesses_is_not():
    exam = cohort([2 + n % 4 for n in range(NUM_USERS)])
    truth = [2 + n % 4 for n in range(NUM_USERS)]
    wrong = [2 + (n * 7 // 3) % 4 for n in range(NUM_USERS)]
    knows, guesses = signals(near=truth, likely=truth), signals(near=wrong, likely=wrong)
    found = {}
    for name, said in (("knows", knows), ("guesses", guesses)):
        fusions = fit_fusions(exam, said, TITLES, ITEMS)
        rows = judge_lists(model_lists(TITLES, said, fusions), exam, TITLES, ITEMS)
        found[name] = np.mean(np.array(ranks(rows, "fused", "novel")) == 1)
    fusions = fit_fusions(exam, None, TITLES, ITEMS)
    rows = judge_lists(prior_lists(TITLES, fusions), exam, TITLES, ITEMS)
    assert {row["list"] for row in rows} == {*LISTS, "prior_only"}
    prior = np.mean(np.array(ranks(rows, "prior_only", "novel")) == 1)
    assert found["knows"] == 1.0
    assert prior < 0.5
    assert found["guesses"] < 1.0


def test_a_track_without_a_target_has_no_fusion_and_no_rows():
    exam = cohort([0, 1])
    assert set(fit_fusions(exam, None, TITLES, ITEMS)) == {"any"}
    rows = judge_lists(prior_lists(TITLES, {}), exam, TITLES, ITEMS)
    assert {row["track"] for row in rows} == {"any"}
    assert [row["example_id"] for row in rows if row["list"] == "popular"] == ["e0", "e1"]


def test_candidates_are_dealt_from_the_answer_the_log_and_the_users_own():
    exam = cohort([3])
    _, moment = next(exam.priors.moments(exam.examples))
    cosine = np.array([0, 0, 0, 0.5, 0, 0.9], np.float32)
    # Nearest 5, 3; nobody who has 0 bought anything new but 1; the user's own is 0.
    assert choose_candidates(moment, cosine, 3).tolist() == [5, 1, 0]


def test_a_head_has_a_list_of_its_own_and_a_weight_beside_the_rest():
    truth = [2 + n % 4 for n in range(NUM_USERS)]
    exam = cohort(truth)
    wrong = [2 + (n * 7 // 3) % 4 for n in range(NUM_USERS)]
    guesses = signals(near=wrong, likely=wrong)
    opinion_EC = np.full((NUM_USERS, NUM_TITLES), -9.0)
    opinion_EC[np.arange(NUM_USERS), truth] = -0.1
    told = replace(guesses, head_EC=opinion_EC)
    plain, weighed = (fit_fusions(exam, said, TITLES, ITEMS) for said in (guesses, told))
    assert (plain["any"].names[-1], weighed["any"].names[-1]) == ("likelihood for anybody", "head")
    rows = judge_lists(model_lists(TITLES, told, plain, weighed), exam, TITLES, ITEMS)
    assert {row["list"] for row in rows} == {"nearest", "reranked", "fused", "head", "fused_head"}
    assert set(ranks(rows, "head", "novel")) == {1}
    assert set(ranks(rows, "fused_head", "novel")) == {1}
    without = judge_lists(model_lists(TITLES, guesses, plain), exam, TITLES, ITEMS)
    assert ranks(without, "fused", "novel") == ranks(rows, "fused", "novel")


def test_what_a_guided_beam_found_stands_in_front_in_its_order():
    exam = cohort([3, 4])
    said = replace(
        signals(near=[0, 4], likely=[3, 5]), guided=[np.array([5, 3]), np.array([], dtype=int)]
    )
    rows = judge_lists(model_lists(TITLES, said, {}), exam, TITLES, ITEMS)
    # Of the first, 5 and then the true 3; of the second nothing was found, so the nearest is first.
    assert ranks(rows, "guided", "any") == [2, 1]


def test_a_scorer_of_paths_has_a_list_without_any_model():
    exam = cohort([3, 4])
    worth_EC = np.array([[0.0, 1.0, 2.0, 3.0, -np.inf, 9.0]] * 2)
    rows = judge_lists(prior_lists(TITLES, {}, worth_EC), exam, TITLES, ITEMS)
    assert {row["list"] for row in rows} == {*LISTS, "paths"}
    assert ranks(rows, "paths", "any")[0] == 2
