"""The study ``amplification``: worth where it is known, what a training sees, what the command writes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from experiments.cli import app
from experiments.marked_page import marks
from experiments.studies.amplification import MODELS, Settings, amplification_study, training_set
from experiments.studies.amplification_sources import SOURCES, fit_two_peaks, two_peaks_worth
from experiments.studies.amplification_view import NAME, _number, amplification_markdown
from qgen.data import Dataset, Feature
from qgen.registry import generator_class

PEAK = {"double peak": 20}


@cache
def controls(source: str) -> dict[tuple[str, int], dict[str, Any]]:
    found = amplification_study(
        Settings(
            sources=(source,),
            models=("copula",),
            events=(100,),
            factors=(1, 20),
            trainings=40 if source == "double peak" else 10,
            quantiles={source: 20 if source == "double peak" else 4},
            truth=50_000,
        )
    )
    return {(row["model"], row["size"]): row for row in found["rows"]}


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_known_is_found(source: str) -> None:
    known = {key: row for key, row in controls(source).items() if row["expected"] is not None}
    assert len(known) == (7 if source == "double peak" else 5)
    assert known["training events", 100]["expected"] == 100
    assert known["true events", 2000]["expected"] == 2000
    assert known["resampled", 2000]["expected"] == pytest.approx(1 / (1 / 100 + 1 / 2000))
    for row in known.values():
        assert row["worth"] == pytest.approx(row["expected"], rel=0.3)
        assert row["low"] < row["worth"] < row["high"]
        assert row["factor"] == pytest.approx(row["worth"] / 100)


def test_smoothing_amplifies_and_the_true_family_more() -> None:
    found = controls("double peak")
    assert found["resampled", 2000]["worth"] < found["copula", 2000]["low"]
    assert found["copula", 2000]["high"] < found["fit of two peaks", 2000]["low"]


def test_cells_of_the_double_peak_are_of_equal_probability() -> None:
    edges = SOURCES["double peak"].cells(20, 0).edges[0][0].numpy()
    cdf = (stats.norm.cdf(edges, -4) + stats.norm.cdf(edges, 4)) / 2
    np.testing.assert_allclose(np.diff(cdf, prepend=0, append=1), 0.05, atol=1e-12)
    events = SOURCES["double peak"].events(4000, 1).samples[:, 0]
    assert stats.kstest(events.numpy(), lambda x: (stats.norm.cdf(x, -4) + stats.norm.cdf(x, 4)) / 2).pvalue > 0.01


def test_worth_of_a_fit_is_what_numerical_slopes_say() -> None:
    cells = SOURCES["double peak"].cells(10, 0)
    edges = np.concatenate([[-np.inf], cells.edges[0][0].numpy(), [np.inf]])

    def shares(share: float, m1: float, m2: float, s1: float, s2: float) -> np.ndarray:
        return np.diff(share * stats.norm.cdf(edges, m1, s1) + (1 - share) * stats.norm.cdf(edges, m2, s2))

    true, n, step = np.array([0.5, -4, 4, 1, 1]), 500, 1e-5
    variance = np.zeros(10)
    for i, of_parameter in enumerate((0.25, 2, 2, 1, 1)):
        up, down = true.copy(), true.copy()
        up[i], down[i] = true[i] + step, true[i] - step
        variance += ((shares(*up) - shares(*down)) / (2 * step)) ** 2 * of_parameter / n
    assert two_peaks_worth(cells, n) == pytest.approx(0.1 * 0.9 / variance.mean(), rel=1e-4)


def test_a_fit_finds_the_peaks() -> None:
    drawn = fit_two_peaks(SOURCES["double peak"].events(1000, 0).samples, 0)(20_000)[:, 0]
    for side in (-1, 1):
        peak = drawn[drawn.sign() == side]
        assert peak.mean().item() == pytest.approx(4 * side, abs=0.2)
        assert peak.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("n", [20, 100, 1000, 1230])
def test_a_training_sees_all_its_events_and_no_others(n: int) -> None:
    events = Dataset(torch.arange(n, dtype=torch.float64)[:, None], (Feature("x"),))
    at_once, held_out = training_set(events, held_out=False), training_set(events, held_out=True)
    seen = torch.cat([held_out.train.samples, held_out.validation.samples])
    assert len(held_out.train) == 4 * n // 5
    for samples in (at_once.train.samples, seen):
        assert torch.equal(samples.sort(0).values, events.samples)
    torch.testing.assert_close(at_once.transform(events.samples, events.conditions).mean(), torch.tensor(0.0).double())


@pytest.mark.parametrize("source", SOURCES)
def test_models_have_about_the_same_number_of_parameters(source: str) -> None:
    dataset = training_set(SOURCES[source].events(100, 0), held_out=True)
    sizes = {
        name: generator_class(model.kind).for_dataset(dataset, seed=0, **model.options[source]).n_parameters
        for name, model in MODELS.items()
        if name != "histogram"
    }
    target = {"double peak": 50, "muon events": 100}[source]
    assert {name: size for name, size in sizes.items() if abs(size - target) > 0.1 * target} == {}


def test_the_command_writes_results_figure_and_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = marks(NAME)
    page.write_text(f"# Page\n\nBefore.\n\n{begin}\nstale\n{end}\n\nAfter.\n")
    words = ["study", "amplification", "--out", str(tmp_path), "--page", str(page), "--sources", "double peak"]
    words += ["--models", "copula,autoregressive", "--events", "40", "--factors", "1,10", "--trainings", "2"]
    done = CliRunner().invoke(app, [*words, "--quantiles", "10"])
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["cells"] == {"double peak": 10}
    assert len(results["rows"]) == 1 + 5 * 2
    assert (tmp_path / "amplification.png").read_bytes().startswith(b"\x89PNG")
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.startswith("# Page\n\nBefore.")
    assert text.endswith("After.\n")
    assert "stale" not in text
    assert "### Double peak, 40 training events, 10 cells" in text
    assert "| autoregressive | " in text


def test_an_interval_without_end_is_written() -> None:
    row = {"source": "double peak", "events": 100, "model": "flow", "parameters": 46, "size": 1000, "expected": None}
    row |= {"worth": 2345.6, "low": 56.7, "high": None, "factor": 23.456}
    results = {"settings": {"sources": ["double peak"], "events": [100], "factors": [10]}, "cells": PEAK, "rows": [row]}
    assert "| flow | 46 | 2,350 (57-∞) |  | 23 (0.57-∞) |" in amplification_markdown(results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": ("peak",)}, "source 'peak' is unknown"),
        ({"sources": ()}, "sources is empty; name at least one"),
        ({"models": ("flows",)}, "model 'flows' is unknown"),
        ({"factors": (0,)}, r"factors is \[0\]; positive numbers"),
        ({"events": ()}, r"events is \[\]; multiples of 10"),
        ({"events": (105,)}, r"events is \[105\]; multiples of 10"),
        ({"trainings": 1}, "trainings is 1; at least 2"),
        ({"quantiles": {"double peak": 20}}, "quantiles is 0 for muon events; at least 2"),
        ({"events": (10,)}, "events is 10; double peak have 20 cells, which need at least as many"),
        ({"events": (50,)}, "events is 50; muon events have 64 cells, which need at least as many"),
        ({"truth": 90_000}, "truth is 90000; muon events have 64 cells, which need at least 640, and up to 100000"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        Settings(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": (100, 100)}, r"events is \[100, 100\]; each only once"),
        ({"sources": ("double peak", "double peak")}, "sources is .*; each only once"),
        ({"factors": (10, 1)}, r"factors is \[10, 1\]; the largest comes last"),
    ],
)
def test_sizes_go_up_and_nothing_is_asked_twice(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Settings(**options)


@pytest.mark.parametrize(
    ("value", "text"), [(9.96, "10"), (99.4, "99"), (99.7, "100"), (999.7, "1,000"), (1234, "1,230")]
)
def test_a_number_is_never_in_powers_of_ten(value: float, text: str) -> None:
    assert _number(value) == text


def test_the_command_wants_a_number_of_quantiles_for_each_source() -> None:
    done = CliRunner().invoke(app, ["study", "amplification", "--quantiles", "20"])
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == "--quantiles: found '20'; one number for each of 2 sources is needed"
