from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from circuits.cv import CVGate, Fock, FockState, Program, State
from circuits.cv.basis import BasisKind, FockBasis
from circuits.cv.mixed_state import MixedFockState
from fock_states import NOTHING, prepare, projector, random_mixture, random_state

BASES = [FockBasis(1, 6), FockBasis(2, 5), FockBasis(2, 6, "total"), FockBasis(3, 3), FockBasis(3, 4, "total")]


def dense(state: FockState | MixedFockState) -> np.ndarray:
    """The normalised density matrix on all photon numbers up to two beyond the cutoff, by Kronecker products."""
    basis = state.basis
    size = basis.cutoff + 2
    places = basis.occupations @ (size ** np.arange(basis.n_modes - 1, -1, -1))
    matrix = projector(state).matrix if isinstance(state, FockState) else state.matrix
    full = np.zeros((size**basis.n_modes,) * 2, dtype=complex)
    full[np.ix_(places, places)] = matrix.numpy()
    return full / np.trace(full)


def on_mode(operator: np.ndarray, mode: int, n_modes: int) -> np.ndarray:
    factors = [operator if m == mode else np.eye(len(operator)) for m in range(n_modes)]
    return functools.reduce(np.kron, factors)


@pytest.mark.parametrize("basis", BASES, ids=str)
@pytest.mark.parametrize("pure", [True, False])
@pytest.mark.parametrize("hbar", [2.0, 0.7])
def test_moments_are_those_of_operators(basis: FockBasis, pure: bool, hbar: float) -> None:
    state = random_state(basis) if pure else random_mixture(basis)
    state.hbar = hbar
    assert isinstance(state, State)
    rho, n_modes, phi = dense(state), basis.n_modes, torch.linspace(0.3, 2.0, basis.n_modes, dtype=torch.float64)
    down = np.diag(np.sqrt(np.arange(1, basis.cutoff + 2)), 1)
    means, variances, photons = [], [], []
    for mode in range(n_modes):
        turned = down * np.exp(-1j * float(phi[mode]))
        x = on_mode(math.sqrt(hbar / 2) * (turned + turned.conj().T), mode, n_modes)
        means.append(np.trace(rho @ x).real)
        variances.append(np.trace(rho @ x @ x).real - means[-1] ** 2)
        photons.append(np.trace(rho @ on_mode(down.T @ down, mode, n_modes)).real)
    found = state.quadratures(phi)
    np.testing.assert_allclose(found[0], means, atol=1e-12)
    np.testing.assert_allclose(found[1], variances, atol=1e-12)
    np.testing.assert_allclose(state.quadrature_means(phi), means, atol=1e-12)
    np.testing.assert_allclose(state.mean_photons(), photons, atol=1e-12)


@pytest.mark.parametrize("basis", BASES, ids=str)
@pytest.mark.parametrize("pure", [True, False])
def test_a_mode_is_a_partial_trace(basis: FockBasis, pure: bool) -> None:
    state = random_state(basis) if pure else random_mixture(basis)
    size, n_modes, cutoff = basis.cutoff + 2, basis.n_modes, basis.cutoff
    tensor = dense(state).reshape((size,) * (2 * n_modes))
    for mode in range(n_modes):
        rows, columns = list(range(n_modes)), list(range(n_modes))
        columns[mode] = n_modes
        reduced = np.einsum(tensor, rows + columns, [mode, n_modes])[:cutoff, :cutoff]
        np.testing.assert_allclose(state.reduced(mode), reduced, atol=1e-13)
        probs = state.photon_probs(mode)
        np.testing.assert_allclose(probs, np.diag(reduced).real, atol=1e-13)
        torch.testing.assert_close(state.photon_probs(mode, 2), probs[:2])
        torch.testing.assert_close(state.photon_probs(mode, cutoff + 3), torch.cat([probs, torch.zeros(3).to(probs)]))
    assert float(state.probs().sum()) == pytest.approx(1)
    assert float(state.purity) == pytest.approx(np.trace(dense(state) @ dense(state)).real)


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_batches_are_their_rows_and_a_norm_below_one_is_divided_out(basis: FockBasis) -> None:
    batch = random_state(basis, (2, 3))
    for state in (batch, projector(batch)):
        assert state.norm.shape == (2, 3)
        torch.testing.assert_close(state.norm_lost, torch.full((2, 3), 0.1, dtype=torch.float64))
        one = FockState(batch.amplitudes[1, 2] * 0.5, basis)
        for name, arguments in (("quadratures", (0.4,)), ("mean_photons", ()), ("probs", ()), ("reduced", (0,))):
            found, expected = getattr(state, name)(*arguments), getattr(one, name)(*arguments)
            for several, single in zip(
                *((value if isinstance(value, tuple) else (value,)) for value in (found, expected)), strict=True
            ):
                assert several.shape[:2] == (2, 3)
                torch.testing.assert_close(several[1, 2], single)


