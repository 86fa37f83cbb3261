"""``fetch``: the public data sets, downloaded, verified and ready to be learned from."""

from __future__ import annotations

import itertools
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from qgen.data.download import Tell, checksum_of, download, read_json_from
from qgen.data.part_file import part_file
from qgen.data.public import PUBLIC, PublicData, PublicFile
from qgen.files import write_atomically
from qgen.text import unknown

__all__ = ["RECORDS", "Fetched", "fetch"]

RECORDS = "https://zenodo.org/api/records"
CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Fetched:
    """A data set that is here.

    Args:
        name: of the data set.
        files: of events and binnings, all verified.
    """

    name: str
    files: tuple[Path, ...]

    def config_line(self) -> str:
        """The line of a configuration that learns from the first file."""
        events = next(path for path in self.files if path.suffix != ".xml")
        binning = next((f", binning: {path}" for path in self.files if path.suffix == ".xml"), "")
        return f"dataset: {{kind: calorimeter, path: {events}{binning}, {PUBLIC[self.name].options}}}"


def fetch(
    name: str,
    out: Path | str = "data",
    *,
    url: str | None = None,
    records: str = RECORDS,
    tell: Tell = lambda what, done, of: None,
) -> Fetched:
    """Download a public data set into ``out/NAME``; files that are there already are only verified.

    Checksums stand in :mod:`qgen.data.public`. Where one does not, it is taken from Zenodo's record, and that of the
    first verified download is kept in ``checksums.json`` beside the files: from then on it counts. An archive is
    unpacked, its files of events flat into the folder and nothing else of it, and then deleted.

    Args:
        name: of the data set, see :data:`~qgen.data.public.PUBLIC`.
        out: folder; it is made if it does not exist.
        url: folder on another server that has the same files; there http is allowed.
        records: where Zenodo's records are; http is allowed where it is not Zenodo itself.
        tell: is told what is done.

    Raises:
        ValueError: an unknown data set, or a file that does not match its checksum.
        OSError: no network, no such file on the server, or a full disk.
    """
    if name not in PUBLIC:
        raise ValueError(unknown("data set", name, PUBLIC))
    found, folder = PUBLIC[name], Path(out) / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = _Kept(folder / CHECKSUMS)
    files: list[Path] = []
    for file in found.files:
        path = folder / file.name
        unpacked = kept.unpacked(file.name)
        if unpacked and all(kept.matches(folder / member) for member in unpacked):
            files += [folder / member for member in unpacked]
            if file.name in found.archives:
                path.unlink(missing_ok=True)  # as it is where the process died just before
            continue
        checksum = file.checksum or kept.checksums.get(file.name) or _from_record(found, file, records, tell)
        if path.exists():
            _check(path, checksum)
        else:
            address = f"{file.folder if url is None else url.rstrip('/')}/{file.name}"
            download(address, path, checksum, plain=url is not None, tell=tell)
        kept.checksums[file.name] = checksum
        kept.write()
        if file.name in found.archives:
            members = _unpack(path, folder, tell)
            for member in members:
                kept.checksums[member.name] = checksum_of(member, "sha256")
            kept.members[file.name] = [member.name for member in members]
            kept.write()
            path.unlink()
            files += members
        else:
            files.append(path)
    return Fetched(name, tuple(files))


class _Kept:
    """The checksums of files that were verified once, on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.checksums: dict[str, str] = {}
        self.members: dict[str, list[str]] = {}
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                self.checksums = {str(name): str(value) for name, value in content["checksums"].items()}
                self.members = {str(name): [_plain(n) for n in value] for name, value in content["members"].items()}
                if lacking := set(itertools.chain(*self.members.values())) - self.checksums.keys():
                    raise ValueError(f"no checksum of {', '.join(sorted(lacking))}")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(f"{path}: damaged; delete it and fetch again") from error

    def unpacked(self, archive: str) -> list[str]:
        """Names of the files that an archive held, if it was unpacked."""
        return self.members.get(archive, [])

    def matches(self, path: Path) -> bool:
        """Whether a file is there; one that has changed is refused."""
        if not path.is_file():
            return False
        _check(path, self.checksums[path.name])
        return True

    def write(self) -> None:
        content = {"checksums": self.checksums, "members": self.members}
        write_atomically(self._path, json.dumps(content, indent=1).encode())


def _plain(name: Any) -> str:
    if not isinstance(name, str) or name != PurePosixPath(name).name or name.startswith("."):
        raise ValueError(f"{name!r} is no name of a file")
    return name


def _check(path: Path, checksum: str) -> None:
    found = checksum_of(path, checksum.split(":")[0])
    if found != checksum:
        raise ValueError(f"{path}: has the checksum {found}, expected {checksum}; move it away to fetch it anew")


def _from_record(data: PublicData, file: PublicFile, records: str, tell: Tell) -> str:
    """What Zenodo states of a file."""
    address = f"{records}/{data.record}"
    tell("asking Zenodo's record", 0, 1)
    record = read_json_from(address, plain=records != RECORDS)
    try:
        checksum = next(str(one["checksum"]) for one in record["files"] if one["key"] == file.name)
    except (StopIteration, KeyError, TypeError):
        raise ValueError(f"{address}: states no checksum of {file.name}") from None
    kind, _, value = checksum.partition(":")
    if kind not in ("md5", "sha256") or not all(c in "0123456789abcdef" for c in value):
        raise ValueError(f"{address}: {file.name} has the checksum {checksum[:80]!r}; md5 or sha256 was expected")
    return checksum


def _unpack(archive: Path, folder: Path, tell: Tell) -> list[Path]:
    """The HDF5 files of a tar archive, flat into a folder."""
    members: list[Path] = []
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if not member.isreg() or not name.endswith((".h5", ".hdf5")):
                    continue
                path = folder / _plain(name)
                if path in members:
                    raise ValueError(f"{archive}: holds two files of the name {name}")
                _extract(tar, member, path, tell)
                members.append(path)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive}: damaged ({error})") from error
    if not members:
        raise ValueError(f"{archive}: holds no HDF5 files")
    return sorted(members)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, tell: Tell) -> None:
    free = shutil.disk_usage(path.parent).free
    if member.size > free:
        raise ValueError(f"{path}: {member.size / 1e9:.3g} GB are needed, {free / 1e9:.3g} GB are free on the disk")
    source = tar.extractfile(member)
    if source is None:
        raise ValueError(f"{path}: cannot be unpacked")
    done = 0
    with part_file(path) as file:
        while content := source.read(2**20):
            file.write(content)
            file.check()
            done += len(content)
            tell(path.name, done, member.size)
