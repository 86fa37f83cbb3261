from __future__ import annotations

import pennylane as qml
import pytest
import torch
from qiskit.circuit import library

from circuits import Circuit, ansatz
from circuits.backends import Statevector


def _probs(circuit, angles):
    return Statevector().probs(circuit, angles)


def _pennylane_probs(template, weights, n_wires):
    @qml.qnode(qml.device("default.qubit"))
    def node():
        template(weights, wires=range(n_wires))
        return qml.probs(wires=range(n_wires))

    return node()


@pytest.mark.parametrize("n_wires", [1, 2, 4])
def test_strongly_entangling_layers_are_pennylanes(n_wires, rng):
    shape = ansatz.strongly_entangling_layers_shape(3, n_wires)
    assert shape == qml.StronglyEntanglingLayers.shape(3, n_wires)
    weights = torch.randn(shape, generator=rng, dtype=torch.float64)
    circuit = ansatz.strongly_entangling_layers(n_wires, 3)
    expected = _pennylane_probs(qml.StronglyEntanglingLayers, weights, n_wires)
    torch.testing.assert_close(_probs(circuit, weights.flatten()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_wires", [1, 2, 4])
def test_basic_entangler_layers_are_pennylanes(n_wires, rng):
    shape = ansatz.basic_entangler_layers_shape(3, n_wires)
    assert shape == qml.BasicEntanglerLayers.shape(3, n_wires)
    weights = torch.randn(shape, generator=rng, dtype=torch.float64)
    circuit = ansatz.basic_entangler_layers(n_wires, 3)
    expected = _pennylane_probs(qml.BasicEntanglerLayers, weights, n_wires)
    torch.testing.assert_close(_probs(circuit, weights.flatten()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("entanglement", ["reverse_linear", "linear", "full", "circular", "sca"])
@pytest.mark.parametrize("n_wires", [2, 3, 5])
def test_n_local_circuits_are_qiskits(n_wires, entanglement):
    for reps in (0, 1, 4):
        for final in (True, False):
            options = {"entanglement": entanglement, "skip_final_rotation_layer": not final}
            real = Circuit.from_qiskit(library.real_amplitudes(n_wires, reps=reps, **options))
            assert ansatz.real_amplitudes(n_wires, reps, entanglement, final) == real
            su2 = Circuit.from_qiskit(library.efficient_su2(n_wires, reps=reps, **options))
            assert ansatz.efficient_su2(n_wires, reps, ("RY", "RZ"), entanglement, final) == su2


def test_defaults_are_qiskits():
    assert ansatz.real_amplitudes(4) == Circuit.from_qiskit(library.real_amplitudes(4))
    assert ansatz.efficient_su2(4) == Circuit.from_qiskit(library.efficient_su2(4))


@pytest.mark.parametrize(
    ("topology", "pairs"),
    [
        ("linear", [(0, 1), (1, 2), (2, 3)]),
        ("ring", [(0, 1), (1, 2), (2, 3), (3, 0)]),
        ("all-to-all", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
    ],
)
def test_hardware_efficient(topology, pairs):
    circuit = ansatz.hardware_efficient(4, 2, ("RX", "RZ"), "CZ", topology, final_rotations=True)
    assert circuit.n_angles == 3 * 4 * 2
    assert [gate.wires for gate in circuit.gates if gate.name == "CZ"] == pairs * 2
    index = torch.arange(24).reshape(3, 4, 2)
    free = [gate for gate in circuit.gates if gate.angles]
    for gate, angle in zip(free, index.flatten().tolist(), strict=True):
        layer, wire, rotation = (int(i) for i in (index == angle).nonzero()[0])
        assert gate.angles[0].index == angle
        assert gate.wires == (wire,)
        assert gate.name == ("RX", "RZ")[rotation]
        assert 0 <= layer < 3


def test_a_ring_of_two_is_a_line():
    assert ansatz.hardware_efficient(2, 1, topology="ring") == ansatz.hardware_efficient(2, 1)


def test_brickwork():
    circuit = ansatz.brickwork(5, 2, ("RY",))
    assert [gate.wires for gate in circuit.gates if gate.name == "CNOT"] == [(0, 1), (2, 3), (1, 2), (3, 4)] * 2
    assert circuit.n_angles == 2 * 4 * 2


def test_mera_up_goes_from_coarse_to_fine():
    circuit = ansatz.mera_up(8)
    pairs = [gate.wires for gate in circuit.gates if gate.name == "CNOT"]
    expand = [[(0, 4)], [(0, 2), (4, 6)], [(0, 1), (2, 3), (4, 5), (6, 7)]]
    disentangle = [[], [(2, 4)], [(1, 2), (3, 4), (5, 6)]]
    assert pairs == [pair for d in range(3) for pair in (*expand[d], *disentangle[d])]
    assert circuit.n_angles == 2 * len(pairs)
    assert [gate.wires[0] for gate in circuit.gates[:3]] == [0, 4, 0]


@pytest.mark.parametrize("n_wires", [1, 2, 3, 5, 6, 7, 12, 16, 20])
def test_mera_up_reaches_every_wire_from_the_first(n_wires):
    pairs = ansatz._coarse_to_fine(n_wires)
    assert len(set(pairs)) == len(pairs)
    seen = {0}
    for first, second in pairs:
        assert first < second < n_wires
        if first in seen:
            seen.add(second)
    assert seen == set(range(n_wires))
    distances = [second - first for first, second in pairs]
    assert distances == sorted(distances, reverse=True)
    assert ansatz.mera_up(n_wires, 2, ("RY", "RZ")).n_angles == 2 * 2 * max(2 * len(pairs), 1)


def test_data_reuploading_has_weights_first_and_inputs_last():
    circuit = ansatz.data_reuploading(3, 2, n_inputs=2, rotations=("RY", "RZ"), encoding="RX")
    n_weights = (2 * 2 + 1) * 3 * 2
    assert circuit.n_angles == n_weights + 2
    encoding = [(gate.angles[0].index, gate.wires[0]) for gate in circuit.gates if gate.name == "RX"]
    assert encoding == [(n_weights + j, w) for _ in range(2) for j in range(2) for w in range(3)]
    weights = [gate.angles[0].index for gate in circuit.gates if gate.name in ("RY", "RZ")]
    assert weights == list(range(n_weights))
    angles = torch.ones(circuit.n_angles, dtype=torch.float64, requires_grad=True)
    Statevector().probs(circuit, angles)[0].backward()
    assert bool((angles.grad[-2:].abs() > 1e-6).all())


@pytest.mark.parametrize("name", ansatz.ANSATZE)
def test_every_builder_uses_every_angle(name):
    options = {"n_inputs": 1} if name == "data_reuploading" else {}
    circuit = ansatz.ANSATZE[name](n_wires=4, n_layers=2, **options)
    used = {angle.index for gate in circuit.gates for angle in gate.angles}
    assert used == set(range(circuit.n_angles))
    assert circuit.n_wires == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ansatz.hardware_efficient(0, 1), "n_wires is 0"),
        (lambda: ansatz.hardware_efficient(2, 0), "n_layers is 0"),
        (lambda: ansatz.hardware_efficient(2, 1.5), "n_layers is 1.5"),
        (lambda: ansatz.hardware_efficient(2, 1, ["CNOT"]), "rotations is 'CNOT'; allowed: RX, RY, RZ, PhaseShift"),
        (lambda: ansatz.hardware_efficient(2, 1, []), "rotations is empty"),
        (lambda: ansatz.hardware_efficient(2, 1, entangler="CX"), "entangler is 'CX'; allowed: CNOT, CZ"),
        (lambda: ansatz.hardware_efficient(2, 1, topology="star"), "topology is 'star'; allowed: linear, ring"),
        (lambda: ansatz.brickwork(1, 1), "a brick needs 2"),
        (lambda: ansatz.strongly_entangling_layers(3, 1, ranges=[3]), "numbers from 1 to 2 are needed"),
        (lambda: ansatz.real_amplitudes(3, 1, "ring"), "entanglement is 'ring'"),
        (lambda: ansatz.data_reuploading(3, 1, 0), "n_inputs is 0"),
    ],
)
def test_faults(make, message):
    with pytest.raises(ValueError, match=r".") as caught:
        make()
    assert message in str(caught.value)
