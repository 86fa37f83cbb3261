"""Each of the main metrics sees the fault it exists for; what the study writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from experiments.cli import app
from experiments.marked_page import marks
from experiments.studies.faults import FAULTS, PERFECT
from experiments.studies.sensitivity import Settings, sensitivity
from experiments.studies.sensitivity_view import NAME, SEEN, sensitivity_markdown, write_page
from qgen.data import Dataset, load_calorimeter, muon_events

MUST_SEE = {
    "8 pixels": {
        "shifted response": {"separation", "energy_response"},
        "smeared profile": {"mmd", "classifier_auc", "longitudinal_profile"},
        "lost correlation": {"correlation", "precision", "classifier_auc", "energy_resolution"},
        "wrong conditional dependence": {"energy_resolution", "separation"},
        "dropped mode": {"mode_dropping", "recall", "prd_f8"},
        "missing tail": {"rare_events"},
        "too noisy": {"precision", "density", "energy_resolution", "classifier_auc"},
        "memorised training set": {"memorisation"},
        "collapsed": {"support", "support_ssim", "recall", "coverage", "prd_f8", "classifier_auc"},
        "duplicated events": {"support", "support_ssim", "coverage", "recall"},
    },
    "muon events": {
        "lost correlation": {"correlation", "precision", "prd_auc", "classifier_auc"},
        "too noisy": {"precision", "wasserstein", "classifier_auc"},
        "memorised training set": {"memorisation"},
        "collapsed": {"support", "recall", "coverage"},
    },
}
"""By source and fault what sees it."""


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str, str], float]:
    cells: dict[tuple[str, str, str], float] = {}
    for source, of_faults in MUST_SEE.items():
        metrics = sorted({name for names in of_faults.values() for name in names})
        faults = (PERFECT, *of_faults)
        results = sensitivity(Settings(sources=(source,), faults=faults, metrics=metrics, events=600, seeds=1))
        assert results["refused"] == {}
        cells |= {(source, row["fault"], row["metric"]): row["mean"] for row in results["rows"]}
    return cells


@pytest.mark.parametrize(("source", "fault"), [(s, f) for s, faults in MUST_SEE.items() for f in faults])
def test_a_fault_is_seen_by_the_metrics_for_it(found: dict[Any, float], source: str, fault: str) -> None:
    assert {m: found[source, fault, m] for m in MUST_SEE[source][fault] if found[source, fault, m] < SEEN} == {}


def test_events_without_a_fault_are_at_the_floor(found: dict[Any, float]) -> None:
    assert {key: value for key, value in found.items() if key[1] == PERFECT and value > SEEN} == {}


def test_only_memorisation_sees_memorised_events(found: dict[Any, float]) -> None:
    seen = {key[2] for key, value in found.items() if key[1] == "memorised training set" and value > SEEN}
    assert seen == {"memorisation"}


@pytest.fixture(scope="module")
def samples() -> tuple[Dataset, Dataset]:
    return load_calorimeter(grid=(4, 4), max_events=900), muon_events(n=900)


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_events_are_events(fault: str, samples: tuple[Dataset, Dataset]) -> None:
    for whole in samples:
        pool, training = whole.take(range(700)), whole.take(range(700, 900))
        events = FAULTS[fault](pool, training, 200, 0)
        assert len(events) == 200
        assert torch.equal(events.samples, FAULTS[fault](pool, training, 200, 0).samples)
        assert torch.isfinite(events.observables().samples).all()
        changed = not torch.equal(events.samples, pool.samples[:200]) or not torch.equal(
            events.conditions, pool.conditions[:200]
        )
        assert changed == (fault != PERFECT)


def test_what_smearing_and_shuffling_keep(samples: tuple[Dataset, Dataset]) -> None:
    images = samples[0].take(range(300))
    smeared = FAULTS["smeared profile"](images, images, 300, 0)
    torch.testing.assert_close(smeared.samples.sum(1), images.samples.sum(1))  # energy is kept
    shuffled = FAULTS["lost correlation"](images, images, 300, 0)
    torch.testing.assert_close(shuffled.samples.sort(0).values, images.samples.sort(0).values)  # so are marginals


def test_the_command_writes_results_figure_and_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = marks(NAME)
    page.write_text(f"# Page\n\nBefore.\n\n{begin}\nstale\n{end}\n\nAfter.\n")
    words = [
        "study",
        "sensitivity",
        "--out",
        str(tmp_path),
        "--page",
        str(page),
        "--sources",
        "8 pixels",
        "--seeds",
        "1",
    ]
    words += ["--metrics", "precision,memorisation", "--faults", "none,memorised training set", "--events", "200"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert {(row["metric"], row["fault"]) for row in results["rows"]} == {
        (metric, fault) for metric in ("precision", "memorisation") for fault in ("none", "memorised training set")
    }
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.startswith("# Page\n\nBefore.")
    assert text.endswith("After.\n")
    assert "stale" not in text
    assert "| `memorisation` | " in text
    again = page.read_text()
    write_page(page, results)
    assert page.read_text() == again


def test_what_is_refused_is_written() -> None:
    results = {
        "settings": {"sources": ["8 pixels"], "faults": ["none"], "events": 100, "seeds": 1},
        "rows": [{"source": "8 pixels", "metric": "ks", "fault": "none", "excess": [None], "mean": None}],
        "refused": {"kl, 8 pixels, collapsed": "one line"},
    }
    text = sensitivity_markdown(results)
    assert "| `ks` | - |" in text
    assert "- kl, 8 pixels, collapsed: one line" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": ("pixels",)}, "source 'pixels' is unknown"),
        ({"faults": ("none", "bad")}, "fault 'bad' is unknown"),
        ({"faults": ()}, "sources or faults is empty"),
        ({"metrics": ("kss",)}, "metric 'kss' is unknown"),
        ({"events": 10}, "events is 10; at least 100"),
        ({"seeds": 0}, "seeds is 0; at least 1"),
        ({"bootstrap": 1}, "bootstrap is 1; at least 2"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        Settings(**options)


def test_too_few_events_are_refused() -> None:
    with pytest.raises(ValueError, match="^events is 5000; 8 pixels has 5400, enough for 1080$"):
        sensitivity(Settings(sources=("8 pixels",), events=5000, metrics=("ks",)))
