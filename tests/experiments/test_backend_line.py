"""Runs on the backend that one line of their configuration names."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

from circuits.backends import BACKENDS, Statevector
from experiments.catalogue import catalogue
from experiments.cli import app
from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.run import Reporter, run_experiment
from qgen import load_run
from qgen.data import load_events
from qgen.statefile import load_state


def experiment(backend: Any = None, steps: int = 6, **changes: Any) -> Experiment:
    raw: dict[str, Any] = {
        "name": "small",
        "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"]},
        "backend": backend,
        "models": {
            "born": {
                "kind": "born_machine",
                "bits": 1,
                "layers": 1,
                "conditional": False,
                "objective": {"kind": "mmd"},
                "training": {"steps": steps, "log_every": 1, "batch_size": None},
            }
        },
        "evaluation": {"bootstrap": 2, "metrics": ["wasserstein"]},
        "checkpoint_every": 2,
    }
    return resolve({**raw, **changes})


def weights(folder: Path) -> torch.Tensor:
    found: torch.Tensor = load_state(folder / "seed-0" / "born" / "generator.safetensors")["weights"]["weights"]
    return found


class Killed(Exception):
    pass


def kill_at(step: int) -> Reporter:
    def record(numbers: dict[str, float]) -> None:
        if numbers["step"] == step:
            raise Killed

    return Reporter(record=record)


def test_shots_change_the_training_and_the_seed_fixes_them(tmp_path: Path) -> None:
    measured = experiment({"kind": "statevector", "shots": 100})
    one = run_experiment(measured, tmp_path / "one")
    two = run_experiment(measured, tmp_path / "two")
    exact = run_experiment(experiment(), tmp_path / "exact")
    assert torch.equal(weights(one), weights(two))
    assert torch.equal(load_run(one).samples("born").samples, load_run(two).samples("born").samples)
    assert not torch.equal(weights(one), weights(exact))
    assert yaml.safe_load((one / "config.yaml").read_text())["models"]["born"]["backend"]["shots"] == 100


NOISY = "{kind: density_matrix, noise: {depolarizing: {two_qubit: 0.9}}}"
NOISE = {"depolarizing": {"two_qubit": 0.05}, "readout": {"p01": 0.02, "p10": 0.05}}


@pytest.mark.parametrize(
    "backend",
    [
        {"kind": "statevector", "shots": 50},
        {"kind": "pennylane", "shots": 50, "gradient": "spsa"},
        {"kind": "qiskit", "device": "aer", "noise": NOISE, "shots": 50, "gradient": "spsa"},
        {"kind": "trajectories", "noise": NOISE, "n_trajectories": 20, "gradient": "spsa"},
        {
            "kind": "density_matrix",
            "noise": NOISE,
            "shots": 50,
            "mitigation": [{"twirling": {"twirls": 2}}, "readout", "zne"],
            "gradient": "spsa",
        },
    ],
    ids=["shots", "pennylane", "qiskit", "trajectories", "mitigated"],
)
def test_an_interrupted_run_on_shots_goes_on_to_the_same_weights(backend: dict[str, Any], tmp_path: Path) -> None:
    measured = experiment(backend, steps=4)
    quiet = run_experiment(measured, tmp_path / "quiet")
    with pytest.raises(Killed):
        run_experiment(measured, tmp_path / "broken", reporter=kill_at(3))
    broken = run_experiment(measured, tmp_path / "broken", resume=True)
    assert torch.equal(weights(quiet), weights(broken))
    assert torch.equal(load_run(quiet).samples("born").samples, load_run(broken).samples("born").samples)


def test_the_exact_engine_named_is_the_exact_engine_by_default(tmp_path: Path) -> None:
    named = run_experiment(experiment("statevector"), tmp_path / "named")
    default = run_experiment(experiment(), tmp_path / "default")
    assert torch.equal(weights(named), weights(default))


class Hardware:
    """A machine elsewhere that counts jobs and can fail."""

    name = "hardware"
    capabilities = replace(Statevector.capabilities, remote=True)
    folders: ClassVar[list[str | None]] = []
    jobs: ClassVar[int] = 0
    fails_at: ClassVar[int | None] = None

    def __init__(self, jobs_folder: str | None = None) -> None:
        self.engine = Statevector()
        self.folders.append(jobs_folder)

    def job(self) -> None:
        type(self).jobs += 1
        if self.jobs == self.fails_at:
            raise OSError("job 17 on hardware failed: out of helium")

    def probs(self, *args: Any) -> torch.Tensor:
        self.job()
        return self.engine.probs(*args)

    def sample(self, *args: Any, **options: Any) -> torch.Tensor:
        self.job()
        return self.engine.sample(*args, **options)


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> type[Hardware]:
    monkeypatch.setitem(BACKENDS, "hardware", Hardware)
    monkeypatch.setattr(Hardware, "folders", [])
    monkeypatch.setattr(Hardware, "jobs", 0)
    monkeypatch.setattr(Hardware, "fails_at", None)
    return Hardware


def test_a_rehearsal_costs_no_job_and_jobs_are_recorded_in_the_run(hardware: type[Hardware], tmp_path: Path) -> None:
    folder = run_experiment(experiment("hardware", steps=3), tmp_path / "run")
    assert hardware.jobs == 3 + 2 + 1, "a job for each step, two for the validation of the last, one for the samples"
    assert [place for place in hardware.folders if place] == [str(folder / "seed-0" / "born" / "jobs")]


def test_a_job_that_fails_leaves_everything_before_it(
    hardware: type[Hardware], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = run_experiment(experiment("statevector"), tmp_path / "quiet")
    monkeypatch.setattr(hardware, "fails_at", 6)
    with pytest.raises(OSError, match=r"^job 17 on hardware failed: out of helium$"):
        run_experiment(experiment("hardware", checkpoint_every=1000), tmp_path / "run")
    place = tmp_path / "run" / "seed-0" / "born"
    assert [json.loads(line)["step"] for line in (place / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5]
    monkeypatch.setattr(hardware, "jobs", 0)
    monkeypatch.setattr(hardware, "fails_at", None)
    folder = run_experiment(experiment("hardware", checkpoint_every=1000), tmp_path / "run", resume=True)
    assert hardware.jobs == 1 + 2 + 1, "the last step, its validation and spread, the samples"
    assert torch.equal(weights(folder), weights(quiet))


def test_new_events_are_drawn_on_the_backend_of_the_run_or_on_another(
    hardware: type[Hardware], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(run_experiment(experiment("hardware", steps=1), tmp_path / "run"))
    before = hardware.jobs
    there = run.sample("born", 20)
    assert hardware.jobs == before + 1
    here = run.sample("born", 20, backend="statevector")
    assert hardware.jobs == before + 1
    assert torch.equal(there.samples, here.samples), "the same seed, and an engine as exact"
    with pytest.raises(ValueError, match="backend.kind: unknown kind 'nowhere'"):
        run.sample("born", 20, backend="nowhere")


def test_a_device_that_is_not_there_or_too_small_is_said_before_anything_trains(tmp_path: Path) -> None:
    absent = experiment({"kind": "qiskit", "device": "fake_manilla"})
    with pytest.raises(
        ValueError, match=r"models\.born\.backend: unknown device 'fake_manilla'; did you mean fake_man"
    ):
        run_experiment(absent, tmp_path / "run")
    models = experiment().plain()["models"]
    models["born"]["bits"] = 3
    small = experiment({"kind": "qiskit", "device": "fake_manila"}, models=models)
    with pytest.raises(ValueError, match=r"models\.born: .* 6 wires; fake_manila has 5 qubits"):
        run_experiment(small, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_an_objective_that_needs_probabilities_refuses_shots_first(tmp_path: Path) -> None:
    models = experiment().plain()["models"]
    models["born"]["objective"] = {"kind": "nll"}
    with pytest.raises(
        ValueError, match=r"models\.born: NLL needs probabilities, not frequencies of shots; .* 100 shots"
    ):
        run_experiment(experiment({"kind": "statevector", "shots": 100}, models=models), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_the_list_of_backends_is_what_a_line_may_say() -> None:
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(catalogue("backends"))
    text = console.export_text()
    for kind in BACKENDS:
        assert f" {kind} " in text
    for part in (
        "noise: keys and values",
        "dtype: complex64|complex128 = complex128",
        "dtype: float32|float64 = float64",
        "device: cpu, cuda or cuda:N",
        "device: name of a device = default.qubit",
        "mode: job|session|batch = job",
        "retry_wait: seconds = 5",
        "mitigation: zne",
        "fit: linear|polynomial|exponential = linear",
        "gradient: spsa",
        "pip install 'qgen-hep[qiskit]'",
        "pip install 'qgen-hep[mitigation]'",
    ):
        assert part in text
    assert "generator" not in text
    assert ": Any" not in text
    assert "or Any" not in text


def test_events_are_drawn_elsewhere_from_the_command_line(tmp_path: Path) -> None:
    folder = run_experiment(experiment(steps=1), tmp_path / "run")
    call = ["sample", str(folder), "--model", "born", "-n", "30", "--out"]
    for name, options in (("exact", []), ("named", ["--backend", "statevector"]), ("noisy", ["--backend", NOISY])):
        assert CliRunner().invoke(app, [*call, str(tmp_path / f"{name}.h5"), *options]).exit_code == 0
    exact, named, noisy = (load_events(tmp_path / f"{name}.h5").samples for name in ("exact", "named", "noisy"))
    assert torch.equal(exact, named)
    assert not torch.equal(exact, noisy)
    refused = CliRunner().invoke(app, [*call, str(tmp_path / "x.h5"), "--backend", "{kind: statevector, shotz: 1}"])
    assert "backend.shotz: unknown key 'shotz'; did you mean shots" in str(refused.exception)
