"""Every configuration of the lab goes from its data to its table: one step of every model on few events."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from experiments.config import config_names, load_config, resolve
from experiments.experiment import Experiment
from experiments.run import run_experiment
from experiments.scores import COMPLETED, read_results
from qgen.metrics import METRICS
from qgen.registry import generator_class, generators
from qgen.run import load_run

JUDGED = {"bootstrap": 2, "max_events": 20}
NUMBER_OF_EVENTS = {"calorimeter": "max_events"}  # the option of that name; elsewhere it is n


def small(name: str) -> Experiment:
    """The experiment with one seed, few events, one step of every training, few qubits where they take seconds."""
    raw = load_config(name).plain()
    raw["seeds"] = [0]
    raw["dataset"][NUMBER_OF_EVENTS.get(raw["dataset"]["kind"], "n")] = 400
    raw["evaluation"] |= JUDGED
    if not set(raw["evaluation"]["metrics"] or ()) <= METRICS.keys():  # groups of them take their time
        raw["evaluation"]["metrics"] = None
    for model in raw["models"].values():
        if "training" in model:
            model["training"] |= {"steps": 1}
        if model["kind"] == "iqp" and model.get("bits"):
            model["bits"] = min(model["bits"], 2)  # an exact draw of 24 qubits takes seconds
        if model.get("voxels"):
            model["voxels"] = min(model["voxels"], 128)
    return resolve(raw)


@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("name", config_names())
def test_every_model_trains_and_is_judged(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = small(name)
    monkeypatch.setattr("experiments.run.rehearse", lambda *_: None)  # the run is as short as its rehearsal
    run = load_run(run_experiment(experiment, tmp_path / "run"))
    scores = read_results(run.results).models
    for model, config in experiment.models.items():
        assert scores[model].status.startswith(COMPLETED), model
        if run.generator(model).no_samples:
            assert any(metric.startswith("string_mmd") for metric in scores[model].metrics), model
        else:
            assert scores[model].metrics.keys() >= set(experiment.evaluation.metrics or ()), model
        assert all(math.isfinite(score.value) for score in scores[model].metrics.values()), model
        assert run.training(model)["steps"] == (0 if config.training is None else 1), model


@pytest.mark.parametrize(("name", "left_out"), [("cern-8px", set()), ("cern-muon", {"dual_pqc"})])
def test_the_large_tables_have_every_quantum_kind_that_fits_the_data(name: str, left_out: set[str]) -> None:
    experiment = load_config(name)
    quantum = {kind for kind in generators() if generator_class(kind).__module__.startswith("qgen.models.")}
    assert {model.generator.kind for model in experiment.models.values()} >= quantum - left_out
    assert len(experiment.seeds) == 5
