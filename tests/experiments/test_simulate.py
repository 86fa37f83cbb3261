from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from experiments.cli import app, main
from qgen.data import SamplingCalorimeter, load_calorimeter, simulate_gflash

CALL = ["data", "simulate", "calorimeter"]
SMALL = ["--layers", "5", "--pads", "3"]


def test_the_file_holds_the_showers_of_the_function(tmp_path: Path) -> None:
    out = tmp_path / "showers.h5"
    done = CliRunner().invoke(
        app, [*CALL, *SMALL, "--out", str(out), "-n", "150", "--energy", "20000", "--energy", "50000", "--seed", "3"]
    )
    assert done.exit_code == 0, done.output
    assert "150 showers" in done.stdout
    stack = SamplingCalorimeter(layers=5, pads=3)
    wanted, found = simulate_gflash(150, [20e3, 50e3], stack, seed=3), load_calorimeter(out, grid=None)
    assert torch.equal(found.samples, wanted.samples)
    assert torch.equal(found.conditions, wanted.conditions)
    assert found.geometry == stack.geometry
    assert found.provenance["calorimeter"] == stack.to_dict()


def test_options_go_over_the_file(tmp_path: Path) -> None:
    config, out = tmp_path / "stack.yaml", tmp_path / "showers.h5"
    config.write_text("passive: W\npassive_mm: 3.5\nlayers: 9\npads: 5\n")
    call = [*CALL, *SMALL, "--config", str(config), "--out", str(out), "-n", "5", "--energy-range", "5000", "6000"]
    assert CliRunner().invoke(app, call).exit_code == 0
    found = load_calorimeter(out, grid=None)
    stack = SamplingCalorimeter(passive="W", passive_mm=3.5, layers=5, pads=3)
    assert found.provenance["calorimeter"] == stack.to_dict()
    assert 5000 <= float(found.incident_energy.min()) < float(found.incident_energy.max()) < 6000


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--passive", "lead"], "passive: material 'lead' is unknown"),
        (["--pad-mm", "0"], "pad_mm is 0.0; allowed are 0.001 to 10000 mm"),
        (["--energy", "10"], "energy is 10 MeV; allowed are 1000 to 1e+06 MeV"),
        (["--energy", "1e4", "--energy-range", "1e4", "2e4"], "--energy and --energy-range are both given"),
        (["--energy-range", "2e4", "1e4"], "energy is (20000, 10000) MeV; a range is two numbers"),
        (["--workers", "2"], "--workers goes with --engine geant4"),
        (["--config", "{tmp}/wrong.yaml"], "{tmp}/wrong.yaml: field of a calorimeter 'layer' is unknown; did you mean"),
        (["--config", "{tmp}/list.yaml"], "{tmp}/list.yaml: a calorimeter is described by fields and values"),
        (["--config", "{tmp}/none.yaml"], "{tmp}/none.yaml: no such file"),
        (["--config", "{tmp}/empty.yaml"], "{tmp}/empty.yaml: holds no fields of a calorimeter"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(
    tmp_path: Path, options: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text("layer: 3\n")
    (tmp_path / "list.yaml").write_text("- 3\n")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    words = [word.replace("{tmp}", str(tmp_path)) for word in options]
    monkeypatch.setattr("sys.argv", ["qgen", *CALL, "--out", str(tmp_path / "x.h5"), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    found = capsys.readouterr().err.strip()
    assert found.startswith("qgen: " + line.replace("{tmp}", str(tmp_path)))
    assert "\n" not in found
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty.yaml", "list.yaml", "wrong.yaml"]
