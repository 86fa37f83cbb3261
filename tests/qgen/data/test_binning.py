from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.data import (
    Binning,
    load_binning,
    load_calorimeter,
    load_events,
    simulate_muon,
    write_calorimeter,
    write_events,
)
from qgen.data.binning import BinnedLayer
from qgen.data.geometry import Geometry
from qgen.metrics import evaluate

TEXT = """<Bins>
   <Bin pid="22" etaMin="20" etaMax="25" name="photon">
      <Layer id="0" r_edges="0,5,10,30" n_bin_alpha="1" />
      <Layer id="1" r_edges="0,2,4" n_bin_alpha="4"/>
      <Layer id="2" r_edges="0" n_bin_alpha="1" />
      <Layer id="12" r_edges="0,100,200" n_bin_alpha="2" />
   </Bin>
</Bins>
"""


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    path = tmp_path / "binning.xml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def showers(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "showers.h5", "w") as file:
        file["showers"] = rng.exponential(10.0, (30, 15)) * (rng.random((30, 15)) < 0.7)
        file["incident_energies"] = np.full((30, 1), 256.0)
    return tmp_path / "showers.h5"


def test_layers_with_voxels_are_read_and_others_left_out(xml: Path) -> None:
    binning = load_binning(xml)
    assert binning.particle == "photon"
    assert [layer.number for layer in binning.layers] == [0, 1, 12]
    assert [layer.n_voxels for layer in binning.layers] == [3, 8, 4]
    assert binning.n_voxels == 15
    assert binning.starts == (0, 3, 11)


def test_voxels_go_through_the_radius_first_and_then_the_angle(xml: Path) -> None:
    layer = load_binning(xml).layers[1]
    assert layer.r.tolist() == [1, 3] * 4
    quarter = math.pi / 4
    np.testing.assert_allclose(layer.alpha, np.repeat([-3 * quarter, -quarter, quarter, 3 * quarter], 2))


# layers as in the challenge's files: identity of radii apart, what matters for the number of voxels
CHALLENGE = {
    "photons": ([(8, 1), (16, 10), (19, 10), (5, 1), (5, 1)], 368),
    "pions": ([(8, 1), (10, 10), (10, 10), (5, 1), (15, 10), (16, 10), (10, 1)], 533),
    "dataset 2": ([(9, 16)] * 45, 6480),
    "dataset 3": ([(18, 50)] * 45, 40500),
}


@pytest.mark.parametrize("name", CHALLENGE)
def test_numbers_of_voxels_are_those_of_the_challenge(name: str, tmp_path: Path) -> None:
    layers, voxels = CHALLENGE[name]
    lines = [
        f'<Layer id="{i}" r_edges="{",".join(map(str, range(n + 1)))}" n_bin_alpha="{alpha}"/>'
        for i, (n, alpha) in enumerate(layers)
    ]
    (tmp_path / "b.xml").write_text(f'<Bins><Bin name="p">{"".join(lines)}</Bin></Bins>')
    assert load_binning(tmp_path / "b.xml").n_voxels == voxels


def test_one_of_several_particles_is_chosen(tmp_path: Path) -> None:
    layer = '<Layer id="0" r_edges="0,{}" n_bin_alpha="1"/>'
    bins = "".join(f'<Bin name="{name}">{layer.format(r)}</Bin>' for name, r in (("pion", 5), ("photon", 7)))
    path = tmp_path / "both.xml"
    path.write_text(f"<Bins>{bins}</Bins>")
    assert load_binning(path, particle="photon").layers[0].radii == (0, 7)
    with pytest.raises(ValueError, match=r"has binnings for pion, photon; say for which particle"):
        load_binning(path)
    with pytest.raises(ValueError, match=r"particle 'foton' is unknown; did you mean 'photon'"):
        load_binning(path, particle="foton")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</Bins>", "", "not an XML file"),
        ("<Layer", "<Level", "no binning"),
        ('r_edges="0,2,4" ', "", "has no attribute r_edges; it has id, n_bin_alpha"),
        ("0,2,4", "0,2,x", "r_edges '0,2,x'"),
        ("0,2,4", "0,4,2", "layer 1: radii"),
        ("0,2,4", "0,2,inf", "layer 1: radii"),
        ("0,2,4", "-1,2,4", "layer 1: radii"),
        ('n_bin_alpha="4"', 'n_bin_alpha="0"', "layer 1: 0 bins in alpha"),
        ('n_bin_alpha="4"', 'n_bin_alpha="4.5"', "n_bin_alpha '4.5'"),
        ('id="12"', 'id="1"', "layer 1 is there twice"),
    ],
)
def test_faulty_files_are_one_line_with_their_name(xml: Path, old: str, new: str, message: str) -> None:
    xml.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        load_binning(xml)
    assert str(error.value).startswith(f"{xml}: ")
    assert "\n" not in str(error.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=60, deadline=None)
