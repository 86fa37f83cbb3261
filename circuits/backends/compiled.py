"""How the kernels are compiled, and kept for the next process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Integers", "Reals", "compiled", "inner"]

Reals = NDArray[Any]
Integers = NDArray[np.int64]

_OPTIONS: dict[str, Any] = {
    "no_cfunc_wrapper": True,  # nothing calls kernels from C; without, they compile faster
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz", "reassoc", "arcp"},  # infinities and NaN stay what they are
}

inner: Any = njit(**_OPTIONS)
"""Decorator of a function that kernels call."""

_SOURCES = ("compiled", "guide", "jumps", "kernels", "moves", "observables", "rotations", "vectors")


def _stamp(own: str) -> str:
    digest = hashlib.sha256(Path(own).read_bytes())
    for name in _SOURCES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def compiled(function: Callable[..., object]) -> Any:
    """Decorator of a kernel that Python calls: its machine code is kept on disk.

    Numba would take it from there as long as the kernel's own file is the same; here all that it calls must be, too.
    Where nothing can be written, every process compiles anew.
    """
    try:
        kernel: Any = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return inner(function)
    kernel._cache._cache_file._source_stamp = _stamp(function.__code__.co_filename)
    return kernel
