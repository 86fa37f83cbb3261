"""The benchmark: its configurations, its page and its numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import benchmark as module
from experiments.benchmark import LARGE, benchmark, unfit
from experiments.benchmark_page import BEGIN, END, by_rank
from experiments.cli import app
from experiments.config import load_config
from experiments.scores import read_results
from experiments.trained import Reporter
from qgen.registry import generator_class, generators

pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture(scope="module")
def folder(few_trees: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmark")
    result = CliRunner().invoke(app, ["benchmark", "--small", "--out", str(out), "--seconds", "0.1"])
    assert result.exit_code == 0, result.output
    assert "about 1 minute of one core" in result.output
    return out


def test_the_page_has_every_comparison_and_every_model(folder: Path) -> None:
    text = (folder / "benchmark.md").read_text()
    for heading in ("## small", "### Who is nearest to the truth", "### Equal size", "### Equal time"):
        assert f"\n{heading}\n" in text
    for model in load_config("benchmark-small").models:
        assert f"\n| {model} |" in text
    assert "| born machine | 36 | flow, 42 parameters | 42 |" in text
    assert "Each training had 0.1 seconds of processor time" in text
    assert "- `dual_pqc`: feature 'energy' is bounded above by its transform" in text
    assert "Best of each family: " in text


def test_the_numbers_are_those_of_the_runs(folder: Path) -> None:
    numbers = json.loads((folder / "benchmark.json").read_text())["benchmark-small"]
    for key, name in (("as tuned", "benchmark-small"), ("equal time", "benchmark-small-equal-time")):
        results = json.loads((folder / name / "results.json").read_text())
        assert set(numbers[key]["models"]) == set(results["models"])
        for model, found in numbers[key]["models"].items():
            assert found["n_parameters"] == results["models"][model]["n_parameters"]
            whole = {metric for metric in results["models"][model]["metrics"] if "/" not in metric}
            assert set(found["metrics"]) == whole
            for metric, score in found["metrics"].items():
                assert score["value"] == results["models"][model]["metrics"][metric]["value"]
                assert {"uncertainty", "floor", "floor_uncertainty", "spread"} <= set(score)
    born = numbers["as tuned"]["models"]["born machine"]["cost"]
    assert born["qubits"] == 6
    assert born["train_executions"] > 0


def test_every_training_at_equal_time_had_the_same(folder: Path) -> None:
    models = json.loads((folder / "benchmark-small-equal-time" / "results.json").read_text())["models"]
    for name in ("born machine", "flow", "flow, 42 parameters"):
        assert models[name]["cost"]["train_cpu_seconds"] == pytest.approx(0.1, abs=0.2), name
    assert "copula" not in models


def test_nothing_is_done_twice_and_text_by_hand_stays(folder: Path) -> None:
    page = folder / "benchmark.md"
    before = page.read_text()
    page.write_text(before.replace(f"{BEGIN}\n", f"{BEGIN}\nThe flow wins.\n"))
    told: list[str] = []
    benchmark(folder, small=True, seconds=0.1, reporter=Reporter(stage=lambda *stage: told.append(str(stage))))
    assert told == []
    text = page.read_text()
    assert text.split(BEGIN)[1].split(END)[0].strip() == "The flow wins."
    assert text.split(END)[1] == before.split(END)[1]


def test_an_interrupted_benchmark_goes_on(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(model: str, seed: int, steps: int) -> None:
        if (model, seed) == ("flow", 1):
            raise Killed

    with pytest.raises(Killed):
        benchmark(tmp_path, small=True, seconds=0.1, reporter=Reporter(stage=kill))
    trained = tmp_path / "benchmark-small" / "seed-0" / "flow" / "training.json"
    written = trained.stat().st_mtime_ns
    assert benchmark(tmp_path, small=True, seconds=0.1).is_file()
    assert trained.stat().st_mtime_ns == written


def test_the_ranking_is_by_the_distance_from_a_perfect_model() -> None:
    def metrics(*values: float) -> dict[str, dict[str, float]]:
        rest = {"uncertainty": 0.01, "floor": 0.0, "floor_uncertainty": 0.01}
        names = ("wasserstein", "ks")
        return {name: {"value": value, **rest} for name, value in zip(names, values, strict=True)} | {
            "classifier_auc": {"value": 0.5 + values[0], **rest, "floor": 0.5}
        }

    rest = {"kind": "flow", "n_parameters": 1, "train_seconds": 1.0, "sample_seconds": 1.0, "status": "completed"}
    models = {
        "worst": {**rest, "metrics": metrics(0.3, 0.3)},
        "best": {**rest, "metrics": metrics(0.1, 0.1)},
        "middle": {**rest, "metrics": metrics(-0.2, 0.1)},
    }
    ranks = by_rank(read_results({"name": "x", "seeds": [0], "models": models}))
    # of wasserstein -0.2 is further from 0 than 0.1; of ks two share the ranks 1 and 2
    assert ranks == {"best": pytest.approx(3.5 / 3), "middle": pytest.approx(5.5 / 3), "worst": 3.0}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.md", "# my notes", "is there and no page of a benchmark"),
        ("notes.md", f"{BEGIN} only", "is there and no page of a benchmark"),
        ("notes.md", f"{END}{BEGIN}", "is there and no page of a benchmark"),
        ("notes.json", "", "the page's name must end with .md"),
    ],
)
def test_a_file_that_is_no_page_is_kept(name: str, text: str, message: str, tmp_path: Path) -> None:
    page = tmp_path / name
    page.write_text(text)
    with pytest.raises(ValueError, match=message):
        benchmark(tmp_path / "runs", small=True, page=page)
    assert page.read_text() == text
    assert not (tmp_path / "runs").exists()


def test_a_time_that_is_none_is_refused_before_anything_trains(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compute is -1"):
        benchmark(tmp_path / "runs", small=True, seconds=-1)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", LARGE)
def test_the_large_benchmark_has_five_seeds_and_every_kind_that_can_do_the_data(name: str) -> None:
    experiment = load_config(name)
    assert len(experiment.seeds) == 5
    there = {model.generator.kind for model in experiment.models.values()}
    reasons = unfit(experiment)
    assert there | set(reasons) == set(generators())
    assert all(reasons.values()), reasons
    assert any(generator_class(kind).runs_circuits for kind in there)


def test_expected_times_are_told_for_all() -> None:
    assert set(module.EXPECTED_MINUTES) == {*module.LARGE, *module.SMALL}
