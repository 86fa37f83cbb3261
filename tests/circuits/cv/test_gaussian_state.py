"""Measurements of Gaussian states against scipy, piquasso, closed forms and the truncated simulation."""

from __future__ import annotations

import math

import numpy as np
import piquasso as pq
import pytest
import torch
from scipy import stats

from circuits.cv import CVGate, Fock, Gaussian, GaussianState, Program
from circuits.cv.gaussian_photons import enough_photons
from random_gaussian import random_gaussian

DOUBLE = torch.float64
NOTHING = torch.empty(0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state_of(seed: int, n_modes: int, loss: bool = True, hbar: float = 2.0) -> GaussianState:
    return Gaussian(hbar=hbar).run(*random_gaussian(seed, n_modes, 14, loss))


def piquasso_state(state: GaussianState) -> pq.GaussianState:
    """The same state in piquasso, whose covariance is twice that of the quadratures and ordered x, p, x, p, ..."""
    n = state.n_modes
    order = [place for mode in range(n) for place in (mode, mode + n)]
    simulator = pq.GaussianSimulator(d=n, config=pq.Config(hbar=state.hbar, cutoff=8))
    made = simulator.execute(pq.Program([pq.Vacuum().on_modes(*range(n))])).state
    made.xpxp_mean_vector = state.means.numpy()[order]
    made.xpxp_covariance_matrix = 2 * state.covariance.numpy()[np.ix_(order, order)]
    return made


# photons


def test_squeezed_vacuum_has_even_numbers() -> None:
    r = 0.9
    state = Gaussian().run(Program(1, [CVGate("Squeezing", 0, (r, 1.3))]), NOTHING)
    found = state.photon_probs(0, 40)
    n = np.arange(20)
    logs = np.array([math.lgamma(2 * k + 1) - 2 * math.lgamma(k + 1) - 2 * k * math.log(2) for k in n])
    np.testing.assert_allclose(found[::2], np.exp(logs) * math.tanh(r) ** (2 * n) / math.cosh(r), atol=1e-15)
    assert found[1::2].max() < 1e-15


@pytest.mark.parametrize("amplitude", [0.0, 0.7, 12.0])
def test_coherent_states_are_poissonian(amplitude: float) -> None:
    state = Gaussian().run(Program(1, [CVGate("Displacement", 0, (amplitude, 0.4))]), NOTHING)
    found = state.photon_probs(0)
    np.testing.assert_allclose(found, stats.poisson.pmf(np.arange(len(found)), amplitude**2), atol=1e-14)
    assert 0 <= 1 - found.sum() + 1e-14 < 1e-10


@pytest.mark.parametrize("hbar", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_photon_numbers_of_a_mode_agree_with_piquasso(seed: int, hbar: float) -> None:
    state = state_of(seed, 2, hbar=hbar)
    reference = piquasso_state(state)
    for mode in range(2):
        expected = [reference.reduced((mode,)).get_particle_detection_probability((n,)) for n in range(7)]
        np.testing.assert_allclose(state.photon_probs(mode, 7), expected, atol=1e-12)


def test_all_but_the_tail_is_listed() -> None:
    strong = [CVGate("Displacement", 0, (3.0, 0.1)), CVGate("Squeezing", 0, (1.2, 0.4)), CVGate("Loss", 0, (0.9,))]
    state = Gaussian().run(Program(1, strong), NOTHING)
    found = state.photon_probs(0)
    assert -1e-13 < 1 - found.sum() < 1e-10
    numbers = torch.arange(len(found), dtype=DOUBLE)
    assert (found * numbers).sum().item() == pytest.approx(state.mean_photons().item(), abs=1e-7)
    fewer = enough_photons(state.means / 2**0.5, state.covariance / 2, 1e-4)
    assert fewer < len(found)
    assert found[fewer:].sum() < 1e-4
    assert state.photon_probs(0, 5).tolist() == pytest.approx(found[:5].tolist(), abs=1e-15)


@pytest.mark.parametrize(("seed", "loss"), [(1, False), (2, True), (7, True)])
def test_photon_samples_follow_the_joint_distribution(seed: int, loss: bool) -> None:
    state, shots = state_of(seed, 3, loss), 20_000
    samples = state.sample_photons(shots, seeded(seed))
    assert samples.dtype == torch.int64
    reference = piquasso_state(state)
    patterns = [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    expected = shots * np.array([reference.get_particle_detection_probability(pattern) for pattern in patterns])
    found = np.array([(samples == torch.tensor(pattern)).all(-1).sum().item() for pattern in patterns])
    often = expected > 8
    assert often.sum() > 5
    expected, found = ([*part[often], shots - part[often].sum()] for part in (expected, found))
    assert stats.chisquare(found, expected).pvalue > 1e-3


def test_photon_samples_of_a_batch_belong_to_their_states() -> None:
    program = Program(2, [CVGate("TwoModeSqueezing", (0, 1), (0, 0.3)), CVGate("Displacement", 0, (1, 0.0))])
    values = torch.tensor([[0.9, 0.0], [0.0, 0.0], [0.0, 2.0]], dtype=DOUBLE)
    samples = Gaussian().run(program, values).sample_photons(4000, seeded())
    assert samples.shape == (3, 4000, 2)
    assert (samples[0, :, 0] == samples[0, :, 1]).all()  # photons come in pairs
    assert not samples[1].any()
    assert not samples[2, :, 1].any()
    counts = torch.bincount(samples[2, :, 0], minlength=12)[:12].numpy()
    expected = stats.poisson.pmf(np.arange(12), 4.0)
    assert stats.chisquare(counts, counts.sum() * expected / expected.sum()).pvalue > 1e-3
    assert torch.equal(samples, Gaussian().run(program, values).sample_photons(4000, seeded()))


def test_many_weakly_excited_modes_can_be_sampled() -> None:
    n = 8
    gates = [CVGate("Squeezing", mode, (0.5, 0.1 * mode)) for mode in range(n)]
    gates += [CVGate("Beamsplitter", (mode, mode + 1), (0.8, 0.2)) for mode in range(n - 1)]
    state = Gaussian().run(Program(n, gates), NOTHING)
    samples = state.sample_photons(1500, seeded(3))
    assert (samples.sum(-1) % 2 == 0).all()
    error = samples.double().std(0) / 1500**0.5
    assert ((samples.double().mean(0) - state.mean_photons()).abs() < 4 * error).all()


def test_too_many_photons_are_refused_in_one_line() -> None:
    gates = [CVGate("Displacement", mode, (9.0, 0.0)) for mode in range(6)]
    with pytest.raises(ValueError, match=r"sample_photons: 6 modes with up to \d+ photons; a shot may take \d+ amplit"):
        Gaussian().run(Program(6, gates), NOTHING).sample_photons(2, seeded())
    with pytest.raises(ValueError, match=r"a mode has up to .* photons; photon numbers are computed up to 1048576"):
        Gaussian().run(Program(1, [CVGate("Squeezing", 0, (9.0, 0.0))]), NOTHING).photon_probs(0)


# quadratures


@pytest.mark.parametrize("phi", [0.0, 0.8, torch.tensor([0.3, -1.2])])
@pytest.mark.parametrize("hbar", [0.5, 2.0])
def test_homodyne_samples_and_density_are_those_of_the_quadratures(phi: float | torch.Tensor, hbar: float) -> None:
    state = state_of(4, 2, hbar=hbar)
    turn = np.broadcast_to(np.asarray(phi, dtype=float), 2)
    matrix = np.hstack([np.diag(np.cos(turn)), np.diag(np.sin(turn))])
    means, covariance = matrix @ state.means.numpy(), matrix @ state.covariance.numpy() @ matrix.T
    expected = stats.multivariate_normal(means, covariance)
    samples = state.sample_homodyne(4000, phi, seeded(1))
    log_prob = state.homodyne_log_prob(samples, phi)
    np.testing.assert_allclose(log_prob, expected.logpdf(samples.numpy()), atol=1e-10)
    np.testing.assert_allclose(state.quadratures(phi)[0], means, atol=1e-12)
    np.testing.assert_allclose(state.quadrature_means(phi), means, atol=1e-12)
    np.testing.assert_allclose(state.quadratures(phi)[1], covariance.diagonal(), atol=1e-12)
    directions = np.random.default_rng(0).normal(size=(3, 2))
    for direction in [*np.eye(2), *directions]:
        width = math.sqrt(direction @ covariance @ direction)
        projected = (samples.numpy() - means) @ direction / width
        assert stats.kstest(projected, "norm").pvalue > 1e-3


def test_some_modes_can_be_measured_in_any_order() -> None:
    state = state_of(6, 3)
    chosen = state.sample_homodyne(3000, torch.tensor([0.2, 0.9]), seeded(), modes=[2, 0])
    turn = torch.tensor([0.9, 0.0, 0.2])
    means, variances = (part[[2, 0]] for part in state.quadratures(turn))
    for column in range(2):
        scaled = (chosen[:, column] - means[column]) / variances[column].sqrt()
        assert stats.kstest(scaled.numpy(), "norm").pvalue > 1e-3
    alone = state.homodyne_log_prob(chosen[:, :1], 0.2, modes=[2])
    expected = stats.norm(means[0].item(), variances[0].sqrt().item()).logpdf(chosen[:, 0].numpy())
    np.testing.assert_allclose(alone, expected, atol=1e-10)


def test_homodyne_is_differentiable() -> None:
    program, values = random_gaussian(8, 2, 8, loss=True)
    outcomes = torch.randn(3, 2, generator=seeded(), dtype=DOUBLE).requires_grad_()
    values.requires_grad_()

    def found(values: torch.Tensor, outcomes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state = Gaussian().run(program, values)
        points = torch.linspace(-1, 1, 3, dtype=DOUBLE)
        samples = state.sample_homodyne(4, 0.3, seeded(5))
        return samples, state.homodyne_log_prob(outcomes, 0.3), state.wigner(1, points, points), state.purity

    assert torch.autograd.gradcheck(found, (values, outcomes))


@pytest.mark.parametrize("hbar", [0.5, 2.0])
def test_the_wigner_function_is_the_density_of_both_quadratures(hbar: float) -> None:
    state = state_of(5, 2, hbar=hbar)
    x, p = torch.linspace(-9, 9, 181, dtype=DOUBLE), torch.linspace(-10, 10, 201, dtype=DOUBLE)
    found = state.wigner(1, x, p)
    place = [1, 3]
    expected = stats.multivariate_normal(state.means[place].numpy(), state.covariance.numpy()[np.ix_(place, place)])
    points = np.stack(np.meshgrid(x, p, indexing="ij"), -1)
    np.testing.assert_allclose(found, expected.pdf(points), atol=1e-13)
    assert torch.trapezoid(torch.trapezoid(found, p), x).item() == pytest.approx(1, abs=1e-6)


# the truncated simulation


@pytest.mark.parametrize("hbar", [1.0, 2.0])
@pytest.mark.parametrize(("seed", "loss"), [(20, False), (21, False), (22, False), (23, True), (27, True)])
def test_a_truncated_simulation_with_a_high_cutoff_agrees(seed: int, loss: bool, hbar: float) -> None:
    program, values = random_gaussian(seed, 2, 8, loss)
    assert program.is_unitary is not loss
    cutoff = 20 if loss else 30
    exact, fock = Gaussian(hbar=hbar).run(program, values), Fock(cutoff, hbar=hbar).run(program, values)
    assert fock.norm_lost.item() < 1e-9
    torch.testing.assert_close(exact.purity, fock.purity, atol=1e-8, rtol=0)
    for first, second in zip(exact.quadratures(0.6), fock.quadratures(0.6), strict=True):
        torch.testing.assert_close(first, second, atol=1e-8, rtol=0)
    torch.testing.assert_close(exact.mean_photons(), fock.mean_photons(), atol=1e-8, rtol=0)
    torch.testing.assert_close(exact.photon_probs(1, cutoff), fock.photon_probs(1), atol=1e-8, rtol=0)
    points = torch.linspace(-2, 2, 5, dtype=DOUBLE)
    torch.testing.assert_close(exact.wigner(0, points, points), fock.wigner(0, points, points), atol=1e-8, rtol=0)
    outcomes = exact.sample_homodyne(6, 0.6, seeded())
    first, second = exact.homodyne_log_prob(outcomes, 0.6), fock.homodyne_log_prob(outcomes, 0.6)
    torch.testing.assert_close(first.exp(), second.exp(), atol=1e-8, rtol=0)


# mistakes


def test_mistakes_are_named() -> None:
    state = state_of(0, 2)
    axis = torch.zeros(3)
    with pytest.raises(ValueError, match="mode is 2; the state has modes 0 to 1"):
        state.photon_probs(2)
    with pytest.raises(ValueError, match="cutoff"):
        state.photon_probs(0, 0)
    with pytest.raises(ValueError, match=r"phi is .*; one finite phase or one for each of 2 modes is needed"):
        state.quadratures(torch.zeros(3))
    with pytest.raises(ValueError, match="phi is nan"):
        state.sample_homodyne(3, math.nan)
    with pytest.raises(ValueError, match=r"modes are \[1, 1\]; at least one is needed, none twice"):
        state.sample_homodyne(3, modes=[1, 1])
    with pytest.raises(ValueError, match="shots is 0"):
        state.sample_photons(0)
    with pytest.raises(ValueError, match=r"outcomes have shape \(4, 3\); a real tensor of shape \(..., shots, 2\)"):
        state.homodyne_log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"outcomes at \[0, 1\]: inf is not finite"):
        state.homodyne_log_prob(torch.tensor([[0.0, math.inf]]))
    with pytest.raises(ValueError, match=r"p has shape \(3, 1\); a real tensor of one dimension is needed"):
        state.wigner(0, axis, axis[:, None])
    entangled = Gaussian().run(Program(2, [CVGate("TwoModeSqueezing", (0, 1), (25.0, 0.0))]), NOTHING)
    with pytest.raises(ValueError, match=r"covariance of the outcomes is singular in torch.float64: squeezing is too"):
        entangled.sample_homodyne(1)
