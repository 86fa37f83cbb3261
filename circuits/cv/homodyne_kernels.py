"""The compiled half of :mod:`circuits.cv.homodyne`: many small states, each with its own outcome."""

from __future__ import annotations

import numpy as np

from circuits.backends.compiled import Integers, Reals, compiled

__all__ = ["densities", "project"]


@compiled
def densities(parts: Reals, table: Integers, waves: Reals, found: Reals) -> None:
    """Densities of a mode at the same positions for all states.

    Args:
        parts: ``(n, 2, size)``.
        table: the states by the others' and the mode's photon number, ``(others, cutoff)``; ``size`` for none.
        waves: ``(positions, cutoff)``.
        found: ``(n, positions)``, written.
    """
    size = parts.shape[2]
    others, cutoff = table.shape
    reduced = np.empty((cutoff, cutoff))
    for state in range(len(parts)):
        reduced[:] = 0.0
        for part in range(2):
            values = parts[state, part]
            for other in range(others):
                for n in range(cutoff):
                    if table[other, n] == size:
                        break
                    value = values[table[other, n]]
                    for m in range(n + 1):
                        reduced[n, m] += value * values[table[other, m]]
        for position in range(len(waves)):
            wave = waves[position]
            total = 0.0
            for n in range(cutoff):
                below = 0.0
                for m in range(n):
                    below += reduced[n, m] * wave[m]
                total += wave[n] * (2 * below + reduced[n, n] * wave[n])
            found[state, position] = total


@compiled
def project(parts: Reals, table: Integers, waves: Reals, found: Reals) -> None:
    """States of the other modes after one outcome for each state.

    Args:
        parts: ``(n, 2, size)``.
        table: as above.
        waves: ``(n, cutoff)``.
        found: ``(n, 2, others)``, written.
    """
    size = parts.shape[2]
    others, cutoff = table.shape
    for state in range(len(parts)):
        wave = waves[state]
        for part in range(2):
            values = parts[state, part]
            for other in range(others):
                total = 0.0
                for n in range(cutoff):
                    if table[other, n] == size:
                        break
                    total += wave[n] * values[table[other, n]]
                found[state, part, other] = total
