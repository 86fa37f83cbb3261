from __future__ import annotations

import math

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate, ansatz
from circuits.backends import Backend, DensityMatrix, Statevector
from circuits.noise import NoiseModel

FEW = settings(max_examples=15, deadline=None)
NOISE = {
    "depolarizing": {"one_qubit": 0.02, "two_qubit": 0.07},
    "amplitude_damping": 0.03,
    "phase_damping": {"two_qubit": 0.05},
    "thermal_relaxation": {"t1": 5e-5, "t2": 7e-5, "one_qubit_time": 4e-8, "two_qubit_time": 5e-7},
    "over_rotation": {"radians": 0.03, "relative": 0.02},
    "readout": {"p01": 0.02, "p10": 0.06},
}
strength = st.floats(0, 1)


@st.composite
def noise_models(draw):
    """Any noise that Aer can have as well."""
    t1 = draw(st.floats(1e-6, 1e-3))
    content = {
        "depolarizing": {"one_qubit": draw(strength), "two_qubit": draw(strength)},
        "amplitude_damping": draw(strength),
        "phase_damping": draw(strength),
        "thermal_relaxation": {
            "t1": t1,
            "t2": draw(st.floats(0.01, 2)) * t1,
            "one_qubit_time": draw(st.floats(0, 1e-5)),
            "two_qubit_time": draw(st.floats(0, 1e-5)),
        },
        "over_rotation": draw(st.floats(-1, 1)),
        "readout": {"p01": draw(strength), "p10": draw(strength)},
        "gates": {"RZ": {}, "CNOT 0 1": {"depolarizing": draw(strength)}, "U3": {"phase_damping": draw(strength)}},
    }
    for key in draw(st.sets(st.sampled_from(sorted(content)))):
        del content[key]
    return NoiseModel.from_config(content)


def aer_probs(circuit, noise, angles):
    """Probabilities by Aer's density matrix, of the prepared circuit."""
    from qiskit_aer import AerSimulator

    prepared = noise.prepare(circuit)
    outside = prepared.circuit.bind(angles[: circuit.n_angles]).to_qiskit()
    outside.save_density_matrix()
    model = prepared.noise.to_aer()
    simulator = AerSimulator(method="density_matrix", noise_model=model)
    n = prepared.circuit.n_wires
    probs = np.real(np.diag(simulator.run(outside).result().data()["density_matrix"].data)).reshape([2] * n)
    probs = probs.transpose()  # wire 0 first
    dropped = tuple(wire for wire in range(n) if wire not in prepared.measured)
    kept = [wire for wire in range(n) if wire in prepared.measured]
    probs = probs.sum(dropped).transpose([kept.index(wire) for wire in prepared.measured])
    table = dict(model._local_readout_errors)
    for place, wire in enumerate(prepared.measured):
        error = table.get((wire,), model._default_readout_error)
        if error is not None:
            probs = np.moveaxis(np.tensordot(error.probabilities.T, probs, (1, place)), 0, place)
    return probs.reshape(-1)


# Aer has no controlled rotations on density matrices
aers = [
    *("H", "X", "Y", "Z", "S", "Sdg", "T", "Tdg", "SX", "SXdg", "RX", "RY", "RZ", "PhaseShift", "Rot", "U3"),
    *("CNOT", "CZ", "SWAP", "ECR", "ControlledPhaseShift", "RXX", "RYY", "RZZ", "MultiRZ"),
]


@FEW
@given(data=st.data())
def test_random_circuits_with_random_noise_agree_with_aer(circuits, data):
    circuit = data.draw(circuits(max_wires=3))
    circuit = Circuit(circuit.n_wires, [gate for gate in circuit.gates if gate.name in aers], circuit.n_angles)
    noise = data.draw(noise_models())
    angles = torch.tensor([0.3, -1.1, 2.2, 0.7], dtype=torch.float64)
    found = DensityMatrix(noise).probs(circuit, angles)
    np.testing.assert_allclose(found, aer_probs(circuit, noise, angles), atol=1e-10)
    assert float(found.sum()) == pytest.approx(1)


