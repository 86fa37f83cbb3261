from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from scipy.stats import unitary_group

from circuits.cv import CV_GATES, CVGate, CVNeuralNetworkLayers, Fock, Program
from circuits.cv.meshes import interferometer
from random_programs import random_programs

SOME = settings(max_examples=20, deadline=None)
VECTOR = torch.tensor([0.21, -0.13, 0.4, 0.3], dtype=torch.float64)
GAUSSIAN = [name for name, definition in CV_GATES.items() if definition.gaussian and definition.unitary]


def _theirs(function, n_modes):
    """Means and variances of both quadratures of every mode."""
    observables = [
        measure(observable(mode))
        for measure in (qml.expval, qml.var)
        for observable in (qml.QuadX, qml.QuadP)
        for mode in range(n_modes)
    ]
    with qml.queuing.AnnotatedQueue() as queue:
        function()
    gates = qml.tape.QuantumScript.from_queue(queue).operations
    tapes = [qml.tape.QuantumScript(gates, [observable]) for observable in observables]
    return np.array(qml.execute(tapes, qml.device("default.gaussian", wires=n_modes))).reshape(4, n_modes)


def _ours(program, parameters=VECTOR, cutoff=24):
    state = Fock(cutoff, basis="mode").run(program, parameters[: program.n_parameters])
    x, p = state.quadratures(0.0), state.quadratures(np.pi / 2)
    return torch.stack([x[0], p[0], x[1], p[1]]).numpy()


@SOME
@given(program=random_programs(names=GAUSSIAN, max_modes=2, photons=0))
def test_gaussian_programs_on_default_gaussian(program):
    theirs = _theirs(lambda: program.to_pennylane()(VECTOR), program.n_modes)
    np.testing.assert_allclose(_ours(program), theirs, atol=1e-8)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_every_gaussian_gate_on_default_gaussian(name):
    size = CV_GATES[name].n_modes
    gates = [CVGate("Displacement", m, (0.3, 0.4 + m)) for m in range(2)]
    gates += [CVGate("Squeezing", m, (0.2, 0.9 * m - 0.2)) for m in range(2)]
    gates.append(CVGate(name, (1, 0)[:size], (0.3, 0.8)[: len(CV_GATES[name].parameters)]))
    program = Program(2, gates)
    theirs = _theirs(lambda: program.to_pennylane()(VECTOR), 2)
    np.testing.assert_allclose(_ours(program, cutoff=36), theirs, atol=1e-8)


def test_gradients_are_pennylanes():
    gates = [CVGate("Squeezing", 0, (0, 1)), CVGate("Beamsplitter", (0, 1), (2, 3)), CVGate("Displacement", 1, (1, 2))]
    program = Program(2, gates)

    @qml.qnode(qml.device("default.gaussian", wires=2), interface="torch")
    def node(parameters):
        program.to_pennylane()(parameters)
        return qml.var(qml.QuadX(1))

    theirs, ours = VECTOR.clone().requires_grad_(), VECTOR.clone().requires_grad_()
    node(theirs).backward()
    Fock(20).run(program, ours).quadratures()[1][1].backward()
    np.testing.assert_allclose(ours.grad, theirs.grad, atol=1e-8)


@SOME
@given(program=random_programs(max_modes=3))
def test_round_trip(program):
    back = Program.from_pennylane(program.to_pennylane(), program.n_modes, 4)
    assert (back.photons, back.counts, back.n_parameters) == (program.photons, program.counts, 4)
    for gate, same in zip(program.gates, back.gates, strict=True):
        assert gate.modes == same.modes
        for slot, other in zip(gate.parameters, same.parameters, strict=True):
            assert (slot.index, slot.scale, slot.offset) == pytest.approx((other.index, other.scale, other.offset))


def test_neural_network_layers_are_read():
    layers = CVNeuralNetworkLayers(2, 3)

    def function(parameters):
        qml.CVNeuralNetLayers(*layers.split(parameters), wires=range(3))

    assert Program.from_pennylane(function, 3, layers.program.n_parameters) == layers.program


def test_interferometers_are_read():
    unitary = unitary_group.rvs(3, random_state=2)

    @qml.qnode(qml.device("default.gaussian", wires=4))
    def node(parameters):
        qml.Interferometer(parameters[:1], parameters[1:2], parameters[2:], wires=[3, 1], mesh="triangular")
        qml.InterferometerUnitary(unitary, wires=[0, 3, 1])
        return qml.expval(qml.QuadX(0))

    program = Program.from_pennylane(node, 4, 4)
    assert [str(gate) for gate in program.gates[:3]] == [
        "Beamsplitter(a0, a1) [3, 1]",
        "Rotation(a2) [3]",
        "Rotation(a3) [1]",
    ]
    assert program.gates[3:] == interferometer(unitary, modes=[0, 3, 1])


