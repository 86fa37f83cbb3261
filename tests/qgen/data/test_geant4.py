"""Geant4 in processes of its own: the showers of the reference, however many processes; what is missing is said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from qgen.data import load_calorimeter
from qgen.data.geant4 import BLOCK, find_geant4_data, geant4_blocks, simulate_geant4
from qgen.data.sampling_calorimeter import SamplingCalorimeter

# the bindings ask for data sets when they are imported
pytestmark = pytest.mark.skipif(find_spec("geant4_pybind") is None, reason="geant4_pybind is not installed")

VARIABLES = ("G4LEDATA", "G4ENSDFSTATEDATA", "GEANT4_DATA_DIR")
SHARED = Path(__file__).parents[4] / "shared" / "data" / "geant4_tables"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Geant4's data sets: those of the machine, else the tables beside the project."""
    try:
        find_geant4_data()
    except FileNotFoundError as missing:
        if not SHARED.is_dir():
            pytest.skip(f"no simulation without data sets: {missing}")
        for variable in VARIABLES[:2]:
            monkeypatch.setenv(variable, str(SHARED))


@pytest.mark.usefixtures("data")
def test_showers_are_those_of_the_reference_and_do_not_depend_on_the_number_of_processes() -> None:
    n = 2 * BLOCK + 10
    showers = simulate_geant4(n, 10_000.0, workers=2, seed=1)
    again = simulate_geant4(n, 10_000.0, workers=1, seed=1)
    assert torch.equal(showers.samples, again.samples)
    assert showers.geometry.shape == (25, 25, 25)
    assert len(showers) == n
    assert not torch.equal(showers.samples[:BLOCK], showers.samples[BLOCK : 2 * BLOCK])
    reference = load_calorimeter(grid=None, energy_window=(10e3, 14e3))
    fractions = [(data.samples.sum(1) / data.incident_energy).numpy() for data in (showers, reference)]
    error = np.hypot(*(fraction.std() / len(fraction) ** 0.5 for fraction in fractions))
    assert abs(fractions[0].mean() - fractions[1].mean()) < 4 * error
    assert fractions[0].std() / fractions[0].mean() == pytest.approx(0.069, rel=0.4)
    for axis in (1, 2, 3):
        others = tuple(i for i in (1, 2, 3) if i != axis)
        ours, theirs = (
            (image := data.images.sum(others)) / image.sum(1, keepdim=True) for data in (showers, reference)
        )
        spread = torch.hypot(ours.std(0) / n**0.5, theirs.std(0) / len(reference) ** 0.5)
        # incident energies differ a little: the depth of the maximum moves by less than a hundredth of a layer's part
        assert ((ours.mean(0) - theirs.mean(0)).abs() < 4.5 * spread + 0.004).all(), axis


@pytest.mark.usefixtures("data")
def test_geometry_particle_and_grid_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")  # the bindings would download then
    thick = SamplingCalorimeter(passive="Fe", passive_mm=100.0, active="Si", layers=2, pads=3, pad_mm=50.0)
    iron = simulate_geant4(4, [1000.0, 3000.0], thick, particle="gamma", workers=1, seed=3)
    assert iron.geometry.shape == (2, 3, 3)
    assert iron.incident_energy.tolist() == [1000.0, 3000.0, 1000.0, 3000.0]
    # the axis of the shower goes through the middle pad of three; there is more before the second plate than after
    lateral = iron.images.sum((0, 1))
    assert lateral.argmax() == 4
    assert iron.images.sum((0, 2, 3))[0] > iron.images.sum((0, 2, 3))[1]
    assert iron.provenance["particle"] == "gamma"
    assert SamplingCalorimeter.of(iron.provenance["calorimeter"]) == thick
    profile = simulate_geant4(4, [1000.0, 3000.0], thick, particle="gamma", workers=1, grid=(2,), seed=3)
    assert torch.allclose(profile.samples, iron.images.sum((2, 3)))


@pytest.mark.usefixtures("data")
def test_blocks_come_one_by_one_and_leaving_them_ends_the_processes() -> None:
    blocks = geant4_blocks(3 * BLOCK, 500.0, SamplingCalorimeter(layers=4, pads=3), workers=1)
    assert len(next(blocks)) == BLOCK
    blocks.close()
    children = subprocess.run(
        ["ps", "-ww", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True
    ).stdout
    assert "geant4_worker" not in children


@pytest.mark.usefixtures("data")
def test_a_killed_simulation_leaves_no_process_behind(tmp_path: Path) -> None:
    code = """
import os, subprocess
from qgen.data import SamplingCalorimeter
from qgen.data.geant4 import geant4_blocks

blocks = geant4_blocks(200, 2000.0, SamplingCalorimeter(layers=10, pads=3), workers=1)
next(blocks)
subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())])
os.kill(os.getpid(), 9)
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # what it leaves there goes with the test
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == -9
    (worker,) = [int(line.split()[0]) for line in done.stdout.splitlines() if "geant4_worker" in line]
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists() and "geant4_worker" in Path(f"/proc/{worker}/cmdline").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("data")
def test_the_error_of_geant4_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "brem_SB").mkdir()
    monkeypatch.setenv("G4LEDATA", str(tmp_path))
    with pytest.raises(OSError, match=r"Geant4 ended with exit status -?\d+: .*G4Exception"):
        simulate_geant4(1, 500.0, SamplingCalorimeter(layers=4, pads=3), workers=1)


def test_missing_data_sets_are_named_with_where_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"G4EMLOW was not found: G4LEDATA is not set.*geant4\.web\.cern\.ch"):
        simulate_geant4(1)
    monkeypatch.setenv("G4LEDATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"G4LEDATA is .* holds no brem_SB; expected the folder of G4EMLOW"):
        find_geant4_data()
    monkeypatch.delenv("G4LEDATA")
    for name, holds in (("G4EMLOW8.7", "brem_SB"), ("G4EMLOW8.8", "brem_SB"), ("G4ENSDFSTATE3.0", "ENSDFSTATE.dat")):
        (tmp_path / ".geant4_pybind" / name / holds).mkdir(parents=True)
    assert find_geant4_data()["G4LEDATA"].name == "G4EMLOW8.8"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"energy": -1.0}, "energy is -1 MeV"),
        ({"energy": 1e9}, r"energy is 1e\+09 MeV; allowed are 0.001 to 1e\+08 MeV"),
        ({"workers": 10**6}, "workers is 1000000; at most"),
        ({"particle": "mu-"}, "particle is 'mu-'; allowed are e-, e\\+, gamma"),
        ({"physics": "QGSP"}, "physics is 'QGSP'; allowed are standard"),
        ({"cut_mm": 0.0}, "cut_mm is 0.0"),
        ({"cut_mm": float("nan")}, "cut_mm is nan"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_mistakes_are_named_before_anything_starts(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        simulate_geant4(**options)


def test_without_the_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(ImportError, match=r"pip install 'qgen-hep\[geant4\]'"):
        simulate_geant4(1)


def test_the_program_starts_without_the_lab() -> None:
    script = Path(sys.modules["qgen.data.geant4"].__file__ or "").with_name("geant4_worker.py")
    code = f"import runpy, sys; runpy.run_path({str(script)!r}, run_name='x'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
