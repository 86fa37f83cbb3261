from __future__ import annotations

import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from experiments.cli import main
from experiments.config import load_config, resolve
from experiments.run import run_experiment
from experiments.scores import Score
from experiments.studies.conditions import ConditionsStudy, Point, excess, growth, study_conditions
from experiments.studies.conditions_view import conditions_figure, conditions_tables, corner
from qgen import load_run
from qgen.data import simulate_muon, write_events
from qgen.metrics import evaluate

RAW: dict[str, Any] = {
    "name": "small",
    "dataset": {"kind": "muon", "n": 900, "features": ["energy", "eta"], "beam_energies": [50.0, 100.0, 200.0]},
    "models": {
        "born": {
            "kind": "born_machine",
            "bits": 2,
            "layers": 1,
            "objective": {"kind": "mmd"},
            "training": {"steps": 2},
        },
        "copula": {"kind": "copula"},
    },
    "seeds": [0, 1],
    "evaluation": {"bootstrap": 2, "metrics": ["ks"]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(resolve(RAW), tmp_path_factory.mktemp("study") / "run")


@pytest.fixture(scope="module")
def study(run: Path) -> ConditionsStudy:
    return study_conditions(
        run, [400.0, 75.0], n=300, metrics=["wasserstein", "correlation"], bootstrap=2, show=[75.0], out=run / "out"
    )


def test_every_model_is_asked_at_trained_energies_and_the_others(study: ConditionsStudy) -> None:
    assert study.trained == (50.0, 100.0, 200.0)
    assert [(point.energy, point.where) for point in study.points] == [
        (50.0, "trained"),
        (75.0, "between"),
        (100.0, "trained"),
        (200.0, "trained"),
        (400.0, "beyond"),
    ]
    distances = [point.distance for point in study.points]
    assert distances == pytest.approx([0, math.log(100 / 75), 0, 0, math.log(2)], abs=1e-12)
    for point in study.points:
        assert set(point.scores) == {"born", "copula", "discretised truth"}
        assert set(point.seeds["born"]) == {"0", "1"}
        assert {"wasserstein", "wasserstein/eta", "correlation"} <= set(point.scores["born"])


def test_the_copula_is_at_its_floor_where_it_was_trained_and_off_beyond(study: ConditionsStudy) -> None:
    found = growth(study.points, "copula", "wasserstein")
    assert abs(found["trained"]) < 0.1
    assert found["beyond"] > found["trained"] + 0.15
    # at 400 GeV it gives what it gives at 200: eta is short of ln 2, which is 0.55 of its spread
    at_400 = study.points[-1].scores["copula"]["wasserstein/eta"].value
    assert 0.4 < at_400 < 0.7


def test_the_value_is_that_of_evaluate_on_new_events_of_the_model(run: Path) -> None:
    """Away from the floor the metric between independent samples of the same two distributions is the same."""
    found = study_conditions(run, [400.0], n=1000, metrics=["wasserstein"], bootstrap=5)
    truth = simulate_muon(1000, 400.0, seed=11).select("energy", "eta")
    with pytest.warns(UserWarning, match="is 400"):
        model = load_run(run).sample("copula", 1000, condition=[400.0], seed=5)
    ours = found.points[-1].scores["copula"]["wasserstein/eta"]
    theirs = evaluate(truth, model, metrics=["wasserstein"], reference=truth)["wasserstein/eta"].value
    assert abs(ours.value - theirs.value) < 5 * math.hypot(ours.uncertainty, theirs.uncertainty)


def test_growth_is_the_least_squares_line_through_the_trained_mean() -> None:
    rng = np.random.default_rng(0)
    points = []
    for where, distances in (("trained", [0.0, 0.0]), ("between", [0.3, 0.4]), ("beyond", [0.5, 0.7, 1.1])):
        for distance in distances:
            score = Score(value=rng.uniform(0.5, 0.9), uncertainty=0.1, floor=0.48, floor_uncertainty=0.1)
            points.append(Point(1.0, where, distance, 9, {"m": {"classifier_auc": score}}, {}))  # type: ignore[arg-type]
    found = growth(points, "m", "classifier_auc")
    values = np.array([point.scores["m"]["classifier_auc"].value - 0.5 - 0.02 for point in points])
    assert found["trained"] == pytest.approx(values[:2].mean())
    assert found["between"] == pytest.approx(values[2:4].mean())
    expected = np.linalg.lstsq(np.array([[0.5], [0.7], [1.1]]), values[4:] - values[:2].mean(), rcond=None)[0]
    assert found["slope_beyond"] == pytest.approx(expected[0])
    assert growth(points[:2], "m", "classifier_auc")["slope_beyond"] is None
    assert growth(points, "nobody", "classifier_auc")["trained"] is None


def test_excess_counts_from_the_perfect_value() -> None:
    score = Score(value=0.3, uncertainty=0, floor=0.52, floor_uncertainty=0)
    assert excess(score, "classifier_auc") == pytest.approx(0.18)
    assert excess(score, "ks/eta") == pytest.approx(-0.22)


def test_the_same_seed_gives_the_same_numbers_and_new_truth_another_one(run: Path) -> None:
    first, again, other = (
        study_conditions(run, [], n=50, metrics=["ks"], bootstrap=2, seed=seed).plain()["energies"]
        for seed in (3, 3, 4)
    )
    assert first == again != other


def test_results_tables_and_figures(run: Path, study: ConditionsStudy, tmp_path: Path) -> None:
    stored = json.loads((run / "out" / "results.json").read_text())
    assert stored == json.loads(json.dumps(study.plain()))
    assert stored["growth"]["copula"]["wasserstein"]["slope_beyond"] > 0.1
    stream = io.StringIO()
    Console(file=stream, width=140).print(conditions_tables(study))
    printed = stream.getvalue()
    for word in ("truth vs truth", "75 GeV", "between", "beyond", "discretised truth", "at 400 GeV it extrapolates"):
        assert word in printed
    figure = conditions_figure(study)
    assert len(figure.axes) == 2 * 2
    figure.savefig(tmp_path / "conditions.png")
    drawn = corner(study, 75.0)
    assert len(drawn.axes) == 4
    correlation = np.corrcoef(study.points[1].shown.truth.samples.T)[0, 1]
    assert f"truth  {correlation:+.2f}" in [text.get_text() for text in drawn.axes[1].texts]
    with pytest.raises(ValueError, match="no events are kept at 100 GeV"):
        corner(study, 100.0)


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["qgen", "study", "conditions", *arguments])
    with pytest.raises(SystemExit) as info:
        main()
    return int(info.value.code or 0)


def test_the_command(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(run), "--at", "30", "--n", "50", "--bootstrap", "2", "--metric", "ks", "--show", "30"]
    assert call(given, monkeypatch) == 0
    shown = capsys.readouterr()
    assert "small: ks" in shown.out
    assert shown.err == f"{run}/studies/conditions: results.json, conditions.png\n"
    written = {path.name for path in (run / "studies" / "conditions").iterdir()}
    assert written == {"results.json", "conditions.png", "corner-30.png"}


def test_truth_from_a_file(run: Path, tmp_path: Path) -> None:
    events = simulate_muon(300, [60.0, 75.0, 50.0, 100.0, 200.0], seed=4)
    write_events(tmp_path / "truth.h5", events)
    found = study_conditions(run, [75.0], n=500, truth=tmp_path / "truth.h5", metrics=["ks"], bootstrap=2, show=[75.0])
    assert [point.n for point in found.points] == [30] * 4
    shown = found.points[1].shown
    assert shown is not None
    rows = {tuple(row) for row in events.select("energy", "eta").samples[events.column("beam_energy") == 75].tolist()}
    assert {tuple(row) for row in shown.truth.samples.tolist()} < rows
    with pytest.raises(ValueError, match=r"truth.h5: 0 events within 2 % of 400 GeV; at least 40 .* holds 50 to 200"):
        study_conditions(run, [400.0], truth=tmp_path / "truth.h5")


@pytest.fixture(scope="module")
def showers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = {
        "name": "showers",
        "dataset": {"kind": "calorimeter", "grid": [4], "energy_window": [20e3, 60e3], "max_events": 300},
        "models": {"copula": {"kind": "copula"}},
        "evaluation": {"bootstrap": 2, "metrics": ["ks"]},
    }
    return run_experiment(resolve(raw), tmp_path_factory.mktemp("showers") / "run")


def test_showers_are_asked_in_windows_of_a_file(showers: Path) -> None:
    from qgen.data.calorimeter import SAMPLE

    found = study_conditions(
        showers, [40e3, 90e3], truth=SAMPLE, window=0.1, n=100, metrics=["wasserstein"], bootstrap=2, show=[90e3]
    )
    assert [point.where for point in found.points] == ["trained", "beyond"]
    assert found.points[1].distance == pytest.approx(math.log(90e3 / found.trained[1]))
    near = found.points[1].shown.truth.conditions
    assert ((near / 90e3).log().abs() <= 0.1).all()
    assert len(torch.unique(near)) > 1
    with pytest.raises(ValueError, match="events are not simulated here; give a file of true events"):
        study_conditions(showers, [40e3])


def test_mistakes_are_one_line(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, line in (
        (["--at", "-3"], "at is -3; a positive, finite beam_energy is needed"),
        (["--at", "9000"], "beam_energy is 9000 GeV; allowed are 10 to 5000 GeV"),
        (["--at", "75", "--metric", "kss"], "kss"),
        (["--at", "75", "--truth", "nowhere.h5"], "nowhere.h5"),
    ):
        assert call([str(run), *arguments], monkeypatch) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert line in error
    with pytest.raises(ValueError, match="n is 3; at least 20 events"):
        study_conditions(run, [75.0], n=3)


def test_a_model_of_nonsense_is_named_and_costs_the_others_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qgen.models import BornMachine

    def nonsense(self: BornMachine, n: int, *_: object) -> torch.Tensor:
        return torch.full((n, self.n_features), torch.nan)

    monkeypatch.setattr(BornMachine, "_sample", nonsense)
    point = study_conditions(run, [], n=50, metrics=["ks"], bootstrap=2).points[0]
    assert "not judged: samples row 0" in point.seeds["born"]["0"]["status"]
    assert "born" not in point.scores
    assert "ks" in point.scores["copula"]


def test_the_configuration_that_comes_with_the_lab() -> None:
    experiment = load_config("conditional-muon")
    machine, fast = (experiment.models[name].generator.options for name in ("born machine", "born machine, fast"))
    assert (machine["encoding_rate"], fast["encoding_rate"]) == (0.1, 1.0)
    assert {**fast, "encoding_rate": 0.1} == machine


def blocks(language: str) -> list[str]:
    """The blocks of the manual's page in a language."""
    page = (Path(__file__).parents[2] / "docs" / "models" / "conditional_born_machine.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def test_the_page_of_the_manual_is_right() -> None:
    (config,) = blocks("yaml")
    ours = load_config("conditional-muon").models["born machine"]
    assert resolve(yaml.safe_load(config)).models["born machine"] == ours
    (example,) = blocks("python")
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["events"].shape == (1000, 3)
    with pytest.warns(UserWarning, match="is 400: BornMachine was trained from 50 to 200 and extrapolates"):
        names["machine"].sample(1, torch.tensor([400.0]))
