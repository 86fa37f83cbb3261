from __future__ import annotations

import numpy as np
import pennylane as qml
import piquasso as pq
import pytest
import torch
from scipy.stats import unitary_group

from circuits.cv import meshes
from circuits.cv.program import Program

KINDS = ("rectangular", "triangular")


def _tape(operation):
    with qml.queuing.AnnotatedQueue():
        return [(op.name, op.wires.tolist(), [float(p) for p in op.parameters]) for op in operation.decomposition()]


def _unitary(program):
    """How the annihilation operators map, from PennyLane's own Heisenberg pictures of the gates."""
    n_modes = program.n_modes
    total = np.eye(n_modes, dtype=complex)
    for gate in program.gates:
        operation = getattr(qml, gate.name)(*(slot.offset for slot in gate.parameters), wires=gate.modes)
        real = operation._heisenberg_rep([slot.offset for slot in gate.parameters])
        block = real[1::2, 1::2] + 1j * real[2::2, 1::2]  # x -> Re x + ..., p -> Im x + ...
        full = np.eye(n_modes, dtype=complex)
        full[np.ix_(gate.modes, gate.modes)] = block
        total = full @ total
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_modes", [1, 2, 3, 4, 5, 6])
def test_mesh_is_pennylanes(kind, n_modes, rng):
    shapes = qml.Interferometer.shape(n_modes)
    weights = [torch.rand(shape, generator=rng, dtype=torch.float64) * 6 - 3 for shape in shapes]
    theirs = _tape(qml.Interferometer(*weights, wires=range(n_modes), mesh=kind))
    ours = getattr(meshes, kind)(n_modes).bind(torch.cat(weights))
    assert [(gate.name, list(gate.modes)) for gate in ours.gates] == [found[:2] for found in theirs]
    assert [[slot.offset for slot in gate.parameters] for gate in ours.gates] == [found[2] for found in theirs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_modes", [1, 2, 3, 4, 5, 8])
def test_decompose_gives_the_unitary_back(kind, n_modes):
    for seed in range(4):
        unitary = unitary_group.rvs(n_modes, random_state=seed) if n_modes > 1 else np.array([[np.exp(1j * seed)]])
        program = meshes.mesh(n_modes, kind).bind(torch.cat(meshes.decompose(unitary, kind)))
        np.testing.assert_allclose(_unitary(program), unitary, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "matrix", [np.eye(4), -np.eye(3), np.eye(4)[::-1], np.fft.fft(np.eye(5)) / np.sqrt(5), np.roll(np.eye(3), 1, 0)]
)
def test_matrices_with_zeros(kind, matrix):
    program = Program(len(matrix), meshes.interferometer(torch.as_tensor(matrix.copy()), kind=kind))
    np.testing.assert_allclose(_unitary(program), matrix, atol=1e-12)


def test_meaning_of_the_unitary():
    """As PennyLane's Heisenberg representation has it, and as piquasso runs it.

    ``default.gaussian`` runs InterferometerUnitary with a matrix in xpxp order on means in xxpp order, so it is no
    reference.
    """
    unitary = unitary_group.rvs(3, random_state=7)
    gates = meshes.interferometer(unitary)
    start = [pq.Vacuum()] + [pq.Displacement(r=0.3 + 0.2 * m, phi=0.7 * m).on_modes(m) for m in range(3)]
    simulator = pq.GaussianSimulator(d=3)
    direct = simulator.execute(pq.Program([*start, pq.Interferometer(unitary).on_modes(0, 1, 2)])).state
    names = {"Beamsplitter": pq.Beamsplitter, "Rotation": pq.Phaseshifter}
    mesh = [names[gate.name](*(slot.offset for slot in gate.parameters)).on_modes(*gate.modes) for gate in gates]
    np.testing.assert_allclose(
        simulator.execute(pq.Program([*start, *mesh])).state.mean_photon_number(), direct.mean_photon_number()
    )
    np.testing.assert_allclose(
        simulator.execute(pq.Program([*start, *mesh])).state.xpxp_mean_vector, direct.xpxp_mean_vector, atol=1e-12
    )
    real = qml.InterferometerUnitary._heisenberg_rep([unitary])
    np.testing.assert_allclose(_unitary(Program(3, gates)), real[1::2, 1::2] + 1j * real[2::2, 1::2], atol=1e-12)


def test_interferometer_on_other_modes():
    unitary = unitary_group.rvs(2, random_state=3)
    program = Program(3, meshes.interferometer(unitary, modes=[2, 0]))
    expected = np.eye(3, dtype=complex)
    expected[np.ix_([2, 0], [2, 0])] = unitary
    np.testing.assert_allclose(_unitary(program), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 2)), r"not unitary: U U\^dagger differs from 1 by up to 2$"),
        (np.eye(2) * (1 + 1e-5), "not unitary"),
        (np.eye(2) * 1e200, "not unitary"),
        (np.ones((2, 3)), r"shape \(2, 3\); a square"),
        (np.ones(2), r"shape \(2,\); a square"),
        (np.ones((0, 0)), r"shape \(0, 0\); a square"),
        (np.array([[1, 0], [np.nan, 1]]), r"\[1, 0\]: .*nan.* is not finite"),
        ("eye", "not a matrix of numbers"),
        ([[1, 2], [3]], "not a matrix of numbers"),
    ],
)
def test_what_is_not_unitary_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message) as caught:
        meshes.decompose(matrix)
    assert "\n" not in str(caught.value)


def test_other_mistakes():
    with pytest.raises(ValueError, match="mesh is 'round'; allowed are rectangular, triangular"):
        meshes.mesh(3, "round")
    with pytest.raises(ValueError, match="n_modes is 0"):
        meshes.rectangular(0)
    with pytest.raises(ValueError, match=r"of 2 modes is given modes \[0, 1, 2\]"):
        meshes.interferometer(np.eye(2), modes=[0, 1, 2])
