from __future__ import annotations

import sys

import numpy as np
import piquasso as pq
import pytest
import torch
from hypothesis import given, settings
from scipy.stats import unitary_group

from circuits.cv import CV_GATES, CVGate, CVNeuralNetworkLayers, Fock, Program
from random_programs import random_programs

SOME = settings(max_examples=12, deadline=None)
VECTOR = torch.tensor([0.21, -0.13, 0.4, 0.3], dtype=torch.float64)
CONSERVING = ["Rotation", "Kerr", "Beamsplitter", "CrossKerr"]


def _theirs(program, d, cutoff, basis):
    """Amplitudes in the order of our basis."""
    simulator = pq.PureFockSimulator(d=d, config=pq.Config(cutoff=cutoff))
    amplitudes = simulator.execute(program).state.fock_amplitudes_map
    return np.array([amplitudes.get(tuple(state), 0) for state in basis.occupations.tolist()])


def _ours(program, cutoff, parameters=VECTOR):
    return Fock(cutoff, basis="total", warn_above=None).run(program, parameters[: program.n_parameters])


@SOME
@given(program=random_programs(names=CONSERVING, max_gates=8, photons=2))
def test_programs_that_conserve_photons(program):
    state = _ours(program, 7)
    theirs = _theirs(program.to_piquasso(VECTOR), program.n_modes, 7, state.basis)
    np.testing.assert_allclose(state.amplitudes, theirs, atol=1e-10)


@pytest.mark.parametrize("name", [name for name, definition in CV_GATES.items() if definition.unitary])
def test_every_gate(name):
    """Three of them piquasso truncates in between, so that only what is far below the cutoff agrees."""
    size = CV_GATES[name].n_modes
    gates = [CVGate("Displacement", 0, (0.2, 0.4)), CVGate("Squeezing", 1, (0.1, 0.9))]
    gates.append(CVGate(name, (1, 0)[:size], (0.05, 0.8)[: len(CV_GATES[name].parameters)]))
    state = _ours(Program(2, gates), 24)
    theirs = _theirs(Program(2, gates).to_piquasso(), 2, 24, state.basis)
    found = state.amplitudes.numpy()
    turn = theirs[0] / found[0] if name == "QuadraticPhase" else 1.0
    assert abs(turn) == pytest.approx(1.0)
    low = state.basis.occupations.sum(1) < 12
    np.testing.assert_allclose(found[low] * turn, theirs[low], atol=1e-8)


def test_neural_network_layers():
    """The order of gates on different modes matters at the edge of the basis, and only there."""
    layers = CVNeuralNetworkLayers(2, 3)
    weights = layers.flatten(*layers.initial(torch.Generator().manual_seed(1), active=0.06, passive=2.0))
    state = _ours(layers.program, 12, weights)
    theirs = _theirs(layers.program.to_piquasso(weights), 3, 12, state.basis)
    low = state.basis.occupations.sum(1) < 6
    np.testing.assert_allclose(state.amplitudes[low], theirs[low], atol=1e-8)
    assert abs(theirs[low]).max() > 0.5


def test_loss():
    program = Program(1, [CVGate("Loss", 0, (0.7,))], photons=[2])
    state = pq.PureFockSimulator(d=1, config=pq.Config(cutoff=3)).execute(program.to_piquasso()).state
    np.testing.assert_allclose(state.fock_probabilities, [0.09, 0.42, 0.49], atol=1e-12)
    gaussian = Program(1, [CVGate("Displacement", 0, (0.5, 0.0)), CVGate("Loss", 0, (0.36,))]).to_piquasso()
    means = pq.GaussianSimulator(d=1).execute(gaussian).state.xpxp_mean_vector
    np.testing.assert_allclose(means, [2 * 0.5 * 0.6, 0], atol=1e-12)  # hbar = 2: the mean of x is 2 alpha


@SOME
@given(program=random_programs(names=list(CV_GATES), max_gates=8))
def test_round_trip(program):
    bound = program.bind(VECTOR)
    back = Program.from_piquasso(bound.to_piquasso(), program.n_modes)
    assert (back.photons, back.counts) == (bound.photons, bound.counts)
    for gate, same in zip(bound.gates, back.gates, strict=True):
        assert gate.modes == same.modes
        assert [slot.offset for slot in gate.parameters] == pytest.approx([slot.offset for slot in same.parameters])


