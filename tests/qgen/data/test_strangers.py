"""Files from strangers: made to break a reader, not by accident. One clear line each, in bounded memory and time.

The worst of them are read in a process that may take little more memory than it needs to start.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgen.data import (
    describe,
    load_binning,
    load_calorimeter,
    load_events,
    load_muon,
    load_ttbar,
    open_events,
    simulate_muon,
    write_events,
)
from qgen.data.muon_files import _COLUMNS

fuzz = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stream(path: Path) -> int:
    with open_events(path) as file:
        return sum(len(block) for block in file.blocks())


READERS: dict[str, Callable[[Path], object]] = {
    "load_events": load_events,
    "load_calorimeter": load_calorimeter,
    "load_muon": load_muon,
    "load_ttbar": load_ttbar,
    "load_binning": load_binning,
    "describe": describe,
    "open_events": stream,
}


def said(read: Callable[[Path], object], path: Path) -> str:
    """The one line in which a reader refuses a file; nothing if it reads it."""
    try:
        found = read(path)
    except (ValueError, OSError) as error:
        line = str(error)
    else:
        line = "" if not isinstance(found, dict) or found["problems"] == "none" else str(found["problems"])
    assert "\n" not in line
    assert len(line) < 1000 + 2 * len(str(path))
    return line


def refused(path: Path, *names: str) -> str:
    """What readers say of a file that none of them reads."""
    lines = [said(READERS[name], path) for name in names or ("load_events", "load_calorimeter", "describe")]
    assert all(lines)
    return lines[0]


def layout(path: Path, **content: Any) -> Path:
    """A file in CaloChallenge layout, with other content."""
    content = {"incident_energies": np.full((4, 1), 1e3), "showers": np.ones((4, 6))} | content
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if callable(values):
                values(file, name)
            elif values is not None:
                file[name] = values
    return path


# HDF5: nothing is followed


def test_links_are_not_even_tried(tmp_path: Path) -> None:
    """Behind this one is a pipe: to open it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("showers", "incident_energies", "weights", "samples", "ECAL"):
        path = tmp_path / f"{name}.h5"
        layout(path, **{name: h5py.ExternalLink(str(tmp_path / "pipe"), "/showers")})
        if name in ("samples", "ECAL"):  # which a file of showers does not need
            continue
        assert "link to elsewhere" in refused(path)


def test_cycles_and_dangling_links_end(tmp_path: Path) -> None:
    path = layout(tmp_path / "cycle.h5", showers=None)
    with h5py.File(path, "a") as file:
        file["showers"] = h5py.SoftLink("/showers")
        file["loop"] = file["/"]
    assert "link to elsewhere" in refused(path)
    with h5py.File(path, "a") as file:
        del file["showers"]
        file["showers"] = file["/"]  # the folder that holds it
    assert "not an array" in refused(path)


