from __future__ import annotations

import pytest
import torch

from circuits import Angle, Circuit, Gate, ansatz
from circuits.backends import Sampled, Statevector
from circuits.backends.spsa import SPSA

CIRCUIT = Circuit(
    2,
    [
        Gate("RY", 0, [0]),
        Gate("CRX", [0, 1], [Angle(1, 0.5, 0.2)]),
        Gate("RY", 1, [0]),
        Gate("RZZ", [0, 1], [2]),
        Gate("H", 0),
    ],
)
ANGLES = torch.tensor([0.7, 1.9, -0.8], dtype=torch.float64)
OBSERVABLES = ["ZI", "XX"]
WEIGHTS = torch.tensor([1.0, -2.0], dtype=torch.float64)


def _loss(backend, angles):
    return (backend.expval(CIRCUIT, angles, OBSERVABLES) * WEIGHTS).sum()


def _exact_gradient():
    leaf = ANGLES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(Statevector(), leaf), leaf)
    return gradient


class Counting(Statevector):
    def __init__(self):
        super().__init__()
        self.rows = []

    def expval(self, circuit, angles, observables):
        self.rows.append(angles.reshape(-1, circuit.n_angles).detach().clone())
        return super().expval(circuit, angles, observables)


def test_two_circuits_a_repeat_in_one_call(rng):
    inner = Counting()
    circuit = ansatz.hardware_efficient(3, 4)
    angles = torch.rand((5, circuit.n_angles), generator=rng, dtype=torch.float64, requires_grad=True)
    SPSA(inner, step=0.1, repeats=3, generator=rng).expval(circuit, angles, ["Z0"]).sum().backward()
    assert [len(rows) for rows in inner.rows] == [5, 5 * 2 * 3]
    moved = inner.rows[1].reshape(5, 2, 3, -1) - angles.detach()[:, None, None]
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.1))
    torch.testing.assert_close(moved[:, 0], -moved[:, 1])
    signs = moved[:, 0].reshape(15, -1).sign()
    assert len(torch.unique(signs, dim=0)) == 15


def test_a_circuit_without_angles(rng):
    circuit, angles = Circuit(1, [Gate("H", 0)]), torch.zeros((2, 0), dtype=torch.float64, requires_grad=True)
    value = SPSA(Statevector(), generator=rng).expval(circuit, angles, ["X"])
    torch.testing.assert_close(value, torch.ones_like(value))
    assert torch.autograd.grad(value.sum(), angles)[0].shape == (2, 0)


def test_values_are_the_inner_backends(rng):
    backend = SPSA(Statevector(), generator=rng)
    torch.testing.assert_close(backend.probs(CIRCUIT, ANGLES), Statevector().probs(CIRCUIT, ANGLES))
    torch.testing.assert_close(
        backend.expval(CIRCUIT, ANGLES, OBSERVABLES), Statevector().expval(CIRCUIT, ANGLES, OBSERVABLES)
    )
    bits = [b.sample(CIRCUIT, ANGLES, 20, torch.Generator().manual_seed(1)) for b in (backend, Statevector())]
    assert torch.equal(*bits)
    assert backend.capabilities.differentiable
    assert backend.capabilities.exact
    assert not SPSA(Sampled(Statevector(), 10)).capabilities.exact


@pytest.mark.parametrize("shots", [None, 200])
def test_unbiased_and_with_an_honest_variance(shots, rng):
    inner = Statevector() if shots is None else Sampled(Statevector(), shots, rng)
    rows, repeats = 1000, 4
    estimate = SPSA(inner, step=0.05, repeats=repeats, generator=rng).gradient(
        CIRCUIT, ANGLES.expand(rows, 3), OBSERVABLES, WEIGHTS
    )
    spread = estimate.value.var(0)
    exact = _exact_gradient()
    # |f'''| <= 3 for these outputs, so that the bias is below 0.05^2
    bound = 5 * (spread / rows).sqrt() + 0.05**2 * 3
    assert bool(((estimate.value.mean(0) - exact).abs() < bound).all())
    torch.testing.assert_close(estimate.variance.mean(0), spread, rtol=0.25, atol=0)


def test_the_bias_falls_with_the_square_of_the_step():
    def bias(step):
        # all signs at once: the mean over the eight perturbations is the exact expectation
        inner = Statevector()
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
        up, down = ((inner.expval(CIRCUIT, ANGLES + s * step * signs, OBSERVABLES) * WEIGHTS).sum(-1) for s in (1, -1))
        return (((up - down) / (2 * step))[:, None] * signs).mean(0) - _exact_gradient()

    torch.testing.assert_close(bias(0.1) / 4, bias(0.05), rtol=0.01, atol=1e-6)

    estimate = SPSA(Statevector(), step=0.5, repeats=4000, generator=torch.Generator().manual_seed(3)).gradient(
        CIRCUIT, ANGLES, OBSERVABLES, WEIGHTS
    )
    off = estimate.value - _exact_gradient() - bias(0.5)
    assert bool((off.abs() < 5 * estimate.standard_error).all())


def test_it_trains_probabilities(rng):
    target = torch.tensor([0.5, 0.0, 0.0, 0.5], dtype=torch.float64)
    circuit = ansatz.hardware_efficient(2, 2)
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64, requires_grad=True)
    backend = SPSA(Sampled(Statevector(), 500, rng), step=0.2, repeats=2, generator=rng)
    optimiser = torch.optim.Adam([angles], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        (backend.probs(circuit, angles) - target).square().sum().backward()
        optimiser.step()
    assert float((Statevector().probs(circuit, angles.detach()) - target).square().sum()) < 0.01


def test_a_seed_fixes_it():
    grads = []
    for seed in (1, 1, 2):
        leaf = ANGLES.clone().requires_grad_()
        _loss(SPSA(Statevector(), generator=torch.Generator().manual_seed(seed), repeats=3), leaf).backward()
        grads.append(leaf.grad)
    assert torch.equal(grads[0], grads[1])
    assert not torch.equal(grads[0], grads[2])


def test_no_second_derivatives(rng):
    leaf = ANGLES.clone().requires_grad_()
    loss = _loss(SPSA(Statevector(), generator=rng), leaf)
    with pytest.raises(ValueError, match="SPSA estimates first derivatives only"):
        torch.autograd.grad(loss, leaf, create_graph=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, "step is 0.0; a positive number"),
        ({"step": float("nan")}, "step is nan"),
        ({"step": "0.1"}, "step is '0.1'"),
        ({"repeats": 0}, "repeats is 0"),
        ({"repeats": 1.5}, "repeats is 1.5"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SPSA(Statevector(), **options)


def test_one_repeat_has_no_variance():
    with pytest.raises(ValueError, match="2 repeats or more are needed"):
        SPSA(Statevector()).gradient(CIRCUIT, ANGLES, OBSERVABLES)
