from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from scipy import stats
from torch import Tensor

from classical_baselines import ConditionalFlow
from classical_baselines.filled import WIDTH, Filled, continuous
from qgen import fit
from qgen.data import load_calorimeter
from qgen.data.calorimeter import CalorimeterDataset, Normalisation
from qgen.data.dataset import Dataset, Feature
from qgen.data.transforms import Log, Transform
from qgen.generator import Generator
from qgen.random import new_generator, normal
from qgen.training import NLL
from qgen.training.objectives import Batch

THRESHOLD = 0.02
"""MeV, below which the installed sample has no energies."""


@pytest.fixture(scope="module")
def images() -> CalorimeterDataset:
    return load_calorimeter(grid=(8, 8), max_events=600)


def fitted(images: CalorimeterDataset) -> Filled:
    transform = continuous(images)
    assert isinstance(transform, Filled)
    return transform


@pytest.mark.parametrize("normalisation", get_args(Normalisation))
def test_there_and_back_with_every_draw_of_the_noise(normalisation: Normalisation) -> None:
    whole = load_calorimeter(grid=(8, 8), max_events=300, normalisation=normalisation)
    transform, data = fitted(whole), whole.train  # a pixel that is never empty there is not filled
    values = transform(data.samples, data.conditions)
    for seed in range(3):
        drawn = transform.noisy(values, data.conditions, new_generator(seed))
        torch.testing.assert_close(transform.inverse(drawn, data.conditions), data.samples, rtol=1e-9, atol=1e-9)
        assert ((drawn != values) == (data.samples == 0)).all()
        again = transform.noisy(drawn, data.conditions, new_generator(9))  # noise on noise is noise
        assert ((again != values) == (data.samples == 0)).all()


def test_what_is_empty_lies_below_what_is_not(images: CalorimeterDataset) -> None:
    transform = fitted(images)
    values = transform.noisy(transform(images.samples, images.conditions), images.conditions, new_generator(0))
    edge = transform(transform.threshold.clamp_min(THRESHOLD).expand_as(values), images.conditions)
    can_be_empty = (images.samples == 0).any(0) & (images.train.samples == 0).any(0)
    empty = (images.samples == 0) & can_be_empty
    assert (values[empty] < edge[empty]).all()
    assert (values[~empty] >= edge[~empty] - 1e-9).all()


def test_training_values_are_standardised(images: CalorimeterDataset) -> None:
    transform = fitted(images)
    train = images.train
    values = transform.noisy(transform(train.samples, train.conditions), train.conditions, new_generator(5))
    torch.testing.assert_close(values.mean(0), torch.zeros(64, dtype=torch.float64), atol=0.15, rtol=0)
    torch.testing.assert_close(values.std(0), torch.ones(64, dtype=torch.float64), atol=0.15, rtol=0)


def test_the_noise_is_the_length_of_a_normal_vector() -> None:
    """Against scipy's Maxwell distribution."""
    samples = torch.cat([torch.zeros(20_000, 1), torch.linspace(1, 3, 2000)[:, None]]).double()
    transform = Filled.fit(Log([1.0]), samples, torch.empty(len(samples), 0))
    drawn = transform.unscaled(transform.noisy(transform(samples), None, new_generator(1)))[:20_000]
    below = torch.log1p(torch.ones((), dtype=torch.float64)) - drawn
    width = WIDTH * torch.log1p(samples).std(correction=0)
    assert stats.kstest((below / width)[:, 0].numpy(), stats.maxwell.cdf).pvalue > 0.01
    at_rest = transform.unscaled(transform(samples))[0]
    assert (torch.log1p(torch.ones(1)) - at_rest).item() / width.item() == pytest.approx(stats.maxwell.median())


def test_log_abs_det_is_that_of_the_jacobian(images: CalorimeterDataset) -> None:
    transform = fitted(images)
    for row in range(3):
        c = images.conditions[row : row + 1]
        full = images.samples[row].clamp_min(2 * THRESHOLD)

        def forward(x: Tensor, c: Tensor = c) -> Tensor:
            return transform(x[None], c)[0]

        jacobian = torch.autograd.functional.jacobian(forward, full)
        assert transform.log_abs_det(full[None], c).item() == pytest.approx(jacobian.slogdet().logabsdet.item())


