from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate, ansatz
from circuits.backends import Capabilities, ParameterShift, Sampled, Statevector, gradients

SOME = settings(max_examples=25, deadline=None)
OBSERVABLES = ["ZIII", "X0 Y1", "Z2 Z3"]


def _gradient(function, angles):
    leaf = angles.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf) + 0 * leaf.sum(), leaf)
    return gradient


@SOME
@given(data=st.data())
def test_without_shots_it_is_autograd(circuits, data):
    circuit = data.draw(circuits(max_wires=3, max_gates=10))
    exact, shifted = Statevector(), ParameterShift(Statevector())
    angles = torch.tensor([[0.4, -1.3, 2.2, 0.9], [1.0, 0.2, -0.7, 3.0]], dtype=torch.float64)
    target = torch.linspace(0, 1, 2**circuit.n_wires, dtype=torch.float64)
    torch.testing.assert_close(shifted.probs(circuit, angles), exact.probs(circuit, angles), rtol=0, atol=1e-12)
    expected, found = (
        _gradient(lambda a, b=b: (b.probs(circuit, a) - target).square().sum(), angles) for b in (exact, shifted)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_every_gate_and_expectation_values(every_gate, rng):
    angles = torch.rand((2, every_gate.n_angles), generator=rng, dtype=torch.float64) * 6
    expected, found = (
        _gradient(lambda a, b=b: b.expval(every_gate, a, OBSERVABLES).pow(3).sum(), angles)
        for b in (Statevector(), ParameterShift(Statevector()))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_one_call_for_a_batch():
    class Counting(Statevector):
        calls = 0

        def probs(self, circuit, angles):
            self.calls += 1
            return super().probs(circuit, angles)

    backend = Counting()
    circuit = ansatz.hardware_efficient(3, 2)
    angles = torch.rand((4, circuit.n_angles), dtype=torch.float64, requires_grad=True)
    ParameterShift(backend).probs(circuit, angles).square().sum().backward()
    assert backend.calls == 2


def test_shots_are_unbiased(rng):
    circuit = Circuit(
        2,
        [
            Gate("RY", 0, [0]),
            Gate("CRX", [0, 1], [Angle(1, 0.5, 0.2)]),
            Gate("RY", 1, [0]),
            Gate("ControlledPhaseShift", [0, 1], [2]),
            Gate("H", 0),
        ],
    )
    one = torch.tensor([0.7, 1.9, -0.8], dtype=torch.float64)
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    repeats, shots = 400, 50
    backend = ParameterShift(Sampled(Statevector(), shots, rng))
    batch = one.expand(repeats, 3)
    for function in (
        lambda b, a: b.probs(circuit, a) @ weight,
        lambda b, a: b.expval(circuit, a, ["ZX", "Y1"]).sum(-1),
    ):
        values = function(backend, batch)
        expected = function(Statevector(), one)
        assert abs(values.mean() - expected) < 5 * values.std() / repeats**0.5
        estimates = _gradient(lambda a, f=function: f(backend, a).sum(), batch)
        exact = _gradient(lambda a, f=function: f(Statevector(), a), one)
        error = estimates.std(0) / repeats**0.5
        assert bool(((estimates.mean(0) - exact).abs() < 5 * error + 1e-12).all())
        assert bool((error > 0).all())


def test_frequencies_come_from_shots_and_are_reproducible():
    circuit = ansatz.hardware_efficient(3, 1)
    angles = torch.linspace(0, 2, circuit.n_angles, dtype=torch.float64)
    draws = [
        ParameterShift(Sampled(Statevector(), 10, torch.Generator().manual_seed(s))).probs(circuit, angles)
        for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.testing.assert_close(draws[0] * 10, (draws[0] * 10).round())
    assert float(draws[0].sum()) == pytest.approx(1)


def test_observables_that_share_no_basis_and_identities(rng):
    backend = ParameterShift(Sampled(Statevector(), 4000, rng))
    circuit = Circuit(2, [Gate("H", 0), Gate("CNOT", [0, 1])])
    values = backend.expval(circuit, torch.zeros(0), ["XX", "YY", "ZZ", "II", "ZI"])
    assert values[:4].tolist() == [1, -1, 1, 1]
    assert abs(float(values[4])) < 0.1


def test_second_derivatives(rng):
    circuit = Circuit(2, [Gate("RX", 0, [0]), Gate("CRY", [0, 1], [1]), Gate("RZZ", [1, 0], [0]), Gate("H", 0)])
    angles = torch.rand(2, generator=rng, dtype=torch.float64, requires_grad=True)
    some = torch.rand(4, generator=rng, dtype=torch.float64)
    exact, shifted = (
        torch.autograd.functional.hessian(lambda a, b=b: (b.probs(circuit, a) @ some).square(), angles)
        for b in (Statevector(), ParameterShift(Statevector()))
    )
    torch.testing.assert_close(shifted, exact, rtol=0, atol=1e-10)


def test_faults():
    circuit = Circuit(1, [Gate("RX", 0, [0])])
    with pytest.raises(ValueError, match="angles have shape"):
        ParameterShift(Statevector()).probs(circuit, torch.zeros(2))
    with pytest.raises(ValueError, match="wire 3 is out of range"):
        ParameterShift(Statevector()).expval(circuit, torch.zeros(1), ["Z3"])


def test_circuits_that_do_not_fit_at_once_come_in_parts(monkeypatch):
    circuit = ansatz.hardware_efficient(3, 2)
    angles = torch.rand((4, circuit.n_angles), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.linspace(-1, 1, 4 * 8, dtype=torch.float64).reshape(4, 8)
    rows = []

    class Recording(Statevector):
        def probs(self, circuit, angles):
            rows.append(len(angles.reshape(-1, circuit.n_angles)))
            return super().probs(circuit, angles)

    def gradient():
        return _gradient(lambda a: (ParameterShift(Recording()).probs(circuit, a) * weights).sum(), angles)

    whole = gradient()
    n_shifted = rows.pop()
    rows.clear()
    monkeypatch.setattr(gradients, "_NUMBERS_AT_ONCE", 56)
    torch.testing.assert_close(gradient(), whole, rtol=0, atol=1e-14)
    assert max(rows[1:]) == 7
    assert sum(rows[1:]) == n_shifted


def test_fixed_angles_have_no_gradient():
    angles = torch.zeros((2, 3), dtype=torch.float64, requires_grad=True)
    backend = ParameterShift(Statevector())
    circuit = Circuit(1, [Gate("RX", 0, [0.3])], n_angles=3)
    backend.expval(circuit, angles, ["Z"]).sum().backward()
    assert torch.equal(angles.grad, torch.zeros(2, 3, dtype=torch.float64))
    assert torch.equal(backend.gradient(circuit, angles, ["Z"]).variance, torch.zeros(2, 3, dtype=torch.float64))


SHARED = Circuit(
    2,
    [
        Gate("RY", 0, [0]),
        Gate("CRX", [0, 1], [Angle(1, 0.5, 0.2)]),
        Gate("RY", 1, [0]),
        Gate("ControlledPhaseShift", [0, 1], [2]),
        Gate("H", 0),
    ],
)


@pytest.mark.parametrize(
    ("observables", "weights"),
    [
        (None, [1.0, -2.0, 0.5, 3.0]),
        # ZI, IZ and ZZ share their shots and are correlated, X0 does not
        (["ZI", "IZ", "ZZ", "XI"], [1.0, 2.0, -0.5, 1.5]),
    ],
)
def test_the_variance_from_shots_is_the_spread(observables, weights, rng):
    repeats, shots = 3000, 40
    angles = torch.tensor([0.7, 1.9, -0.8], dtype=torch.float64)
    weights = torch.tensor(weights, dtype=torch.float64)
    backend = ParameterShift(Sampled(Statevector(), shots, rng))
    found = backend.gradient(SHARED, angles.expand(repeats, 3), observables, weights)
    exact = ParameterShift(Statevector()).gradient(SHARED, angles, observables, weights)
    leaf = angles.clone().requires_grad_()
    outputs = (
        Statevector().probs(SHARED, leaf) if observables is None else Statevector().expval(SHARED, leaf, observables)
    )
    (expected,) = torch.autograd.grad((outputs * weights).sum(), leaf)
    torch.testing.assert_close(exact.value, expected, rtol=0, atol=1e-12)
    assert torch.equal(exact.variance, torch.zeros(3, dtype=torch.float64))
    spread = found.value.var(0)
    # the relative error of an empirical variance over n repeats is about sqrt(2 / n)
    torch.testing.assert_close(found.variance.mean(0), spread, rtol=5 * (2 / repeats) ** 0.5, atol=0)
    assert bool(((found.value.mean(0) - expected).abs() < 5 * (spread / repeats).sqrt()).all())
    torch.testing.assert_close(found.standard_error.square(), found.variance)


def test_repeats_give_the_variance_of_the_mean(rng):
    class Jittery(Statevector):
        capabilities = Capabilities(differentiable=False, exact=False, noisy=True, batched=True)

        def expval(self, circuit, angles, observables):
            values = super().expval(circuit, angles, observables)
            return values + 0.1 * torch.randn(values.shape, generator=rng, dtype=values.dtype)

    angles = torch.tensor([[0.7, 1.9, -0.8]], dtype=torch.float64).expand(50, 3)
    estimate = ParameterShift(Jittery()).gradient(SHARED, angles, ["ZI"], repeats=40)
    # angle 2 sits in a two-term rule with weights 1/2: variance 2 (0.1 / 2)^2 per estimate
    assert float(estimate.variance[:, 2].mean()) == pytest.approx(0.005 / 40, rel=0.15)
    with pytest.raises(ValueError, match="2 repeats or more are needed"):
        ParameterShift(Jittery()).gradient(SHARED, angles, ["ZI"])
    measured = ParameterShift(Sampled(Statevector(), 100, rng))
    once, often = (measured.gradient(SHARED, angles, ["ZI"], repeats=n).variance.mean(0) for n in (1, 10))
    torch.testing.assert_close(often, once / 10, rtol=0.1, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "weights are missing"),
        ({"weights": torch.ones(3)}, "weights have shape"),
        ({"observables": ["Z"], "repeats": 0}, "repeats is 0"),
        ({"observables": ["ZZ"]}, "has 2 letters"),
    ],
)
def test_gradients_that_cannot_be_estimated(arguments, message):
    with pytest.raises(ValueError, match=message):
        ParameterShift(Statevector()).gradient(Circuit(1, [Gate("RX", 0, [0])]), torch.zeros(1), **arguments)


def test_one_shot_has_no_variance():
    backend = ParameterShift(Sampled(Statevector(), 1))
    with pytest.raises(ValueError, match="shots is 1; a variance needs 2 or more"):
        backend.gradient(Circuit(1, [Gate("RX", 0, [0])]), torch.zeros(1), ["Z"])
