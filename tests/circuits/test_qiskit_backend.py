"""The Qiskit backend: what it measures, the jobs it makes, and what becomes of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import qiskit_aer.noise
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.primitives import BackendSamplerV2, StatevectorSampler
from qiskit.providers.basic_provider import BasicSimulator
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import CouplingMap
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from circuits import Circuit, Gate, ansatz
from circuits.backends import Backend, DensityMatrix, Statevector
from circuits.backends.jobs import JobError
from circuits.backends.qiskit import Qiskit
from circuits.noise import NoiseModel

ANGLES = torch.tensor([0.4, -1.3, 2.2, 0.9], dtype=torch.float64)
STRINGS = ["XYZ", "ZZI", "IIX", "III", "Z1"]


def ansatz_with_angles(n_wires=3, batch=(4, 2)):
    circuit = ansatz.hardware_efficient(n_wires=n_wires, n_layers=2)
    generator = torch.Generator().manual_seed(3)
    return circuit, 3 * torch.rand(*batch, circuit.n_angles, generator=generator, dtype=torch.float64)


def close(found, expected, shots):
    return bool(
        ((found - expected).abs() < 5 * (expected * (1 - expected)).clamp(0).div(shots).sqrt() + 6 / shots).all()
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Qiskit(shots=4000, seed=1),
        lambda: Qiskit("aer_statevector", 4000, seed=1, optimization_level=3),
        lambda: Qiskit("aer_density_matrix", 4000, seed=1, optimization_level=0),
        lambda: Qiskit("aer", 4000, seed=1, options={"method": "matrix_product_state"}),
        lambda: Qiskit("aer", 4000, seed=1, max_circuits=3),
        lambda: Qiskit(AerSimulator(), 4000, seed=1),
        lambda: Qiskit(BasicSimulator(), 4000, seed=1),
        lambda: Qiskit(sampler=StatevectorSampler(seed=1), shots=4000),
        lambda: Qiskit(sampler=SamplerV2(seed=1), shots=4000),
        lambda: Qiskit(sampler=BackendSamplerV2(backend=AerSimulator(), options={"seed_simulator": 3}), shots=4000),
    ],
)
def test_any_sampler_agrees_with_the_state_vector(make):
    circuit, angles = ansatz_with_angles()
    backend, exact = make(), Statevector()
    assert isinstance(backend, Backend)
    assert not backend.capabilities.noisy
    assert close(backend.probs(circuit, angles), exact.probs(circuit, angles), 4000)
    values = backend.expval(circuit, angles, STRINGS)
    assert (values - exact.expval(circuit, angles, STRINGS)).abs().max() < 6 / math.sqrt(4000)
    bits = backend.sample(circuit, angles, 7)
    assert bits.shape == (4, 2, 7, 3)
    assert bits.dtype == torch.uint8


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_random_circuits(circuits, data):
    circuit = data.draw(circuits(max_wires=3))
    angles = torch.stack([ANGLES, ANGLES.flip(0)])
    assert close(Qiskit(shots=3000, seed=2).probs(circuit, angles), Statevector().probs(circuit, angles), 3000)


@pytest.mark.parametrize("device", ["aer", "fake_manila"])
def test_every_gate(device, every_gate):
    angles = torch.linspace(-2, 2, every_gate.n_angles, dtype=torch.float64)
    backend = Qiskit(device, 4000, seed=1)
    expected = Statevector().probs(every_gate, angles)
    if device == "aer":
        assert close(backend.probs(every_gate, angles), expected, 4000)
    else:
        assert backend.capabilities.noisy
        assert (backend.probs(every_gate, angles) - expected).abs().sum() < 1


@pytest.mark.parametrize("name", ["CRX", "CRY", "CRZ", "ControlledPhaseShift"])
@pytest.mark.parametrize("sampler", [None, SamplerV2(seed=2)])
def test_angles_of_controlled_gates_are_bound(name, sampler):
    turns = [Gate("H", 0), Gate("H", 1)]
    circuit = Circuit(2, [*turns, Gate(name, [0, 1], [0]), *turns, Gate("RY", 1, [0.4]), Gate("RX", 0, [1])])
    angles = torch.tensor([[2.9, 0.3], [1.2, -0.5]], dtype=torch.float64)
    expected = Statevector().probs(circuit, angles)
    assert close(Qiskit(None if sampler else "aer", 4000, sampler=sampler).probs(circuit, angles), expected, 4000)


@pytest.mark.parametrize("wire", range(10))
def test_the_first_wire_is_the_most_significant_bit(wire):
    circuit = Circuit(10, [Gate("X", [wire])])
    bits = Qiskit("aer").sample(circuit, torch.zeros(0), 2)
    assert bits.tolist() == [[int(w == wire) for w in range(10)]] * 2
    assert Qiskit("aer", 3).probs(circuit, torch.zeros(0)).argmax() == 1 << (9 - wire)


@pytest.mark.parametrize("sampler", [None, "runtime"])
def test_a_fake_device_keeps_the_order_of_wires_and_has_noise(sampler):
    circuit = Circuit(3, [Gate("X", [0]), Gate("CNOT", [0, 2])])
    backend = Qiskit("fake_manila", 2000, sampler=sampler, seed=1)
    probs = backend.probs(circuit, torch.zeros(0))
    assert probs.argmax() == 0b101
    assert 0.7 < probs.max() < 0.99
    assert backend.capabilities.noisy
    assert not backend.capabilities.remote


def test_the_noise_of_a_fake_device_is_that_of_its_calibration():
    circuit, angles = ansatz_with_angles(batch=(3,))
    backend = Qiskit("fake_manila", 20_000, seed=4, options={"method": "density_matrix"})
    expected = []
    simulator = AerSimulator.from_backend(FakeManilaV2(), method="density_matrix")
    for row in angles:
        bound = backend.transpiled(circuit).copy()
        bound = bound.assign_parameters({p: float(row[p.index]) for p in bound.parameters})
        counts = simulator.run(bound, shots=20_000, seed_simulator=9).result().get_counts()
        expected.append([counts.get(f"{state:03b}", 0) / 20_000 for state in range(8)])
    expected = torch.tensor(expected, dtype=torch.float64)
    assert close(backend.probs(circuit, angles), expected, 10_000)


@pytest.mark.parametrize("mode", ["job", "session", "batch"])
def test_the_runtime_in_its_local_mode(mode):
    circuit, angles = ansatz_with_angles()
    options = {"default_shots": 10, "simulator": {"seed_simulator": 5}}
    backend = Qiskit("fake_manila", 1000, sampler="runtime", mode=mode, options=options)
    values = backend.expval(circuit, angles, ["ZZI", "XII"])
    assert (values - Statevector().expval(circuit, angles, ["ZZI", "XII"])).abs().max() < 0.4
    assert len(backend.jobs) == 1
    assert torch.equal(values, backend.expval(circuit, angles, ["ZZI", "XII"]))
    backend.close()


def test_noise_models():
    flip = Circuit(2, [Gate("X", [0])])
    error = qiskit_aer.noise.NoiseModel()
    error.add_all_qubit_readout_error(qiskit_aer.noise.ReadoutError([[0.75, 0.25], [0, 1]]))
    expected = torch.tensor([0, 0, 0.75, 0.25], dtype=torch.float64)

    class Ours:
        def to_aer(self):
            return error

    for noise in (error, Ours()):
        backend = Qiskit("aer", 4000, noise=noise, seed=1)
        assert backend.capabilities.noisy
        assert close(backend.probs(flip, torch.zeros(0)), expected, 4000)
    assert Qiskit(AerSimulator(noise_model=error)).capabilities.noisy


def test_noise_acts_on_the_gates_as_they_are_written():
    circuit = Circuit(1, [Gate("X", 0), Gate("Y", 0), Gate("RX", 0, [0])])
    noise = NoiseModel.from_config({"depolarizing": 0.1})
    angles = torch.tensor([[0.0], [0.4]], dtype=torch.float64)
    expected = DensityMatrix(noise).probs(circuit, angles)
    assert close(Qiskit("aer", 8000, noise={"depolarizing": 0.1}, seed=1).probs(circuit, angles), expected, 8000)


def test_the_noise_of_a_device_belongs_on_the_device():
    with pytest.raises(ValueError, match="for its gates and qubits; give device 'fake_manila' instead"):
        Qiskit("aer", noise="fake_manila")


# one job, many circuits


def test_a_batch_is_one_job():
    circuit, angles = ansatz_with_angles(batch=(64,))
    backend = Qiskit("aer", 100)
    backend.expval(circuit, angles, ["ZII", "XII", "YII"])
    (job,) = backend.jobs
    assert (job.device, job.status, job.shots, job.n_circuits) == ("aer", "done", 100, 192)


def test_large_batches_are_split():
    circuit, angles = ansatz_with_angles(batch=(5,))
    backend = Qiskit("aer", 2000, max_circuits=3, seed=1)
    probs = backend.probs(circuit, angles)
    assert [job.n_circuits for job in backend.jobs] == [3, 2]
    assert close(probs, Statevector().probs(circuit, angles), 2000)
    backend.expval(circuit, angles, ["ZII", "XII"])
    assert [job.n_circuits for job in backend.jobs][2:] == [3, 3, 3, 1]


def test_circuits_are_transpiled_once(monkeypatch):
    circuit, angles = ansatz_with_angles()
    backend = Qiskit("fake_manila", 10)
    ready = backend.transpiled(circuit)
    assert len(ready.parameters) == circuit.n_angles
    monkeypatch.setattr(backend._placement, "_transpiled", None)
    backend.probs(circuit, angles)
    assert backend.transpiled(circuit) is ready


def test_angles_that_no_gate_uses():
    circuit = Circuit(2, [Gate("RY", [0], [1]), Gate("RZ", [1], [2])], n_angles=4)
    angles = torch.tensor([[9.0, math.pi, 0.3, 9.0], [9.0, 0.0, 0.3, 9.0]])
    assert Qiskit("aer", 20).probs(circuit, angles).argmax(-1).tolist() == [2, 0]


def test_equal_angles_in_a_batch_have_shots_of_their_own():
    for circuit in (
        Circuit(4, [Gate("H", wire) for wire in range(4)]),
        Circuit(4, [Gate("RX", wire, [0]) for wire in range(4)]),
    ):
        angles = torch.full((2, circuit.n_angles), math.pi / 2)
        for device in ("aer", "fake_manila"):
            bits = Qiskit(device).sample(circuit, angles, 100)
            assert 0.3 < (bits[0] == bits[1]).double().mean() < 0.7


@pytest.mark.parametrize(("device", "sampler"), [("aer", None), ("fake_manila", None), ("fake_manila", "runtime")])
def test_shots_are_repeatable(device, sampler):
    circuit, angles = ansatz_with_angles()
    first, second, other = (Qiskit(device, 50, sampler=sampler, seed=s).probs(circuit, angles) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    backend = Qiskit(device, sampler=sampler)
    draws = [backend.sample(circuit, angles, 20, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(backend.sample(circuit, angles, 20), draws[0])


def test_empty_batches():
    circuit, _ = ansatz_with_angles()
    none = torch.zeros(2, 0, circuit.n_angles)
    backend = Qiskit("aer")
    assert backend.probs(circuit, none).shape == (2, 0, 8)
    assert backend.sample(circuit, none, 5).shape == (2, 0, 5, 3)
    assert backend.jobs == []


# mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Qiskit("fake_manilla"), "unknown device 'fake_manilla'; did you mean fake_manila"),
        (lambda: Qiskit("aer", 0), "shots is 0; an integer of at least 1"),
        (lambda: Qiskit("aer", seed=-1), "seed is -1"),
        (lambda: Qiskit("aer", optimization_level=7), "optimization_level is 7; 0, 1, 2 or 3"),
        (lambda: Qiskit("aer", mode="queue"), "mode is 'queue'; known are job, session, batch"),
        (lambda: Qiskit("aer", max_circuits=0), "max_circuits is 0"),
        (lambda: Qiskit("aer", retries=-1), "retries is -1"),
        (lambda: Qiskit("aer", retry_wait=-1.0), "retry_wait is -1.0"),
        (lambda: Qiskit("aer", options={"colour": 1}), "options of Aer are not accepted: .*colour"),
        (lambda: Qiskit("aer", options={"method": "magic"}), "options of Aer are not accepted: .*magic"),
        (lambda: Qiskit("fake_manila", sampler="runtime", options={"colour": 1}), "runtime sampler .*: colour: Extra"),
        (lambda: Qiskit("aer", sampler="best"), "sampler is 'best'; 'runtime' or a SamplerV2"),
        (lambda: Qiskit(sampler=3), "sampler is 3; an object with a method run"),
        (lambda: Qiskit(sampler=StatevectorSampler(), options={"a": 1}), "give them to the sampler itself"),
        (lambda: Qiskit("fake_manila", noise={"depolarizing": 0.1}), "noise is for Aer; fake_manila brings its own"),
        (lambda: Qiskit("aer", noise=0.1), "noise is a float; a NoiseModel, a mapping or a device's name"),
        (
            lambda: Qiskit("fake_manila").probs(Circuit(6), torch.zeros(0)),
            "circuit has 6 wires; fake_manila has 5 qubits",
        ),
        (lambda: Qiskit("aer").sample(Circuit(1), torch.zeros(0), 0), "shots is 0"),
        (lambda: Qiskit("aer").probs(Circuit(1), torch.zeros(1)), r"angles have shape \(1,\)"),
        (
            lambda: Qiskit("aer").probs(Circuit(1, [Gate("RX", 0, [0])]), torch.tensor([math.nan])),
            "angles are not finite",
        ),
    ],
)
def test_mistakes_give_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_coupling_map_that_cannot_host_the_circuit(tmp_path):
    device = GenericBackendV2(4, coupling_map=CouplingMap([[0, 1], [1, 0], [2, 3], [3, 2]]), seed=1)
    ring = Circuit(4, [Gate("CNOT", [w, (w + 1) % 4]) for w in range(4)])
    with pytest.raises(ValueError, match=r"^\w+ cannot host the circuit: [^\n]*$"):
        Qiskit(device).probs(ring, torch.zeros(0))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="jobs_folder .* is not a folder"):
        Qiskit("aer", jobs_folder=tmp_path / "file")


# jobs that fail, are lost and found


class Cloud:
    """A machine elsewhere: jobs have identifiers, and go wrong as a script says.

    Args:
        script: what the jobs do, in the order of their submission: ``done``, ``error``, ``cancelled``, ``refused`` (the
            submission fails) or ``broken`` (the first question for the result fails). ``done`` after its end.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.known: dict[str, CloudJob] = {}
        self.submitted = 0

    def run(self, pubs, *, shots):
        fate = self.script.pop(0) if self.script else "done"
        if fate == "refused":
            raise ConnectionError("no route to host")
        self.submitted += 1
        job = CloudJob(f"job{self.submitted}", fate, SamplerV2(seed=self.submitted).run(pubs, shots=shots))
        self.known[job.job_id()] = job
        return job

    def job(self, identifier):
        if identifier not in self.known:
            raise RuntimeJobNotFound(f"Job not found: {identifier}")
        return self.known[identifier]


