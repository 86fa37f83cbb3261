"""Backends of a configuration's evaluation: models are judged there as well, without being trained again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli import main
from experiments.config import load_config, resolve
from experiments.rescore import rescore
from experiments.rescored import rescorings
from experiments.run import Reporter, run_experiment
from qgen.run import load_run

NOISY = {"kind": "density_matrix", "noise": {"depolarizing": 0.05, "readout": 0.05}}
RAW = """
name: small
dataset: {kind: muon, n: 400, features: [energy, pt]}
evaluation:
  bootstrap: 2
  metrics: [wasserstein, correlation]
  backends:
    5 %: &noisy {kind: density_matrix, noise: {depolarizing: 0.05, readout: 0.05}}
    exact: statevector
  models_on_backends: [born]
models:
  born: &born
    kind: born_machine
    bits: 1
    layers: 1
    conditional: false
    objective: {kind: mmd}
    training: &training {steps: 2}
  born, 5 %: {<<: *born, backend: *noisy}
  marginals: {kind: marginals}
"""


def raw(**evaluation: Any) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(RAW)
    content["evaluation"] |= evaluation
    return content


def refusal(content: dict[str, Any]) -> str:
    try:
        resolve(content)
    except ValueError as error:
        return str(error)
    return ""


def test_models_are_judged_on_the_backends_of_the_evaluation(tmp_path: Path) -> None:
    run = load_run(run_experiment(resolve(raw()), tmp_path / "run"))
    found = rescorings(run)
    assert set(found) == {"5 %", "exact"}
    assert list(found["5 %"].models) == ["born"]
    # the exact backend gives the numbers of the run again, noise does not
    assert found["exact"].models["born"].seeds["0"]["metrics"] == run.results["models"]["born"]["seeds"]["0"]["metrics"]
    noisy = found["5 %"].models["born"]
    assert noisy.distances["distance to exact"].value > 0.01
    assert found["5 %"].backend.config is not None
    assert found["5 %"].backend.config["noise"] == NOISY["noise"]
    # the same as asking for it afterwards
    again = rescore(run, {"again": NOISY}, ["born"]).results["again"].models["born"]
    assert again.seeds["0"]["metrics"] == noisy.seeds["0"]["metrics"]
    # the model with that backend of its own was trained on it
    assert load_run(run.folder).config["models"]["born, 5 %"]["backend"]["noise"] == NOISY["noise"]


def test_what_was_judged_is_not_judged_again_when_the_run_is_resumed(tmp_path: Path) -> None:
    stages: list[str] = []
    reporter = Reporter(stage=lambda model, seed, steps: stages.append(model))
    folder = run_experiment(resolve(raw()), tmp_path / "run", reporter=reporter)
    assert {"born on 5 %", "born on exact"} <= set(stages)
    (folder / "backends" / "exact" / "results.json").unlink()
    stages.clear()
    run_experiment(load_config(folder), folder, resume=True, reporter=reporter)
    assert "born on exact" in stages
    assert "born on 5 %" not in stages


def test_a_run_without_further_backends_is_as_it_was() -> None:
    content = raw()
    del content["evaluation"]["backends"], content["evaluation"]["models_on_backends"]
    experiment = resolve(content)
    assert experiment.plain()["evaluation"] == {"metrics": ["wasserstein", "correlation"]} | {
        "bootstrap": 2,
        "max_events": None,
    }
    assert experiment.models_on_backends == []


def test_all_models_with_circuits_are_meant_if_none_is_named() -> None:
    experiment = resolve(raw(models_on_backends=None))
    assert experiment.models_on_backends == ["born", "born, 5 %"]
    assert resolve(yaml.safe_load(experiment.to_yaml())) == experiment


@pytest.mark.parametrize(
    ("evaluation", "line"),
    [
        ({"backends": {"x": {"kind": "statevektor"}}}, "evaluation.backends.x.kind: unknown kind 'statevektor'"),
        (
            {"backends": {"x": {**NOISY, "shots": 0}}},
            "evaluation.backends.x.shots is 0; an integer of at least 1 is needed",
        ),
        (
            {"backends": {"x": {"kind": "density_matrix", "noise": {"readout": 2}}}},
            "evaluation.backends.x.noise.readout: found 2; a probability in [0, 1] is needed",
        ),
        ({"backends": {"x": 3}}, "evaluation.backends.x: found 3; expected a kind, or keys and values"),
        (
            {"backends": {"a/b": "statevector"}},
            "evaluation.backends: 'a/b' is no name for a backend; it names a folder",
        ),
        ({"backends": ["statevector"]}, "evaluation.backends: expected keys and values"),
        ({"backends": {}}, "evaluation.models_on_backends: there are no evaluation.backends"),
        (
            {"models_on_backends": ["bron"]},
            "evaluation.models_on_backends: model 'bron' is unknown; did you mean 'born'?",
        ),
        ({"models_on_backends": ["marginals"]}, "evaluation.models_on_backends: 'marginals' runs no circuits"),
        ({"models_on_backends": []}, "evaluation.models_on_backends: list should have at least 1 item"),
        ({"backend": {}}, "evaluation.backend: key 'backend' is unknown; did you mean 'backends'?"),
    ],
)
def test_mistakes_are_named_in_one_line(evaluation: dict[str, Any], line: str) -> None:
    found = refusal(raw(**evaluation))
    assert found.startswith(line)
    assert "\n" not in found


def test_backends_without_a_model_that_runs_circuits_are_refused() -> None:
    content = raw(models_on_backends=None) | {"models": {"marginals": {"kind": "marginals"}}}
    with pytest.raises(ValueError, match=r"^evaluation\.backends: no model of this experiment runs circuits$"):
        resolve(content)


def test_a_backend_that_cannot_run_a_model_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    noise = {"readout": [0.01, 0.02]}
    content = raw(backends={"two wires": {"kind": "density_matrix", "noise": noise}})
    content["models"]["born"]["bits"] = 2
    with pytest.raises(
        ValueError, match=r"^evaluation\.backends\.two wires: born: noise\.readout is given for 2 wires"
    ):
        run_experiment(resolve(content), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_an_override_changes_one_place_and_not_what_shares_an_alias_with_it(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(RAW)
    models = load_config(path, ["models.born.training.steps=7"]).models
    steps = [(models[name].training or {})["steps"] for name in ("born", "born, 5 %")]
    assert steps == [7, 2]


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists)))
def test_any_backends_are_accepted_or_refused_in_one_line(backends: dict[str, Any]) -> None:
    line = refusal(raw(backends=backends))
    assert line.startswith("evaluation.") or not line
    assert "\n" not in line


def test_the_command_shows_what_was_judged_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(RAW)
    folder = str(tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["qgen", "run", str(path), "--out", folder, "--no-report"])
    with pytest.raises(SystemExit) as info:
        main()
    assert info.value.code == 0
    printed = capsys.readouterr().out
    assert "small on other backends" in printed
    assert "5 %" in printed
    results = json.loads((tmp_path / "run" / "backends" / "5 %" / "results.json").read_text())
    assert results["backend"]["role"] == "noisy"
