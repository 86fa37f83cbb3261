"""What holds for every backend: the same questions have the same answers, exactly or within the statistics."""

from __future__ import annotations

import copy
import functools
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import qiskit.quantum_info as qi
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit_aer import AerSimulator

from circuits import Circuit, Gate
from circuits.backends import BACKENDS, Backend, make_backend
from circuits.gate_table import GATES
from circuits.noise import NoiseModel
from random_circuits import random_circuits

ANGLES = torch.tensor([0.4, -1.3, 2.2, 0.9], dtype=torch.float64)
SHOTS = 8192
FEW = settings(max_examples=8, deadline=None)
NOISE = {
    "depolarizing": {"one_qubit": 0.01, "two_qubit": 0.03},
    "amplitude_damping": 0.02,
    "readout": {"p01": 0.02, "p10": 0.05},
}
FLIPS = {"readout": {"p01": 0.02, "p10": 0.05}}


@dataclass(frozen=True)
class Case:
    """A backend as it stands in a configuration.

    Args:
        name: of the test.
        spec: the configuration.
        tolerance: of an exact backend's numbers; None where they are estimates from shots.
        noise: of the noise in it, if any.
        device: it runs on the device that the tests were asked to use.
    """

    name: str
    spec: dict[str, Any]
    tolerance: float | None = 1e-10
    noise: dict[str, Any] | None = None
    device: bool = False

    def make(self, device: str) -> Backend:
        place = {"device": device} if self.device else {}
        return make_backend(**self.spec, **place, seed=11)


CASES = [
    Case("statevector", {"kind": "statevector"}, device=True),
    Case("statevector in single precision", {"kind": "statevector", "dtype": "complex64"}, 2e-5, device=True),
    Case("density matrix", {"kind": "density_matrix"}, device=True),
    Case("density matrix in single precision", {"kind": "density_matrix", "dtype": "float32"}, 2e-5, device=True),
    Case("default.qubit", {"kind": "pennylane", "device": "default.qubit"}),
    Case("lightning.qubit", {"kind": "pennylane", "device": "lightning.qubit"}),
    Case("default.mixed", {"kind": "pennylane", "device": "default.mixed"}),
    Case("parameter shifts", {"kind": "statevector", "gradient": "parameter-shift"}, device=True),
    Case("sampled", {"kind": "statevector", "shots": SHOTS}, None, device=True),
    Case("default.qubit, sampled", {"kind": "pennylane", "device": "default.qubit", "shots": SHOTS}, None),
    Case("Aer", {"kind": "qiskit", "device": "aer", "shots": SHOTS}, None),
    Case("twirled", {"kind": "statevector", "mitigation": ["twirling"]}, device=True),
    Case("noisy", {"kind": "density_matrix", "noise": NOISE}, 1e-8, NOISE, device=True),
    Case("noisy, sampled", {"kind": "density_matrix", "noise": NOISE, "shots": SHOTS}, None, NOISE, device=True),
    Case("trajectories", {"kind": "trajectories", "noise": NOISE, "n_trajectories": SHOTS}, None, NOISE, device=True),
    Case("Aer, noisy", {"kind": "qiskit", "device": "aer", "noise": NOISE, "shots": SHOTS}, None, NOISE),
    Case(
        "readout mitigated", {"kind": "density_matrix", "noise": FLIPS, "shots": SHOTS, "mitigation": ["readout"]}, None
    ),
]
"""A mitigated backend is held to the noiseless answer."""

# gates that Aer runs as they are, so that its noise comes where ours does
NATIVE = ("H", "X", "Y", "Z", "S", "Sdg", "T", "SX", "RX", "RY", "RZ", "PhaseShift", "CNOT", "CZ", "SWAP", "RXX", "RZZ")


