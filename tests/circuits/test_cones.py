from __future__ import annotations

import pennylane as qml
import pytest
import torch

from circuits import Circuit, Gate, ansatz
from circuits.backends import DensityMatrix
from circuits.backends.cones import Cones, compile_cones

NOISE = {"depolarizing": 0.02, "amplitude_damping": 0.03, "readout": {"p01": 0.01, "p10": 0.05}}


def _cones(circuit, strings, noise=NOISE):
    backend = DensityMatrix(noise)
    supports = tuple(tuple(wires) for wires in strings)
    return compile_cones(backend.noise.prepare(circuit), supports, torch.float64, torch.device("cpu"))


@pytest.mark.parametrize("n_wires", [3, 6, 8])
def test_cones_give_the_coefficients_of_the_whole_density_matrix(n_wires, rng):
    circuit = ansatz.mera_up(n_wires, 1, ("RY", "RZ"))
    angles = torch.randn(3, circuit.n_angles, generator=rng, dtype=torch.float64)
    whole = DensityMatrix(NOISE).coefficients(circuit, angles).reshape(3, *[4] * n_wires)
    supports = [(0,), (n_wires - 1,), (2, 0), ()]
    for support, found in zip(supports, _cones(circuit, supports).run(angles), strict=True):
        axes = [0, *(1 + wire for wire in support)]
        kept = whole.permute(axes + [a for a in range(1, n_wires + 1) if a not in axes])
        expected = kept.reshape(3, 4 ** len(support), -1)[..., 0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_they_are_taken_where_they_pay_and_agree_with_pennylane(rng):
    n, p = 8, 0.04
    circuit = ansatz.mera_up(n)
    assert _cones(circuit, [(wire,) for wire in range(n)]).pay
    angles = torch.randn(circuit.n_angles, generator=rng, dtype=torch.float64)
    backend = DensityMatrix({"depolarizing": {"one_qubit": p}})

    @qml.qnode(qml.device("default.mixed", wires=n))
    def node():
        for gate in circuit.gates:
            if gate.name == "CNOT":
                qml.CNOT(gate.wires)
            else:
                qml.RY(float(angles[gate.angles[0].index]), gate.wires)
                qml.DepolarizingChannel(0.75 * p, gate.wires)  # PennyLane's probability is of an X, Y or Z
        return [qml.expval(qml.Z(0)), qml.expval(qml.X(3)), qml.expval(qml.Z(1) @ qml.Z(6))]

    expected = torch.stack([torch.as_tensor(each) for each in node()])
    torch.testing.assert_close(backend.expval(circuit, angles, ["Z0", "X3", "Z1 Z6"]), expected, rtol=0, atol=1e-10)


def test_gradients_are_those_of_the_whole(rng):
    circuit = ansatz.mera_up(6)
    prepared = DensityMatrix(NOISE).noise.prepare(circuit)
    cones = Cones(prepared, [(1,), (5,)], torch.float64, torch.device("cpu"))
    angles = torch.randn(2, circuit.n_angles, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: tuple(cones.run(a)), (angles,), fast_mode=True)


def test_a_tree_of_many_wires_needs_few_at_a_time(rng):
    circuit = ansatz.mera_up(20)
    angles = torch.randn(1, circuit.n_angles, generator=rng, dtype=torch.float64)
    noisy = DensityMatrix({"depolarizing": 0.05}).expval(circuit, angles, ["Z19", "Z0"])
    assert noisy.shape == (1, 2)
    exact = DensityMatrix().expval(circuit, angles, ["Z19", "Z0"])
    assert bool((noisy.abs() < exact.abs()).all())


def test_dense_circuits_keep_the_whole():
    assert not _cones(ansatz.hardware_efficient(6, 4, topology="ring"), [(w,) for w in range(6)]).pay
    assert not _cones(Circuit(1, [Gate("H", [0])]), [(0,)]).pay
