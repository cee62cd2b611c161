import dataclasses

import market
import numpy as np
import pyarrow as pa
import pytest
import torch
from ranker_parts import NUM_ITEMS, SECTION, auc_for_new_users, random_features, relabel
from weeks import CALENDAR, week_start

from taiji.errors import DataError, DivergenceError
from taiji.evaluation.metrics import auc, calibration_ratio
from taiji.ranking.as_of import AsOf
from taiji.ranking.attention import DinAttention
from taiji.ranking.calibration import Calibration, held_out
from taiji.ranking.descent import thin
from taiji.ranking.inputs import NO_LANGUAGE, Inputs, Vocabulary, fit_vocabularies
from taiji.ranking.model import UNKNOWN
from taiji.ranking.train import Labels, fit_ranker, predict
from taiji.schema import USERS


def test_it_learns_a_known_world_and_is_calibrated(window):
    pairs, labels = window("reward")
    ranker = fit_ranker(pairs, labels, SECTION, seed=1)
    later, truth = window("rl")
    predictions = predict(ranker, later)
    both = truth.click * truth.conversion
    # the oracle, which knows who likes which shelf, has about .84 and .87
    assert auc(truth.click, predictions.ctr) > 0.8
    assert auc(both, predictions.ctcvr) > 0.8
    assert calibration_ratio(both, predictions.ctcvr) == pytest.approx(1, abs=0.2)


def known_world(crowd):
    """Pairs, labels drawn from known chances that hang on the shelf alone, and the chances."""
    pairs, labels = crowd
    shelf = pairs.fields["l3"].codes
    click, conversion = (np.linspace(*ends, 6)[shelf] for ends in ((0.05, 0.7), (0.8, 0.3)))
    random = np.random.default_rng(4)
    clicked = (random.random(len(pairs)) < click).astype(np.float32)
    converted = clicked * (random.random(len(pairs)) < conversion).astype(np.float32)
    return pairs, Labels(clicked, converted, labels.ts), click, click * conversion


@pytest.mark.parametrize(("keep_negatives", "tolerance"), [(1.0, 0.05), (0.2, 0.1)])
def test_it_recovers_known_chances(crowd, keep_negatives, tolerance):
    pairs, labels, click, both = known_world(crowd)
    section = SECTION.model_copy(update={"epochs": 2, "keep_negatives": keep_negatives})
    ranker = fit_ranker(pairs, labels, section, seed=1)
    predictions = predict(ranker, pairs)
    assert auc(labels.click, predictions.ctr) == pytest.approx(auc(labels.click, click), abs=0.01)
    oracle = auc(labels.conversion, both)
    assert auc(labels.conversion, predictions.ctcvr) == pytest.approx(oracle, abs=0.015)
    # without its calibration as well; uncorrected, a fifth of the non-clicks would give 2
    bare = predict(dataclasses.replace(ranker, calibration=Calibration()), pairs)
    for one in (predictions, bare):
        assert one.ctr.mean() == pytest.approx(click.mean(), rel=tolerance)
        assert one.ctcvr.mean() == pytest.approx(both.mean(), rel=tolerance)


def test_sampling_keeps_every_click_and_the_asked_share_of_the_rest():
    click = (np.arange(20_000) % 4 == 0).astype(np.float32)
    rows = np.arange(100, 20_000)
    kept = thin(rows, click, 0.3, seed=1)
    assert (click[kept] == 1).sum() == (click[rows] == 1).sum()
    assert (click[kept] == 0).sum() / (click[rows] == 0).sum() == pytest.approx(0.3, abs=0.02)
    assert (np.diff(kept) > 0).all()
    assert (thin(rows, click, 1.0, seed=1) == rows).all()


def test_the_setting_of_attention_reaches_the_network(window):
    pairs, labels = window("rl")
    section = SECTION.model_copy(update={"attention": "din"})
    ranker = fit_ranker(pairs, labels, section, seed=1, language=borrowed_from(pairs))
    assert isinstance(ranker.model.own, DinAttention)
    assert isinstance(ranker.model.neighbour, DinAttention)


def borrowed_from(pairs):
    return random_features(pairs, NUM_ITEMS).for_arm("cross")


def test_what_training_never_saw_gets_the_row_of_the_unknown(window, asof):
    pairs, labels = window("reward")
    seen = np.flatnonzero(pairs.fields["l3"].codes > 0)  # nothing of the first shelf
    part = Labels(labels.click[seen], labels.conversion[seen], labels.ts[seen])
    section = SECTION.model_copy(update={"own_items": 1})
    ranker = fit_ranker(pairs.take(seen), part, section, seed=1)
    new = pairs.take(np.flatnonzero(pairs.fields["l3"].codes == 0))
    inputs = Inputs(new, ranker.vocabularies, 1, NO_LANGUAGE)
    shelf = list(ranker.vocabularies).index("l3")
    assert (inputs.batch(np.arange(len(new))).fields[:, shelf] == UNKNOWN).all()
    assert np.isfinite(predict(ranker, new).ctcvr).all()


