from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import integrate

from classical_baselines import ConditionalFlow
from classical_baselines.flow import chosen_sizes, flow_size
from qgen.data.dataset import Dataset, Feature
from qgen.data.transforms import Standardise
from qgen.random import new_generator, normal, uniform
from qgen.training import NLL, fit

COVARIANCE = torch.tensor([[0.5, 0.1, 0.25], [0.1, 0.5, 0.1], [0.25, 0.1, 0.5]], dtype=torch.float64)


def features(n: int) -> tuple[Feature, ...]:
    return tuple(Feature(f"x{i}") for i in range(n))


def dataset(n: int, n_features: int, n_conditions: int) -> Dataset:
    rng = new_generator(0)
    samples, conditions = (normal((n, k), rng, dtype=torch.float64) for k in (n_features, n_conditions))
    return Dataset(samples, features(n_features), conditions, tuple(Feature(f"c{i}") for i in range(n_conditions)))


@pytest.mark.parametrize(
    ("n_features", "n_conditions", "options"),
    [
        (1, 0, {"transforms": 2, "hidden": (4,), "bins": 3, "passes": 8}),
        (1, 2, {"transforms": 2, "hidden": (4,), "bins": 3, "passes": 8}),
        (2, 0, {"transforms": 1, "hidden": (), "bins": 2, "passes": 8}),
        (3, 0, {"transforms": 1, "hidden": (5, 4), "bins": 4, "passes": 8}),
        (4, 1, {"transforms": 2, "hidden": (7, 9), "bins": 8, "passes": 8}),
        (7, 0, {"transforms": 2, "hidden": (8,), "bins": 3, "passes": 3}),
        (8, 2, {"transforms": 1, "hidden": (3,), "bins": 5, "passes": 2}),
    ],
)
def test_counted_parameters_are_those_that_change_the_density(
    n_features: int, n_conditions: int, options: dict[str, Any]
) -> None:
    model = ConditionalFlow(n_features, n_conditions, **options)
    rng = new_generator(0)
    values = 9.8 * uniform((2000, n_features), rng, dtype=torch.float64) - 4.9
    condition = normal((2000, n_conditions), rng, dtype=torch.float64)
    model._log_prob(values, condition if n_conditions else None).sum().backward()
    moving = sum(int((p.grad != 0).sum()) for p in model.parameters())
    assert model.n_parameters == moving
    assert flow_size(n_features, n_conditions, **options) == moving


@pytest.mark.parametrize("target", [200, 250, 500, 1000, 5000])
@pytest.mark.parametrize(("n_features", "n_conditions"), [(1, 1), (2, 0), (3, 1), (7, 0)])
def test_asked_for_size_is_reached(target: int, n_features: int, n_conditions: int) -> None:
    model = ConditionalFlow.for_dataset(dataset(20, n_features, n_conditions), n_parameters=target)
    assert model.n_parameters == pytest.approx(target, rel=0.1)


