import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import stats

from circuits.cv import CV_GATES, CVGate, Fock, Program
from circuits.cv.mixed_state import MixedFockState
from random_programs import random_programs

NOTHING = torch.zeros(0, dtype=torch.float64)
BEFORE = [
    CVGate("Displacement", 0, (0.5, 0.3)),
    CVGate("Squeezing", 1, (0.2, 0.7)),
    CVGate("Beamsplitter", (0, 1), (0.4, 0.3)),
    CVGate("Kerr", 0, (0.3,)),
]
AFTER = [
    CVGate("CubicPhase", 1, (0.1,)),
    CVGate("Beamsplitter", (0, 1), (0.9, 0.1)),
    CVGate("CrossKerr", (0, 1), (0.4,)),
]


def test_loss_is_a_beamsplitter_with_a_mode_that_is_not_looked_at():
    cutoff, kept = 8, torch.tensor([[0.3], [0.9], [0.0], [1.0]], dtype=torch.float64)
    mixed = Fock(cutoff, warn_above=None).run(Program(2, [*BEFORE, CVGate("Loss", 0, (0,)), *AFTER]), kept)
    assert isinstance(mixed, MixedFockState)
    whole = Program(3, [*BEFORE, CVGate("Beamsplitter", (0, 2), (0, 0.0)), *AFTER])
    ket = Fock(cutoff, warn_above=None).run(whole, torch.acos(kept.sqrt())).ket().reshape(4, cutoff**2, cutoff)
    torch.testing.assert_close(mixed.matrix, ket @ ket.mH, atol=1e-12, rtol=0)


def test_both_bases_agree_where_nothing_is_lost():
    program = Program(2, [*BEFORE, CVGate("Loss", 1, (0.6,)), *AFTER[1:]])
    modes, total = (Fock(16, basis=basis).run(program, NOTHING) for basis in ("mode", "total"))
    places = torch.from_numpy(total.basis.places)
    torch.testing.assert_close(modes.matrix[places][:, places], total.matrix, atol=1e-7, rtol=0)


def test_coherent_states_stay_coherent():
    program = Program(1, [CVGate("Displacement", 0, (0, 0.0)), CVGate("Loss", 0, (0.25,))])
    state = Fock(20).run(program, torch.tensor([1.2], dtype=torch.float64))
    wanted = Fock(20).run(Program(1, [CVGate("Displacement", 0, (0.6, 0.0))]), NOTHING).amplitudes
    torch.testing.assert_close(state.matrix, wanted[:, None] * wanted.conj(), atol=1e-9, rtol=0)


def test_photon_numbers_become_binomial():
    state = Fock(7).run(Program(1, [CVGate("Loss", 0, (0.3,))], photons=[5]), NOTHING)
    np.testing.assert_allclose(state.matrix.diagonal().real, stats.binom.pmf(np.arange(7), 5, 0.3), atol=1e-14)
    assert abs(float(state.norm) - 1) < 1e-14


def test_losses_one_after_another_multiply():
    def lost(*kept):
        gates = [CVGate("Squeezing", 0, (0.4, 0.2)), *(CVGate("Loss", 0, (value,)) for value in kept)]
        return Fock(12, warn_above=None).run(Program(1, gates), NOTHING).matrix

    torch.testing.assert_close(lost(0.5, 0.8), lost(0.4), atol=1e-13, rtol=0)
    torch.testing.assert_close(lost(0.0)[1:], torch.zeros(11, 12, dtype=torch.complex128))


@settings(max_examples=25, deadline=None)
@given(random_programs(names=list(CV_GATES), max_modes=2))
def test_density_matrices_are_density_matrices(program):
    program = Program(program.n_modes, [*program.gates, CVGate("Loss", 0, (0.5,))], 4, program.photons)
    matrix = Fock(6, warn_above=None).run(program, torch.tensor([0.3, -0.5, 0.7, 0.1], dtype=torch.float64)).matrix
    torch.testing.assert_close(matrix, matrix.mH, atol=1e-13, rtol=0)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12
    assert matrix.diagonal().real.sum() < 1 + 1e-12


def test_gradients_are_finite_where_nothing_or_all_is_lost():
    program = Program(1, [CVGate("Displacement", 0, (0.5, 0.0)), CVGate("Loss", 0, (0,))])
    kept = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Fock(6).run(program, kept).mean_photons().sum(), kept)
    assert torch.isfinite(slope).all()
    assert float(slope[1]) == pytest.approx(0.25, abs=1e-4)


def test_density_matrices_from_a_given_state():
    cat = torch.tensor([math.sqrt(0.5), 0, math.sqrt(0.5), 0], dtype=torch.complex128)
    state = Fock(4).run(Program(1, [CVGate("Loss", 0, (0.5,))]), NOTHING, initial=cat)
    assert float(state.matrix[0, 0].real) == pytest.approx(0.5 + 0.5 * 0.25)
    assert float(state.matrix[0, 2].real) == pytest.approx(0.5 * 0.5)


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_transmissivity_out_of_range(value):
    program = Program(1, [CVGate("Loss", 0, (0,))])
    with pytest.raises(ValueError, match=rf"transmissivity of Loss is {value}; a number from 0 to 1 is needed"):
        Fock(4).run(program, torch.tensor([[0.5], [value]], dtype=torch.float64))


@pytest.mark.parametrize("compiled", [True, False])
def test_the_derivative_of_photon_numbers_where_all_light_is_lost(compiled: bool) -> None:
    simulation = Fock(24, warn_above=None)
    simulation._compiled = compiled
    program = Program(1, [CVGate("Squeezing", 0, (0.4, 0.0)), CVGate("Loss", 0, [0])])
    transmissivity = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    simulation.run(program, transmissivity).mean_photons().sum().backward()
    assert transmissivity.grad is not None
    assert transmissivity.grad.item() == pytest.approx(math.sinh(0.4) ** 2, abs=1e-6)
