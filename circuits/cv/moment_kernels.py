"""The compiled half of :mod:`circuits.cv.moments`: complex numbers are pairs of reals, rows come first."""

from __future__ import annotations

from circuits.backends.compiled import Integers, Reals, compiled

__all__ = ["derivatives", "expectations"]


@compiled
def expectations(states: Reals, upper: Integers, lower: Integers, factor: Reals, found: Reals) -> None:
    """``found[row, mode] = sum factor * conj(states[row, lower]) * states[row, upper]``.

    Args:
        states: ``(rows, size, 2)``.
        upper: ``(n_modes * k,)``.
        lower: ``(n_modes * k,)``.
        factor: ``(n_modes, k)``.
        found: ``(rows, n_modes, 2)``, written.
    """
    modes, k = factor.shape
    for row in range(len(states)):
        state = states[row]
        for mode in range(modes):
            real = imaginary = 0.0
            for i in range(k):
                u, v, f = state[upper[mode * k + i]], state[lower[mode * k + i]], factor[mode, i]
                real += f * (v[0] * u[0] + v[1] * u[1])
                imaginary += f * (v[0] * u[1] - v[1] * u[0])
            found[row, mode, 0] = real
            found[row, mode, 1] = imaginary


@compiled
def derivatives(states: Reals, upper: Integers, lower: Integers, factor: Reals, slopes: Reals, found: Reals) -> None:
    """The gradient by the states, added to ``found`` ``(rows, size, 2)``, from that by the results, ``slopes``."""
    modes, k = factor.shape
    for row in range(len(states)):
        state, result = states[row], found[row]
        for mode in range(modes):
            real, imaginary = slopes[row, mode, 0], slopes[row, mode, 1]
            for i in range(k):
                above, below, f = upper[mode * k + i], lower[mode * k + i], factor[mode, i]
                u, v = state[above], state[below]
                result[above, 0] += f * (real * v[0] - imaginary * v[1])
                result[above, 1] += f * (real * v[1] + imaginary * v[0])
                result[below, 0] += f * (real * u[0] + imaginary * u[1])
                result[below, 1] += f * (real * u[1] - imaginary * u[0])
