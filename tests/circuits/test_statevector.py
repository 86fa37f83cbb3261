from __future__ import annotations

import functools

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from circuits import Circuit, Gate, ansatz
from circuits.backends import Statevector
from circuits.backends.base import frequencies
from circuits.backends.frame import Frame
from circuits.backends.program import compile_circuit, permute, walsh_transform
from circuits.backends.schedule import schedule

SOME = settings(max_examples=40, deadline=None)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def _pennylane(circuit, angles, measure):
    @qml.qnode(qml.device("default.qubit", wires=circuit.n_wires))
    def node():
        circuit.to_pennylane()(angles)
        return measure()

    return node()


def _observables(n_wires):
    letters = np.array(list("IXYZ"))
    numbers = np.random.default_rng(3).integers(0, 4, (6, n_wires))
    return ["".join(letters[row]) for row in numbers]


def _pauli_matrix(letters):
    make = {"I": qml.Identity, "X": qml.X, "Y": qml.Y, "Z": qml.Z}
    return functools.reduce(np.kron, (qml.matrix(make[letter](0)).astype(complex) for letter in letters))


@SOME
@given(data=st.data())
def test_state_probs_and_expval_are_pennylanes(circuits, data):
    circuit = data.draw(circuits(max_wires=5, max_gates=25))
    angles = torch.tensor([0.4, -1.3, 2.2, 0.9], dtype=torch.float64)
    wires = range(circuit.n_wires)
    backend = Statevector()
    state = torch.as_tensor(_pennylane(circuit, angles, lambda: (qml.probs(wires=wires), qml.state()))[1])
    torch.testing.assert_close(backend.state(circuit, angles), state, rtol=0, atol=1e-12)
    torch.testing.assert_close(backend.probs(circuit, angles), state.abs().square(), rtol=0, atol=1e-12)
    observables = _observables(circuit.n_wires)
    expected = [torch.vdot(state, torch.as_tensor(_pauli_matrix(o)) @ state).real for o in observables]
    torch.testing.assert_close(backend.expval(circuit, angles, observables), torch.stack(expected), rtol=0, atol=1e-12)


@SOME
@given(data=st.data(), group=st.integers(2, 5))
def test_a_batch_is_its_members_for_any_grouping(circuits, data, group):
    circuit = data.draw(circuits(max_wires=5, max_gates=25))
    angles = torch.linspace(-3, 3, 12, dtype=torch.float64).reshape(3, 4)
    backend = Statevector()
    together = backend.state(circuit, angles)
    assert together.shape == (3, 2**circuit.n_wires)
    for member, row in zip(together, angles, strict=True):
        torch.testing.assert_close(backend.state(circuit, row), member, rtol=0, atol=1e-12)
    program = compile_circuit(circuit, group, torch.complex128, torch.device("cpu"))
    state = program.run(angles)
    if program.restore is not None:
        state = permute(state, *program.restore)
    torch.testing.assert_close(state, together, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["hardware_efficient", "brickwork", "strongly_entangling_layers"])
def test_more_qubits_than_a_few_are_pennylanes(name, rng):
    circuit = ansatz.ANSATZE[name](n_wires=11, n_layers=3)
    angles = torch.rand((2, circuit.n_angles), generator=rng, dtype=torch.float64) * 6
    expected = torch.stack([_pennylane(circuit, row, lambda: qml.probs(wires=range(11))) for row in angles])
    torch.testing.assert_close(Statevector().probs(circuit, angles), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(Statevector().probs(circuit, angles[0]), expected[0], rtol=0, atol=1e-12)


def test_functional_transforms(every_gate, rng):
    angles = torch.rand(every_gate.n_angles, generator=rng, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda a: Statevector().probs(every_gate, a))(angles)
    expected = torch.autograd.functional.jacobian(lambda a: Statevector().probs(every_gate, a), angles)
    torch.testing.assert_close(jacobian, expected, rtol=0, atol=1e-12)


def test_shapes(every_gate, rng):
    angles = torch.rand((2, 3, every_gate.n_angles), generator=rng, dtype=torch.float64)
    backend = Statevector()
    assert backend.probs(every_gate, angles).shape == (2, 3, 16)
    assert backend.expval(every_gate, angles, ["Z0", "X1 Y3"]).shape == (2, 3, 2)
    assert backend.sample(every_gate, angles, 5, rng).shape == (2, 3, 5, 4)
    assert backend.probs(every_gate, angles[:0]).shape == (0, 3, 16)
    assert backend.expval(every_gate, angles[:0], ["Z0"]).shape == (0, 3, 1)
    assert backend.probs(Circuit(2), torch.zeros(4, 0)).tolist() == [[1, 0, 0, 0]] * 4
    assert backend.probs(Circuit(2, [Gate("X", 1)]), torch.zeros(0)).tolist() == [0, 1, 0, 0]


def test_gradients_of_every_gate(every_gate, rng):
    angles = torch.rand((2, every_gate.n_angles), generator=rng, dtype=torch.float64, requires_grad=True)
    backend = Statevector()
    some = torch.rand((16, 3), generator=rng, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: backend.probs(every_gate, a) @ some, angles)
    assert torch.autograd.gradcheck(lambda a: backend.expval(every_gate, a, ["XYZI", "Z2"]), angles)


def test_second_derivatives(rng):
    circuit = Circuit(
        3, [Gate("RX", 0, [0]), Gate("CRY", [0, 1], [1]), Gate("RZZ", [1, 2], [0]), Gate("Rot", 2, [0, 1, 2])]
    )
    circuit = circuit + ansatz.hardware_efficient(3, 1, ("RY",), topology="ring")
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64, requires_grad=True)
    some = torch.rand(8, generator=rng, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda a: Statevector().probs(circuit, a) @ some, angles)


