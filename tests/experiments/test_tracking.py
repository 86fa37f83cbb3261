from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments import track_mlflow
from experiments import tracking as tracking_module
from experiments.claim import held
from experiments.cli import app
from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.run import run_experiment
from experiments.sweep import sweep
from experiments.track_mlflow import MLflow
from experiments.tracking import check_trackers, records_of, track_again
from experiments.trained import Reporter

BOTH = ("tensorboard", "mlflow")


def experiment(**changes: Any) -> Experiment:
    raw: dict[str, Any] = {
        "name": "tracked",
        "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"]},
        "models": {
            "born, 1 %": {
                "kind": "born_machine",
                "bits": 1,
                "layers": 1,
                "objective": {"kind": "mmd"},
                "training": {"steps": 12, "log_every": 2, "validate_every": 12},
            },
            "marginals": {"kind": "marginals"},
        },
        "evaluation": {"bootstrap": 2, "metrics": ["wasserstein"]},
        "checkpoint_every": 5,
    }
    return resolve({**raw, **changes})


class Killed(BaseException):
    """As hard an end as can be had inside a process."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stores are made in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def variables() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def killed_at(step: int) -> Reporter:
    def record(numbers: dict[str, float]) -> None:
        if numbers["step"] == step:
            raise Killed

    return Reporter(record=record)


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    """The points of TensorBoard's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


def history(folder: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads((folder / "training.json").read_text())["history"]
    return found


def client() -> Any:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=Path("mlruns").absolute().as_uri())


def mlflow_runs() -> list[Any]:
    asked = client()
    numbers = [one.experiment_id for one in asked.search_experiments(filter_string="name = 'tracked'")]
    return list(asked.search_runs(numbers))


def test_a_run_that_was_killed_is_tracked_once_and_whole(tmp_path: Path) -> None:
    """The same tracked run goes on; steps that were taken again are there once, lost ones are told later."""
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run_experiment(experiment(), folder, track=BOTH, reporter=killed_at(8))
    (before,) = mlflow_runs()
    assert before.info.status == "KILLED"
    run_experiment(experiment(), folder, track=BOTH, resume=True)
    (after,) = mlflow_runs()
    assert after.info.run_id == before.info.run_id
    assert after.info.status == "FINISHED"

    told = history(folder / "seed-0" / "born, 1 %")
    steps = [record["step"] for record in told]
    assert steps == [2, 4, 6, 8, 10, 12]
    points = curve(folder / "tensorboard" / "seed-0" / "born, 1 %", "loss")
    assert [step for step, _ in points] == steps
    assert [value for _, value in points] == pytest.approx([record["loss"] for record in told])
    found = client().get_metric_history(after.info.run_id, "seed-0/born_ 1 _/loss")
    assert [(metric.step, metric.value) for metric in found] == [(r["step"], r["loss"]) for r in told]

    scores = json.loads((folder / "results.json").read_text())["models"]["marginals"]["metrics"]["wasserstein"]
    assert after.data.metrics["final/marginals/wasserstein"] == scores["value"]
    assert after.data.metrics["final/marginals/wasserstein.floor"] == scores["floor"]
    assert after.data.params["models.born_ 1 _.training.steps"] == "12"
    assert after.data.tags["config_sha256"] == json.loads((folder / "environment.json").read_text())["config_sha256"]
    assert after.data.tags["status/marginals"] == "completed"
    files = {file.path for file in client().list_artifacts(after.info.run_id)}
    assert files == {"config.yaml", "environment.json", "results.json"}
    value = curve(folder / "tensorboard" / "seed-0" / "marginals", "final/wasserstein")
    assert value == [(0, pytest.approx(scores["value"]))]


