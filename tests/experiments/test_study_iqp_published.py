"""The published rows at 16 bits: discrepancies against sums over pairs, the rows of a run, and the two evaluations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from experiments.cli import app
from experiments.config import load_config, resolve
from experiments.run import run_experiment
from experiments.studies.iqp_published import PUBLISHED, discrepancy, iqp_published, iqp_published_markdown
from qgen import load_run
from qgen.data.binary import blob_probabilities, ising_probabilities

RAW: dict[str, Any] = {
    "name": "small",
    "dataset": {"kind": "blobs", "n": 500, "noise": 0.1},
    "models": {
        "flips": {"kind": "bitflip", "bits": 1, "weight": 1, "objective": {"kind": "own"}, "training": {"steps": 2}},
        "machine": {"kind": "rbm", "bits": 1, "hidden": 2, "objective": {"kind": "own"}, "training": {"steps": 2}},
    },
    "seeds": [0, 1],
    "evaluation": {"bootstrap": 2, "metrics": ["correlation"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(resolve(RAW), tmp_path_factory.mktemp("study") / "run")


def test_a_discrepancy_is_the_sum_over_pairs_of_strings() -> None:
    rng = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 32, dtype=torch.float64, generator=rng).softmax(1)
    bits = (torch.arange(32)[:, None] >> torch.arange(4, -1, -1)) & 1
    kernel = (-(bits[:, None] != bits).sum(2) / (2 * 1.3**2)).exp()
    assert discrepancy(p, q, 1.3) == pytest.approx(float((p - q) @ kernel.double() @ (p - q)), rel=1e-6)
    assert discrepancy(p, p, 1.3) == 0


@pytest.mark.parametrize(("kind", "probabilities"), [("blobs", blob_probabilities), ("ising", ising_probabilities)])
def test_random_bits_have_the_published_discrepancy_at_the_scale_taken_here(kind, probabilities) -> None:
    published, truth = PUBLISHED[kind], probabilities()
    uniform = torch.full_like(truth, 1 / len(truth))
    value, error = published.first["random"]
    assert abs(discrepancy(uniform, truth, published.scale) - value) < 2 * error
    # and not at the one under which it is listed
    assert abs(discrepancy(uniform, truth, published.label) - value) > 10 * error


def test_rows_of_a_run(folder: Path) -> None:
    found = iqp_published(load_run(folder), truths=10)
    rows = {row["kind"]: row for row in found["rows"]}
    assert [row["name"] for row in found["rows"][:2]] == ["flips", "machine"]
    assert found["scales"] == [math.sqrt(2.44949), 2.44949]
    assert [len(values) for values in rows["bitflip"]["values"]] == [2, 2]
    assert rows["bitflip"]["values"][0][0] != rows["bitflip"]["values"][0][1]
    assert rows["random"]["values"][0][0] > rows["independent"]["values"][0][0] > 0
    # 300 events learned by heart: the mean is (1 - the mean likeness of two events) / 300
    truth, scale = blob_probabilities(0.1), found["scales"][0]
    expected = (1 - discrepancy(truth, torch.zeros_like(truth), scale)) / 300
    memory, unbiased = (torch.tensor(rows[kind]["values"][0]) for kind in ("memory", "truth"))
    assert abs(float(memory.mean()) / expected - 1) < 0.2
    assert abs(float(unbiased.mean())) < 4 * float(unbiased.std()) / math.sqrt(10)


def test_the_probabilities_of_a_model_are_in_the_order_of_the_strings(folder: Path) -> None:
    """What is drawn from it has the discrepancy that is computed from its probabilities, within fluctuations."""
    run = load_run(folder)
    model = run.generator("machine", 0)
    bits = model.sample(20_000, generator=torch.Generator().manual_seed(0)).long()
    number = (bits << torch.arange(15, -1, -1)).sum(1)
    drawn = torch.bincount(number, minlength=65536) / 20_000
    found = iqp_published(run, truths=2)["rows"][1]["values"][0][0]
    assert discrepancy(drawn, blob_probabilities(0.1), math.sqrt(2.44949)) == pytest.approx(found, rel=0.05)


def test_the_table_has_every_row_and_goes_between_the_marks_of_a_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- small: begin -->\n<!-- small: end -->\n")
    done = CliRunner().invoke(app, ["study", "iqp-published", str(folder), "--truths", "2", "--page", str(page)])
    assert done.exit_code == 0
    results = json.loads((folder / "studies" / "iqp-published" / "results.json").read_text())
    table = iqp_published_markdown(results)
    assert table in page.read_text()
    rows = [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]]
    assert rows[:3] == ["flips", "machine", "energy-based model"]
    assert rows[3:] == ["independent bits", "random bits", "true events learned by heart", "truth against truth"]
    assert "12.491 ± 0.274" in table.splitlines()[2]
    assert "random bits" in done.output


def test_other_events_and_other_models_are_refused_in_one_line(tmp_path: Path, folder: Path) -> None:
    evaluation = {"bootstrap": 2, "metrics": ["ks"]}
    gamma = {"name": "g", "dataset": {"kind": "gamma", "n": 200}, "models": {"m": {"kind": "marginals"}}}
    other = run_experiment(resolve({**gamma, "evaluation": evaluation}), tmp_path / "gamma")
    with pytest.raises(ValueError, match="the events are 'gamma'; published rows are of blobs and ising$"):
        iqp_published(load_run(other))
    raw = {**RAW, "models": {"m": {"kind": "marginals"}}, "evaluation": evaluation}
    with pytest.raises(ValueError, match="model 'm': IndependentMarginals has no bits; leave it out of the run$"):
        iqp_published(load_run(run_experiment(resolve(raw), tmp_path / "marginals")))
    wide = {"kind": "rbm", "bits": 2, "hidden": 2, "objective": {"kind": "own"}, "training": {"steps": 1}}
    raw = {**RAW, "models": {"m": wide}, "seeds": [0]}
    with pytest.raises(ValueError, match="model 'm': its features have 2, .* bits; 1 each is needed$"):
        iqp_published(load_run(run_experiment(resolve(raw), tmp_path / "wide")))


@pytest.mark.parametrize("name", ["iqp-blobs", "iqp-ising"])
def test_the_experiments_are_those_of_the_publication(name: str) -> None:
    experiment = load_config(name)
    assert experiment.dataset.kind in PUBLISHED
    assert len(experiment.seeds) >= 5
    kinds = [model.generator.kind for model in experiment.models.values()]
    assert kinds[0] == "iqp"
    assert {"bitflip", "rbm"} <= set(kinds)
