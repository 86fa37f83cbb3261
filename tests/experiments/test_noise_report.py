"""The report's section on noise: strengths, who is the same model, and what is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from circuits import Circuit, Gate, ansatz
from circuits.noise import NoiseModel
from experiments.config import resolve
from experiments.report import write_report
from experiments.report.noise import RUN, TRAINED, expected_errors, noise_study
from experiments.report.style import styled
from experiments.run import run_experiment
from experiments.scores import read_results
from qgen.run import Run, load_run

RAW = """
name: noisy
dataset: {kind: muon, n: 400, features: [energy, pt]}
evaluation:
  bootstrap: 2
  metrics: [wasserstein, correlation]
  backends:
    5 %: &five {kind: density_matrix, noise: {depolarizing: 0.05, readout: 0.05}}
    10 %: &ten {kind: density_matrix, noise: {depolarizing: 0.1, readout: 0.1}}
    mitigated: {kind: density_matrix, noise: {readout: 0.1}, mitigation: [readout]}
    torino: {kind: density_matrix, noise: fake_torino}
  models_on_backends: [born]
models:
  born, 10 %: &born
    kind: born_machine
    bits: 1
    layers: 1
    conditional: false
    objective: {kind: mmd}
    training: {steps: 2, validate_every: 1}
    backend: *ten
  born: {<<: *born, backend: statevector}
  born, 5 %: {<<: *born, backend: *five}
  other, 5 %: {<<: *born, layers: 2, backend: *five}
  marginals: {kind: marginals}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(run_experiment(resolve(yaml.safe_load(RAW)), tmp_path_factory.mktemp("noisy") / "run"))


def test_errors_of_depolarizing_noise_are_those_of_its_definition() -> None:
    circuit = Circuit(2, [Gate("H", [0]), Gate("CNOT", [0, 1]), Gate("RX", [1], [0.3])])
    noise = NoiseModel.from_config({"depolarizing": {"one_qubit": 0.04, "two_qubit": 0.16}, "readout": {"p10": 0.02}})
    # a fully mixed n-qubit state is each of 4**n Pauli operators, one of which is no error
    assert expected_errors([circuit], noise) == pytest.approx(2 * 0.04 * 3 / 4 + 0.16 * 15 / 16 + 2 * 0.01)
    assert expected_errors([circuit, circuit], noise) == pytest.approx(2 * expected_errors([circuit], noise))
    assert expected_errors([circuit], noise.scaled(0.5)) == pytest.approx(expected_errors([circuit], noise) / 2)
    assert expected_errors([circuit], NoiseModel()) == 0


@pytest.mark.parametrize(
    ("name", "kraus"),
    [("amplitude_damping", "amplitude_damping_error"), ("phase_damping", "phase_damping_error")],
)
def test_errors_of_damping_are_one_minus_the_process_fidelity_of_qiskit(name: str, kraus: str) -> None:
    errors = pytest.importorskip("qiskit_aer.noise")
    info = pytest.importorskip("qiskit.quantum_info")
    channel = info.SuperOp(getattr(errors, kraus)(0.13))
    found = expected_errors([Circuit(1, [Gate("H", [0])])], NoiseModel.from_config({name: 0.13}))
    assert found == pytest.approx(1 - info.process_fidelity(channel))


def test_errors_of_a_device_are_those_of_its_calibration() -> None:
    runtime = pytest.importorskip("qiskit_ibm_runtime.fake_provider")
    noise = NoiseModel.from_config("fake_torino")
    circuit = ansatz.hardware_efficient(3, 2, ("RY",), "CZ", "linear")
    prepared = noise.prepare(circuit)
    target = runtime.FakeTorino().target
    expected = 0.0
    for gate in prepared.circuit.gates:
        places = tuple(prepared.physical[wire] for wire in gate.wires)
        error = target[{"CZ": "cz", "SX": "sx", "RZ": "rz", "X": "x"}[gate.name]][places].error
        size = 2 ** len(places)
        expected += error * (size + 1) / size  # from average to process infidelity
    expected += sum(target["measure"][(prepared.physical[wire],)].error for wire in prepared.measured)
    assert expected_errors([circuit], noise) == pytest.approx(expected, rel=0.05)


def test_models_equal_but_for_the_backend_are_one_model(run: Run) -> None:
    with styled():
        study = noise_study(run, read_results(run.results))
    assert study is not None
    (model,) = study.models
    assert model.model == "born"
    assert [(row.noise, row.how) for row in model.rows] == [
        ("truth vs truth", "floor"),
        ("born", "exact"),
        ("torino", RUN),
        ("born, 5 %", TRAINED),
        ("5 %", RUN),
        ("born, 10 %", TRAINED),
        ("10 %", RUN),
    ]
    strengths = [float(row.errors) for row in model.rows[1:]]
    assert strengths == sorted(strengths)
    assert strengths[0] == 0
    assert strengths[-1] == pytest.approx(2 * strengths[-3], abs=0.02)
    assert model.columns == ["wasserstein", "correlation"]
    assert study.curves is not None


def test_the_page_has_a_section_on_noise(run: Run) -> None:
    page = write_report([run], run.folder / "report.html").read_text()
    assert "Under noise" in page
    assert "Trainings under noise" in page
    assert "trained exactly, run under it" in page


def test_a_run_without_noise_has_none(tmp_path: Path) -> None:
    content = yaml.safe_load(RAW)
    del content["evaluation"]["backends"], content["evaluation"]["models_on_backends"]
    content["models"] = {"born": content["models"]["born"], "marginals": {"kind": "marginals"}}
    plain = load_run(run_experiment(resolve(content), tmp_path / "run"))
    assert noise_study(plain, read_results(plain.results)) is None
