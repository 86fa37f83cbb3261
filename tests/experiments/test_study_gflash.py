from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.studies import gflash
from experiments.studies.gflash import QUANTITIES, Settings, Showers, calibrated, compared, gflash_study
from experiments.studies.gflash_view import gflash_markdown
from qgen.data import SamplingCalorimeter, load_calorimeter, simulate_gflash, write_calorimeter
from qgen.data.gflash import Tuning, gflash_blocks

STACK = SamplingCalorimeter(layers=20, pads=9, pad_mm=10.0)


def showers(n: int, seed: int, tuning: Tuning | None = None) -> Showers:
    return Showers.of(gflash_blocks(n, (10e3, 100e3), STACK, tuning=tuning, seed=seed), STACK)


def test_the_constants_of_known_showers_are_found() -> None:
    known = Tuning(response=0.8, sampling=0.1, start=1.2, last=0.5, core=1.1, tail=1.2)
    found = asdict(calibrated(showers(1500, 1, known), STACK, seed=2, rounds=10))
    for name, tolerance in (("response", 0.02), ("sampling", 0.1), ("last", 0.2), ("core", 0.1), ("tail", 0.1)):
        assert found[name] == pytest.approx(getattr(known, name), rel=tolerance), name
    assert found["start"] == pytest.approx(known.start, abs=0.2)


def test_equal_showers_are_within_their_bounds_and_others_are_not() -> None:
    truth, same, other = showers(1500, 1), showers(1500, 2), showers(1500, 2, Tuning(response=0.8, tail=1.5))
    assert all(row["within"] in (None, True) or abs(row["off"]) < 2 * row["bound"] for row in compared(truth, same))
    rows = compared(truth, other)
    assert not any(row["within"] for row in rows if row["quantity"] == "response")
    assert not any(row["within"] for row in rows if row["quantity"] == "lateral width")
    assert len(rows) == 4 * len(QUANTITIES) + 3 * STACK.layers


def test_showers_are_summarised_as_by_hand() -> None:
    images = simulate_gflash(5, 30_000.0, STACK, seed=3)
    found = Showers.of([images], STACK)
    pads = np.where(images.images.numpy() >= 0.02, images.images.numpy(), 0.0)
    assert found.visible == pytest.approx(pads.sum((1, 2, 3)))
    assert found.windows[:, 1] == pytest.approx(pads[:, :, 3:6, 3:6].sum((1, 2, 3)) / found.visible)
    assert found.windows[:, 3] == pytest.approx(1.0)
    assert found.hits.tolist() == (pads > 0).sum((1, 2, 3)).tolist()
    x = 10.0 * (np.arange(9) - 4)
    assert found.spread[0].sum() == pytest.approx((pads[0] * (x[:, None] ** 2 + x**2)).sum())
    depth = (np.arange(20) + 0.5) * pads.sum((2, 3))
    assert found.centre == pytest.approx(depth.sum(1) / found.visible)


@pytest.mark.usefixtures("few_trees")
def test_the_command_writes_results_figure_and_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, page, out = tmp_path / "truth.h5", tmp_path / "page.md", tmp_path / "out"
    write_calorimeter(truth, simulate_gflash(120, (10e3, 100e3), seed=4))
    page.write_text("before\n<!-- gflash: begin -->\n<!-- gflash: end -->\nafter\n")
    monkeypatch.setattr(gflash, "ROUNDS", 1)
    monkeypatch.setattr(gflash, "TIMES", 1)
    monkeypatch.setattr(gflash, "GRIDS", ((4,),))
    call = ["study", "gflash", "--truth", str(truth), "--page", str(page), "--out", str(out), "--bootstrap", "2"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())
    assert results["tuning"]["built in"] == asdict(Tuning())
    assert results["metrics"]["4"]["ks"]["floor"] > 0
    assert gflash_markdown(results).strip() in page.read_text()
    for picture in (out / "gflash.png", tmp_path / "images" / "gflash.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_other_cells_are_refused(tmp_path: Path) -> None:
    write_calorimeter(tmp_path / "truth.h5", load_calorimeter(grid=(5, 5, 5), max_events=10))
    with pytest.raises(
        ValueError, match=r"^the true showers have cells \(5, 5, 5\), the calorimeter has \(25, 25, 25\)$"
    ):
        gflash_study(Settings(truth=str(tmp_path / "truth.h5")))
