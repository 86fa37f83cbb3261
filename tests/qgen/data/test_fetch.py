"""Downloads from a server on this machine that breaks off, lies, redirects and forgets what it can do."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from experiments.cli import main
from qgen.data import download as downloads
from qgen.data import fetch as fetching
from qgen.data import load_calorimeter
from qgen.data.download import Mismatch, Unreachable, download
from qgen.data.fetch import fetch
from qgen.data.public import PUBLIC, PublicData, PublicFile

CONTENT = bytes(np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8))
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server:
    """Files by path, and how badly they are served."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.ranges, self.break_after, self.breaks, self.length = True, 0, 0, True
        self.status: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.tag = '"one"'
        self.url = ""


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.asked.append((self.path, wanted))
            if server.status:
                self.send_error(server.status.pop(0))
            elif self.path in server.redirects:
                self.send_response(302)
                self.send_header("Location", server.redirects[self.path])
                self.end_headers()
            elif self.path not in server.files:
                self.send_error(404)
            else:
                self.serve(server.files[self.path], wanted)

        def serve(self, content: bytes, wanted: str | None) -> None:
            start = 0
            same = self.headers.get("If-Range", server.tag) == server.tag
            if wanted and server.ranges and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("ETag", server.tag)
            if server.length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            stop = len(content)
            if server.breaks:
                server.breaks -= 1
                stop = min(stop, start + server.break_after)
            self.wfile.write(content[start:stop])

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    state.files["/file.h5"] = CONTENT
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Callable[..., Path]:
    def call(path: str = "/file.h5", checksum: str = MD5, **options: Any) -> Path:
        target = tmp_path / "file.h5"
        download(f"{server.url}{path}", target, checksum, plain=True, pause=lambda seconds: None, **options)
        return target

    return call


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_its_progress_is_told(server: Server, get: Callable, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    assert get(tell=lambda *line: told.append(line)).read_bytes() == CONTENT
    assert told[-1] == ("file.h5", len(CONTENT), len(CONTENT))
    assert left(tmp_path) == ["file.h5"]


def test_a_sha256_is_a_checksum_too(get: Callable) -> None:
    assert get(checksum=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}").read_bytes() == CONTENT


def test_a_transfer_that_breaks_goes_on_where_it_broke(server: Server, get: Callable) -> None:
    server.breaks, server.break_after = 20, 10_000  # more often than it is tried in vain, since each brings something
    assert get().read_bytes() == CONTENT
    starts = [int(wanted.removeprefix("bytes=")[:-1]) for _, wanted in server.asked if wanted]
    assert starts == [10_000 * k for k in range(1, 21)]


def test_an_interrupted_download_goes_on_in_the_next_call(server: Server, get: Callable, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, of: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    server.breaks, server.break_after = 1, 120_000
    with pytest.raises(KeyboardInterrupt):
        get(tell=interrupt)
    assert left(tmp_path) == [".file.h5.fetch"]
    there = (tmp_path / ".file.h5.fetch").stat().st_size
    assert there >= 100_000
    assert get().read_bytes() == CONTENT
    assert server.asked[-1] == ("/file.h5", f"bytes={there}-")
    assert left(tmp_path) == ["file.h5"]


def test_a_server_without_ranges_sends_all_again(server: Server, get: Callable) -> None:
    server.ranges, server.breaks, server.break_after = False, 2, 10_000
    assert get().read_bytes() == CONTENT


def test_a_file_that_changes_on_the_server_is_fetched_anew(server: Server, get: Callable, tmp_path: Path) -> None:
    (tmp_path / ".file.h5.fetch").write_bytes(b"an older file")
    assert get().read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=13-", None]
    (tmp_path / ".file.h5.fetch").write_bytes(CONTENT + b"longer than it is now")
    assert get().read_bytes() == CONTENT


def test_a_file_that_is_all_there_is_only_verified(server: Server, get: Callable, tmp_path: Path) -> None:
    (tmp_path / ".file.h5.fetch").write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_between_two_attempts_the_tag_tells_a_change(server: Server, get: Callable) -> None:
    new = CONTENT[::-1]
    server.breaks, server.break_after = 1, 1000

    def change(what: str, done: int, of: int) -> None:
        server.files["/file.h5"], server.tag = new, '"two"'

    assert get(checksum=f"md5:{hashlib.md5(new).hexdigest()}", tell=change).read_bytes() == new
    assert len(server.asked) == 2


def test_another_file_is_refused_and_deleted(server: Server, get: Callable, tmp_path: Path) -> None:
    server.files["/file.h5"] = b"something else"
    with pytest.raises(Mismatch, match=rf"file\.h5: what came has the checksum md5:\w+, expected {MD5}; it was") as one:
        get()
    assert "\n" not in str(one.value)
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [403, 404, 410])
def test_what_is_not_there_is_said_at_once(server: Server, get: Callable, tmp_path: Path, code: int) -> None:
    server.status = [code]
    with pytest.raises(Unreachable, match=f"file.h5: the server answers {code} "):
        get()
    assert len(server.asked) == 1
    assert left(tmp_path) == []


def test_a_busy_server_is_asked_again(server: Server, get: Callable) -> None:
    server.status = [503, 429, 500]
    assert get().read_bytes() == CONTENT
    server.status = [503] * 6


def test_patience_ends(server: Server, get: Callable, tmp_path: Path) -> None:
    server.status = [503] * 7
    with pytest.raises(Unreachable, match=r"503 .*; tried 6 times, what is there is kept"):
        get()
    assert len(server.asked) == 6


def test_no_server_and_no_network_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with pytest.raises(Unreachable, match=r"no connection \(Connection refused\); is there a network\?"):
        download("http://127.0.0.1:1/x", tmp_path / "x", MD5, plain=True, pause=waits.append)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    with pytest.raises(Unreachable, match=r"https://nowhere\.invalid/x: no connection"):
        download("https://nowhere.invalid/x", tmp_path / "x", MD5, pause=waits.append)
    assert left(tmp_path) == []


def test_redirects_lead_to_servers_only(server: Server, get: Callable, tmp_path: Path) -> None:
    server.redirects = {"/moved": "/file.h5", "/out": "file:///etc/passwd", "/ftp": "ftp://127.0.0.1/x"}
    assert get("/moved").read_bytes() == CONTENT
    with pytest.raises(OSError, match="'file:///etc/passwd' is not allowed"):
        get("/out")
    with pytest.raises(ValueError, match="only https and http is followed"):
        get("/ftp")
    with pytest.raises(ValueError, match="only https is followed"):
        download(f"{server.url}/file.h5", tmp_path / "y", MD5)
    server.redirects["/round"] = "/round"
    with pytest.raises(OSError, match="302"):
        get("/round")


def test_a_full_disk_is_said_before_and_while(
    server: Server, get: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = downloads.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(downloads.shutil, "disk_usage", lambda path: usage._replace(free=2**26 + 1000))
        with pytest.raises(OSError, match=r"no room on the disk; 0\.0003 GB more are needed, 1e-06 GB are free"):
            get()
        server.length = False
        patch.setattr(downloads.shutil, "disk_usage", lambda path: usage._replace(free=10))
        with pytest.raises(OSError, match="no room on the disk"):
            get()
    server.length = True
    with monkeypatch.context() as patch:

        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "file.h5"))

        patch.setattr(downloads, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            get()
    assert get().read_bytes() == CONTENT


def test_an_answer_without_a_length_is_taken(server: Server, get: Callable) -> None:
    server.length = False
    assert get().read_bytes() == CONTENT


def test_two_processes_do_not_mix_their_bytes(get: Callable, tmp_path: Path) -> None:
    with downloads._locked(tmp_path / ".file.h5.fetch"), pytest.raises(ValueError, match="another process is fetching"):
        get()


def test_what_another_process_has_just_completed_is_left_alone(get: Callable, tmp_path: Path) -> None:
    """It took its lock away, and gave the file its name, between opening the file and locking it."""
    part, really = tmp_path / ".file.h5.fetch", fcntl.flock
    for ended in (lambda: part.replace(tmp_path / "file.h5"), part.unlink, lambda: swapped(part)):
        part.write_bytes(CONTENT)

        def late(file: Any, operation: int, ended: Callable[[], object] = ended) -> None:
            ended()
            really(file, operation)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fcntl, "flock", late)
            with pytest.raises(ValueError, match="another process has just ended fetching this file"):
                get(checksum="md5:00")
    assert left(tmp_path) == [".file.h5.fetch", "file.h5"]
    assert (tmp_path / "file.h5").read_bytes() == CONTENT
    assert part.read_bytes() == b"begun anew"


