from __future__ import annotations

from functools import cache

import pytest
import torch
from scipy import integrate
from torch import Tensor

from classical_baselines import TwoStepFlow
from classical_baselines.shares import EnergiesAndShares
from qgen import fit
from qgen.data import load_calorimeter, muon_events
from qgen.data.dataset import Dataset, Feature
from qgen.data.transforms import Transform
from qgen.random import new_generator, normal, uniform
from qgen.training import NLL

calorimeter = cache(load_calorimeter)


def positive(n: int, n_pixels: int, seed: int = 0) -> Tensor:
    return 0.2 + uniform((n, n_pixels), new_generator(seed), dtype=torch.float64)


def table(samples: Tensor) -> Dataset:
    return Dataset(samples, tuple(Feature(f"x{i}", "MeV") for i in range(samples.shape[1])))


@pytest.mark.parametrize("groups", [[0], [0, 0], [0, 1], [0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1], [1, 0, 2, 0, 0]])
def test_a_bijection_with_the_determinant_of_its_jacobian(groups: list[int]) -> None:
    transform = EnergiesAndShares.fit(positive(100, len(groups)), torch.empty(100, 0), groups, incident=False)
    x = positive(5, len(groups), seed=1)
    torch.testing.assert_close(transform.inverse(transform(x)), x)
    for row, found in zip(x, transform.log_abs_det(x), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda y: transform(y[None])[0], row)
        assert found.item() == pytest.approx(jacobian.slogdet().logabsdet.item(), abs=1e-9)


@pytest.mark.parametrize("grid", [(8,), (8, 8), (5, 5, 5)])
def test_showers_there_and_back_with_empty_pixels(grid: tuple[int, ...]) -> None:
    whole = calorimeter(grid=grid, max_events=300)
    transform, data = TwoStepFlow.for_dataset(whole).transform, whole.train
    assert isinstance(transform, EnergiesAndShares)
    assert transform.n_groups == (5 if grid == (5, 5, 5) else 1)
    values = transform(data.samples, data.conditions)
    drawn = transform.noisy(values, data.conditions, new_generator(0))
    back = transform.inverse(drawn, data.conditions)
    # below the smallest energy of a pixel, what stands behind an all but empty one is lost
    torch.testing.assert_close(back, data.samples, rtol=1e-9, atol=0.0 if grid == (8, 8) else 1.5 * transform.smallest)
    torch.testing.assert_close(back.sum(1), data.samples.sum(1), rtol=0, atol=5 * transform.smallest)
    assert (drawn != values).any() == (data.samples == 0).any()
    again = Transform.from_spec(transform.spec())
    assert torch.equal(again(data.samples, data.conditions), values)


def test_any_numbers_are_a_shower_whose_energies_add_up() -> None:
    data = calorimeter(grid=(5, 5, 5), max_events=300)
    transform = TwoStepFlow.for_dataset(data).transform
    assert isinstance(transform, EnergiesAndShares)
    numbers = 3 * normal((200, 125), new_generator(0), dtype=torch.float64)
    condition = data.conditions[:200]
    showers = transform.inverse(numbers, condition)
    assert showers.isfinite().all()
    assert (showers >= 0).all()
    energies = transform.energies.inverse(numbers[:, :5], condition)
    torch.testing.assert_close(showers.reshape(200, 5, 25).sum(2), energies, rtol=1e-9, atol=transform.smallest)


def test_density_integrates_to_one() -> None:
    """Of two pixels, in their units, for untrained flows with a condition and pixels that are never empty."""
    rng = new_generator(0)
    samples = torch.exp(1 + 0.2 * normal((500, 2), rng, dtype=torch.float64))
    data = Dataset(samples, (Feature("a", "MeV"), Feature("b", "MeV")), samples[:, :1], (Feature("c"),))
    model = TwoStepFlow.for_dataset(data, hidden=(16,), bins=5, seed=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    x = torch.linspace(0.02, 16.02, 401, dtype=torch.float64)
    density = model.log_prob(torch.cartesian_prod(x, x), torch.tensor([2.7])).exp().reshape(401, 401)
    total = integrate.simpson(integrate.simpson(density.numpy(), x=x.numpy()), x=x.numpy())
    assert total == pytest.approx(1, abs=5e-3)


def test_learns_energy_and_shape() -> None:
    """The total is log-normal with 5 %, and two shares are normal around values that follow the total."""
    rng = new_generator(1)
    total = torch.exp(3 + 0.05 * normal((4000, 1), rng, dtype=torch.float64))
    first = 0.3 + 0.02 * normal((4000, 1), rng, dtype=torch.float64) + 0.5 * (total.log() - 3)
    data = table(total * torch.cat([first, 0.6 * (1 - first), 0.4 * (1 - first)], 1))
    model = TwoStepFlow.for_dataset(data, hidden=(32,), bins=6)
    fit(model, data, NLL(), steps=250, learning_rate=0.01)
    drawn = model.sample(4000, None, new_generator(0))
    sums = drawn.sum(1).log()
    assert sums.mean().item() == pytest.approx(3, abs=0.005)
    assert sums.std().item() == pytest.approx(0.05, rel=0.1)
    share = drawn[:, 0] / drawn.sum(1)
    slope = ((share - share.mean()) * (sums - sums.mean())).mean() / sums.var()
    assert slope.item() == pytest.approx(0.5, abs=0.1)
    ratio = drawn[:, 1] / (drawn[:, 1] + drawn[:, 2])
    assert ratio.mean().item() == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("target", [300, 1000, 5000])
@pytest.mark.parametrize("n_pixels", [2, 8])
def test_asked_for_size_is_reached(target: int, n_pixels: int) -> None:
    model = TwoStepFlow.for_dataset(table(positive(40, n_pixels)), n_parameters=target)
    assert model.n_parameters == pytest.approx(target, rel=0.1)


def test_sizes_that_cannot_be_reached_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^n_parameters is 300; the closest size of a TwoStepFlow with 1 features"):
        TwoStepFlow.for_dataset(table(positive(40, 1)), n_parameters=300)


def test_what_is_no_energy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'\w+' is -\d.*; a two-step flow needs energies, none negative$"):
        TwoStepFlow.for_dataset(muon_events(n=200, features=("energy", "muon_eta", "phi")))
    with pytest.raises(ValueError, match="^all showers are empty"):
        TwoStepFlow.for_dataset(table(torch.zeros(30, 2)))
    with pytest.raises(ValueError, match=r"^n_groups is 3; from 1 to the number of pixels, 2, is needed$"):
        TwoStepFlow(2, n_groups=3)
