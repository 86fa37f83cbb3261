"""HDF5 files written in chunks: bounded memory, a checksum of every dataset, complete or not there at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qgen.data.hdf5 import SHA256
from qgen.data.part_file import PartFile, part_file

if TYPE_CHECKING:
    import h5py

__all__ = ["RowWriter", "create_hdf5"]

CHUNK_BYTES = 2**20


@contextmanager
def create_hdf5(path: str | Path) -> Iterator[tuple[h5py.File, PartFile]]:
    """An HDF5 file to be written: it appears under its name only when it is complete and on the disk.

    With it comes the file of bytes below, whose ``check`` tells whether the disk took all so far.

    Raises:
        ValueError: the folder does not exist.
        OSError: the file cannot be written; a previous one stays.
    """
    import h5py

    with part_file(path) as part, h5py.File(part, "w") as file:
        yield file, part


class RowWriter:
    """Datasets of equally many rows that grow together, float64, in chunks of about 1 MB.

    Chunks are compressed and carry a checksum (Fletcher 32), so that a damaged one is found where it is. Every dataset
    gets the SHA-256 of its numbers as attribute. The file does not depend on how the rows were split into blocks.

    Args:
        file: open for writing.
        widths: name of each dataset and its number of columns, None for a dataset of one dimension; the widest first.
    """

    def __init__(self, file: h5py.File, widths: Mapping[str, int | None]) -> None:
        sizes = [8 * (1 if width is None else width) for width in widths.values()]
        self._step = max(1, CHUNK_BYTES // max(8, *sizes))
        self._columns = [
            _Column(file, name, width, self._step * max(1, CHUNK_BYTES // max(1, self._step * max(8, size))))
            for (name, width), size in zip(widths.items(), sizes, strict=True)
        ]
        self._rows = 0

    def append(self, *blocks: np.ndarray) -> None:
        """More rows, a block for each dataset."""
        n = len(blocks[0])
        done = 0
        while done < n:
            stop = min(n, done + self._step - self._rows % self._step)
            for column, block in zip(self._columns, blocks, strict=True):
                column.append(block[done:stop])
            self._rows += stop - done
            done = stop

    def finish(self) -> None:
        """Write what is left, and the checksums."""
        for column in self._columns:
            column.finish()


class _Column:
    """A dataset and the rows of it that wait to fill a chunk."""

    def __init__(self, file: h5py.File, name: str, width: int | None, rows: int) -> None:
        self._file, self._name = file, name
        self._waiting = np.empty((rows, *([] if width is None else [width])), dtype="<f8")
        self._n_waiting = 0
        self._written = 0
        self._digest = hashlib.sha256()

    def append(self, rows: np.ndarray) -> None:
        stop = self._n_waiting + len(rows)
        self._waiting[self._n_waiting : stop] = rows
        self._n_waiting = stop
        if stop == len(self._waiting):
            self._write()

    def finish(self) -> None:
        if self._n_waiting or not self._written:
            self._write()
        self._file[self._name].attrs[SHA256] = self._digest.hexdigest()

    def _write(self) -> None:
        rows = self._waiting[: self._n_waiting]
        stop = self._written + len(rows)
        if not self._written:
            options = {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": rows.shape}
            shape, most = (0, *rows.shape[1:]), (None, *rows.shape[1:])
            self._file.create_dataset(self._name, shape, "<f8", maxshape=most, **(options if rows.size else {}))
        dataset = self._file[self._name]
        dataset.resize(stop, axis=0)
        dataset[self._written :] = rows
        self._digest.update(rows.data)
        self._written, self._n_waiting = stop, 0
