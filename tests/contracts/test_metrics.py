"""What holds for every metric."""

from __future__ import annotations

import math

import pytest
import torch

from qgen.data.dataset import Dataset, Feature
from qgen.metrics import METRICS, evaluate


def events(seed: int, n: int = 600) -> Dataset:
    rng = torch.Generator().manual_seed(seed)
    energy = torch.rand(n, 1, generator=rng, dtype=torch.float64)
    pixels = energy * torch.rand(n, 3, generator=rng, dtype=torch.float64)
    pixels[pixels < 0.1] = 0.0
    features = tuple(Feature(f"pixel{i}", "MeV") for i in range(3))
    return Dataset(pixels, features, energy, (Feature("energy", "GeV"),))


@pytest.fixture(params=sorted(METRICS))
def metric(request):
    return METRICS[request.param]


def test_result_is_a_number_with_an_uncertainty(metric):
    result = metric(events(0), events(1))
    assert math.isfinite(result.value)
    assert math.isfinite(result.uncertainty)
    assert result.uncertainty > 0


def test_seed_gives_the_same_result(metric):
    truth, generated = events(0), events(1)
    assert metric(truth, generated, seed=4) == metric(truth, generated, seed=4)
    assert metric(truth, generated, seed=4).uncertainty != metric(truth, generated, seed=5).uncertainty


def test_the_global_generator_is_left_alone(metric):
    state = torch.random.get_rng_state()
    metric(events(0), events(1))
    assert torch.equal(state, torch.random.get_rng_state())


def test_inputs_are_left_as_they_were(metric):
    truth, generated = events(0), events(1)
    before = truth.samples.clone(), generated.samples.clone(), truth.conditions.clone()
    metric(truth, generated)
    after = truth.samples, generated.samples, truth.conditions
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_truth_against_truth_falls_to_the_target(metric):
    small, large = (evaluate(events(0, 2 * n), events(1, n), metrics=[metric.name])[metric.name] for n in (200, 4000))
    assert small.target == metric.target
    distance = [abs(row.floor.value - metric.target) for row in (small, large)]
    assert distance[1] < max(distance[0], 2 * large.floor.uncertainty)
    assert abs(large.value.value - large.floor.value) < 4 * (large.value.uncertainty + large.floor.uncertainty)


def test_a_collapsed_generator_is_scored_worse_than_the_floor(metric):
    truth = events(0)
    collapsed = truth.with_samples(truth.samples[:1].expand(len(truth), -1))
    row = evaluate(truth, collapsed, metrics=[metric.name])[metric.name]
    assert row.value.value > row.floor.value + row.floor.uncertainty


def test_larger_is_worse(metric):
    truth = events(0)
    other = events(1)
    wrong = other.with_samples(other.samples.flip(0) * torch.tensor([1.5, 2.0, 2.5]))  # in scale and in shape
    good, bad = (metric(truth, x).value for x in (other, wrong))
    assert bad > good


def test_weights_of_zero_remove_events(metric):
    """An event of weight 0 counts as little as one that was never there, frames of truth aside."""
    truth, generated = (torch.cat([x.samples, x.conditions], 1) for x in (events(0), events(1)))
    options = (
        {"limits": torch.full((truth.shape[1], 2), math.nan, dtype=torch.float64)} if "limits" in metric.asks else {}
    )
    estimator = metric.build(truth, torch.cat([generated, generated + 50]), 0, **options)
    weights = torch.ones(len(truth), dtype=torch.float64)
    with_zeros = estimator(weights, torch.cat([weights, 0 * weights]))
    if metric.name != "classifier_auc":  # the classifier is trained on all
        torch.testing.assert_close(with_zeros, metric.build(truth, generated, 0, **options)(weights, weights))


def test_it_says_what_it_is(metric):
    assert metric.description.endswith(".")
    assert metric.reference
    assert len(metric.description) < 120