class RuntimeJobNotFound(QiskitError):
    pass


class CloudJob:
    def __init__(self, identifier, fate, inner):
        self.identifier, self.fate, self.inner = identifier, fate, inner

    def job_id(self):
        return self.identifier

    def status(self):
        return {"error": "ERROR", "cancelled": "CANCELLED", "broken": "RUNNING"}.get(self.fate, "DONE")

    def result(self):
        if self.fate == "broken":
            self.fate = "done"
            raise ConnectionError("connection reset")
        if self.fate != "done":
            raise QiskitError("the fridge\nis warm")
        return self.inner.result()


CIRCUIT = Circuit(2, [Gate("RY", 0, [0]), Gate("CNOT", [0, 1])])
ROWS = torch.linspace(0, 3, 5, dtype=torch.float64).unsqueeze(-1)


def remote(cloud, folder=None, **options):
    options = {"retries": 1, "retry_wait": 0.0, "max_circuits": 2} | options
    return Qiskit(sampler=cloud, shots=50, service=cloud, jobs_folder=folder, **options)


def test_jobs_are_recorded_as_soon_as_they_are_submitted(tmp_path):
    cloud = Cloud()
    seen = []
    inner = CloudJob.result

    class Watched(CloudJob):
        def result(self):
            seen.append(sorted(json.loads(path.read_text())["status"] for path in tmp_path.glob("*.json")))
            return inner(self)

    run = cloud.run

    def watched_run(pubs, *, shots):
        job = run(pubs, shots=shots)
        job.__class__ = Watched
        return job

    cloud.run = watched_run
    backend = remote(cloud, tmp_path)
    backend.probs(CIRCUIT, ROWS)
    assert seen == [["submitted"] * 3, ["done", "submitted", "submitted"], ["done", "done", "submitted"]]
    assert [(job.id, job.status, job.n_circuits) for job in backend.jobs] == [
        ("job1", "done", 2),
        ("job2", "done", 2),
        ("job3", "done", 1),
    ]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("script", [("error", "done"), ("refused", "done"), ("broken",)])
