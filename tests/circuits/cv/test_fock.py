import math
import warnings
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.linalg import expm

from circuits.cv import CVGate, CVNeuralNetworkLayers, Fock, Program, TruncationWarning, needed_cutoff
from circuits.cv.basis import FockBasis

NOTHING = torch.zeros(0, dtype=torch.float64)
DISPLACED = Program(1, [CVGate("Displacement", 0, (0, 0.0))])
VALUES = {
    "Rotation": [0.7],
    "Displacement": [0.4, 0.9],
    "Squeezing": [0.25, -0.6],
    "QuadraticPhase": [0.3],
    "CubicPhase": [0.08],
    "Kerr": [0.5],
    "Beamsplitter": [0.6, 0.8],
    "TwoModeSqueezing": [0.2, 0.5],
    "CrossKerr": [0.4],
}


@lru_cache
def exponential(name: str, size: int, hbar: float) -> np.ndarray:
    """The gate as the exponential of its generator in a larger space."""
    values = VALUES[name]
    lower = np.diag(np.sqrt(np.arange(1, size)), 1)
    one = np.eye(size)
    a, b = (
        (np.kron(lower, one), np.kron(one, lower))
        if name in ("Beamsplitter", "TwoModeSqueezing", "CrossKerr")
        else (
            lower,
            lower,
        )
    )
    x, n, value = math.sqrt(hbar / 2) * (a + a.T), a.T @ a, values[0]
    z = value * np.exp(1j * values[1]) if len(values) > 1 else value
    return expm(
        {
            "Rotation": 1j * value * n,
            "Displacement": z * a.T - np.conj(z) * a,
            "Squeezing": 0.5 * (np.conj(z) * a @ a - z * a.T @ a.T),
            "QuadraticPhase": 1j * value * x @ x / (2 * hbar),
            "CubicPhase": 1j * value * x @ x @ x / (3 * hbar),
            "Kerr": 1j * value * n @ n,
            "Beamsplitter": z * a @ b.T - np.conj(z) * a.T @ b,
            "TwoModeSqueezing": z * a.T @ b.T - np.conj(z) * a @ b,
            "CrossKerr": 1j * value * n @ (b.T @ b),
        }[name]
    )


@pytest.mark.parametrize(
    ("name", "hbar"), [*((name, 2.0) for name in VALUES), ("CubicPhase", 0.7), ("QuadraticPhase", 0.7)]
)
@pytest.mark.parametrize("basis", ["mode", "total"])
def test_every_gate_is_the_exponential_of_its_generator(name, basis, hbar):
    gate_modes = 2 if name in ("Beamsplitter", "TwoModeSqueezing", "CrossKerr") else 1
    cutoff, size = 5, 15 if gate_modes == 2 else 80
    simulation = Fock(cutoff, basis=basis, hbar=hbar, warn_above=None)
    program = Program(gate_modes, [CVGate(name, range(gate_modes), VALUES[name])])
    space = FockBasis(gate_modes, cutoff, basis)
    found = simulation.run(program, NOTHING, initial=torch.eye(space.size, dtype=torch.complex128)).amplitudes.T
    places = space.occupations @ size ** np.arange(gate_modes - 1, -1, -1)
    wanted = exponential(name, size, hbar)[np.ix_(places, places)]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-8)


def test_beamsplitter_on_modes_in_the_other_order():
    ordered, reversed_ = (
        Fock(5).run(Program(2, [CVGate("Beamsplitter", modes, (0.6, 0.8))], photons=start), NOTHING).ket()
        for modes, start in (((0, 1), (2, 1)), ((1, 0), (1, 2)))
    )
    torch.testing.assert_close(ordered, reversed_.T, atol=1e-14, rtol=0)


@pytest.mark.parametrize("basis", ["mode", "total"])
def test_large_coherent_states(basis):
    state = Fock(60, basis=basis).run(DISPLACED, torch.tensor([4.0], dtype=torch.float64))
    wanted = stats.poisson.pmf(np.arange(60), 16.0)
    np.testing.assert_allclose(state.amplitudes.abs().square(), wanted, atol=1e-13)
    assert float(state.norm_lost) == pytest.approx(stats.poisson.sf(59, 16.0), abs=1e-13)


