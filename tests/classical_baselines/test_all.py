"""What every trained classical model must stand: awkward events, another precision, an interruption."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from qgen import Generator, fit
from qgen.data import load_calorimeter
from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset, Feature
from qgen.random import new_generator, normal
from qgen.registry import generator_class
from qgen.training import NLL, Adversarial, Objective, Own

calorimeter = cache(load_calorimeter)

KINDS = ("gan", "flow", "two_step_flow", "vae", "flow_matching", "autoregressive", "rbm", "bitflip")


def table(samples: torch.Tensor, conditions: torch.Tensor) -> Dataset:
    names = tuple(Feature(f"x{i}") for i in range(samples.shape[1]))
    return Dataset(samples, names, conditions, (Feature("c"),))


def numbers(n: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Positive ones, as a two-step flow needs them."""
    return normal((n, columns), new_generator(seed), dtype=torch.float64).abs() + 1


def showers(grid: tuple[int, ...]) -> CalorimeterDataset:
    """With a pixel that is always empty and a shower without any energy."""
    whole = calorimeter(grid=grid, max_events=200)
    samples = whole.samples.clone()
    samples[:, 3] = 0
    samples[5] = 0
    columns = samples, whole.features, whole.conditions, whole.condition_features
    return CalorimeterDataset(*columns, geometry=whole.geometry)


def constant() -> Dataset:
    samples = numbers(200, 3)
    samples[:, 1] = 4
    return table(samples, numbers(200, 1, seed=1))


AWKWARD = {
    "a single condition": lambda: table(numbers(200, 2), torch.full((200, 1), 7.0)),
    "a constant feature": constant,
    "few events": lambda: table(numbers(12, 2), numbers(12, 1, seed=1)),
    "values that repeat": lambda: table(numbers(200, 2).mul(2).round(), numbers(200, 1, seed=1)),
    "a dead pixel": lambda: showers((8,)),
    "a dead pixel in an image": lambda: showers((8, 8)),
}


def objective(model: Generator) -> Objective:
    if model.has_own_loss:
        return Own()
    return NLL() if model.has_log_prob else Adversarial(discriminator={"kind": "mlp", "spectral_norm": True})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_events_are_learned(kind: str, name: str) -> None:
    learns(kind, AWKWARD[name](), torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_in_single_precision_too(kind: str) -> None:
    learns(kind, showers((8,)), torch.float32)


def learns(kind: str, data: Dataset, precision: torch.dtype) -> None:
    model = generator_class(kind).for_dataset(data).to(precision)
    result = fit(model, data, objective(model), steps=2, batch_size=32, learning_rate=1e-3)
    assert result.steps == 2
    assert all(p.dtype == precision for p in model.parameters())
    c = data.train.conditions[:50]
    samples = model.sample(len(c), c, new_generator(0))
    assert samples.dtype == torch.float64
    assert samples.isfinite().all()
    if model.has_log_prob:
        assert model.log_prob(samples, c).isfinite().all()


@pytest.mark.parametrize("grid", [(8,), (8, 8), (2, 2, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_that_is_empty_in_all_of_training_stays_empty(kind: str, grid: tuple[int, ...]) -> None:
    """And so does a dead layer, where an image has layers."""
    data = showers(grid)
    dead = [3]
    if len(grid) == 3:
        dead = list(range(8))
        data.samples[:, dead] = 0
    model = generator_class(kind).for_dataset(data)
    c = data.train.conditions[:100]
    samples = torch.cat([model.sample(len(c), c, new_generator(k)) for k in range(5)])  # before training: wide draws
    assert (samples[:, dead] == 0).all()
    assert (samples > 0).any()
    if model.has_log_prob:
        hit = samples[:4].clone()
        hit[:2, dead[-1]] = 10.0
        assert model.log_prob(hit, c[:4]).isneginf().tolist() == [True, True, False, False]


@pytest.mark.parametrize("kind", ["autoregressive", "rbm", "bitflip"])
def test_what_never_changes_takes_no_bits(kind: str) -> None:
    data = constant()
    model: Any = generator_class(kind).for_dataset(data, bits=2)
    assert model.discretiser.bits == (2, 0, 2)
    c = data.conditions[:50]
    samples = model.sample(50, c, new_generator(0))
    torch.testing.assert_close(samples[:, 1], torch.full((50,), 4.0).double(), rtol=0, atol=1e-6)
    nothing = table(torch.ones(50, 2), numbers(50, 1))
    with pytest.raises(ValueError, match=r"^all features are constant; there is nothing to cut into cells$"):
        generator_class(kind).for_dataset(nothing)


class Interruption(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    data = calorimeter(grid=(8,), max_events=200)
    settings: dict[str, Any] = {"steps": 4, "batch_size": 32, "learning_rate": 1e-2, "keep": "last", "log_every": 1}

    def build() -> Generator:
        options = {"conditional": False} if kind == "rbm" else {}  # whose chains then go on from step to step
        return generator_class(kind).for_dataset(data, seed=1, **options)

    def stop(record: dict[str, float]) -> None:
        if record["step"] == 3:
            raise Interruption

    whole, first, second = build(), build(), build()
    fit(whole, data, objective(whole), **settings)
    checkpoint: dict[str, Any] = {"checkpoint": tmp_path / "state", "checkpoint_every": 2}
    with pytest.raises(Interruption):
        fit(first, data, objective(first), **settings, **checkpoint, callback=stop)
    fit(second, data, objective(second), **settings, **checkpoint)
    found = second.state_dict()
    assert all(torch.equal(a.nan_to_num(), found[name].nan_to_num()) for name, a in whole.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_closest_size_that_is_too_far_is_one_line(kind: str) -> None:
    with pytest.raises(
        ValueError, match=r"^n_parameters is 1; the closest size of an? .* parameters \(a .* allowed\)$"
    ):
        generator_class(kind).for_dataset(table(numbers(40, 4), numbers(40, 1)), n_parameters=1)
