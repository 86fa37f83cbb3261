"""Means and covariances of Gaussian programs against PennyLane, piquasso, closed forms and the truncated simulation."""

from __future__ import annotations

import math
import re

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from circuits.cv import CVGate, Program
from circuits.cv.gates import CV_GATES
from circuits.cv.gaussian import Gaussian
from circuits.cv.gaussian_state import GaussianState
from circuits.cv.state import State
from random_gaussian import random_gaussian

DOUBLE = torch.float64


def program_and_values(seed: int, n_modes: int, n_gates: int, loss: bool = False) -> tuple[Program, Tensor]:
    return random_gaussian(seed, n_modes, n_gates, loss)


def pennylane_covariance(program: Program, values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Means and covariance (hbar = 2) of default.gaussian, from its internal state."""
    device = qml.device("default.gaussian", wires=program.n_modes)

    @qml.qnode(device, diff_method=None)
    def circuit() -> object:
        for gate in program.bind(values).gates:
            getattr(qml, gate.name)(*(slot.offset for slot in gate.parameters), wires=list(gate.modes))
        return qml.expval(qml.QuadX(0))

    circuit()
    covariance, means = device._state
    return means, covariance


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_agree_with_pennylane(seed: int) -> None:
    program, values = program_and_values(seed, 1 + seed % 4, 25)
    means, covariance = pennylane_covariance(program, values)
    state = Gaussian().run(program, values)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(state.means, means, atol=1e-12 * scale)
    np.testing.assert_allclose(state.covariance, covariance, atol=1e-12 * scale)


@pytest.mark.parametrize("name", [name for name, gate in CV_GATES.items() if gate.gaussian and gate.unitary])
def test_measurements_of_every_gate_agree_with_pennylane(name: str) -> None:
    n = CV_GATES[name].n_modes
    angles = [0.37, 0.9][: len(CV_GATES[name].parameters)]
    start = [("Displacement", (0.4, 0.3), 0), ("Squeezing", (0.5, 1.1), 0), ("Displacement", (0.2, 2.0), n - 1)]
    gates = [CVGate(kind, mode, parameters) for kind, parameters, mode in start]
    state = Gaussian().run(Program(n, [*gates, CVGate(name, range(n), angles)]), torch.empty(0))

    def measured(kind: str, mode: int, *arguments: float) -> tuple[float, float]:
        @qml.qnode(qml.device("default.gaussian", wires=n), diff_method=None)
        def circuit(which: str) -> object:
            for gate, parameters, place in start:
                getattr(qml, gate)(*parameters, wires=place)
            getattr(qml, name)(*angles, wires=range(n))
            return getattr(qml, which)(getattr(qml, kind)(*arguments, wires=mode))

        return float(circuit("expval")), float(circuit("var"))

    for mode in range(n):
        assert state.mean_photons()[mode].item() == pytest.approx(measured("NumberOperator", mode)[0], abs=1e-12)
        for phi in (0.0, math.pi / 2, 0.7):
            mean, variance = (part[mode].item() for part in state.quadratures(phi))
            assert (mean, variance) == pytest.approx(measured("QuadOperator", mode, phi), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_lossy_programs_agree_with_piquasso(seed: int) -> None:
    import piquasso as pq

    program, values = program_and_values(10 + seed, 3, 12, loss=True)
    instructions = []
    for gate in program.bind(values).gates:
        p = [slot.offset for slot in gate.parameters]
        made = {
            "Rotation": lambda p: pq.Phaseshifter(p[0]),
            "Displacement": lambda p: pq.Displacement(r=p[0], phi=p[1]),
            "Squeezing": lambda p: pq.Squeezing(r=p[0], phi=p[1]),
            "QuadraticPhase": lambda p: pq.QuadraticPhase(p[0]),
            "Beamsplitter": lambda p: pq.Beamsplitter(p[0], p[1]),
            "TwoModeSqueezing": lambda p: pq.Squeezing2(r=p[0], phi=p[1]),
            "Loss": lambda p: pq.Attenuator(math.acos(math.sqrt(p[0]))),
        }[gate.name](p)
        instructions.append(made.on_modes(*gate.modes))
    hbar = 1.5
    simulator = pq.GaussianSimulator(d=3, config=pq.Config(hbar=hbar))
    found = simulator.execute(pq.Program([pq.Vacuum().on_modes(0, 1, 2), *instructions])).state
    state = Gaussian(hbar=hbar).run(program, values)
    np.testing.assert_allclose(state.means, found.xxpp_mean_vector, atol=1e-10)
    # piquasso's covariance matrix is twice that of the quadratures
    np.testing.assert_allclose(state.covariance, found.xxpp_covariance_matrix / 2, atol=1e-10)
    np.testing.assert_allclose(
        state.mean_photons(), [found.mean_photon_number((mode,)) for mode in range(3)], atol=1e-10
    )


def test_two_mode_squeezing_seen_in_one_mode_is_thermal_and_loss_scales_it() -> None:
    r, transmissivity = 0.8, 0.3
    gates = [CVGate("TwoModeSqueezing", (0, 1), (r, 0.4)), CVGate("Loss", 0, (transmissivity,))]
    state = Gaussian().run(Program(2, gates), torch.empty(0))
    mean = math.sinh(r) ** 2
    assert state.mean_photons().tolist() == pytest.approx([transmissivity * mean, mean], abs=1e-13)
    thermal = torch.tensor([2 * transmissivity * mean + 1, 2 * mean + 1], dtype=DOUBLE)
    torch.testing.assert_close(state.quadratures(1.3)[1], thermal)
    n = np.arange(12)
    np.testing.assert_allclose(state.photon_probs(1, 12), mean**n / (1 + mean) ** (n + 1), atol=1e-15)


@pytest.mark.parametrize("hbar", [0.5, 1.0, 2.0])
def test_hbar_only_scales_quadratures(hbar: float) -> None:
    program, values = program_and_values(3, 3, 20, loss=True)
    state, reference = Gaussian(hbar=hbar).run(program, values), Gaussian(hbar=2.0).run(program, values)
    assert state.hbar == hbar
    torch.testing.assert_close(state.means, reference.means * math.sqrt(hbar / 2))
    torch.testing.assert_close(state.covariance, reference.covariance * hbar / 2)
    torch.testing.assert_close(state.mean_photons(), reference.mean_photons())
    torch.testing.assert_close(state.photon_probs(1, 9), reference.photon_probs(1, 9))
    torch.testing.assert_close(state.purity, reference.purity)
    coherent = Gaussian(hbar=hbar).run(Program(1, [CVGate("Displacement", 0, (0.6, 0.0))]), torch.empty(0))
    assert coherent.means.tolist() == pytest.approx([0.6 * math.sqrt(2 * hbar), 0.0])
    torch.testing.assert_close(coherent.covariance, 0.5 * hbar * torch.eye(2, dtype=DOUBLE))


@pytest.mark.parametrize("split", ["all apart", "inputs apart", "inputs alone", "shared", "two dimensions"])
def test_samples_are_computed_as_if_alone(split: str) -> None:
    gates = [
        CVGate("Squeezing", 0, (0, 0.3)),
        CVGate("Displacement", 1, (6, 0.2)),  # an input, as a displacement alone
        CVGate("Beamsplitter", (0, 1), (1, 2)),
        CVGate("Loss", 1, (3,)),
        CVGate("Displacement", 1, (7, 8)),
        CVGate("Rotation", 0, (8,)),  # an input in a matrix
        CVGate("Loss", 0, (9,)),
        CVGate("TwoModeSqueezing", (1, 2), (4, 5)),
        CVGate("Displacement", 2, (0, 1)),
    ]
    program = Program(3, gates)
    values = torch.rand(4, 10, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    if split != "all apart":
        values[:, :6] = values[0, :6]
    alone = [Gaussian().run(program, row) for row in values]
    engine = Gaussian()
    if split == "all apart":
        state = engine.run(program, values)
    elif split == "inputs apart":
        state = engine.run(program, values[0, :6], values[:, 6:])
    elif split == "inputs alone":
        state = engine.run(program, values[:, :6], values[2, 6:])
        alone = [alone[2]] * 4
    elif split == "shared":
        state = engine.run(program, values[1, :6], values[1, 6:])
        alone = alone[1:2]
    else:
        state = engine.run(program, values[0, :6], values[:, 6:].reshape(2, 2, 4))
        assert state.norm_lost.shape == (2, 2)
    assert isinstance(state, State)
    torch.testing.assert_close(state.means.reshape(-1, 6), torch.stack([one.means for one in alone]))
    torch.testing.assert_close(state.covariance.reshape(-1, 6, 6), torch.stack([one.covariance for one in alone]))


def test_an_empty_program_gives_the_vacuum() -> None:
    state = Gaussian().run(Program(2, n_parameters=3), torch.zeros(5, 3))
    assert state.means.shape == (5, 4)
    torch.testing.assert_close(state.covariance, torch.eye(4, dtype=DOUBLE).expand(5, 4, 4))
    assert state.purity.tolist() == pytest.approx([1.0] * 5)


def test_a_batch_may_be_empty() -> None:
    program = Program(2, [CVGate("Squeezing", 0, (0, 0.1)), CVGate("Loss", 1, (1,))])
    state = Gaussian().run(program, torch.zeros(0, 2))
    assert state.quadratures()[0].shape == (0, 2)
    assert state.sample_homodyne(3).shape == state.sample_photons(3).shape == (0, 3, 2)
    assert state.photon_probs(0, 4).shape == (0, 4)
    assert state.norm_lost.shape == (0,)


def test_gradients_of_first_and_second_order() -> None:
    program, values = program_and_values(5, 2, 9, loss=True)
    inputs = values[-2:].repeat(2, 1).requires_grad_()
    shared = values[:-2].clone().requires_grad_()

    def moments(shared: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
        state = Gaussian().run(program, shared, inputs)
        return state.means, state.covariance, state.mean_photons(), *state.quadratures(0.4), state.photon_probs(1, 5)

    assert torch.autograd.gradcheck(moments, (shared, inputs))
    assert torch.autograd.gradgradcheck(lambda a, b: moments(a, b)[2:], (shared, inputs))


def test_float32_agrees_with_float64() -> None:
    program, values = program_and_values(2, 3, 15)
    single, double = Gaussian(dtype=torch.float32).run(program, values), Gaussian().run(program, values)
    assert single.means.dtype == single.photon_probs(0, 4).dtype == torch.float32
    scale = double.covariance.abs().max().item()
    torch.testing.assert_close(single.covariance.double(), double.covariance, atol=1e-5 * scale, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), n_modes=st.integers(1, 4), n_gates=st.integers(0, 30), hbar=st.sampled_from([0.5, 1, 2])
)
def test_covariances_stay_those_of_states(seed: int, n_modes: int, n_gates: int, hbar: float) -> None:
    program, values = program_and_values(seed, n_modes, n_gates, loss=True)
    state = Gaussian(hbar=hbar).run(program, values)
    covariance = state.covariance.numpy()
    np.testing.assert_array_equal(covariance, covariance.T)
    form = np.kron([[0, 1], [-1, 0]], np.eye(n_modes))
    smallest = np.linalg.eigvalsh(covariance + 0.5j * hbar * form)[0]
    assert smallest > -1e-12 * np.abs(covariance).max()
    assert 0 < state.purity.item() < 1 + 1e-9
    if program.is_unitary:
        assert state.purity.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("gates", "photons", "words"),
    [
        ([CVGate("Rotation", 0, (0.1,)), CVGate("Kerr", 1, (0.1,))], None, "gate 1, Kerr(0.1) [1], is not Gaussian"),
        ([CVGate("CubicPhase", 0, (0.1,))], None, "CubicPhase"),
        ([CVGate("CrossKerr", (0, 1), (0.1,))], None, "CrossKerr"),
        ([], (0, 1), "starts with photons (0, 1)"),
    ],
)
def test_what_is_not_gaussian_is_refused(gates: list[CVGate], photons: tuple[int, ...] | None, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        Gaussian().run(Program(2, gates, photons=photons), torch.empty(0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [-0.1, 1.0001])
@pytest.mark.parametrize("rows", [None, 3])
def test_a_transmissivity_out_of_range_is_refused(value: float, rows: int | None) -> None:
    program = Program(1, [CVGate("Loss", 0, (0,))])
    values = torch.tensor([value]) if rows is None else torch.tensor([[0.0], [1.0], [value]])
    with pytest.raises(ValueError, match=rf"transmissivity of Loss is {value}; a number from 0 to 1 is needed"):
        Gaussian().run(program, values)


def test_derivatives_by_a_transmissivity_of_zero() -> None:
    gates = [CVGate("Squeezing", 0, (0.5, 0.3)), CVGate("Beamsplitter", (0, 1), (0.4, 0.0)), CVGate("Loss", 0, (0,))]
    nothing_left = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Gaussian().run(Program(2, gates), nothing_left).mean_photons().sum(), nothing_left)
    assert slope.item() == pytest.approx((math.sinh(0.5) * math.cos(0.4)) ** 2)


def test_mistakes_are_named() -> None:
    program = Program(1, [CVGate("Squeezing", 0, (0, 0.0))])
    with pytest.raises(ValueError, match="not finite: squeezing is too strong|not finite in torch.float64"):
        Gaussian().run(program, torch.tensor([800.0]))
    with pytest.raises(ValueError, match=r"parameters at \[0\]: nan is not finite"):
        Gaussian().run(program, torch.tensor([math.nan]))
    with pytest.raises(ValueError, match="2 parameters are given; the program has 1"):
        Gaussian().run(program, torch.zeros(2))
    with pytest.raises(ValueError, match=r"needs about .* GB"):
        Gaussian(memory_limit=10**6).run(program, torch.zeros(200_000, 1))
    with pytest.raises(ValueError, match=r"1 modes, 1 gates, batch of 1: needs about .* GB"):
        Gaussian(memory_limit=10).run(program, torch.zeros(1))
    with pytest.raises(ValueError, match=r"9999 modes, 0 gates, batch of 1: needs about .* GB"):
        Gaussian(memory_limit=10**9).run(Program(9999), torch.empty(0))
    displaced = Program(1, [CVGate("Displacement", 0, (0, 0.0))])
    with pytest.raises(ValueError, match="means are not finite in torch.float32: displacements are too large"):
        Gaussian(dtype=torch.float32).run(displaced, torch.tensor([1e39], dtype=torch.float64))
    with pytest.raises(ValueError, match="dtype is torch.complex128; float32 or float64 is needed"):
        Gaussian(dtype=torch.complex128)
    with pytest.raises(ValueError, match="hbar is 0; a positive number is needed"):
        Gaussian(hbar=0)
    with pytest.raises(ValueError, match="program is a str; a Program is needed"):
        Gaussian().run("Squeezing", torch.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(3, 3\)"):
        GaussianState(torch.zeros(3), torch.eye(3))
    with pytest.raises(ValueError, match="means and covariance are torch.float32 and torch.float64; one floating"):
        GaussianState(torch.zeros(2), torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="hbar is -1; a positive number is needed"):
        GaussianState(torch.zeros(2), torch.eye(2), hbar=-1)
