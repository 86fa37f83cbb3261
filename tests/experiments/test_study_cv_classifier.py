from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from experiments.cli import app
from experiments.studies.cv_classifier import FAKES, Settings, cv_classifier, showers, summary
from qgen.random import new_generator


def test_the_command_writes_results_and_a_figure(tmp_path: Path) -> None:
    words = ["study", "cv-classifier", "--out", str(tmp_path), "--pixels", "3", "--fakes", "uniform", "--cutoffs", "4"]
    done = CliRunner().invoke(app, [*words, "--layers", "1", "--events", "100", "--seeds", "2", "--steps", "20"])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "results.json").read_text())
    assert [row["classifier"] for row in found["summary"]] == [
        "logistic regression",
        "perceptron, equal size",
        "circuit, cutoff 4",
        "perceptron, large",
    ]
    linear, equal, circuit, large = found["summary"]
    assert linear["parameters"] == 4
    assert abs(equal["parameters"] - circuit["parameters"]) <= 3
    assert large["accuracy"] > 0.8
    assert circuit["norm_lost_most"] > circuit["norm_lost"] > 0
    assert linear["norm_lost"] is None
    assert (tmp_path / "cv-classifier.png").read_bytes().startswith(b"\x89PNG")
    assert "circuit, cutoff 4" in done.output


def test_fakes_are_what_they_are_called() -> None:
    known = showers(3)
    assert torch.allclose(known.std(0), torch.ones(3, dtype=known.dtype), atol=0.1)
    uniform, shuffled = (FAKES[name](known, new_generator(0)) for name in ("uniform", "shuffled"))
    assert torch.equal(shuffled.sort(0).values, known.sort(0).values)
    assert abs(torch.corrcoef(shuffled.T)[0, 1]) < 0.05 < abs(torch.corrcoef(known.T)[0, 1])
    assert (uniform >= known.amin(0)).all()
    assert (uniform <= known.amax(0)).all()
    middle = (known.amin(0) + known.amax(0)) / 2
    assert ((uniform.mean(0) - middle) / (known.amax(0) - known.amin(0))).abs().max() < 0.02


def test_a_summary_gives_the_error_of_the_mean() -> None:
    row = {"pixels": 3, "fakes": "uniform", "classifier": "a", "cutoff": None, "parameters": 4, "auc": 0.5}
    rows = [{**row, "accuracy": a, "uncertainty": 0.02, "training_accuracy": 0.7} for a in (0.5, 0.6, 0.7)]
    (three,) = summary(rows)
    (one,) = summary(rows[:1])
    assert three["accuracy"] == pytest.approx(0.6)
    assert three["accuracy_uncertainty"] == pytest.approx(0.1 / 3**0.5)
    assert (one["accuracy_uncertainty"], one["auc_uncertainty"]) == (0.02, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": (1,)}, r"pixels is \[1\]; integers of at least 2"),
        ({"fakes": ("noise",)}, "fakes is noise; allowed are uniform, shuffled"),
        ({"embedding": "angle"}, "embedding is 'angle'; allowed are displacement, squeezing"),
        ({"events": 3}, "events is 3; at least 4"),
    ],
)
def test_faults(options, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        Settings(**options)


def test_more_events_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^events is 3000; at most 2700 are there with as many others$"):
        cv_classifier(Settings(pixels=(3,), events=3000))
