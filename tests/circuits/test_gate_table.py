from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
import torch
from qiskit.circuit import library

from circuits import Gate
from circuits.gate_table import GATES, gate_definition, gate_matrix

ANGLES = torch.tensor([0.7, -1.9, 2.3], dtype=torch.float64)

PENNYLANE = {
    "H": qml.Hadamard,
    "Sdg": lambda wires: qml.adjoint(qml.S(wires)),
    "Tdg": lambda wires: qml.adjoint(qml.T(wires)),
    "SXdg": lambda wires: qml.adjoint(qml.SX(wires)),
    "RXX": qml.IsingXX,
    "RYY": qml.IsingYY,
    "RZZ": qml.IsingZZ,
}
QISKIT = {
    "H": library.HGate,
    "X": library.XGate,
    "Y": library.YGate,
    "Z": library.ZGate,
    "S": library.SGate,
    "Sdg": library.SdgGate,
    "T": library.TGate,
    "Tdg": library.TdgGate,
    "SX": library.SXGate,
    "SXdg": library.SXdgGate,
    "RX": library.RXGate,
    "RY": library.RYGate,
    "RZ": library.RZGate,
    "PhaseShift": library.PhaseGate,
    "U3": library.U3Gate,
    "RXX": library.RXXGate,
    "RYY": library.RYYGate,
    "RZZ": library.RZZGate,
}


def _matrix(name, n_wires=None):
    return gate_matrix(name, ANGLES[: GATES[name].n_angles], n_wires).numpy()


@pytest.mark.parametrize("name", GATES)
def test_matrices_are_pennylanes(name):
    size = GATES[name].n_wires or 3
    make = PENNYLANE.get(name, getattr(qml, name, None))
    expected = qml.matrix(make(*ANGLES[: GATES[name].n_angles].tolist(), wires=range(size)))
    np.testing.assert_allclose(_matrix(name, size), expected, atol=1e-14)


@pytest.mark.parametrize("name", QISKIT)
def test_matrices_are_qiskits(name):
    gate = QISKIT[name](*ANGLES[: GATES[name].n_angles].tolist())
    np.testing.assert_allclose(_matrix(name), gate.to_matrix(), atol=1e-14)


def test_echoed_cross_resonance_is_qiskits():
    flipped = library.ECRGate().to_matrix().reshape(2, 2, 2, 2).transpose(1, 0, 3, 2).reshape(4, 4)
    np.testing.assert_allclose(_matrix("ECR"), flipped, atol=1e-14)


@pytest.mark.parametrize("name", [name for name, gate in GATES.items() if gate.signs])
def test_phases_are_the_diagonal(name):
    size = GATES[name].n_wires or 3
    phase = np.zeros(2**size)
    for subset, slope, constant in GATES[name].signs(size):
        for state in range(2**size):
            parity = sum(state >> (size - 1 - position) & 1 for position in subset) % 2
            phase[state] += (-1) ** parity * (slope * float(ANGLES[0]) + constant)
    np.testing.assert_allclose(np.diag(np.exp(1j * phase)), _matrix(name, size), atol=1e-14)


@pytest.mark.parametrize("name", GATES)
def test_inverses(name):
    size = GATES[name].n_wires or 3
    gate = Gate(name, range(size), ANGLES[: GATES[name].n_angles].tolist())
    inverse = gate.inverse()
    values = torch.tensor([angle.offset for angle in inverse.angles], dtype=torch.float64)
    product = gate_matrix(inverse.name, values, size).numpy() @ _matrix(name, size)
    np.testing.assert_allclose(product, np.eye(2**size), atol=1e-14)


def test_batched_and_single_precision():
    angles = torch.linspace(0, 1, 12, dtype=torch.float32).reshape(2, 2, 3)
    matrices = gate_matrix("Rot", angles)
    assert matrices.shape == (2, 2, 2, 2)
    assert matrices.dtype == torch.complex64
    torch.testing.assert_close(matrices[1, 0], gate_matrix("Rot", angles[1, 0]))


def test_faults():
    with pytest.raises(ValueError, match="MultiRZ takes any number of wires"):
        gate_matrix("MultiRZ", ANGLES[:1])
    with pytest.raises(ValueError, match=r"angles of RX have shape \(2,\); expected \(\.\.\., 1\)"):
        gate_matrix("RX", ANGLES[:2])
    with pytest.raises(ValueError, match="unknown gate 'Hadamart'"):
        gate_definition("Hadamart")