def test_gradient_is_pennylanes(rng):
    circuit = ansatz.hardware_efficient(5, 3, topology="ring")
    target = torch.rand(32, generator=rng, dtype=torch.float64)
    gradients = []
    for probs in (
        lambda a: Statevector().probs(circuit, a),
        lambda a: _pennylane(circuit, a, lambda: qml.probs(wires=range(5))),
    ):
        angles = torch.linspace(-2, 2, circuit.n_angles, dtype=torch.float64, requires_grad=True)
        (probs(angles) - target).square().sum().backward()
        gradients.append(angles.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-5), (torch.complex128, 1e-12)])
def test_precision_and_device(every_gate, rng, device, dtype, tolerance):
    angles = torch.rand((2, every_gate.n_angles), generator=rng, dtype=torch.float64)
    backend = Statevector(dtype, device)
    probabilities = backend.probs(every_gate, angles)
    assert probabilities.dtype == dtype.to_real()
    assert probabilities.device.type == device
    expected = Statevector().probs(every_gate, angles)
    torch.testing.assert_close(probabilities.cpu().double(), expected, rtol=0, atol=tolerance)
    assert backend.expval(every_gate, angles, ["Z0"]).dtype == dtype.to_real()
    assert backend.state(every_gate, angles).dtype == dtype
    assert backend.sample(every_gate, angles, 3, rng).device.type == device


def _rows_of_jacobian(function, angles, **options):
    """Derivatives of all values, one after the other or all at once."""
    angles = angles.detach().clone().requires_grad_()
    values = function(angles).flatten()
    rows = torch.eye(len(values), dtype=values.dtype)
    if options:
        return torch.autograd.grad(values, angles, rows, **options)[0]
    return torch.stack([torch.autograd.grad(values, angles, row, retain_graph=True)[0] for row in rows])


@pytest.mark.parametrize("path", ["swept", "grouped"])
def test_many_gradients_at_once(path, every_gate, rng, monkeypatch):
    if path == "grouped":
        monkeypatch.setattr("circuits.backends.statevector._MOST_SWEPT", 0)
    backend = Statevector()
    angles = torch.rand(every_gate.n_angles, generator=rng, dtype=torch.float64)
    for function in (
        lambda a: backend.probs(every_gate, a),
        lambda a: backend.expval(every_gate, a, ["XYZI", "IIIZ"]),
        lambda a: torch.view_as_real(backend.state(every_gate, a)),
    ):
        expected = _rows_of_jacobian(function, angles)
        found = _rows_of_jacobian(function, angles, is_grads_batched=True)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert not found.requires_grad
        at_once = torch.autograd.functional.jacobian(function, angles, vectorize=True)
        torch.testing.assert_close(at_once.reshape(expected.shape), expected, rtol=0, atol=1e-12)


def test_tensors_that_torch_negates_later(rng):
    circuit = Circuit(1, [Gate("RX", 0, [0]), Gate("RY", 0, [0])])
    later = torch.complex(torch.zeros(1), torch.full((1,), 0.3)).to(torch.complex128).conj().imag
    assert later.is_neg()
    torch.testing.assert_close(Statevector().probs(circuit, later), Statevector().probs(circuit, later.resolve_neg()))
    angles = torch.rand(1, generator=rng, dtype=torch.float64, requires_grad=True)
    values = Statevector().expval(circuit, angles, ["Z"])
    found = torch.autograd.grad(values, angles, later, retain_graph=True)[0]
    torch.testing.assert_close(found, torch.autograd.grad(values, angles, later.resolve_neg())[0])


