"""The search for a model's settings."""

from __future__ import annotations

import builtins
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from experiments.cli import app
from experiments.config import load_config, resolve
from experiments.marked_page import marks, split
from experiments.run import load_dataset, run_experiment
from experiments.space import default_space, plain_space, read_space
from experiments.trained import Reporter
from experiments.tune import TRIALS, Trial, best_of, tune
from qgen.registry import generator_class, generators

GAME = {"kind": "adversarial", "discriminator": {"kind": "mlp", "hidden": [8]}}


def config(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "name": "searched",
        "dataset": {"kind": "muon", "n": 300, "features": ["energy", "pt"]},
        "models": {
            "gan": {
                "kind": "gan",
                "hidden": [8],
                "tune": {"learning_rate": {"low": 0.001, "high": 0.1, "log": True}, "hidden": [[4], [8]]},
                "objective": GAME,
                "training": {"steps": 3, "batch_size": 32},
            },
            "flow": {
                "kind": "flow",
                "transforms": 1,
                "hidden": [8],
                "bins": 4,
                "tune": {"training.learning_rate": [0.01, 0.000000001], "bins": {"low": 3, "high": 5}},
                "objective": {"kind": "nll"},
                "training": {"steps": 8},
            },
            "copula": {"kind": "copula"},
        },
        "evaluation": {"metrics": ["ks"], "bootstrap": 2},
    }
    return {**raw, **changes}


