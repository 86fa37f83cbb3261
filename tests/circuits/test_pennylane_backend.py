"""The PennyLane backend against the state vector and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate, ansatz
from circuits.backends import Backend, ParameterShift, Statevector
from circuits.backends.pennylane import PennyLane

ANGLES = torch.tensor([0.4, -1.3, 2.2, 0.9], dtype=torch.float64)
DIFFERENTIABLE = ["default.qubit", "lightning.qubit"]
STRINGS = ["XYZ", "ZZI", "IIX", "III", "Z1"]


def ansatz_with_angles(n_wires=3, batch=(4, 2)):
    circuit = ansatz.hardware_efficient(n_wires=n_wires, n_layers=2)
    generator = torch.Generator().manual_seed(3)
    return circuit, 3 * torch.rand(*batch, circuit.n_angles, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("device", [*DIFFERENTIABLE, "default.mixed", "reference.qubit"])
def test_batches_agree_with_the_state_vector(device):
    circuit, angles = ansatz_with_angles()
    backend, exact = PennyLane(device), Statevector()
    assert isinstance(backend, Backend)
    torch.testing.assert_close(backend.probs(circuit, angles), exact.probs(circuit, angles))
    torch.testing.assert_close(backend.expval(circuit, angles, STRINGS), exact.expval(circuit, angles, STRINGS))
    assert backend.expval(circuit, angles, ["X0"]).shape == (4, 2, 1)


@pytest.mark.parametrize("device", DIFFERENTIABLE)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_circuits_and_their_gradients(device, circuits, data):
    circuit = data.draw(circuits(max_wires=3))
    backend, exact = PennyLane(device), Statevector()
    weights = torch.linspace(-1, 1, 2**circuit.n_wires, dtype=torch.float64)
    strings = ["X0", "Z" * circuit.n_wires]
    for ask in (
        lambda engine, angles: engine.probs(circuit, angles) @ weights,
        lambda engine, angles: engine.expval(circuit, angles, strings) @ torch.tensor([0.3, -1.2], dtype=torch.float64),
    ):
        values, gradients = [], []
        for engine in (backend, exact):
            angles = torch.stack([ANGLES, ANGLES.flip(0)]).requires_grad_()
            value = ask(engine, angles)
            values.append(value.detach())
            if value.requires_grad:
                value.sum().backward()
            gradients.append(torch.zeros_like(angles) if angles.grad is None else angles.grad)
        torch.testing.assert_close(*values, rtol=0, atol=1e-9)
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-9)


@pytest.mark.parametrize("device", DIFFERENTIABLE)
def test_every_gate(device, every_gate, rng):
    angles = torch.rand(every_gate.n_angles, generator=rng, dtype=torch.float64).requires_grad_()
    found = PennyLane(device).probs(every_gate, angles)
    expected = Statevector().probs(every_gate, angles)
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(0, 1, 16, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(found @ weights, angles)
    (reference,) = torch.autograd.grad(expected @ weights, angles)
    torch.testing.assert_close(gradient, reference)


def test_the_first_wire_is_the_most_significant_bit():
    circuit = Circuit(3, [Gate("X", [0])])
    for backend in (PennyLane(), PennyLane("lightning.qubit"), PennyLane(shots=5), PennyLane("lightning.qubit", 5)):
        assert backend.probs(circuit, torch.zeros(0)).argmax() == 0b100
        assert backend.sample(circuit, torch.zeros(2, 0), 3).tolist() == [[[1, 0, 0]] * 3] * 2
        assert backend.expval(circuit, torch.zeros(0), ["ZII", "IIZ"]).tolist() == [-1, 1]


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "reference.qubit"])
def test_empty_batches(device):
    circuit, _ = ansatz_with_angles()
    none = torch.zeros(0, circuit.n_angles)
    for backend in (PennyLane(device), PennyLane(device, shots=3)):
        assert backend.probs(circuit, none).shape == (0, 8)
        assert backend.expval(circuit, none, ["X0", "Z1"]).shape == (0, 2)
        assert backend.sample(circuit, none, 4).shape == (0, 4, 3)


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
def test_shots_are_repeatable_and_within_statistics(device):
    circuit, angles = ansatz_with_angles(batch=(3,))
    shots = 4000
    exact = Statevector().probs(circuit, angles)
    first, second, other = (PennyLane(device, shots, seed=seed).probs(circuit, angles) for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert ((first - exact).abs() < 5 * (exact * (1 - exact) / shots).sqrt() + 6 / shots).all()
    backend = PennyLane(device, shots)
    draws = [backend.sample(circuit, angles, 50, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    values = PennyLane(device, shots, seed=1).expval(circuit, angles, STRINGS)
    assert (values - Statevector().expval(circuit, angles, STRINGS)).abs().max() < 6 / math.sqrt(shots)


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
def test_equal_angles_in_a_batch_have_shots_of_their_own(device):
    circuit = Circuit(4, [Gate("H", wire) for wire in range(4)])
    bits = PennyLane(device, shots=1).sample(circuit, torch.zeros(2, 0), 100)
    assert 0.3 < (bits[0] == bits[1]).double().mean() < 0.7


def test_capabilities_tell_the_truth():
    exact = PennyLane("lightning.qubit").capabilities
    assert (exact.differentiable, exact.exact, exact.batched) == (True, True, False)
    shots = PennyLane(shots=10).capabilities
    assert (shots.differentiable, shots.exact) == (False, False)
    assert not PennyLane("reference.qubit").capabilities.differentiable
    assert PennyLane("default.mixed", options={"readout_prob": 0.1}).capabilities.noisy
    assert not PennyLane("default.mixed").capabilities.noisy


def test_other_devices_are_differentiated_by_parameter_shift():
    circuit, angles = ansatz_with_angles(batch=())
    angles.requires_grad_()
    assert not PennyLane("reference.qubit").probs(circuit, angles).requires_grad
    weights = torch.linspace(-1, 1, 8, dtype=torch.float64)
    (found,) = torch.autograd.grad(
        ParameterShift(PennyLane("reference.qubit")).probs(circuit, angles) @ weights, angles
    )
    (expected,) = torch.autograd.grad(Statevector().probs(circuit, angles) @ weights, angles)
    torch.testing.assert_close(found, expected)


def test_options_reach_the_device():
    circuit, angles = ansatz_with_angles()
    single = PennyLane("lightning.qubit", options={"c_dtype": "complex64"}).probs(circuit, angles)
    error = (single - Statevector().probs(circuit, angles)).abs().max()
    assert 1e-12 < error < 1e-5
    assert single.dtype == torch.float64


@pytest.mark.parametrize("device", ["default.qubit", "default.mixed", "lightning.qubit", "reference.qubit"])
def test_the_identity_is_one(device):
    angles = torch.ones(2, 1, requires_grad=True)
    circuit = Circuit(1, [Gate("RY", 0, [0])])
    assert PennyLane(device).expval(circuit, angles, ["I"]).tolist() == [[1.0], [1.0]]
    values = PennyLane(device).expval(circuit, angles, ["I", "Z", "I0"]).detach()
    torch.testing.assert_close(values[0], torch.tensor([1, math.cos(1), 1], dtype=torch.float64))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("device", ["default.mixed", "reference.qubit", "lightning.qubit"])
def test_wires_that_no_gate_touches(device, circuits, data):
    circuit = data.draw(circuits(max_wires=3, max_gates=2))
    strings = [letter + str(wire) for wire in range(circuit.n_wires) for letter in "XYZ"]
    backend, exact = PennyLane(device), Statevector()
    torch.testing.assert_close(backend.probs(circuit, ANGLES), exact.probs(circuit, ANGLES), rtol=0, atol=1e-10)
    found, expected = (engine.expval(circuit, ANGLES, strings) for engine in (backend, exact))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_nothing_global_is_touched():
    numbers, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002, the global state is the point
    circuit, angles = ansatz_with_angles()
    for backend in (PennyLane(shots=10), PennyLane("lightning.qubit", 10), PennyLane()):
        backend.sample(circuit, angles, 10)
    assert np.array_equal(numbers, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PennyLane("default.qbit"), ValueError, "unknown PennyLane device 'default.qbit'; installed are"),
        (lambda: PennyLane("qiskit.remote"), ImportError, "needs pennylane-qiskit; install it with: pip install"),
        (lambda: PennyLane(options={"colour": 1}), ValueError, "'default.qubit' cannot be made: .*colour"),
        (lambda: PennyLane(options={"shots": 1}), ValueError, "it is an argument of its own"),
        (lambda: PennyLane(shots=0), ValueError, "shots is 0; an integer of at least 1 is needed"),
        (lambda: PennyLane(seed=-1), ValueError, "seed is -1"),
        (lambda: PennyLane(3), ValueError, "unknown PennyLane device 3"),
    ],
)
def test_mistakes_give_one_line(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_missing_plugin_names_its_package(monkeypatch):
    monkeypatch.setattr("circuits.backends.pennylane.entry_points", lambda group: ())
    with pytest.raises(
        ImportError, match="'lightning.gpu' needs pennylane-lightning-gpu; install it with: pip install"
    ):
        PennyLane("lightning.gpu")


@pytest.mark.filterwarnings("ignore:Operator RY does not define a decomposition")
def test_a_device_that_cannot_run_the_circuit_is_named():
    with pytest.raises(ValueError, match=r"^device 'default\.qutrit' does not run the circuit: [^\n]*$"):
        PennyLane("default.qutrit").probs(Circuit(1, [Gate("RY", 0, [0.3])]), torch.zeros(0))
