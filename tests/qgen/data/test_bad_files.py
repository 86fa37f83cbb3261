"""Files that are not what they should be: one line that names the file, and the row where there is one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgen.data import describe, load_calorimeter, load_events, load_muon, simulate_muon, write_events
from qgen.data.muon_files import _COLUMNS

fuzz = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def showers(path: Path, **replaced: object) -> Path:
    content = {"incident_energies": np.full((4, 1), 1e3), "showers": np.ones((4, 6))} | replaced
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is not None:
                file[name] = values
    return path


def with_value(value: float, row: int, shape: tuple[int, ...]) -> np.ndarray:
    values = np.ones(shape)
    values[row] = value
    return values


def one_voxel(value: float) -> np.ndarray:
    values = np.ones((4, 6))
    values[2, 5] = value
    return values


def one_line(read: Callable[[], object], path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"showers": one_voxel(-1.5)}, r"showers row 2, voxel 5: the energy -1.5 is negative"),
        ({"showers": one_voxel(np.nan)}, r"showers row 2, voxel 5: the energy nan is not finite"),
        ({"showers": one_voxel(np.inf)}, r"showers row 2, voxel 5: the energy inf is not finite"),
        ({"showers": one_voxel(-np.inf)}, r"showers row 2, voxel 5: the energy -inf is negative"),
        ({"incident_energies": with_value(0.0, 3, (4, 1))}, r"incident_energies row 3: 0.0 is not a positive"),
        ({"incident_energies": with_value(np.nan, 1, (4, 1))}, r"incident_energies row 1: nan"),
        ({"incident_energies": np.ones((5, 1))}, r"incident_energies has shape \(5, 1\); expected \(4, 1\)"),
        ({"incident_energies": np.ones((4, 2))}, r"incident_energies has shape \(4, 2\)"),
        ({"incident_energies": None}, r"no dataset 'incident_energies'; datasets found: showers"),
        ({"incident_energies": ["a"] * 4}, r"'incident_energies' is not an array of real numbers"),
        ({"showers": np.ones((4, 2, 3))}, r"showers has shape \(4, 2, 3\); expected \(N, voxels\)"),
        ({"showers": np.ones((4, 0))}, r"showers has no voxels"),
        ({"showers": np.ones((0, 6)), "incident_energies": np.ones((0, 1))}, r"the file holds no events"),
        ({"showers": h5py.Empty("f8")}, r"'showers' is not an array"),
        ({"showers": None, "other": np.ones(3)}, r"datasets found: incident_energies, other; expected"),
        ({"showers": None, "ECAL": np.ones((4, 6))}, r"ECAL has shape \(4, 6\); expected \(N, x, y, z\)"),
        ({"showers": None, "ECAL": np.ones((4, 1, 2, 3))}, r"no dataset 'energy'"),
        (
            {"showers": None, "ECAL": -np.ones((4, 1, 2, 3)), "energy": np.ones(4)},
            r"ECAL row 0, cell \(0, 0, 0\): the energy -1.0 is negative",
        ),
    ],
)
def test_faulty_showers(tmp_path: Path, replaced: dict, message: str) -> None:
    path = showers(tmp_path / "bad.h5", **replaced)
    one_line(lambda: load_calorimeter(path, grid=None), path, message)


def test_fault_beyond_the_chosen_events_is_found(tmp_path: Path) -> None:
    energies = np.array([[1.0], [1.0], [5.0], [1.0]])
    path = showers(tmp_path / "bad.h5", showers=one_voxel(-1.0), incident_energies=energies)
    one_line(lambda: load_calorimeter(path, grid=None, energy_window=(0.5, 2.0)), path, "row 2, voxel 5")


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ("{", r"attribute geometry: the geometry is not the JSON text"),
        ("[1]", r"attribute geometry"),
        (json.dumps({"axes": ["depth"], "edges": [[0, 1]], "units": ["mm"]}), r"axes are \['depth'\]; allowed"),
        (json.dumps({"axes": [["x"]], "edges": [[0, 1]], "units": ["mm"]}), r"axes are"),
        (json.dumps({"axes": ["x"], "edges": [[0, 0]], "units": ["mm"]}), r"edges of axis 'x'"),
        (json.dumps({"axes": ["x"], "edges": [[0, 1]], "units": []}), r"edges and units must be given for each"),
        (json.dumps({"axes": ["x"], "edges": [[0, 1]], "units": ["mm"]}), r"\(1,\) cells does not fit .* 6 voxels"),
        (7, r"attribute geometry"),
    ],
)
def test_faulty_geometry(tmp_path: Path, geometry: object, message: str) -> None:
    path = showers(tmp_path / "bad.h5")
    with h5py.File(path, "a") as file:
        file.attrs["geometry"] = geometry
    one_line(lambda: load_calorimeter(path, grid=None), path, message)


def test_no_shape_and_no_geometry(tmp_path: Path) -> None:
    path = showers(tmp_path / "plain.h5")
    one_line(lambda: load_calorimeter(path), path, r"axis 'layer' is not in the file|8 pixels")
    one_line(lambda: load_calorimeter(path, shape=(2, 2, 2)), path, r"\(2, 2, 2\) cells does not fit .* 6 voxels")


def test_no_other_file_is_followed(tmp_path: Path) -> None:
    secret = showers(tmp_path / "secret.h5")
    for link in (h5py.ExternalLink(str(secret), "/showers"), h5py.SoftLink("/elsewhere")):
        path = showers(tmp_path / "link.h5", showers=None)
        with h5py.File(path, "a") as file:
            file["showers"] = link
        with pytest.raises(ValueError, match=r"link to elsewhere|datasets found|not a calorimeter file"):
            load_calorimeter(path, grid=None)
    (tmp_path / "raw.bin").write_bytes(np.ones((4, 6)).tobytes())
    path = showers(tmp_path / "external.h5", showers=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("showers", (4, 6), "f8", external=[(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)])
    one_line(lambda: load_calorimeter(path, grid=None), path, "stored in other files")
    path = showers(tmp_path / "virtual.h5", showers=None)
    layout = h5py.VirtualLayout((4, 6), "f8")
    layout[:] = h5py.VirtualSource(secret, "showers", (4, 6))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("showers", layout)
    one_line(lambda: load_calorimeter(path, grid=None), path, "stored in other files")


@pytest.mark.parametrize("read", [load_calorimeter, load_muon, load_events, describe])
def test_missing_empty_and_foreign_files(tmp_path: Path, read: Callable) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5: no such file"):
        read(tmp_path / "nothing.h5")
    (tmp_path / "empty.h5").touch()
    one_line(lambda: read(tmp_path / "empty.h5"), tmp_path / "empty.h5", r"the file is empty \(0 bytes\)")
    one_line(lambda: read(tmp_path), tmp_path, "not a file")
    (tmp_path / "bytes.h5").write_bytes(bytes(range(255, 0, -1)))
    one_line(lambda: read(tmp_path / "bytes.h5"), tmp_path / "bytes.h5", "not an HDF5 file|neither HDF5, LHE nor")


def test_foreign_hdf5_lists_what_was_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["jets"], file["labels"] = np.ones(3), np.ones(3)
    for read in (load_calorimeter, load_events, describe):
        one_line(lambda read=read: read(tmp_path / "foreign.h5"), tmp_path / "foreign.h5", "found: jets, labels")


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "good.h5"
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.full((50, 1), 1e3)
        file.create_dataset(
            "showers", data=np.random.default_rng(0).random((50, 60)), chunks=(10, 60), compression="gzip"
        )
    return path.read_bytes()


@given(kept=st.floats(0, 1, exclude_max=True))
@fuzz
def test_truncated_hdf5(good_file: bytes, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "truncated.h5"
    path.write_bytes(good_file[: int(kept * len(good_file))])
    one_line(lambda: load_events(path), path, ".")


def complaint(read: Callable[[], object]) -> str:
    """What a reader says of a file, nothing if it reads it."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return ""