def lines(path: Path) -> list[dict[str, Any]]:
    """The trials of a file without their times."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in one.items() if "seconds" not in key} for one in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("search") / "out"
    return tune(resolve(config()), out=out, trials=4, metric="wasserstein").folder


def test_every_model_gets_the_same_number_of_trials_and_each_is_recorded(folder: Path) -> None:
    assert sorted(path.parent.name for path in folder.glob("*/trials.jsonl")) == ["flow", "gan"]
    for name in ("gan", "flow"):
        trials = lines(folder / name / "trials.jsonl")
        assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
        assert all(trial["status"] == "completed" and trial["score"] > 0 for trial in trials)
    gan = lines(folder / "gan" / "trials.jsonl")
    assert gan[0]["parameters"] == {"training.learning_rate": 0.01, "hidden": [8]}  # as the configuration stands
    assert all(0.001 <= trial["parameters"]["training.learning_rate"] <= 0.1 for trial in gan)
    assert {len(trial["parameters"]) for trial in gan} == {2}
    assert all(trial["n_parameters"] > 0 and trial["steps"] == 3 for trial in gan)
    flow = lines(folder / "flow" / "trials.jsonl")
    assert all(trial["parameters"]["bins"] in (3, 4, 5) for trial in flow)


def test_the_best_settings_are_a_configuration_that_runs(folder: Path, tmp_path: Path) -> None:
    found = load_config(folder / "best.yaml")
    assert found.name == "searched-tuned"
    assert list(found.models) == ["gan", "flow"]
    for name, model in found.models.items():
        best = min(lines(folder / name / "trials.jsonl"), key=lambda trial: trial["score"])["parameters"]
        assert model.training is not None
        assert model.training["learning_rate"] == best["training.learning_rate"]
        assert model.tune is None
    run_experiment(found, tmp_path / "run")
    assert (tmp_path / "run" / "results.json").is_file()


def test_a_search_that_was_interrupted_ends_as_if_it_were_not(folder: Path, tmp_path: Path) -> None:
    def kill(model: str, seed: int, steps: int) -> None:
        if model == "flow, trial 2 of 4":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(resolve(config()), out=tmp_path / "out", trials=4, metric="wasserstein", reporter=Reporter(stage=kill))
    with (tmp_path / "out" / "flow" / "trials.jsonl").open("a") as file:
        file.write('{"number": 1, "para')  # what a power cut leaves
    with pytest.raises(FileExistsError, match="go on with it by --resume"):
        tune(resolve(config()), out=tmp_path / "out", trials=4, metric="wasserstein")
    told: list[str] = []
    again = Reporter(stage=lambda model, seed, steps: told.append(model))
    tune(resolve(config()), out=tmp_path / "out", trials=4, metric="wasserstein", resume=True, reporter=again)
    assert told == [f"{name}, trial {k} of 4" for k in (2, 3, 4) for name in ("gan", "flow")][1:]
    for name in ("gan", "flow"):
        assert lines(tmp_path / "out" / name / "trials.jsonl") == lines(folder / name / "trials.jsonl")
    with pytest.raises(ValueError, match=r"the search has metric 'wasserstein', now it is 'ks'"):
        tune(resolve(config()), out=tmp_path / "out", trials=4, metric="ks", resume=True)


def test_test_events_are_never_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dataset = load_dataset(resolve(config()))
    split = type(dataset).test
    monkeypatch.setattr(type(dataset), "test", property(lambda self: pytest.fail("test events were asked for")))
    with pytest.raises(BaseException, match="test events were asked for"):
        _ = dataset.test
    tune(resolve(config()), ["flow"], out=tmp_path / "out", trials=2, metric="wasserstein")
    monkeypatch.setattr(type(dataset), "test", split)


def test_settings_that_cannot_work_are_failed_trials(tmp_path: Path) -> None:
    raw = config()
    section = {**raw["models"]["gan"], "n_parameters": 50, "tune": {"n_parameters": [50, 1]}}  # of which no gan has 1
    del section["hidden"]
    raw["models"] = {"gan": section}
    told: list[str] = []
    reporter = Reporter(warning=told.append)
    found = tune(resolve(raw), out=tmp_path / "out", trials=6, metric="wasserstein", reporter=reporter)
    trials = found.trials["gan"]
    failed = [trial for trial in trials if trial.score is None]
    assert failed
    assert all(trial.parameters == {"n_parameters": 1} and trial.status.startswith("failed: ") for trial in failed)
    assert told == [f"gan, trial {trial.number + 1}: {trial.status}" for trial in failed]
    best = best_of(trials)
    assert best is not None
    assert best.parameters == {"n_parameters": 50}
    section |= {"n_parameters": 1, "tune": {"n_parameters": [1]}}
    with pytest.raises(ValueError, match="every trial failed"):
        tune(resolve(raw), out=tmp_path / "none", trials=1, metric="wasserstein")


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    """Of two learning rates, one of which learns nothing, the other wins, however many trials fell on each."""
    raw = config()
    raw["dataset"]["n"] = 800
    section = raw["models"]["flow"]
    section["tune"] = {"learning_rate": [0.000000001, 0.02]}
    section["training"] = {"steps": 60, "learning_rate": 0.000000001}
    found = tune(resolve(raw), ["flow"], out=tmp_path / "out", trials=5)
    best = best_of(found.trials["flow"])
    assert best is not None
    assert best.parameters == {"training.learning_rate": 0.02}
    assert best.score is not None
    assert best.score < 0.7 * (found.trials["flow"][0].score or 0)


def test_every_trial_has_the_same_seconds(tmp_path: Path) -> None:
    found = tune(resolve(config()), ["gan"], out=tmp_path / "out", trials=2, seconds=0.3, metric="wasserstein")
    for trial in found.trials["gan"]:
        assert trial.cpu_seconds == pytest.approx(0.3, abs=0.25)
        assert trial.steps > 3
    best = load_config(tmp_path / "out" / "best.yaml").models["gan"].training
    assert best is not None
    assert best["seconds"] == 0.3


def test_the_command_prints_first_and_best(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config()))
    page = tmp_path / "page.md"
    page.write_text("\n".join(["Before.", *marks("searched"), "After."]))
    command = ["tune", str(path), "--trials", "2", "--metric", "wasserstein", "--page", str(page)]
    result = CliRunner().invoke(
        app, [*command, "--out", str(tmp_path / "out"), "--set", "models.flow.training.steps=2"]
    )
    assert result.exit_code == 0, result.output
    assert "flow, trial 2 of 2" in result.output
    assert "best.yaml" in result.output
    assert "validation events against training events" in result.output
    before, after = split(page, "searched")
    table = page.read_text().removeprefix(before).removesuffix(after)
    best = min(lines(tmp_path / "out" / "flow" / "trials.jsonl"), key=lambda trial: trial["score"])
    assert table.strip().startswith("`searched`: 2 trials of each model, their own steps each, judged by `wasserstein`")
    (row,) = [line for line in table.splitlines() if line.startswith("| flow | 2 | 0 | ")]
    rate = best["parameters"].get("training.learning_rate")
    assert ("as configured" if rate is None else f"learning_rate {rate:.3g}") in row
    beside = json.loads(page.with_suffix(".json").read_text())
    assert [trial["score"] for trial in beside["searched"]["trials"]["flow"]] == [
        trial["score"] for trial in lines(tmp_path / "out" / "flow" / "trials.jsonl")
    ]


@pytest.mark.parametrize("rate", [0.3, 0.02])
def test_the_first_trial_is_the_configuration_as_it_stands(rate: float, tmp_path: Path) -> None:
    raw = config()
    raw["models"] = {"flow": {**raw["models"]["flow"], "tune": {"learning_rate": {"low": 0.001, "high": 0.1}}}}
    raw["models"]["flow"]["training"]["learning_rate"] = rate
    experiment = resolve(raw)
    found = tune(experiment, out=tmp_path / "out", trials=2, metric="wasserstein")
    first, second = found.trials["flow"]
    # a rate outside of the space is no proposal of the search
    assert first.parameters == ({"training.learning_rate": rate} if rate <= 0.1 else {})
    assert 0.001 <= second.parameters["training.learning_rate"] <= 0.1
    alone = tune(experiment, out=tmp_path / "alone", trials=1, metric="wasserstein")
    assert alone.trials["flow"][0].score == first.score
    best = load_config(tmp_path / "alone" / "best.yaml").models["flow"]
    assert best.training == experiment.models["flow"].training


def test_some_models_alone_do_not_go_on_a_page(tmp_path: Path) -> None:
    page, path = tmp_path / "page.md", tmp_path / "config.yaml"
    page.write_text("\n".join(marks("searched")))
    path.write_text(yaml.safe_dump(config()))
    command = ["tune", str(path), "--model", "gan", "--out", str(tmp_path / "out"), "--page", str(page)]
    result = CliRunner().invoke(app, command)
    assert str(result.exception) == f"{page}: a page takes the search of all models; found --model 'gan'"
    assert not (tmp_path / "out").exists()


def test_a_page_without_marks_is_refused_before_anything_trains(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config()))
    result = CliRunner().invoke(app, ["tune", str(path), "--out", str(tmp_path / "out"), "--page", str(page)])
    assert str(result.exception) == f"{page}: '<!-- searched: begin -->' stands there 0 times; once is needed"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [kind for kind in generators() if generator_class(kind).trains])
def test_every_kind_has_a_space_of_settings_that_exist(kind: str) -> None:
    """Each end of each range is accepted by the model's class, its training or its objective."""
    for objective in ({"kind": "mmd"}, {"kind": "adversarial"}):
        space = default_space(kind, objective["kind"])
        assert "training.learning_rate" in space
        raw = config(models={"model": {"kind": kind, "tune": plain_space(space), "objective": objective}})
        assert resolve(raw).models["model"].tune == plain_space(space)


