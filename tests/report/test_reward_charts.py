import pyarrow as pa
import pytest
import small_run
from rows import rollout_row

from taiji import schema
from taiji.report.reward_charts import (
    _with_mixed_shares,
    reward_charts,
    reward_names,
    top_answers,
)


def rollouts(*answers):
    rows = [
        rollout_row(step, example, grounded_item_id=item, preference=preference)
        for step, example, item, preference in answers
    ]
    return pa.Table.from_pylist(rows, schema.ROLLOUTS)


def test_top_answers_compare_the_last_third_with_the_first():
    table = rollouts(
        (1, "a", "i1", 0.0),
        (1, "b", "i0", 0.0),
        (2, "a", "i3", 0.0),
        (3, "a", "i1", 0.4),
        (3, "b", "i1", 0.2),
        (3, "b", None, 0.0),
        (3, "c", "gone", 0.9),
    )
    first, second = top_answers(table, small_run.items())
    assert first["title"] == small_run.HOSTILE[1]
    assert (first["share"], first["first_share"], first["users"]) == (0.5, 0.5, 2)
    assert first["preference"] == pytest.approx(0.3)
    assert (second["title"], second["share"], second["first_share"]) == ("gone", 0.25, 0.0)


def test_no_rollout_no_answers():
    assert top_answers(schema.ROLLOUTS.empty_table(), None) == []


def test_rewards_are_those_that_have_a_weight_ours_first():
    rows = [{"step": 1, "w_preference": 0.5, "w_brevity": 0.1, "w_format": 0.4, "loss": 1.0}]
    assert reward_names(rows) == ["preference", "format", "brevity"]
    assert reward_names([]) == []


def test_the_share_of_the_mix_follows_weights_by_hand():
    # 0.8^2 * 0.1 = 0.064 and 0.2^2 * 0.9 = 0.036: 64 % and 36 %
    row = {"w_a": 0.8, "w_b": 0.2}
    row |= {"rewards/a/variance_share": 0.1, "rewards/b/variance_share": 0.9}
    mixed = _with_mixed_shares(row, ["a", "b"])
    assert mixed["mixed_share_a"] == pytest.approx(0.64)
    assert mixed["mixed_share_b"] == pytest.approx(0.36)
    assert "mixed_share_a" not in _with_mixed_shares({"w_a": 1.0}, ["a"])


def test_weights_that_hardly_move_are_drawn_as_such():
    rows = [
        {"step": step, "w_semantic": w, "w_preference": 1 - w}
        for step, w in enumerate((0.496, 0.504), start=1)
    ]
    drawn = reward_charts(rows)["weights"]
    assert ">0.46<" in drawn
    assert ">0.504<" not in drawn
