from __future__ import annotations

import importlib.metadata
import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from circuits import Circuit, Gate
from circuits.backends import BACKENDS, Statevector
from experiments import doctor
from experiments.cli import app
from experiments.doctor import Answer, answers, diagnosis, limits, packages


def text_of(found: list[Answer]) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(diagnosis(found))
    return console.export_text()


def asked(monkeypatch: pytest.MonkeyPatch, **backends: dict) -> list[Answer]:
    monkeypatch.setattr(doctor, "BACKENDS", backends)
    return list(answers())


def test_every_backend_of_the_lab_answers_rightly_here() -> None:
    found = {answer.name: answer for answer in answers()}
    assert {name: found[name].status for name in doctor.OWN} == dict.fromkeys(doctor.OWN, "PASS")
    assert not [answer for answer in found.values() if answer.status == "FAIL"]
    assert {config["kind"] for config in doctor.BACKENDS.values()} == set(BACKENDS)
    assert (found["state vector on CUDA"].status == "PASS") == torch.cuda.is_available()


def test_a_missing_package_is_no_failure_and_says_what_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def __init__(self) -> None:
            raise ImportError("the qiskit backend needs qiskit-aer; install it with: pip install 'qgen-hep[qiskit]'")

    monkeypatch.setitem(BACKENDS, "missing", Missing)
    (answer,) = asked(monkeypatch, Aer={"kind": "missing"})
    assert answer.status == "absent"
    assert not answer.serious
    assert "pip install 'qgen-hep[qiskit]'" in text_of([answer])


def test_a_wrong_answer_fails_and_says_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Statevector):
        def probs(self, circuit: object, angles: torch.Tensor) -> torch.Tensor:
            return super().probs(circuit, angles).flip(-1).roll(1, -1)

    class Broken(Statevector):
        def probs(self, circuit: object, angles: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no carrier\nat all")

    monkeypatch.setitem(BACKENDS, "wrong", Wrong)
    monkeypatch.setitem(BACKENDS, "broken", Broken)
    wrong, broken = asked(monkeypatch, **{"state vector": {"kind": "wrong"}, "other": {"kind": "broken"}})
    assert wrong.status == "FAIL"
    assert wrong.serious
    assert "gives 0.5, 0.5, 0, 0" in wrong.reason
    assert (broken.status, broken.reason, broken.serious) == ("FAIL", "no carrier at all", False)
    monkeypatch.setattr(doctor, "BACKENDS", {"other": {"kind": "broken"}})
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
    monkeypatch.setattr(doctor, "BACKENDS", {"state vector": {"kind": "wrong"}})
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL" in result.output


def test_the_network_is_asked_only_if_told_to_and_no_account_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def __init__(self) -> None:
            raise ValueError("device 'least_busy': no IBM Quantum account is saved here")

    monkeypatch.setitem(BACKENDS, "unreachable", Unreachable)
    monkeypatch.setattr(doctor, "BACKENDS", {})
    monkeypatch.setattr(doctor, "ON_NETWORK", {"IBM": {"kind": "unreachable"}})
    assert list(answers()) == []
    (answer,) = answers(network=True)
    assert answer.status == "absent"
    assert "no IBM Quantum account is saved here" in answer.reason


def test_a_machine_elsewhere_gets_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []

    class Remote(Statevector):
        capabilities = replace(Statevector.capabilities, differentiable=False, remote=True)

        def probs(self, circuit: Circuit, angles: torch.Tensor) -> torch.Tensor:
            jobs.append(circuit)
            return super().probs(circuit, angles)

    monkeypatch.setitem(BACKENDS, "remote", Remote)
    (answer,) = asked(monkeypatch, IBM={"kind": "remote"})
    assert answer.status == "PASS"
    assert len(jobs) == 1


def test_packages_have_their_version_or_the_line_that_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {package.name: package.version for package in packages()}
    assert versions["torch"] == torch.__version__
    real = importlib.metadata.version

    def without(name: str) -> str:
        if name == "mthree":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert "not installed: pip install 'qgen-hep[mitigation]'" in text_of([])


def test_limits_grow_with_memory_and_shrink_with_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("circuits.backends.memory.free_memory", lambda device: 2**34)
    found = limits()
    assert found["free memory"] == "17.2 GB"
    assert found["exact"].startswith("about 27 qubits, 28 in complex64")
    assert found["exact, with gradients"].startswith("about 26 qubits")
    assert found["density matrix"] == "about 14 qubits"


@pytest.mark.parametrize("gradient", [False, True])
def test_the_engine_takes_as_many_qubits_as_are_promised(gradient: bool) -> None:
    n_wires = 21
    states = doctor.NEEDED_STATES_GRADIENT if gradient else doctor.NEEDED_STATES
    engine = Statevector(memory_limit=states * 16 * 2**n_wires)
    angles = torch.zeros(1, dtype=torch.float64, requires_grad=gradient)
    probs = engine.probs(Circuit(n_wires, [Gate("RX", 0, [0])]), angles)
    assert probs[0].item() == 1
    if gradient:
        probs[0].backward()