def test_sources_of_virtual_data_are_not_opened(tmp_path: Path) -> None:
    """An unlimited one opens its source as soon as its shape is asked for; here that is a pipe."""
    os.mkfifo(tmp_path / "pipe")

    def virtual(file: h5py.File, name: str) -> None:
        form = h5py.VirtualLayout((4, 6), "f8", maxshape=(None, 6))
        source = h5py.VirtualSource(str(tmp_path / "pipe"), "x", (4, 6), "f8", maxshape=(None, 6))
        form[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset(name, form)

    assert "stored in other files" in refused(layout(tmp_path / "virtual.h5", showers=virtual))


# HDF5: nothing but numbers


@pytest.mark.parametrize(
    "values",
    [
        np.array([(1, 2.0)] * 4, dtype=[("a", "i4"), ("b", "f8")]),
        np.array([b"text"] * 4),
        np.ones((4, 6), dtype=complex),
        np.ones((4, 6), dtype=bool),
        np.datetime64("2020", "s").astype("i8"),
    ],
    ids=["compound", "strings", "complex", "bool", "scalar"],
)
def test_other_kinds_of_data(tmp_path: Path, values: Any) -> None:
    for name in ("showers", "incident_energies"):
        refused(layout(tmp_path / "x.h5", **{name: values}))


def test_references_and_ragged_rows(tmp_path: Path) -> None:
    def references(file: h5py.File, name: str) -> None:
        file.create_dataset(name, (4,), dtype=h5py.ref_dtype)[0] = file["incident_energies"].ref

    def ragged(file: h5py.File, name: str) -> None:
        file.create_dataset(name, (4,), dtype=h5py.vlen_dtype("f8"))[0] = np.ones(5)

    for kind in (references, ragged):
        assert "not an array of real numbers" in refused(layout(tmp_path / "x.h5", showers=kind))


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<i2", ">u8", "<f8"])
def test_every_width_and_order_of_numbers_is_read(tmp_path: Path, kind: str) -> None:
    path = layout(tmp_path / "x.h5", showers=np.arange(24).reshape(4, 6).astype(kind))
    np.testing.assert_array_equal(load_events(path).samples.numpy(), np.arange(24).reshape(4, 6))


def test_other_filters_are_named(tmp_path: Path) -> None:
    def packed(numbers: list[int]) -> Callable[[h5py.File, str], None]:
        def create(file: h5py.File, name: str) -> None:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((4, 6))
            for number in numbers:
                properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1,))
            space = h5py.h5s.create_simple((4, 6))
            made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_DOUBLE, space, properties)
            made.write_direct_chunk((0, 0), b"anything")

        return create

    line = refused(layout(tmp_path / "x.h5", showers=packed([32015])))
    assert "packed with filter 32015, which is not read; those read are gzip, shuffle, Fletcher 32, szip" in line
    assert "packed twice with gzip" in refused(layout(tmp_path / "x.h5", showers=packed([1, 1])))


# HDF5: bombs


def declared(shape: tuple[int, ...], **options: Any) -> Callable[[h5py.File, str], None]:
    """A dataset of which nothing is stored."""
    return lambda file, name: file.create_dataset(name, shape, "f8", **options)


@pytest.mark.parametrize(
    "content",
    [
        {"showers": declared((10**12, 8), chunks=(1000, 8)), "incident_energies": declared((10**12, 1), chunks=(9, 1))},
        {"showers": declared((4, 10**12), chunks=(1, 1000))},
        {"showers": declared((4, 10**7), chunks=(1, 1000))},
        {"showers": declared((4, 6), fillvalue=1.0)},
        {"showers": declared((2**40, 2**20), chunks=(1, 1))},
        {"weights": declared((10**11,), chunks=(1000,))},
    ],
    ids=["rows", "a row", "columns", "fill value", "product", "weights"],
)
def test_what_is_declared_and_not_there(tmp_path: Path, content: dict[str, Any]) -> None:
    path = layout(tmp_path / "bomb.h5", **content)
    assert path.stat().st_size < 20_000
    assert any(text in refused(path) for text in ("the numbers are not in the file", "at most 200000 are read"))


