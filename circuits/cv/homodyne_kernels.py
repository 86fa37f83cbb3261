"""The compiled half of homodyne measurements: many small states, each with its own outcome."""

from __future__ import annotations

import math

import numpy as np

from circuits.backends.compiled import Integers, Reals, compiled, inner

__all__ = ["densities", "invert", "project"]


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


@inner
def _series(coefficients: Reals, x: float) -> tuple[float, float]:
    """Cumulative distribution and density at ``x``."""
    y = math.sqrt(2.0) * x
    before, wave = 0.0, math.pi**-0.25 * math.exp(-0.5 * y * y)
    below, integral = 0.0, 0.5 * math.pi**0.25 * (1.0 + math.erf(x))
    cumulative, density = coefficients[0] * integral, coefficients[0] * wave
    for k in range(1, len(coefficients)):
        down = math.sqrt((k - 1) / k)
        below, integral = integral, down * below - wave / math.sqrt(k)
        before, wave = wave, math.sqrt(2.0 / k) * y * wave - down * before
        cumulative += coefficients[k] * integral
        density += coefficients[k] * wave
    return cumulative, density


@compiled
def invert(coefficients: Reals, uniform: Reals, grid: Reals, integrals: Reals, found: Reals, densities: Reals) -> None:
    """The same as the plain operations in :mod:`circuits.cv.hermite_series`, one number after the other.

    Args:
        coefficients: ``(n, 2 c - 1)``.
        uniform: ``(n, s)``.
        grid: positions, ``(g,)``.
        integrals: up to them, ``(2 c - 1, g)``.
        found: ``(n, s)``, written.
        densities: ``(n, s)``, written.
    """
    table = np.empty(len(grid))
    for row in range(len(uniform)):
        own = coefficients[row]
        table[:] = 0.0
        for k in range(len(own)):
            table += own[k] * integrals[k]
        for shot in range(uniform.shape[1]):
            target = uniform[row, shot]
            above = min(max(np.searchsorted(table, target), 1), len(grid) - 1)
            low, high = grid[above - 1], grid[above]
            share = (target - table[above - 1]) / max(table[above] - table[above - 1], 1e-300)
            step = high - low
            x = low + min(max(share, 0.0), 1.0) * step
            going = True
            while going:
                cumulative, density = _series(own, x)
                densities[row, shot] = density
                fault = cumulative - target
                if abs(fault) <= 1e-15:
                    break
                if fault < 0:
                    low = x
                else:
                    high = x
                move = fault / max(density, 1e-300)
                good = low <= x - move <= high and 2 * abs(move) <= step
                following = x - move if good else 0.5 * (low + high)
                step = abs(following - x)
                x = following
                going = step > (1e-7 if good else 1e-11)
            found[row, shot] = x
