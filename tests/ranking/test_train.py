import dataclasses
import json

import market
import numpy as np
import pytest
import torch

from taiji.config import RankerSection
from taiji.errors import DataError, DivergenceError, MissingArtifactError
from taiji.evaluation.metrics import auc, calibration_ratio
from taiji.ranking.inputs import NO_LANGUAGE, LanguageFeatures, Vocabulary, fit_vocabularies
from taiji.ranking.train import Labels, fit_ranker, load_ranker, predict, save_ranker

NUM_ITEMS = market.NUM_SHELVES * market.NUM_PER_SHELF
SECTION = RankerSection(
    dim=8, hidden=(32,), own_items=10, epochs=4, batch_size=256, learning_rate=5e-3
)


def users_of(pairs):
    return sorted(set(pairs.user_ids))


def random_features(pairs, num_items, seed=0):
    """Codes and neighbours that mean nothing."""
    random, users = np.random.default_rng(seed), users_of(pairs)
    codes = random.integers(4, size=(len(users) + 1, 3)).astype(np.int32)
    neighbour = random.integers(num_items, size=(len(users) + 1, 5)).astype(np.int32)
    codes[-1], neighbour[-1] = -1, -1
    return LanguageFeatures(tuple(users), codes, neighbour, num_codes=4)


def relabel(labels, chance, seed=0):
    """Clicks by a given chance; half of them convert."""
    random = np.random.default_rng(seed)
    click = (random.random(len(chance)) < chance).astype(np.float32)
    conversion = (random.random(len(chance)) < 0.5).astype(np.float32)
    return Labels(click, click * conversion, labels.ts)


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
    rows = np.arange(0, 302)  # 256 to train on once the latest 15 % are set aside
    few = Labels(labels.click[rows], labels.conversion[rows], labels.ts[rows])
    section = SECTION.model_copy(update={"epochs": 120, "batch_size": 64, "learning_rate": 1e-2})
    ranker = fit_ranker(pairs.take(rows), few, section, seed=1)
    early = labels.ts[rows] < np.quantile(labels.ts[rows], 0.85, method="higher")
    predictions = predict(ranker, pairs.take(rows[early]))
    assert auc(few.click[early], predictions.ctr) == 1
    assert auc(few.click[early] * few.conversion[early], predictions.ctcvr) == 1


def test_shuffled_labels_teach_nothing(crowd):
    pairs, labels = crowd
    noise = relabel(labels, np.full(len(pairs), 0.3))
    assert auc_for_new_users(pairs, noise, NO_LANGUAGE) == pytest.approx(0.5, abs=0.025)


def split_users(pairs):
    """Rows of two halves of the users, so that nobody can be recognised."""
    first = set(users_of(pairs)[::2])
    known = np.array([user in first for user in pairs.user_ids])
    return np.flatnonzero(known), np.flatnonzero(~known)


def auc_for_new_users(pairs, labels, language):
    train, test = split_users(pairs)
    seen = Labels(labels.click[train], labels.conversion[train], labels.ts[train])
    ranker = fit_ranker(pairs.take(train), seen, SECTION, seed=1, language=language)
    return auc(labels.click[test], predict(ranker, pairs.take(test), language).ctr)


def test_a_code_that_knows_something_raises_auc_by_what_it_knows(crowd):
    pairs, labels = crowd
    language, noise = (random_features(pairs, NUM_ITEMS, seed) for seed in (0, 9))
    knows = language.codes[language.rows(pairs.user_ids), 1] < 2
    planted = relabel(labels, np.where(knows, 0.4, 0.1))
    blind = auc_for_new_users(pairs, planted, NO_LANGUAGE)
    told = auc_for_new_users(pairs, planted, language.for_arm("intra"))
    misled = auc_for_new_users(pairs, planted, noise.for_arm("intra"))
    test = split_users(pairs)[1]
    assert told == pytest.approx(auc(planted.click[test], knows[test]), abs=0.03)
    assert told > blind + 0.1
    assert misled < blind + 0.03


def test_a_neighbour_who_bought_from_the_shelf_is_noticed(crowd):
    pairs, labels = crowd
    language = random_features(pairs, NUM_ITEMS)
    borrowed = language.neighbour_items[language.rows(pairs.user_ids)]
    target = pairs.fields["item"].codes
    knows = (pairs.item_l3[borrowed] == pairs.item_l3[target][:, None]).any(axis=1)
    planted = relabel(labels, np.where(knows, 0.5, 0.1))
    blind = auc_for_new_users(pairs, planted, NO_LANGUAGE)
    told = auc_for_new_users(pairs, planted, language.for_arm("cross"))
    test = split_users(pairs)[1]
    assert told == pytest.approx(auc(planted.click[test], knows[test]), abs=0.03)
    assert told > blind + 0.1


@pytest.mark.parametrize(
    ("arm", "widths"), [("base", (0, 0)), ("intra", (3, 0)), ("cross", (0, 5)), ("both", (3, 5))]
)
def test_each_arm_sees_its_blocks_and_users_without_features_are_served(window, arm, widths):
    pairs, labels = window("rl")
    full = random_features(pairs, NUM_ITEMS)
    half = dataclasses.replace(
        full,
        user_ids=full.user_ids[:20],
        codes=np.delete(full.codes, slice(20, -1), axis=0),
        neighbour_items=np.delete(full.neighbour_items, slice(20, -1), axis=0),
    ).for_arm(arm)
    ranker = fit_ranker(pairs, labels, SECTION, seed=1, language=half)
    shape = ranker.model.shape
    assert (shape.sub_codes, shape.neighbour_items) == widths
    assert np.isfinite(predict(ranker, pairs, half).ctcvr).all()


def test_features_of_another_arm_are_refused(window):
    pairs, labels = window("rl")
    ranker = fit_ranker(pairs, labels, SECTION, seed=1)
    with pytest.raises(DataError, match="trained with"):
        predict(ranker, pairs, random_features(pairs, NUM_ITEMS))


def test_a_saved_ranker_predicts_the_same_bits(window, tmp_path):
    pairs, labels = window("rl")
    language = random_features(pairs, NUM_ITEMS).for_arm("both")
    ranker = fit_ranker(pairs, labels, SECTION, seed=1, language=language)
    save_ranker(ranker, tmp_path / "ranker")
    restored = load_ranker(tmp_path / "ranker")
    assert sorted(path.name for path in (tmp_path / "ranker").iterdir()) == [
        "model.safetensors",
        "ranker.json",
    ]
    assert restored.placement == "front"
    expected, got = (predict(one, pairs, language) for one in (ranker, restored))
    assert expected.ctcvr.tobytes() == got.ctcvr.tobytes()


@pytest.mark.parametrize("damage", ["weights", "missing", "description", "features"])
def test_a_damaged_folder_is_an_error_that_names_it(window, tmp_path, damage):
    pairs, labels = window("rl")
    save_ranker(fit_ranker(pairs, labels, SECTION, seed=1), tmp_path)
    weights, description = tmp_path / "model.safetensors", tmp_path / "ranker.json"
    expected: type[Exception] = DataError
    match damage:
        case "weights":
            weights.write_bytes(weights.read_bytes()[:1000])
        case "missing":
            weights.unlink()
            expected = MissingArtifactError
        case "description":
            value = json.loads(description.read_text())
            description.write_text(json.dumps(value | {"calibration": {"wrong": 1}}))
        case "features":
            value = json.loads(description.read_text())
            description.write_text(json.dumps(value | {"dense": ["other"]}))
    with pytest.raises(expected, match="rerun the stage"):
        load_ranker(tmp_path)


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