def test_what_goes_wrong_once_is_tried_again(script):
    cloud = Cloud(*script)
    backend = remote(cloud, max_circuits=None)
    assert backend.probs(CIRCUIT, ROWS).shape == (5, 4)
    assert cloud.submitted == {"error": 2, "refused": 1, "broken": 1}[script[0]]
    assert backend.jobs[-1].status == "done"
    if script[0] == "error":
        assert [(job.status, job.error) for job in backend.jobs] == [("failed", "the fridge is warm"), ("done", "")]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (("error", "error"), "job job2 on Cloud failed after 2 tries: the fridge is warm"),
        (("cancelled",), "job job1 on Cloud cancelled: the fridge is warm"),
        (("refused", "refused"), "a job for Cloud cannot be reached: no route to host"),
    ],
)
def test_what_goes_wrong_for_good_is_one_line(script, message):
    with pytest.raises(JobError) as caught:
        remote(Cloud(*script), max_circuits=None).probs(CIRCUIT, ROWS)
    assert str(caught.value) == message


@pytest.mark.parametrize("folder", [True, False])
def test_a_failure_half_way_loses_nothing(tmp_path, folder):
    cloud = Cloud("done", "error", "done", "error")
    backend = remote(cloud, tmp_path if folder else None)
    with pytest.raises(JobError, match="job job4 on Cloud failed after 2 tries") as caught:
        backend.sample(CIRCUIT, ROWS, 50)
    assert (str(tmp_path) in str(caught.value)) == folder
    assert cloud.submitted == 4
    if folder:  # in another process
        backend = remote(cloud, tmp_path)
    bits = backend.sample(CIRCUIT, ROWS, 50)
    assert cloud.submitted == 5
    assert close(bits[..., 0].double().mean(-1), torch.sin(ROWS[:, 0] / 2) ** 2, 50)
    assert bits[..., 0].equal(bits[..., 1])