def test_jobs_of_a_sweep_that_begin_together_share_one_experiment(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    raw = {**experiment().plain(), "models": {"marginals": {"kind": "marginals"}}}
    found = sweep(raw, {"seed": [0, 1, 2, 3]}, out=folder, farm="processes=2", track=BOTH)
    assert [job.status for job in found.jobs] == ["finished"] * 4
    asked = client()
    assert len([one for one in asked.search_experiments() if one.name == "tracked"]) == 1
    runs = mlflow_runs()
    assert {run.info.run_name for run in runs} == {job.id for job in found.jobs}
    assert sorted(run.data.params["seeds"] for run in runs) == ["[0]", "[1]", "[2]", "[3]"]
    assert all(list((job.folder / "tensorboard").rglob("events.*")) for job in found.jobs)
    with pytest.raises(ValueError, match="^tracker 'tensorbord' is unknown; did you mean 'tensorboard'"):
        sweep(raw, {"seed": [0]}, out=tmp_path / "other", track=["tensorbord"])
    assert not (tmp_path / "other").exists()


def test_a_run_that_was_not_tracked_is_told_later_and_not_twice(tmp_path: Path) -> None:
    folder = run_experiment(experiment(), tmp_path / "run")
    for _ in range(2):
        answer = CliRunner().invoke(app, ["runs", "track", str(folder), "--to", "tensorboard", "--to", "mlflow"])
        assert answer.exit_code == 0, answer.output
    (run,) = mlflow_runs()
    assert len(client().get_metric_history(run.info.run_id, "seed-0/born_ 1 _/loss")) == 6
    assert len(client().get_metric_history(run.info.run_id, "final/marginals/wasserstein")) == 1
    assert len(curve(folder / "tensorboard" / "seed-0" / "born, 1 %", "loss")) == 6
    client().delete_run(run.info.run_id)
    track_again(folder, ["mlflow"])
    (anew,) = mlflow_runs()
    assert anew.info.run_id != run.info.run_id
    assert "MLFLOW_ALLOW_FILE_STORE" in os.environ  # the test's own


@pytest.mark.parametrize("call", ["__init__", "record", "finish", "close"])
def test_a_tracker_that_fails_costs_one_warning(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MLflow, call, fails)
    told: list[str] = []
    folder = run_experiment(experiment(), tmp_path / "run", track=["mlflow"], reporter=Reporter(warning=told.append))
    assert len(told) == 1
    assert "mlflow is told no more of this run ([Errno 28] No space left on device)" in told[0]
    assert (folder / "results.json").exists()


def test_a_log_that_cannot_be_read_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(log: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tracking_module, "records_of", fails)
    told: list[str] = []
    folder = run_experiment(
        experiment(), tmp_path / "run", track=["tensorboard"], reporter=Reporter(warning=told.append)
    )
    (line,) = told
    assert line.startswith("tensorboard is told no more of this run ([Errno 5] Input/output error)")
    assert (folder / "results.json").exists()


def test_a_process_that_stands_still_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_mlflow, "PATIENCE", 0.3)
    Path("mlruns").mkdir()
    told: list[str] = []
    with held(Path("mlruns") / ".qgen.lock"):
        folder = run_experiment(
            experiment(), tmp_path / "run", track=["mlflow"], reporter=Reporter(warning=told.append)
        )
    (line,) = told
    assert ".qgen.lock: another process has held it for 0.3 s" in line
    assert (folder / "results.json").exists()


def test_a_server_that_is_away_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told: list[str] = []
    folder = run_experiment(experiment(), tmp_path / "run", track=["mlflow"], reporter=Reporter(warning=told.append))
    assert len(told) == 1
    assert told[0].startswith("mlflow is told no more of this run (")
    assert "secret" not in told[0]
    assert (folder / "results.json").exists()


def test_a_store_that_is_a_folder_is_allowed_for_the_client_alone(tmp_path: Path) -> None:
    run_experiment(experiment(), tmp_path / "run", track=["mlflow"])
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ
    assert json.loads((tmp_path / "run" / "tracking.json").read_text())["mlflow"]["store"].endswith("/mlruns")


def test_what_is_missing_is_said_before_anything_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="tracker 'wandb' is unknown"):
        run_experiment(experiment(), tmp_path / "run", track=["wandb"])
    monkeypatch.setattr(tracking_module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'qgen-hep\[tracking\]'"):
        check_trackers(["tensorboard"])
    assert not (tmp_path / "run").exists()


def test_a_log_is_read_whatever_a_crash_left_of_it(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert records_of(log) == []
    log.write_text('{"step": 2, "loss": 1}\n{"step": 4, "lo{"step": 2, "loss": 3}\n[1]\n{"step": 1, "loss": NaN}\n{"a"')
    assert [record["step"] for record in records_of(log)] == [1, 2]
    assert records_of(log)[1]["loss"] == 1
