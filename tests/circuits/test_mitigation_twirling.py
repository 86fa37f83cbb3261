from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate, ansatz
from circuits.backends import Backend, Capabilities, ParameterShift, Sampled, Statevector
from circuits.mitigation import PauliTwirling
from circuits.mitigation.twirling import TWIRLED
from noisy_backends import OverRotated

SOME = settings(max_examples=60, deadline=None)
CIRCUIT = ansatz.hardware_efficient(3, 2)
ANGLES = torch.rand((2, CIRCUIT.n_angles), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
OBSERVABLES = ["ZII", "XIY", "III"]


@SOME
@given(data=st.data(), seed=st.integers(0, 1000))
def test_every_twirl_is_the_ideal_circuit(circuits, data, seed):
    circuit = data.draw(circuits(max_wires=3, max_gates=12))
    twirled = PauliTwirling(Statevector()).twirl(circuit, torch.Generator().manual_seed(seed))
    angles = torch.tensor([0.4, -1.3, 2.2, 0.9], dtype=torch.float64)
    one, other = (Statevector().state(c, angles) for c in (circuit, twirled))
    torch.testing.assert_close((one.conj() * other).sum().abs(), torch.ones((), dtype=torch.float64))
    kept = [gate for gate in twirled.gates if gate.name not in "XYZ"]
    assert kept == [gate for gate in circuit.gates if gate.name not in "XYZ"]


@pytest.mark.parametrize("name", TWIRLED)
def test_paulis_before_a_gate_are_uniform(name, rng):
    gate = Gate(name, [0, 1], [0.7] if name.startswith("R") else [])
    counts: dict[str, int] = {}
    for _ in range(1600):
        gates = PauliTwirling(Statevector()).twirl(Circuit(2, [gate]), rng).gates
        letters = {g.wires[0]: g.name for g in gates[: gates.index(gate)]}
        key = letters.get(0, "I") + letters.get(1, "I")
        counts[key] = counts.get(key, 0) + 1
    expected = 8 if name.startswith("R") else 16
    assert len(counts) == expected
    assert all(abs(n - 1600 / expected) < 5 * (1600 / expected) ** 0.5 for n in counts.values())


def _chain(length):
    return Circuit(2, [Gate("CNOT", [0, 1])] * length)


def test_coherent_errors_no_longer_add_up(rng):
    # every other error is XX, the others XI: each half adds up to one rotation; twirled, each shrinks Z0 by cos(a)
    angle, length = 0.15, 10
    raw = OverRotated(angle).expval(_chain(length), torch.zeros(0), ["ZI"])
    assert float(raw) == pytest.approx(math.cos(length / 2 * angle) ** 2, abs=1e-12)
    backend = PauliTwirling(OverRotated(angle), twirls=400, generator=rng)
    found = backend.expval_with_error(_chain(length), torch.zeros(0), ["ZI"])
    expected = math.cos(angle) ** length
    assert abs(float(found.value) - expected) < 5 * float(found.deviation)
    assert float(found.deviation) < 0.03
    assert 1 - expected < 0.25 * (1 - float(raw))


# the inverse of CZ up to a phase, from gates that the backend gets right
_UNDO_CZ = [Gate("RZ", 0, [math.pi / 2]), Gate("RZ", 1, [math.pi / 2]), Gate("RZZ", [0, 1], [-math.pi / 2])]
_UNDO = {"CZ": _UNDO_CZ, "CNOT": [Gate("H", 1), *_UNDO_CZ, Gate("H", 1)]}
_PAULIS = [a + b for a in "IXYZ" for b in "IXYZ"][1:]


@pytest.mark.parametrize(("name", "error"), [("CNOT", "XI"), ("CZ", "YY")])
@pytest.mark.parametrize("prepare", ["", "H", "H S"])
def test_the_twirled_error_is_a_pauli_channel(name, error, prepare, rng):
    # RXX after the gate, and the gate undone: a rotation by the Pauli string `error`
    angle = 0.4
    first = [Gate(letter, wire) for wire in (0, 1) for letter in prepare.split()]
    circuit = Circuit(2, [*first, Gate(name, [0, 1]), *_UNDO[name]])
    ideal = Statevector().expval(Circuit(2, first), torch.zeros(0), _PAULIS)
    torch.testing.assert_close(Statevector().expval(circuit, torch.zeros(0), _PAULIS), ideal, rtol=0, atol=1e-12)
    raw = OverRotated(angle).expval(circuit, torch.zeros(0), _PAULIS)
    moved = (raw - ideal).abs()[ideal.abs() < 0.5]
    found = PauliTwirling(OverRotated(angle), twirls=300, generator=rng).expval_with_error(
        circuit, torch.zeros(0), _PAULIS
    )
    # diagonal: a Pauli string that anticommutes with the error shrinks by cos(a), the others stay; nothing else comes
    shrinks = [sum("I" != a != b != "I" for a, b in zip(p, error, strict=True)) % 2 for p in _PAULIS]
    expected = ideal * torch.tensor([math.cos(angle) if s else 1.0 for s in shrinks], dtype=torch.float64)
    assert bool(((found.value - expected).abs() < 5 * found.deviation + 1e-9).all())
    assert float(found.deviation.max()) < 0.03
    anything = any(s and abs(float(i)) > 0.5 for s, i in zip(shrinks, ideal, strict=True))
    assert float(moved.max()) == pytest.approx(math.sin(angle) if anything else 0, abs=1e-9)


def test_exact_and_sampled_agree(rng):
    exact = PauliTwirling(OverRotated(0.3), twirls=100, generator=rng)
    sampled = PauliTwirling(Sampled(OverRotated(0.3), 100_000, rng), twirls=100, generator=rng)
    for one, other in (
        (exact.probs_with_error(CIRCUIT, ANGLES), sampled.probs_with_error(CIRCUIT, ANGLES)),
        (
            exact.expval_with_error(CIRCUIT, ANGLES, OBSERVABLES),
            sampled.expval_with_error(CIRCUIT, ANGLES, OBSERVABLES),
        ),
    ):
        error = (one.deviation.square() + other.deviation.square()).sqrt()
        assert bool(((one.value - other.value).abs() < 5 * error + 1e-9).all())


def test_the_deviation_is_the_spread(rng):
    # few shots for each twirl and a large coherent error: the spread over twirls must be in it
    backend = PauliTwirling(Sampled(OverRotated(1.0), 123, rng), twirls=6, generator=rng)
    angles = ANGLES[0]
    found = [backend.expval_with_error(CIRCUIT, angles, OBSERVABLES) for _ in range(40)]
    values, deviations = (torch.stack(part) for part in zip(*found, strict=True))
    rms = deviations.square().mean(0).sqrt()
    torch.testing.assert_close(rms, values.std(0), rtol=0.5, atol=1e-12)
    found = [backend.probs_with_error(CIRCUIT, angles) for _ in range(40)]
    values, deviations = (torch.stack(part) for part in zip(*found, strict=True))
    torch.testing.assert_close(deviations.square().mean(0).sqrt(), values.std(0), rtol=0.5, atol=1e-12)


class Jobs(Sampled):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.jobs = []

    def sample_circuits(self, circuits, angles, shots, generator):
        self.jobs.append((len(circuits), shots))
        return super().sample_circuits(circuits, angles, shots, generator)


def test_all_twirls_are_one_job_and_share_the_shots(rng):
    device = Jobs(Statevector(), 100, rng)
    backend = PauliTwirling(device, twirls=16, generator=rng)
    assert backend.sample(CIRCUIT, ANGLES, 50).shape == (2, 50, 3)
    backend.expval(CIRCUIT, ANGLES, ["ZII", "XII"])
    backend.probs(Circuit(3, [Gate("H", 0)]), torch.zeros(0))
    assert backend.sample(CIRCUIT, ANGLES, 3).shape == (2, 3, 3)
    assert device.jobs == [(16, 4), (32, 7), (1, 100), (3, 1)]


def test_gradients_pass_through_it(rng):
    leaf = ANGLES.clone().requires_grad_()
    found, expected = (
        torch.autograd.grad(backend.expval(CIRCUIT, leaf, OBSERVABLES).square().sum(), leaf)[0]
        for backend in (PauliTwirling(Statevector(), 3, rng), Statevector())
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    shifted = ParameterShift(PauliTwirling(Statevector(), 3, rng))
    (found,) = torch.autograd.grad(shifted.expval(CIRCUIT, leaf, OBSERVABLES).square().sum(), leaf)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_seed_fixes_it():
    draws = [
        PauliTwirling(Sampled(OverRotated(0.3), 64), 4, torch.Generator().manual_seed(s)).probs(CIRCUIT, ANGLES)
        for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_capabilities_tell_the_truth(rng):
    exact = PauliTwirling(OverRotated(0.1))
    assert exact.capabilities == Capabilities(differentiable=True, exact=False, noisy=True, batched=True)
    sampled = PauliTwirling(Sampled(Statevector(), 10))
    assert sampled.capabilities == Capabilities(differentiable=False, exact=False, noisy=False, batched=True)
    assert isinstance(sampled, Backend)
    assert sampled.name == "statevector, 10 shots, Pauli twirled"
    one = PauliTwirling(OverRotated(0.1), twirls=1, generator=rng).expval_with_error(CIRCUIT, ANGLES, ["ZII"])
    assert bool(one.deviation.isnan().all())


def test_bad_input():
    for twirls in (0, 1.5, True):
        with pytest.raises(ValueError, match="an integer of at least 1 is needed"):
            PauliTwirling(Statevector(), twirls)
    for inner in (Statevector(), Sampled(Statevector(), 10)):
        backend = PauliTwirling(inner)
        with pytest.raises(ValueError, match="angles have shape"):
            backend.probs(CIRCUIT, torch.zeros(2))
        with pytest.raises(ValueError, match="is out of range"):
            backend.expval(CIRCUIT, ANGLES, ["Z7"])
        with pytest.raises(ValueError, match="shots is 0"):
            backend.sample(CIRCUIT, ANGLES, 0)