def test_a_raw_circuit_in_aer(rng):
    from qiskit_aer import AerSimulator

    noise = NoiseModel.from_config(NOISE | {"over_rotation": 0.05, "readout": 0.0})
    circuit = ansatz.hardware_efficient(3, 2)
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64)
    outside = circuit.to_qiskit().assign_parameters(angles.tolist())
    outside.save_density_matrix()
    state = AerSimulator(method="density_matrix", noise_model=noise.to_aer()).run(outside).result().data()
    expected = np.real(np.diag(state["density_matrix"].data)).reshape(2, 2, 2).transpose().reshape(-1)
    np.testing.assert_allclose(DensityMatrix(noise).probs(circuit, angles), expected, atol=1e-10)


@pytest.mark.parametrize("device", ["fake_manila", "fake_torino"])
@pytest.mark.parametrize("make", [ansatz.hardware_efficient, ansatz.strongly_entangling_layers])
def test_transpiled_circuits_on_devices_agree_with_aer(device, make, rng):
    noise = NoiseModel.from_config(device)
    circuit = make(3, 2)
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64) * 6
    found = DensityMatrix(noise).probs(circuit, angles)
    np.testing.assert_allclose(found, aer_probs(circuit, noise, angles), atol=1e-9)
    assert 1e-3 < float((found - Statevector().probs(circuit, angles)).abs().sum()) < 0.8
    quiet = NoiseModel(device=noise.device)
    torch.testing.assert_close(DensityMatrix(quiet).probs(circuit, angles), Statevector().probs(circuit, angles))
    strings = ["XYZ", "Z1", "Y0 Y2"]
    torch.testing.assert_close(
        DensityMatrix(quiet).expval(circuit, angles, strings), Statevector().expval(circuit, angles, strings)
    )


def _pennylane(circuit, angles, strings, p=0.1, gamma=0.2, phase=0.3):
    """Depolarizing noise of one qubit, then damping, on each wire of each gate, by PennyLane."""
    n = circuit.n_wires

    @qml.qnode(qml.device("default.mixed", wires=n))
    def node():
        for gate in circuit.bind(angles).gates:
            Circuit(n, [gate]).to_pennylane()(torch.zeros(0))
            for wire in gate.wires:
                if len(gate.wires) == 1:
                    qml.DepolarizingChannel(0.75 * p, wires=wire)
                qml.AmplitudeDamping(gamma, wires=wire)
                qml.PhaseDamping(phase, wires=wire)
        return [qml.probs(range(n)), *(qml.expval(qml.pauli.string_to_pauli_word(text)) for text in strings)]

    probs, *values = node()
    return np.asarray(probs), np.asarray(values)


@FEW
@given(data=st.data())
def test_random_circuits_agree_with_pennylane(circuits, data):
    circuit = data.draw(circuits(max_wires=3, max_gates=8))
    circuit = Circuit(circuit.n_wires, [gate for gate in circuit.gates if gate.name != "MultiRZ"], circuit.n_angles)
    angles = torch.tensor([0.3, -1.1, 2.2, 0.7], dtype=torch.float64)
    strings = [text * circuit.n_wires for text in "XYZ"]
    noise = {"depolarizing": {"one_qubit": 0.1}, "amplitude_damping": 0.2, "phase_damping": 0.3}
    probs, values = _pennylane(circuit, angles, strings)
    backend = DensityMatrix(noise)
    np.testing.assert_allclose(backend.probs(circuit, angles), probs, atol=1e-10)
    np.testing.assert_allclose(backend.expval(circuit, angles, strings), values, atol=1e-10)


