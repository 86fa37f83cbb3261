from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pennylane as qml
import pytest
import torch
from scipy import integrate, stats

from circuits import Circuit, Gate, ansatz
from circuits.backends import Statevector
from circuits.expressibility import (
    entangling_capability,
    expressibility,
    fidelity_divergence,
    haar_bins,
    meyer_wallach,
)


def _haar_states(n_wires: int, n: int, seed: int) -> torch.Tensor:
    normal = np.random.default_rng(seed).normal(size=(2, n, 2**n_wires))
    states = torch.as_tensor(normal[0] + 1j * normal[1])
    return states / states.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("n_states", [2, 3, 16])
def test_bins_of_haar_fidelities_are_the_integral_of_their_density(n_states):
    edges = np.linspace(0, 1, 8)
    density = stats.beta(1, n_states - 1).pdf  # (N - 1) (1 - F)**(N - 2)
    expected = [integrate.quad(density, low, high)[0] for low, high in pairwise(edges)]
    np.testing.assert_allclose(np.exp(haar_bins(n_states, 7)), expected, rtol=1e-8)


def test_bins_far_beyond_the_smallest_number_have_a_logarithm():
    log = haar_bins(2**20, 75)
    assert np.isfinite(log).all()
    assert log[-1] == pytest.approx((2**20 - 1) * math.log(1 / 75))


def test_haar_random_states_score_the_floor():
    a, b = _haar_states(3, 8000, 0).chunk(2)
    fidelities = (a.conj() * b).sum(1).abs().square()
    found = fidelity_divergence(fidelities, 8, generator=torch.Generator().manual_seed(0))
    assert abs(found.value - found.floor) < 4 * found.uncertainty
    # mean of G / 2n, chi-square of the bins that are hit at all, where they are hit often
    often = fidelity_divergence(fidelities, 8, bins=6, generator=torch.Generator().manual_seed(0))
    assert often.floor == pytest.approx(5 / (2 * 4000), rel=0.3)


@pytest.mark.parametrize("n_wires", [1, 2])
def test_a_circuit_that_does_nothing_is_as_far_as_can_be(n_wires, rng):
    """All fidelities are 1, whose bin has probability ``(1/bins)**(N - 1)``."""
    idle = Circuit(n_wires, [Gate("RZ", 0, [0])])
    found = expressibility(idle, 100, generator=rng)
    assert found.value == pytest.approx((2**n_wires - 1) * math.log(75))
    assert found.uncertainty == pytest.approx(0, abs=1e-12)


def test_states_on_the_equator_have_the_arcsine_law(rng):
    """After H and RZ the fidelity is ``cos(d/2)**2`` for a uniform ``d``."""
    found = expressibility(Circuit(1, [Gate("H", 0), Gate("RZ", 0, [0])]), 20000, generator=rng)
    share = np.diff(stats.arcsine.cdf(np.linspace(0, 1, 76)))
    expected = (share * np.log(share * 75)).sum()
    assert found.value == pytest.approx(expected, abs=4 * found.uncertainty + 75 / 40000)


def test_uncertainty_is_the_spread_of_repeated_estimates():
    circuit = ansatz.hardware_efficient(2, 1)
    found = [expressibility(circuit, 500, generator=torch.Generator().manual_seed(seed)) for seed in range(40)]
    spread = np.std([one.value for one in found], ddof=1)
    assert 0.6 < np.mean([one.uncertainty for one in found]) / spread < 1.6


def test_fidelities_are_of_pennylanes_states(rng):
    """The same angles through PennyLane give the same histogram."""
    circuit = ansatz.hardware_efficient(3, 1, topology="ring")
    seed = 5
    found = expressibility(circuit, 50, bins=10, generator=torch.Generator().manual_seed(seed))
    angles = 2 * math.pi * torch.rand((100, 6), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    @qml.qnode(qml.device("default.qubit", wires=3))
    def state(values):
        circuit.to_pennylane()(values)
        return qml.state()

    states = torch.stack([torch.as_tensor(state(row)) for row in angles])
    a, b = states.chunk(2)
    expected = fidelity_divergence((a.conj() * b).sum(1).abs().square(), 8, 10, generator=rng)
    assert found.value == pytest.approx(expected.value)


def test_product_circuits_do_not_entangle_and_ghz_does(rng):
    product = Circuit(4, [Gate("Rot", w, range(3 * w, 3 * w + 3)) for w in range(4)])
    assert entangling_capability(product, 50, generator=rng).value == pytest.approx(0, abs=1e-12)
    ghz = Circuit(4, [Gate("H", 0), *(Gate("CNOT", (w, w + 1)) for w in range(3))])
    found = entangling_capability(ghz, 50, generator=rng)
    assert (found.value, found.uncertainty) == pytest.approx((1, 0), abs=1e-12)


def test_a_controlled_rotation_entangles_by_its_angle(rng):
    """``(|00> + |1>RY(t)|0>)/sqrt(2)`` has ``Q = sin(t/2)**2``, 1/2 in the mean."""
    circuit = Circuit(2, [Gate("H", 0), Gate("CRY", (0, 1), [0])])
    angles = torch.linspace(0, 3, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(meyer_wallach(Statevector().state(circuit, angles)), (angles[:, 0] / 2).sin().square())
    found = entangling_capability(circuit, 4000, generator=rng)
    assert found.value == pytest.approx(0.5, abs=4 * found.uncertainty)
    assert found.uncertainty == pytest.approx(math.sqrt(1 / 8 / 4000), rel=0.05)


@pytest.mark.parametrize("n_wires", [2, 3, 5])
def test_haar_random_states_entangle_as_theory_has_it(n_wires):
    q = meyer_wallach(_haar_states(n_wires, 4000, 1))
    expected = (2**n_wires - 2) / (2**n_wires + 1)
    assert q.mean().item() == pytest.approx(expected, abs=4 * q.std().item() / math.sqrt(4000))


def test_measure_is_that_of_pennylanes_purities(rng):
    circuit = ansatz.strongly_entangling_layers(3, 2)
    angles = torch.randn(circuit.n_angles, generator=rng, dtype=torch.float64)

    @qml.qnode(qml.device("default.qubit", wires=3))
    def purity(wire):
        circuit.to_pennylane()(angles)
        return qml.purity(wires=[wire])

    expected = 2 * (1 - sum(float(purity(wire)) for wire in range(3)) / 3)
    assert meyer_wallach(Statevector().state(circuit, angles)).item() == pytest.approx(expected)


def test_the_generator_fixes_the_numbers():
    circuit = ansatz.hardware_efficient(2, 1)
    for function in (expressibility, entangling_capability):
        a, b, c = (function(circuit, 20, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        assert a == b
        assert a != c


def test_mistakes_are_one_line(rng):
    circuit = ansatz.hardware_efficient(2, 1)
    with pytest.raises(ValueError, match="n_pairs is 1; at least 2"):
        expressibility(circuit, 1, generator=rng)
    with pytest.raises(ValueError, match="bins is 1; at least 2"):
        expressibility(circuit, 10, 1, generator=rng)
    with pytest.raises(ValueError, match="n_states is 0; at least 2"):
        entangling_capability(circuit, 0, generator=rng)
    with pytest.raises(ValueError, match="states have 2 amplitudes; .* at least 2 wires"):
        entangling_capability(Circuit(1, [Gate("H", 0)]), generator=rng)
