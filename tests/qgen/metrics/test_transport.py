"""Sliced Wasserstein distance and Sinkhorn divergence against POT, scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.data.dataset import Dataset, Feature
from qgen.metrics import sinkhorn, sliced_wasserstein
from qgen.metrics.columns import spread
from qgen.random import derive_seed


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value(metric, truth: torch.Tensor, generated: torch.Tensor, w=None, v=None, seed: int = 0, **options) -> float:
    w = torch.ones(len(truth), dtype=torch.float64) if w is None else w
    v = torch.ones(len(generated), dtype=torch.float64) if v is None else v
    return metric.build(truth, generated, seed, (w, v), **options)(w, v).item()


tables = st.tuples(st.integers(0, 2**31), st.integers(20, 60), st.integers(20, 60), st.integers(1, 4), st.booleans())


def pair(table) -> tuple[torch.Tensor, ...]:
    """Two samples of different sizes with weights, some 0; with ties, of integers in a few values."""
    seed, n, m, d, ties = table
    truth, generated = normal(seed, n, d), 0.3 + 1.2 * normal(seed + 1, m, d)
    rng = torch.Generator().manual_seed(seed)
    w, v = (torch.randint(0, 3, (k,), generator=rng).double() for k in (n, m))
    w[0] = v[0] = 1
    return (*(((2 * x).round() for x in (truth, generated)) if ties else (truth, generated)), w, v)


@given(tables, st.sampled_from([1, 2]))
@settings(max_examples=25, deadline=None)
def test_sliced_wasserstein_is_that_of_optimal_transport_with_any_weights(table, order: int) -> None:
    truth, generated, w, v = pair(table)
    rng = torch.Generator().manual_seed(derive_seed(3, "directions"))
    towards = torch.randn(truth.shape[1], 7, generator=rng, dtype=torch.float64)
    towards /= towards.norm(dim=0)
    expected = ot.sliced_wasserstein_distance(
        (truth / spread(truth)).numpy(),
        (generated / spread(truth)).numpy(),
        (w / w.sum()).numpy(),
        (v / v.sum()).numpy(),
        projections=towards.numpy(),
        p=order,
    )
    found = value(sliced_wasserstein, truth, generated, w, v, seed=3, directions=7, order=order)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_sliced_wasserstein_of_a_shift_is_the_closed_form(order: int) -> None:
    """The mean of |cos|^order over isotropic directions: Gamma functions."""
    truth, d, shift = normal(0, 500, 3), 3, 0.8
    moved = truth + shift * spread(truth) * torch.tensor([1.0, 0.0, 0.0])
    mean = math.gamma(d / 2) * math.gamma((order + 1) / 2) / math.gamma((d + order) / 2) / math.gamma(0.5)
    found = value(sliced_wasserstein, truth, moved, order=order, directions=4000)
    assert found == pytest.approx(shift * mean ** (1 / order), rel=0.03)


def entropic(x: np.ndarray, y: np.ndarray, w: np.ndarray, v: np.ndarray, epsilon: float) -> float:
    """Least cost with the entropy relative to the product, from POT's plan."""
    costs = ot.dist(x, y)
    plan = ot.sinkhorn(w, v, costs, epsilon, method="sinkhorn_log", numItermax=500, warn=False)
    ratio = np.where(plan > 0, plan / np.outer(w, v), 1.0)
    return float((plan * costs).sum() + epsilon * (plan * np.log(ratio)).sum())


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 2.0])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_sinkhorn_is_that_of_optimal_transport_with_any_weights(shift: float, epsilon: float) -> None:
    truth, generated = 4 + 2 * normal(0, 50, 3), 4 + 2.5 * normal(1, 40, 3) + 2 * shift
    rng = torch.Generator().manual_seed(0)
    w, v = (torch.rand(k, generator=rng, dtype=torch.float64) + 0.1 for k in (50, 40))
    found = value(sinkhorn, truth, generated, w, v, epsilon=epsilon)
    x, y = ((z / spread(truth)).numpy() for z in (truth, generated))
    apart = np.sort(ot.dist(x, x)[np.triu_indices(50, 1)])
    strength = epsilon * apart[(len(apart) - 1) // 2]
    a, b = (z.numpy() / z.sum().item() for z in (w, v))
    expected = entropic(x, y, a, b, strength)
    expected -= (entropic(x, x, a, a, strength) + entropic(y, y, b, b, strength)) / 2
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_sinkhorn_goes_from_the_wasserstein_distance_to_that_of_the_means() -> None:
    truth, generated = normal(0, 60, 2), 1.4 * normal(1, 60, 2) + 0.5
    scale = spread(truth)
    x, y = truth / scale, generated / scale
    uniform = np.full(60, 1 / 60)
    exact = ot.emd2(uniform, uniform, ot.dist(x.numpy(), y.numpy()))
    means = float((x.mean(0) - y.mean(0)).square().sum())
    assert value(sinkhorn, truth, generated, epsilon=2e-3) == pytest.approx(exact, rel=0.04)
    assert value(sinkhorn, truth, generated, epsilon=1e4) == pytest.approx(means, rel=1e-3)


def test_sinkhorn_of_gaussians_in_one_dimension_is_the_closed_form() -> None:
    """Of N(0, 1) and N(mu, s^2), cost |x - y|^2 (Janati et al., 2006.02572); the entropy is relative to the product."""
    n, mu, s, epsilon = 1000, 0.6, 1.5, 0.3
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]
    strength = epsilon * float((quantiles - quantiles.T).square()[quantiles != quantiles.T].median())

    def least(a: float, b: float) -> float:
        root = math.sqrt(4 * a**2 * b**2 + strength**2 / 4)
        return a**2 + b**2 - root + strength / 2 * (1 - math.log(strength) + math.log(strength / 2 + root))

    expected = mu**2 + least(1, s) - (least(1, 1) + least(s, s)) / 2
    found = value(sinkhorn, quantiles, mu + s * quantiles, epsilon=epsilon)
    assert found == pytest.approx(expected, rel=0.02)


