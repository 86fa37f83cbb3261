from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from experiments import trained as trained_module
from experiments.cli import app
from experiments.config import load_config, resolve
from experiments.experiment import Experiment
from experiments.report import write_report
from experiments.run import Reporter, claimed, discretised_truth, run_experiment
from experiments.tables import results_table
from qgen import load_run, registry
from qgen.data import muon_events, simulate_muon, write_events
from qgen.models import BornMachine
from qgen.statefile import load_state
from qgen_toys import Affine


def experiment(**changes: Any) -> Experiment:
    raw: dict[str, Any] = {
        "name": "small",
        "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"]},
        "models": {
            "born": {
                "kind": "born_machine",
                "bits": 2,
                "layers": 1,
                "objective": {"kind": "mmd"},
                "training": {"steps": 6, "log_every": 2},
            },
            "gan": {
                "kind": "gan",
                "hidden": [8],
                "objective": {"kind": "adversarial", "discriminator": {"kind": "mlp", "hidden": [8]}},
                "training": {"steps": 4, "batch_size": 32},
            },
            "marginals": {"kind": "marginals"},
        },
        "evaluation": {"bootstrap": 2, "metrics": ["wasserstein", "correlation"]},
        "checkpoint_every": 2,
    }
    return resolve({**raw, **changes})


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    found = sorted(folder.glob("seed-*/*/generator.safetensors"))
    return {str(path.relative_to(folder)): load_state(path)["weights"] for path in found}