def test_a_chunk_that_unpacks_to_more_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgen.data.memory.free_memory", lambda: 10**6)
    path = layout(tmp_path / "x.h5", showers=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("showers", data=np.zeros((4, 50_000)), chunks=(4, 50_000), compression="gzip")
    assert "chunks of shape (4, 50000): 0.0048 GB of memory are needed, 0.001 GB are free" in refused(path)


BOMBS = """
import resource, sys
import qgen.data, h5py, pylhe, torch
size = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")][0] * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 250_000_000,) * 2)
for line in sys.stdin:
    name, path = line.split()
    try:
        found = getattr(qgen.data, name)(path)
        print("read", found if isinstance(found, dict) else len(found), flush=True)
    except (ValueError, OSError) as error:
        print("refused", error, flush=True)
"""
HEADER = ",".join(_COLUMNS)
EVENT = "50,-0.08,0.01,2.17,2.18,0.08,-0.02,47.8,47.81\n"


def zipped(path: Path, *parts: tuple[bytes, int]) -> Path:
    """A gzip file of repeated pieces that is never unpacked here."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for piece, times in parts:
            block = piece * max(1, 2**20 // len(piece))
            for _ in range(max(1, times // max(1, 2**20 // len(piece)))):
                file.write(packer.compress(block if times > 1 else piece))
        file.write(packer.flush())
    return path


def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    """Each is far more than the 250 MB that are allowed."""
    numbers = tmp_path / "numbers.h5"
    with h5py.File(numbers, "w") as file:
        file["incident_energies"] = np.ones((2, 1))
        file.create_dataset("showers", (2, 190_000), "f8", chunks=(1, 190_000), compression="gzip")[:] = 1.0
    wide = tmp_path / "rows.h5"
    with h5py.File(wide, "w") as file:
        for name, columns in (("incident_energies", 1), ("showers", 64)):
            made = file.create_dataset(name, (2**19, columns), "f8", chunks=(2**14, columns), compression="gzip")
            for start in range(0, 2**19, 2**16):
                made[start : start + 2**16] = np.ones((2**16, columns))
    header = f"{HEADER}\n".encode()
    lhe = b"<LesHouchesEvents version='3.0'>\n"
    files = {
        "a long line": zipped(tmp_path / "line.csv.gz", (header, 1), (b"1", 2**28)),
        "a long header": zipped(tmp_path / "header.csv.gz", (b"column,", 2**25)),
        "quotes": zipped(tmp_path / "quotes.csv.gz", (header, 1), (b'"', 1), (b"1\n", 2**27)),
        "text": zipped(tmp_path / "text.lhe.gz", (lhe, 1), (b"<header>", 1), (b"x", 2**28)),
        "attributes": zipped(tmp_path / "attributes.lhe.gz", (b"<LesHouchesEvents a='", 1), (b"x", 2**28)),
        "white": zipped(tmp_path / "white.gz", (b" ", 2**28)),
        "all events": wide,
        "wide": numbers,
    }
    assert max(path.stat().st_size for path in files.values()) < 3e6
    lines = "".join(f"load_events {path}\n" for path in files.values())
    lines += f"describe {wide}\nload_binning {files['text']}\nload_binning {files['white']}\n"
    done = subprocess.run(
        [sys.executable, "-c", BOMBS], input=lines, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(zip([*files, "describe", "no binning", "white binning"], done.stdout.splitlines(), strict=True))
    for name, line in found.items():
        expected = "read" if name in ("describe", "wide") else "refused"
        assert line.startswith(expected), (name, line)
    assert "line 2: longer than 1048576 characters" in found["a long line"]
    assert "line 1: longer than 1048576 characters" in found["a long header"]
    assert "GB of memory are needed" in found["all events"]
    assert "an element of more than 33554432 bytes" in found["text"]


def test_rows_of_text_are_counted_against_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n{EVENT * 300}")
    monkeypatch.setattr("qgen.data.muon_files.BLOCK", 100)
    monkeypatch.setattr("qgen.data.memory.free_memory", lambda: 20_000)
    assert "300 events and more: 2.4e-05 GB of memory are needed, 2e-05 GB are free" in refused(path, "load_muon")
    assert stream(path) == 300


# attributes


@pytest.mark.parametrize("name", ["geometry", "provenance", "threshold_MeV"])
@pytest.mark.parametrize(
    "value",
    [
        np.ones((3, 3)),
        h5py.Empty("f8"),
        np.array([b"a", b"b"]),
        "[" * 60_000,
        np.void(b"\xff\xfe"),
    ],
    ids=["array", "empty", "texts", "deep", "opaque"],
)
def test_attributes_of_other_kinds(tmp_path: Path, name: str, value: Any) -> None:
    path = layout(tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        file.attrs[name] = value
    assert f"attribute {name}" in refused(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"axes": ["voxel"], "edges": [[0, 1e999]], "units": ["x"]}',
        '{"axes": ["voxel"], "edges": [[0, NaN]], "units": ["x"]}',
        '{"axes": ["voxel"], "edges": [["0", "1"]], "units": ["x"]}',
        '{"axes": "voxel", "edges": 3, "units": null}',
        '{"axes": ["voxel"], "edges": [[0,1,2,3,4,5,6]], "units": ["x"], "binning": {"layers": [{"n_alpha": 1e18}]}}',
        '{"axes": ["voxel"], "edges": [[0,1,2,3,4,5,6]], "units": ["x"], "binning": '
        '{"particle": "", "layers": [{"number": 0, "radii": [0, 1], "n_alpha": 100000000000}]}}',
    ],
)
def test_geometries_of_other_kinds(tmp_path: Path, text: str) -> None:
    path = layout(tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        file.attrs["geometry"] = text
    assert "geometry" in refused(path) or "binning" in refused(path)


def test_names_of_datasets_stay_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for k in range(300):
            file[f"{'long' * 50}\n{k}"] = 1.0
    assert "datasets found: longlong" in refused(path)


# text


@pytest.mark.parametrize("reader", ["load_binning", "load_events", "load_ttbar"])
@pytest.mark.parametrize(
    "definition",
    [
        "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 10)) + '<!ENTITY l0 "lol">',
        '<!ENTITY l9 SYSTEM "file:///etc/passwd">',
        '<!ENTITY % l9 SYSTEM "http://127.0.0.1:1/x"> %l9;',
    ],
    ids=["growing", "a file", "a server"],
)
def test_entities_are_refused(tmp_path: Path, reader: str, definition: str) -> None:
    path = tmp_path / "x.xml"
    path.write_text(f"<!DOCTYPE x [{definition}]>\n<LesHouchesEvents><init>&l9;</init></LesHouchesEvents>")
    assert "document type" in refused(path, reader)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_entities_in_other_letters_are_refused_too(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes('<!DOCTYPE x [<!ENTITY a "b">]><Bins>&a;</Bins>'.encode(encoding))
    refused(path, "load_binning", "load_events", "load_ttbar")


def test_a_binning_of_more_voxels_than_can_be(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text('<Bins><Bin name="a"><Layer id="0" r_edges="0,1" n_bin_alpha="200001"/></Bin></Bins>')
    assert "200001 voxels; at most 200000 are possible" in refused(path, "load_binning")
    path.write_text(f'<Bins><Bin name="a"><Layer id="0" r_edges="{"x" * 10**6}" n_bin_alpha="1"/></Bin></Bins>')
    refused(path, "load_binning")


def test_very_many_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(",".join(str(k) for k in range(200_000)) + "\n")
    assert "longer than" in refused(path, "load_events", "load_muon", "open_events", "describe")
    path.write_text(",".join(str(k) for k in range(100_000)) + "\n")
    assert "columns E0_GeV" in refused(path, "load_events")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        for name in READERS:
            assert "not a file" in refused(path, name)


# all readers, all small files, any damage


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("valid")
    write_events(folder / "showers.h5", load_calorimeter(max_events=10))
    write_events(folder / "table.h5", simulate_muon(10))
    with h5py.File(folder / "clic.h5", "w") as file:
        file["ECAL"], file["energy"] = np.ones((3, 2, 2, 8)), np.ones(3)
    (folder / "events.csv").write_text(f"{HEADER}\n{EVENT * 3}")
    event = (
        "<event>\n5 1 1.0 91.0 0.0078 0.118\n13 -1 0 0 0 0 0.0 0.0 50 50 0.10566 0.0 1.0\n"
        "623 -1 0 0 0 0 0.0 0.0 0.0 193.0 193.0 0.0 1.0\n13 1 1 2 0 0 -0.08 0.01 2.17 2.18 0.10566 0.0 1.0\n"
        "623 1 1 2 0 0 0.01 0.01 0.0 193.0 193.0 0.0 1.0\n622 1 1 2 0 0 0.08 -0.02 47.8 47.81 0.2 0.0 1.0\n</event>\n"
    )
    init = "<init>\n13 623 1.0e+02 1.93e+02 0 0 0 0 -4 1\n1.0 0.1 1.0 1\n</init>\n"
    lhe = f'<LesHouchesEvents version="3.0">\n<header>\n</header>\n{init}{event * 2}</LesHouchesEvents>\n'
    (folder / "events.lhe").write_text(lhe)
    (folder / "events.lhe.gz").write_bytes(gzip.compress(lhe.encode()))
    layer = '<Layer id="0" r_edges="0,1,2" n_bin_alpha="4"/>'
    (folder / "binning.xml").write_text(f'<?xml version="1.0"?><Bins><Bin name="photon">{layer}</Bin></Bins>')
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_valid_files_are_read(valid: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in valid.items():
        (tmp_path / name).write_bytes(content)
        read = load_binning if name == "binning.xml" else load_events
        assert said(read, tmp_path / name) == ""
        assert name == "binning.xml" or said(describe, tmp_path / name) == ""


damage = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["replace", "insert", "remove", "repeat"]),
        st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"nan", b"1e999", b"-1", b"\0", b"9" * 30])),
    ),
    min_size=1,
    max_size=5,
)


def damaged(content: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for place, how, piece in changes:
        start = int(place * len(content))
        before, after = content[:start], content[start:]
        if how == "replace":
            content = before + piece + after[len(piece) :]
        elif how == "insert":
            content = before + piece + after
        elif how == "remove":
            content = before + after[len(piece) :]
        else:
            content = before + after[: 10 * len(piece)] * 3 + after
    return content


@given(data=st.data(), changes=damage)
@fuzz
@pytest.mark.parametrize("name", ["events.csv", "events.lhe", "events.lhe.gz", "binning.xml"])
def test_damaged_text(valid: dict[str, bytes], tmp_path: Path, name: str, data: st.DataObject, changes: list) -> None:
    (tmp_path / name).write_bytes(damaged(valid[name], changes))
    read = data.draw(st.sampled_from(sorted(READERS)))
    said(READERS[read], tmp_path / name)


DAMAGED = """
import sys, qgen.data
for line in sys.stdin:
    for name in ("load_events", "load_calorimeter", "describe"):
        try:
            getattr(qgen.data, name)(line.strip())
            print("read", flush=True)
        except (ValueError, OSError) as error:
            print("refused", error, flush=True)
"""


@given(
    many=st.lists(st.tuples(st.sampled_from(["showers.h5", "table.h5", "clic.h5"]), damage), min_size=20, max_size=30)
)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_hdf5(valid: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, many: list) -> None:
    """In a process of its own: HDF5 is a library of C."""
    folder = tmp_path_factory.mktemp("damaged")
    paths = []
    for k, (name, changes) in enumerate(many):
        paths.append(folder / f"{k}.h5")
        paths[-1].write_bytes(damaged(valid[name], changes))
    lines = "".join(f"{path}\n" for path in paths)
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED], input=lines, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = done.stdout.splitlines()
    assert len(found) == 3 * len(paths)
    for line, path in zip(found, [path for path in paths for _ in range(3)], strict=True):
        assert line == "read" or (line.startswith("refused ") and str(path) in line)


@given(
    content=st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda c: st.lists(c) | st.dictionaries(st.text(max_size=5), c),
        max_leaves=8,
    )
)
@fuzz
def test_columns_of_any_kind(valid: dict[str, bytes], tmp_path: Path, content: Any) -> None:
    path = tmp_path / "table.h5"
    path.write_bytes(valid["table.h5"])
    with h5py.File(path, "a") as file:
        columns = json.loads(file.attrs["columns"])
        file.attrs["columns"] = json.dumps(columns | {"features": content})
    assert "columns" in said(load_events, path) or "samples" in said(load_events, path)
