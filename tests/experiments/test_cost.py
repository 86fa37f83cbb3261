"""What a run tells of the price of its models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from circuits import Circuit, Gate
from experiments.config import resolve
from experiments.cost import circuit_cost
from experiments.report import write_markdown, write_report
from experiments.run import run_experiment
from experiments.scores import read_results
from experiments.trained import Reporter
from qgen import load_run
from qgen.models.on_backend import OnBackend
from qgen.statefile import load_state

STEPS = 6
CONFIG: dict[str, Any] = {
    "name": "priced",
    "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"]},
    "models": {
        "style": {
            "kind": "style",
            "layers": 1,
            "objective": {"kind": "correlation"},
            "training": {"steps": STEPS, "batch_size": 32, "validate_every": 100, "log_every": 2},
        },
        "modes": {
            "kind": "cv_generator",
            "layers": 1,
            "cutoff": 7,
            "objective": {"kind": "mmd"},
            "training": {"steps": 2, "batch_size": 16},
        },
        "flow": {"kind": "flow", "objective": {"kind": "nll"}, "training": {"steps": 2, "batch_size": 32}},
        "copula": {"kind": "copula"},
    },
    "seeds": [0, 1],
    "evaluation": {"bootstrap": 2, "metrics": ["wasserstein"]},
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(resolve(CONFIG), tmp_path_factory.mktemp("runs") / "run")


def test_every_trained_model_has_its_cost_for_each_seed_and_on_average(folder: Path) -> None:
    models = load_run(folder).results["models"]
    always = {"n_parameters", "train_seconds", "train_cpu_seconds", "samples_per_second"}
    for name, model in models.items():
        for cost in (model["cost"], *(seed["cost"] for seed in model["seeds"].values())):
            assert always <= set(cost), name
            assert cost["train_cpu_seconds"] > 0
            assert cost["samples_per_second"] > 0
    assert set(models["flow"]["cost"]) == always
    seconds = [models["flow"]["seeds"][seed]["cost"]["train_cpu_seconds"] for seed in ("0", "1")]
    assert models["flow"]["cost"]["train_cpu_seconds"] == pytest.approx(sum(seconds) / 2)


def test_circuits_are_counted_row_by_row(folder: Path) -> None:
    run = load_run(folder)
    cost, circuit = run.results["models"]["style"]["cost"], run.generator("style").circuit
    assert cost["qubits"] == circuit.n_wires
    assert cost["gates"] == len(circuit.gates)
    assert cost["two_qubit_gates"] == circuit.n_two_qubit_gates
    assert cost["depth"] == circuit.depth
    # two events to see that the model can be differentiated, a batch in each step, and at the end a validation of all
    # its events and those of the spread
    validation = len(run.dataset.validation)
    assert cost["train_executions"] == 2 + STEPS * 32 + validation + min(256, validation)
    assert cost["train_shots"] == 0
    assert cost["sample_executions"] == len(run.dataset.test)
    modes = run.results["models"]["modes"]["cost"]
    assert modes["modes"] == 2
    assert modes["gates"] > modes["two_mode_gates"] > 0
    assert modes["train_executions"] >= 2 * 16


def test_what_was_run_before_an_interruption_counts(folder: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(record: dict[str, float]) -> None:
        if record["step"] == 4:
            raise Killed

    config = resolve({**CONFIG, "models": {"style": CONFIG["models"]["style"]}, "seeds": [0]})
    with pytest.raises(Killed):
        run_experiment(config, tmp_path / "run", reporter=Reporter(record=kill))
    checkpoint = load_state(tmp_path / "run" / "seed-0" / "style" / "checkpoint.safetensors")
    assert checkpoint["state"]["step"] == 2
    run_experiment(config, tmp_path / "run", resume=True)
    quiet, broken = (
        load_run(where).results["models"]["style"]["seeds"]["0"]["cost"]["train_executions"]
        for where in (folder, tmp_path / "run")
    )
    assert broken == quiet + 2  # the model is looked at once more


def test_tables_show_the_price_beside_the_metrics(folder: Path, tmp_path: Path) -> None:
    run = load_run(folder)
    text = write_markdown([run], tmp_path / "run.md").read_text()
    header = next(line for line in text.splitlines() if line.startswith("| model"))
    assert "| qubits | gates (two) | depth | circuits run |" in header
    style = next(line for line in text.splitlines() if line.startswith("| style"))
    assert "| 2 |" in style
    page = write_report([run], tmp_path / "run.html").read_text()
    assert "<th>circuits run</th>" in page
    assert "2 modes" in page


def test_a_run_without_prices_is_still_read(folder: Path, tmp_path: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    for model in results["models"].values():
        del model["cost"]
    assert read_results(results).models["style"].cost == {}


def test_circuits_of_a_model_that_run_one_after_the_other_add_up() -> None:
    class Two(OnBackend):
        def __init__(self) -> None:
            self.first = Circuit(2, [Gate("H", [0]), Gate("CNOT", [0, 1])])
            self.second = Circuit(3, [Gate("H", [0])])
            self._hidden = Circuit(9, [])

    assert circuit_cost(Two()) == {"qubits": 3, "gates": 3, "two_qubit_gates": 1, "depth": 3}
