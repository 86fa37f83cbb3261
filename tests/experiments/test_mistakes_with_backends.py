"""A backend that is impossible, absent, too small or breaks: one line, exit status 2, and nothing lost."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from circuits import Circuit
from circuits.backends import BACKENDS, Statevector
from circuits.backends.jobs import JobError
from experiments.cli import main
from experiments.config import resolve
from experiments.run import run_experiment
from qgen import load_run

RAW: dict[str, Any] = {
    "name": "small",
    "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"]},
    "models": {
        "born": {
            "kind": "born_machine",
            "bits": 3,
            "layers": 1,
            "conditional": False,
            "objective": {"kind": "mmd"},
            "training": {"steps": 2},
        }
    },
    "evaluation": {"bootstrap": 2, "metrics": ["wasserstein"]},
}
MISTAKES = [
    ("nowhere", "backend.kind: unknown kind 'nowhere'"),
    ("{kind: statevector, shotz: 10}", "unknown key 'shotz'; did you mean shots"),
    ("{kind: statevector, shots: 0}", "backend.shots is 0; an integer of at least 1 is needed"),
    ("{kind: statevector, shots: 5, shots: 6}", "key 'shots' is given twice"),
    ("{kind: statevector", "not valid YAML"),
    ("{kind: statevector, device: tpu}", "device 'tpu' is unknown; cpu, cuda or cuda:N is needed"),
    ("{kind: statevector, memory_limit: 10}", "6 qubits"),
    ("{kind: density_matrix, noise: {depolarizing: 1.5}}", "noise.depolarizing: found 1.5; a probability in [0, 1]"),
    ("{kind: density_matrix, noise: fake_manilla}", "unknown device 'fake_manilla'; did you mean fake_manila"),
    ("{kind: density_matrix, noise: fake_manila}", "6 qubits"),
    ("{kind: pennylane, device: default.qubitt}", "default.qubitt"),
    ("{kind: pennylane, options: {colour: red}}", "colour"),
    ("{kind: qiskit, device: fake_manilla}", "unknown device 'fake_manilla'; did you mean fake_manila"),
    ("{kind: qiskit, device: fake_manila}", "6 wires"),
    ("{kind: qiskit, device: aer, options: {colour: red}}", "colour"),
    ("{kind: statevector, shots: 10, mitigation: [magic]}", "unknown name 'magic'; allowed are twirling, readout, zne"),
]


def snapshot(folder: Path) -> dict[str, str]:
    """Every file of a run but locks, by what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(resolve(RAW), tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


class Refused:
    """The command line in this process, which must end with one line after its progress, and status 2."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: str | Path) -> str:
        self.monkeypatch.setattr(sys, "argv", ["qgen", *map(str, arguments)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as info:
            main()
        *progress, error = self.capsys.readouterr().err.splitlines(keepends=True)
        assert info.value.code == 2
        assert error.startswith("qgen: ")
        assert all(", seed 0" in line for line in progress), progress
        return error


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(monkeypatch, capsys)


@pytest.mark.parametrize(("backend", "message"), MISTAKES)
def test_a_mistake_is_one_line_everywhere(
    backend: str, message: str, run: Path, tmp_path: Path, refused: Refused
) -> None:
    before = snapshot(run)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(RAW))
    out = tmp_path / "new"
    assert message in refused("run", tmp_path / "small.yaml", "--out", out, "--set", f"backend={backend}")
    assert not out.exists() or snapshot(out) == {}
    assert message in refused("evaluate", run, "--backend", backend)
    assert message in refused("sample", run, "--model", "born", "--out", tmp_path / "x.h5", "--backend", backend)
    assert not (tmp_path / "x.h5").exists()
    assert snapshot(run) == before


@pytest.mark.parametrize(
    ("module", "backend", "extra"),
    [
        ("qiskit_aer", "{kind: qiskit, device: aer}", "qiskit"),
        ("qiskit_ibm_runtime.fake_provider", "{kind: qiskit, device: fake_manila}", "qiskit"),
        ("mthree", "{kind: statevector, shots: 10, mitigation: [readout]}", "mitigation"),
    ],
)
def test_a_missing_package_is_one_line_that_gets_it(
    module: str, backend: str, extra: str, run: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(RAW))
    how = f"pip install 'qgen-hep[{extra}]'"
    assert how in refused("run", tmp_path / "small.yaml", "--out", tmp_path / "new", "--set", f"backend={backend}")
    assert how in refused("evaluate", run, "--backend", backend)
    assert how in refused("sample", run, "--model", "born", "--out", tmp_path / "x.h5", "--backend", backend)


def test_a_file_that_is_not_there_is_no_kind(tmp_path: Path, run: Path, refused: Refused) -> None:
    for name in ("there.yaml", str(tmp_path / "there")):
        assert f"backend {name!r}: no such file" in refused("evaluate", run, "--backend", name)
    (tmp_path / "there.yaml").write_bytes(b"\xff")
    assert "there.yaml: not a text file" in refused("evaluate", run, "--backend", tmp_path / "there.yaml")
    (tmp_path / "there.yaml").write_text("kind: statevector\nkind: qiskit\n")
    assert "key 'kind' is given twice" in refused("evaluate", run, "--backend", tmp_path / "there.yaml")


def test_a_long_line_is_no_name_of_a_file(run: Path, refused: Refused) -> None:
    noise = ", ".join(f"CNOT 0 {wire}: {{depolarizing: 0.1}}" for wire in range(1, 20))
    long = f"{{kind: density_matrix, noise: {{gates: {{{noise}}}}}, shotz: 1}}"
    assert "unknown key 'shotz'" in refused("evaluate", run, "--backend", long)


def test_a_run_that_is_not_finished_or_no_run_is_said(run: Path, tmp_path: Path, refused: Refused) -> None:
    (run / "results.json").unlink()
    assert "the run is not finished" in refused("evaluate", run, "--backend", "statevector")
    assert "no run is here" in refused("evaluate", tmp_path, "--backend", "statevector")
    (run / "config.yaml").write_text("models: {}\nmodels: {}\n")
    assert "config.yaml: not valid YAML (line 2, column 1: key 'models' is given twice)" in refused("evaluate", run)


def test_a_label_is_one_backend(run: Path, refused: Refused) -> None:
    main_with = ["evaluate", str(run), "--backend", "statevector", "--backend", "{kind: statevector, shots: 5}"]
    assert "two backends are named a" in refused(*main_with, "--name", "a", "--name", "a")
    for name in ("../a", "", ".hidden"):
        assert "no label for a backend" in refused("evaluate", run, "--backend", "statevector", "--name", name)
    assert "ile name too long" in refused("evaluate", run, "--backend", "statevector", "--name", "a" * 300)


def test_a_file_in_the_way_is_said(run: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(RAW))
    line = f"qgen: {tmp_path / 'file'}: a file is in the way; the name of a folder is needed\n"
    assert refused("run", tmp_path / "small.yaml", "--out", tmp_path / "file") == line
    (run / "backends").write_text("")
    assert "a file is in the way" in refused("evaluate", run, "--backend", "statevector")
    truth = ["evaluate", "--truth", tmp_path / "no.h5", "--generated", tmp_path / "no.h5"]
    assert "Errno" not in refused(*truth)


class Breaking:
    """A machine elsewhere that breaks in the second step of the training that follows the rehearsal's three jobs."""

    name = "breaking"
    capabilities = Statevector.capabilities
    jobs = 0

    def __init__(self) -> None:
        self.engine = Statevector()

    def job(self) -> None:
        type(self).jobs += 1
        if self.jobs == 5:
            raise JobError("job 7 on breaking failed: out of helium")

    def probs(self, circuit: Circuit, angles: torch.Tensor) -> torch.Tensor:
        self.job()
        return self.engine.probs(circuit, angles)

    def expval(self, *args: Any) -> torch.Tensor:
        return self.engine.expval(*args)

    def sample(self, *args: Any, **options: Any) -> torch.Tensor:
        self.job()
        return self.engine.sample(*args, **options)


def test_a_job_that_fails_in_a_run_is_one_line_and_the_run_goes_on(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    monkeypatch.setitem(BACKENDS, "breaking", Breaking)
    monkeypatch.setattr(Breaking, "jobs", 0)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(RAW))
    out = tmp_path / "new"
    call = ["run", str(tmp_path / "small.yaml"), "--out", str(out), "--set", "backend=breaking", "--no-report"]
    assert refused(*call) == "qgen: job 7 on breaking failed: out of helium\n"
    assert (out / "config.yaml").exists()
    monkeypatch.setattr(sys, "argv", ["qgen", "run", str(out), "--resume", "--no-report"])
    with pytest.raises(SystemExit) as info:
        main()
    assert info.value.code == 0
    broken, whole = (load_run(folder).generator("born").state_dict()["weights"] for folder in (out, trained))
    assert torch.equal(broken, whole)
