import math

import numpy as np
import pytest
import torch
from scipy import special
from scipy.linalg import expm

from circuits.cv import matrices
from circuits.cv.basis import blocks_of

LARGE = 140


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def lowering(size):
    return np.diag(np.sqrt(np.arange(1, size)), 1)


def square(entries, cutoff):
    return entries.numpy().reshape(cutoff, cutoff)


@pytest.mark.parametrize("a", [-1.3, 0.0, 0.4, 2.0])
def test_displacement_is_the_exponential(a):
    lower = lowering(LARGE)
    wanted = expm(a * (lower.T - lower))[:20, :20]
    np.testing.assert_allclose(square(matrices.displacement(tensor(a), 20), 20), wanted, atol=1e-12)


@pytest.mark.parametrize("a", [0.7, 4.0, 9.0])
def test_large_displacements_at_large_cutoffs(a):
    found = square(matrices.displacement(tensor(a), 60), 60)
    n = np.arange(60)
    coherent = np.exp(-0.5 * a**2 + n * math.log(a) - 0.5 * special.gammaln(n + 1))
    np.testing.assert_allclose(found[:, 0], coherent, atol=1e-12)
    for m, k in ((59, 59), (59, 30), (40, 7)):  # associated Laguerre polynomials
        closed = special.eval_genlaguerre(k, m - k, a**2) * a ** (m - k) * math.exp(-0.5 * a**2)
        closed *= math.exp(0.5 * (special.gammaln(k + 1) - special.gammaln(m + 1)))
        assert found[m, k] == pytest.approx(closed, abs=1e-11)


@pytest.mark.parametrize("r", [-0.6, 0.0, 0.3, 0.8])
def test_squeezing_is_the_exponential(r):
    lower = lowering(LARGE)
    wanted = expm(0.5 * r * (lower @ lower - lower.T @ lower.T))[:16, :16]
    np.testing.assert_allclose(square(matrices.squeezing(tensor(r), 16), 16), wanted, atol=1e-10)


@pytest.mark.parametrize(("r", "error"), [(0.5, 2e-8), (1.5, 2e-8), (-2.0, 2e-8)])
def test_large_squeezing_at_large_cutoffs(r, error):
    """Overlaps of wave functions with stretched ones, which Gauss-Hermite quadrature gives exactly."""
    cutoff = 60
    nodes, weights = special.roots_hermite(80)
    stretch = math.sqrt(2 / (1 + math.exp(2 * r)))
    x = torch.from_numpy(stretch * nodes)
    first = matrices.hermite_functions(x, cutoff).numpy()
    second = matrices.hermite_functions(math.exp(r) * x, cutoff).numpy()
    factor = stretch * math.exp(0.5 * r) * weights * np.exp(nodes**2)
    wanted = np.einsum("q,qm,qn->mn", factor, first, second)
    np.testing.assert_allclose(square(matrices.squeezing(tensor(r), cutoff), cutoff), wanted, rtol=0, atol=error)


@pytest.mark.parametrize("strength", [-0.2, 0.05, 0.5, 2.0])
def test_cubic_phase_is_an_integral_over_wave_functions(strength):
    cutoff = 12
    x = torch.linspace(-14, 14, 80001, dtype=torch.float64)
    waves = matrices.hermite_functions(x, cutoff).numpy()
    phase = np.exp(1j * strength * x.numpy() ** 3)
    wanted = np.einsum("q,qm,qn->mn", phase, waves, waves) * float(x[1] - x[0])
    n = np.arange(cutoff)
    found = square(matrices.cubic_phase(tensor(strength), cutoff), cutoff) * 1j ** (n[:, None] - n)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)


def test_a_cubic_phase_too_fast_to_resolve():
    with pytest.raises(ValueError, match=r"CubicPhase of strength 100 in exp\(i s x\^3\); at cutoff 12 at most 1"):
        matrices.cubic_phase(tensor(100.0), 12)


@pytest.mark.parametrize("theta", [-2.0, 0.0, 0.3, math.pi / 4])
@pytest.mark.parametrize("kind", ["mode", "total"])
def test_beamsplitter_blocks_are_the_exponential(theta, kind):
    cutoff, size = 12, 24
    a, b = np.kron(lowering(size), np.eye(size)), np.kron(np.eye(size), lowering(size))
    hop = a @ b.T
    entries, blocks = matrices.beamsplitter(tensor(theta), cutoff, kind).numpy(), blocks_of(cutoff, kind)
    assert entries.shape == (blocks.start[-1],)
    for photons in (0, 1, 7, 11, 15, 22):
        if photons >= len(blocks.length):
            continue
        places = np.arange(photons + 1) * size + photons - np.arange(photons + 1)
        whole = expm(theta * (hop - hop.T)[np.ix_(places, places)])
        low, length = blocks.lowest[photons], blocks.length[photons]
        found = entries[blocks.start[photons] : blocks.start[photons + 1]].reshape(length, length)
        np.testing.assert_allclose(found, whole[low : low + length, low : low + length], atol=1e-12)


@pytest.mark.parametrize("kind", ["mode", "total"])
def test_beamsplitters_of_many_blocks_are_orthogonal(kind):
    entries, blocks = matrices.beamsplitter(tensor(0.7), 30, kind), blocks_of(30, kind)
    for photons in range(30):
        block = entries[blocks.start[photons] : blocks.start[photons + 1]].view(photons + 1, -1)
        torch.testing.assert_close(block @ block.T, torch.eye(photons + 1, dtype=torch.float64), atol=1e-11, rtol=0)


@pytest.mark.parametrize("r", [-0.5, 0.0, 0.4])
def test_two_mode_squeezing_is_the_exponential(r):
    size, cutoff = 60, 8
    found = matrices.two_mode_squeezing(tensor(r), cutoff).numpy().reshape(cutoff, cutoff, cutoff)
    for difference in range(cutoff):
        pairs = np.arange(size - 1)
        raising = np.diag(np.sqrt((pairs + 1) * (pairs + 1 + difference)), -1)
        wanted = expm(r * (raising - raising.T))[:cutoff, :cutoff]
        np.testing.assert_allclose(found[difference], wanted, atol=1e-9)


def test_loss_is_binomial():
    cutoff, kept = 6, 0.3
    entries = matrices.loss(tensor(kept), cutoff).numpy().reshape(cutoff, cutoff, cutoff)
    for n in range(cutoff):
        for lost in range(n + 1):
            wanted = special.binom(n, lost) * kept ** (n - lost) * (1 - kept) ** lost
            assert entries[n - lost, n - lost, lost] == pytest.approx(wanted)


MADE = {
    "displacement": lambda x: matrices.displacement(x, 4),
    "squeezing": lambda x: matrices.squeezing(x, 4),
    "cubic_phase": lambda x: matrices.cubic_phase(x, 4),
    "beamsplitter": lambda x: matrices.beamsplitter(x, 3, "mode"),
    "two_mode_squeezing": lambda x: matrices.two_mode_squeezing(x, 3),
}


@pytest.mark.parametrize("name", MADE)
def test_derivatives_also_at_zero(name):
    values = torch.tensor([-0.4, 0.0, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MADE[name], values)
    assert torch.autograd.gradgradcheck(MADE[name], values)


def test_derivatives_by_the_transmissivity():
    values = torch.tensor([0.2, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: matrices.loss(x, 4), values)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(matrices.loss(ends, 5).square().sum(), ends)
    assert torch.isfinite(slopes).all()