def test_first_order_of_the_weights_is_the_derivative() -> None:
    truth, generated = normal(0, 100, 2), 1.2 * normal(1, 100, 2) + 0.3
    one = torch.ones(100, dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    step = 0.02 * (torch.rand(100, generator=rng, dtype=torch.float64) - 0.5)
    linear = sinkhorn.build(truth, generated, 0, (one, one))(one + step, one - step).item()
    before, after = value(sinkhorn, truth, generated), value(sinkhorn, truth, generated, one + step, one - step)
    assert linear - before == pytest.approx(after - before, rel=0.02)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_uncertainty_of_sinkhorn_covers_the_spread_between_samples(shift: float) -> None:
    found = [sinkhorn(normal(2 * s, 300, 2), normal(2 * s + 1, 300, 2) + shift, seed=s) for s in range(25)]
    ratio = np.mean([f.uncertainty for f in found]) / np.std([f.value for f in found])
    assert 0.7 < ratio < 2.5


@pytest.mark.parametrize(("metric", "power"), [(sliced_wasserstein, 0.5), (sinkhorn, 1.0)])
def test_bias_between_samples_of_truth_falls_as_stated(metric, power: float) -> None:
    assert metric.bias in (power, None)
    small, large = (
        np.mean([value(metric, normal(2 * s, n, 2), normal(2 * s + 1, n, 2), seed=s) for s in range(12)])
        for n in (150, 600)
    )
    assert small / large == pytest.approx(4**power, rel=0.25)


def test_order_two_falls_with_the_root_as_well() -> None:
    small, large = (
        np.mean([value(sliced_wasserstein, normal(2 * s, n, 2), normal(2 * s + 1, n, 2), order=2) for s in range(20)])
        for n in (200, 800)
    )
    assert small / large == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize("scale", [1e-6, 30.0, 1e6, 1e60])
def test_a_generator_in_another_unit_has_a_score(scale: float) -> None:
    truth, generated = normal(0, 100, 2), scale * normal(1, 100, 2)
    for metric in (sliced_wasserstein, sinkhorn):
        found = metric(truth, generated)
        assert math.isfinite(found.value)
        assert found.value > 3 * metric(truth, normal(1, 100, 2)).value


def test_bad_options_are_one_line() -> None:
    a, b = normal(0, 50, 2), normal(1, 50, 2)
    with pytest.raises(ValueError, match="directions is 0; a whole number from 1 to 10000 is allowed"):
        sliced_wasserstein(a, b, directions=0)
    with pytest.raises(ValueError, match="order is 3; allowed are 1 and 2"):
        sliced_wasserstein(a, b, order=3)
    with pytest.raises(ValueError, match="epsilon is 0.0; it must be positive and finite"):
        sinkhorn(a, b, epsilon=0.0)
    features, weights = (Feature("a"), Feature("b")), torch.ones(50).double()
    weights[3] = -1
    weighted = Dataset(b, features, weights=weights)
    assert math.isfinite(sliced_wasserstein(Dataset(a, features), weighted).value)
    with pytest.raises(ValueError, match="sliced_wasserstein of order 2 is not defined for negative weights"):
        sliced_wasserstein(Dataset(a, features), weighted, order=2)