def test_a_lost_process_finds_its_jobs_again(tmp_path):
    cloud = Cloud()
    backend = remote(cloud, tmp_path)

    def die(*args):
        raise KeyboardInterrupt

    backend._log._collect = die
    with pytest.raises(KeyboardInterrupt):
        backend.sample(CIRCUIT, ROWS, 50)
    assert cloud.submitted == 3
    assert {job.status for job in remote(cloud, tmp_path).jobs} == {"submitted"}
    resumed = remote(cloud, tmp_path).sample(CIRCUIT, ROWS, 50)
    assert cloud.submitted == 3
    cloud.known.clear()  # the results are here by now
    assert torch.equal(remote(cloud, tmp_path).sample(CIRCUIT, ROWS, 50), resumed)
    assert cloud.submitted == 3


def test_jobs_that_the_service_forgot_are_submitted_again(tmp_path):
    cloud = Cloud()
    backend = remote(cloud, tmp_path)
    backend._log._collect = lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        backend.sample(CIRCUIT, ROWS, 50)
    cloud.known.clear()
    remote(cloud, tmp_path).sample(CIRCUIT, ROWS, 50)
    assert cloud.submitted == 6


def test_an_unreachable_service_is_no_reason_to_submit_twice(tmp_path):
    cloud = Cloud()
    backend = remote(cloud, tmp_path, max_circuits=None)
    backend._log._collect = lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        backend.sample(CIRCUIT, ROWS, 50)

    def broken(identifier):
        raise ConnectionError("no route to host")

    cloud.job = broken
    with pytest.raises(JobError, match="job job1 on Cloud cannot be reached: no route to host"):
        remote(cloud, tmp_path, max_circuits=None).sample(CIRCUIT, ROWS, 50)
    assert cloud.submitted == 1


