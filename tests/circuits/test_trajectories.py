from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate, ansatz
from circuits.backends import Backend, DensityMatrix, ParameterShift, Statevector, Trajectories

ANGLES = torch.tensor([0.3, -1.1, 2.2, 0.7], dtype=torch.float64)
NOISE = {
    "depolarizing": {"one_qubit": 0.03, "two_qubit": 0.06},
    "amplitude_damping": 0.05,
    "phase_damping": {"two_qubit": 0.08},
    "thermal_relaxation": {"t1": 5e-5, "t2": 7e-5, "one_qubit_time": 4e-6, "two_qubit_time": 5e-6},
    "over_rotation": {"radians": 0.03, "relative": 0.02},
    "readout": {"p01": 0.02, "p10": 0.06},
}


def seeded(noise, n_trajectories, seed=0, **options):
    return Trajectories(noise, n_trajectories, torch.Generator().manual_seed(seed), **options)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_converges_to_the_density_matrix(circuits, data):
    circuit = data.draw(circuits(max_wires=4, max_gates=15))
    exact = DensityMatrix(NOISE).probs(circuit, ANGLES)
    mean, error = seeded(NOISE, 2000).probs_with_error(circuit, ANGLES)
    assert float(mean.sum()) == pytest.approx(1)
    assert bool(((mean - exact).abs() <= 5.5 * error + 2e-3).all())
    strings = ["X" * circuit.n_wires, "Y0", "Z" * circuit.n_wires]
    mean, error = seeded(NOISE, 2000).expval_with_error(circuit, ANGLES, strings)
    exact = DensityMatrix(NOISE).expval(circuit, ANGLES, strings)
    assert bool(((mean - exact).abs() <= 5.5 * error + 2e-3).all())


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_without_noise_one_trajectory_is_exact(circuits, data):
    circuit = data.draw(circuits(max_wires=4))
    angles = torch.stack([ANGLES, 0.5 * ANGLES])
    backend = Trajectories(None, 1)
    assert not backend.capabilities.noisy
    torch.testing.assert_close(backend.probs(circuit, angles), Statevector().probs(circuit, angles))
    strings = ["X0", "Y" * circuit.n_wires, "Z0", "I" * circuit.n_wires]
    torch.testing.assert_close(backend.expval(circuit, angles, strings), Statevector().expval(circuit, angles, strings))


def test_the_standard_error_is_what_it_says(rng):
    circuit = ansatz.hardware_efficient(3, 2)
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64) * 6
    exact = DensityMatrix(NOISE).probs(circuit, angles)
    pulls = []
    for seed in range(40):
        mean, error = seeded(NOISE, 500, seed).probs_with_error(circuit, angles)
        pulls.append((mean - exact) / error)
    spread = torch.stack(pulls)
    assert 0.85 < float(spread.square().mean().sqrt()) < 1.15
    assert float(spread.mean(0).abs().max()) < 4.5 / math.sqrt(40)


def test_on_a_device(rng):
    circuit = ansatz.hardware_efficient(3, 1)
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64) * 6
    exact = DensityMatrix("fake_torino").probs(circuit, angles)
    mean, error = seeded("fake_torino", 3000).probs_with_error(circuit, angles)
    assert bool(((mean - exact).abs() < 5 * error + 1e-4).all())


def test_decay_of_an_excited_state():
    circuit = Circuit(2, [Gate("X", 0), Gate("H", 1), Gate("CZ", [0, 1]), Gate("CZ", [0, 1])])
    mean, error = seeded({"gates": {"CZ": {"amplitude_damping": 0.2}}}, 4000).expval_with_error(
        circuit, torch.zeros(0), ["Z0", "X1"]
    )
    # wire 1 keeps its coherence only if wire 0 did not decay between the two gates, or else its sign is turned
    expected = torch.tensor([1 - 2 * 0.64, 0.8 * (0.8 - 0.2)], dtype=torch.float64)
    assert bool(((mean - expected).abs() < 4 * error).all())


