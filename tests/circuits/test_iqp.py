from __future__ import annotations

from itertools import chain, combinations

import pennylane as qml
import pytest
import torch

from circuits import Circuit, ansatz
from circuits.backends import Statevector

GATES = [*chain(*(combinations(range(4), weight) for weight in (1, 2, 3, 4))), (3, 1)]


@pytest.mark.parametrize("spin_symmetric", [False, True])
def test_it_is_pennylanes_rotations_about_products_of_x(spin_symmetric: bool) -> None:
    angles = torch.randn(len(GATES), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start = torch.zeros(16, dtype=torch.complex128)
    start[[0, 15] if spin_symmetric else [0]] = 2**-0.5 if spin_symmetric else 1.0

    @qml.qnode(qml.device("default.qubit", wires=4))
    def node() -> object:
        qml.StatePrep(start, wires=range(4))
        for angle, wires in zip(angles, GATES, strict=True):
            qml.PauliRot(-2 * angle, "X" * len(wires), wires=wires)
        return qml.probs(wires=range(4))

    found = Statevector().probs(ansatz.iqp(4, GATES, spin_symmetric=spin_symmetric), angles)
    torch.testing.assert_close(found, torch.as_tensor(node()), atol=1e-12, rtol=0)
    if spin_symmetric:
        torch.testing.assert_close(found, found.flip(0))


def test_it_survives_the_way_to_qiskit_and_openqasm() -> None:
    circuit = ansatz.iqp(4, GATES, spin_symmetric=True)
    angles = torch.linspace(-1, 1, len(GATES), dtype=torch.float64)
    expected = Statevector().probs(circuit, angles)
    bound = circuit.bind(angles.tolist())
    for back in (Circuit.from_qiskit(bound.to_qiskit()), Circuit.from_qasm(bound.to_qasm())):
        found = Statevector().probs(back, torch.zeros(back.n_angles, dtype=torch.float64))
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_thousand_qubits_are_built_at_once() -> None:
    gates = [(wire,) for wire in range(1000)] + [(wire, wire + 1) for wire in range(999)]
    circuit = ansatz.iqp(1000, gates)
    assert circuit.counts == {"H": 2000, "RZ": 1000, "MultiRZ": 999}
    assert circuit.n_angles == 1999


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ([(0,), ()], r"^gate 1 is \[\]; different wires from 0 to 2 are needed$"),
        ([(0, 3)], r"^gate 0 is \[0, 3\]; different wires from 0 to 2 are needed$"),
        ([(0, -1)], r"^gate 0 is \[0, -1\]; "),
        ([(0,), (1, 1)], r"^gate 1 is \[1, 1\]; "),
    ],
)
def test_impossible_gates_are_named(gates: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ansatz.iqp(3, gates)


def test_a_circuit_needs_a_wire() -> None:
    with pytest.raises(ValueError, match="n_wires is 0"):
        ansatz.iqp(0, [])
