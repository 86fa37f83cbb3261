"""``qgen run`` under ``torchrun``: one run, whose trainings several processes take together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.cli import main
from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.run import Reporter, run_experiment
from processes import together
from qgen import load_run
from qgen.statefile import load_state

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def experiment() -> Experiment:
    training = {"steps": 12, "batch_size": 31, "validate_every": 5, "log_every": 1}
    return resolve(
        {
            "name": "small",
            "dataset": {"kind": "muon", "n": 300, "features": ["energy", "pt"]},
            "models": {
                "flow": {
                    "kind": "flow",
                    "hidden": [8],
                    "transforms": 1,
                    "objective": {"kind": "nll"},
                    "training": training,
                },
                "style": {"kind": "style", "layers": 1, "objective": {"kind": "mmd"}, "training": training},
                "marginals": {"kind": "marginals"},
            },
            "evaluation": {"bootstrap": 2, "metrics": ["wasserstein"]},
            "checkpoint_every": 4,
        }
    )


def interrupt(record: dict[str, float]) -> None:
    if record["step"] == 7:
        raise KeyboardInterrupt


@pytest.fixture
def qgen(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[int], Any]]:
    """The command by two processes: their exit statuses and what they said."""

    def called(*words: str) -> tuple[list[int], Any]:
        monkeypatch.setattr(sys, "argv", ["qgen", *words])
        capfd.readouterr()
        status = [status for status, _ in together(main)]
        return status, capfd.readouterr()

    return called


def test_two_processes_go_on_with_the_run_of_one_and_end_as_it_would(qgen: Any, tmp_path: Path) -> None:
    run_experiment(experiment(), tmp_path / "quiet")
    with pytest.raises(KeyboardInterrupt):
        run_experiment(experiment(), tmp_path / "run", reporter=Reporter(record=interrupt))
    status, said = qgen("run", str(tmp_path / "run"), "--resume", "--no-report")
    assert status == [0, 0], said.err
    assert said.out.count("truth vs truth") == 1
    assert said.err.count("marginals, seed 0") == 1
    found, expected = load_run(tmp_path / "run"), load_run(tmp_path / "quiet")
    for model in ("flow", "style"):
        left, right = (load_state(run.place(model) / "generator.safetensors")["weights"] for run in (found, expected))
        assert all(torch.allclose(left[name], right[name], rtol=0, atol=1e-9, equal_nan=True) for name in left)
        assert [record["step"] for record in found.training(model)["history"]] == list(range(1, 13))
        lines = (found.place(model) / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == 12  # one process wrote them


def test_a_mistake_is_said_once_by_all_processes(qgen: Any, tmp_path: Path) -> None:
    status, said = qgen("run", str(tmp_path / "none.yaml"))
    assert status == [2, 2]
    assert "Traceback" not in said.err
    (line,) = [line for line in said.err.splitlines() if line.startswith("qgen: ")]
    assert "none.yaml" in line


def test_a_machine_elsewhere_is_refused(qgen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.trained.put_on_backend", lambda *rest: True)
    (tmp_path / "small.yaml").write_text(experiment().to_yaml())
    status, said = qgen("run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "run"))
    assert status == [2, 2]
    assert "qgen: models.flow.backend: a machine elsewhere is asked by one process; run without torchrun" in said.err
