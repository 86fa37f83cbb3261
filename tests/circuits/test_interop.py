from __future__ import annotations

import contextlib
import math

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import Statevector as QiskitStatevector

from circuits import Angle, Circuit, Gate, ansatz
from circuits.backends import Statevector

SOME = settings(max_examples=25, deadline=None)
ANGLES = torch.tensor([0.4, -1.3, 2.2, 0.9], dtype=torch.float64)


def _ours(circuit, angles=ANGLES):
    return Statevector().probs(circuit, angles[: circuit.n_angles]).numpy()


def _qiskit_probs(circuit, angles=ANGLES):
    bound = circuit.assign_parameters({p: float(angles[p.index]) for p in circuit.parameters})
    probabilities = QiskitStatevector(bound).probabilities()
    return probabilities.reshape([2] * bound.num_qubits).transpose().reshape(-1)


def _pennylane_probs(function, n_wires, angles=ANGLES):
    @qml.qnode(qml.device("default.qubit"))
    def node():
        function(angles)
        return qml.probs(wires=range(n_wires))

    return np.asarray(node())


@SOME
@given(data=st.data())
def test_qiskit_round_trip(circuits, data):
    circuit = data.draw(circuits())
    outside = circuit.to_qiskit()
    np.testing.assert_allclose(_qiskit_probs(outside), _ours(circuit), atol=1e-10)
    back = Circuit.from_qiskit(outside)
    np.testing.assert_allclose(_ours(back), _ours(circuit), atol=1e-10)
    if not {"Rot", "MultiRZ"} & set(circuit.counts):
        assert back.counts == circuit.counts


@SOME
@given(data=st.data())
def test_pennylane_round_trip(circuits, data):
    circuit = data.draw(circuits())
    np.testing.assert_allclose(_pennylane_probs(circuit.to_pennylane(), circuit.n_wires), _ours(circuit), atol=1e-10)
    back = Circuit.from_pennylane(circuit.to_pennylane(), circuit.n_wires, circuit.n_angles)
    assert back.n_angles == circuit.n_angles
    assert back.counts == circuit.counts
    np.testing.assert_allclose(_ours(back), _ours(circuit), atol=1e-10)


@SOME
@given(data=st.data())
def test_qasm_round_trips(circuits, data):
    circuit = data.draw(circuits(max_wires=3, max_gates=6))
    back = Circuit.from_qasm(circuit.to_qasm())
    assert back.n_angles == circuit.n_angles
    np.testing.assert_allclose(_ours(back), _ours(circuit), atol=1e-10)
    bound = circuit.bind(ANGLES[: circuit.n_angles])
    np.testing.assert_allclose(_ours(Circuit.from_qasm(bound.to_qasm(version=2))), _ours(circuit), atol=1e-10)


def test_every_gate_agrees_with_aer(every_gate, rng):
    from qiskit_aer import AerSimulator

    angles = torch.rand(every_gate.n_angles, generator=rng, dtype=torch.float64) * 6
    outside = every_gate.to_qiskit().assign_parameters(angles.tolist())
    outside.save_statevector()
    simulator = AerSimulator(method="statevector")
    state = simulator.run(transpile(outside, simulator, optimization_level=0)).result().get_statevector()
    expected = state.probabilities().reshape([2] * 4).transpose().reshape(-1)
    np.testing.assert_allclose(_ours(every_gate, angles), expected, atol=1e-10)


def test_exact_round_trips_keep_the_circuit():
    circuit = ansatz.hardware_efficient(3, 2, topology="ring") + ansatz.data_reuploading(3, 1, 1)
    halved = Circuit(
        3, [Gate("CRX", [0, 2], [Angle(7, -0.5, math.pi / 2)]), Gate("U3", 1, [0, 0.25, Angle(3, 1 / 3)])], 9
    )
    for each in (circuit, halved):
        assert Circuit.from_qiskit(each.to_qiskit()) == each
        assert Circuit.from_qasm(each.to_qasm()) == each
    assert Circuit.from_pennylane(circuit.to_pennylane(), 3, circuit.n_angles) == circuit
    again = Circuit.from_pennylane(halved.to_pennylane(), 3, 9)
    for gate, other in zip(halved.gates, again.gates, strict=True):
        for a, b in zip(gate.angles, other.angles, strict=True):
            assert a.index == b.index
            assert (a.scale, a.offset) == pytest.approx((b.scale, b.offset), abs=1e-15)