def test_strongly_squeezed_states():
    state = Fock(60, warn_above=None).run(Program(1, [CVGate("Squeezing", 0, (1.5, 0.0))]), NOTHING)
    n = np.arange(30)
    logs = special.gammaln(2 * n + 1) - 2 * special.gammaln(n + 1) + 2 * n * math.log(math.tanh(1.5) / 2)
    np.testing.assert_allclose(state.amplitudes[::2].abs().square(), np.exp(logs) / math.cosh(1.5), atol=1e-12)
    assert state.amplitudes[1::2].abs().max() < 1e-13


def test_total_and_mode_bases_agree_where_nothing_is_lost():
    layers = CVNeuralNetworkLayers(2, 3)
    weights = layers.flatten(*layers.initial(torch.Generator().manual_seed(1), active=0.03, passive=1.0))
    modes, total = (Fock(10, basis=basis).run(layers.program, weights) for basis in ("mode", "total"))
    assert total.norm_lost < 1e-7
    torch.testing.assert_close(total.ket(), modes.ket(), atol=1e-5, rtol=0)
    torch.testing.assert_close(total.quadratures()[0], modes.quadratures()[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("basis", ["mode", "total"])
def test_states_converge_with_the_cutoff(basis):
    layers = CVNeuralNetworkLayers(2, 2)
    weights = layers.flatten(*layers.initial(torch.Generator().manual_seed(2), active=0.2, passive=1.0))
    best = Fock(24, basis=basis).run(layers.program, weights)
    errors = []
    for cutoff in (6, 9, 12, 15):
        state = Fock(cutoff, basis=basis, warn_above=None).run(layers.program, weights)
        errors.append(float((state.quadratures()[0] - best.quadratures()[0]).abs().max()))
        assert 0 <= float(state.norm_lost) < 0.2
    assert all(later < 0.3 * earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-5


@pytest.mark.parametrize(
    ("shared", "each", "batch"),
    [((3,), None, ()), ((4, 3), None, (4,)), ((2,), (5, 1), (5,)), ((2, 1, 2), (3, 1), (2, 3)), ((1, 2), (5, 1), (5,)),
     ((2,), (1,), ()), ((4, 2), (1,), (4,)), ((2,), (0, 1), (0,))],
)  # fmt: skip
@pytest.mark.parametrize("basis", ["mode", "total"])
def test_batches(shared, each, batch, basis):
    program = Program(
        2, [CVGate("Squeezing", 0, (0, 1)), CVGate("Beamsplitter", (0, 1), (1, 2)), CVGate("Kerr", 1, (2,))], 3
    )
    rng = torch.Generator().manual_seed(0)
    parts = [
        0.3 * torch.randn(shape, generator=rng, dtype=torch.float64) for shape in (shared, each) if shape is not None
    ]
    simulation = Fock(5, basis=basis, warn_above=None)
    state = simulation.run(program, *parts)
    assert state.amplitudes.shape == (*batch, state.basis.size)
    joined = torch.cat([part.expand(*batch, -1) for part in parts], dim=-1).reshape(-1, 3)
    for row, found in zip(joined, state.amplitudes.reshape(-1, state.basis.size), strict=True):
        torch.testing.assert_close(found, simulation.run(program, row).amplitudes, atol=1e-14, rtol=0)


def test_programs_without_gates_or_parameters():
    assert Fock(3).run(Program(2, photons=[1, 2]), NOTHING).ket()[1, 2] == 1
    alone = Fock(1).run(DISPLACED, torch.zeros(2, 1)).amplitudes
    torch.testing.assert_close(alone, torch.ones(2, 1, dtype=torch.complex128))
    fixed = Program(1, [CVGate("Squeezing", 0, (0.3, 0.2))])
    assert Fock(4).run(fixed, torch.zeros(3, 0)).amplitudes.shape == (3, 4)


def test_starting_from_a_cat():
    alpha = torch.tensor([0.8], dtype=torch.float64)
    cat = Fock(30).run(DISPLACED, alpha).amplitudes + Fock(30).run(DISPLACED, -alpha).amplitudes
    cat = cat / cat.norm()
    state = Fock(30).run(DISPLACED, torch.tensor([[0.8], [-0.8]], dtype=torch.float64), initial=cat)
    torch.testing.assert_close(state.quadratures()[0][:, 0], torch.tensor([1.6, -1.6], dtype=torch.float64))
    several = Fock(30).run(DISPLACED, alpha, initial=torch.stack([cat, cat.conj()]))
    torch.testing.assert_close(several.amplitudes[0], state.amplitudes[0])


def test_a_warning_says_which_row_and_which_cutoff_would_do():
    values = torch.tensor([[0.1], [2.0], [0.5]], dtype=torch.float64)
    with pytest.warns(
        TruncationWarning, match=r"at cutoff 5 a state loses 37.1 % of its norm \(row 1\); cutoff 10 "
    ) as found:
        Fock(5).run(DISPLACED, values)
    assert len(found) == 1
    assert "\n" not in str(found[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Fock(10).run(DISPLACED, values)
        Fock(5, warn_above=None).run(DISPLACED, values)


def test_a_warning_where_no_cutoff_would_do():
    program = Program(4, [CVGate("Displacement", mode, (0, 0.0)) for mode in range(4)])
    with pytest.warns(TruncationWarning, match="no cutoff keeps it below 1 %"):
        Fock(3).run(program, torch.tensor([6.0], dtype=torch.float64))


@pytest.mark.parametrize("basis", ["mode", "total"])
@pytest.mark.parametrize("lost", [0.1, 0.01, 1e-6])
def test_needed_cutoff_is_the_lowest(basis, lost):
    program = Program(2, [CVGate("Displacement", 0, (0, 0.0)), CVGate("Loss", 1, (0.5,))])
    values = torch.tensor([[0.3], [1.4]], dtype=torch.float64)
    cutoff = needed_cutoff(program, values, lost=lost, basis=basis)
    assert stats.poisson.sf(cutoff - 1, 1.96) <= lost < stats.poisson.sf(cutoff - 2, 1.96)
    assert needed_cutoff(Program(2, photons=[2, 3]), NOTHING, basis=basis) == (6 if basis == "total" else 4)


def test_memory_grows_with_all_that_it_depends_on():
    layers = CVNeuralNetworkLayers(2, 3)
    small = Fock(6, basis="total").memory(layers.program, 8)
    assert small < Fock(6).memory(layers.program, 8) < Fock(8).memory(layers.program, 8)
    assert Fock(6, basis="total").memory(layers.program, 8, gradient=False) < small
    assert small < Fock(6, basis="total").memory(layers.program, 64)
    assert small < Fock(6, basis="total").memory(layers.program, 8, n_inputs=20)
    lossy = Program(3, [*layers.program.gates, CVGate("Loss", 0, (0.5,))])
    assert Fock(6, basis="total").memory(lossy, 8) > 20 * small


def test_what_cannot_fit_is_refused_before_it_is_made():
    program = CVNeuralNetworkLayers(1, 8).program
    weights = torch.zeros(program.n_parameters)
    with pytest.raises(
        ValueError, match=r"8 modes, cutoff 10 \(mode basis\), batch of 1: needs about .* GB, 1 GB are free"
    ):
        Fock(10, memory_limit=10**9).run(program, weights)
    lossy = Program(4, [CVGate("Loss", 0, (0.5,))])
    with pytest.raises(
        ValueError, match=r"4 modes, cutoff 12 \(total basis, density matrices\), batch of 1: needs about"
    ):
        Fock(12, basis="total", memory_limit=10**7).run(lossy, NOTHING)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0}, "cutoff is 0; an integer of at least 1 is needed"),
        ({"cutoff": 4, "basis": "both"}, "basis is 'both'; allowed are mode, total"),
        ({"cutoff": 4, "dtype": torch.float32}, "dtype is torch.float32; complex64 or complex128 is needed"),
        ({"cutoff": 4, "hbar": -1.0}, "hbar is -1.0; a positive number is needed"),
        ({"cutoff": 4, "warn_above": 2.0}, "warn_above is 2.0; a number from 0 to 1 is needed"),
        ({"cutoff": 4, "memory_limit": 0}, "memory_limit is 0; an integer of at least 1 is needed"),
        ({"cutoff": 4, "device": "tpu"}, "device 'tpu' is unknown"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Fock(**options)


@pytest.mark.parametrize(
    ("values", "inputs", "message"),
    [
        (torch.tensor([0.1, 0.2]), None, "2 parameters are given; the program has 1"),
        (torch.tensor([[0.1], [math.nan]]), None, r"parameters at \[1, 0\]: nan is not finite"),
        (torch.tensor([math.inf]), None, r"parameters at \[0\]: inf is not finite"),
        (torch.tensor([0.1 + 1j]), None, "parameters are .*; a real tensor of shape"),
        ([0.1], None, "parameters are list; a real tensor"),
        (torch.zeros(2, 0), torch.zeros(3, 1), "leading dimensions of parameters and inputs"),
    ],
)
def test_bad_parameters(values, inputs, message):
    with pytest.raises(ValueError, match=message):
        Fock(4).run(DISPLACED, values, inputs)


def test_photons_beyond_the_cutoff():
    with pytest.raises(ValueError, match=r"the program starts with photons \(4,\); cutoff 4 is not above them"):
        Fock(4).run(Program(1, photons=[4]), NOTHING)
    with pytest.raises(ValueError, match=r"photons \(2, 2\); cutoff 4 of all together is not above them"):
        Fock(4, basis="total").run(Program(2, photons=[2, 2]), NOTHING)


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (torch.ones(3, dtype=torch.complex128), r"initial is \(3,\) complex128; complex of shape \(..., 4\) is needed"),
        (torch.ones(4), "initial is .* float32; complex of shape"),
        (torch.ones(3, 4) + 0j, r"initial at \[0\] has norm 4; 1 is needed"),
        (torch.zeros(4) + 0j, r"initial at \[\] has norm 0; 1 is needed"),
        (torch.full((4,), math.nan) + 0j, r"initial at \[\] has norm nan; 1 is needed"),
        (torch.eye(4) + 0j, r"initial is \(4, 4\); the batch is \(3,\)"),
    ],
)
def test_bad_states_to_start_from(initial, message):
    with pytest.raises(ValueError, match=message):
        Fock(4, warn_above=None).run(DISPLACED, torch.zeros(3, 1), initial=initial)


def test_a_program_with_photons_and_a_state_to_start_from():
    with pytest.raises(
        ValueError, match=r"initial is given, and the program starts with photons \(1,\); one is allowed"
    ):
        Fock(4).run(Program(1, photons=[1]), NOTHING, initial=torch.eye(4)[0] + 0j)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("a", [20.0, 64.0, 1e6])
def test_a_displacement_far_beyond_the_cutoff_leaves_nothing_at_once(a: float, compiled: bool) -> None:
    simulation = Fock(10, warn_above=None)
    simulation._compiled = compiled
    vector = torch.tensor([a], dtype=torch.float64, requires_grad=True)
    state = simulation.run(Program(1, [CVGate("Displacement", 0, (0, 0.3))]), vector)
    assert 1 - 1e-15 <= state.norm_lost.item() <= 1
    state.norm.backward()
    assert vector.grad is not None
    assert abs(vector.grad.item()) < 1e-25


def test_a_truncated_state_whose_cubic_phase_no_higher_cutoff_resolves_warns() -> None:
    program = Program(1, [CVGate("Displacement", 0, (2.5, 0.0)), CVGate("CubicPhase", 0, [0])])
    strength = torch.tensor([25.0], dtype=torch.float64)
    with pytest.warns(TruncationWarning, match="no cutoff"):
        Fock(10).run(program, strength)
    assert needed_cutoff(program, strength, at_least=10) is None
