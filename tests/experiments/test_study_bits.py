"""The study of encodings: what it finds on images and tables, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.marked_page import marks
from experiments.studies.bits import Encoding, Settings, bits_study, encodings
from experiments.studies.bits_view import NAME, bits_markdown
from qgen.data import load_calorimeter, muon_events


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    data = load_calorimeter(grid=(4, 4, 4), max_events=1200)
    return bits_study(data, Settings(bits=(1, 3), voxels=(16, 64), thresholds=(1.0,), bootstrap=2))


def test_every_encoding_is_there_once(found: dict[str, Any]) -> None:
    asked = encodings(Settings(bits=(1, 3), voxels=(16, 64), thresholds=(1.0,)), load_calorimeter(grid=(4, 4, 4)))
    assert len(set(asked)) == len(asked) == len(found["rows"]) == 11
    options = [{name: row[name] for name in ("bits", "code", "edges", "frame", "voxels")} for row in found["rows"]]
    assert {"bits": 3, "code": "unary", "edges": "learned", "frame": "marginals", "voxels": None} in options
    assert sum(row["voxels"] == 16 for row in options) == 2
    assert not any(row["voxels"] == 64 for row in options)


def test_draws_from_the_marginals_and_more_bits_come_closer_to_the_floor(found: dict[str, Any]) -> None:
    rows = {Encoding(**{name: row[name] for name in Encoding.__annotations__}): row for row in found["rows"]}
    uniform, one, three = rows[Encoding(1, edges="linear", frame="features")], rows[Encoding(1)], rows[Encoding(3)]
    few, unary, binary = rows[Encoding(3, voxels=16)], rows[Encoding(3, code="unary")], rows[Encoding(3, code="binary")]
    floor = found["floors"]["classifier_auc"][0]
    auc = [row["scores"]["classifier_auc"][0] for row in (uniform, one, three)]
    assert auc[0] > 0.9 > auc[1] > auc[2] > floor - 0.1
    assert uniform["energy"]["pixels"] > one["energy"]["pixels"] > three["energy"]["pixels"]
    assert unary["energy"]["pixels"] > three["energy"]["pixels"]
    assert few["energy"]["without_bits"] > 0.01 > three["energy"]["without_bits"] == 0
    assert binary["scores"] == three["scores"]
    assert binary["cell_entropy"] == three["cell_entropy"]
    assert set(found["floors"]) == {"classifier_auc", "wasserstein", "correlation", "longitudinal_profile"}


def test_tables_have_no_voxels() -> None:
    found = bits_study(muon_events(n=400), Settings(bits=(2,), bootstrap=2))
    assert all(row["energy"] is None and row["voxels"] is None for row in found["rows"])
    assert set(found["floors"]) == {"classifier_auc", "wasserstein", "correlation"}
    assert "| error |" in bits_markdown(found)


def test_the_command_writes_results_figure_and_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before\n" + "\n".join(marks(NAME)) + "\nAfter\n")
    options = ["--grid", "2,2,2", "--bits", "1", "--voxels", "4", "--bootstrap", "2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["study", "bits", *options, "--page", str(page)], catch_exceptions=False)
    assert done.exit_code == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (tmp_path / "out" / "bits.png").stat().st_size > 1000
    assert page.read_text() == f"Before\n{marks(NAME)[0]}\n\n{bits_markdown(results)}\n{marks(NAME)[1]}\nAfter\n"
    assert "| 1 bit, learned, 4 of 8 | 4 |" in page.read_text()
    assert "| truth (floor) |" in page.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bits", "0"], r"bits is 0; at least 1 is needed"),
        (["--bits", "two"], r"--bits: found 'two'; integers with commas"),
        (["--voxels", "-3"], r"voxels is -3; at least 1 is needed"),
        (["--threshold", "-1"], r"threshold is -1 MeV; it must be positive"),
        (["--grid", "4,4"], r"--grid: found '4,4'; three positive integers"),
        (["quickstart-muon", "--file", "x.h5"], r"--file is x.h5, but the events are those of quickstart-muon"),
    ],
)
def test_mistakes_are_one_line(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        CliRunner().invoke(app, ["study", "bits", *options], catch_exceptions=False, standalone_mode=False)
    assert "\n" not in str(caught.value)