@pytest.fixture(scope="session", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--device")


def reference(circuit: Circuit, angles: torch.Tensor, noise: dict[str, Any] | None) -> torch.Tensor:
    """Probabilities by Qiskit's state vector, or by Aer's density matrix with the readout errors applied by hand."""
    bound = circuit.bind(angles)
    measured = bound.to_qiskit().reverse_bits()
    if noise is None:
        return torch.as_tensor(qi.Statevector(measured).probabilities())
    plain = bound.to_qiskit()
    plain.save_density_matrix()
    simulator = AerSimulator(method="density_matrix", noise_model=NoiseModel.from_config(noise).to_aer())
    density = simulator.run(plain).result().data()["density_matrix"]
    probabilities = torch.as_tensor(qi.DensityMatrix(density).reverse_qargs().probabilities())
    p01, p10 = noise["readout"]["p01"], noise["readout"]["p10"]
    flip = torch.tensor([[1 - p01, p10], [p01, 1 - p10]], dtype=torch.float64)
    return functools.reduce(torch.kron, [flip] * circuit.n_wires) @ probabilities


def agree(found: torch.Tensor, expected: torch.Tensor, case: Case, spread: torch.Tensor, unit: float = 1.0) -> None:
    """Equal to the tolerance, or within the statistics: five standard deviations and a few counts."""
    if case.tolerance is not None:
        torch.testing.assert_close(found.cpu().double(), expected, rtol=0, atol=case.tolerance)
    else:
        # the correction of readout errors adds the statistics of what it takes away and of the calibration
        added = 0.3 * unit if "mitigation" in case.spec else 0.0
        allowed = 5 * ((spread.clamp_min(0) + added) / SHOTS).sqrt() + unit * 6 / SHOTS
        assert ((found.cpu().double() - expected).abs() <= allowed).all(), (found, expected)


def test_every_kind_is_here() -> None:
    assert {case.spec["kind"] for case in CASES} == set(BACKENDS)


def test_it_is_a_backend(case: Case, device: str) -> None:
    backend = case.make(device)
    assert isinstance(backend, Backend)
    assert backend.name
    assert "\n" not in backend.name
    assert backend.capabilities.noisy == (case.spec.get("noise") is not None)
    assert not (backend.capabilities.exact and case.tolerance is None)


def test_first_wire_is_the_most_significant_bit(case: Case, device: str) -> None:
    backend = case.make(device)
    circuit = Circuit(3, [Gate("X", 0), Gate("CNOT", [0, 1])])
    assert backend.probs(circuit, torch.zeros(0)).argmax().item() == 0b110
    bits = backend.sample(circuit, torch.zeros(0), 200, torch.Generator().manual_seed(0))
    assert bits.dtype == torch.uint8
    assert bits.shape == (200, 3)
    assert bits.double().mean(0).round().tolist() == [1, 1, 0]
    values = backend.expval(circuit, torch.zeros(0), ["ZII", "IIZ", "Z0 Z1"])
    assert values.sign().tolist() == [-1, 1, 1]


@FEW
@given(data=st.data())
def test_probabilities_and_samples_are_those_of_the_reference(case: Case, data: st.DataObject, device: str) -> None:
    backend = case.make(device)
    circuit = data.draw(random_circuits(max_wires=3, max_gates=8, names=NATIVE if case.noise else tuple(GATES)))
    expected = reference(circuit, ANGLES, case.noise)
    probabilities = backend.probs(circuit, ANGLES)
    agree(probabilities, expected, case, expected * (1 - expected))
    bits = backend.sample(circuit, ANGLES, SHOTS, torch.Generator().manual_seed(5))
    place = 2 ** torch.arange(circuit.n_wires - 1, -1, -1)
    counts = torch.bincount(bits.cpu().long() @ place, minlength=len(expected)) / SHOTS
    agree(counts, expected, Case(case.name, case.spec, None), expected * (1 - expected))


@FEW
@given(data=st.data())
def test_expectation_values_are_those_of_the_reference(case: Case, data: st.DataObject, device: str) -> None:
    if case.noise is not None:
        pytest.skip("the noiseless states are the reference here; noisy ones are compared by their probabilities")
    backend = case.make(device)
    circuit = data.draw(random_circuits(max_wires=3, max_gates=8))
    letters = st.text("IXYZ", min_size=circuit.n_wires, max_size=circuit.n_wires)
    observables = data.draw(st.lists(letters, min_size=1, max_size=3))
    state = qi.Statevector(circuit.bind(ANGLES).to_qiskit().reverse_bits())
    expected = torch.tensor([state.expectation_value(qi.Pauli(text)).real for text in observables], dtype=torch.float64)
    agree(backend.expval(circuit, ANGLES, observables), expected, case, 1 - expected**2, 2.0)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 2)])
