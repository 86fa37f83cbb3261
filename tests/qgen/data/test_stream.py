"""Files of events written and read block by block: nothing is lost, nothing is half there, damage is found."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.data import (
    CalorimeterDataset,
    Dataset,
    Feature,
    describe,
    event_writer,
    load_calorimeter,
    load_events,
    load_muon,
    open_events,
    write_events,
)
from qgen.data.hdf5_writer import CHUNK_BYTES
from qgen.data.muon_files import _COLUMNS
from qgen.data.part_file import part_file

FEATURES, CONDITIONS = (Feature("a", "GeV"), Feature("b")), (Feature("c"),)


def table(n: int, seed: int = 0) -> Dataset:
    rows = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Dataset(rows[:, :2], FEATURES, rows[:, 2:], CONDITIONS, provenance={"by": "hand"}, weights=rows[:, 0])


def pieces(events: Dataset, sizes: list[int]) -> Iterator[Dataset]:
    start = 0
    for size in [*sizes, len(events)]:
        stop = min(len(events), start + size)
        if stop > start:
            yield events.take(range(start, stop))
        start = stop


def write(path: Path, *blocks: Dataset | BaseException) -> None:
    """Blocks to a file; something fails where one is an error."""
    with event_writer(path) as writer:
        for block in blocks:
            if isinstance(block, BaseException):
                raise block
            writer.append(block)


def joined(blocks: Iterator[Dataset], name: str) -> torch.Tensor:
    return torch.cat([getattr(block, name) for block in blocks])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgen.data.hdf5.BLOCK_BYTES", 2**20)
    monkeypatch.setattr("qgen.data.muon_files.BLOCK", 1000)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "make", [lambda: table(150_000), lambda: load_calorimeter(grid=None, max_events=40)], ids=["table", "showers"]
)
def test_what_is_streamed_is_what_is_loaded(tmp_path: Path, make: Callable[[], Dataset]) -> None:
    events = make()
    write_events(tmp_path / "events.h5", events)
    with open_events(tmp_path / "events.h5") as file:
        blocks = list(file.blocks())
        assert len(file) == sum(map(len, blocks)) == len(events)
        assert file.has_checksums
    assert len(blocks) > 1
    assert all(type(block) is type(events) for block in blocks)
    for name in ("samples", "conditions"):
        assert torch.equal(joined(iter(blocks), name), getattr(events, name))
    loaded = load_events(tmp_path / "events.h5")
    assert torch.equal(loaded.samples, events.samples)
    assert blocks[0].features == loaded.features
    assert blocks[-1].provenance == loaded.provenance
    if isinstance(events, CalorimeterDataset):
        assert blocks[0].geometry == events.geometry
    else:
        assert torch.equal(joined(iter(blocks), "weights"), loaded.weights)


@given(sizes=st.lists(st.integers(1, 70_000), max_size=6), n=st.integers(1, 140_000))
@settings(max_examples=8, deadline=None)
def test_a_file_does_not_depend_on_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], n: int
) -> None:
    folder, events = tmp_path_factory.mktemp("blocks"), table(n)
    write_events(folder / "whole.h5", events)
    with event_writer(folder / "blocks.h5") as writer:
        for block in pieces(events, sizes):
            writer.append(block)
    assert (folder / "blocks.h5").read_bytes() == (folder / "whole.h5").read_bytes()
    assert torch.equal(load_events(folder / "blocks.h5").samples, events.samples)


def test_chunks_are_checked_and_of_a_megabyte(tmp_path: Path) -> None:
    write_events(tmp_path / "events.h5", table(200_000))
    with h5py.File(tmp_path / "events.h5") as file:
        for name, columns in (("samples", 2), ("conditions", 1), ("weights", 1)):
            values = file[name]
            assert values.fletcher32
            assert CHUNK_BYTES // 2 <= 8 * columns * values.chunks[0] <= CHUNK_BYTES
            assert values.attrs["sha256"] == hashlib.sha256(values[:].tobytes()).hexdigest()


def test_a_corrupt_chunk_is_found_at_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    write_events(path, table(200_000))
    with h5py.File(path) as file:
        rows = file["samples"].chunks[0]
        chunk = file["samples"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0x10
    path.write_bytes(content)
    line = rf"events\.h5: samples rows {rows} to {2 * rows - 1} cannot be read; truncated or damaged \(.*\)$"
    with pytest.raises(ValueError, match=line) as caught:
        load_events(path)
    assert "\n" not in str(caught.value)
    assert f"samples rows {rows} to {2 * rows - 1}" in describe(path)["problems"]
    with open_events(path) as file, pytest.raises(ValueError, match=line):
        list(file.blocks())


@pytest.mark.parametrize("name", ["showers", "incident_energies"])
def test_changed_numbers_are_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / "showers.h5"
    write_events(path, load_calorimeter(max_events=50))
    assert describe(path)["checksums"] == "sha256, verified"
    with h5py.File(path, "a") as file:
        file[name][7] *= 1.5
    for read in (load_events, lambda path: load_calorimeter(path, grid=(4,), max_events=5)):
        with pytest.raises(ValueError, match=f"{name} does not match the SHA-256 that the file states"):
            read(path)
    with h5py.File(path, "a") as file:
        for dataset in file.values():
            del dataset.attrs["sha256"]
    assert describe(path)["checksums"] == "none stated"
    assert describe(path)["problems"] == "none"


def test_an_unreadable_checksum_is_said(tmp_path: Path) -> None:
    write_events(tmp_path / "events.h5", table(10))
    with h5py.File(tmp_path / "events.h5", "a") as file:
        file["samples"].attrs["sha256"] = np.arange(5)
    with pytest.raises(ValueError, match=r"attribute sha256 cannot be read \(neither a text nor a number\)"):
        load_events(tmp_path / "events.h5")


def csv(n: int, weight: Callable[[int], float] | None = None) -> str:
    names = [*_COLUMNS, *([] if weight is None else ["weight"])]
    event = "50,-0.08,0.01,2.17,2.18,0.08,-0.02,47.8,47.81"
    rows = [event + ("" if weight is None else f",{weight(k)}") for k in range(n)]
    return "\n".join([",".join(names), *rows]) + "\n"


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("weight", [None, lambda k: 2.0, lambda k: 1.0 + (k == 2499)])
def test_a_table_of_text_is_streamed_as_it_is_loaded(tmp_path: Path, weight: Callable | None) -> None:
    path = tmp_path / "events.csv.gz"
    path.write_bytes(gzip.compress(csv(2500, weight).encode(), 1))
    loaded = load_muon(path)
    with open_events(path) as file:
        blocks = list(file.blocks())
        assert len(file) == 2500
        assert not file.has_checksums
    assert len(blocks) == 3
    assert torch.equal(joined(iter(blocks), "samples"), loaded.samples)
    assert [block.weights is None for block in blocks] == [loaded.weights is None] * 3
    with event_writer(tmp_path / "events.h5") as writer:
        for block in blocks:
            writer.append(block)
    back = load_events(tmp_path / "events.h5")
    assert torch.equal(back.samples, loaded.samples)
    assert (back.weights is None) == (loaded.weights is None)


@pytest.mark.usefixtures("small_blocks")
def test_a_fault_in_a_later_block_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    lines = csv(2500).splitlines()
    lines[1801] = lines[1801].replace("47.81", "51.0")
    path.write_text("\n".join(lines))
    with open_events(path) as file, pytest.raises(ValueError, match=r"row 800: .* after the first 1000"):
        list(file.blocks())
    with pytest.raises(ValueError, match="row 1800: force carrier with energy 51 GeV"):
        load_muon(path)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda: Dataset(torch.rand(2, 2), FEATURES, torch.rand(2, 1), CONDITIONS), "other weights"),
        (lambda: Dataset(torch.rand(2, 1), FEATURES[:1]), "other columns"),
        (lambda: load_calorimeter(max_events=2), "other kind"),
    ],
)
def test_blocks_of_one_file_are_of_one_kind(tmp_path: Path, second: Callable[[], Dataset], message: str) -> None:
    with pytest.raises(ValueError, match=f"events from row 5 on have {message}"):
        write(tmp_path / "x.h5", table(5), second())
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_events_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no events were appended"), event_writer(tmp_path / "x.h5"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_negative_pixels_are_counted_from_the_first_block(tmp_path: Path) -> None:
    images = load_calorimeter(max_events=10)
    broken = images.take(range(3))
    broken.samples[2, 1] = -1.0
    with pytest.raises(ValueError, match="samples row 12, pixel layer_1: -1 MeV is negative"):
        write(tmp_path / "x.h5", images, broken)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_what_fails_leaves_the_previous_file(tmp_path: Path, error: type[BaseException]) -> None:
    write_events(tmp_path / "events.h5", table(10))
    before = (tmp_path / "events.h5").read_bytes()
    with pytest.raises(error):
        write(tmp_path / "events.h5", table(100_000), error())
    assert (tmp_path / "events.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["events.h5"]


@pytest.mark.parametrize("room", [100, 4096, 300_000, 2_000_000])
def test_a_disk_that_is_full_at_any_moment(tmp_path: Path, room: int) -> None:
    write_events(tmp_path / "events.h5", table(10))
    before = (tmp_path / "events.h5").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match="cannot be written .*what stood there is untouched"):
            write(tmp_path / "events.h5", *(table(10_000, seed) for seed in range(15)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "events.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["events.h5"]


KILLED = """
import sys, torch
from pathlib import Path
from qgen.data import Dataset, Feature, event_writer
with event_writer(sys.argv[1]) as writer:
    while True:
        writer.append(Dataset(torch.rand(100_000, 2), (Feature("a"), Feature("b"))))
        print(flush=True)