def test_anything_else_is_refused(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "b.xml")
        path.write_bytes(content)
        with pytest.raises(ValueError, match="b.xml"):
            load_binning(path)


LAYER = st.tuples(st.lists(st.integers(0, 5000), min_size=2, max_size=6, unique=True).map(sorted), st.integers(1, 6))


@given(st.lists(LAYER, min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_geometry_with_a_binning_survives_json(layers: list) -> None:
    binning = Binning(tuple(BinnedLayer(i, tuple(map(float, r)), a) for i, (r, a) in enumerate(layers)), "pion")
    geometry = Geometry.of_binning(binning)
    assert Geometry.from_json(geometry.to_json()) == geometry


def test_showers_get_their_voxels_from_the_file(xml: Path, showers: Path) -> None:
    data = load_events(showers, binning=xml)
    assert data.geometry.binning == load_binning(xml)
    assert torch.equal(data.samples, load_events(showers).samples)
    assert load_events(showers).geometry.binning is None
    assert data.take([0, 1]).geometry.binning == data.geometry.binning


def test_layers_are_a_longitudinal_profile(xml: Path, showers: Path) -> None:
    whole = load_calorimeter(showers, binning=xml, grid=None).samples
    expected = torch.stack([part.sum(1) for part in whole.split([3, 8, 4], dim=1)], 1)
    for options in ({"grid": (3,)}, {"grid": None, "axes": ("layer",)}):
        profile = load_calorimeter(showers, binning=xml, **options)
        torch.testing.assert_close(profile.samples, expected)
        assert profile.geometry.axes == ("layer",)
    with pytest.raises(ValueError, match=r"3 cells cannot be summed to 8 pixels"):
        load_calorimeter(showers, binning=xml)


def test_a_written_file_states_its_binning(xml: Path, showers: Path, tmp_path: Path) -> None:
    data = load_events(showers, binning=xml)
    write_calorimeter(tmp_path / "again.h5", data)
    for back in (load_events(tmp_path / "again.h5"), load_events(tmp_path / "again.h5", binning=xml)):
        assert torch.equal(back.samples, data.samples)
        assert back.geometry == data.geometry


def test_a_binning_that_does_not_fit_is_refused(xml: Path, showers: Path, tmp_path: Path) -> None:
    data = load_events(showers, binning=xml)
    write_calorimeter(tmp_path / "again.h5", data)
    xml.write_text(TEXT.replace('n_bin_alpha="4"', 'n_bin_alpha="40000"'))
    with pytest.raises(ValueError, match=r"a binning of 80007 voxels does not fit showers of 15 voxels"):
        load_events(showers, binning=xml)
    xml.write_text(TEXT.replace("0,2,4", "0,2,5"))
    with pytest.raises(ValueError, match=r"a binning is given, the file states another"):
        load_events(tmp_path / "again.h5", binning=xml)
    with pytest.raises(ValueError, match=r"shape and binning are both given"):
        load_calorimeter(showers, binning=xml, shape=(15, 1, 1))
    write_events(tmp_path / "muons.h5", simulate_muon(n=20))
    with pytest.raises(ValueError, match=r"a binning goes with showers in CaloChallenge layout"):
        load_events(tmp_path / "muons.h5", binning=xml)
    with pytest.raises(FileNotFoundError, match=r"none.xml: no such file"):
        load_events(showers, binning=tmp_path / "none.xml")


def test_observables_of_binned_showers_are_their_layers(xml: Path, showers: Path) -> None:
    data = load_events(showers, binning=xml)
    seen = data.observables()
    names = [f.name for f in seen.features]
    assert names[0] == "response"
    assert {"energy_layer_12", "centre_x_layer_1", "width_r_layer_0", "sparsity_layer_0"} <= set(names)
    assert "centre_x_layer_0" not in names  # one bin in angle
    alpha, r = load_binning(xml).layers[1].alpha, load_binning(xml).layers[1].r
    cells = data.samples[:, 3:11].numpy()
    expected = cells @ (r * np.sin(alpha)) / cells.sum(1)
    np.testing.assert_allclose(seen.column("centre_y_layer_1").numpy(), expected, atol=1e-12)


def test_samples_of_different_binnings_are_not_compared(xml: Path, showers: Path) -> None:
    data = load_events(showers, binning=xml)
    xml.write_text(TEXT.replace("0,2,4", "0,2,5"))
    other = load_events(showers, binning=xml)
    with pytest.raises(
        ValueError, match=r"pixels differ: truth has binned .*2.0, 4.0.* generated has binned .*2.0, 5.0"
    ):
        evaluate(data, other, metrics=["energy_response"])
    with pytest.raises(ValueError, match=r"pixels differ: truth has binned .*; generated has no binning"):
        evaluate(data, load_events(showers), metrics=["energy_response"])
