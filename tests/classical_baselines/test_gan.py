from __future__ import annotations

import pytest
import torch

from classical_baselines import ConditionalGAN
from qgen.data import load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.random import new_generator, normal
from qgen.training import Adversarial, fit


def dataset(n: int = 200, n_features: int = 8, n_conditions: int = 1) -> Dataset:
    rng = new_generator(0)
    return Dataset(
        5 + normal((n, n_features), rng, dtype=torch.float64),
        tuple(Feature(f"x{i}") for i in range(n_features)),
        normal((n, n_conditions), rng, dtype=torch.float64),
        tuple(Feature(f"c{i}") for i in range(n_conditions)),
    )


@pytest.mark.parametrize("target", [100, 200, 333, 1000, 20_000])
@pytest.mark.parametrize(("n_features", "n_conditions"), [(3, 0), (3, 1), (8, 1)])
def test_asked_for_size_is_reached(target: int, n_features: int, n_conditions: int) -> None:
    model = ConditionalGAN.for_dataset(dataset(20, n_features, n_conditions), n_parameters=target)
    assert model.n_parameters == pytest.approx(target, rel=0.1)
    assert model.n_parameters == sum(p.numel() for p in model.network.parameters())


def test_a_size_below_the_smallest_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_parameters is 10; .* 8 features and latent_size 8 is 26 par"):
        ConditionalGAN.for_dataset(dataset(), n_parameters=10)
    assert ConditionalGAN.for_dataset(dataset(), n_parameters=80).hidden == ()
    with pytest.raises(ValueError, match="hidden is \\[4, 0\\]"):
        ConditionalGAN(3, hidden=(4, 0))


def test_the_condition_and_the_latent_reach_the_output() -> None:
    model = ConditionalGAN.for_dataset(dataset(), latent_size=3)
    a = model.sample(4, torch.tensor([0.0]), new_generator(0))
    b = model.sample(4, torch.tensor([1.0]), new_generator(0))
    assert not torch.isclose(a, b).any()
    assert not torch.isclose(a[0], a[1]).any()


def test_the_latent_vector_is_no_longer_than_64_by_default() -> None:
    assert ConditionalGAN.for_dataset(dataset(20, 100)).latent_size == 64
    assert ConditionalGAN.for_dataset(dataset(20, 5)).latent_size == 5


def test_pixels_below_the_threshold_are_empty() -> None:
    data = load_calorimeter(grid=(8, 8), max_events=200)
    showers = ConditionalGAN.for_dataset(data).sample(300, data.conditions[0], new_generator(0))
    smallest = data.train.samples[data.train.samples > 0].min()
    below = (showers < 0.999 * smallest) & (data.train.samples == 0).any(0)
    assert below.any()
    assert (showers[below] == 0).all()


@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein-gp"])
def test_learns_two_correlated_features_and_their_condition(loss: str) -> None:
    rng = new_generator(3)
    condition = torch.randint(2, (4000, 1), generator=rng).double()
    z = normal((4000, 2), rng, dtype=torch.float64)
    x = 2 * condition + torch.stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1]], 1)
    data = Dataset(x, (Feature("a"), Feature("b")), condition, (Feature("c"),))
    model = ConditionalGAN.for_dataset(data, hidden=(32, 32))
    objective = Adversarial(loss, {"kind": "mlp", "hidden": (32, 32)}, discriminator_rate=3e-3)
    fit(model, data, objective, steps=500, learning_rate=1e-3, betas=(0.5, 0.9))
    for value in (0.0, 1.0):
        samples = model.sample(4000, torch.tensor([value]), new_generator(5))
        torch.testing.assert_close(samples.mean(0), torch.full((2,), 2 * value).double(), atol=0.25, rtol=0)
        torch.testing.assert_close(samples.std(0), torch.ones(2).double(), atol=0.25, rtol=0)
        assert samples.T.corrcoef()[0, 1] > 0.6
