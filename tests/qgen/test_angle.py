from __future__ import annotations

import math
import time

import pennylane as qml
import pytest
import torch

from circuits.backends import DensityMatrix, PennyLane, Sampled, Statevector, Trajectories
from qgen import fit
from qgen.data import load_calorimeter, muon_events
from qgen.models import AngleGenerator
from qgen.random import new_generator
from qgen.training import MMD, Adversarial, Mixture


@pytest.fixture
def rng():
    return new_generator(0)


PAIRS = {
    4: [(0, 2), (0, 1), (2, 3), (1, 2)],
    8: [(0, 4), (0, 2), (4, 6), (2, 4), (0, 1), (2, 3), (4, 5), (6, 7), (1, 2), (3, 4), (5, 6)],
}


@pytest.fixture(scope="module")
def showers():
    return load_calorimeter(max_events=600)


def unit(n, **options):
    return AngleGenerator([0.0] * n, [1.0] * n, **options)


def transcribed(model, z, condition, device="default.qubit", noise=0.0):
    """Expectation values of the documented circuit, written for PennyLane from the weights' names alone."""
    n, layers, pairs = model.n_features, model.layers, PAIRS[model.n_features]
    weights, slopes = model.weights.detach(), model.latent_slopes.detach()
    blocks = weights[: layers * 2 * len(pairs)].reshape(layers, len(pairs), 2)

    def turn(angle, wire):
        qml.RY(float(angle), wires=wire)
        if noise:
            qml.DepolarizingChannel(0.75 * noise, wires=wire)

    @qml.qnode(qml.device(device, wires=n))
    def node(z, c):
        for layer in range(layers):
            if layer < len(slopes):
                for wire in range(n):
                    angle = slopes[layer, wire] * z[wire]
                    if c is not None:
                        angle = angle + (model.condition_slopes.detach()[layer, wire] * c).sum()
                    turn(angle, wire)
            for k, (a, b) in enumerate(pairs):
                turn(blocks[layer, k, 0], a)
                turn(blocks[layer, k, 1], b)
                qml.CNOT(wires=(a, b))
        for wire in range(n):
            turn(weights[-n + wire], wire)
        return [qml.expval(qml.Z(wire)) for wire in range(n)]

    conditions = [None] * len(z) if condition is None else condition
    rows = [torch.stack([torch.as_tensor(e) for e in node(*pair)]) for pair in zip(z, conditions, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("n", "layers", "reupload", "conditions"), [(8, 1, True, 0), (8, 2, True, 1), (4, 2, False, 2)]
)
def test_outputs_are_those_of_pennylane(n, layers, reupload, conditions, rng):
    model = unit(n, n_conditions=conditions, layers=layers, reupload=reupload, initial_range=1.0, seed=3)
    z = model.latent(3, rng)
    c = torch.randn(3, conditions, generator=rng, dtype=torch.float64) if conditions else None
    expected = transcribed(model, z, c)
    found = model.expectations(z, c, rng)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    intensity = torch.acos(expected) / math.pi
    assert bool(((model.read(found) - intensity).abs() < 0.0113).all())


def test_noisy_outputs_are_those_of_pennylane(rng):
    model = unit(4, layers=1, initial_range=1.0)
    model.backend = DensityMatrix({"depolarizing": {"one_qubit": 0.05}, "readout": 0.02})
    z = model.latent(2, rng)
    expected = 0.96 * transcribed(model, z, None, "default.mixed", noise=0.05)
    torch.testing.assert_close(model.expectations(z, None, rng), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layers": 1}, 22 + 8 + 8),
        ({"layers": 2}, 44 + 8 + 16),
        ({"layers": 2, "reupload": False}, 44 + 8 + 8),
        ({"layers": 2, "latent_size": 3}, 44 + 8 + 6),
        ({"layers": 2, "latent_size": 12}, 44 + 8 + 24),
        ({"layers": 2, "n_conditions": 1}, 44 + 8 + 16 + 16),
    ],
)
def test_number_of_parameters(options, expected):
    model = unit(8, **options)
    assert model.n_parameters == expected
    model._sample(4, torch.ones(4, 1) if model.n_conditions else None, new_generator(0)).square().sum().backward()
    assert all(bool((p.grad != 0).all()) for p in model.parameters())


def test_intensities_are_angles_with_finite_slopes():
    model = unit(1)
    z = torch.linspace(-1, 1, 2001, dtype=torch.float64, requires_grad=True)
    intensity = model.intensity(z)
    (slope,) = torch.autograd.grad(intensity.sum(), z)
    assert intensity[[0, 1000, 2000]].tolist() == pytest.approx([1.0, 0.5, 0.0], abs=1e-12)
    assert bool(slope.isfinite().all())
    assert 7.3 < float(slope.abs().max()) < 7.4
    assert float((intensity - torch.acos(z) / math.pi).detach().abs().max()) < 0.0113
    assert model.intensity(torch.tensor([1.2, -1.2], dtype=torch.float64)).tolist() == pytest.approx([0, 1], abs=1e-12)