@pytest.mark.parametrize("attention", ["dot", "din"])
def test_a_user_without_history_or_profile_gets_the_default_of_all_such_users(window, attention):
    pairs, labels = window("rl")
    section = SECTION.model_copy(update={"attention": attention})
    ranker = fit_ranker(pairs, labels, section, seed=1)
    people = [("told", [("age", "35-44"), ("income", "high")]), ("new", None), ("newer", [])]
    users = [{"user_id": name, "holdout": False, "fields": fields} for name, fields in people]
    empty = AsOf(
        users=pa.Table.from_pylist(users, USERS),
        items=market.items(),
        interactions=market.log(),
        calendar=CALENDAR,
    )
    when = week_start(40)
    new = empty.features(market.pairs(("new", "i00", when), ("newer", "i00", when)))
    predictions = predict(ranker, new)
    assert np.isfinite(predictions.ctcvr).all()
    assert predictions.ctcvr[0] == predictions.ctcvr[1] > 0


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_stream_alone(window):
    pairs, labels = window("rl")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    runs = [predict(fit_ranker(pairs, labels, SECTION, seed=2), pairs) for _ in range(2)]
    assert torch.equal(torch.rand(1), expected)
    assert runs[0].ctcvr.tobytes() == runs[1].ctcvr.tobytes()
    other = predict(fit_ranker(pairs, labels, SECTION, seed=3), pairs)
    assert other.ctcvr.tobytes() != runs[0].ctcvr.tobytes()


def test_it_can_overfit_256_samples(window):
    pairs, labels = window("reward")
    rows = np.arange(300)  # about 256 of them to train on
    few = Labels(labels.click[rows], labels.conversion[rows], labels.ts[rows])
    trained, _ = held_out(pairs.take(rows).histories(), seed=1)
    section = SECTION.model_copy(update={"epochs": 120, "batch_size": 64, "learning_rate": 1e-2})
    ranker = fit_ranker(pairs.take(rows), few, section, seed=1)
    logits = Inputs(pairs.take(trained), ranker.vocabularies, SECTION.own_items, NO_LANGUAGE)
    with torch.inference_mode():
        fitted = ranker.model(logits.batch(np.arange(trained.size)))
    assert trained.size == pytest.approx(256, abs=12)
    assert auc(few.click[trained], fitted.ctr) == 1
    assert auc((few.click * few.conversion)[trained], fitted.log_ctcvr()) == 1


def test_shuffled_labels_teach_nothing(crowd):
    pairs, labels = crowd
    noise = relabel(labels, np.full(len(pairs), 0.3))
    assert auc_for_new_users(pairs, noise, NO_LANGUAGE) == pytest.approx(0.5, abs=0.025)


def test_vocabularies_know_only_the_training_window_and_keep_large_ids_apart(window):
    pairs, _ = window("reward")
    item_0 = np.flatnonzero(pairs.fields["item"].codes == 0)
    without = pairs.take(np.setdiff1d(np.arange(len(pairs)), item_0))
    assert "i00" in fit_vocabularies(pairs, 0)["item"].values
    assert "i00" not in fit_vocabularies(without, 0)["item"].values
    large = Vocabulary(("16777216", "16777217"))
    assert large.rows(["16777217", "16777216", "never seen"]).tolist() == [3, 2, 1, 0]


def test_items_of_sequences_count_as_seen(window, asof):
    pairs, _ = window("reward")
    one_item = pairs.take(np.flatnonzero(pairs.fields["item"].codes == 0))
    assert fit_vocabularies(one_item, 0)["item"].values == ("i00",)
    assert len(fit_vocabularies(one_item, 10)["item"].values) == len(asof.item_ids)


def test_labels_without_conversions_are_refused_with_a_mend(window):
    pairs, labels = window("rl")
    none = Labels(labels.click, np.zeros_like(labels.click), labels.ts)
    with pytest.raises(DataError, match="exposure_share"):
        fit_ranker(pairs, none, SECTION, seed=1)


def test_a_loss_that_is_not_finite_stops_training(window):
    pairs, labels = window("rl")
    section = SECTION.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(DivergenceError, match="step"):
        fit_ranker(pairs, labels, section, seed=1)