@given(place=st.floats(0, 1, exclude_max=True), damage=st.binary(min_size=1, max_size=64))
@fuzz
def test_damaged_hdf5(good_file: bytes, tmp_path: Path, place: float, damage: bytes) -> None:
    path = tmp_path / "damaged.h5"
    start = int(place * len(good_file))
    path.write_bytes((good_file[:start] + damage + good_file[start + len(damage) :])[: len(good_file)])
    said = complaint(lambda: load_events(path))
    assert "\n" not in said
    assert not said or str(path) in said


@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"\x89HDF\r\n\x1a\n", b"\x1f\x8b\x08", b"<"]))
@fuzz
def test_random_bytes(tmp_path: Path, content: bytes, start: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(start + content)
    one_line(lambda: load_events(path), path, ".")


CSV_HEADER = ",".join(_COLUMNS)
CSV_EVENT = "50,-0.08,0.01,2.17,2.18,0.08,-0.02,47.8,47.81"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n", "line 1: columns E0_GeV"),
        ("E0_GeV,mu_px\n1,2\n", r"line 1: columns mu_py, .* are missing; found: E0_GeV, mu_px"),
        (f"{CSV_HEADER}\n", "the file holds no events"),
        (f"{CSV_HEADER}\n{CSV_EVENT}\n{CSV_EVENT.replace('2.17', 'abc')}\n", "line 3: mu_pz is 'abc', not a number"),
        (f"{CSV_HEADER}\n{CSV_EVENT.replace('2.17', 'nan')}\n", "line 2: mu_pz is nan, not a finite number"),
        (f"{CSV_HEADER}\n{CSV_EVENT}\n50,1\n", "line 3: 2 values, the header has 9 columns"),
        (f"{CSV_HEADER}\n{CSV_EVENT.replace('47.81', '51.0')}\n", "row 0: force carrier with energy 51 GeV"),
        (f"{CSV_HEADER}\n{CSV_EVENT.replace('0.08', '0').replace('-0.02', '0')}\n", "row 0: force carrier"),
    ],
)
def test_faulty_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text(text)
    one_line(lambda: load_muon(path), path, message)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "events.csv.gz"
    content = gzip.compress("\n".join([CSV_HEADER, *[CSV_EVENT] * 5000]).encode())
    path.write_bytes(content[: len(content) // 2])
    one_line(lambda: load_muon(path), path, "gzip file is truncated or damaged")


@given(text=st.text(alphabet=st.sampled_from('0123456789.,-+eE"\n\r xNna\x00'), max_size=200))
@fuzz
def test_random_csv_rows(tmp_path: Path, text: str) -> None:
    path = tmp_path / "random.csv"
    path.write_text(f"{CSV_HEADER}\n{text}")
    said = complaint(lambda: load_muon(path))
    assert "\n" not in said
    assert not said or str(path) in said


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, "attribute columns is missing"),
        ("nonsense", "attribute columns is missing or does not name"),
        ('{"kind": "Dataset", "features": [{"name": "a"}], "conditions": []}', "attribute columns"),
        ('{"kind": "Other", "features": [], "conditions": []}', "attribute columns"),
        ('{"kind": "Dataset", "features": [], "conditions": []}', r"samples have shape \(4, 11\); expected \(N, 0\)"),
    ],
)
def test_faulty_table(tmp_path: Path, columns: str | None, message: str) -> None:
    path = tmp_path / "table.h5"
    write_events(path, simulate_muon(n=4))
    with h5py.File(path, "a") as file:
        del file.attrs["columns"]
        if columns is not None:
            file.attrs["columns"] = columns
    one_line(lambda: load_events(path), path, message)


def test_faulty_row_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "table.h5"
    write_events(path, simulate_muon(n=4))
    with h5py.File(path, "a") as file:
        file["samples"][2, 1] += 1.0
    one_line(lambda: load_events(path), path, "samples does not match the SHA-256 that the file states; it was changed")
    assert "SHA-256" in describe(path)["problems"]
    with h5py.File(path, "a") as file:
        file["samples"][2, 1] = np.nan
    one_line(lambda: load_events(path), path, "samples row 2, column 'pt': nan is not finite")
    assert "row 2" in describe(path)["problems"]
    with h5py.File(path, "a") as file:
        file.attrs["provenance"] = "["
    one_line(lambda: load_events(path), path, "attribute provenance is not JSON text")


def test_description_tells_the_problem(tmp_path: Path) -> None:
    path = showers(tmp_path / "bad.h5", showers=one_voxel(-1.5))
    facts = describe(path)
    assert facts["layout"] == "CaloChallenge"
    assert "showers row 2, voxel 5" in facts["problems"]
