"""HDF5 files of unknown origin: opened and read so that a fault is one clear line, and nothing of them is followed.

Only numbers that are stored in the file itself are read: no links, no virtual or external datasets, no filters but
those of HDF5 itself. What a file declares is checked before memory is taken for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qgen.data.memory import check_memory

if TYPE_CHECKING:
    import h5py

__all__ = [
    "SHA256",
    "WEIGHTS",
    "attribute",
    "block_rows",
    "dataset",
    "has",
    "names",
    "open_hdf5",
    "read_all",
    "read_rows",
    "read_weights",
    "weights_of",
]

WEIGHTS = "weights"
"""Name of the dataset of the events' weights, where they have such."""

SHA256 = "sha256"
"""Attribute of a dataset: of its numbers, row by row as they are stored, in hexadecimal."""

FILTERS = {1: "gzip", 2: "shuffle", 3: "Fletcher 32", 4: "szip", 5: "n-bit", 6: "scale-offset", 32000: "lzf"}
"""What HDF5 and h5py bring along to pack numbers, by its number."""

MAX_COLUMNS = 200_000
MAX_ATTRIBUTE = 2**24
MAX_PACKING = 2000
"""How many times fewer bytes a large dataset may take in the file; gzip reaches 1030 at most."""
LARGE = 2**28
BLOCK_BYTES = 2**25


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
    except MemoryError:
        raise ValueError(f"{path}: does not fit into the free memory") from None
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: the HDF5 file is truncated or damaged ({_line(error)})") from error


def has(file: h5py.File, name: str) -> bool:
    """Whether something has this name in the file; a link that has it is not followed."""
    return bool(file.id.links.exists(name.encode()))


def names(file: h5py.File) -> str:
    """What is in a file, for a message.

    >>> import h5py
    >>> with h5py.File("x", "w", driver="core", backing_store=False) as file:
    ...     file["b"], file["a"] = 1, 2
    ...     names(file)
    'a, b'
    """
    first: list[str] = []
    for name in file:
        if len(first) == 10:
            return f"{', '.join(first)} and more"
        first.append(" ".join(name.split())[:40])
    return ", ".join(first) or "none"


def dataset(file: h5py.File, name: str, path: str | Path) -> h5py.Dataset:
    """A dataset of real numbers stored in this very file, its rows along the first axis.

    Raises:
        ValueError: it is missing (those found are listed), is not an array of numbers, lies in another file, is packed
            in a way that HDF5 itself does not know, or declares far more than the file holds.
    """
    import h5py

    if not has(file, name):
        raise ValueError(f"{path}: no dataset {name!r}; datasets found: {names(file)}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{path}: {name!r} is a link to elsewhere; only data in the file itself are read")
    try:
        values = file[name]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {name!r} cannot be read ({_line(error)})") from error
    if not isinstance(values, h5py.Dataset):
        raise ValueError(f"{path}: {name!r} is not an array of real numbers")
    if values.is_virtual or values.external:  # before the shape, for which HDF5 opens the sources of a virtual one
        raise ValueError(f"{path}: {name!r} is stored in other files; only data in the file itself are read")
    try:
        fits = values.dtype.kind in "fiu" and values.shape is not None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {name!r} is not an array of real numbers ({_line(error)})") from error
    if not fits:
        raise ValueError(f"{path}: {name!r} is not an array of real numbers")
    _check_storage(values, f"{path}: {name!r}")
    return values


def _check_storage(values: h5py.Dataset, what: str) -> None:
    """Refuse what would take memory or time without being data."""
    properties = values.id.get_create_plist()
    filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
    unknown = [number for number in filters if number not in FILTERS]
    if unknown:
        known = ", ".join(FILTERS.values())
        raise ValueError(f"{what} is packed with filter {unknown[0]}, which is not read; those read are {known}")
    if len(set(filters)) < len(filters):
        raise ValueError(f"{what} is packed twice with {FILTERS[max(filters, key=filters.count)]}; that is not read")
    shape = tuple(int(n) for n in values.shape)
    columns = _product(shape[1:])
    if columns > MAX_COLUMNS:
        raise ValueError(f"{what} has {columns} numbers an event; at most {MAX_COLUMNS} are read")
    declared, stored = _product(shape) * values.dtype.itemsize, int(values.id.get_storage_size())
    if (declared and not stored) or (declared > LARGE and declared > MAX_PACKING * stored):
        raise ValueError(
            f"{what} declares {declared} bytes of shape {shape} and stores {stored}; the numbers are not in the file"
        )
    if values.chunks is not None:
        check_memory(3 * _product(values.chunks) * values.dtype.itemsize, f"{what}, chunks of shape {values.chunks}")