def test_a_model_of_a_given_size_keeps_it(tmp_path: Path) -> None:
    section = {"kind": "flow", "n_parameters": 300, "objective": {"kind": "nll"}, "training": {"steps": 1}}
    found = tune(resolve(config(models={"flow": section})), out=tmp_path / "out", trials=2, metric="wasserstein")
    assert {tuple(trial.parameters) for trial in found.trials["flow"]} == {("training.learning_rate",)}
    assert all(abs(trial.n_parameters - 300) <= 30 for trial in found.trials["flow"])


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name.split(".")[0] == "optuna":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"^tuning needs optuna; install it with: pip install 'qgen-hep\[tune\]'$"):
        tune(resolve(config()), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"models": ["gam"]}, "model 'gam' is unknown; did you mean 'gan'?"),
        ({"models": ["copula"]}, "model 'copula' is fitted when it is built"),
        ({"metric": "waserstein"}, "metric 'waserstein' is unknown; did you mean 'wasserstein'?"),
        ({"metric": "memorisation"}, "metric 'memorisation' compares with the training events"),
        ({"trials": 0}, "trials is 0; at least 1 is needed"),
        ({"seconds": -1.0}, "compute is -1 seconds; it must be positive and finite"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        tune(resolve(config()), out=tmp_path / "out", **options)
    assert "\n" not in str(caught.value)


def test_a_model_without_samples_is_refused_before_anything_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(generator_class("flow"), "no_samples", "it is too wide")
    line = "model 'flow' cannot be tuned, trials are judged by events: it is too wide"
    with pytest.raises(ValueError, match=f"^{line}$"):
        tune(resolve(config()), out=tmp_path / "out")
    assert not list((tmp_path / "out").rglob(TRIALS))


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ({"learning_rate": {"low": 1, "high": 0.1}}, "models.gan.tune.learning_rate: low 1 is not below high 0.1"),
        ({"learning_rate": {"low": 0.1}}, "models.gan.tune.learning_rate.high: found None; expected a finite number"),
        (
            {"learning_rate": {"low": -1, "high": 1}},
            r"gan.tune.learning_rate: training.learning_rate: .*found -1",
        ),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "on a logarithmic scale it must be positive"),
        ({"learning_rate": {"lo": 0.1, "high": 1}}, "key 'lo' is unknown; did you mean 'low'?"),
        ({"hiden": [[8]]}, "models.gan.tune.hiden: hiden: key 'hiden' is unknown; did you mean 'hidden'?"),
        ({"hidden": [[8], [0]]}, "models.gan.tune.hidden: hidden.0: .*found 0"),
        ({"training.steps": []}, "models.gan.tune.training.steps: empty; at least one value is needed"),
        ({}, "models.gan.tune: found {}; expected parameters"),
        (3, "models.gan.tune: found 3"),
    ],
)
def test_a_wrong_space_is_one_line_that_names_the_field(space: Any, line: str) -> None:
    raw = config()
    raw["models"]["gan"]["tune"] = space
    with pytest.raises(ValueError, match=line) as caught:
        resolve(raw)
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_train_takes_no_space() -> None:
    raw = config(models={"copula": {"kind": "copula", "tune": {"knots": [3]}}})
    with pytest.raises(ValueError, match="copula is fitted when it is built and takes no tune"):
        resolve(raw)


@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text(max_size=4),
        lambda x: (
            st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["low", "high", "log", "x"]), x, max_size=3)
        ),
        max_leaves=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_space_is_read_or_refused_in_one_line(section: Any) -> None:
    try:
        space = read_space(section, "tune")
    except ValueError as error:
        line = str(error)
        space = {}
    else:
        line = "tune"
    assert line.startswith("tune")
    assert "\n" not in line
    assert repr(space and read_space(plain_space(space), "tune")) == repr(space)


def test_the_best_trial_is_the_lowest_and_failures_are_none() -> None:
    def trial(score: float | None) -> Trial:
        return Trial(0, {}, score, None, 1, 1.0, 1.0, 1, "completed")

    assert best_of([trial(None)]) is None
    best = best_of([trial(None), trial(2.0), trial(0.0), trial(1.0)])
    assert best is not None
    assert math.isclose(best.score or 0.0, 0.0)