def test_equal_calls_are_different_measurements(tmp_path):
    cloud = Cloud()
    for folder in (None, tmp_path):
        backend = remote(cloud, folder)
        first, second = backend.sample(CIRCUIT, ROWS, 50), backend.sample(CIRCUIT, ROWS, 50)
        assert not torch.equal(first, second)
    submitted = cloud.submitted
    again = remote(cloud, tmp_path)
    assert torch.equal(again.sample(CIRCUIT, ROWS, 50), first)
    assert torch.equal(again.sample(CIRCUIT, ROWS, 50), second)
    assert cloud.submitted == submitted
    assert not torch.equal(again.sample(CIRCUIT, ROWS, 50), first)
    assert cloud.submitted == submitted + 3


def test_equal_rows_of_split_jobs_are_different_measurements(tmp_path):
    backend = remote(Cloud(), tmp_path, max_circuits=1)
    bits = backend.sample(CIRCUIT, torch.full((2, 1), math.pi / 2), 100)
    assert len(backend.jobs) == 2
    assert not torch.equal(bits[0], bits[1])


def test_other_settings_do_not_share_results(tmp_path):
    cloud = Cloud()
    remote(cloud, tmp_path, max_circuits=None).sample(CIRCUIT, ROWS, 50)
    remote(cloud, tmp_path, max_circuits=None).sample(CIRCUIT, ROWS, 51)
    remote(cloud, tmp_path, max_circuits=None).sample(CIRCUIT, ROWS + 0.1, 50)
    remote(cloud, tmp_path, max_circuits=None, optimization_level=3).sample(CIRCUIT, ROWS, 50)
    assert cloud.submitted == 4


