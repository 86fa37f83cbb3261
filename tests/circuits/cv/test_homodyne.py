from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import eval_hermite, gammaln
from torch import Tensor

from circuits.cv import CVGate, Fock, FockState, Program, hermite_series, projections
from circuits.cv import homodyne as module
from circuits.cv.basis import BasisKind, FockBasis
from circuits.cv.mixed_state import MixedFockState
from fock_states import prepare, projector, random_mixture, random_state

PHI = 0.6


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def waves(x: np.ndarray, cutoff: int) -> np.ndarray:
    """Wave functions for hbar 1, ``(..., cutoff)``, by scipy's polynomials."""
    n = np.arange(cutoff)
    log = -0.5 * (n * math.log(2) + gammaln(n + 1) + 0.5 * math.log(math.pi))
    return np.exp(log - 0.5 * x[..., None] ** 2) * eval_hermite(n, x[..., None])


def density(state: FockState | MixedFockState, x: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Joint density of outcomes ``(..., n_modes)`` by the definition."""
    basis, scale = state.basis, math.sqrt(state.hbar)
    parts = np.stack([waves(x[..., m] / scale, basis.cutoff) for m in range(basis.n_modes)], -2)
    picked = np.prod([parts[..., m, basis.occupations[:, m]] for m in range(basis.n_modes)], 0)
    bra = picked * np.exp(-1j * (basis.occupations @ phi))
    matrix = (projector(state) if isinstance(state, FockState) else state).matrix.numpy()
    value = np.einsum("...i,ij,...j->...", bra, matrix, bra.conj()).real
    return value / np.trace(matrix).real / scale**basis.n_modes


def cumulative(state: FockState | MixedFockState, phi: float) -> Callable[[np.ndarray], np.ndarray]:
    """Cumulative distribution of a single mode by the trapezoid rule, which is exact to rounding for such functions."""
    reach = (math.sqrt(2 * state.basis.cutoff) + 6) * math.sqrt(state.hbar)
    grid = np.linspace(-reach, reach, 20_001)
    values = density(state, grid[:, None], np.array([phi]))
    table = integrate.cumulative_simpson(values, x=grid, initial=0)
    return lambda x: np.interp(x, grid, table)


def test_the_integral_of_two_wave_functions_is_that_of_quad() -> None:
    # the cumulative distribution between any two photon numbers, by superpositions of them
    cutoff, x = 7, torch.tensor([-2.1, 0.4, 3.3], dtype=torch.float64)
    for n, m in [(0, 1), (3, 3), (2, 5), (6, 6)]:
        vector = torch.zeros(1, 2, cutoff, dtype=torch.float64)
        vector[0, 0, n] += 1
        vector[0, 0, m] += 1
        states = projections.Vectors(vector, FockBasis(1, cutoff))
        nodes, to_coefficients = hermite_series.nodes(cutoff, torch.device("cpu"))
        coefficients = (states.density(0, nodes) @ to_coefficients).expand(len(x), -1).T
        found, value = hermite_series._series(coefficients, x)
        for position, total, here in zip(x.tolist(), found.tolist(), value.tolist(), strict=True):

            def function(y: float, n: int = n, m: int = m) -> float:
                psi = waves(np.array(y), cutoff)
                return float((psi[n] + psi[m]) ** 2)

            assert here == pytest.approx(function(position), abs=1e-13)
            assert total == pytest.approx(integrate.quad(function, -15, position, epsabs=1e-12)[0], abs=1e-10)


@pytest.mark.parametrize("pure", [True, False])
@pytest.mark.parametrize("cutoff", [1, 2, 9, 40, 90])
def test_outcomes_invert_the_cumulative_distribution(pure: bool, cutoff: int) -> None:
    basis = FockBasis(1, cutoff)
    state = random_state(basis) if pure else random_mixture(basis)
    x = state.sample_homodyne(3000, PHI, rng())[:, 0]
    uniform = torch.rand(3000, generator=rng(), dtype=torch.float64)
    np.testing.assert_allclose(cumulative(state, PHI)(x.numpy()), uniform, atol=2e-6 if cutoff > 9 else 1e-6)
    # to rounding, against the closed form
    states = state._measurable(state._turned(PHI, [0]), torch.Size())
    nodes, to_coefficients = hermite_series.nodes(cutoff, x.device)
    coefficients = (states.density(0, nodes) @ to_coefficients) / state.norm
    again = hermite_series._series(coefficients.expand(3000, -1).T, x / math.sqrt(2))[0]
    torch.testing.assert_close(again, uniform, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("gates", "phi"),
    [
        ([CVGate("Displacement", 0, (0.8, 0.5))], 0.3),
        ([CVGate("Squeezing", 0, (0.7, 0.2))], 1.2),
        ([CVGate("Displacement", 0, (1.5, 0.0)), CVGate("Kerr", 0, (math.pi / 2,))], math.pi / 2),
        ([CVGate("Squeezing", 0, (0.3, 0.0)), CVGate("CubicPhase", 0, (0.1,))], math.pi / 2),
    ],
)
def test_samples_pass_a_ks_test(gates: list[CVGate], phi: float) -> None:
    state = prepare(1, *gates, cutoff=30)
    x = state.sample_homodyne(20_000, phi, rng(3))[:, 0].numpy()
    assert stats.kstest(x, cumulative(state, phi)).pvalue > 0.01


def test_three_photons() -> None:
    state = Fock(4).run(Program(1, [], photons=(3,)), torch.zeros(0, dtype=torch.float64))
    x = state.sample_homodyne(20_000, 0.4, rng(4))[:, 0].numpy()
    assert stats.kstest(x, cumulative(state, 0.0)).pvalue > 0.01


def test_a_bright_coherent_state() -> None:
    n, a = np.arange(300), 12.0
    amplitudes = np.exp(0.5 * (-(a**2) - gammaln(n + 1)) + n * math.log(a))
    state = FockState(torch.from_numpy(amplitudes).to(torch.complex128), FockBasis(1, 300))
    x = state.sample_homodyne(20_000, 0.0, rng(4))
    assert stats.kstest(x[:, 0].numpy(), stats.norm(2 * a).cdf).pvalue > 0.01
    np.testing.assert_allclose(state.homodyne_log_prob(x), stats.norm(2 * a).logpdf(x)[:, 0], atol=1e-8)


@pytest.mark.parametrize("kind", ["mode", "total"])
@pytest.mark.parametrize("pure", [True, False])
def test_entangled_modes_follow_the_conditional_densities(kind: BasisKind, pure: bool) -> None:
    r = 0.5
    squeezed = prepare(2, CVGate("TwoModeSqueezing", (0, 1), (r, 0.0)), cutoff=16 if kind == "mode" else 22, basis=kind)
    if not pure:
        squeezed = projector(squeezed)
    n = 20_000 if pure else 3000
    for phi, sign in ((0.0, 1), (math.pi / 2, -1)):
        x = squeezed.sample_homodyne(n, phi, rng(5)).numpy()
        first = stats.kstest(x[:, 0], stats.norm(scale=math.sqrt(math.cosh(2 * r))).cdf)
        # given the first outcome the second is normal
        rest = (x[:, 1] - sign * math.tanh(2 * r) * x[:, 0]) * math.sqrt(math.cosh(2 * r))
        assert first.pvalue > 0.01
        assert stats.kstest(rest, stats.norm.cdf).pvalue > 0.01
        assert abs(stats.spearmanr(rest, x[:, 0]).statistic) < 3.5 / math.sqrt(n)


@pytest.mark.parametrize("kind", ["mode", "total"])
@pytest.mark.parametrize("pure", [True, False])
def test_each_outcome_inverts_its_conditional_distribution(kind: BasisKind, pure: bool) -> None:
    basis = FockBasis(3, 4, kind)
    state = random_state(basis) if pure else random_mixture(basis)
    x = state.sample_homodyne(6, PHI, rng(12))
    uniform = torch.rand(1, 6, 3, generator=rng(12), dtype=torch.float64)[0]
    grid = torch.linspace(0, 1, 401, dtype=torch.float64)
    for mode in range(3):
        points = x[:, None, : mode + 1].repeat(1, 401, 1)
        points[..., mode] = -14 + (x[:, mode, None] + 14) * grid
        density = state.homodyne_log_prob(points, PHI, modes=range(mode + 1)).exp()
        below = integrate.simpson(density.numpy(), x=points[..., mode].numpy())
        given = state.homodyne_log_prob(x[:, None, :mode], PHI, modes=range(mode)).exp()[:, 0] if mode else 1.0
        np.testing.assert_allclose(torch.from_numpy(below) / given, uniform[:, mode], atol=1e-5)


@pytest.mark.parametrize("kind", ["mode", "total"])
@pytest.mark.parametrize("pure", [True, False])
def test_log_density_is_that_of_the_definition(kind: BasisKind, pure: bool) -> None:
    basis = FockBasis(3, 4, kind)
    state = random_state(basis) if pure else random_mixture(basis)
    state.hbar = 1.4
    phi = torch.tensor([0.2, -1.0, 2.0], dtype=torch.float64)
    x = 2 * torch.randn(50, 3, dtype=torch.float64, generator=rng())
    expected = np.log(density(state, x.numpy(), phi.numpy()))
    np.testing.assert_allclose(state.homodyne_log_prob(x, phi), expected, atol=1e-10)
    # some modes only: what is not measured is integrated out
    grid = torch.linspace(-14, 14, 281, dtype=torch.float64)
    points = x[:3, None, :].repeat(1, 281, 1)
    points[..., 1] = grid
    integral = torch.trapezoid(state.homodyne_log_prob(points, phi).exp(), grid)
    some = state.homodyne_log_prob(x[:3][:, [2, 0]], phi[[2, 0]], modes=[2, 0]).exp()
    torch.testing.assert_close(integral, some, atol=1e-12, rtol=1e-9)


def test_the_density_integrates_to_one() -> None:
    state = random_state(FockBasis(2, 5, "total"))
    grid = torch.linspace(-14, 14, 201, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    density = state.homodyne_log_prob(points, PHI).exp().reshape(201, 201)
    assert float(torch.trapezoid(torch.trapezoid(density, grid), grid)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("hbar", [2.0, 0.5])
def test_a_gaussian_state_has_a_normal_density(hbar: float) -> None:
    gates = [
        CVGate("Squeezing", 0, (0.4, 0.3)),
        CVGate("Displacement", 1, (0.6, 1.1)),
        CVGate("Beamsplitter", (0, 1), (0.7, 0.2)),
    ]
    state = prepare(2, *gates, cutoff=40, basis="total", hbar=hbar)
    means, variances = state.quadratures(PHI)
    joined = prepare(
        2, *gates, CVGate("Beamsplitter", (0, 1), (-math.pi / 4, 0.0)), cutoff=40, basis="total", hbar=hbar
    )
    # x of the first output is (x_0 + x_1) / sqrt(2)
    covariance = float(joined.quadratures(PHI)[1][0] - variances.mean())
    normal = stats.multivariate_normal(means.numpy(), [[variances[0], covariance], [covariance, variances[1]]])
    x = torch.from_numpy(normal.rvs(200, random_state=1))
    np.testing.assert_allclose(state.homodyne_log_prob(x, PHI), normal.logpdf(x), atol=1e-6)


@pytest.mark.parametrize("kind", ["mode", "total"])
def test_batches_chunks_and_shapes(kind: BasisKind, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_state(FockBasis(3, 4, kind), (2, 3))
    for state in (batch, projector(batch)):
        x = state.sample_homodyne(7, PHI, rng(6))
        assert x.shape == (2, 3, 7, 3)
        log_prob = state.homodyne_log_prob(x, PHI)
        assert log_prob.shape == (2, 3, 7)
        one = random_state(state.basis, (2, 3)).amplitudes[1, 2]
        alone = FockState(one, batch.basis).homodyne_log_prob(x[1, 2], PHI)
        torch.testing.assert_close(log_prob[1, 2], alone)
        # one state for outcomes of any leading dimensions
        torch.testing.assert_close(FockState(one, batch.basis).homodyne_log_prob(x, PHI)[1, 2], alone)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_BYTES_AT_ONCE", 5 * state._measurable(None, torch.Size((2, 3))).bytes_per_outcome)
            torch.testing.assert_close(state.sample_homodyne(7, PHI, rng(6)), x, atol=1e-9, rtol=0)
            torch.testing.assert_close(state.homodyne_log_prob(x, PHI), log_prob)
        some = state.sample_homodyne(4, torch.tensor([0.1, 0.2]), rng(6), modes=[2, 1])
        assert some.shape == (2, 3, 4, 2)
    none = FockState(batch.amplitudes[:0, 0], batch.basis)
    assert none.sample_homodyne(4).shape == (0, 4, 3)
    assert none.homodyne_log_prob(torch.zeros(0, 4, 3)).shape == (0, 4)


def test_a_mode_measured_alone_or_in_another_order_has_the_same_distribution() -> None:
    state = random_state(FockBasis(3, 4))
    every = state.sample_homodyne(8000, PHI, rng(7)).numpy()
    for modes in ([1], [2, 1, 0]):
        some = state.sample_homodyne(8000, PHI, rng(8), modes=modes).numpy()
        for place, mode in enumerate(modes):
            assert stats.ks_2samp(some[:, place], every[:, mode]).pvalue > 0.01
    correlations = np.corrcoef(every.T), np.corrcoef(state.sample_homodyne(8000, PHI, rng(9), modes=[2, 0]).numpy().T)
    assert correlations[0][2, 0] == pytest.approx(correlations[1][0, 1], abs=0.05)


# derivatives

PROGRAM = Program(
    2,
    [
        CVGate("Squeezing", 0, (0, 0.2)),
        CVGate("Displacement", 1, (1, 0.4)),
        CVGate("Beamsplitter", (0, 1), (2, 0.3)),
        CVGate("Kerr", 0, (3,)),
        CVGate("CubicPhase", 1, (4,)),
    ],
)
VALUES = torch.tensor([0.3, 0.5, 0.7, 0.4, 0.05], dtype=torch.float64)


@pytest.mark.parametrize("pure", [True, False])
def test_outcomes_move_with_the_parameters(pure: bool) -> None:
    def outcomes(values: Tensor) -> Tensor:
        state = Fock(7, warn_above=None).run(PROGRAM, values)
        return (state if pure else projector(state)).sample_homodyne(12, PHI, rng(10))

    found = torch.autograd.functional.jacobian(outcomes, VALUES)
    step = 1e-5
    for index in range(5):
        away = step * torch.eye(5, dtype=torch.float64)[index]
        expected = (outcomes(VALUES + away) - outcomes(VALUES - away)) / (2 * step)
        torch.testing.assert_close(found[..., index], expected, atol=1e-4, rtol=1e-4)


def test_outcomes_of_a_gaussian_state_move_as_a_normal_does() -> None:
    program = Program(1, [CVGate("Squeezing", 0, (0, 0.0)), CVGate("Displacement", 0, (1, 0.0))])
    values = torch.tensor([0.3, 0.4], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda v: Fock(40).run(program, v).sample_homodyne(50, 0.0, rng(11))[:, 0], values
    )
    x = Fock(40).run(program, values).sample_homodyne(50, 0.0, rng(11))[:, 0]
    mean = 2 * 0.4  # sqrt(2 hbar) times the displacement
    torch.testing.assert_close(jacobian[:, 1], torch.full((50,), 2.0, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(jacobian[:, 0], -(x - mean), atol=1e-5, rtol=0)


@pytest.mark.parametrize("turn", [1.0, 1j])
def test_means_of_samples_have_the_right_slope_even_where_the_density_vanishes(turn: complex) -> None:
    # cos|0> + sin|1> has a zero at a finite x, cos|0> + i sin|1> has none; <x^2> = 1 + 2 sin^2 for hbar 2
    angle = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    amplitudes = torch.stack([angle.cos(), turn * angle.sin()]).to(torch.complex128)
    x = FockState(amplitudes, FockBasis(1, 2)).sample_homodyne(50_000, 0.0, rng(1))
    assert x.square().mean().item() == pytest.approx(1 + 2 * math.sin(0.6) ** 2, rel=0.03)
    (slope,) = torch.autograd.grad(x.square().mean(), angle)
    assert slope.item() == pytest.approx(2 * math.sin(1.2), rel=0.05)


@pytest.mark.parametrize("kind", ["mode", "total"])
@pytest.mark.parametrize("pure", [True, False])
def test_log_density_is_differentiable(kind: BasisKind, pure: bool) -> None:
    basis = FockBasis(2, 3, kind)
    amplitudes = random_state(basis, (2,)).amplitudes.clone().requires_grad_()
    x = torch.randn(2, 3, 2, dtype=torch.float64, generator=rng()).requires_grad_()

    def log_prob(values: Tensor, points: Tensor) -> Tensor:
        state = FockState(values, basis)
        return (state if pure else projector(state)).homodyne_log_prob(points, PHI)

    assert torch.autograd.gradcheck(log_prob, (amplitudes, x))
    assert torch.autograd.gradgradcheck(log_prob, (amplitudes, x), atol=1e-6)


@pytest.mark.parametrize("cutoff", [1, 7, 60])
def test_far_tails_and_zeros_stay_finite(cutoff: int) -> None:
    for pure in (True, False):
        amplitudes = torch.zeros(cutoff, dtype=torch.complex128)
        amplitudes[min(1, cutoff - 1)] = 1
        amplitudes.requires_grad_()
        state = FockState(amplitudes, FockBasis(1, cutoff))
        state = state if pure else projector(state)
        x = torch.tensor([0.0, 1e-200, 1e-9, 30.0, 1e3, 1e7, 1e150], dtype=torch.float64)[:, None].requires_grad_()
        value = state.homodyne_log_prob(x)
        gradients = torch.autograd.grad(value.sum(), (x, amplitudes), retain_graph=True)
        assert torch.isfinite(value).all()
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        n = min(1, cutoff - 1)
        far = -0.25 * 30.0**2 * 2 + n * math.log(2 * 30.0**2 / 2) - 0.5 * math.log(2 * math.pi)
        assert value[3].item() == pytest.approx(far, rel=1e-9)
        outcomes = state.sample_homodyne(2000, 0.0, rng())
        assert torch.isfinite(outcomes).all()
        assert torch.isfinite(torch.autograd.grad(outcomes.sum(), amplitudes)[0]).all()


def test_outcomes_at_the_edge_of_the_uniform_numbers() -> None:
    states = projections.Vectors(
        torch.stack([random_state(FockBasis(1, 5)).amplitudes.real] * 2)[None], FockBasis(1, 5)
    )
    uniform = torch.tensor([0.0, 1e-300, 1e-17, 1 - 2**-53], dtype=torch.float64)[None, :, None]
    outcomes = module.sample(states, uniform, [0])[0, :, 0]
    assert torch.isfinite(outcomes).all()
    assert (outcomes.abs() < 10).all()
    assert (outcomes.diff() >= 0).all()


@pytest.mark.parametrize("batch", [(), (2,), (0,)])
def test_no_outcomes_have_no_densities(batch: tuple[int, ...]) -> None:
    state = FockState(torch.ones(*batch, 9, dtype=torch.complex128) / 3, FockBasis(2, 3))
    assert state.homodyne_log_prob(torch.zeros(0, 2)).shape == (*batch, 0)


def test_single_precision() -> None:
    state = random_state(FockBasis(2, 5))
    low = FockState(state.amplitudes.to(torch.complex64), state.basis)
    x = low.sample_homodyne(100, PHI, rng())
    assert x.dtype == torch.float32
    assert low.homodyne_log_prob(x, PHI).dtype == torch.float32
    torch.testing.assert_close(x.double(), state.sample_homodyne(100, PHI, rng()), atol=1e-3, rtol=1e-3)


def test_mistakes_are_one_line() -> None:
    state = random_state(FockBasis(2, 3), (4,))
    nothing = FockState(torch.zeros(9, dtype=torch.complex128), state.basis)
    large = random_state(FockBasis(1, 301))
    cases = [
        (lambda: state.sample_homodyne(0), "shots is 0"),
        (lambda: state.sample_homodyne(1, torch.zeros(3)), "one for each of 2 modes"),
        (lambda: state.sample_homodyne(1, modes=[0, 0]), r"modes are \[0, 0\]"),
        (lambda: state.sample_homodyne(1, modes=[]), "at least one"),
        (lambda: state.sample_homodyne(1, modes=[2]), "mode is 2; the state has modes 0 to 1"),
        (
            lambda: large.sample_homodyne(1),
            "cutoff is 301; homodyne samples are exact up to 300",
        ),
        (lambda: nothing.sample_homodyne(1), "nothing is left below cutoff 3; a larger one is needed"),
        (lambda: state.homodyne_log_prob(torch.zeros(4, 5, 3)), r"\(\.\.\., shots, 2\) is needed"),
        (lambda: state.homodyne_log_prob(torch.zeros(3, 5, 2)), r"leading dimensions \(3,\), the states \(4,\)"),
        (lambda: state.homodyne_log_prob(torch.full((4, 1, 2), math.nan)), r"outcomes at \[0, 0, 0\]: nan"),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("basis", [FockBasis(3, 4), FockBasis(4, 5, "total")], ids=str)
def test_compiled_and_plain_operations_agree(basis: FockBasis, monkeypatch: pytest.MonkeyPatch) -> None:
    state = random_state(basis, (3,))
    x = state.sample_homodyne(20, PHI, rng())
    log_prob = state.homodyne_log_prob(x, PHI)
    for part in (hermite_series, projections):
        monkeypatch.setattr(part, "by_torch", lambda *values: True)
    torch.testing.assert_close(state.sample_homodyne(20, PHI, rng()), x, atol=1e-8, rtol=0)
    torch.testing.assert_close(state.homodyne_log_prob(x, PHI), log_prob)
