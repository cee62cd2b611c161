import pytest

from taiji.screen.selftest import passed, run_selftest, selftest_lines


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def found(cache, tmp_path_factory):
    return run_selftest(tmp_path_factory.mktemp("run"), None, users=400, num_seeds=1)


def test_a_planted_lift_is_seen_and_the_arm_match_recovers_it(found):
    assert found["figures"]["oracle"]["low"] > 0.02
    assert found["recovered"]["match"] > 0.85  # .92 where this was written
    assert passed(found)


def test_needs_of_others_add_nothing(found):
    shuffled = found["figures"]["shuffled"]
    assert shuffled["low"] <= 0 <= shuffled["high"]
    assert abs(shuffled["value"]) < 0.2 * found["figures"]["oracle"]["value"]


def test_it_is_said_in_words(found):
    first, *others = selftest_lines(found)
    assert first.startswith("A lift of +0.")
    assert any("recovered" in line for line in others)


def test_where_nothing_was_planted_nothing_is_found(cache, tmp_path):
    found = run_selftest(tmp_path, None, users=400, strength=0.0, num_seeds=1)
    figures = found["figures"]
    assert figures["oracle"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    for name in ("match", "shuffled"):
        assert figures[name]["low"] <= 0 <= figures[name]["high"]
    assert not passed(found)
