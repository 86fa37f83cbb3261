from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qgen.data import load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.metrics import classifier_auc, classifier_weights, wasserstein, where_it_fails
from qgen.metrics.reweighting import _calibration


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(x: torch.Tensor, weights: torch.Tensor | None = None) -> Dataset:
    return Dataset(x, tuple(Feature(f"x{i}") for i in range(x.shape[1])), weights=weights)


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_reweighted_events_are_distributed_like_truth(factor):
    truth, generated = normal(0, 3000, 2), factor * normal(1, 3000, 2)
    weights = classifier_weights(truth, generated)
    weighted = table(generated, weights.generated)
    before, after = wasserstein(truth, generated).value, wasserstein(table(truth), weighted).value
    assert after < (0.3 * before if factor > 1 else 0.06)
    assert classifier_auc(table(truth), weighted).value < 0.52


def test_weights_are_the_density_ratio():
    truth, generated = normal(0, 8000, 1), normal(1, 8000, 1) + 0.5
    weights = classifier_weights(truth, generated)
    for x, w in ((truth, weights.truth), (generated, weights.generated)):
        expected = (0.125 - 0.5 * x[:, 0]).exp()  # N(0, 1) over N(1/2, 1)
        middle = (x[:, 0] - 0.25).abs() < 2
        assert (w / expected).log()[middle].abs().mean() < 0.15
    assert weights.generated.mean().item() == pytest.approx(1, abs=0.05)


def test_weights_are_close_to_one_for_equal_distributions_and_tiny_for_disjoint_ones():
    truth = normal(0, 1000, 3)
    like = classifier_weights(truth, normal(1, 1000, 3))
    assert like.generated.log().abs().mean() < 0.15
    apart = classifier_weights(truth, normal(1, 1000, 3) + 100)
    assert apart.generated.max() < 0.1
    assert apart.truth.min() > 10
    for x in (truth[:1].expand(1000, 3), torch.zeros(1000, 3)):
        weights = classifier_weights(truth, x)
        assert weights.generated.isfinite().all()
        assert where_it_fails(x, weights) == []


def test_seed_fixes_them_and_events_weights_count():
    truth, generated = normal(0, 500, 2), normal(1, 500, 2) + 0.2
    first, again = (classifier_weights(truth, generated, seed=3) for _ in range(2))
    assert torch.equal(first.generated, again.generated)
    x = normal(2, 3000, 1)
    twice = torch.cat([x, x[x[:, 0] < 0] + 1e-6])
    half = torch.where(twice[:, 0] < 0, 0.5, 1.0).double()
    weights = classifier_weights(table(twice, half), table(normal(3, 3000, 1)))
    assert weights.generated.log().abs().mean() < 0.15


def test_more_events_than_the_classifier_is_shown():
    weights = classifier_weights(normal(0, 26_000, 1), normal(1, 13_000, 1) + 0.5)
    assert len(weights.truth) == 26_000
    assert weights.generated.mean().item() == pytest.approx(1, abs=0.05)


def test_calibration_is_sklearns_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    truth, generated = normal(0, 400), 1.5 * normal(1, 400) + 0.7
    intercept, slope = _calibration(truth, generated, torch.ones(400).double(), torch.ones(400).double())
    s, y = torch.cat([truth, generated])[:, None].numpy(), [0] * 400 + [1] * 400
    theirs = LogisticRegression(C=1.0, tol=1e-10).fit(s, y)
    assert (intercept, slope) == pytest.approx((theirs.intercept_[0], theirs.coef_[0, 0]), rel=1e-5)


def test_the_worst_region_is_where_the_fault_is():
    data = load_calorimeter(grid=(8,), max_events=4000)
    truth, good = data.take(range(2000)), data.take(range(2000, 4000))
    spoilt = good.samples.clone()
    spoilt[:, 5] *= 1.3
    generated = good.with_samples(spoilt, good.conditions)
    worst = where_it_fails(generated, classifier_weights(truth, generated))
    assert worst[0].column == "layer_5"
    assert str(worst[0]).startswith("layer_5 ")
    assert {region.column for region in worst} == {*(f"layer_{i}" for i in range(8)), "incident_energy"}
    assert sum(region.n_events for region in worst if region.column == "layer_5") == 2000
    by_physics = where_it_fails(
        generated, classifier_weights(truth, generated, columns="observables"), columns="observables"
    )
    assert by_physics[0].column.startswith(("energy_layer_5", "response", "width_layer"))


def test_bad_input_is_one_line():
    truth, generated = normal(0, 50, 2), normal(1, 50, 2)
    weights = classifier_weights(truth, generated)
    with pytest.raises(ValueError, match="generated has 10 events; at least 20 are needed"):
        classifier_weights(truth, generated[:10])
    with pytest.raises(ValueError, match="columns is 'voxels'; allowed are 'joint' and 'observables'"):
        classifier_weights(truth, generated, columns="voxels")
    with pytest.raises(ValueError, match="columns differ"):
        classifier_weights(truth, table(generated[:, :1]))
    with pytest.raises(ValueError, match="truth row 1: weight -1 is negative"):
        classifier_weights(replace(table(truth), weights=torch.tensor([1.0, -1.0] * 25)), generated)
    with pytest.raises(ValueError, match="generated has 49 events, the weights are of 50"):
        where_it_fails(generated[1:], weights)
    with pytest.raises(ValueError, match="n_bins is 1; at least 2 are needed"):
        where_it_fails(generated, weights, n_bins=1)