def test_a_size_below_the_smallest_flow_is_refused() -> None:
    data = dataset(20, 8, 1)
    with pytest.raises(ValueError, match=r"n_parameters is 50; .* 8 features and 1 conditions is 220 par"):
        ConditionalFlow.for_dataset(data, n_parameters=50)
    assert ConditionalFlow.for_dataset(data, n_parameters=220).n_parameters == 220


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"transforms": 0}, "transforms is 0; at least 1 is needed"),
        ({"bins": 1}, "bins is 1; at least 2 is needed"),
        ({"passes": 0}, "passes is 0; at least 1 is needed"),
        ({"hidden": (3, 0)}, r"hidden is \[3, 0\]; every width must be at least 1"),
    ],
)
def test_impossible_options(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        ConditionalFlow(2, **options)


def test_sizing_leaves_the_global_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    ConditionalFlow.for_dataset(dataset(20, 3, 1), n_parameters=500)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_feature_is_cut_off_at_small_size() -> None:
    """Every feature depends on all before it, however few hidden units there are."""
    for target in (220, 300, 600):
        model = ConditionalFlow.for_dataset(dataset(20, 8, 1), n_parameters=target)
        values = normal((40, 8), new_generator(1), dtype=torch.float64)
        condition = torch.zeros(40, 1, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(
            lambda x, m=model, c=condition: m._distribution(c).transform(x).sum(0), values
        )
        dependence = jacobian.abs().sum(1)
        order = torch.ones(8, 8).tril().bool()
        assert (dependence[order] > 0).all()


def test_density_integrates_to_one() -> None:
    """In physical units, through the transform, for an untrained flow and a condition."""
    transform = Standardise([2.0, -1.0], [0.5, 3.0])
    model = ConditionalFlow(2, 1, hidden=(16,), transforms=2, bins=5, seed=4, transform=transform)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    x = torch.linspace(-1.5, 5.5, 701, dtype=torch.float64)
    y = torch.linspace(-22, 20, 701, dtype=torch.float64)
    density = model.log_prob(torch.cartesian_prod(x, y), torch.tensor([0.7])).exp().reshape(701, 701)
    total = integrate.simpson(integrate.simpson(density.numpy(), x=y.numpy()), x=x.numpy())
    assert total == pytest.approx(1, abs=1e-3)


def test_samples_have_the_density() -> None:
    """Samples fill regions by the integral of the density over them."""
    model = ConditionalFlow(1, 1, hidden=(8,), transforms=1, seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    condition = torch.tensor([0.5])
    samples = model.sample(100_000, condition, new_generator(0))
    grid = torch.linspace(-6, 6, 2401, dtype=torch.float64)[:, None]
    density = model.log_prob(grid, condition).exp().squeeze()
    cdf = torch.cumulative_trapezoid(density, grid[:, 0])
    distance = max(abs((samples <= grid[1 + i]).double().mean().item() - cdf[i].item()) for i in range(0, 2400, 100))
    assert distance < 1.7 / math.sqrt(100_000)


@pytest.mark.parametrize("passes", [2, 8])
def test_sampling_inverts_the_density_map(passes: int) -> None:
    model = ConditionalFlow(5, 0, passes=passes, seed=1)
    samples = model._sample(9000, None, new_generator(3))
    latent = normal((9000, 5), new_generator(3), dtype=torch.float64)
    torch.testing.assert_close(model._distribution(None).transform(samples), latent, atol=1e-9, rtol=0)


def test_learns_a_gaussian_to_its_entropy() -> None:
    rng = new_generator(0)
    factor = torch.linalg.cholesky(COVARIANCE)
    data = Dataset(normal((6000, 3), rng, dtype=torch.float64) @ factor.T, features(3))
    model = ConditionalFlow.for_dataset(data, hidden=(16,), transforms=1, bins=6)
    fit(model, data, NLL(), steps=250, learning_rate=0.01)
    fresh = normal((20_000, 3), rng, dtype=torch.float64) @ factor.T
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * COVARIANCE).item()
    excess = -model.log_prob(fresh).mean().item() - entropy
    assert -0.02 < excess < 0.06
    samples = model.sample(20_000, generator=new_generator(1))
    torch.testing.assert_close(samples.T.cov(), COVARIANCE, atol=0.05, rtol=0)


def test_learns_the_condition() -> None:
    rng = new_generator(1)
    energy = 10 + 90 * torch.rand((5000, 1), generator=rng, dtype=torch.float64)
    data = Dataset(
        energy * (1 + 0.1 * normal((5000, 1), rng, dtype=torch.float64)),
        (Feature("visible", "GeV"),),
        energy,
        (Feature("energy", "GeV"),),
    )
    model = ConditionalFlow.for_dataset(data, hidden=(16,), bins=6)
    fit(model, data, NLL(), steps=400, learning_rate=0.01)
    for value in (20.0, 50.0, 90.0):
        samples = model.sample(10_000, torch.tensor([value]), new_generator(0))
        assert samples.mean().item() == pytest.approx(value, rel=0.03)
        assert samples.std().item() == pytest.approx(0.1 * value, rel=0.25)


def test_large_grids_get_small_flows() -> None:
    assert chosen_sizes(1000, None, None, None) == (2, (64,), 8)
    assert chosen_sizes(1001, None, None, None) == (1, (16,), 4)
    assert chosen_sizes(1001, 3, (9, 9), 5) == (3, (9, 9), 5)


def test_many_events_are_inverted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ConditionalFlow(5, 1, seed=1)
    condition = normal((100, 1), new_generator(0), dtype=torch.float64)
    whole = model.sample(100, condition, new_generator(3))
    monkeypatch.setattr("classical_baselines.flow.KNOTS_AT_ONCE", 3 * 8 * 5 * 7)
    torch.testing.assert_close(model.sample(100, condition, new_generator(3)), whole)