@pytest.mark.parametrize("gate", [qml.ControlledAddition, qml.ControlledPhase])
@pytest.mark.parametrize("s", [0.6, -0.35, 0.0])
def test_controlled_gates_are_expanded(gate, s):
    def function(_):
        qml.Displacement(0.2, 0.5, wires=0)
        qml.Displacement(0.3, -0.2, wires=1)
        qml.Squeezing(0.1, 0.3, wires=1)
        gate(s, wires=[1, 0])

    program = Program.from_pennylane(function, 2, 0)
    np.testing.assert_allclose(_ours(program, cutoff=32), _theirs(lambda: function(VECTOR), 2), atol=1e-8)


def test_preparations():
    def function(parameters):
        qml.CoherentState(parameters[0], 0.3, wires=1)
        qml.SqueezedState(0.2, parameters[1], wires=2)
        qml.DisplacedSqueezedState(0.3, 0.4, 0.2, parameters[2], wires=0)
        qml.Beamsplitter(0.3, 0.1, wires=[0, 1])

    program = Program.from_pennylane(function, 3, 3)
    np.testing.assert_allclose(_ours(program, cutoff=20), _theirs(lambda: function(VECTOR), 3), atol=1e-8)


def test_photons():
    def function(_):
        qml.Squeezing(0.2, 0.0, wires=0)
        qml.FockState(2, wires=1)

    assert Program.from_pennylane(function, 2, 0).photons == (0, 2)


def test_adjoints():
    def function(parameters):
        qml.adjoint(qml.Squeezing)(parameters[0], 0.3, wires=0)
        qml.adjoint(qml.Kerr(0.2, wires=0))
        qml.adjoint(qml.Beamsplitter(0.2, parameters[1], wires=[0, 1]))

    assert [str(gate) for gate in Program.from_pennylane(function, 2, 2).gates] == [
        "Squeezing(a0, 3.442) [0]",
        "Kerr(-0.2) [0]",
        "Beamsplitter(-0.2, a1) [0, 1]",
    ]


def _batch(v):
    qml.Kerr(np.array([0.1, 0.2]), wires=0)


def _late(v):
    qml.Kerr(0.1, wires=0)
    qml.FockState(1, wires=0)


def _changing(v):
    if v[0] > 0:
        qml.Kerr(0.1, wires=0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_batch, "Kerr has a batch of parameters"),
        (_late, "FockState prepares wire 0 a second time or after a gate"),
        (_changing, "gates change with the parameters"),
        (lambda v: qml.Kerr(v[0] ** 2, wires=0), r"a parameter of Kerr is not scale \* parameters\[i\]"),
        (lambda v: qml.Kerr(0.1, wires=2), r"Kerr is on wires \[2\]; they must be integers from 0 to 1"),
        (lambda v: qml.Kerr(0.1, wires="a"), "Kerr is on wires"),
        (lambda v: qml.ThermalState(0.3, wires=0), "ThermalState cannot be imported"),
        (lambda v: qml.CatState(0.3, 0.1, 0, wires=0), "CatState cannot be imported"),
        (lambda v: qml.GaussianState(np.eye(4), np.zeros(4), wires=[0, 1]), "GaussianState cannot be imported"),
        (lambda v: qml.FockStateVector(np.eye(4)[0], wires=0), "FockStateVector cannot be imported"),
        (lambda v: qml.FockState(v[0], wires=0), "FockState on wires \\[0\\] depends on a parameter"),
        (lambda v: qml.FockState(0.5, wires=0), "FockState on wires \\[0\\] is 0.5; a whole number"),
        (lambda v: qml.ControlledPhase(v[0], wires=[0, 1]), "ControlledPhase on wires .* depends on a parameter"),
        (lambda v: qml.PauliX(wires=0), "^quantum function: .* cannot be imported"),
        (lambda v: qml.InterferometerUnitary(np.ones((2, 2)), wires=[0, 1]), "not unitary"),
    ],
)
def test_what_a_program_cannot_express(function, message):
    with pytest.raises(ValueError, match=message) as caught:
        Program.from_pennylane(function, 2, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("sizes", "message"), [(("1", 0), "n_modes is '1'"), ((1, -1), "n_parameters is -1")])
def test_sizes_that_are_none(sizes, message):
    with pytest.raises(ValueError, match=message):
        Program.from_pennylane(lambda v: qml.Kerr(0.1, wires=0), *sizes)


def test_loss_cannot_be_exported():
    program = Program(1, [CVGate("Kerr", 0, (0.1,)), CVGate("Loss", 0, (0.9,))])
    with pytest.raises(ValueError, match=r"^gate 1, Loss\(0.9\) \[0\]: PennyLane has no such channel$"):
        program.to_pennylane()
