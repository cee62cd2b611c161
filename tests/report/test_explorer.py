import base64

import numpy as np
import page_run
import pytest
import small_run

from taiji.reasoning.selection import Rule, select
from taiji.report.explorer import MAX_ROLLOUTS, chains_data, page_data
from taiji.report.rendering import json_island, share_text


def kept_under(data, limit):
    """As page.js counts."""
    ppl = np.frombuffer(base64.b64decode(data["perplexity"]), "<f8")
    may = np.frombuffer(base64.b64decode(data["may"]), np.uint8).astype(bool)
    return int((may & (ppl < limit)).sum()), may.size


@pytest.mark.parametrize("limit", [0.5, 1.23456, 4.6, 4.600001, 9.9])
def test_what_another_r_keeps_is_what_refine_would_keep(limit):
    rows = small_run.scored().to_pylist()
    rows[0] |= {"leak": "title", "reason": "leak: title", "kept": False}
    table = small_run.scored().from_pylist(rows, small_run.scored().schema)
    data = chains_data(small_run.whole_run(scored=table))
    assert data is not None
    by_hand = select(rows, Rule(threshold=limit)).reasons.count("kept")
    assert kept_under(data, limit) == (by_hand, 6)


def test_no_slider_where_something_else_decided():
    other = {"filter": "gain", "threshold": 0.1, "rule": "fixed", "sampled": 0}
    assert chains_data(small_run.whole_run(threshold=other)) is None
    best = {"filter": "ppl", "threshold": None, "rule": "best 1 of each prompt", "sampled": 0}
    assert chains_data(small_run.whole_run(threshold=best)) is None


def test_a_page_of_many_rows_is_bounded_and_says_of_how_many_it_is():
    data = page_data(small_run.whole_run(**page_run.many(4000)))
    assert len(data["rollouts"]["rows"]) == MAX_ROLLOUTS
    assert data["rollouts"]["total"] == 4000
    assert len(json_island(data)) < 1_000_000


def test_ids_of_examples_stay_out_of_the_page():
    island = json_island(page_data(small_run.whole_run()))
    assert "rl-u0" not in island
    assert "sft-u0" not in island


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0.0 %"), (1, 3, "33.3 %"), (1, 400, "0.2 %"), (3, 400, "0.8 %"), (7, 7, "100.0 %")],
)
def test_shares_round_halves_to_even(part, whole, text):
    assert share_text(part, whole) == text  # 1/400 is 0.25 %, 3/400 is 0.75 %
