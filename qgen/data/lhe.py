"""Les Houches event files, read row by row so that a fault is one clear line."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from qgen.data.memory import check_memory

if TYPE_CHECKING:
    from pylhe import LHEEvent, LHEInit

__all__ = ["BLOCK", "EventError", "check_is_file", "joined", "lhe_blocks", "open_maybe_gzipped", "read_lhe"]

BLOCK = 2**14
"""Events of a text file that are in memory at once."""

BYTES, MAX_ELEMENT = 2**20, 2**25

_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    RuntimeWarning,
    SyntaxError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What pylhe and its XML parser raise on a damaged file."""


class EventError(Exception):
    """An event that is well written and yet none of the kind that is read."""


def check_is_file(path: Path) -> None:
    """Refuse what cannot be read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, or empty.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes)")


def open_maybe_gzipped(path: Path) -> gzip.GzipFile | BufferedReader:
    """The bytes of a file, unpacked if it is gzipped."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else path.open("rb")


def read_lhe(path: Path, columns: int, row: Callable[[LHEEvent, LHEInit], list[float]]) -> np.ndarray:
    """Numbers of every event of an LHE file, gzipped or not, ``(N, columns)``.

    Args:
        path: the file.
        columns: how many numbers ``row`` gives.
        row: the numbers of an event, given with the file's ``init`` block. Where the event is of another kind than
            expected it raises :class:`EventError` with what was found.

    Raises:
        ImportError: pylhe is not installed (extra ``hep``).
        ValueError: the file is truncated or damaged, or an event is refused or not finite (its number is named), or
            there are more than fit into the free memory.
    """
    return joined(lhe_blocks(path, row), columns, path)


def lhe_blocks(path: Path, row: Callable[[LHEEvent, LHEInit], list[float]]) -> Iterator[np.ndarray]:
    """The numbers of :func:`read_lhe` in blocks of at most :data:`BLOCK` events.

    Raises:
        ImportError: pylhe is not installed (extra ``hep``).
        ValueError: see :func:`read_lhe`.
    """
    try:
        from pylhe import LHEFile
    except ImportError as error:
        raise ImportError("reading LHE files needs pylhe: pip install 'qgen-hep[hep]'") from error
    rows: list[list[float]] = []
    done = 0
    with open_maybe_gzipped(path) as file:
        source = _Guarded(file)
        try:
            content = LHEFile.frombuffer(source)
            events = iter(content.events)
            while True:
                with warnings.catch_warnings():
                    # pylhe warns of a truncated file and ends; here that is an error
                    warnings.simplefilter("error", RuntimeWarning)
                    event = next(events, None)
                    if event is None:
                        break
                    numbers = row(event, content.init)
                if not all(math.isfinite(x) for x in numbers):
                    raise EventError("a momentum is not finite")
                rows.append(numbers)
                if len(rows) == BLOCK:
                    yield np.array(rows, dtype=np.float64)
                    done, rows = done + len(rows), []
        except EventError as error:
            raise ValueError(f"{path}: event {done + len(rows) + 1}: {error}") from error
        except _DAMAGE as error:
            detail = " ".join(str(error).split())[:300]
            where = f"after event {done + len(rows)}"
            raise ValueError(f"{path}: the LHE file is truncated or damaged {where} ({detail})") from error
    if rows:
        yield np.array(rows, dtype=np.float64)


def joined(blocks: Iterable[np.ndarray], columns: int, path: Path) -> np.ndarray:
    """Blocks of rows as one array, ``(N, columns)``.

    Raises:
        ValueError: they do not fit into the free memory.
    """
    found = [np.empty((0, columns))]
    for block in blocks:
        found.append(block)
        n = sum(map(len, found))
        check_memory(8 * columns * n, f"{path}: {n} events and more")
    return np.concatenate(found)


class _Guarded:
    """The bytes of an XML file of unknown origin, refused where they could grow into more than they are.

    Args:
        file: the bytes.
    """

    def __init__(self, file: gzip.GzipFile | BufferedReader) -> None:
        self._file = file
        self._since = 0
        self._end = b""

    def read(self, size: int = -1) -> bytes:
        """1 MB more, however little is asked for: the parser reads an unfinished tag again with every piece.

        Raises:
            ValueError: a document type (which can define entities), or an element beyond all reason.
        """
        content = self._file.read(BYTES)
        seen = self._end + content
        if b"<!DOCTYPE" in seen or b"\0" in content:
            raise ValueError("a document type or zero bytes; plain LHE text is read")
        self._since = 0 if b"</" in seen else self._since + len(content)
        if self._since > MAX_ELEMENT:
            raise ValueError(f"an element of more than {MAX_ELEMENT} bytes")
        self._end = seen[-16:]
        return content

    def close(self) -> None:
        """Nothing more is read."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
