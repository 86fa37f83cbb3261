from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from classical_baselines import FlowMatching
from qgen.data import load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.random import new_generator, normal, uniform
from qgen.training import Own, fit

calorimeter = cache(load_calorimeter)


def table(samples: Tensor, conditions: Tensor | None = None) -> Dataset:
    names = tuple(Feature(f"x{i}") for i in range(samples.shape[1]))
    if conditions is None:
        return Dataset(samples, names)
    return Dataset(samples, names, conditions, (Feature("c"),))


def gaussian_field(model: FlowMatching, mean: float, width: float) -> None:
    """Give the model the exact velocity field of events N(mean, width^2), each feature on its own."""

    def linear(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        del condition
        noise, event = 1 - t, t
        return mean + (event * width**2 - noise) / (noise**2 + event**2 * width**2) * (x - event * mean)

    def trigonometric(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        del condition
        angle = math.pi / 2 * t
        noise, event = angle.cos(), angle.sin()
        variance = noise**2 + event**2 * width**2
        slope = noise * event * (width**2 - 1) / variance
        return math.pi / 2 * (noise * mean + slope * (x - event * mean))

    model.velocity = linear if model.path == "linear" else trigonometric  # type: ignore[method-assign]


@pytest.mark.parametrize("path", ["linear", "trigonometric"])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_solvers_carry_noise_to_a_gaussian_at_their_order(path: Any, solver: Any, order: int) -> None:
    model = FlowMatching(1, path=path, solver=solver)
    gaussian_field(model, 3.0, 0.5)
    noise = normal((50, 1), new_generator(0), dtype=torch.float64)
    errors = []
    for steps in (8, 16, 32):
        model.steps = steps
        errors.append((model._sample(50, None, new_generator(0)) - (3 + 0.5 * noise)).abs().max().item())
    assert errors[-1] < 15 / 32**order
    assert math.log2(errors[1] / errors[2]) > order - 0.7


@pytest.mark.parametrize("solver", ["midpoint", "rk4"])
def test_solvers_agree_with_scipy(solver: Any) -> None:
    model = FlowMatching(2, hidden=(8,), solver=solver, steps=64, seed=3)

    def field(t: float, x: Any) -> Any:
        point = torch.as_tensor(x)[None]
        return model.velocity(point, torch.full((1, 1), t, dtype=torch.float64), None)[0].detach().numpy()

    start = normal((1, 2), new_generator(0), dtype=torch.float64)
    found = integrate.solve_ivp(field, (0, 1), start[0].numpy(), rtol=1e-10, atol=1e-12).y[:, -1]
    assert model.sample(1, generator=new_generator(0))[0].numpy() == pytest.approx(found, abs=1e-4)


@pytest.mark.parametrize("path", ["linear", "trigonometric"])
def test_the_loss_is_least_at_the_true_field(path: Any) -> None:
    """No other field has a lower mean squared error than the conditional mean of the velocity."""
    values = 3 + 0.5 * normal((4000, 1), new_generator(1), dtype=torch.float64)

    def loss(mean: float, width: float) -> float:
        model = FlowMatching(1, path=path)
        gaussian_field(model, mean, width)
        return model._own_loss(values, None, new_generator(2)).item()

    best = loss(3, 0.5)
    assert all(best < loss(mean, width) for mean, width in ((2.7, 0.5), (3.3, 0.5), (3, 0.4), (3, 0.65)))


@pytest.mark.parametrize("path", ["linear", "trigonometric"])
def test_learns_two_peaks(path: Any) -> None:
    rng = new_generator(0)
    sign = 2.0 * (uniform((4000, 1), rng, dtype=torch.float64) < 0.3) - 1
    data = table(2 * sign + 0.3 * normal((4000, 1), rng, dtype=torch.float64))
    model = FlowMatching.for_dataset(data, hidden=(32, 32), path=path, steps=16)
    fit(model, data, Own(), steps=500, learning_rate=0.005, validate_every=100)
    samples = model.sample(4000, generator=new_generator(1))
    assert (samples > 0).double().mean().item() == pytest.approx(0.3, abs=0.04)
    assert stats.ks_2samp(samples[:, 0], data.test.samples[:, 0]).statistic < 0.13


def test_learns_the_condition() -> None:
    rng = new_generator(0)
    c = uniform((4000, 1), rng, dtype=torch.float64)
    data = table(5 * c + (0.2 + c) * normal((4000, 1), rng, dtype=torch.float64), c)
    model = FlowMatching.for_dataset(data, hidden=(32, 32))
    fit(model, data, Own(), steps=500, learning_rate=0.01, validate_every=100)
    for value in (0.2, 0.8):
        samples = model.sample(4000, torch.tensor([value]), new_generator(1))
        assert samples.mean().item() == pytest.approx(5 * value, abs=0.15)
        assert samples.std().item() == pytest.approx(0.2 + value, rel=0.2)


def test_in_the_gaussian_frame_a_field_of_zero_is_the_copula() -> None:
    rng = new_generator(0)
    z = normal((3000, 2), rng, dtype=torch.float64)
    data = table(torch.stack([z[:, 0].exp(), z[:, 0] + 0.5 * z[:, 1]], 1))
    model = FlowMatching.for_dataset(data, frame="gaussian", hidden=(), steps=1, solver="euler")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    samples = model.sample(3000, generator=new_generator(1))
    for i in range(2):
        assert stats.ks_2samp(samples[:, i], data.samples[:, i]).pvalue > 1e-3
    assert stats.spearmanr(samples).statistic == pytest.approx(stats.spearmanr(data.samples).statistic, abs=0.02)


def test_empty_pixels_are_empty() -> None:
    data = calorimeter(grid=(8, 8), max_events=1500)
    model = FlowMatching.for_dataset(data, hidden=(64,))
    fit(model, data, Own(), steps=150, learning_rate=0.005)
    c = data.train.conditions[:500]
    samples = model.sample(500, c, new_generator(0))
    truth = (data.samples == 0).double().mean(0)
    found = (samples == 0).double().mean(0)
    assert truth.max() > 0.5
    assert (found - truth).abs().mean() < 0.1


@pytest.mark.parametrize("target", [100, 250, 1000, 20_000])
@pytest.mark.parametrize(("n_features", "n_conditions"), [(1, 1), (3, 1), (8, 1)])
def test_asked_for_size_is_reached(target: int, n_features: int, n_conditions: int) -> None:
    samples = normal((50, n_features), new_generator(0), dtype=torch.float64)
    data = table(samples, samples[:, :n_conditions])
    assert FlowMatching.for_dataset(data, n_parameters=target).n_parameters == pytest.approx(target, rel=0.1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"steps": 0}, "steps is 0, frequencies is 3; at least 1 and 0 are needed"),
        ({"path": "cubic"}, "path is 'cubic'; allowed are linear, trigonometric"),
        ({"solver": "heun"}, "solver is 'heun'; allowed are euler, midpoint, rk4"),
        ({"hidden": (0,)}, r"hidden is \[0\]; every width must be at least 1"),
    ],
)
def test_impossible_options(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        FlowMatching(2, **options)
    with pytest.raises(ValueError, match="frame is 'whitened'"):
        FlowMatching.for_dataset(table(torch.rand(20, 2, generator=new_generator(0))), frame="whitened")  # type: ignore[arg-type]
