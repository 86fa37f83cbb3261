from __future__ import annotations

import inspect
import typing
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.data import CalorimeterDataset, load_calorimeter, load_events, write_calorimeter
from qgen.data.calorimeter import SAMPLE
from qgen.data.geometry import Downscaling, Geometry, group_edges

SOURCE = Path("../shared/data/calorimeter/geant4_pb_si_electrons.h5")


def write_file(path: Path, showers: np.ndarray, energies: np.ndarray, **attributes: str) -> Path:
    with h5py.File(path, "w") as file:
        file["showers"] = showers
        file["incident_energies"] = energies
        file.attrs.update(attributes)
    return path


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, np.ndarray]:
    cells = np.random.default_rng(1).exponential(1.0, (6, 5, 4, 3))
    return write_file(tmp_path / "small.h5", cells.reshape(6, -1), np.full((6, 1), 1e3)), cells


@pytest.fixture(scope="module")
def profile() -> CalorimeterDataset:
    return load_calorimeter()


def test_shipped_sample_is_what_its_readme_says() -> None:
    assert SAMPLE.stat().st_size <= 8_000_000
    with h5py.File(SAMPLE) as file:
        assert file["showers"].shape == (5400, 15625)
        geometry = Geometry.from_json(file.attrs["geometry"])
    assert geometry.shape == (25, 25, 25)
    assert geometry.units == ("layers", "mm", "mm")
    assert geometry.edges[1][0] == -62.5


def test_shipped_sample_agrees_with_the_simulated_file(profile: CalorimeterDataset) -> None:
    if not SOURCE.exists():
        pytest.skip(f"{SOURCE} is not here")
    with h5py.File(SOURCE) as file:
        showers = file["showers"][:500]
        energies = file["incident_energies"][:500]
    ours = load_calorimeter(grid=(25,)).samples[:500].numpy()
    np.testing.assert_array_equal(profile.conditions[:500].numpy(), energies)
    theirs = showers.reshape(500, 25, -1).sum(2, dtype=np.float64)
    np.testing.assert_allclose(ours.sum(1), theirs.sum(1), rtol=5e-3)
    assert abs(ours.sum() / theirs.sum() - 1) < 3e-4


def test_profile_is_physical(profile: CalorimeterDataset) -> None:
    assert profile.samples.shape == (5400, 8)
    assert profile.features[0].name == "layer_0"
    assert profile.provenance["simulation"].startswith("Geant4 11.4.1")
    energy = profile.incident_energy
    assert 10e3 <= energy.min() < energy.max() <= 100e3
    response = profile.observables().column("response")
    assert response.mean() == pytest.approx(0.0156, abs=0.0003)
    near = (energy > 45e3) & (energy < 55e3)
    assert (response[near].std() / response[near].mean()) == pytest.approx(0.028, abs=0.004)
    assert profile.samples.mean(0).argmax() in (2, 3)


@pytest.mark.parametrize("normalisation", ["log", "linear", "minmax"])
@pytest.mark.parametrize("options", [{}, {"grid": (4, 4)}, {"grid": (4, 4), "axes": ("layer", "x")}])
def test_transform_is_order_one_and_invertible(options: dict, normalisation: str) -> None:
    data = load_calorimeter(max_events=600, normalisation=normalisation, **options)
    values = data.transform(data.samples, data.conditions)
    back = data.transform.inverse(values, data.conditions)
    torch.testing.assert_close(back, data.samples, rtol=1e-9, atol=1e-9)
    if normalisation == "minmax":
        assert values.abs().max() < 5
    else:
        assert (values.std(0) > 0.5).all()
        assert (values.std(0) < 2.0).all()
    wild = data.transform.inverse(-100.0 * torch.ones_like(values), data.conditions)
    assert (wild >= 0).all()
    conditions = data.condition_transform(data.conditions)
    torch.testing.assert_close(data.condition_transform.inverse(conditions), data.conditions)


def test_downscaling_is_a_sum_over_groups(small: tuple[Path, np.ndarray]) -> None:
    path, cells = small
    shape = cells.shape[1:]
    total = load_calorimeter(path, grid=(1,), shape=shape)
    np.testing.assert_allclose(total.samples[:, 0], cells.sum((1, 2, 3)))
    layers = load_calorimeter(path, grid=(2,), shape=shape)
    np.testing.assert_allclose(layers.samples[:, 0], cells[:, :3].sum((1, 2, 3)))
    lateral = load_calorimeter(path, grid=(2, 3), shape=shape)
    expected = cells.sum(1).reshape(6, 2, 2, 3).sum(2)
    np.testing.assert_allclose(lateral.images, expected)
    side = load_calorimeter(path, grid=(5, 2), axes=("layer", "x"), shape=shape)
    np.testing.assert_allclose(side.images, cells.sum(3).reshape(6, 5, 2, 2).sum(3))
    cropped = load_calorimeter(path, grid=(2, 1), shape=shape, edges={"layer": (1, 3), "x": (1, 2, 4), "y": (0, 2)})
    expected = np.stack([cells[:, 1:3, 1:2, :2].sum((1, 2, 3)), cells[:, 1:3, 2:4, :2].sum((1, 2, 3))], 1)
    np.testing.assert_allclose(cropped.samples, expected)
    whole = load_calorimeter(path, grid=None, shape=shape)
    np.testing.assert_array_equal(whole.images, cells)