"""


def test_a_killed_writer_leaves_the_previous_file_and_the_next_one_cleans(tmp_path: Path) -> None:
    path = tmp_path / "events.h5"
    write_events(path, table(10))
    before = path.read_bytes()
    writing = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert writing.stdout is not None
    writing.stdout.readline()
    (part,) = tmp_path.glob(f".events.h5.{writing.pid}*.part")
    assert part.exists()
    write_events(tmp_path / "other.h5", table(10))
    write_events(path, table(20))  # a living process keeps what it writes
    assert part.exists()
    writing.send_signal(signal.SIGKILL)
    writing.wait()
    writing.stdout.close()
    assert len(load_events(path)) == 20
    assert path.read_bytes() != before
    assert part.exists()
    write_events(path, table(30))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["events.h5", "other.h5"]


def test_only_parts_of_this_file_are_cleaned(tmp_path: Path) -> None:
    for name in (".x.h5.12.part", ".x.h5.part", ".x.h5.abc.part", ".y.h5.12.part", "x.h5.12.part"):
        (tmp_path / name).touch()
    with part_file(tmp_path / "x.h5") as file:
        file.write(b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".x.h5.abc.part",
        ".x.h5.part",
        ".y.h5.12.part",
        "x.h5",
        "x.h5.12.part",
    ]
    assert (tmp_path / "x.h5").stat().st_mode & 0o777 == 0o666 & ~umask()


def test_where_nothing_can_be_locked_what_a_namesake_left_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    (tmp_path / f".x.h5.{os.getpid()}.part").touch()
    for content in (b"1", b"2"):
        with part_file(tmp_path / "x.h5") as file:
            file.write(content)
    assert (tmp_path / "x.h5").read_bytes() == b"2"
    assert len(list(tmp_path.iterdir())) == 2


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


BOUNDED = """
import resource, sys, torch
from qgen.data import CalorimeterDataset, describe, event_writer, hdf5, load_calorimeter, open_events
from qgen.data.calorimeter import INCIDENT_ENERGY, pixel_features
from qgen.data.geometry import Geometry

path, hdf5.BLOCK_BYTES = sys.argv[1], 2**20
geometry = Geometry.cells(layer=32)
def block(k):
    torch.manual_seed(k)
    energy = 1e4 + torch.rand(10_000, 1, dtype=torch.float64)
    samples = torch.randint(0, 9, (10_000, 32)).double()
    return CalorimeterDataset(samples, pixel_features(geometry), energy, (INCIDENT_ENERGY,), geometry=geometry)
def work(n):
    with event_writer(path) as writer:
        for k in range(n):
            writer.append(block(k))
    with open_events(path) as file:
        assert sum(len(one) for one in file.blocks()) == 10_000 * n
    assert describe(path)["problems"] == "none"
    assert len(load_calorimeter(path, max_events=100, energy_window=(1e4, 1e4 + 0.5))) == 100
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = work(1)
print(work(16) - before)
"""


def test_memory_stays_that_of_a_block(tmp_path: Path) -> None:
    """160,000 events of 32 pixels are 41 MB; a block, and 32 bytes for each event, are what it may take."""
    words = [sys.executable, "-c", BOUNDED, str(tmp_path / "x.h5")]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) * 1024 < 20e6
