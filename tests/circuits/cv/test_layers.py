from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
import torch

from circuits.cv import Fock
from circuits.cv.layers import CVNeuralNetworkLayers


def _random(layers, generator, size=0.3):
    return [torch.randn(shape, generator=generator, dtype=torch.float64) * size for shape in layers.shapes]


def _decomposed(operation):
    for part in operation.decomposition():
        if part.name == "Interferometer":
            yield from _decomposed(part)
        else:
            yield part.name, part.wires.tolist(), [float(value) for value in part.parameters]


@pytest.mark.parametrize("n_modes", [1, 2, 3, 4])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_gates_are_those_of_pennylane(n_modes, n_layers, rng):
    layers = CVNeuralNetworkLayers(n_layers, n_modes)
    assert layers.shapes == qml.CVNeuralNetLayers.shape(n_layers, n_modes)
    weights = _random(layers, rng)
    ours = layers.program.bind(layers.flatten(*weights))
    theirs = list(_decomposed(qml.CVNeuralNetLayers(*weights, wires=range(n_modes))))
    found = [(gate.name, list(gate.modes), [slot.offset for slot in gate.parameters]) for gate in ours.gates]
    assert found == theirs


def test_quadratures_are_those_of_default_gaussian(rng):
    layers = CVNeuralNetworkLayers(2, 2)
    weights = _random(layers, rng, 0.15)
    weights[-1] = torch.zeros_like(weights[-1])
    theirs = list(_decomposed(qml.CVNeuralNetLayers(*weights, wires=[0, 1])))

    @qml.qnode(qml.device("default.gaussian", wires=2))
    def node(measure, wire):
        for name, wires, values in theirs:
            if name != "Kerr":
                getattr(qml, name)(*values, wires=wires)
        return measure(qml.QuadX(wire))

    means, variances = Fock(24).run(layers.program, layers.flatten(*weights)).quadratures()
    np.testing.assert_allclose(means, [node(qml.expval, wire) for wire in range(2)], atol=1e-8)
    np.testing.assert_allclose(variances, [node(qml.var, wire) for wire in range(2)], atol=1e-8)


def test_mesh_of_the_interferometers():
    bent = CVNeuralNetworkLayers(1, 4, mesh="triangular").program
    assert [gate.modes for gate in bent.gates[:3]] == [(2, 3), (1, 2), (0, 1)]
    with pytest.raises(ValueError, match="mesh is 'round'"):
        CVNeuralNetworkLayers(1, 2, mesh="round")


def test_flatten_and_split(rng):
    layers = CVNeuralNetworkLayers(2, 3)
    weights = [
        torch.randn(5, *shape, generator=rng, dtype=torch.float64, requires_grad=True) for shape in layers.shapes
    ]
    flat = layers.flatten(*weights)
    assert flat.shape == (5, layers.program.n_parameters)
    for weight, back in zip(weights, layers.split(flat), strict=True):
        assert torch.equal(weight, back)
    flat.sum().backward()
    assert all(bool((weight.grad == 1).all()) for weight in weights)
    with pytest.raises(ValueError, match="10 weights are given; 11 are needed"):
        layers.flatten(*weights[:10])
    with pytest.raises(ValueError, match=r"phi_1 is of shape \(5, 2, 3, 1\); \(5, 2, 3\) is needed"):
        layers.flatten(weights[0], weights[1][..., None], *weights[2:])


def test_a_vector_of_another_length_is_not_split():
    with pytest.raises(ValueError, match=r"parameters are of shape \(5,\); \(..., 18\) is needed"):
        CVNeuralNetworkLayers(1, 2).split(torch.zeros(5))


def test_initial_weights():
    layers = CVNeuralNetworkLayers(40, 4)
    weights = layers.initial(torch.Generator().manual_seed(3), active=0.02, passive=0.5)
    again = layers.initial(torch.Generator().manual_seed(3), active=0.02, passive=0.5)
    for number, (weight, same) in enumerate(zip(weights, again, strict=True)):
        assert torch.equal(weight, same)
        assert weight.std() == pytest.approx(0.02 if number in (3, 8, 10) else 0.5, rel=0.2)
    with pytest.raises(ValueError, match="passive is nan"):
        layers.initial(passive=float("nan"))


@pytest.mark.parametrize(("numbers", "field"), [((0, 2), "n_layers"), ((1, 0), "n_modes"), ((1.5, 2), "n_layers")])
def test_sizes_are_checked(numbers, field):
    with pytest.raises(ValueError, match=f"{field} is"):
        CVNeuralNetworkLayers(*numbers)