def test_simulators_resume_with_a_seed(tmp_path):
    first, again, other = (Qiskit("aer", 50, seed=s, jobs_folder=tmp_path).probs(CIRCUIT, ROWS) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "x-0.json").write_text("{")
    with pytest.raises(ValueError, match=r"x-0\.json is not the record of a job"):
        Qiskit("aer", jobs_folder=tmp_path)


@pytest.mark.parametrize(("field", "value"), [("key", "another-0"), ("shots", "many"), ("id", 5)])
def test_a_record_that_cannot_be_is_named(tmp_path, field, value):
    remote(Cloud(), tmp_path, max_circuits=None).sample(CIRCUIT, ROWS, 50)
    (path,) = tmp_path.glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ValueError, match=rf"{path.name} is not the record of a job: .*{value}"):
        remote(Cloud(), tmp_path)


def test_damaged_results_are_named_and_asked_for_again(tmp_path):
    cloud = Cloud()
    bits = remote(cloud, tmp_path, max_circuits=None).sample(CIRCUIT, ROWS, 50)
    (path,) = tmp_path.glob("*.npz")
    whole = path.read_bytes()
    for damage in (b"", whole[: len(whole) // 2], whole[:200] + b"x" + whole[201:]):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=rf"{path.name} is damaged .*asked again$"):
            remote(cloud, tmp_path, max_circuits=None).sample(CIRCUIT, ROWS, 50)
    path.unlink()
    assert torch.equal(remote(cloud, tmp_path, max_circuits=None).sample(CIRCUIT, ROWS, 50), bits)
    assert cloud.submitted == 1


@pytest.mark.parametrize("wait", [-1.0, math.inf, math.nan, "5"])
def test_the_time_between_tries_is_a_time(wait):
    with pytest.raises(ValueError, match=f"^retry_wait is {wait!r}; a number of seconds"):
        Qiskit("aer", retry_wait=wait)


def test_mistakes_in_a_job_are_not_tried_again():
    class Picky(Cloud):
        def run(self, pubs, *, shots):
            self.submitted += 1
            raise ValueError("too many shots")

    cloud = Picky()
    with pytest.raises(ValueError, match="too many shots"):
        remote(cloud).probs(CIRCUIT, ROWS)
    assert cloud.submitted == 1


def test_a_sampler_that_gives_too_few_shots():
    class Short(Cloud):
        def run(self, pubs, *, shots):
            return super().run(pubs, shots=shots - 1)

    with pytest.raises(ValueError, match="the sampler gives 49 shots instead of 50"):
        remote(Short()).probs(CIRCUIT, ROWS)


def test_many_shots_are_unpacked_at_once():
    circuit = Circuit(12, [Gate("H", wire) for wire in range(12)])
    bits = Qiskit("aer", seed=1).sample(circuit, torch.zeros(0), 100_000)
    assert bits.shape == (100_000, 12)
    assert (bits.double().mean(0) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(100_000)
    assert np.unique(bits.numpy(), axis=0).shape[0] == 4096


def test_the_circuit_of_a_device_has_its_gates():
    circuit, _ = ansatz_with_angles()
    ready = Qiskit("fake_manila").transpiled(circuit)
    assert isinstance(ready, QuantumCircuit)
    assert set(ready.count_ops()) <= {"cx", "rz", "sx", "x", "measure"}


def test_circuits_are_placed_where_they_are_wanted():
    circuit = Circuit(2, [Gate("RY", [0], [0]), Gate("CNOT", [0, 1])])
    backend = Qiskit("fake_manila", 2000, seed=1)
    for qubits in ((3, 4), (2, 1), (0, 1)):
        backend.place(circuit, qubits)
        assert backend.physical_wires(circuit) == qubits
        ready = backend.transpiled(circuit)
        used = {ready.find_bit(qubit).index for step in ready.data for qubit in step.qubits}
        assert used == set(qubits)
        assert backend.probs(circuit, torch.tensor([math.pi])).argmax() == 0b11
    assert Qiskit("aer").physical_wires(circuit) == (0, 1)
    assert Qiskit(sampler=StatevectorSampler()).physical_wires(circuit) == (0, 1)
    for wrong in ((0,), (0, 0), (4, 5)):
        with pytest.raises(ValueError, match=r"^qubits are \[.*\]; 2 different ones of 0 to 4 are needed$"):
            backend.place(circuit, wrong)


def test_wires_are_followed_to_where_routing_moves_them():
    ring = Circuit(5, [Gate("X", [1]), *(Gate("CNOT", [w, (w + k) % 5]) for k in (1, 2) for w in range(5))])
    backend = Qiskit("fake_manila", seed=1)
    ready = backend.transpiled(ring)
    final = ready.layout.final_index_layout()
    assert backend.physical_wires(ring) == tuple(final[wire] for wire in range(5))


def test_folded_gates_are_run():
    folded = Circuit(2, [Gate("H", 0), *[Gate("CNOT", [0, 1])] * 5])
    backend = Qiskit("fake_manila", 2000, seed=1)
    assert backend.transpiled(folded).count_ops()["cx"] == 5
    assert backend.probs(folded, torch.zeros(0))[[0, 3]].sum() > 0.7
