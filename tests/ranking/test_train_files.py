import json

import pytest
from ranker_parts import NUM_ITEMS, SECTION, random_features

from taiji.errors import DataError, MissingArtifactError
from taiji.ranking.train import fit_ranker, load_ranker, predict, save_ranker


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
