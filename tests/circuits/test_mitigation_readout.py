from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch

from circuits import Circuit, Gate, ansatz
from circuits.backends import (
    Backend,
    Capabilities,
    DensityMatrix,
    ParameterShift,
    Sampled,
    SamplingBackend,
    Statevector,
)
from circuits.mitigation import PauliTwirling, ReadoutMitigation, ZeroNoiseExtrapolation
from circuits.noise import NoiseModel
from noisy_backends import Misread

CONFUSION = torch.tensor(
    [[[0.97, 0.06], [0.03, 0.94]], [[0.99, 0.10], [0.01, 0.90]], [[0.95, 0.02], [0.05, 0.98]]], dtype=torch.float64
)
CIRCUIT = ansatz.hardware_efficient(3, 2)
ANGLES = torch.rand((2, CIRCUIT.n_angles), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
OBSERVABLES = ["ZII", "X0 Y2", "ZZZ", "III"]


def _exact():
    return Statevector().probs(CIRCUIT, ANGLES), Statevector().expval(CIRCUIT, ANGLES, OBSERVABLES)


def test_an_exact_backend_is_corrected_exactly():
    backend = ReadoutMitigation(Misread(CONFUSION))
    probs, expval = _exact()
    torch.testing.assert_close(backend.confusion(CIRCUIT), CONFUSION, rtol=0, atol=1e-12)
    torch.testing.assert_close(backend.probs(CIRCUIT, ANGLES), probs, rtol=0, atol=1e-12)
    torch.testing.assert_close(backend.expval(CIRCUIT, ANGLES, OBSERVABLES), expval, rtol=0, atol=1e-12)
    assert float((Misread(CONFUSION).probs(CIRCUIT, ANGLES) - probs).abs().max()) > 0.01
    assert float(backend.expval_with_error(CIRCUIT, ANGLES, OBSERVABLES).deviation.max()) == 0
    assert float(backend.probs_with_error(CIRCUIT, ANGLES).deviation.max()) == 0


def test_gradients_pass_through_it():
    leaf = ANGLES.clone().requires_grad_()
    weights = torch.linspace(-1, 1, 8, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((backend.probs(CIRCUIT, leaf) * weights).sum(), leaf)[0]
        for backend in (ReadoutMitigation(Misread(CONFUSION)), Statevector())
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["balanced", "marginal"])
def test_calibration_finds_the_confusion(method, rng):
    shots = 40_000
    backend = ReadoutMitigation(Sampled(Misread(CONFUSION), 100), shots=shots, method=method, generator=rng)
    found = backend.confusion(CIRCUIT)
    deviation = (CONFUSION * (1 - CONFUSION) / shots).sqrt()
    assert bool(((found - CONFUSION).abs() < 5 * deviation).all())
    assert backend.confusion(CIRCUIT) is found
    again = backend.calibrate(CIRCUIT)
    assert not torch.equal(again, found)
    assert backend.confusion(CIRCUIT) is again


def test_counts_are_corrected(rng):
    shots, rows = 2000, 200
    backend = ReadoutMitigation(Sampled(Misread(CONFUSION), shots, rng), shots=1_000_000, generator=rng)
    angles = ANGLES[:1].expand(rows, -1)
    probs, expval = (exact[0] for exact in _exact())
    found = backend.probs_with_error(CIRCUIT, angles)
    torch.testing.assert_close(found.value.sum(-1), torch.ones(rows, dtype=torch.float64))
    spread = found.value.std(0)
    # with every outcome seen, mthree's correction is the inverse: unbiased, and its variance has a closed form
    assert bool(((found.value.mean(0) - probs).abs() < 5 * spread / rows**0.5 + 1e-3).all())
    torch.testing.assert_close(found.deviation.mean(0), spread, rtol=0.3, atol=0)
    values = backend.expval_with_error(CIRCUIT, angles, OBSERVABLES)
    spread = values.value.std(0)
    assert bool(((values.value.mean(0) - expval).abs() < 5 * spread / rows**0.5 + 3e-3).all())
    torch.testing.assert_close(values.deviation.mean(0), spread, rtol=0.3, atol=1e-12)
    assert float(values.deviation[:, 3].max()) == 0


def test_corrected_counts_are_those_of_the_inverse(rng):
    shots = 5000
    backend = ReadoutMitigation(Sampled(Misread(CONFUSION), shots), shots=1000, generator=rng)
    backend.confusion(CIRCUIT)
    state = rng.get_state()
    quasi = backend.quasi_probs(CIRCUIT, ANGLES[0])
    rng.set_state(state)
    bits = Misread(CONFUSION).sample(CIRCUIT, ANGLES[0], shots, rng).to(torch.int64)
    counts = torch.bincount(bits @ torch.tensor([4, 2, 1]), minlength=8).to(torch.float64)
    a, b, c = backend.confusion(CIRCUIT)
    expected = torch.linalg.solve(torch.kron(torch.kron(a, b), c), counts / shots)
    torch.testing.assert_close(quasi, expected, rtol=0, atol=1e-6)


def test_probabilities_are_the_nearest_to_quasi_probabilities(rng):
    ghz = Circuit(3, [Gate("H", 0), Gate("CNOT", [0, 1]), Gate("CNOT", [1, 2])])
    backend = ReadoutMitigation(Sampled(Misread(CONFUSION), 500, rng), generator=rng)
    angles = torch.zeros((10, 0))
    assert float(backend.quasi_probs(ghz, angles).min()) < 0
    found = backend.probs(ghz, angles)
    assert float(found.min()) == 0
    torch.testing.assert_close(found.sum(-1), torch.ones(10, dtype=torch.float64))
    expected = torch.tensor([0.5, *[0.0] * 6, 0.5], dtype=torch.float64)
    raw = Sampled(Misread(CONFUSION), 500, rng).probs(ghz, angles)
    assert float((found - expected).abs().sum(-1).mean()) < 0.5 * float((raw - expected).abs().sum(-1).mean())


def test_only_near_strings_are_corrected_with_a_distance(rng):
    wide = [ReadoutMitigation(Sampled(Misread(CONFUSION), 3000), distance=d, generator=rng) for d in (1, 3)]
    near, far = (b.probs(CIRCUIT, ANGLES[0]) for b in wide)
    torch.testing.assert_close(near, far, rtol=0, atol=0.05)
    assert not torch.equal(near, far)


def test_samples_come_from_the_corrected_distribution(rng):
    backend = ReadoutMitigation(Sampled(Misread(CONFUSION), 10), shots=100_000, generator=rng)
    bits = backend.sample(CIRCUIT, ANGLES, 40_000, torch.Generator().manual_seed(1))
    assert bits.shape == (2, 40_000, 3)
    assert bits.dtype == torch.uint8
    signs = (1 - 2.0 * bits[..., 0]).mean(-1)
    torch.testing.assert_close(signs, _exact()[1][:, 0].float(), rtol=0, atol=0.03)
    again = backend.sample(CIRCUIT, ANGLES, 40_000, torch.Generator().manual_seed(1))
    assert torch.equal(bits, again)
    exact = ReadoutMitigation(Misread(CONFUSION)).sample(CIRCUIT, ANGLES, 5, torch.Generator().manual_seed(2))
    assert exact.shape == (2, 5, 3)


def test_the_overhead_is_that_of_mthree(rng):
    mthree = pytest.importorskip("mthree")
    backend = ReadoutMitigation(Misread(CONFUSION))
    corrector = mthree.M3Mitigation()
    corrector.cals_from_matrices(list(CONFUSION.numpy()))
    counts = {f"{state:03b}": 100 for state in range(8)}
    quasi = corrector.apply_correction(counts, [2, 1, 0], distance=3, return_mitigation_overhead=True)
    assert backend.overhead(CIRCUIT) == pytest.approx(quasi.mitigation_overhead, rel=1e-5)


class Device(Sampled):
    """Five qubits with a readout of their own; long circuits start at qubit 2, others at 0 unless they are placed."""

    def __init__(self, shots, generator, places=True):
        super().__init__(Statevector(), shots, generator)
        self.qubits = torch.stack([torch.tensor([[1 - p, p], [p, 1 - p]]) for p in (0.01, 0.03, 0.05, 0.07, 0.09)])
        self.jobs = []
        self.placed = {}
        if places:
            self.place = self.placed.__setitem__

    def physical_wires(self, circuit):
        start = 2 if len(circuit) > 10 else 0
        return self.placed.get(circuit, tuple(range(start, start + circuit.n_wires)))

    def sample_circuits(self, circuits, angles, shots, generator):
        self.jobs.append((len(circuits), shots))
        return [
            Misread(self.qubits[list(self.physical_wires(c))]).sample(c, angles, shots, generator) for c in circuits
        ]


def test_each_layout_has_its_own_calibration(rng):
    device = Device(4000, rng)
    backend = ReadoutMitigation(device, shots=100_000, generator=rng)
    short = Circuit(3, [Gate("H", 0)])
    found = {circuit: backend.confusion(circuit) for circuit in (CIRCUIT, short)}
    torch.testing.assert_close(found[CIRCUIT], device.qubits[2:].double(), rtol=0, atol=0.005)
    torch.testing.assert_close(found[short], device.qubits[:3].double(), rtol=0, atol=0.005)
    assert len(device.jobs) == 2
    assert backend.confusion(CIRCUIT + Circuit(3)) is found[CIRCUIT]
    values = backend.expval_with_error(CIRCUIT, ANGLES, OBSERVABLES)
    assert bool(((values.value - _exact()[1]).abs() < 5 * values.deviation + 0.01).all())


def test_a_layout_that_cannot_be_calibrated_is_refused(rng):
    with pytest.raises(ValueError, match=r"runs on qubits \[2, 3, 4\], its calibration on \[0, 1, 2\]"):
        ReadoutMitigation(Device(100, rng, places=False)).confusion(CIRCUIT)


@pytest.mark.parametrize("shots", [None, 3000])
def test_a_noise_model_tells_its_readout(shots, rng):
    pytest.importorskip("qiskit_ibm_runtime")
    noise = NoiseModel.from_config("fake_manila")
    assert len({error.p01 for error in noise.readout}) > 1
    inner = DensityMatrix(noise)
    backend = ReadoutMitigation(inner if shots is None else Sampled(inner, shots, rng), shots=50_000, generator=rng)
    expected = DensityMatrix(replace(noise, readout=())).probs(CIRCUIT, ANGLES)
    if shots is None:
        torch.testing.assert_close(backend.quasi_probs(CIRCUIT, ANGLES), expected, rtol=0, atol=1e-10)
        return
    value, deviation = backend.probs_with_error(CIRCUIT, ANGLES)
    assert bool(((value - expected).abs() < 5 * deviation + 0.005).all())
    exact = ReadoutMitigation(inner).confusion(CIRCUIT)
    off = (backend.confusion(CIRCUIT) - exact).abs()
    assert 0 < float(off.max()) < 5 * float((exact * (1 - exact) / 50_000).sqrt().max())


def test_calibration_and_observables_are_one_job_each(rng):
    device = Device(50, rng)
    backend = ReadoutMitigation(device, shots=1000, generator=rng)
    short = Circuit(3, [Gate("RY", 0, [0])])
    backend.expval(short, torch.zeros((5, 1)), ["XII", "YII", "ZZZ"])
    assert device.jobs == [(3, 50), (4, 500)]


def test_it_composes(rng):
    inner = PauliTwirling(Sampled(Misread(CONFUSION), 4000, rng), twirls=8, generator=rng)
    readout = ReadoutMitigation(inner, shots=50_000, generator=rng)
    zne = ZeroNoiseExtrapolation(readout, scales=(1, 2, 3))
    expected = _exact()[1]
    for backend in (readout, zne):
        found = backend.expval_with_error(CIRCUIT, ANGLES, OBSERVABLES)
        assert bool(((found.value - expected).abs() < 6 * found.deviation + 0.01).all())
        assert float(found.deviation.max()) < 0.3
        assert float(backend.probs_with_error(CIRCUIT, ANGLES).deviation.min()) > 0
    assert zne.name == "misread, 4000 shots, Pauli twirled, readout mitigated, zero-noise extrapolated"
    assert isinstance(zne, Backend)


def test_the_parameter_shift_rule_is_exact_for_mitigated_probabilities():
    # a plain shift of the nearest probabilities would be wrong where they are cut off at zero
    circuit = Circuit(2, [Gate("RY", 0, [0]), Gate("CNOT", [0, 1])])
    wrong = [[[0.9, 0.1], [0.1, 0.9]], [[0.93, 0.05], [0.07, 0.95]]]

    class Overcorrected(ReadoutMitigation):
        def calibrate(self, circuit):
            self._confusion[(0, 1)] = torch.tensor(wrong, dtype=torch.float64)
            return self._confusion[(0, 1)]

    backend = Overcorrected(Statevector())
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    angles = torch.tensor([[0.3], [1.2]], dtype=torch.float64, requires_grad=True)
    found, expected = (
        torch.autograd.grad((b.probs(circuit, angles) * weights).sum(), angles)[0]
        for b in (ParameterShift(backend), backend)
    )
    assert float(backend.quasi_probs(circuit, angles.detach()).min()) < 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_capabilities_tell_the_truth():
    exact, sampled = ReadoutMitigation(Misread(CONFUSION)), ReadoutMitigation(Sampled(Misread(CONFUSION), 10))
    assert exact.capabilities == Capabilities(differentiable=True, exact=True, noisy=True, batched=True)
    assert sampled.capabilities == Capabilities(differentiable=False, exact=False, noisy=True, batched=True)
    assert not isinstance(sampled, SamplingBackend)
    assert not hasattr(sampled, "shots")


def test_a_random_backend_without_shots_has_no_known_deviation(rng):
    backend = ReadoutMitigation(PauliTwirling(Misread(CONFUSION), twirls=2, generator=rng))
    found = backend.expval_with_error(CIRCUIT, ANGLES, OBSERVABLES)
    torch.testing.assert_close(found.value, _exact()[1], rtol=0, atol=1e-10)
    assert bool(found.deviation.isnan().all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0}, "shots is 0"),
        ({"method": "full"}, "method is 'full'; 'balanced' or 'marginal' is needed"),
        ({"distance": 0}, "distance is 0"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ReadoutMitigation(Statevector(), **options)


def test_what_is_mitigated_already_is_refused():
    with pytest.raises(ValueError, match="mitigate readout first"):
        ReadoutMitigation(ZeroNoiseExtrapolation(Statevector()))


def test_a_readout_that_tells_nothing_is_refused():
    blind = Misread([[[0.5, 0.5], [0.5, 0.5]]])
    with pytest.raises(ValueError, match="wire 0: readout does not tell 0 from 1"):
        ReadoutMitigation(blind).probs(Circuit(1, [Gate("H", 0)]), torch.zeros(0))


def test_bad_input_is_the_inner_backends_message(rng):
    for backend in (ReadoutMitigation(Statevector()), ReadoutMitigation(Sampled(Statevector(), 5, rng))):
        with pytest.raises(ValueError, match="angles have shape"):
            backend.probs(CIRCUIT, torch.zeros(2))
        with pytest.raises(ValueError, match="is out of range"):
            backend.expval(CIRCUIT, ANGLES, ["Z7"])
        with pytest.raises(ValueError, match="shots is 0"):
            backend.sample(CIRCUIT, ANGLES, 0)


def test_without_mthree_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mthree" else find(name, *rest)
    )
    with pytest.raises(ImportError, match=r"pip install 'qgen-hep\[mitigation\]'"):
        ReadoutMitigation(Sampled(Statevector(), 10))
    assert ReadoutMitigation(Statevector()).probs(Circuit(1), torch.zeros(0)).tolist() == [1, 0]
