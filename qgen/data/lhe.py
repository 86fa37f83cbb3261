"""Les Houches event files, read row by row so that a fault is one clear line."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pylhe import LHEEvent, LHEInit

__all__ = ["EventError", "check_is_file", "open_maybe_gzipped", "read_lhe"]

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
        ValueError: the file is truncated or damaged, or an event is refused or not finite (its number is named).
    """
    try:
        from pylhe import LHEFile
    except ImportError as error:
        raise ImportError("reading LHE files needs pylhe: pip install 'qgen-hep[hep]'") from error
    rows: list[list[float]] = []
    with warnings.catch_warnings():
        # pylhe warns of a truncated file and ends; here that is an error
        warnings.simplefilter("error", RuntimeWarning)
        try:
            with open_maybe_gzipped(path) as file:
                content = LHEFile.frombuffer(file)
                for event in content.events:
                    numbers = row(event, content.init)
                    if not all(math.isfinite(x) for x in numbers):
                        raise EventError("a momentum is not finite")
                    rows.append(numbers)
        except EventError as error:
            raise ValueError(f"{path}: event {len(rows) + 1}: {error}") from error
        except _DAMAGE as error:
            detail = " ".join(str(error).split())
            where = f"after event {len(rows)}"
            raise ValueError(f"{path}: the LHE file is truncated or damaged {where} ({detail})") from error
    return np.array(rows, dtype=np.float64).reshape(-1, columns)
