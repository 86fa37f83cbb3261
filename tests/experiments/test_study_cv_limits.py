from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import poisson
from typer.testing import CliRunner

from circuits.cv import simulator_for
from experiments.cli import app
from experiments.studies.cv_cutoff import cutoff_rows
from experiments.studies.cv_limits import Probe, Settings, mean_distance, summary
from qgen.data import load_calorimeter
from qgen.models.cv_generator import CVGenerator
from qgen.random import new_generator, normal


def test_displaced_vacuum_loses_the_tail_of_a_poisson_distribution() -> None:
    values = normal((20, 2), new_generator(0), dtype=torch.float64)
    rows = cutoff_rows(values, [0.6], [3, 5], reference=24, layers=1, active=0.0)
    photons = 0.36 * values.square().sum(1).numpy()
    for row in rows:
        tail = poisson.sf(row["cutoff"] - 1, photons)
        assert row["lost"] == pytest.approx(tail.mean(), rel=1e-6)
        assert row["lost_most"] == pytest.approx(tail.max(), rel=1e-6)
        assert row["too_much"] == pytest.approx((tail > 0.01).mean())
        assert row["photons_most"] == pytest.approx(photons.max())
    assert rows[1]["error"] < 0.5 * rows[0]["error"]
    assert rows[0]["reference_lost"] < 1e-9


def test_mean_distance_is_scipys() -> None:
    values = normal((50, 3), new_generator(1), dtype=torch.float64)
    assert mean_distance(values).item() == pytest.approx(pdist(values.numpy()).mean())


def test_a_probe_sees_energy_and_what_a_higher_cutoff_changes() -> None:
    data = load_calorimeter(grid=(2,), max_events=200)
    model = CVGenerator.for_dataset(data, layers=1, cutoff=4, seed=0)
    probe = Probe(model, data.validation, seed=0)
    calm = probe.look(model)
    assert calm["lost"] < 0.02
    assert (probe.events(model, 4) - probe.events(model, 8)).abs().max() < 0.5
    with torch.no_grad():
        model.amplitude += 1.5
    driven = probe.look(model)
    assert driven["photons"] > calm["photons"] + 0.5
    assert driven["lost"] > 0.3
    high = simulator_for(model.program, cutoff=30, basis=model.basis, warn_above=None)
    with torch.no_grad():
        exact = high.run(model.program, model.weights, model.displacements(probe.latent, probe.condition))
    assert exact.mean_photons().sum(-1).mean() > 4  # two modes of amplitude 1.5, of which the cutoff leaves too little
    assert (probe.events(model, 4) - probe.events(model, 8)).abs().max() > 0.5


def test_the_command_writes_results_and_a_figure(tmp_path: Path) -> None:
    words = ["study", "cv-limits", "--out", str(tmp_path), "--pixels", "2", "--cutoffs", "3,6", "--trained", "3"]
    done = CliRunner().invoke(app, [*words, "--seeds", "1", "--steps", "3"])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "results.json").read_text())
    assert {row["normalisation"] for row in found["cutoff"]} == {"log", "minmax"}
    assert [(row["cutoff"], row["penalty"]) for row in summary(found["trainings"])] == [(3, 0.0), (3, 10.0)]
    assert all(row["floor"] < row["wasserstein_trained"] for row in found["trainings"])
    assert [entry["step"] for entry in found["trainings"][0]["history"]] == [0, 1, 2, 3]
    assert (tmp_path / "cv-limits.png").read_bytes().startswith(b"\x89PNG")
    assert "distance of each seed" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": (0.1, -1)}, r"strengths is \[0.1, -1\]; positive"),
        ({"cutoffs": ()}, r"cutoffs is \[\]; integers"),
        ({"trained": (1,)}, r"trained is \[1\]; integers"),
        ({"penalties": (float("nan"),)}, r"penalties is \[nan\]; numbers"),
        ({"events": 5}, "events is 5; at least 20"),
    ],
)
def test_faults(options, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        Settings(**options)