def test_moments_of_a_gaussian_program_are_those_of_pennylane() -> None:
    qml = pytest.importorskip("pennylane")
    gates = [
        ("Squeezing", (0,), (0.4, 0.3)),
        ("Displacement", (1,), (0.6, 1.1)),
        ("Beamsplitter", (0, 1), (0.7, 0.2)),
        ("TwoModeSqueezing", (1, 2), (0.3, 0.5)),
        ("Rotation", (2,), (0.9,)),
        ("QuadraticPhase", (0,), (0.2,)),
        ("Beamsplitter", (0, 2), (-0.4, 1.3)),
    ]
    device = qml.device("default.gaussian", wires=3)

    @qml.qnode(device)
    def moments(observable: object) -> object:
        for name, modes, values in gates:
            getattr(qml, name)(*values, wires=modes)
        return qml.expval(observable)

    @qml.qnode(device)
    def spread(observable: object) -> object:
        for name, modes, values in gates:
            getattr(qml, name)(*values, wires=modes)
        return qml.var(observable)

    state = prepare(3, *(CVGate(*gate) for gate in gates), cutoff=44, basis="total")
    for phi in (0.0, 0.7, math.pi / 2):
        means, variances = state.quadratures(phi)
        for mode in range(3):
            assert float(means[mode]) == pytest.approx(float(moments(qml.QuadOperator(phi, mode))), abs=1e-6)
            assert float(variances[mode]) == pytest.approx(float(spread(qml.QuadOperator(phi, mode))), abs=1e-6)
    for mode in range(3):
        assert float(state.mean_photons()[mode]) == pytest.approx(float(moments(qml.NumberOperator(mode))), abs=1e-6)


def test_kerr_makes_a_cat_of_a_coherent_state() -> None:
    alpha = 1.3
    cat = prepare(1, CVGate("Displacement", 0, (alpha, 0.0)), CVGate("Kerr", 0, (math.pi / 2,)))
    plus, minus = (prepare(1, CVGate("Displacement", 0, (a, 0.0))) for a in (alpha, -alpha))
    expected = FockState(0.5 * ((1 + 1j) * plus.amplitudes + (1 - 1j) * minus.amplitudes), cat.basis)
    assert float(cat.fidelity(expected)) == pytest.approx(1, abs=1e-12)
    assert float(plus.fidelity(minus)) == pytest.approx(math.exp(-4 * alpha**2), rel=1e-8)
    assert float(cat.fidelity(plus)) == pytest.approx(0.5 * (1 + math.exp(-4 * alpha**2)), rel=1e-8)
    # the mean of a cat vanishes in x and its interference shifts p
    assert float(cat.quadratures()[0]) == pytest.approx(0, abs=1e-10)
    shift = 2 * alpha * math.exp(-2 * alpha**2)
    assert abs(float(cat.quadratures(math.pi / 2)[0])) == pytest.approx(shift, rel=1e-8)


@pytest.mark.parametrize("kind", ["mode", "total"])
def test_photons_on_a_beamsplitter_leave_together(kind: BasisKind) -> None:
    program = Program(2, [CVGate("Beamsplitter", (0, 1), (math.pi / 4, 0.3))], photons=(1, 1))
    state = Fock(3, basis=kind).run(program, NOTHING)
    numbers = {tuple(n): float(p) for n, p in zip(state.basis.occupations.tolist(), state.probs(), strict=True)}
    assert numbers[2, 0] == pytest.approx(0.5)
    assert numbers[0, 2] == pytest.approx(0.5)
    assert numbers[1, 1] == pytest.approx(0, abs=1e-15)
    drawn = state.sample_photons(2000, torch.Generator().manual_seed(1))
    assert sorted(set(map(tuple, drawn.tolist()))) == [(0, 2), (2, 0)]
    # each output alone is mixed: 0 or 2 photons
    assert np.allclose(state.reduced(0), np.diag([0.5, 0, 0.5]))


def test_photon_numbers_of_coherent_and_squeezed_states() -> None:
    n = np.arange(30)
    coherent = prepare(1, CVGate("Displacement", 0, (1.2, 0.4)))
    np.testing.assert_allclose(coherent.photon_probs(0), stats.poisson(1.44).pmf(n), atol=1e-12)
    squeezed = prepare(1, CVGate("Squeezing", 0, (0.5, 0.4)))
    even = [math.comb(2 * k, k) * (math.tanh(0.5) / 2) ** (2 * k) / math.cosh(0.5) for k in range(15)]
    np.testing.assert_allclose(squeezed.photon_probs(0)[::2], even, atol=1e-12)
    assert not squeezed.photon_probs(0)[1::2].any()
    # a half of a two-mode squeezed vacuum is thermal
    half = prepare(2, CVGate("TwoModeSqueezing", (0, 1), (0.5, 0.4)), cutoff=20)
    np.testing.assert_allclose(half.photon_probs(1), (1 - np.tanh(0.5) ** 2) * np.tanh(0.5) ** (2 * n[:20]), atol=1e-12)


