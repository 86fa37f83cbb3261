from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.special import eval_laguerre
from torch import Tensor

from circuits.cv import CVGate, Fock, Gaussian, Program
from circuits.cv.basis import FockBasis
from circuits.cv.wigner import plot_wigner
from fock_states import NOTHING, prepare, projector, random_mixture, random_state

X = torch.linspace(-6, 6, 61, dtype=torch.float64)
P = torch.linspace(-5, 5.5, 71, dtype=torch.float64)


@pytest.fixture
def axes() -> Iterator[object]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt.subplots()[1]
    plt.close("all")


def distance(x: float = 0.0, p: float = 0.0) -> Tensor:
    return (X[:, None] - x).square() + (P - p).square()


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("hbar", [2.0, 0.5])
def test_photon_numbers_give_laguerre_functions(n: int, hbar: float) -> None:
    state = Fock(7, hbar=hbar).run(Program(1, [], photons=(n,)), NOTHING)
    r = distance().numpy() / hbar
    expected = (-1) ** n / (math.pi * hbar) * np.exp(-r) * eval_laguerre(n, 2 * r)
    np.testing.assert_allclose(state.wigner(0, X, P), expected, atol=1e-14)


def test_a_coherent_state_is_a_shifted_vacuum() -> None:
    state = prepare(1, CVGate("Displacement", 0, (0.9, 0.6)), cutoff=40)
    x, p = 1.8 * math.cos(0.6), 1.8 * math.sin(0.6)
    expected = torch.exp(-0.5 * distance(x, p)) / (2 * math.pi)
    torch.testing.assert_close(state.wigner(0, X, P), expected, atol=1e-10, rtol=0)


def test_a_squeezed_state_is_a_squeezed_vacuum() -> None:
    state = prepare(1, CVGate("Squeezing", 0, (0.4, 0.0)), cutoff=60)
    width = math.exp(-0.8)
    expected = torch.exp(-0.5 * (X.square()[:, None] / width + P.square() * width)) / (2 * math.pi)
    torch.testing.assert_close(state.wigner(0, X, P), expected, atol=1e-10, rtol=0)


def test_a_cat_has_fringes() -> None:
    alpha = 1.2
    cat = prepare(1, CVGate("Displacement", 0, (alpha, 0.0)), CVGate("Kerr", 0, (math.pi / 2,)), cutoff=45)
    humps = torch.exp(-0.5 * distance(2 * alpha)) + torch.exp(-0.5 * distance(-2 * alpha))
    # ((1 + i)|alpha> + (1 - i)|-alpha>) / 2: a phase of pi/2 between the two
    fringes = 2 * torch.exp(-0.5 * distance()) * torch.sin(2 * alpha * P)
    found = cat.wigner(0, X, P)
    sign = torch.sign((found * fringes).sum())
    torch.testing.assert_close(found, (humps + sign * fringes) / (4 * math.pi), atol=1e-10, rtol=0)
    assert float(found.min()) < -0.05
    # the direction of the fringes is that of the mean momentum
    assert float(cat.quadratures(math.pi / 2)[0] * sign) > 0


@pytest.mark.parametrize("pure", [True, False])
@pytest.mark.parametrize("kind", ["mode", "total"])
def test_marginals_are_homodyne_densities(pure: bool, kind: str) -> None:
    basis = FockBasis(2, 5, kind)
    state = random_state(basis) if pure else random_mixture(basis)
    state.hbar = 1.3
    grid = torch.linspace(-11, 11, 221, dtype=torch.float64)
    for mode in range(2):
        wigner = state.wigner(mode, grid, grid)
        for phi, marginal in (
            (0.0, torch.trapezoid(wigner, grid)),
            (math.pi / 2, torch.trapezoid(wigner, grid, dim=0)),
        ):
            density = state.homodyne_log_prob(grid[:, None], phi, modes=[mode]).exp()
            torch.testing.assert_close(marginal, density, atol=1e-12, rtol=1e-9)
        assert float(torch.trapezoid(torch.trapezoid(wigner, grid), grid)) == pytest.approx(1, abs=1e-12)


def test_it_is_that_of_piquasso() -> None:
    pq = pytest.importorskip("piquasso")
    with pq.Program() as program:
        pq.Q() | pq.Vacuum()
        pq.Q(0) | pq.Displacement(r=0.6, phi=0.3) | pq.Kerr(0.7)
        pq.Q(0, 1) | pq.Beamsplitter(0.5, 0.2)
    config = pq.Config(cutoff=9, hbar=2.0)
    theirs = pq.PureFockSimulator(d=2, config=config).execute(program).state
    theirs.normalize()
    gates = [
        CVGate("Displacement", 0, (0.6, 0.3)),
        CVGate("Kerr", 0, (0.7,)),
        CVGate("Beamsplitter", (0, 1), (0.5, 0.2)),
    ]
    ours = prepare(2, *gates, cutoff=9, basis="total")
    for mode in range(2):
        x, p = X[::10], P[::10]
        expected = theirs.reduced((mode,)).wigner_function(x.numpy(), p.numpy())
        np.testing.assert_allclose(ours.wigner(mode, x, p).T, expected, atol=1e-7)


def test_batches_and_mixtures() -> None:
    batch = random_state(FockBasis(2, 4), (3, 2))
    found = batch.wigner(1, X, P)
    assert found.shape == (3, 2, 61, 71)
    torch.testing.assert_close(found, projector(batch).wigner(1, X, P))
    torch.testing.assert_close(found[1, 0], projector(batch).wigner(1, X, P)[1, 0])


def test_a_picture(axes: object) -> None:
    state = prepare(2, CVGate("Displacement", 0, (1.0, 0.0)), CVGate("Squeezing", 1, (0.3, 0.0)), cutoff=12)
    drawn = plot_wigner(state, 0, ax=axes, points=41)
    assert drawn is axes
    assert drawn.get_xlabel() == "x"
    low, high = drawn.get_xlim()
    assert 0.5 * (low + high) == pytest.approx(2.0, abs=0.05)
    assert plot_wigner(state, 1, points=5) is not axes
    # a Gaussian state is drawn as well
    exact = Gaussian().run(Program(1, [CVGate("Displacement", 0, (1.0, 0.0))]), NOTHING)
    assert 0.5 * sum(plot_wigner(exact, points=5).get_xlim()) == pytest.approx(2.0)


def test_mistakes_are_one_line() -> None:
    state = random_state(FockBasis(1, 3), (2,))
    with pytest.raises(ValueError, match=r"x has shape \(2, 2\); a real tensor of one dimension is needed"):
        state.wigner(0, torch.zeros(2, 2), P)
    with pytest.raises(ValueError, match="mode is 1"):
        state.wigner(1, X, P)
    with pytest.raises(ValueError, match=r"a batch of shape \(2,\); one state is needed"):
        plot_wigner(state)
    with pytest.raises(ValueError, match="mode is 5; the state has modes 0 to 0"):
        plot_wigner(random_state(FockBasis(1, 3)), 5)
    with pytest.raises(ValueError, match="cutoff is 301; Wigner functions are exact up to 300"):
        random_state(FockBasis(1, 301)).wigner(0, X, P)
    with pytest.raises(ValueError, match="points is 1"):
        plot_wigner(random_state(FockBasis(1, 3)), points=1)