def test_reproducible_shapes_and_precision(rng):
    circuit = ansatz.hardware_efficient(3, 1)
    angles = torch.rand((2, 3, circuit.n_angles), generator=rng, dtype=torch.float64)
    backend = seeded(NOISE, 50)
    assert isinstance(backend, Backend)
    first = backend.probs(circuit, angles)
    assert first.shape == (2, 3, 8)
    assert first.dtype == torch.float64
    assert not torch.equal(first, backend.probs(circuit, angles))
    assert torch.equal(first, seeded(NOISE, 50).probs(circuit, angles))
    assert backend.expval(circuit, angles, ["Z0", "X1"]).shape == (2, 3, 2)
    assert backend.probs(circuit, angles[:0]).shape == (0, 3, 8)
    assert backend.expval(circuit, angles[:0], ["Z0"]).shape == (0, 3, 1)
    single = seeded(NOISE, 50, dtype=torch.complex64).probs(circuit, angles)
    torch.testing.assert_close(single, first, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_trajectories", [300, 100_000])
def test_samples(rng, n_trajectories):
    circuit = ansatz.hardware_efficient(2, 2)
    angles = torch.rand((1, circuit.n_angles), generator=rng, dtype=torch.float64)
    backend = Trajectories(NOISE, n_trajectories)
    bits = backend.sample(circuit, angles, 20_001, rng)
    assert bits.shape == (1, 20_001, 2)
    assert bits.dtype == torch.uint8
    counts = torch.bincount(2 * bits[0, :, 0].long() + bits[0, :, 1], minlength=4) / 20_001
    bound = 5 * 0.5 / math.sqrt(min(20_001, n_trajectories))
    assert float((counts - DensityMatrix(NOISE).probs(circuit, angles)[0]).abs().max()) < bound
    again = [backend.sample(circuit, angles, 7, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*again)


def test_more_wires_than_a_density_matrix_holds(rng):
    circuit = ansatz.hardware_efficient(14, 1)
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64)
    noise = {"amplitude_damping": 0.01, "depolarizing": 0.01}
    mean, error = seeded(noise, 40).expval_with_error(circuit, angles, ["Z0", "Z13"])
    near = Circuit(2, [gate for gate in circuit.gates if set(gate.wires) <= {0, 1}], circuit.n_angles)
    exact = DensityMatrix(noise).expval(near, angles, ["Z0"])
    assert bool((error < 0.2).all())
    assert abs(float(mean[0] - exact)) < 5 * float(error[0])


def test_parameter_shift_gives_its_gradient():
    circuit = Circuit(1, [Gate("RY", 0, [0])])
    angles = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    ParameterShift(seeded({"depolarizing": 0.1}, 4000)).expval(circuit, angles, ["Z"]).backward()
    assert float(angles.grad) == pytest.approx(-0.9 * math.sin(0.7), abs=0.03)


def test_faults():
    circuit = Circuit(2, [Gate("RY", 0, [0])])
    angles = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(ValueError, match="n_trajectories is 0; an integer of at least 1 is needed"):
        Trajectories(n_trajectories=0)
    with pytest.raises(ValueError, match="dtype is torch.float64"):
        Trajectories(dtype=torch.float64)
    with pytest.raises(ValueError, match="device 'gpu' is unknown; cpu, cuda or cuda:N is needed"):
        Trajectories(device="gpu")
    with pytest.raises(ValueError, match="trajectories of 2 qubits: needs about"):
        Trajectories(memory_limit=10).probs(circuit, angles)
    with pytest.raises(ValueError, match="shots is 0"):
        Trajectories().sample(circuit, angles, 0)
    with pytest.raises(ValueError, match="angles are not finite"):
        Trajectories().probs(circuit, torch.tensor([math.nan]))
    with pytest.raises(ValueError, match="31 qubits: a trajectory has at most 30"):
        Trajectories().probs(Circuit(31, [Gate("RY", 30, [0])]), angles)


def test_one_trajectory_does_not_tell_its_error():
    circuit = Circuit(1, [Gate("H", 0)])
    noise = {"amplitude_damping": 0.3}
    value, error = Trajectories(noise, 1, torch.Generator().manual_seed(0)).probs_with_error(circuit, torch.zeros(0))
    assert float(value.sum()) == pytest.approx(1)
    assert bool(error.isnan().all())
    _, error = Trajectories(noise, 2, torch.Generator().manual_seed(0)).probs_with_error(circuit, torch.zeros(0))
    assert bool(error.isfinite().all())