def test_gradients_stay_finite_at_the_ends():
    """Without any angle every qubit is in its ground state, where the arc cosine has no slope."""
    model = unit(4, layers=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    events = model._sample(5, None, new_generator(0))
    assert torch.equal(events, torch.zeros_like(events))
    events.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_gradients_are_right(rng):
    model = unit(4, n_conditions=1, layers=2)
    z, c = model.latent(2, rng), torch.ones(2, 1, dtype=torch.float64)

    def events(weights, slopes):
        values = {"weights": weights, "latent_slopes": slopes}
        return torch.func.functional_call(_Events(model), {f"model.{k}": v for k, v in values.items()}, (z, c))

    inputs = (model.weights.detach().requires_grad_(), model.latent_slopes.detach().requires_grad_())
    assert torch.autograd.gradcheck(events, inputs)


class _Events(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, z, c):
        return self.model.read(self.model.expectations(z, c, new_generator(0)))


def test_events_fill_the_range_of_training(showers):
    model = AngleGenerator.for_dataset(showers, tails=0.01)
    train = showers.train
    values = showers.transform(train.samples, train.conditions).sort(0).values
    cut = int(0.01 * len(values))
    assert torch.equal(model.low, values[cut])
    assert torch.equal(model.high, values[-1 - cut])
    events = model._sample(500, torch.zeros(500, 1), new_generator(0))
    assert bool(((events >= model.low) & (events <= model.high)).all())


def test_a_hundred_thousand_events_of_eight_pixels(showers):
    model = AngleGenerator.for_dataset(showers)
    started = time.process_time()
    samples = model.sample(100_000, showers.conditions[0], new_generator(0))
    assert time.process_time() - started < 10
    assert samples.shape == (100_000, 8)
    assert bool((samples >= 0).all())


def test_every_kind_of_backend_gives_the_same_up_to_its_errors(rng):
    model = unit(4, layers=1)
    z = model.latent(3, new_generator(1))
    exact = _on(model, None, z)
    noise = {"depolarizing": 0.02, "readout": 0.01}
    noisy = _on(model, DensityMatrix(noise), z)
    assert float((exact - noisy).abs().max()) > 0.01
    for backend, expected, error in (
        (DensityMatrix(), exact, 1e-12),
        (PennyLane(), exact, 1e-10),
        (Sampled(Statevector(), 4000, generator=rng), exact, 0.1),
        (Trajectories(noise, n_trajectories=2000, generator=rng), noisy, 0.15),
    ):
        assert float((_on(model, backend, z) - expected).abs().max()) < error, backend.name
        samples = model.sample(5, generator=new_generator(2))
        assert torch.equal(samples, model.sample(5, generator=new_generator(2)))
    model.backend = None
    assert model.shots is None


def _on(model, backend, z):
    model.backend = backend
    with torch.no_grad():
        return model.expectations(z, None, new_generator(5))


@pytest.mark.parametrize(
    "objective",
    [MMD(), Mixture([{"kind": "mmd"}, {"kind": "correlation", "weight": 0.1}]), Adversarial()],
    ids=["mmd", "mixture", "adversarial"],
)
def test_it_trains(showers, objective):
    model = AngleGenerator.for_dataset(showers, layers=1)
    test = showers.validation
    truth = showers.transform(test.samples, test.conditions)

    def distance():
        values = model._sample(len(truth), showers.condition_transform(test.conditions), new_generator(0)).detach()
        return float((values.sort(0).values - truth.sort(0).values).abs().mean())

    before = distance()
    fit(model, showers, objective, steps=80, batch_size=128, learning_rate=0.05, keep="last")
    assert distance() < 0.8 * before


def test_muon_events_and_other_numbers_of_pixels():
    muon = muon_events(n=300)
    model = AngleGenerator.for_dataset(muon, layers=1)
    assert model.sample(7, muon.conditions[0], new_generator(0)).shape == (7, muon.n_features)
    for n in (1, 5, 16):
        assert unit(n, layers=1).sample(2, generator=new_generator(0)).shape == (2, n)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AngleGenerator([0.0], [1.0, 2.0]), "low has 1 values, high has 2"),
        (lambda: AngleGenerator([0.0, 1.0], [1.0, 1.0]), "range of feature 1 is 1.0 to 1.0"),
        (lambda: unit(2, layers=0), "layers is 0, latent_size is 2; both must be at least 1"),
        (lambda: unit(2, latent_size=0), "layers is 2, latent_size is 0"),
        (lambda: unit(2, initial_range=0.0), "initial_range is 0.0; a positive, finite angle"),
    ],
)
def test_faults(make, message):
    with pytest.raises(ValueError, match="^[^\n]+$") as caught:
        make()
    assert str(caught.value).startswith(message)