@FEW
@given(data=st.data())
def test_without_noise_it_is_the_state_vector(circuits, data):
    circuit = data.draw(circuits(max_wires=4))
    angles = torch.tensor([[0.3, -1.1, 2.2, 0.7], [1.0, 2.0, -0.4, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(DensityMatrix().probs(circuit, angles), Statevector().probs(circuit, angles))
    n = circuit.n_wires
    strings = ["X" * n, "Y" * n, "Z0", f"Y0 Z{n - 1}" if n > 1 else "Y0"]
    torch.testing.assert_close(
        DensityMatrix().expval(circuit, angles, strings), Statevector().expval(circuit, angles, strings)
    )


@pytest.mark.parametrize("n_wires", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("topology", ["linear", "ring", "all-to-all"])
def test_every_order_of_wires(n_wires, topology, rng):
    circuit = (
        ansatz.hardware_efficient(n_wires, 2, topology=topology) if n_wires > 1 else Circuit(1, [Gate("RX", 0, [0])])
    )
    angles = torch.rand((2, circuit.n_angles), generator=rng, dtype=torch.float64)
    torch.testing.assert_close(DensityMatrix().probs(circuit, angles), Statevector().probs(circuit, angles))


# closed formulas


def test_decay_of_an_excited_state():
    gates = [Gate("X", 0)] * 5
    noise = {"thermal_relaxation": {"t1": 1e-4, "t2": 1.5e-4, "one_qubit_time": 3e-5, "two_qubit_time": 0}}
    excited = float(
        DensityMatrix({"gates": {"X": {"amplitude_damping": 0.25}}}).probs(Circuit(1, gates[:1]), torch.zeros(0))[1]
    )
    assert excited == pytest.approx(0.75)
    found = DensityMatrix(noise).probs(Circuit(1, gates[:1]), torch.zeros(0))
    assert float(found[1]) == pytest.approx(math.exp(-0.3))
    plus = DensityMatrix(noise).expval(Circuit(1, [Gate("H", 0)]), torch.zeros(0), ["X", "Z"])
    assert plus.tolist() == pytest.approx([math.exp(-0.2), 1 - math.exp(-0.3)])


def test_depolarized_bell_state():
    bell = Circuit(2, [Gate("H", 0), Gate("CNOT", [0, 1])])
    backend = DensityMatrix({"depolarizing": {"two_qubit": 0.12}})
    found = backend.expval(bell, torch.zeros(0), ["XX", "YY", "ZZ", "ZI", "II"])
    assert found.tolist() == pytest.approx([0.88, -0.88, 0.88, 0, 1])


def test_over_rotation_is_a_shift_of_the_angle():
    circuit = Circuit(2, [Gate("RX", 0, [0]), Gate("CRY", [0, 1], [1]), Gate("Rot", 1, [0.1, 2, 0.3])])
    angles = torch.tensor([0.4, 0.8, 1.3], dtype=torch.float64)
    found = DensityMatrix({"over_rotation": {"radians": 0.05, "relative": 0.1}}).probs(circuit, angles)
    torch.testing.assert_close(found, Statevector().probs(circuit, 1.1 * angles + 0.05))


def test_readout_errors_by_wire():
    circuit = Circuit(2, [Gate("RY", 0, [0]), Gate("X", 1)])
    angles = torch.tensor([0.9], dtype=torch.float64)
    backend = DensityMatrix({"readout": [{"p01": 0.1, "p10": 0.2}, {"p10": 0.4}]})
    one = math.sin(0.45) ** 2
    read = 0.1 * (1 - one) + 0.8 * one
    expected = [(1 - read) * 0.4, (1 - read) * 0.6, read * 0.4, read * 0.6]
    assert backend.probs(circuit, angles).tolist() == pytest.approx(expected)
    z = [1 - 2 * read, -0.2, (1 - 2 * read) * -0.2]
    assert backend.expval(circuit, angles, ["Z0", "Z1", "ZZ"]).tolist() == pytest.approx(z)
    turned = Circuit(1, [Gate("RY", 0, [0])])
    x = DensityMatrix({"readout": {"p01": 0.1, "p10": 0.2}}).expval(turned, angles, ["X"])
    assert float(x) == pytest.approx(0.2 - 0.1 + 0.7 * math.sin(0.9))


# gradients


def test_gradients_of_first_and_second_order(every_gate, rng):
    backend = DensityMatrix(NOISE)
    circuit = ansatz.hardware_efficient(3, 1)
    angles = torch.rand((2, circuit.n_angles), generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: backend.probs(circuit, a), angles)
    assert torch.autograd.gradgradcheck(lambda a: backend.expval(circuit, a, ["XZI", "Z0"]), angles)
    angles = torch.rand(every_gate.n_angles, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: backend.probs(every_gate, a), angles)


def test_gradient_through_a_device(rng):
    backend = DensityMatrix("fake_manila")
    circuit = ansatz.hardware_efficient(2, 1)
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: backend.probs(circuit, a), angles)


# shapes, precision, faults


def test_shapes_precision_and_samples(rng):
    circuit = ansatz.hardware_efficient(3, 1)
    angles = torch.rand((2, 3, circuit.n_angles), generator=rng, dtype=torch.float64)
    backend = DensityMatrix(NOISE)
    assert isinstance(backend, Backend)
    assert backend.capabilities.noisy
    assert not DensityMatrix().capabilities.noisy
    probs = backend.probs(circuit, angles)
    assert probs.shape == (2, 3, 8)
    torch.testing.assert_close(probs[1, 2], backend.probs(circuit, angles[1, 2]))
    assert backend.expval(circuit, angles, ["Z0", "X1 Y2"]).shape == (2, 3, 2)
    assert backend.probs(circuit, angles[:0]).shape == (0, 3, 8)
    single = DensityMatrix(NOISE, dtype=torch.float32).probs(circuit, angles)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), probs, atol=1e-5, rtol=0)
    bits = backend.sample(circuit, angles[0, :1], 40_000, rng)
    assert bits.shape == (1, 40_000, 3)
    assert bits.dtype == torch.uint8
    states = (bits[0].long() * torch.tensor([4, 2, 1])).sum(-1)
    counts = torch.bincount(states, minlength=8) / 40_000
    assert float((counts - probs[0, 0]).abs().max()) < 5 * 0.5 / math.sqrt(40_000)
    coefficients = backend.coefficients(circuit, angles)
    assert coefficients.shape == (2, 3, 64)
    torch.testing.assert_close(coefficients[..., 0], torch.ones(2, 3, dtype=torch.float64))


def test_faults():
    circuit = ansatz.hardware_efficient(6, 1)
    angles = torch.zeros(circuit.n_angles, dtype=torch.float64)
    with pytest.raises(ValueError, match="density matrix of 6 qubits: needs about .* GB, 1e-05 GB are free on cpu"):
        DensityMatrix(memory_limit=10_000).probs(circuit, angles)
    with pytest.raises(ValueError, match="6 qubits, batch of 1, with gradients: needs about"):
        DensityMatrix(memory_limit=140_000).probs(circuit, angles.requires_grad_())
    with pytest.raises(ValueError, match="the circuit has 6 qubits; fake_manila has 5"):
        DensityMatrix("fake_manila").probs(circuit, angles)
    with pytest.raises(ValueError, match="noise.readout is given for 2 wires; the circuit measures wire 5"):
        DensityMatrix({"readout": [0.1, 0.2]}).probs(circuit, angles)
    with pytest.raises(ValueError, match="20 qubits: a density matrix has at most 16"):
        DensityMatrix().probs(ansatz.hardware_efficient(20, 1), torch.zeros(40))
    with pytest.raises(ValueError, match=r"dtype is torch.complex64; torch.float32 or torch.float64"):
        DensityMatrix(dtype=torch.complex64)