def block_rows(values: h5py.Dataset) -> int:
    """How many rows make a block of about 32 MB, in whole chunks."""
    step = max(1, BLOCK_BYTES // max(1, 8 * _product(values.shape[1:])))
    if values.chunks is not None:
        step = max(1, step // values.chunks[0]) * values.chunks[0]
    return min(step, max(1, values.shape[0]))


def read_rows(
    values: h5py.Dataset, path: str | Path, rows_at_once: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of a dataset in blocks of bounded memory: ``(index of the first row, rows)``.

    Args:
        values: the dataset, one of :func:`dataset`.
        path: of the file, for messages.
        rows_at_once: :func:`block_rows` by default.

    Where the dataset states its SHA-256 (:data:`SHA256`), that is checked after the last block.

    Raises:
        ValueError: rows that cannot be read (they are named), or the numbers do not match the checksum.
    """
    name = values.name.lstrip("/")
    stated = attribute(values, SHA256, path)
    digest = None if stated is None else hashlib.sha256()
    step = block_rows(values) if rows_at_once is None else rows_at_once
    row_bytes = 8 * _product(values.shape[1:])
    check_memory(3 * step * row_bytes, f"{path}: {name}, {step} rows of shape {values.shape[1:]}")
    for start in range(0, values.shape[0], step):
        try:
            rows = values[start : start + step]
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            first, last = _damaged(values, start, min(start + step, values.shape[0]))
            raise ValueError(
                f"{path}: {name} rows {first} to {last} cannot be read; truncated or damaged ({_line(error)})"
            ) from error
        if digest is not None:
            digest.update(np.ascontiguousarray(rows).data)
        yield start, rows
    if digest is not None and digest.hexdigest() != stated:
        raise ValueError(
            f"{path}: {name} does not match the SHA-256 that the file states; it was changed after it was written"
        )


def _damaged(values: h5py.Dataset, start: int, stop: int) -> tuple[int, int]:
    """The first rows of a block, a chunk of them, that cannot be read: first and last one."""
    step = stop - start if values.chunks is None else values.chunks[0]
    for first in range(start, stop, step):
        last = min(first + step, stop)
        try:
            values[first:last]
        except (OSError, RuntimeError, TypeError, ValueError):
            return first, last - 1
    return start, stop - 1


def read_all(values: h5py.Dataset, path: str | Path) -> np.ndarray:
    """A whole dataset as float64.

    Raises:
        ValueError: it does not fit into the free memory, or cannot be read.
    """
    check_memory(8 * _product(values.shape), f"{path}: {values.name.lstrip('/')} of shape {values.shape}")
    found = np.empty(values.shape)
    for start, rows in read_rows(values, path):
        found[start : start + len(rows)] = rows
    return found


def weights_of(file: h5py.File, path: str | Path) -> h5py.Dataset | None:
    """The dataset of weights, one for each event; None if the file has none.

    Raises:
        ValueError: they are no column of numbers.
    """
    if not has(file, WEIGHTS):
        return None
    values = dataset(file, WEIGHTS, path)
    if values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
        raise ValueError(f"{path}: {WEIGHTS} has shape {values.shape}; expected (N,), one for each event")
    return values


def read_weights(file: h5py.File, path: str | Path) -> np.ndarray | None:
    """Weights of all events, ``(N,)`` float64; None if the file has none.

    Raises:
        ValueError: they are no column of numbers.
    """
    values = weights_of(file, path)
    return None if values is None else read_all(values, path).reshape(-1)


def attribute(place: h5py.File | h5py.Dataset, name: str, path: str | Path) -> str | float | None:
    """Text or a number that is attached to a file or a dataset; None if it is missing.

    Raises:
        ValueError: it is something else, cannot be read, or is long beyond reason.
    """
    import h5py

    try:
        if name not in place.attrs:
            return None
        if h5py.h5a.open(place.id, name.encode()).get_storage_size() > MAX_ATTRIBUTE:
            raise ValueError(f"longer than {MAX_ATTRIBUTE} bytes")
        value: Any = place.attrs[name]
        value = value.item() if isinstance(value, np.generic) else value
        value = value.decode() if isinstance(value, bytes) else value
        if not isinstance(value, str | int | float) or len(str(value)) > MAX_ATTRIBUTE:
            raise ValueError("neither a text nor a number")
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: attribute {name} cannot be read ({_line(error)})") from error
    return value


def _product(shape: tuple[int, ...]) -> int:
    """Number of elements, as a Python integer, which never overflows."""
    product = 1
    for n in shape:
        product *= int(n)
    return product


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
