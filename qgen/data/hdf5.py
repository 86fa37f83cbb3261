"""HDF5 files of unknown origin: opened, read and written so that a fault is one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qgen.files import write_atomically

if TYPE_CHECKING:
    import h5py

__all__ = ["WEIGHTS", "create_hdf5", "dataset", "open_hdf5", "read_rows", "read_weights"]

WEIGHTS = "weights"
"""Name of the dataset of the events' weights, where they have such."""


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, truncated or not HDF5, also where that shows only on reading.
    """
    import h5py

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes)")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path}: not an HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: the HDF5 file is truncated or damaged ({_line(error)})") from error


def dataset(file: h5py.File, name: str, path: str | Path) -> h5py.Dataset:
    """A dataset of real numbers stored in this very file.

    Raises:
        ValueError: it is missing (those found are listed), is not an array of numbers, or lies in another file.
    """
    import h5py

    if name not in file:
        found = ", ".join(sorted(file)) or "none"
        raise ValueError(f"{path}: no dataset {name!r}; datasets found: {found}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{path}: {name!r} is a link to elsewhere; only data in the file itself are read")
    try:
        values = file[name]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: {name!r} cannot be read ({_line(error)})") from error
    if not isinstance(values, h5py.Dataset) or values.dtype.kind not in "fiu" or values.shape is None:
        raise ValueError(f"{path}: {name!r} is not an array of real numbers")
    if values.external or values.is_virtual:
        raise ValueError(f"{path}: {name!r} is stored in other files; only data in the file itself are read")
    return values


def read_rows(values: h5py.Dataset, path: str | Path, megabytes: int = 128) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of a dataset in blocks of bounded memory: ``(index of the first row, rows)``.

    Raises:
        ValueError: a block cannot be read.
    """
    row_bytes = 8 * int(np.prod(values.shape[1:], dtype=np.int64))
    step = max(1, megabytes * 2**20 // max(1, row_bytes))
    if values.chunks is not None:
        step = max(1, step // values.chunks[0]) * values.chunks[0]
    for start in range(0, values.shape[0], step):
        try:
            rows = values[start : start + step]
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            name = values.name.lstrip("/")
            raise ValueError(
                f"{path}: {name} cannot be read from row {start} on; truncated or damaged ({_line(error)})"
            ) from error
        yield start, rows


def read_weights(file: h5py.File, path: str | Path) -> np.ndarray | None:
    """Weights of all events, ``(N,)`` float64; None if the file has none.

    Raises:
        ValueError: they are no column of numbers.
    """
    if WEIGHTS not in file:
        return None
    values = dataset(file, WEIGHTS, path)
    if values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
        raise ValueError(f"{path}: {WEIGHTS} has shape {values.shape}; expected (N,), one for each event")
    blocks = [block for _, block in read_rows(values, path)]
    joined = np.concatenate(blocks) if blocks else np.empty(0)
    return joined.astype(np.float64).reshape(-1)


@contextmanager
def create_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """An HDF5 file to be written: built in memory, it appears under its name only when it is complete.

    Raises:
        ValueError: the folder does not exist.
        OSError: the file cannot be written; a previous one stays.
    """
    import h5py

    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        yield file
        file.flush()
        content = file.id.get_file_image()
    write_atomically(path, content)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
