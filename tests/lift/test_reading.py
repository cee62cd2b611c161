import pytest

from taiji.lift.reading import equivalent_accuracy, in_words, read_curves


def point(accuracy, value, half, names=1, refresh="window", among="all"):
    figure = {"value": value, "low": value - half, "high": value + half}
    return {
        "refresh": refresh,
        "among": among,
        "names": names,
        "accuracy": accuracy,
        "right": accuracy,
        "reach": 0.01 * names,
        "groups": {"all": {"click_auc": figure}},
    }


CURVE = [point(0.0, 0.0, 0.001), point(0.5, 0.002, 0.001), point(1.0, 0.004, 0.001)]


def test_the_least_accuracy_that_shows_lies_between_two_points():
    # At 0 the gain is .001 short of half its interval, at .5 it is .001 above: it shows from .25.
    (reading,) = read_curves(CURVE, 1000)
    assert reading["visible_from"] == pytest.approx(0.25)
    assert reading["reach"] == 0.01


def test_users_grow_with_the_square_of_what_is_missing():
    # half .001 over gain .002 at p = .5: a quarter of the users shows it; at 1 a sixteenth
    (reading,) = read_curves(CURVE, 1000)
    assert reading["users_for"] == {"0.5": 250, "1": 62}


def test_a_gain_inside_its_interval_at_the_top_never_shows():
    (reading,) = read_curves([point(0.0, 0.0, 0.001), point(1.0, 0.0005, 0.001)], 1000)
    assert reading["visible_from"] is None
    assert reading["users_for"] == {"1": 4000}


def test_a_loss_needs_no_number_of_users():
    (reading,) = read_curves([point(0.0, 0.0, 0.001), point(1.0, -0.0005, 0.001)], 1000)
    assert reading["users_for"] == {"1": None}


@pytest.mark.parametrize(
    ("gain", "accuracy"), [(-0.1, 0.0), (0.0, 0.0), (0.001, 0.25), (0.003, 0.75), (0.9, 1.0)]
)
def test_a_gain_equals_an_accuracy_of_the_oracle(gain, accuracy):
    assert equivalent_accuracy(CURVE, gain) == pytest.approx(accuracy)


def test_a_dent_in_the_curve_gives_no_gain_two_accuracies():
    dented = [point(0.0, 0.0, 0.1), point(0.2, 0.003, 0.1), point(0.5, 0.001, 0.1), CURVE[2]]
    assert equivalent_accuracy(dented, 0.002) == pytest.approx(0.2 * 2 / 3)


def test_what_is_not_known_has_no_equivalent():
    assert equivalent_accuracy(CURVE, None) is None


def test_in_words():
    visit = [
        point(0.0, 0.0, 0.001, 5, "visit"),
        point(0.1, 0.002, 0.001, 5, "visit"),
        point(1.0, 0.02, 0.001, 5, "visit"),
    ]
    silent = [point(0.0, 0.0, 0.001), point(1.0, 0.0003, 0.001)]
    assert in_words(read_curves([*silent, *visit], 10)) == (
        "Text of one name a window cannot show here, however good; "
        "five names at a visit can, from 5 % right."
    )
    assert in_words(read_curves(silent, 10)).startswith("No text that names categories")
    assert in_words(read_curves(visit, 10)).startswith("Every kind of text can show")
