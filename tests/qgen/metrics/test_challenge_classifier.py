from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from qgen.data import load_calorimeter
from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset, Feature
from qgen.metrics import (
    METRICS,
    challenge_classifier,
    evaluate,
    find_metrics,
    high_level_auc,
    low_level_auc,
    network_score,
)
from qgen.metrics.challenge_classifier import _delong, high_level_inputs, low_level_inputs

SMALL = {"width": 128, "epochs": 15}


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ones(n: int) -> torch.Tensor:
    return torch.ones(n, dtype=torch.float64)


@pytest.fixture(scope="module")
def showers() -> CalorimeterDataset:
    return load_calorimeter(grid=(3, 4, 4), axes=("layer", "x", "y"), max_events=3000)


def test_inputs_are_those_of_the_challenge(showers):
    """Rewritten with numpy from the challenge's ``prepare_*_data_for_classifier``, for images with x and y."""
    few = showers.take(range(50))
    energy, images = few.incident_energy.numpy()[:, None], few.images.numpy()
    low = np.concatenate([np.log10(energy), images.reshape(50, -1) / energy], 1)
    np.testing.assert_allclose(low_level_inputs(few).numpy(), low)
    high = high_level_inputs(few).numpy()
    total = images.sum((1, 2, 3))
    np.testing.assert_allclose(high[:, 0], np.log10(energy[:, 0]))
    np.testing.assert_allclose(high[:, 1], np.log10(total + 1e-8))
    positions = few.geometry.centres("x")
    centre = (images[:, 0].sum(2) @ positions) / (images[:, 0].sum((1, 2)) + 1e-16)
    columns = [np.abs(column - centre / 100).max() for column in high.T]
    assert min(columns) < 1e-12
    layer = np.log10(images[:, 1].sum((1, 2)) + 1e-8)
    assert min(np.abs(column - layer).max() for column in high.T) < 1e-12


def test_threshold_empties_voxels(showers):
    raised = replace(showers, threshold=1.0)
    inputs = low_level_inputs(raised)[:, 1:] * showers.conditions
    assert ((inputs == 0) | (inputs >= 1 - 1e-9)).all()


def test_area_and_divergence_of_normal_distributions():
    """The best possible classifier of a shift by 1 has an area of 0.760 and a divergence of 0.160 bits."""
    found = network_score(normal(0, 5000, 1), normal(1, 5000, 1) + 1, 0, (ones(5000), ones(5000)), width=64, epochs=10)
    assert found.auc.value == pytest.approx(0.760, abs=4 * found.auc.uncertainty)
    x = torch.linspace(-8, 9, 4001, dtype=torch.float64)
    p, q = ((-((x - a) ** 2) / 2).exp() / math.sqrt(2 * math.pi) for a in (0, 1))
    m = (p + q) / 2
    expected = ((p * (p / m).log2() + q * (q / m).log2()) / 2).nan_to_num().sum().item() * 17 / 4000
    assert found.jsd.value == pytest.approx(expected, abs=4 * found.jsd.uncertainty)
    assert found.auc.p_value < 1e-10
    assert 1 <= found.epoch <= 10
    assert 0.6 < found.accuracy < 0.8


def test_delongs_uncertainty_is_the_spread_over_samples():
    areas, errors = [], []
    for k in range(200):
        a, b = normal(2 * k, 80), normal(2 * k + 1, 60) + 0.7
        areas.append(roc_auc_score([0] * 80 + [1] * 60, torch.cat([a, b])))
        errors.append(_delong(a, b, ones(80), ones(60)))
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.2)


def test_a_shifted_response_is_seen_and_equal_samples_are_not(showers):
    truth, other = showers.take(range(1500)), showers.take(range(1500, 3000))
    wrong = other.with_samples(1.5 * other.samples, other.conditions)
    like = high_level_auc(truth, other, **SMALL)
    assert like.p_value > 0.01
    assert like.value == pytest.approx(0.5, abs=4 * like.uncertainty)
    bad = high_level_auc(truth, wrong, **SMALL)
    assert bad.p_value < 1e-3
    row = evaluate(truth, wrong, reference=other, metrics=["high_level_auc"], options={"high_level_auc": SMALL})
    assert row["high_level_auc"].pull > 3
    layers_turned = other.with_samples(other.images.flip(1).flatten(1), other.conditions)
    assert low_level_auc(truth, layers_turned, width=128, epochs=40).p_value < 1e-3


def test_seed_fixes_it_and_collapsed_empty_and_weighted_showers_are_scored(showers):
    truth, other = showers.take(range(300)), showers.take(range(300, 600))
    options = {"width": 16, "epochs": 3}
    assert low_level_auc(truth, other, seed=5, **options) == low_level_auc(truth, other, seed=5, **options)
    for samples in (other.samples[:1].expand(300, -1), torch.zeros(300, 48)):
        for metric in (low_level_auc, high_level_auc):
            result = metric(truth, other.with_samples(samples, other.conditions), **options)
            assert math.isfinite(result.value)
    x = torch.cat([normal(0, 2000, 1), normal(1, 1000, 1) - 1])
    weights = torch.cat([ones(2000), 1e-9 * ones(1000)])
    found = network_score(x, normal(2, 2000, 1), 0, (weights, ones(2000)), width=32, epochs=20)
    assert found.auc.value == pytest.approx(0.5, abs=0.06)


def test_one_training_gives_area_and_divergence_in_rows_of_their_own(showers, monkeypatch):
    trained = []
    train = challenge_classifier._train
    monkeypatch.setattr(challenge_classifier, "_train", lambda *given: trained.append(1) or train(*given))
    truth, other = showers.take(range(300)), showers.take(range(300, 600))
    options = {"width": 16, "epochs": 2}
    table = evaluate(truth, other, reference=other, metrics=["high_level_auc"], options={"high_level_auc": options})
    assert len(trained) == 2  # of the value and of its floor
    assert [(row.name, row.target) for row in table] == [("high_level_auc/jsd", 0.0), ("high_level_auc", 0.5)]
    inputs = (high_level_inputs(x.take(torch.arange(300))) for x in (truth, other))
    assert table["high_level_auc"].value.p_value is not None
    assert table["high_level_auc/jsd"].value.p_value is None
    found = high_level_auc(truth, other, **options)
    score = network_score(*inputs, 0, (ones(300), ones(300)), **options)
    assert found == score.auc
    with pytest.raises(ValueError, match="'high_level_jsd' is unknown; did you mean 'high_level_auc'?"):
        find_metrics(["high_level_jsd"])


def test_they_are_taken_only_by_name():
    slow = {"low_level_auc", "high_level_auc"}
    assert {name for name, m in METRICS.items() if m.slow} == slow
    for group in ("tests", "all", "default"):
        assert not slow & {m.name for m in find_metrics([group])}
    assert find_metrics(["low_level_auc"])[0].options == {"width": 2048, "epochs": 50, "device": "cpu"}


def test_bad_input_is_one_line(showers):
    few = showers.take(range(50))
    with pytest.raises(ValueError, match="option width of the classifier is 0; at least 1 is needed"):
        low_level_auc(few, few, width=0)
    with pytest.raises(ValueError, match="device 'tpu' is unknown"):
        low_level_auc(few, few, device="tpu")
    with pytest.raises(ValueError, match="low_level_auc needs calorimeter images"):
        low_level_auc(Dataset(normal(0, 50, 1), (Feature("x"),)), Dataset(normal(1, 50, 1), (Feature("x"),)))
