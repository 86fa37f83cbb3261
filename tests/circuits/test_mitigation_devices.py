"""Mitigation on simulated devices: what a transpiler does to layouts and folded gates."""

from __future__ import annotations

import pytest
import torch

from circuits import Circuit, Gate, ansatz
from circuits.backends import DensityMatrix, Qiskit, Sampled, Statevector, Trajectories, make_backend
from circuits.interop import from_qiskit, to_qiskit
from circuits.mitigation import PauliTwirling, ReadoutMitigation, ZeroNoiseExtrapolation, fold
from circuits.noise import NoiseModel

CIRCUIT = ansatz.hardware_efficient(4, 2)
ANGLES = torch.rand(CIRCUIT.n_angles, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
OBSERVABLES = ["ZIII", "IZZI", "XIIX"]


@pytest.mark.parametrize("level", [1, 3])
def test_a_device_is_calibrated_where_the_circuit_runs(level, rng):
    backend = Qiskit("fake_manila", shots=1000, optimization_level=level, seed=1)
    qubits = backend.physical_wires(CIRCUIT)
    flips = Circuit(4, [Gate("X", wire) for wire in range(4)])
    if level == 3:
        assert backend.physical_wires(flips) != qubits  # the transpiler would calibrate other qubits
    shots = 30_000
    found = ReadoutMitigation(backend, shots=shots, generator=rng).confusion(CIRCUIT)
    assert backend.physical_wires(Circuit(4)) == qubits  # one of the calibration circuits, now placed
    device = NoiseModel.from_config("fake_manila").readout
    for matrix, qubit in zip(found, qubits, strict=True):
        wrong = [device[qubit].p01, device[qubit].p10]
        # the X gate that prepares 1 errs as well, with a probability below 0.001
        assert [matrix[1, 0], matrix[0, 1]] == pytest.approx(wrong, abs=5 * (0.06 / shots) ** 0.5 + 0.001)


def test_placing_is_checked():
    backend = Qiskit("fake_manila")
    with pytest.raises(ValueError, match="different ones of 0 to 4"):
        backend.place(Circuit(2), (0, 9))
    assert Qiskit("aer").physical_wires(CIRCUIT) == (0, 1, 2, 3)


@pytest.mark.parametrize("folding", ["global", "gates"])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_no_transpiler_cancels_folded_gates(folding, level):
    backend = Qiskit("fake_manila", optimization_level=level, seed=1)
    counts = [backend.transpiled(fold(CIRCUIT, scale, folding)).count_ops()["cx"] for scale in (1, 3)]
    assert counts[1] == 3 * counts[0]


@pytest.mark.parametrize("level", [1, 3])
def test_twirled_and_folded_circuits_stay_on_their_qubits(level, rng):
    backend = Qiskit("fake_manila", shots=64, optimization_level=level, seed=0)
    home = backend.physical_wires(CIRCUIT)
    seen = []

    class Watched(Sampled):
        physical_wires, place, transpiled = backend.physical_wires, backend.place, backend.transpiled

        def sample_circuits(self, circuits, angles, shots, generator):
            seen.extend(backend.physical_wires(circuit) for circuit in circuits)
            return super().sample_circuits(circuits, angles, shots, generator)

    device = Watched(Statevector(), 64, rng)
    PauliTwirling(device, twirls=8, generator=rng).probs(CIRCUIT, ANGLES)
    ZeroNoiseExtrapolation(device, scales=(1, 3)).expval(CIRCUIT, ANGLES, ["ZZII", "XXII"])
    ZeroNoiseExtrapolation(PauliTwirling(device, twirls=2, generator=rng), scales=(1, 3)).probs(CIRCUIT, ANGLES)
    assert len(seen) == 8 + 2 * 2 + 2 * 2
    assert set(seen) == {home}


def test_noise_models_of_devices_keep_folded_gates():
    noise = NoiseModel.from_config("fake_manila")
    counts = [noise.prepare(fold(CIRCUIT, scale)).circuit.counts for scale in (1, 3, 5)]
    assert [count["CNOT"] for count in counts] == [counts[0]["CNOT"] * scale for scale in (1, 3, 5)]


@pytest.mark.parametrize("name", ["fake_manila", "fake_torino"])
def test_noise_models_of_devices_keep_twirled_and_folded_circuits_in_place(name, rng):
    noise = NoiseModel.from_config(name)

    def qubits(circuit):
        prepared = noise.prepare(circuit)
        return tuple(prepared.physical[wire] for wire in prepared.measured)

    twirling = PauliTwirling(Statevector(), generator=rng)
    for n_wires, topology in ((4, "ring"), (3, "ring"), (5, "linear")):
        circuit = ansatz.hardware_efficient(n_wires, 2, topology=topology)
        others = [*(twirling.twirl(circuit) for _ in range(5)), fold(circuit, 3), fold(circuit, 3, "gates")]
        assert {qubits(other) for other in others} == {qubits(circuit)}


def test_barriers_stand_between_inverses_only():
    circuit = Circuit(2, [Gate("H", 0), Gate("RX", 0, [0]), Gate("RX", 0, [0]).inverse(), Gate("H", 1), Gate("H", 0)])
    written = to_qiskit(circuit, barriers=True)
    assert [instruction.operation.name for instruction in written.data] == ["h", "rx", "barrier", "rx", "h", "h"]
    assert from_qiskit(written) == circuit
    assert "barrier" not in to_qiskit(circuit).count_ops()


@pytest.mark.parametrize("kind", ["density_matrix", "qiskit"])
def test_mitigation_brings_a_device_nearer_to_the_truth(kind, rng):
    device = Qiskit("fake_manila", shots=20_000, seed=5) if kind == "qiskit" else DensityMatrix("fake_manila")
    exact = Statevector().expval(CIRCUIT, ANGLES, OBSERVABLES)
    readout = ReadoutMitigation(device, shots=20_000, generator=rng)
    both = ZeroNoiseExtrapolation(readout, scales=(1, 2, 3), fit="exponential")
    off = [float((b.expval(CIRCUIT, ANGLES, OBSERVABLES) - exact).abs().max()) for b in (device, readout, both)]
    assert off[1] < 0.8 * off[0]
    assert off[2] < 0.5 * off[0]
    found = both.probs(CIRCUIT, ANGLES)
    truth = Statevector().probs(CIRCUIT, ANGLES)
    assert float((found - truth).abs().sum()) < 0.5 * float((device.probs(CIRCUIT, ANGLES) - truth).abs().sum())


def test_depolarising_noise_is_exponential_in_the_gates():
    # two-qubit depolarising noise after every gate, folded gate by gate, on one pair of wires
    noise = {"depolarizing": {"two_qubit": 0.03}}
    circuit = Circuit(2, [Gate("CNOT", [0, 1]), Gate("RXX", [0, 1], [0]), Gate("CZ", [0, 1]), Gate("RYY", [0, 1], [1])])
    angles = torch.tensor([0.7, 1.1], dtype=torch.float64)
    for scales in ((1, 2.5), (1, 3, 5)):
        backend = ZeroNoiseExtrapolation(DensityMatrix(noise), scales=scales, fit="exponential")
        torch.testing.assert_close(
            backend.probs(circuit, angles), Statevector().probs(circuit, angles), rtol=0, atol=1e-6
        )
        torch.testing.assert_close(
            backend.expval(circuit, angles, ["ZZ", "ZI", "XX"]),
            Statevector().expval(circuit, angles, ["ZZ", "ZI", "XX"]),
            rtol=0,
            atol=1e-6,
        )


def test_twirling_a_coherent_over_rotation():
    noise = {"over_rotation": {"radians": 0.08}}
    circuit = ansatz.hardware_efficient(2, 1)
    angles = torch.ones(circuit.n_angles, dtype=torch.float64)
    backend = PauliTwirling(DensityMatrix(noise), twirls=4, generator=torch.Generator().manual_seed(0))
    assert backend.capabilities.noisy
    assert backend.probs(circuit, angles).sum() == pytest.approx(1)


def test_trajectories_tell_their_errors(rng):
    noise = {"depolarizing": {"two_qubit": 0.02}, "readout": {"p01": 0.02, "p10": 0.04}}
    inner = Trajectories(noise, 400, rng)
    extrapolated = ZeroNoiseExtrapolation(inner, scales=(1, 2, 3))
    value, deviation = extrapolated.expval_with_error(CIRCUIT, ANGLES, OBSERVABLES)
    exact = ZeroNoiseExtrapolation(DensityMatrix(noise), scales=(1, 2, 3)).expval(CIRCUIT, ANGLES, OBSERVABLES)
    assert float(deviation.min()) > 0
    assert bool(((value - exact).abs() < 5 * deviation).all())
    readout = ReadoutMitigation(Sampled(DensityMatrix(noise), 20_000, rng), shots=100_000, generator=rng)
    value, deviation = readout.expval_with_error(CIRCUIT, ANGLES, OBSERVABLES)
    quiet = DensityMatrix({"depolarizing": {"two_qubit": 0.02}}).expval(CIRCUIT, ANGLES, OBSERVABLES)
    assert bool(((value - quiet).abs() < 5 * deviation + 0.005).all())


def test_one_line_of_configuration(rng):
    backend = make_backend(
        "density_matrix",
        noise={"depolarizing": {"two_qubit": 0.01}, "readout": {"p01": 0.02, "p10": 0.03}},
        shots=500,
        mitigation=["zne", {"twirling": {"twirls": 4}}, {"readout": {"shots": 1000, "method": "marginal"}}],
        gradient={"spsa": {"repeats": 2}},
        seed=1,
    )
    angles = ANGLES.clone().requires_grad_()
    backend.probs(CIRCUIT, angles).square().sum().backward()
    assert bool(angles.grad.isfinite().all())
    assert "Pauli twirled, readout mitigated, zero-noise extrapolated" in backend.name
