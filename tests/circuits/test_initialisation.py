from __future__ import annotations

import math

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from circuits import Circuit, Gate, ansatz
from circuits.ansatz_identity import identity_blocks, mirrored
from circuits.backends import Statevector
from circuits.initialisation import INITIALISATIONS, initial_angles
from random_circuits import random_circuits


def _matrix(circuit, angles):
    function = circuit.to_pennylane()
    return torch.as_tensor(qml.matrix(function, wire_order=range(circuit.n_wires))(angles))


def test_each_block_is_the_identity_as_pennylane_has_it(rng):
    blocks, shape = 2, (2, 2, 3, 3, 2)
    circuit = identity_blocks(3, 2, block_layers=2, topology="ring")
    assert circuit.n_angles == math.prod(shape)
    angles = initial_angles("identity", circuit, rng).reshape(shape)
    one = identity_blocks(3, 1, block_layers=2, topology="ring")
    for block in range(blocks):
        assert angles[block].abs().min() > 1e-4
        torch.testing.assert_close(_matrix(one, angles[block].flatten()), torch.eye(8, dtype=torch.complex128))
    half = ansatz.hardware_efficient(3, 2, topology="ring", final_rotations=True)
    matrices = [_matrix(half, angles[0, side].flatten()) for side in (0, 1)]
    assert (matrices[0] - torch.eye(8)).abs().max() > 0.1
    torch.testing.assert_close(_matrix(one, angles[0].flatten()), matrices[1].mH @ matrices[0])


def test_the_halves_of_a_block_train_apart(rng):
    circuit = identity_blocks(2, 1)
    angles = initial_angles("uniform", circuit, rng)
    half = ansatz.hardware_efficient(2, 1, final_rotations=True)
    first, second = angles.reshape(2, -1)
    expected = _matrix(half, second).mH @ _matrix(half, first)
    torch.testing.assert_close(_matrix(circuit, angles), expected)


@settings(deadline=None, max_examples=50)
@given(part=random_circuits(max_wires=3, max_gates=8), seed=st.integers(0, 99))
def test_any_part_and_its_mirror_image_make_the_identity(part, seed):
    circuit = mirrored(part)
    angles = initial_angles("identity", circuit, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(Statevector().state(circuit, angles)[0].abs(), torch.tensor(1.0, dtype=torch.float64))


def test_fixed_gates_beside_the_mirrored_parts_stay(rng):
    """A Hadamard gate on each wire, then the identity: every basis state is as probable as any other."""
    first = Circuit(3, [Gate("H", wire) for wire in range(3)])
    circuit = first + identity_blocks(3, 2)
    found = Statevector().probs(circuit, initial_angles("identity", circuit, rng))
    torch.testing.assert_close(found, torch.full((8,), 1 / 8, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "size", "distribution"),
    [
        ("uniform", None, stats.uniform(-math.pi, 2 * math.pi)),
        ("uniform", 0.2, stats.uniform(-0.2, 0.4)),
        ("small-angle", None, stats.norm(0, 0.1)),
        ("small-angle", 0.3, stats.norm(0, 0.3)),
    ],
)
def test_angles_have_the_distribution_of_their_name(name, size, distribution, rng):
    angles = initial_angles(name, ansatz.hardware_efficient(10, 100), rng, size)
    assert angles.shape == (2000,)
    assert stats.kstest(angles.numpy(), distribution.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_the_generator_fixes_the_angles(name):
    circuit = identity_blocks(3, 2)
    draws = [initial_angles(name, circuit, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2]) == (name == "zeros")
    assert draws[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("identiy", ansatz.hardware_efficient(2, 1)), "initialisation is 'identiy'; allowed are uniform, small-angle"),
        (("uniform", ansatz.hardware_efficient(2, 1), 0.0), "bound is 0.0; a positive"),
        (("small-angle", ansatz.hardware_efficient(2, 1), math.inf), "scale is inf; a positive"),
        (("zeros", ansatz.hardware_efficient(2, 1), 1.0), "zeros has no size"),
        (("identity", ansatz.hardware_efficient(2, 1)), r"needs a circuit of parts .*; RY\(a0\) \[0\] is not undone"),
        (("identity", Circuit(1, [Gate("RY", 0, [0]), Gate("RY", 0, [1])])), "is not undone"),
        (("identity", Circuit(1, [Gate("RY", 0, [0]), Gate("RY", 0, [-0.4])])), "is not undone"),
    ],
)
def test_mistakes_are_one_line(arguments, line, rng):
    name, circuit, *size = arguments
    with pytest.raises(ValueError, match=line):
        initial_angles(name, circuit, rng, *size)


@pytest.mark.parametrize(
    ("n_layers", "block_layers", "line"),
    [(0, 1, "n_layers is 0"), (True, 1, "n_layers is True"), (2, 0, "block_layers is 0"), (2.0, 1, "n_layers is 2.0")],
)
def test_impossible_blocks_are_named(n_layers, block_layers, line):
    with pytest.raises(ValueError, match=line):
        identity_blocks(3, n_layers, block_layers)