@pytest.mark.parametrize("pure", [True, False])
def test_drawn_photons_follow_the_probabilities(pure: bool) -> None:
    basis = FockBasis(3, 4, "total")
    state = random_state(basis) if pure else random_mixture(basis)
    drawn = state.sample_photons(20_000, torch.Generator().manual_seed(2))
    assert drawn.shape == (20_000, 3)
    assert drawn.dtype == torch.int64
    places = basis.find(drawn.numpy())
    counts = np.bincount(places, minlength=basis.size)
    assert stats.chisquare(counts, 20_000 * state.probs().numpy()).pvalue > 1e-3
    assert torch.equal(drawn, state.sample_photons(20_000, torch.Generator().manual_seed(2)))
    several = random_state(basis, (2, 1)).sample_photons(5, torch.Generator().manual_seed(2))
    assert several.shape == (2, 1, 5, 3)


@pytest.mark.parametrize("kind", ["mode", "total"])
def test_what_is_measured_is_differentiable(kind: BasisKind) -> None:
    basis = FockBasis(2, 3, kind)
    amplitudes = random_state(basis, (2,)).amplitudes.clone().requires_grad_()

    def measured(values: Tensor) -> tuple[Tensor, ...]:
        state = FockState(values, basis)
        mixed = projector(state)
        axis = torch.tensor([-0.3, 0.8], dtype=torch.float64)
        return (
            *state.quadratures(0.4),
            state.quadrature_means(),
            state.mean_photons(),
            state.probs(),
            state.photon_probs(1),
            torch.view_as_real(state.reduced(0)),
            state.wigner(1, axis, axis),
            *mixed.quadratures(0.4),
            mixed.purity,
            torch.view_as_real(mixed.reduced(1)),
        )

    assert torch.autograd.gradcheck(measured, amplitudes)
    assert torch.autograd.gradgradcheck(
        lambda values: FockState(values, basis).quadrature_means().square(), amplitudes, atol=1e-6
    )


def test_single_precision_stays_single() -> None:
    state = random_state(FockBasis(2, 5))
    low = FockState(state.amplitudes.to(torch.complex64), state.basis)
    for name in ("quadrature_means", "mean_photons", "probs", "norm"):
        single, double = getattr(low, name), getattr(state, name)
        single, double = (single, double) if name == "norm" else (single(), double())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single, double.float(), atol=1e-5, rtol=1e-5)
    assert low.reduced(0).dtype == torch.complex64


def test_a_single_level_has_no_moments() -> None:
    state = FockState(torch.ones(1, dtype=torch.complex128), FockBasis(1, 1), hbar=1.0)
    means, variances = state.quadratures(0.2)
    assert means.tolist() == [0]
    assert variances.tolist() == [0.5]


def test_an_empty_batch_is_measured_too() -> None:
    state = random_state(FockBasis(2, 3), (4,))
    for empty in (
        FockState(state.amplitudes[:0], state.basis),
        MixedFockState(projector(state).matrix[:0], state.basis),
    ):
        assert empty.quadratures(0.3)[1].shape == (0, 2)
        assert empty.mean_photons().shape == (0, 2)
        assert empty.sample_photons(3).shape == (0, 3, 2)
        assert empty.reduced(0).shape == (0, 3, 3)


def test_mistakes_are_one_line() -> None:
    state = random_state(FockBasis(2, 3))
    empty = FockState(torch.zeros(2, 9, dtype=torch.complex128), state.basis)
    cases = [
        (lambda: FockState(torch.zeros(8, dtype=torch.complex128), state.basis), r"amplitudes are \(8,\)"),
        (lambda: FockState(torch.zeros(9), state.basis), "complex is needed"),
        (lambda: MixedFockState(torch.zeros(9, 3, dtype=torch.complex128), state.basis), r"matrix is \(9, 3\)"),
        (lambda: state.reduced(2), "mode is 2; the state has modes 0 to 1"),
        (lambda: state.photon_probs(-1), "mode is -1"),
        (lambda: state.photon_probs(0, 0), "cutoff is 0"),
        (lambda: state.quadratures(torch.zeros(3)), "one for each of 2 modes is needed"),
        (lambda: state.quadratures(math.nan), "one finite phase"),
        (lambda: state.sample_photons(0), "shots is 0"),
        (lambda: empty.sample_photons(1), r"state \[0\] has norm 0.0: nothing is left below cutoff 3"),
        (lambda: state.fidelity(random_state(FockBasis(2, 4))), "one basis is needed"),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