def test_batch_is_each_alone(case: Case, batch: tuple[int, ...], device: str) -> None:
    backend = case.make(device)
    circuit = Circuit(2, [Gate("RY", 0, [0]), Gate("RXX", [0, 1], [1]), Gate("RZ", 1, [0])], 2)
    angles = torch.linspace(0.3, 2.0, 2 * max(1, torch.Size(batch).numel()), dtype=torch.float64).reshape(*batch, 2)
    probabilities = backend.probs(circuit, angles)
    values = backend.expval(circuit, angles, ["ZI", "XX"])
    bits = backend.sample(circuit, angles, 50, torch.Generator().manual_seed(1))
    assert (probabilities.shape, values.shape, bits.shape) == ((*batch, 4), (*batch, 2), (*batch, 50, 2))
    assert probabilities.device.type == (device if case.device else "cpu")
    torch.testing.assert_close(probabilities.sum(-1).cpu().double(), torch.ones(batch).double(), atol=1e-5, rtol=0)
    for row, one in zip(probabilities.reshape(-1, 4), angles.reshape(-1, 2), strict=True):
        expected = reference(circuit, one, case.noise)
        agree(row, expected, case, expected * (1 - expected))
    agree(case.make(device).probs(circuit, one), expected, case, expected * (1 - expected))


