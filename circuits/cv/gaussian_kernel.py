"""The compiled loop that draws photon numbers of Gaussian states; see :mod:`circuits.cv.gaussian_photons`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuits.backends.compiled import compiled, inner

__all__ = ["draw"]

_LARGE = 1e100  # amplitudes are kept below it: only their ratios matter


@inner
def _step(at: NDArray[np.int64], drawn: NDArray[np.int64]) -> int:
    """The next state with at most the drawn numbers; the mode that gained a photon."""
    mode = 0
    while at[mode] == drawn[mode]:
        at[mode] = 0
        mode += 1
    at[mode] += 1
    return mode


@compiled
def draw(
    matrices: NDArray[np.complex128],
    linear: NDArray[np.complex128],
    held: NDArray[np.complex128],
    uniform: NDArray[np.float64],
    most: NDArray[np.int64],
    limit: int,
    numbers: NDArray[np.int64],
) -> bool:
    """Draw shots from pure states exp(a+ B a+ / 2 + b a+)|0>, up to their norm.

    Args:
        matrices: B of each state, ``(rows, M, M)``.
        linear: b of each shot, ``(rows, shots, M)``.
        held: conjugated amplitudes of the coherent states onto which modes to come are projected, like ``linear``.
        uniform: draws from [0, 1), like ``linear``.
        most: photon numbers to look at in each mode, ``(M,)``.
        limit: amplitudes allowed for one step.
        numbers: the outcomes are written here, like ``linear``.

    Returns:
        Whether a shot needed more amplitudes than allowed, or left the range of floating point numbers.
    """
    rows, shots, n_modes = linear.shape
    b = np.empty(n_modes, np.complex128)
    strides = np.empty(n_modes, np.int64)
    at = np.empty(n_modes, np.int64)
    for row in range(rows):
        matrix = matrices[row]
        for shot in range(shots):
            drawn = numbers[row, shot]
            size = 1
            for k in range(n_modes):
                # amplitudes of up to the drawn numbers in modes 0 to k - 1, first without photons in mode k
                if k > 0:
                    strides[k - 1] = size
                    size *= drawn[k - 1] + 1
                if size * most[k] > limit:
                    return True
                for i in range(k + 1):
                    b[i] = linear[row, shot, i]
                    for j in range(k + 1, n_modes):
                        b[i] += matrix[i, j] * held[row, shot, j]
                now = np.zeros(size, np.complex128)
                before = np.zeros(size, np.complex128)
                now[0] = 1.0
                at[:k] = 0
                for place in range(1, size):
                    i = _step(at, drawn)
                    parent = place - strides[i]
                    amplitude = b[i] * now[parent]
                    if at[i] > 1:
                        amplitude += matrix[i, i] * np.sqrt(at[i] - 1) * now[parent - strides[i]]
                    for j in range(i + 1, k):
                        if at[j] > 0:
                            amplitude += matrix[i, j] * np.sqrt(at[j]) * now[parent - strides[j]]
                    now[place] = amplitude / np.sqrt(at[i])
                    if abs(now[place]) > _LARGE:
                        now /= _LARGE
                # then with one more photon in mode k at a time
                weights = np.zeros(most[k])
                weights[0] = abs(now[size - 1]) ** 2
                for n in range(1, most[k]):
                    after = np.empty(size, np.complex128)
                    at[:k] = 0
                    for place in range(size):
                        if place > 0:
                            _step(at, drawn)
                        amplitude = b[k] * now[place] + matrix[k, k] * np.sqrt(n - 1) * before[place]
                        for j in range(k):
                            if at[j] > 0:
                                amplitude += matrix[k, j] * np.sqrt(at[j]) * now[place - strides[j]]
                        after[place] = amplitude / np.sqrt(n)
                    before, now = now, after
                    if np.abs(now).max() > _LARGE:
                        before /= _LARGE
                        now /= _LARGE
                        weights[:n] /= _LARGE**2
                    weights[n] = abs(now[size - 1]) ** 2
                total = weights.sum()
                if not 0.0 < total < np.inf:
                    return True
                left = uniform[row, shot, k] * total
                n = 0
                while n < most[k] - 1 and left >= weights[n]:
                    left -= weights[n]
                    n += 1
                drawn[k] = n
    return False
