from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
import torch

from qgen import files
from qgen.data import Dataset, Feature, load_calorimeter, load_events, write_calorimeter, write_events
from qgen.data.part_file import part_file
from qgen.device import find_device
from qgen.files import check_place, part_of, remove_stale_parts, write_atomically
from qgen.statefile import load_state, save_state


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def table(n: int) -> Dataset:
    return Dataset(torch.rand(n, 1, generator=torch.Generator().manual_seed(0)), (Feature("a"),))


WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_atomically(path, bytes(10_000)),
    "state": lambda path: save_state(path, {"w": torch.zeros(2000)}),
    "table": lambda path: write_events(path, table(5000)),
    "images": lambda path: write_calorimeter(path, load_calorimeter(max_events=500)),
}


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_leaves_what_stood_there(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(OSError, match="too large.*what stood there is untouched") as caught:
        write(path)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_impossible_places_are_named(write: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none/file: the folder .*none does not exist"):
        write(tmp_path / "none" / "file")
    with pytest.raises(ValueError, match="is a folder; the name of a file is needed"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a file"):
        load_state(tmp_path)


def test_a_table_of_many_rows_comes_back(tmp_path: Path) -> None:
    events = table(30_000)
    write_events(tmp_path / "events.h5", events)
    assert torch.equal(load_events(tmp_path / "events.h5").samples, events.samples)


@pytest.mark.parametrize(
    ("name", "line"),
    [("gpu", "device 'gpu' is unknown; use cpu"), ("meta", "device 'meta' is not supported"), ("cuda:99", "cuda:99")],
)
def test_devices_that_are_not_here_are_named(name: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        find_device(name)


def test_a_folder_that_takes_no_files_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_place(tmp_path / "x.json")
    assert not list(tmp_path.iterdir())

    def full(**options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(ValueError, match=r"x\.json: the folder .* takes no files \(Read-only file system\)$"):
        check_place(tmp_path / "x.json")


def test_what_the_dead_left_goes_where_locks_need_a_file_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS has them."""
    really = fcntl.flock

    def locked(file: IO[bytes], operation: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        really(file, operation)

    monkeypatch.setattr(fcntl, "flock", locked)
    left = part_of(tmp_path / "x")
    left.touch()
    assert remove_stale_parts(tmp_path) == [left]
    left.touch()
    with part_file(tmp_path / "x") as file:
        file.write(b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_two_machines_with_the_same_process_number_write_to_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.fsync

    def meanwhile(handle: int) -> None:
        monkeypatch.setattr(os, "fsync", really)
        write_atomically(tmp_path / "x", b"theirs, which is longer")
        really(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_atomically(tmp_path / "x", b"ours")
    assert (tmp_path / "x").read_bytes() == b"ours"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_where_the_old_file_is_after_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = Path.replace

    def failing(path: Path, target: Path) -> Path:
        if path.name.endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really(path, target)

    write_atomically(tmp_path / "x", b"old")
    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match=r"what stood there is now x\.before"):
        write_atomically(tmp_path / "x", b"new", previous=tmp_path / "x.before")
    assert (tmp_path / "x.before").read_bytes() == b"old"
    with pytest.raises(OSError, match="what stood there is untouched"):
        write_atomically(tmp_path / "x", b"new", previous=tmp_path / "x.before")
    monkeypatch.undo()

    def failing_folder(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync_folder", failing_folder)
    with pytest.raises(OSError, match="the new file is there, but may be lost with the power"):
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