def test_gradients_are_finite_differences(case: Case, device: str) -> None:
    """Of the exact reference by the exact backends, and of the same within the statistics by the sampled ones."""
    backend = case.make(device)
    if not backend.capabilities.differentiable:
        assert not backend.probs(Circuit(1, [Gate("RY", 0, [0])]), ANGLES[:1].clone().requires_grad_()).requires_grad
        pytest.skip("not differentiable")
    circuit = Circuit(
        3,
        [Gate("RY", w, [w]) for w in range(3)]
        + [
            Gate("CNOT", [0, 1]),
            Gate("RXX" if case.noise else "CRX", [1, 2], [3]),
            Gate("RX", 0, [0]),
            Gate("RZZ", [0, 2], [1]),
            Gate("H", 1),
        ],
    )
    weights = torch.linspace(-1, 1, 8, dtype=torch.float64)

    def loss(angles: torch.Tensor) -> torch.Tensor:
        return reference(circuit, angles, case.noise) @ weights

    angles = ANGLES.clone().requires_grad_()
    (backend.probs(circuit, angles).cpu().double() @ weights).backward()
    step = 1e-5 * torch.eye(4, dtype=torch.float64)
    differences = torch.stack([(loss(ANGLES + one) - loss(ANGLES - one)) / 2e-5 for one in step])
    assert angles.grad is not None
    allowed = 1e-8 + 10 * case.tolerance if case.tolerance is not None else 8 / SHOTS**0.5
    torch.testing.assert_close(angles.grad, differences, rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_angles_of_any_layout_and_type(case: Case, dtype: torch.dtype, device: str) -> None:
    circuit = Circuit(2, [Gate("RY", 0, [0]), Gate("RXX", [0, 1], [1])])
    angles = torch.tensor([[1, 2], [3, 1], [2, 0]], dtype=dtype).T[:, :, None].expand(2, 3, 4).transpose(1, 2)
    angles = angles[:, :, :2]  # neither contiguous nor without repetition
    found = case.make(device).probs(circuit, angles)
    same = case.make(device).probs(circuit, angles.to(torch.float64).contiguous())
    assert found.shape == (2, 4, 4)
    torch.testing.assert_close(found, same, rtol=0, atol=0)


def test_nothing_is_a_circuit_too(case: Case, device: str) -> None:
    """No gates, a wire that no gate touches, an observable that measures nothing, a batch without rows."""
    backend = case.make(device)
    for circuit in (Circuit(1), Circuit(2, [Gate("X", 1)], 1)):
        n, n_angles = circuit.n_wires, circuit.n_angles
        angles = torch.zeros(2, n_angles, dtype=torch.float64)
        assert backend.probs(circuit, angles).argmax(-1).tolist() == [n - 1] * 2
        torch.testing.assert_close(
            backend.expval(circuit, angles, ["I" * n]).cpu().double(), torch.ones(2, 1).double(), rtol=0, atol=1e-5
        )
        assert backend.sample(circuit, angles, 1).shape == (2, 1, n)
        assert backend.probs(circuit, angles[:0]).shape == (0, 2**n)
        assert backend.expval(circuit, angles[:0], ["Z" * n]).shape == (0, 1)
        assert backend.sample(circuit, angles[:0], 3).shape == (0, 3, n)


def test_a_copy_does_the_same(case: Case, device: str) -> None:
    """A model that holds a backend is copied, and sent to other processes, with it."""
    circuit = Circuit(2, [Gate("RY", 0, [0]), Gate("CNOT", [0, 1])])
    used, fresh = case.make(device), case.make(device)
    copies = [copy.deepcopy(used), pickle.loads(pickle.dumps(used))]
    expected = fresh.probs(circuit, ANGLES[:1])
    for one in (*copies, used):
        assert torch.equal(one.probs(circuit, ANGLES[:1]), expected)
    after = [one.probs(circuit, ANGLES[:1]) for one in (used, copy.deepcopy(fresh), pickle.loads(pickle.dumps(fresh)))]
    assert torch.equal(after[0], after[1])
    assert torch.equal(after[0], after[2])


def test_randomness_is_the_generators(case: Case, device: str) -> None:
    circuit = Circuit(2, [Gate("H", 0), Gate("RY", 1, [0])])
    before = torch.random.get_rng_state()
    first, again = (
        case.make(device).sample(circuit, ANGLES[:1], 100, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    other = case.make(device).sample(circuit, ANGLES[:1], 100, torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(case.make(device).probs(circuit, ANGLES[:1]), case.make(device).probs(circuit, ANGLES[:1]))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda b, c: b.probs(c, torch.zeros(3)), r"angles have shape \(3,\); expected \(..., 2\)"),
        (lambda b, c: b.expval(c, torch.zeros(3), ["ZI"]), r"angles have shape \(3,\); expected \(..., 2\)"),
        (lambda b, c: b.sample(c, torch.zeros(3), 5), r"angles have shape \(3,\); expected \(..., 2\)"),
        (lambda b, c: b.sample(c, torch.zeros(2), 0), "shots is 0; an integer of at least 1 is needed"),
        (lambda b, c: b.expval(c, torch.zeros(2), ["ZZZ"]), "has 3 letters; the circuit has 2 wires"),
        (lambda b, c: b.expval(c, torch.zeros(2), []), "a list of Pauli strings is needed"),
    ],
)
def test_a_mistake_is_one_line(case: Case, ask: Any, message: str, device: str) -> None:
    circuit = Circuit(2, [Gate("RY", 0, [0]), Gate("RY", 1, [1])])
    with pytest.raises(ValueError, match=message) as raised:
        ask(case.make(device), circuit)
    assert "\n" not in str(raised.value)