def test_angles_that_changed_before_the_gradient_are_refused(rng):
    circuit = ansatz.hardware_efficient(3, 2)
    angles = torch.rand(circuit.n_angles, generator=rng, requires_grad=True).mul(2)
    loss = Statevector().probs(circuit, angles)[0]
    angles.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_it_is_not_gate_by_gate():
    circuit = ansatz.hardware_efficient(8, 8, topology="ring")
    assert len(circuit.gates) == 8 * 24
    assert len(schedule(circuit, 4)) <= 8 * 3
    iqp = Circuit(6, [Gate("H", w) for w in range(6)] + [Gate("RZZ", [a, b], [0]) for a in range(6) for b in range(a)])
    assert len(schedule(iqp, 2)) == 3 + 1


def test_a_circuit_is_compiled_once():
    key = (4, torch.complex128, torch.device("cpu"))
    first = compile_circuit(ansatz.hardware_efficient(3, 2), *key)
    assert compile_circuit(ansatz.hardware_efficient(3, 2), *key) is first


def test_samples_follow_the_probabilities(every_gate, rng):
    angles = torch.rand((2, every_gate.n_angles), generator=rng, dtype=torch.float64) * 6
    shots = 20_000
    bits = Statevector().sample(every_gate, angles, shots, rng)
    assert bits.dtype == torch.uint8
    expected = Statevector().probs(every_gate, angles)
    statistic = (shots * (frequencies(bits) - expected).square() / expected).sum(-1)
    assert bool((statistic < chi2.ppf(1 - 1e-6, 15)).all())


def test_bits_are_in_wire_order():
    bits = Statevector().sample(Circuit(3, [Gate("X", 0), Gate("CNOT", [0, 2])]), torch.zeros(0), 4)
    assert bits.tolist() == [[1, 0, 1]] * 4


def test_samples_are_reproducible():
    circuit = ansatz.hardware_efficient(4, 2)
    angles = torch.linspace(0, 3, circuit.n_angles)
    draws = [Statevector().sample(circuit, angles, 50, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    before = torch.random.get_rng_state()
    fresh = [Statevector().sample(circuit, angles, 50) for _ in range(2)]
    assert not torch.equal(*fresh)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_more_qubits_than_memory():
    for n_wires, message in (
        (36, "36 qubits, batch of 2: needs about"),
        (400, "400 qubits: a state vector has at most"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            Statevector().probs(Circuit(n_wires, [Gate("H", n_wires - 1)]), torch.zeros(2, 0))
        assert "\n" not in str(caught.value)
    circuit = ansatz.hardware_efficient(8, 10)
    backend = Statevector(memory_limit=30_000)
    angles = torch.zeros(circuit.n_angles)
    backend.probs(circuit, angles)
    with pytest.raises(ValueError, match=r"8 qubits, batch of 1, with gradients: needs about .* GB are free on cpu"):
        backend.probs(circuit, angles.requires_grad_())


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="dtype is torch.float64"):
        Statevector(torch.float64)


def test_angles_that_are_not_finite_give_no_samples():
    with pytest.raises(ValueError, match="not finite"):
        Statevector().sample(Circuit(1, [Gate("RX", 0, [0])]), torch.tensor([torch.nan]), 3)


@SOME
@given(data=st.data(), n_bits=st.integers(2, 6))
def test_frames(data, n_bits):
    frame = Frame.of_layout(data.draw(st.permutations(range(n_bits))))
    for _ in range(data.draw(st.integers(0, 12))):
        name = data.draw(st.sampled_from(["X", "CNOT", "SWAP"]))
        frame = frame.permuted(name, data.draw(st.permutations(range(n_bits)))[: 1 if name == "X" else 2])
    table = frame.indices()
    assert torch.equal(table.sort().values, torch.arange(2**n_bits))
    assert table.tolist() == [frame(position) for position in range(2**n_bits)]
    assert torch.equal(frame.inverse().indices()[table], torch.arange(2**n_bits))
    assert frame.then(frame.inverse()) == Frame.identity(n_bits)
    mask = data.draw(st.integers(0, 2**n_bits - 1))
    here, sign = frame.sign(mask)
    for position in range(2**n_bits):
        assert (-1) ** (frame(position) & mask).bit_count() == sign * (-1) ** (position & here).bit_count()


@pytest.mark.parametrize("n_bits", [1, 3, 4, 5, 9])
def test_walsh_transform_is_scipys(n_bits, rng):
    from scipy.linalg import hadamard

    values = torch.rand((3, 2**n_bits), generator=rng, dtype=torch.float64)
    expected = values.numpy() @ hadamard(2**n_bits)
    np.testing.assert_allclose(walsh_transform(values).numpy(), expected, atol=1e-11)
