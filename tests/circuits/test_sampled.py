from __future__ import annotations

import pytest
import torch

from circuits import Circuit, Gate, ansatz
from circuits.backends import Backend, Sampled, Statevector
from circuits.backends.sampled import parity_means

OBSERVABLES = ["ZZII", "IZIX", "XIIX", "YYII", "IIIZ", "IIII"]


class _Hidden(Sampled):
    """The same backend without leave to count instead of listing."""

    def __init__(self, backend, shots, generator):
        super().__init__(Sampled(backend, shots, generator), shots, generator)


@pytest.fixture
def circuit():
    return ansatz.hardware_efficient(4, 2, topology="ring")


@pytest.fixture
def angles(circuit, rng):
    return torch.rand((2, 3, circuit.n_angles), generator=rng, dtype=torch.float64) * 6


@pytest.mark.parametrize("kind", [Sampled, _Hidden])
@pytest.mark.parametrize("shots", [200, 100_000])
def test_estimates_are_near_the_exact_values(kind, shots, circuit, angles, rng):
    exact, backend = Statevector(), kind(Statevector(), shots, rng)
    expected = exact.probs(circuit, angles)
    found = backend.probs(circuit, angles)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found * shots, (found * shots).round(), rtol=0, atol=1e-6)
    error = (expected * (1 - expected) / shots).sqrt()
    assert bool(((found - expected).abs() <= 5.5 * error + 5 / shots).all())
    means = backend.expval(circuit, angles, OBSERVABLES)
    truth = exact.expval(circuit, angles, OBSERVABLES)
    assert means.shape == truth.shape == (2, 3, 6)
    error = ((1 - truth.square()).clamp(min=0) / shots).sqrt()
    assert bool(((means - truth).abs() <= 5.5 * error + 1e-12).all())
    assert bool((means[..., -1] == 1).all())  # the identity


def test_strings_measured_together_share_their_shots(rng):
    bell = Circuit(2, [Gate("H", 0), Gate("CNOT", [0, 1])])
    means = Sampled(Statevector(), 101, rng).expval(bell, torch.zeros(0), ["ZI", "IZ", "ZZ", "XX", "YY"])
    assert means[0] == means[1] != 0
    torch.testing.assert_close(means[2:], torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64), rtol=0, atol=1e-12)


def test_any_number_of_shots(rng):
    plus = Circuit(1, [Gate("RY", 0, [0])])
    backend = Sampled(Statevector(), 10**9, rng)
    angles = torch.tensor([1.1], dtype=torch.float64)
    assert abs(float(backend.expval(plus, angles, ["Z"]) - angles.cos())) < 2e-4
    assert backend.probs(plus, angles).sum() == 1


def test_it_is_a_backend_without_gradients(circuit, angles):
    backend = Sampled(Statevector(), 10)
    assert isinstance(backend, Backend)
    assert not backend.capabilities.exact
    assert not backend.capabilities.differentiable
    assert "10 shots" in backend.name
    assert not backend.probs(circuit, angles.requires_grad_()).requires_grad
    assert not backend.expval(circuit, angles, OBSERVABLES).requires_grad


def test_it_is_reproducible(circuit, angles):
    def draws(seed):
        backend = Sampled(Statevector(), 50, torch.Generator().manual_seed(seed))
        sample = backend.sample(circuit, angles, 7, torch.Generator().manual_seed(seed))
        return torch.cat([backend.probs(circuit, angles).flatten(), sample.flatten()])

    assert torch.equal(draws(1), draws(1))
    assert not torch.equal(draws(1), draws(2))


@pytest.mark.parametrize("kind", [Sampled, _Hidden])
def test_an_empty_batch(kind, circuit, angles, rng):
    backend = kind(Statevector(), 5, rng)
    assert backend.probs(circuit, angles[:0]).shape == (0, 3, 16)
    assert backend.expval(circuit, angles[:0], OBSERVABLES).shape == (0, 3, 6)


def test_parities(rng):
    from circuits.backends import PauliString

    bits = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]], dtype=torch.uint8)
    assert parity_means(bits, PauliString.parse("Z0 Y2", 3)) == -0.5
    assert parity_means(bits, PauliString.parse("III", 3)) == 1


@pytest.mark.parametrize("kind", [Sampled, _Hidden])
def test_mistakes(kind, circuit, angles, rng):
    with pytest.raises(ValueError, match="shots is 0; an integer of at least 1 is needed"):
        Sampled(Statevector(), 0)
    backend = kind(Statevector(), 5, rng)
    for call in (lambda a: backend.probs(circuit, a), lambda a: backend.expval(circuit, a, ["Z0"])):
        with pytest.raises(ValueError, match="angles have shape"):
            call(angles[..., 1:])
        with pytest.raises(ValueError, match="not finite"):
            call(angles * torch.nan)
    with pytest.raises(ValueError, match="has 2 letters; the circuit has 4 wires"):
        backend.expval(circuit, angles, ["ZZ"])
