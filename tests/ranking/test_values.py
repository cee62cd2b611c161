"""Value heads: what each says of a skewed number, and that it comes back from disk."""

import math

import numpy as np
import pytest
import torch

from taiji.config import RqSection, ValueSection
from taiji.errors import DataError, MissingArtifactError
from taiji.ranking.columns import Coded
from taiji.ranking.value_columns import FieldMeans, own_columns
from taiji.ranking.values import (
    fit_value_head,
    fit_values,
    load_value_head,
    ziln_loss,
    ziln_mean,
)

QUICK = RqSection(levels=2, codes=8, epochs=10, learning_rate=1e-2)
KINDS = pytest.mark.parametrize("kind", ["tweedie", "ziln", "bins", "rq"])


def section(kind):
    if kind == "tweedie":
        pytest.importorskip("lightgbm")
    return ValueSection(kind=kind, trees=60, bins=16, rq=QUICK)


def skewed(num=800, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(num, 3))
    some = random.random(num) < 1 / (1 + np.exp(-1 - x[:, 1]))
    mean = np.exp(1 + 0.9 * x[:, 0])
    value = some * mean * np.exp(0.5 * random.normal(size=num))
    return x, value, mean * np.exp(0.5**2 / 2) / (1 + np.exp(-1 - x[:, 1]))


def test_ziln_by_hand():
    # p = 1/2, mu = 0, sigma = 1: E = e^.5 / 2. Loss at y = 1: log 2 + log(2 pi) / 2; at 0: log 2.
    logit, mean, sigma = torch.zeros(2), torch.zeros(2), torch.ones(2)
    assert ziln_mean(logit, mean, sigma)[0].item() == pytest.approx(math.exp(0.5) / 2)
    loss = ziln_loss(logit, mean, sigma, torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(math.log(2) + math.log(2 * math.pi) / 4, abs=1e-6)


@KINDS
def test_every_head_is_nearer_to_the_mean_than_a_constant_and_right_on_average(kind):
    x, value, mean = skewed()
    found = fit_values(x, value, section(kind), seed=1).predict(x)
    assert found.min() >= 0
    assert found.mean() == pytest.approx(value.mean(), rel=1e-6)
    assert np.abs(found - mean).mean() < 0.5 * np.abs(mean - mean.mean()).mean()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones(99), "99 conversions"),
        (np.zeros(200), "0 above 0"),
        (np.append(np.ones(200), -1), "below 0"),
        (np.append(np.ones(200), np.nan), "not finite"),
    ],
)
def test_values_that_teach_nothing_are_refused(values, said):
    with pytest.raises(DataError, match=said):
        fit_values(np.ones((values.size, 1)), values, ValueSection(kind="ziln"), seed=1)


def fields(*codes):
    column = Coded(np.array(codes, dtype=np.int32), ("a", "b"))
    return dict.fromkeys(("item", "l1", "l2", "l3", "brand"), column)


def test_a_row_does_not_see_its_own_value():
    # a: 1 and 3, b: 8; mean of all 4. The other row of a counts 1, the prior 5.
    log = np.array([1.0, 3.0, 8.0])
    columns = own_columns(fields(0, 0, 1), log)
    assert columns[:, 0].tolist() == pytest.approx([(3 + 20) / 6, (1 + 20) / 6, 20 / 5])
    later = FieldMeans.fit(fields(0, 0, 1), log).columns(fields(0, 1, -1))
    assert later[:, 0].tolist() == pytest.approx([(4 + 20) / 7, (8 + 20) / 6, 4.0])


@KINDS
def test_a_head_comes_back_from_disk_as_it_was(kind, crowd, tmp_path):
    pairs, _ = crowd
    pairs = pairs.take(np.arange(300))
    value = np.random.default_rng(0).lognormal(size=300)
    head = fit_value_head(pairs, value, section(kind), seed=1)
    head.save(tmp_path)
    assert np.array_equal(load_value_head(tmp_path).predict(pairs), head.predict(pairs))
    name = "value.txt" if kind == "tweedie" else "value.safetensors"
    (tmp_path / name).unlink()
    with pytest.raises((MissingArtifactError, DataError), match="rerun"):
        load_value_head(tmp_path)
