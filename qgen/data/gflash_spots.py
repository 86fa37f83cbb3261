"""The compiled loop of GFLASH: energy spots around the shower's axis, summed into pads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["spread"]


def _spread(
    rng: np.random.Generator,
    counts: NDArray[np.int64],
    radii: NDArray[np.float64],
    spot: float,
    pads: int,
    showers: NDArray[np.float64],
) -> None:
    """Add spots to the pads.

    A point (a, b) drawn in the unit disc, with s = a^2 + b^2, and divided by sqrt(1 - s) has the radial density
    2 r / (r^2 + 1)^2 and any azimuth.

    Args:
        rng: of the spots.
        counts: ``(N, layers, 2)``, how many in the core and in the tail.
        radii: ``(N, layers, 2)``, of the core and of the tail, in pads.
        spot: mean energy, MeV; energies are exponential.
        pads: in a row; spots outside are lost.
        showers: ``(N, layers, pads * pads)``, MeV; added to.
    """
    half = 0.5 * pads
    for i in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            for part in range(2):
                for _ in range(counts[i, j, part]):
                    a = b = s = 1.0
                    while s >= 1.0:
                        a, b = 2 * rng.random() - 1, 2 * rng.random() - 1
                        s = a * a + b * b
                    scale = radii[i, j, part] / np.sqrt(1 - s)
                    x, y = np.floor(a * scale + half), np.floor(b * scale + half)
                    energy = spot * rng.standard_exponential()
                    if 0 <= x < pads and 0 <= y < pads:
                        showers[i, j, int(x) * pads + int(y)] += energy


def _compiled(function: Any) -> Any:
    """Compiled, and kept for the next process where a file can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


spread = _compiled(_spread)
"""Compiled; see there."""