# what users bring


def test_qiskit_gates_that_we_lack():
    circuit = QuantumCircuit(3, 3)
    circuit.h(0)
    circuit.sx(0)
    circuit.ccx(0, 1, 2)
    circuit.cswap(0, 1, 2)
    circuit.cu(0.1, 0.2, 0.3, 0.4, 0, 1)
    circuit.x(1)
    circuit.cx(0, 2, ctrl_state=0)
    circuit.rzx(0.3, 0, 1)
    circuit.iswap(1, 2)
    circuit.barrier()
    circuit.append(QuantumCircuit(2, name="mine", global_phase=0.3).to_gate().control(1), [0, 1, 2])
    expected = _qiskit_probs(circuit)
    circuit.measure(range(3), range(3))
    np.testing.assert_allclose(_ours(Circuit.from_qiskit(circuit)), expected, atol=1e-10)


def test_qiskit_parameters_are_in_qiskits_order():
    b, a = Parameter("b"), Parameter("a")
    circuit = QuantumCircuit(1)
    circuit.rx(b / 2 + 1, 0)
    circuit.ry(-a, 0)
    ours = Circuit.from_qiskit(circuit)
    assert ours.gates[0].angles == (Angle(1, 0.5, 1.0),)
    assert ours.gates[1].angles == (Angle(0, -1.0),)
    vector = ParameterVector("w", 12)
    circuit = QuantumCircuit(1)
    circuit.rx(vector[10], 0)
    circuit.rx(vector[2], 0)
    ours = Circuit.from_qiskit(circuit)
    assert [gate.angles[0].index for gate in ours.gates] == [10, 2]
    assert ours.n_angles == 12


def test_parameters_inside_the_users_own_gate():
    theta = Parameter("theta")
    inner = QuantumCircuit(2, name="inner")
    inner.ry(2 * theta, 0)
    inner.cx(0, 1)
    circuit = QuantumCircuit(3)
    circuit.append(inner.to_gate(), [2, 0])
    ours = Circuit.from_qiskit(circuit)
    assert ours.gates == (Gate("RY", 2, [Angle(0, 2.0)]), Gate("CNOT", [2, 0]))


def _mid_measurement():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    circuit.h(0)
    return circuit


def _reset():
    circuit = QuantumCircuit(1)
    circuit.reset(0)
    return circuit


def _initialize():
    circuit = QuantumCircuit(1)
    circuit.initialize([0, 1])
    return circuit


def _control():
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    return circuit


def _rx(expression):
    circuit = QuantumCircuit(1)
    circuit.rx(expression, 0)
    return circuit


X, Y = Parameter("x"), Parameter("y")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_mid_measurement, "h on qubit 0 follows a measurement"),
        (_reset, "reset cannot be imported"),
        (_initialize, "initialize cannot be imported"),
        (_control, "if_else cannot be imported"),
        (lambda: _rx(X * Y), "depends on 2 parameters"),
        (lambda: _rx(X**2), "not affine in x"),
        (lambda: _rx(1 / X), "not affine in x"),
        (lambda: _rx(X.sin()), "not affine in x"),
        (lambda: QuantumCircuit(), "no qubits"),
    ],
)
def test_qiskit_circuits_that_are_refused(make, message):
    with pytest.raises(ValueError, match=r".") as caught:
        Circuit.from_qiskit(make())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pennylane_functions_of_users():
    def function(angles):
        qml.StronglyEntanglingLayers(angles[:12].reshape(2, 2, 3), wires=[0, 1])
        qml.Toffoli(wires=[0, 1, 2])
        qml.adjoint(qml.RX)(angles[12] / 3, wires=2)
        qml.ctrl(qml.RY, control=0)(np.pi - 2 * angles[13], wires=1)
        qml.QFT(wires=[0, 1, 2])
        qml.Barrier(wires=[0, 1])

    def measured(angles):
        function(angles)
        return qml.probs(wires=[0, 1, 2])

    circuit = Circuit.from_pennylane(function, 3, 14)
    angles = torch.linspace(-1, 2, 14, dtype=torch.float64)
    np.testing.assert_allclose(_ours(circuit, angles), _pennylane_probs(function, 3, angles), atol=1e-10)
    node = qml.QNode(measured, qml.device("default.qubit"))
    assert Circuit.from_pennylane(node, 3, 14) == circuit