@given(cells=st.integers(1, 200), data=st.data())
@settings(max_examples=100, deadline=None)
def test_groups_are_nearly_equal(cells: int, data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, cells))
    sizes = np.diff(group_edges(cells, groups))
    assert sizes.sum() == cells
    assert sizes.max() - sizes.min() <= (cells % groups > 0)


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    data=st.data(),
    axes=st.sampled_from([("layer",), ("x",), ("layer", "y"), ("x", "y"), ("layer", "x", "y")]),
)
@settings(max_examples=40, deadline=None)
def test_downscaling_keeps_the_energy(shape: tuple[int, int, int], data: st.DataObject, axes: tuple[str, ...]) -> None:
    counts = dict(zip(("layer", "x", "y"), shape, strict=True))
    grid = tuple(data.draw(st.integers(1, counts[axis])) for axis in axes)
    cells = np.random.default_rng(0).random((3, int(np.prod(shape))))
    downscaling = Downscaling.plan(Geometry.cells(**counts), grid, axes, None)
    assert downscaling.target.shape == grid
    np.testing.assert_allclose(downscaling(cells).sum(1), cells.sum(1))


def test_reads_3dgan_layout(tmp_path: Path) -> None:
    ecal = np.random.default_rng(2).random((4, 3, 5, 7)).astype(np.float32)
    for energy in (np.array([10.0, 20.0, 30.0, 40.0]), np.array([[10.0], [20.0], [30.0], [40.0]])):
        with h5py.File(tmp_path / "ecal.h5", "w") as file:
            file["ECAL"], file["energy"] = ecal, energy
        data = load_calorimeter(tmp_path / "ecal.h5", grid=(7,))
        assert data.incident_energy.tolist() == [10e3, 20e3, 30e3, 40e3]
        np.testing.assert_allclose(data.samples, 1000 * ecal.sum((1, 2)), rtol=1e-5)
        whole = load_calorimeter(tmp_path / "ecal.h5", grid=None)
        assert whole.geometry.axes == ("layer", "x", "y")
        np.testing.assert_allclose(whole.images, 1000 * ecal.transpose(0, 3, 1, 2), rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"grid": (4, 4), "axes": ("layer", "y")}, {"grid": (2, 3, 3)}])
def test_written_images_are_read_back_equal(tmp_path: Path, options: dict) -> None:
    data = load_calorimeter(max_events=50, threshold=0.5, **options)
    write_calorimeter(tmp_path / "out.h5", data)
    back = load_calorimeter(tmp_path / "out.h5", grid=None)
    assert torch.equal(back.samples, data.samples)
    assert torch.equal(back.conditions, data.conditions)
    assert back.geometry == data.geometry
    assert back.features == data.features
    assert back.provenance["simulation"] == data.provenance["simulation"]
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5"]


def test_threshold_survives_a_file_and_leaves_the_pixels(tmp_path: Path) -> None:
    truth = load_calorimeter(max_events=50, threshold=20.0)
    made = truth.with_samples(truth.samples + 1.0)  # a model's pixels below the threshold, which are not empty
    write_calorimeter(tmp_path / "made.h5", made)
    for back in (load_events(tmp_path / "made.h5"), load_calorimeter(tmp_path / "made.h5", grid=None, threshold=0.5)):
        assert isinstance(back, CalorimeterDataset)
        assert back.threshold == 20.0
        assert torch.equal(back.samples, made.samples)
        assert torch.equal(back.observables().samples, made.observables().samples)
    assert load_calorimeter(tmp_path / "made.h5", grid=None, threshold=30.0).threshold == 30.0
    with h5py.File(tmp_path / "made.h5", "r+") as file:
        for impossible in (-1.0, float("nan"), "much"):
            file.attrs["threshold_MeV"] = impossible
            file.flush()
            with pytest.raises(ValueError, match=r"made.h5: attribute threshold_MeV is .*an energy of at least 0"):
                load_events(tmp_path / "made.h5")


def test_writing_replaces_only_when_complete(tmp_path: Path) -> None:
    data = load_calorimeter(max_events=5)
    write_calorimeter(tmp_path / "out.h5", data)
    before = (tmp_path / "out.h5").read_bytes()
    broken = data.with_samples(-data.samples)
    with pytest.raises(ValueError, match=r"samples row 0, pixel layer_0: -.* MeV is negative"):
        write_calorimeter(tmp_path / "out.h5", broken)
    assert (tmp_path / "out.h5").read_bytes() == before
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        write_calorimeter(tmp_path / "nowhere" / "out.h5", data)