def test_all_instructions_that_are_read():
    unitary = unitary_group.rvs(3, random_state=5)
    with pq.Program() as program:
        pq.Q() | pq.NumberState([1, 0, 2])
        pq.Q(0) | pq.Displacement(0.1, 0.2)
        pq.Q() | pq.Interferometer(unitary)
        pq.Q(1) | pq.PositionDisplacement(0.1)
        pq.Q(2) | pq.MomentumDisplacement(0.1)
        pq.Q(0) | pq.Fourier()
        pq.Q(2, 0) | pq.Beamsplitter5050()
        pq.Q(1, 2) | pq.MachZehnder(0.3, 0.4)
        pq.Q(1) | pq.Kerr(0.1)
        pq.Q(0, 1) | pq.CrossKerr(0.2)
        pq.Q(0, 1) | pq.ParticleNumberMeasurement()
    ours = Program.from_piquasso(program)
    assert (ours.n_modes, ours.photons) == (3, (1, 0, 2))
    state = _ours(ours, 12)
    theirs = _theirs(pq.Program(program.instructions[:-1]), 3, 12, state.basis)
    low = state.basis.occupations.sum(1) < 6
    np.testing.assert_allclose(state.amplitudes[low], theirs[low], atol=1e-8)


@pytest.mark.parametrize("gate", [pq.ControlledX(0.3), pq.ControlledZ(0.3), pq.ControlledX(-0.8)])
def test_controlled_gates(gate):
    start = [pq.Vacuum(), pq.Displacement(0.3, 0.4).on_modes(0), pq.Displacement(0.2, -0.9).on_modes(1)]
    program = pq.Program([*start, pq.Squeezing(0.2, 0.3).on_modes(0), gate.on_modes(1, 0)])
    theirs = pq.GaussianSimulator(d=2).execute(program).state
    state = Fock(40).run(Program.from_piquasso(program), VECTOR[:0])
    means, variances = zip(*(state.quadratures(phi) for phi in (0.0, np.pi / 2)), strict=True)
    np.testing.assert_allclose(torch.stack(means, -1).flatten(), theirs.xpxp_mean_vector, atol=1e-8)
    # piquasso's covariance is of the anticommutator, twice the variance
    np.testing.assert_allclose(
        2 * torch.stack(variances, -1).flatten(), np.diag(theirs.xpxp_covariance_matrix), atol=1e-8
    )


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        ([pq.SNAP([0.1]).on_modes(0)], "instruction 0, SNAP: a program of optical modes cannot express it"),
        ([pq.Thermal([0.3]).on_modes(0)], "Thermal: .* cannot express"),
        ([pq.PostSelectPhotons([1]).on_modes(0)], "PostSelectPhotons: .* cannot express"),
        ([pq.Kerr(0.1).on_modes(0), pq.NumberState([1]).on_modes(0)], "instruction 1, NumberState: .*after a gate"),
        ([pq.NumberState([1]).on_modes(0), pq.Vacuum().on_modes(0)], "a second time"),
        ([0.5 * pq.NumberState([1]).on_modes(0)], "coefficient is 0.5"),
        ([pq.NumberState([1, 1]).on_modes(0)], "2 photon numbers are given for 1 modes"),
        ([pq.HomodyneMeasurement().on_modes(0), pq.Kerr(0.1).on_modes(0)], "instruction 1, Kerr: .*measure last"),
        ([pq.Attenuator(0.3, 1).on_modes(0)], "thermal environment"),
        ([pq.Loss(1.2).on_modes(0)], "transmissivity of Loss is 1.44"),
        ([pq.Kerr([0.1, 0.2]).on_modes(0)], r"xi is \[0.1, 0.2\]; a real number"),
        ([pq.Kerr(float("nan")).on_modes(0)], "nan"),
        ([pq.Interferometer(np.ones((2, 2))).on_modes(0, 1)], "not unitary"),
    ],
)
def test_what_a_program_cannot_express(instructions, message):
    with pytest.raises(ValueError, match=message) as caught:
        Program.from_piquasso(pq.Program(instructions))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("instruction", [pq.Kerr(0.1), pq.NumberState([1]), pq.HomodyneMeasurement()], ids=str)
def test_modes_beyond_the_number_given(instruction):
    with pytest.raises(ValueError, match=r"^instruction 0, \w+: mode 3 is out of range 0 to 1$"):
        Program.from_piquasso(pq.Program([instruction.on_modes(3)]), n_modes=2)


def test_a_number_of_modes_that_is_none():
    with pytest.raises(ValueError, match="n_modes is '2'"):
        Program.from_piquasso(pq.Program([pq.Kerr(0.1).on_modes(0)]), n_modes="2")


def test_without_piquasso(monkeypatch):
    monkeypatch.setitem(sys.modules, "piquasso", None)
    with pytest.raises(ImportError, match="pip install piquasso"):
        Program(1).to_piquasso()