def test_broadcasting_through_pennylane(every_gate, rng):
    angles = torch.rand((3, every_gate.n_angles), generator=rng, dtype=torch.float64)
    expected = _pennylane_probs(every_gate.to_pennylane(), 4, angles)
    np.testing.assert_allclose(_ours_batch(every_gate, angles), expected, atol=1e-10)


def _ours_batch(circuit, angles):
    return Statevector().probs(circuit, angles).numpy()


def _sometimes(angles):
    if angles[0] > 0:
        qml.RX(angles[0], wires=0)


def _measured_between(angles):
    qml.measure(0)
    qml.RX(angles[0], wires=0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda a: qml.RX(a[0] * a[1], wires=0), "an angle of RX is not scale * angles[i] + offset"),
        (lambda a: qml.RX(a[0] + a[1], wires=0), "an angle of RX is not scale * angles[i] + offset"),
        (lambda a: qml.RX(a[0] ** 2, wires=0), "an angle of RX is not scale * angles[i] + offset"),
        (lambda a: qml.RX(torch.sin(a[0]), wires=0), "an angle of RX is not scale * angles[i] + offset"),
        (lambda a: qml.RX(a, wires=0), "RX has a batch of angles"),
        (lambda a: qml.RX(a[0], wires=2), "RX is on wires [2]; they must be integers from 0 to 1"),
        (lambda a: qml.RX(a[0], wires="a"), "RX is on wires ['a']"),
        (_sometimes, "gates change with the angles"),
        (_measured_between, "cannot be imported"),
    ],
)
def test_pennylane_functions_that_are_refused(function, message):
    with pytest.raises(ValueError, match=r".") as caught:
        Circuit.from_pennylane(function, 2, 2)
    assert message in str(caught.value)


QASM2 = """
OPENQASM 2.0; // a comment
include "qelib1.inc";
gate mine(t) a, b { ry(t/2) a; cx a, b; }
qreg first[1];
qreg second[2];
creg c[3];
h first[0];
mine(pi/3) first[0], second[1];
u3(0.1, 0.2, 0.3) second[0];
cu3(0.4, 0.5, 0.6) second[0], first[0];
measure first[0] -> c[0];
"""


def test_qasm_2_of_users():
    expected = _qiskit_probs(QuantumCircuit.from_qasm_str(QASM2).remove_final_measurements(inplace=False))
    circuit = Circuit.from_qasm(QASM2)
    assert circuit.n_wires == 3
    np.testing.assert_allclose(_ours(circuit), expected, atol=1e-10)


def test_qasm_3_inputs_are_numbered_as_declared():
    text = """OPENQASM 3.0;
    include "stdgates.inc";
    input float[64] zeta; /* first */ input float alpha; input float[64] unused;
    qubit[2] q; bit[2] c;
    rx(2 * alpha) q[0];
    ctrl @ ry(zeta - 1) q[0], q[1];
    c = measure q;"""
    circuit = Circuit.from_qasm(text)
    assert circuit.n_angles == 3
    assert circuit.gates[0] == Gate("RX", 0, [Angle(1, 2.0)])
    assert circuit.gates[1] == Gate("CRY", [0, 1], [Angle(0, offset=-1.0)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "qreg q[1];",
        "OPENQASM 4.0;",
        "OPENQASM 2.0; qreg",
        "OPENQASM 3.0; qubit q; nonsense q;",
        "OPENQASM 3.0; qubit q; $£ U(0, 0, 0) q;",
    ],
)
def test_text_that_is_not_qasm(text):
    with pytest.raises(ValueError, match=r"^OpenQASM") as caught:
        Circuit.from_qasm(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400), noise=st.text(max_size=4), version=st.sampled_from([2, 3]))
def test_broken_qasm_is_a_value_error(cut, noise, version):
    text = ansatz.hardware_efficient(2, 1).bind(ANGLES).to_qasm(version)
    broken = text[: cut % len(text)] + noise + text[cut % len(text) + 1 :]
    with contextlib.suppress(ValueError):
        assert Circuit.from_qasm(broken).n_wires >= 1


def test_qasm_faults():
    with pytest.raises(ValueError, match="OpenQASM 2 has no free angles"):
        ansatz.hardware_efficient(2, 1).to_qasm(version=2)
    with pytest.raises(ValueError, match="OpenQASM version is 1; allowed: 2, 3"):
        Circuit(1).to_qasm(version=1)