def test_events_that_are_never_empty_keep_their_transform() -> None:
    data = load_calorimeter(grid=(2,), max_events=300)
    assert (data.samples > 0).all()
    assert continuous(data) is data.transform
    table = Dataset(torch.zeros(20, 1), (Feature("x"),))
    assert continuous(table) is table.transform


def test_saved_and_restored(images: CalorimeterDataset) -> None:
    transform = fitted(images)
    again = Transform.from_spec(transform.spec())
    assert torch.equal(again(images.samples, images.conditions), transform(images.samples, images.conditions))


def test_columns_without_energy_and_constant_columns() -> None:
    samples = torch.zeros(50, 3, dtype=torch.float64)
    samples[:, 1] = 4.0
    samples[::2, 2] = 1 + normal((25,), new_generator(0), dtype=torch.float64).abs()
    transform = Filled.fit(Log([1.0, 1.0, 1.0]), samples, torch.empty(50, 0))
    values = transform.noisy(transform(samples), None, new_generator(1))
    assert values.isfinite().all()
    torch.testing.assert_close(transform.inverse(values), samples)


def test_a_dead_pixel_stays_empty_wherever_its_number_lies(images: CalorimeterDataset) -> None:
    samples = images.samples.clone()
    samples[:, 3] = 0
    data = replace(images, samples=samples)
    transform = fitted(data)
    assert transform.dead.nonzero().flatten().tolist() == [3]
    numbers = 3 * normal((200, 64), new_generator(0), dtype=torch.float64)
    drawn = transform.inverse(numbers, data.conditions[:200])
    assert (drawn[:, 3] == 0).all()
    assert (drawn[:, 4] > 0).any()
    hit = samples[:5].clone()
    hit[:2, 3] = 1.0
    condition = data.conditions[:5]
    torch.testing.assert_close(transform(hit, condition), transform(samples[:5], condition))
    assert transform.log_abs_det(hit, condition).isneginf().tolist() == [True, True, False, False, False]


def test_every_step_of_a_training_draws_the_noise_anew(images: CalorimeterDataset) -> None:
    seen = []

    class Watched(NLL):
        def loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
            seen.append(batch.values)
            return super().loss(generator, batch, rng)

    model = ConditionalFlow.for_dataset(images, hidden=(4,), transforms=1, bins=2)
    fit(model, images, Watched(), steps=2, batch_size=None, keep="last")
    first, second, validation = seen
    empty = images.train.samples == 0
    filled = empty & (model.transform(images.train.samples, images.train.conditions) != first)
    assert filled.sum() > 0.99 * empty.sum()
    assert (first[filled] != second[filled]).all()
    assert torch.equal(first[~empty], second[~empty])
    assert len(validation) == len(images.validation)


def test_a_flow_learns_how_often_pixels_are_empty() -> None:
    """Empty more often at low energy, and both pixels together: seen in the share of empty pixels that are drawn."""
    rng = new_generator(4)
    energy = 10_000 + 40_000 * torch.rand((4000, 1), generator=rng, dtype=torch.float64)
    both = normal((4000, 1), rng, dtype=torch.float64) + (energy - 30_000) / 15_000
    own = normal((4000, 2), rng, dtype=torch.float64)
    samples = torch.where(both + 0.3 * own > 0, 5 * torch.exp(0.3 * own), 0.0)
    base = load_calorimeter(grid=(2,), max_events=4000)
    data = CalorimeterDataset(samples, base.features, energy, base.condition_features, geometry=base.geometry)
    model = ConditionalFlow.for_dataset(data, hidden=(32,))
    fit(model, data, NLL(), steps=250, learning_rate=0.01)
    drawn = model.sample(4000, energy, new_generator(0))
    low = energy[:, 0] < 25_000
    for part in (low, ~low):
        for wanted, found in (((samples == 0), (drawn == 0)), ((samples == 0).all(1), (drawn == 0).all(1))):
            assert found[part].double().mean().item() == pytest.approx(wanted[part].double().mean().item(), abs=0.06)
