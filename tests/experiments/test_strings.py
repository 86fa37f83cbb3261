from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.cli import main
from experiments.config import resolve
from experiments.experiment import Experiment, StringOptions
from experiments.judging import Judge
from experiments.report import write_markdown, write_report
from experiments.report.strings import strings_of
from experiments.report.style import looks, styled
from experiments.rescore import rescore
from experiments.run import Reporter, run_experiment
from experiments.scores import read_results
from experiments.strings import STRINGS, StringJudging, string_options
from experiments.tables import results_table
from qgen import load_run, registry
from qgen.bits import BitSets
from qgen.bits.cells import fit_cells
from qgen.bits.string_generator import StringGenerator
from qgen.data import Dataset, load_calorimeter
from qgen.random import normal

SCORES = {"one_body", "two_body", "string_mmd", "expected_profile", "expected_hits"}
"""What 200 events show of every data set here."""
FEW: dict[str, Any] = {"pairs": 40, "triples": 40, "strings": 40}
CALORIMETER = {"kind": "calorimeter", "grid": [8], "max_events": 800}
MODELS: dict[str, dict[str, Any]] = {
    "silent": {"kind": "silent"},
    "bitflip": {"kind": "bitflip", "bits": 1, "objective": {"kind": "own"}, "training": {"steps": 2}},
    "marginals": {"kind": "marginals"},
}


class Silent(StringGenerator):
    """Independent bits with true means whose expectation values carry noise, and that cannot be drawn."""

    trains: ClassVar[bool] = False
    no_samples = "the circuit is too wide"

    @classmethod
    def for_dataset(cls, dataset: Dataset, *, seed: int = 0, bits: int = 1) -> Self:
        cells, transform = fit_cells(dataset, bits, "linear", 0.005, "gray", "snake", "features")
        model = cls(cells, dataset.n_conditions, transform=transform, condition_transform=dataset.condition_transform)
        train = dataset.train
        of_bits = cells.encode(transform(train.samples, train.conditions)).double().mean(0)
        model.means = torch.nn.Parameter(1 - 2 * of_bits)
        return model

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.means = torch.nn.Parameter(torch.zeros(self.discretiser.n_bits, dtype=torch.float64))

    def string_values(self, strings: BitSets, condition: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        assert condition is not None
        assert condition.shape == (n, 1)
        exact = torch.stack([self.means[list(string)].prod() for string in strings])
        return exact[:, None] + 0.2 * normal((len(strings), n), generator, dtype=torch.float64)


@pytest.fixture(autouse=True, scope="module")
def silent() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._registered, "silent", Silent)
        yield


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not drawn, for tests of what stands around them."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: file.write(b""))