def swapped(part: Path) -> None:
    part.rename(part.with_name("file.h5"))
    part.write_bytes(b"begun anew")


# whole data sets


def hdf5(energy: float = 10.0) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["ECAL"], file["energy"] = np.ones((4, 2, 2, 8)), np.full((4, 1), energy)
    return buffer.getvalue()


def tar(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (("link.h5", "/etc/passwd"), ("up.h5", "../../up.h5")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


@pytest.fixture
def toys(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Two small public data sets, on the server: a file that is known, and an archive that only the record knows."""
    content = hdf5()
    server.files = {"/showers.h5": content, "/pack.tar.gz": tar(**{"deep/../../b.h5": hdf5(20.0), "a.h5": hdf5()})}
    known = PublicFile("showers.h5", "https://nowhere.invalid", f"md5:{hashlib.md5(content).hexdigest()}")
    packed = PublicFile("pack.tar.gz", "https://nowhere.invalid", None)
    monkeypatch.setitem(PUBLIC, "toy", PublicData("a toy", "here", 1, (known,), "grid: [4]"))
    monkeypatch.setitem(PUBLIC, "packed", PublicData("a toy", "here", 2, (packed,), "grid: [4]"))
    md5 = hashlib.md5(server.files["/pack.tar.gz"]).hexdigest()
    server.files["/records/2"] = json.dumps({"files": [{"key": "pack.tar.gz", "checksum": f"md5:{md5}"}]}).encode()
    return server


def run_cli(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    sys.argv = ["qgen", *words]
    with pytest.raises(SystemExit) as status:
        main()
    out, err = capsys.readouterr()
    return int(status.value.code or 0), out, err


def test_what_was_fetched_is_what_a_configuration_takes(
    toys: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    status, out, err = run_cli(capsys, "data", "fetch", "toy", "--out", str(tmp_path), "--url", toys.url)
    assert status == 0, err
    path = tmp_path / "toy" / "showers.h5"
    assert out == f"dataset: {{kind: calorimeter, path: {path}, grid: [4]}}\n"
    assert load_calorimeter(path, grid=(4,)).samples.shape == (4, 4)
    asked = len(toys.asked)
    assert run_cli(capsys, "data", "fetch", "toy", "--out", str(tmp_path), "--url", toys.url)[1] == out
    assert len(toys.asked) == asked
    path.write_bytes(b"changed")
    status, _, err = run_cli(capsys, "data", "fetch", "toy", "--out", str(tmp_path), "--url", toys.url)
    assert status == 2
    assert "showers.h5: has the checksum md5:" in err
    assert err.count("\n") == 1


def test_unknown_sets_are_named_and_the_list_has_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    status, _, err = run_cli(capsys, "data", "fetch", "calochalenge-2")
    assert status == 2
    assert "calochallenge-2" in err
    status, out, _ = run_cli(capsys, "data", "fetch", "--list")
    assert status == 0
    assert all(name in out for name in PUBLIC)


def test_a_record_says_what_is_not_known_and_is_remembered(toys: Server, tmp_path: Path) -> None:
    fetched = fetch("packed", tmp_path, url=toys.url, records=f"{toys.url}/records")
    assert [path.name for path in fetched.files] == ["a.h5", "b.h5"]
    assert left(tmp_path / "packed") == ["a.h5", "b.h5", "checksums.json"]
    assert left(tmp_path) == ["packed"]
    assert load_calorimeter(fetched.files[1], grid=(8,)).incident_energy[0] == 20e3
    asked = len(toys.asked)
    assert fetch("packed", tmp_path, url=toys.url, records=f"{toys.url}/records") == fetched
    assert len(toys.asked) == asked
    (tmp_path / "packed" / "pack.tar.gz").write_bytes(toys.files["/pack.tar.gz"])  # killed before it was deleted
    assert fetch("packed", tmp_path, url=toys.url, records=f"{toys.url}/records") == fetched
    assert left(tmp_path / "packed") == ["a.h5", "b.h5", "checksums.json"]
    (tmp_path / "packed" / "a.h5").write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"a\.h5: has the checksum sha256:\w+, expected sha256:\w+; move it away"):
        fetch("packed", tmp_path, url=toys.url, records=f"{toys.url}/records")
    (tmp_path / "packed" / "a.h5").unlink()
    toys.files["/pack.tar.gz"] += b" "
    with pytest.raises(Mismatch, match="expected md5"):
        fetch("packed", tmp_path, url=toys.url, records=f"{toys.url}/records")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"{}", "states no checksum of pack.tar.gz"),
        (b'{"files": [{"key": "other", "checksum": "md5:00"}]}', "states no checksum"),
        (b'{"files": [{"key": "pack.tar.gz", "checksum": "crc:00"}]}', "'crc:00'; md5 or sha256 was expected"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
    ],
)
def test_a_record_that_says_nothing_is_one_line(toys: Server, tmp_path: Path, record: bytes, message: str) -> None:
    toys.files["/records/2"] = record
    with pytest.raises(ValueError, match=message) as caught:
        fetch("packed", tmp_path, url=toys.url, records=f"{toys.url}/records")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["[", "{}", '{"checksums": [], "members": {}}', '{"checksums": {}, "members": {"a.tar.gz": ["a.h5"]}}']
)
def test_damaged_notes_are_said(toys: Server, tmp_path: Path, content: str) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "checksums.json").write_text(content)
    with pytest.raises(ValueError, match=r"checksums\.json: damaged; delete it"):
        fetch("toy", tmp_path, url=toys.url)


def test_notes_cannot_lead_out_of_the_folder(toys: Server, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    notes = {"checksums": {"../x.h5": "md5:00"}, "members": {"pack.tar.gz": ["../x.h5"]}}
    (tmp_path / "packed" / "checksums.json").write_text(json.dumps(notes))
    with pytest.raises(ValueError, match=r"checksums\.json: damaged"):
        fetch("packed", tmp_path, url=toys.url)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (tar(**{"notes.txt": b"x"}), "holds no HDF5 files"),
        (tar(**{"one/a.h5": b"x", "two/a.h5": b"y"}), "holds two files of the name a.h5"),
        (tar(**{"a.h5": CONTENT})[:150_000], "damaged"),
        (b"no archive", "damaged"),
    ],
)
def test_archives_of_another_kind_are_refused(tmp_path: Path, archive: bytes, message: str) -> None:
    path = tmp_path / "pack.tar.gz"
    path.write_bytes(archive)
    with pytest.raises(ValueError, match=message):
        fetching._unpack(path, tmp_path, lambda what, done, of: None)


def test_an_archive_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pack.tar.gz"
    path.write_bytes(tar(**{"a.h5": bytes(100_000)}))
    usage = fetching.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"a\.h5: 0\.0001 GB are needed, 1e-06 GB are free on the disk"):
        fetching._unpack(path, tmp_path, lambda what, done, of: None)
    assert left(tmp_path) == ["pack.tar.gz"]


def test_the_table_is_what_it_should_be() -> None:
    for data in PUBLIC.values():
        for file in data.files:
            assert file.folder.startswith("https://")
            assert file.name == os.path.basename(file.name)  # noqa: PTH119
            kind, _, value = (file.checksum or "md5:" + "0" * 32).partition(":")
            assert len(bytes.fromhex(value)) == {"md5": 16, "sha256": 32}[kind]
    known = [file.checksum for data in PUBLIC.values() for file in data.files if file.checksum]
    assert len(set(known)) == len(known) == 14
