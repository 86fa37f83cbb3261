from __future__ import annotations

import time

import pennylane as qml
import pytest
import torch

from circuits.backends import DensityMatrix, Sampled, Statevector
from qgen.data import load_calorimeter
from qgen.models import FullyQuantumGenerator
from qgen.random import new_generator


@pytest.fixture
def rng():
    return new_generator(0)


def unit(n, **options):
    return FullyQuantumGenerator([0.0] * n, [1.0] * n, **options)


def transcribed(model, z):
    """Probabilities of 1 of the documented circuit, written for PennyLane."""
    n, layers = model.n_features, model.layers
    weights = model.weights.detach().reshape(layers + 1, n)
    slopes = model.latent_slopes.detach()

    @qml.qnode(qml.device("default.qubit", wires=n))
    def node(z):
        for layer in range(layers):
            qml.AngleEmbedding(slopes[layer] * z, wires=range(n), rotation="Y")
            qml.AngleEmbedding(weights[layer], wires=range(n), rotation="Y")
            for wire in range(n):
                qml.CZ(wires=(wire, (wire + 1) % n))
        qml.AngleEmbedding(weights[layers], wires=range(n), rotation="Y")
        return [qml.probs(wires=wire) for wire in range(n)]

    return torch.stack([torch.stack([torch.as_tensor(p)[1] for p in node(row)]) for row in z])


@pytest.mark.parametrize(("n", "layers"), [(8, 2), (5, 3)])
def test_events_are_pennylanes_probabilities(n, layers, rng):
    model = unit(n, layers=layers, initial_range=1.0, seed=3)
    z = model.latent(3, rng)
    found = model.read(model.expectations(z, None, rng))
    torch.testing.assert_close(found, transcribed(model, z), rtol=0, atol=1e-12)


def test_number_of_parameters():
    assert unit(8, layers=3).n_parameters == 3 * 8 + 8 + 3 * 8
    assert unit(8, layers=3, n_conditions=1).n_parameters == 3 * 8 + 8 + 3 * 8 + 3 * 8


def test_gradients_are_right(rng):
    model = unit(3, layers=2)
    angles = model.angles(model.latent(2, rng)).detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a: model.read(model.backend.expval(model.circuit, a, model.observables)), (angles,)
    )


def test_intensities_are_probabilities():
    model = unit(2)
    z = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    assert model.intensity(z).tolist() == [0.0, 0.5, 1.0]


def test_shots_and_noise(rng):
    model = unit(4, layers=2)
    z = model.latent(3, rng)
    exact = model.expectations(z, None, rng)
    model.backend = DensityMatrix({"readout": 0.05})
    torch.testing.assert_close(model.expectations(z, None, rng), 0.9 * exact, rtol=0, atol=1e-10)
    model.backend = Sampled(Statevector(), 4000, generator=rng)
    assert float((model.expectations(z, None, rng) - exact).detach().abs().max()) < 0.1


def test_a_hundred_thousand_events_of_eight_pixels():
    showers = load_calorimeter(max_events=200)
    model = FullyQuantumGenerator.for_dataset(showers)
    started = time.process_time()
    assert model.sample(100_000, showers.conditions[0], new_generator(0)).shape == (100_000, 8)
    assert time.process_time() - started < 10