def same_weights(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(
        torch.equal(left[model][name], right[model][name]) for model in left for name in left[model]
    )


def test_discretised_truth_goes_through_the_cells_of_each_model() -> None:
    data = muon_events(n=2000)
    options = {"plain": {}, "gray": {"code": "gray", "order": "snake"}, "turned": {"frame": "gaussian"}}
    models = {name: BornMachine.for_dataset(data, bits=4, **chosen) for name, chosen in options.items()}
    found = discretised_truth(models, data.test, seed=0)
    assert set(found) == {"discretised truth (plain, gray)", "discretised truth (turned)"}
    shift = found["discretised truth (turned)"].samples - data.test.samples
    width = data.samples.std(0)
    assert (shift.abs().median(0).values < 0.2 * width).all()
    assert ((shift.mean(0) / width).abs() < 0.1).all()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is only read; who changes it takes a copy."""
    return run_experiment(experiment(), tmp_path_factory.mktemp("finished") / "run")


def test_results_hold_every_number_with_its_uncertainty_and_floor(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert set(results["models"]) == {"born", "gan", "marginals", "discretised truth"}
    for model in results["models"].values():
        assert {"n_parameters", "train_seconds", "sample_seconds", "status"} <= set(model)
        assert {"wasserstein", "wasserstein/energy", "wasserstein/pt", "correlation"} == set(model["metrics"])
        for numbers in model["metrics"].values():
            assert set(numbers) == {"value", "uncertainty", "floor", "floor_uncertainty", "extrapolated"}
            assert numbers["uncertainty"] > 0
    assert results["models"]["born"]["n_parameters"] == 20
    assert results["models"]["gan"]["train_seconds"] > 0


def test_a_run_is_opened_again_with_all_it_holds(finished: Path) -> None:
    run = load_run(finished)
    assert run.models == ["born", "gan", "marginals"]
    assert [record["step"] for record in run.training("born")["history"]] == [2, 4, 6]
    lines = (run.place("born") / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6]
    samples = run.samples("gan")
    assert [f.name for f in samples.features] == ["energy", "pt"]
    assert len(samples) == len(run.dataset.test) == 100
    fresh = run.sample("born", 7, condition=[100.0])
    assert fresh.samples.shape == (7, 2)
    assert fresh.column("beam_energy").tolist() == [100.0] * 7
    assert run.environment["packages"]["torch"]


def test_seeds_give_mean_and_spread(tmp_path: Path) -> None:
    folder = run_experiment(experiment(seeds=[3, 4]), tmp_path / "run")
    results = load_run(folder).results
    born = results["models"]["born"]
    each = [born["seeds"][seed]["metrics"]["wasserstein"]["value"] for seed in ("3", "4")]
    assert each[0] != each[1]
    assert born["metrics"]["wasserstein"]["value"] == pytest.approx(sum(each) / 2)
    assert born["metrics"]["wasserstein"]["spread"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5)
    assert load_run(folder).samples("born", 4).samples.shape == (100, 2)


def test_a_folder_with_a_run_is_not_written_over(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    before = (folder / "results.json").read_bytes()
    with pytest.raises(FileExistsError, match="holds a run; go on with it by --resume"):
        run_experiment(experiment(), folder)
    with pytest.raises(ValueError, match="is of another experiment"):
        run_experiment(experiment(seeds=[1]), folder, resume=True)
    assert (folder / "results.json").read_bytes() == before


def test_resume_of_a_finished_run_repeats_no_training(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("seed-*/*/generator.safetensors")}
    run_experiment(experiment(), folder, resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(FileExistsError, match=r"holds 'thesis.tex' but no config.yaml"):
        run_experiment(experiment(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == ["thesis.tex"]


def test_an_interrupted_run_goes_on_to_the_same_weights(finished: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(record: dict[str, float]) -> None:
        if record["step"] == 4:
            raise Killed

    with pytest.raises(Killed):
        run_experiment(experiment(), tmp_path / "broken", reporter=Reporter(record=kill))
    with pytest.raises(FileNotFoundError, match="the run is not finished"):
        _ = load_run(tmp_path / "broken").results
    run_experiment(experiment(), tmp_path / "broken", resume=True)
    assert same_weights(finished, tmp_path / "broken")


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
def test_a_half_written_file_is_named(name: str, finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=Path(name).name) as info:
        run_experiment(experiment(), folder, resume=True)
    assert "\n" not in str(info.value)


def test_a_diverged_training_is_reported_and_does_not_stop_the_others(affine: str, tmp_path: Path) -> None:
    model = {"kind": affine, "objective": {"kind": "nll"}}
    wild = {**model, "training": {"steps": 50, "learning_rate": 1e30, "optimiser": "sgd", "schedule": "constant"}}
    told: list[str] = []
    folder = run_experiment(
        experiment(models={"wild": wild, "tame": {**model, "training": {"steps": 5}}}),
        tmp_path / "run",
        reporter=Reporter(warning=told.append),
    )
    results = load_run(folder).results["models"]
    assert "diverged at step" in results["wild"]["status"]
    assert results["tame"]["status"] == "completed"
    assert results["wild"]["metrics"]["wasserstein"]["value"] > 0
    assert len(told) == 1
    assert "wild, seed 0: training diverged" in told[0]


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device 'gpu' is unknown; use cpu, cuda"):
        run_experiment(experiment(), tmp_path / "run", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device is available"):
            run_experiment(experiment(), tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "tolerance"),
    [
        ("cpu", 0.0),
        pytest.param("cuda", 1e-4, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")),
    ],
)
def test_a_training_is_repeated_within_the_tolerance_that_is_stated(
    device: str, tolerance: float, tmp_path: Path
) -> None:
    """docs/cluster.md states it."""
    training = {"steps": 20}
    tried = experiment(
        models={
            "born": {"kind": "born_machine", "bits": 2, "objective": {"kind": "mmd"}, "training": training},
            "gan": {"kind": "gan", "objective": {"kind": "adversarial"}, "training": training},
            "flow": {"kind": "flow", "objective": {"kind": "nll"}, "training": training},
        }
    )
    once, again = (run_experiment(tried, tmp_path / name, device=device) for name in ("once", "again"))
    for name in tried.models:
        left, right = (
            load_state(folder / "seed-0" / name / "generator.safetensors")["weights"] for folder in (once, again)
        )
        assert left
        for key in left:
            torch.testing.assert_close(left[key], right[key], rtol=0, atol=tolerance)


CONFIG = """
name: killed
dataset: {kind: muon, n: 400, features: [energy, pt]}
models:
  gan:
    kind: gan
    hidden: [8]
    objective: {kind: adversarial, discriminator: {kind: mlp, hidden: [8]}}
    training: {steps: 400, batch_size: 32}
  marginals: {kind: marginals}
evaluation: {bootstrap: 2, metrics: [wasserstein]}
checkpoint_every: 3
"""


def command(config: Path, folder: Path) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-m", "experiments.cli", "run", str(config), "--out", str(folder), "--no-report"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    return subprocess.Popen(call, cwd=root, env=env, stdout=subprocess.DEVNULL)


def test_a_folder_in_use_is_named_with_its_process(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "run"),
        pytest.raises(BlockingIOError, match=f"run: in use by process {os.getpid()}$"),
    ):
        run_experiment(experiment(), tmp_path / "run")
    run_experiment(experiment(), tmp_path / "run")


def test_sigkill_and_resume_from_the_command_line(tmp_path: Path) -> None:
    """A killed process leaves the folder free; resumed, it ends with the weights of a quiet run."""
    config = tmp_path / "killed.yaml"
    config.write_text(CONFIG)
    killed, quiet = tmp_path / "killed", tmp_path / "quiet"
    with command(config, killed) as process:
        checkpoint = killed / "seed-0" / "gan" / "checkpoint.safetensors"
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    result = CliRunner().invoke(app, ["run", str(config), "--out", str(killed), "--no-report", "--resume"])
    assert result.exit_code == 0, result.output
    run_experiment(load_config(config), quiet)
    assert same_weights(killed, quiet)


def test_a_run_cannot_be_mistaken_for_another_kind_of_folder(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run is here \(config.yaml is missing\)"):
        load_run(tmp_path)
    (tmp_path / "config.yaml").write_text("name: x")
    with pytest.raises(ValueError, match="damaged .dataset, models, seeds missing"):
        load_run(tmp_path)
    with pytest.raises(ValueError, match="model 'bron' is unknown; did you mean 'born'"):
        load_run(finished).generator("bron")
    with pytest.raises(ValueError, match="seed 7 is unknown; seeds are 0"):
        load_run(finished).generator("born", 7)
    with pytest.raises(ValueError, match=r"condition has 2 values; expected 1 \(beam_energy in GeV\)"):
        load_run(finished).sample("born", 3, condition=[1.0, 2.0])
    write_events(tmp_path / "samples.h5", load_run(finished).samples("born"))


def test_a_model_that_cannot_be_built_is_named_before_anything_trains(tmp_path: Path) -> None:
    models = experiment().plain()["models"]
    models["flow"] = {"kind": "flow", "n_parameters": 3, "objective": {"kind": "nll"}}
    with pytest.raises(ValueError, match=r"models\.flow: n_parameters is 3"):
        run_experiment(experiment(models=models), tmp_path / "run")
    assert not (tmp_path / "run" / "seed-0").exists()


def test_a_failed_start_leaves_the_folder_free(tmp_path: Path) -> None:
    missing = {"kind": "calorimeter", "path": str(tmp_path / "missing.h5")}
    with pytest.raises(FileNotFoundError, match=r"missing\.h5"):
        run_experiment(experiment(dataset=missing), tmp_path / "run")
    (tmp_path / "run" / ".config.yaml.17.part").write_text("left by a killed process")
    run_experiment(experiment(), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"objective": {"kind": "nll"}}, r"models\.gan: NLL needs a tractable density; ConditionalGAN has none"),
        ({"training": {"learning_rate": float("inf")}}, r"models\.gan: learning_rate is inf"),
    ],
)
def test_what_cannot_train_is_said_before_anything_trains(changes: dict[str, Any], line: str, tmp_path: Path) -> None:
    models = experiment().plain()["models"]
    models["gan"] |= changes
    with pytest.raises(ValueError, match=line):
        run_experiment(experiment(models=models), tmp_path / "run")
    assert not (tmp_path / "run" / "seed-0").exists()


def test_remarks_stand_in_the_status_and_in_the_training(tmp_path: Path) -> None:
    """A correlation alone does not keep events apart: a generator with a tiny spread stays collapsed."""
    models = {
        "gan": {
            "kind": "gan",
            "hidden": [],
            "objective": {"kind": "correlation"},
            "training": {"steps": 4, "batch_size": 32, "learning_rate": 1e-9},
        },
        "flow": {"kind": "flow", "objective": {"kind": "nll"}, "training": {"steps": 4, "batch_size": 32}},
    }
    told: list[str] = []

    def build(name: str, *rest: Any) -> Any:
        generator = built(name, *rest)
        if name == "gan":
            with torch.no_grad():
                for parameter in generator.parameters():
                    parameter *= 1e-3
        return generator

    built = trained_module.built
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained_module, "built", build)
        run_experiment(
            experiment(models=models, seeds=[0, 1]), tmp_path / "run", reporter=Reporter(warning=told.append)
        )
    run = load_run(tmp_path / "run")
    (remark,) = run.training("gan", 1)["remarks"]
    assert remark.startswith("collapsed: generated events spread over ")
    assert run.training("gan", 1)["status"] == f"completed; {remark}"
    assert run.results["models"]["gan"]["status"].startswith("completed; seed 0: collapsed: ")
    assert f"seed 1: {remark}" in run.results["models"]["gan"]["status"]
    assert run.results["models"]["flow"]["status"] == "completed"
    assert f"gan, seed 1: {remark}" in told


def test_too_few_events_to_judge_by_are_said_first(tmp_path: Path) -> None:
    few = {"kind": "muon", "n": 60, "features": ["energy", "pt"]}
    with pytest.raises(ValueError, match="dataset: 15 test events; at least 20"):
        run_experiment(experiment(dataset=few), tmp_path / "run")


def test_a_relative_path_of_data_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_events(tmp_path / "muons.h5", simulate_muon(n=300))
    monkeypatch.chdir(tmp_path)
    data = {"kind": "muon", "path": "muons.h5", "features": ["energy", "pt"]}
    run_experiment(experiment(dataset=data), "run")
    monkeypatch.chdir("/")
    assert len(load_run(tmp_path / "run").dataset) == 300


class Broken(Affine):
    """Generates what no detector measures."""

    def _sample(self, n: int, condition: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        return super()._sample(n, condition, generator) * torch.inf


@pytest.mark.parametrize("alone", [False, True])
def test_a_model_that_generates_nonsense_does_not_cost_the_others_their_scores(
    alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "broken", Broken)
    models = {"broken": {"kind": "broken", "objective": {"kind": "nll"}, "training": {"steps": 2}}}
    if not alone:
        models["marginals"] = {"kind": "marginals"}
    told: list[str] = []
    folder = run_experiment(
        experiment(models=models, seeds=[0, 1]), tmp_path / "run", reporter=Reporter(warning=told.append)
    )
    results = load_run(folder).results
    assert re.match("not judged: .*(finite|magnitude)", results["models"]["broken"]["status"])
    assert results["models"]["broken"]["metrics"] == {}
    assert len(told) == 2
    if not alone:
        assert results["models"]["marginals"]["metrics"]["wasserstein"]["value"] > 0
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results_table(results))
    assert "not judged" in console.export_text()
    page = write_report([load_run(folder)], tmp_path / "report.html").read_text()
    assert "not judged" in page


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"options": {"mmd": {"kernel": "foo"}}}, "evaluation.options.mmd: kernel 'foo' is unknown"),
        ({"options": {"kl": {}}}, "evaluation.options: kl is not among evaluation.metrics"),
        ({"metrics": ["muon_kinematics"]}, "evaluation.metrics: muon_kinematics needs muon events"),
    ],
)
def test_what_cannot_be_judged_is_said_before_anything_is_trained(
    evaluation: dict[str, Any], message: str, tmp_path: Path
) -> None:
    raw = {
        "name": "tiny",
        "dataset": {"kind": "calorimeter", "grid": [2], "max_events": 300},
        "models": {"flow": {"kind": "flow", "objective": {"kind": "nll"}, "training": {"steps": 2}}},
        "evaluation": evaluation,
    }
    with pytest.raises(ValueError, match=message):
        run_experiment(resolve(raw), tmp_path / "run")
    assert not (tmp_path / "run" / "seed-0").exists()