def test_threshold_window_and_number_of_events(profile: CalorimeterDataset) -> None:
    data = load_calorimeter(threshold=20.0, energy_window=(20e3, 30e3), max_events=100, seed=3)
    assert len(data) == 100
    assert ((data.samples == 0) | (data.samples >= 20.0)).all()
    assert (data.samples == 0).any()
    assert 20e3 <= data.incident_energy.min() <= data.incident_energy.max() <= 30e3
    again = load_calorimeter(threshold=20.0, energy_window=(20e3, 30e3), max_events=100, seed=3)
    assert torch.equal(again.samples, data.samples)
    other = load_calorimeter(threshold=20.0, energy_window=(20e3, 30e3), max_events=100, seed=4)
    assert not torch.equal(other.samples, data.samples)
    everything = load_calorimeter(max_events=10**6)
    assert torch.equal(everything.samples, profile.samples)


def test_observables_by_hand() -> None:
    geometry = Geometry(("layer", "x"), ((0.0, 1.0, 3.0), (-5.0, 0.0, 5.0)), ("layers", "mm"))
    images = torch.tensor([[1.0, 3.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.2, 2.0]])
    data = CalorimeterDataset(
        samples=images,
        features=load_calorimeter(grid=(2, 2), max_events=1).features,
        conditions=torch.tensor([[16.0], [16.0], [20.0]]),
        condition_features=load_calorimeter(grid=(2, 2), max_events=1).condition_features,
        geometry=geometry,
        threshold=0.5,
    )
    found = data.observables()
    assert found.column("response").tolist() == [0.5, 0.0, 0.1]
    assert found.column("energy_layer_1").tolist() == [4.0, 0.0, 2.0]
    np.testing.assert_allclose(found.column("centre_layer"), [1.25, 0.0, 2.0])
    np.testing.assert_allclose(found.column("width_layer"), [0.75, 0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(found.column("centre_x"), [(-2.5 + 7 * 2.5) / 8, 0.0, 2.5])
    assert found.column("sparsity").tolist() == [0.25, 1.0, 0.75]
    assert next(f for f in found.features if f.name == "centre_x").unit == "mm"


def test_observables_follow_generated_images(profile: CalorimeterDataset) -> None:
    doubled = profile.with_samples(2 * profile.samples)
    assert isinstance(doubled, CalorimeterDataset)
    torch.testing.assert_close(doubled.observables().column("response"), 2 * profile.observables().column("response"))
    torch.testing.assert_close(doubled.observables().column("width_layer"), profile.observables().column("width_layer"))
    assert type(profile.select("layer_1")) is not CalorimeterDataset


def test_options_are_typed() -> None:
    hints = typing.get_type_hints(load_calorimeter, include_extras=True)
    assert set(inspect.signature(load_calorimeter).parameters) == set(hints) - {"return"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (26,)}, r"grid along 'layer': 25 cells cannot be summed to 26 pixels"),
        ({"grid": (2, 2), "axes": ("layer",)}, r"grid \(2, 2\) has 2 numbers for the 1 axes layer"),
        ({"grid": (2, 2), "axes": ("x", "layer")}, r"axes are \['x', 'layer'\]; the file's order is layer, x, y"),
        ({"axes": ("voxel",)}, r"axis 'voxel' is not in the file; it has layer, x, y"),
        ({"edges": {"layer": (0, 5)}}, r"edges of 'layer' make 1 pixels, the grid asks for 8"),
        ({"grid": (2,), "edges": {"layer": (0, 5, 5)}}, r"at least two increasing cell indices"),
        ({"grid": (2,), "edges": {"layer": (0, 5, 26)}}, r"25 cells there, indices 0 to 25"),
        ({"grid": (2,), "edges": {"x": (0, 5, 26)}}, r"edges of 'x'"),
        ({"shape": (5, 5, 5)}, r"shape is given as \(5, 5, 5\), the file states \(25, 25, 25\)"),
        ({"threshold": -1.0}, r"threshold is -1.0 MeV"),
        ({"threshold": float("nan")}, r"threshold is nan MeV; it must be finite and not negative"),
        ({"normalisation": "sqrt"}, r"normalisation is 'sqrt'; allowed are 'log', 'linear', 'minmax'"),
        ({"energy_window": (2.0, 1.0)}, r"energy_window is 2.0, 1.0 MeV"),
        ({"energy_window": (1.0, 2.0)}, r"no event in the energy_window 1 to 2 MeV; incident energies are 100"),
        ({"max_events": 0}, r"max_events is 0"),
    ],
)
def test_impossible_options_are_one_clear_line(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_calorimeter(**options)
    assert "\n" not in str(caught.value)


def test_unsuitable_images_are_refused(profile: CalorimeterDataset) -> None:
    few = profile.take(range(3))
    common = {"samples": few.samples, "features": few.features, "geometry": few.geometry}
    with pytest.raises(ValueError, match="one condition, the incident energy; found 0"):
        CalorimeterDataset(**common)
    with pytest.raises(ValueError, match="conditions row 1: incident energy 0 MeV is not positive"):
        CalorimeterDataset(
            **common, conditions=torch.tensor([[1.0], [0.0], [1.0]]), condition_features=few.condition_features
        )
    with pytest.raises(ValueError, match=r"images of \(25, 25, 25\) pixels do not fit 8 features"):
        CalorimeterDataset(**(common | {"geometry": Geometry.cells(layer=25, x=25, y=25)}))
