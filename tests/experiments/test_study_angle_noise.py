from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.studies.angle_noise import AngleNoise, Cell, summary, threshold

SMALL = AngleNoise(strengths=(0.1,), seeds=(0,), pixels=4, steps=2, batch_size=20, events=40)


def cell(strength, seed, inference, training=1.0):
    return Cell(strength, seed, {"wasserstein": inference}, {"wasserstein": training})


def test_a_small_study_is_repeated_and_resumed(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    cells = SMALL.run(first)
    assert [(c.strength, c.seed) for c in cells] == [(0.0, 0), (0.1, 0)]
    assert cells[0].inference == cells[0].training
    assert cells[1].inference != cells[1].training
    assert cells[1].inference != cells[0].inference
    content = json.loads((first / "results.json").read_text())
    half = {**content, "cells": content["cells"][:1]}
    (second / "results.json").write_text(json.dumps(half))
    assert SMALL.run(second) == cells
    assert (second / "results.json").read_text() == (first / "results.json").read_text()
    with pytest.raises(ValueError, match=r"results.json: holds the results of other settings; choose another folder$"):
        replace(SMALL, steps=3).run(first)


def test_thresholds_lie_between_strengths():
    cells = [cell(p, seed, w) for p, w in ((0.0, 1.0), (0.02, 1.2), (0.04, 2.0)) for seed in (0, 1)]
    assert threshold(cells, "inference") == pytest.approx(0.02 + 0.02 * 0.3 / 0.8)
    assert threshold(cells, "training") is None
    rows = summary([*cells, cell(0.0, 2, 1.3)], ("wasserstein",))
    assert rows[0]["inference/wasserstein"] == (pytest.approx(1.1), pytest.approx(0.1732, abs=1e-4))


@pytest.mark.parametrize(
    ("options", "message"), [({"seeds": ()}, "seeds are empty"), ({"strengths": (0.7,)}, "strength is 0.7")]
)
def test_faults(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        AngleNoise(**options)


def test_the_command_writes_results_and_a_figure(tmp_path):
    out = tmp_path / "noise"
    words = ["study", "angle-noise", "--out", str(out), "--seeds", "1", "--strength", "0.05", "--pixels", "4"]
    done = CliRunner().invoke(app, [*words, "--steps", "1", "--batch-size", "10", "--events", "40"])
    assert done.exit_code == 0, done.output
    assert "2307.05253 reports stable results up to about 1.5 %" in done.output
    assert (out / "angle-noise.png").stat().st_size > 5000
    assert len(json.loads((out / "results.json").read_text())["cells"]) == 2