def experiment(models: dict[str, Any] | None = None, *, dataset: Any = None, **changes: Any) -> Experiment:
    evaluation = {"bootstrap": 2, "metrics": ["wasserstein", "correlation"], **changes.pop("evaluation", {})}
    raw = {"name": "small", "dataset": dataset or CALORIMETER, "models": models or MODELS, "evaluation": evaluation}
    return resolve({**raw, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    asked = experiment(seeds=[0, 1], evaluation={"strings": FEW})
    return run_experiment(asked, tmp_path_factory.mktemp("finished") / "run")


def test_a_model_without_samples_is_judged_by_strings_alone(finished: Path) -> None:
    models = load_run(finished).results["models"]
    assert {name for name in models["silent"]["metrics"] if "/" not in name} - {"three_body"} == SCORES
    assert {"wasserstein", *SCORES} <= set(models["bitflip"]["metrics"]) & set(models["marginals"]["metrics"])
    assert "one_body" not in models["discretised truth"]["metrics"]
    assert models["silent"]["status"] == (
        "completed; no samples, judged by expectation values alone: the circuit is too wide"
    )
    assert models["silent"]["metrics"]["two_body"]["value"] == pytest.approx(1, abs=0.2)
    assert abs(models["silent"]["metrics"]["one_body"]["value"]) < 0.02
    assert set(models["silent"]["metrics"]["string_mmd"]) == {
        "value",
        "uncertainty",
        "floor",
        "floor_uncertainty",
        "spread",
    }
    floors = {models[name]["metrics"]["two_body"]["floor"] for name in MODELS}
    assert len(floors) == 1
    assert not (load_run(finished).place("silent") / "samples.h5").exists()


def test_tables_and_pages_show_rows_that_lack_metrics(finished: Path, tmp_path: Path, blank: None) -> None:
    run = load_run(finished)
    results = read_results(run.results)
    assert results.generators["silent"].flags == "no samples"
    assert len(results.floors) == 1
    assert set(results.headline) >= SCORES
    assert results_table(run.results)
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "Expectation values of bits" in page
    text = write_markdown([run], tmp_path / "report.md").read_text()
    assert "| bandwidth | order 1 | order 2 |" in text
    assert "| order | truth vs truth | silent | bitflip | marginals |" in text


def test_figures_are_drawn(finished: Path) -> None:
    run = load_run(finished)
    with styled():
        found = strings_of(run, read_results(run.results), looks(dict.fromkeys(run.models, True)))
    assert found is not None
    assert [picture.description.split()[0] for picture in found.pictures] == ["Means,", "Mean", "Squared"]
    assert all(len(picture.source) > 20_000 for picture in found.pictures)


def test_numbers_behind_the_scores_are_kept(finished: Path) -> None:
    (group,) = json.loads((finished / "seed-1" / STRINGS).read_text())
    assert group["models"] == ["silent", "bitflip"]
    assert list(group["of"]) == list(MODELS)
    assert len(group["truth"]["expected_profile"]["values"]) == 8
    assert group["axis"] == "layer"
    assert [len(row) for row in group["orders"]] == [7] * len(group["scales"])
    silent, truth = group["of"]["silent"]["one_body"]["values"], group["truth"]["one_body"]["values"]
    # its bits are in another order
    assert silent == pytest.approx(truth, abs=0.2)
    assert max(truth) - min(truth) > 0.3


def test_events_cannot_be_asked_for(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="no events can be drawn: the circuit is too wide"):
        load_run(finished).sample("silent", 3)
    out = str(tmp_path / "events.h5")
    monkeypatch.setattr(sys, "argv", ["qgen", "sample", str(finished), "--model", "silent", "--out", out])
    with pytest.raises(SystemExit) as info:
        main()
    assert info.value.code == 2
    assert capsys.readouterr().err == "qgen: no events can be drawn: the circuit is too wide\n"


def test_a_run_is_resumed_with_the_same_scores(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    run_experiment(experiment(seeds=[0, 1], evaluation={"strings": FEW}), folder, resume=True)
    before, after = (load_run(one).results["models"]["silent"]["metrics"] for one in (finished, folder))
    assert before == after


def test_cells_of_different_kinds_have_names(tmp_path: Path) -> None:
    models = {
        "one": {"kind": "silent"},
        "two": {"kind": "silent", "bits": 2},
        "drawn": {**MODELS["bitflip"], "bits": 2},
        "marginals": {"kind": "marginals"},
    }
    run = load_run(run_experiment(experiment(models, evaluation={"strings": FEW}), tmp_path / "run"))
    metrics = {name: set(run.results["models"][name]["metrics"]) for name in models}
    assert {"two_body (8 bits)", "string_order (8 bits)/1"} <= metrics["one"]
    assert not any("(16 bits)" in name for name in metrics["one"])
    assert not any("(8 bits)" in name for name in metrics["two"] | metrics["drawn"])
    assert "two_body (16 bits)" in metrics["two"] & metrics["drawn"]
    assert {"two_body (8 bits)", "two_body (16 bits)", "wasserstein"} <= metrics["marginals"]
    assert "discrepancy (16 bits)" in write_markdown([run], tmp_path / "report.md").read_text()


def test_as_many_bits_in_different_cells_go_by_their_models(tmp_path: Path) -> None:
    models = {"one": {"kind": "silent"}, "other": {**MODELS["bitflip"], "edges": "quantile"}}
    run = load_run(run_experiment(experiment(models, evaluation={"strings": FEW}), tmp_path / "run"))
    assert "two_body (one)" in run.results["models"]["one"]["metrics"]
    assert "two_body (other)" in run.results["models"]["other"]["metrics"]


def test_bins_of_conditions_are_judged_too(tmp_path: Path) -> None:
    models = {name: MODELS[name] for name in ("silent", "marginals")}
    asked = experiment(models, evaluation={"strings": FEW, "bins": {"incident_energy": 2}})
    run = load_run(run_experiment(asked, tmp_path / "run"))
    metrics = run.results["models"]["silent"]["metrics"]
    labels = {name.partition(" @ ")[2] for name in metrics}
    assert len(labels) == 3
    assert all(f"one_body @ {label}" in metrics for label in labels if label)
    assert len({metrics[name]["floor"] for name in metrics if name.startswith("one_body")}) == 3
    assert len(json.loads((run.folder / "seed-0" / STRINGS).read_text())) == 1


def test_models_without_samples_only(tmp_path: Path, blank: None) -> None:
    run = load_run(run_experiment(experiment({"silent": MODELS["silent"]}), tmp_path / "run"))
    assert set(run.results["models"]["silent"]["metrics"]) >= SCORES
    assert write_report([run], tmp_path / "report.html").is_file()
    assert write_markdown([run], tmp_path / "report.md").is_file()


def test_what_is_switched_off_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    asked = experiment({name: MODELS[name] for name in ("silent", "marginals")}, evaluation={"strings": False})
    run = load_run(run_experiment(asked, tmp_path / "run", reporter=Reporter(warning=told.append)))
    silent = run.results["models"]["silent"]
    assert silent["metrics"] == {}
    assert silent["status"] == "not judged, no samples: the circuit is too wide"
    assert told == ["silent, seed 0: not judged, no samples: the circuit is too wide"]
    assert "one_body" not in run.results["models"]["marginals"]["metrics"]


def test_when_strings_are_judged() -> None:
    class Drawn(Silent):
        no_samples = ""

    events = load_calorimeter(max_events=300)
    models = {"silent": Silent.for_dataset(events), "drawn": Drawn.for_dataset(events)}

    def found(strings: Any, names: list[str], dataset: Dataset = events) -> StringOptions | None:
        evaluation = experiment(evaluation={"strings": strings}).evaluation
        return string_options(evaluation, {name: models[name] for name in names}, dataset)

    assert found(None, ["drawn"]) is None
    assert found(None, ["drawn", "silent"]) == StringOptions()
    assert found(False, ["silent"]) is None
    assert found(True, ["drawn"]) == StringOptions()
    assert found(FEW, ["drawn"]) == StringOptions(**FEW)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"strings": {"pairs": 0}}}, "evaluation.strings"),
        ({"evaluation": {"strings": {"scales": [-1.0]}}}, "evaluation.strings"),
        ({"evaluation": {"strings": {"bandwidths": [1.0]}}}, "evaluation.strings"),
        ({"evaluation": {"strings": {"scales": [1e200]}}}, "evaluation.strings.scales: scale is 1e\\+200"),
        (
            {"models": {"marginals": MODELS["marginals"]}, "evaluation": {"strings": True}},
            "evaluation.strings: no model of this experiment is on bits",
        ),
    ],
)
def test_what_cannot_be_judged_is_said_before_the_work(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as info:
        run_experiment(experiment(**changes), tmp_path / "run")
    assert "\n" not in str(info.value)
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_model_on_another_backend_is_judged_by_strings_too(tmp_path: Path) -> None:
    models = {
        "born": {
            "kind": "born_machine",
            "bits": 1,
            "layers": 1,
            "objective": {"kind": "mmd"},
            "training": {"steps": 2},
        }
    }
    dataset = {"kind": "calorimeter", "grid": [4], "max_events": 600}
    folder = run_experiment(experiment(models, dataset=dataset, evaluation={"strings": FEW}), tmp_path / "run")
    found = rescore(folder, {"exact": "statevector"})
    assert not found.failures
    run = load_run(folder).results["models"]["born"]["metrics"]
    assert "one_body" in run
    exact = found.results["exact"].models["born"].metrics
    assert set(exact) == set(run)
    for name, score in exact.items():
        assert (score.value, score.floor) == pytest.approx((run[name]["value"], run[name]["floor"])), name


def test_judging_again_gives_the_same_floor(finished: Path) -> None:
    run = load_run(finished)
    judge = Judge.of(run.dataset, experiment(evaluation={"strings": FEW}).evaluation)
    judging = StringJudging.of_run(run, judge, 0)
    assert judging is not None
    floor = judging.groups[0].floor.scores["two_body"].value
    assert floor == run.results["models"]["silent"]["seeds"]["0"]["metrics"]["two_body"]["floor"]


@pytest.mark.parametrize(
    ("strings", "line"),
    [
        ({"strings": 0}, "strings: .*greater than or equal to 10 .found 0"),
        ({"strings": 10**9}, "strings: .*less than or equal to 100000 .found 1000000000"),
        ({"scales": [-1]}, "scales.0: .*greater than 0 .found -1"),
    ],
)
def test_impossible_options_are_named(strings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=rf"^evaluation.strings.StringOptions.{line}"):
        experiment(evaluation={"strings": strings})
