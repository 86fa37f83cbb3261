from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.studies.cv_cost import Case, Settings, measure


def test_the_command_measures_and_refuses(tmp_path: Path) -> None:
    words = ["study", "cv-cost", "--out", str(tmp_path), "--modes", "2,8", "--cutoffs", "5", "--bases", "mode"]
    done = CliRunner().invoke(app, [*words, "--layers", "1", "--batch", "8", "--memory", "0.05"])
    assert done.exit_code == 0, done.output
    small, large = json.loads((tmp_path / "results.json").read_text())["cases"]
    assert (small["amplitudes"], large["amplitudes"]) == (25, 390625)
    assert 0 < small["seconds"] < 5
    assert small["refused"] is None
    assert large["seconds"] is None
    assert "8 modes, cutoff 5" in large["refused"]
    assert "\n" not in large["refused"]
    assert large["estimate"] > 390625 * 8 * 8 / 1e6 > 20 * small["estimate"]
    assert (tmp_path / "cv-cost.png").read_bytes().startswith(b"\x89PNG")
    assert "refused" in done.output


def test_the_peak_holds_the_states() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:  # one that has no memory to use again
        _, peak = own.submit(measure, Case(4, 8, "mode", layers=1, batch=64, seconds=0.1)).result()
    assert peak is None or peak > 3 * 8**4 * 64 * 8 / 1e6  # a few states of all samples, 8 bytes an amplitude


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": ()}, r"modes is \[\]; integers"),
        ({"cutoffs": (4, 0)}, r"cutoffs is \[4, 0\]; integers"),
        ({"bases": ("both",)}, "bases is both; allowed are mode, total"),
        ({"dtype": "float32"}, "dtype is float32; allowed are complex64, complex128"),
        ({"batch": 0}, "batch is 0; a positive number"),
    ],
)
def test_faults(options, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        Settings(**options)


def test_cases_are_sorted_by_basis_and_size() -> None:
    cases = Settings(modes=(1, 2), cutoffs=(3,)).cases()
    assert [(case.basis, case.modes, case.amplitudes) for case in cases] == [
        ("mode", 1, 3),
        ("mode", 2, 9),
        ("total", 1, 3),
        ("total", 2, 6),
    ]
