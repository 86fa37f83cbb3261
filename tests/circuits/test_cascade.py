from __future__ import annotations

from itertools import combinations

import pennylane as qml
import pytest
import torch

from circuits import ansatz
from circuits.backends import Statevector


@pytest.mark.parametrize(("degree", "n_inputs"), [(1, 0), (2, 0), (3, 2)])
def test_it_is_pennylanes_pauli_rotations(degree: int, n_inputs: int) -> None:
    n, layers = 4, 3
    circuit = ansatz.cascade(n, layers, degree, n_inputs)
    angles = torch.randn(circuit.n_angles, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = angles[len(angles) - n_inputs :]

    @qml.qnode(qml.device("default.qubit", wires=n))
    def node() -> object:
        weight = iter(angles)
        for layer in range(layers):
            if layer:
                for wire in range(n):
                    qml.RX(next(weight), wires=wire)
            for wire in range(n):
                for value in inputs:
                    qml.RY(value, wires=wire)
                for size in range(min(degree if layer == 0 else 1, wire) + 1):
                    for controls in combinations(range(wire), size):
                        qml.PauliRot(next(weight), "Z" * size + "Y", wires=[*controls, wire])
        assert len(list(weight)) == n_inputs
        return qml.state()

    found = Statevector().probs(circuit, angles)
    torch.testing.assert_close(found, torch.as_tensor(node()).abs() ** 2, atol=1e-12, rtol=0)


def test_one_layer_of_full_degree_prepares_any_distribution() -> None:
    """Angles are read off the conditional probabilities: a uniformly controlled rotation on each wire."""
    n = 3
    target = torch.rand(2**n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = target / target.sum()
    angles = []
    for wire in range(n):
        pairs = target.reshape(2**wire, 2, -1).sum(2)
        turn = 2 * torch.atan2(pairs[:, 1].sqrt(), pairs[:, 0].sqrt())
        bits = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64)] * wire) if wire else None
        signs = None if bits is None else bits.reshape(2**wire, wire)
        for size in range(wire + 1):
            for controls in combinations(range(wire), size):
                sign = torch.ones(2**wire, dtype=torch.float64) if signs is None else signs[:, list(controls)].prod(1)
                angles.append((sign * turn).mean())
    found = Statevector().probs(ansatz.cascade(n, 1, degree=n), torch.stack(angles))
    torch.testing.assert_close(found, target, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["n_wires", "n_layers", "degree"])
def test_impossible_sizes_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is 0; an integer of at least 1 is needed$"):
        ansatz.cascade(**{"n_wires": 3, "n_layers": 1, "degree": 1, name: 0})
