"""Compiled expectation values of Pauli strings.

A string that flips the bits ``x`` and whose sign is the parity of the bits ``z`` is ``i**turn`` times a real sum: with
``o[u] = conj(psi[u ^ x]) psi[u]``, its value is the real part of ``i**turn sum_u (-1)**|u & z| o[u]``. Strings with the
same ``x`` share ``o``, and many of them a Walsh transform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from circuits.backends.base import PauliString
from circuits.backends.compiled import Integers, Reals, compiled, inner
from circuits.backends.moves import walsh

__all__ = ["Strings", "expectations", "seeds"]

_FEW = 4  # strings with the same flip below which each is summed on its own


@dataclass(frozen=True, eq=False)
class Strings:
    """Pauli strings as arrays, ordered by what they flip.

    Args:
        flips: ``(n_flips,)``, the bits flipped.
        starts: ``(n_flips + 1,)``, where the strings of a flip begin among ``places``.
        places: ``(n_strings,)``, the string's place in the result.
        signs: ``(n_strings,)``, the bits whose parity is the sign.
        turns: ``(n_strings,)``, the power of i.
    """

    flips: Integers
    starts: Integers
    places: Integers
    signs: Integers
    turns: Integers

    @staticmethod
    def of(strings: Sequence[PauliString]) -> Strings:
        """The arrays of a list of strings, kept for the next call."""
        return _arrays(tuple(strings))

    @property
    def arrays(self) -> tuple[Integers, ...]:
        """The fields in order."""
        return self.flips, self.starts, self.places, self.signs, self.turns


@lru_cache(maxsize=64)
def _arrays(strings: tuple[PauliString, ...]) -> Strings:
    flips = list(dict.fromkeys(string.x_mask for string in strings))
    order = sorted(range(len(strings)), key=lambda place: flips.index(strings[place].x_mask))
    counts = [sum(string.x_mask == flip for string in strings) for flip in flips]
    turns = [sum(letter == "Y" for _, letter in strings[place].factors) % 4 for place in order]
    return Strings(
        np.array(flips, np.int64),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array(order, np.int64),
        np.array([strings[place].z_mask for place in order], np.int64),
        np.array(turns, np.int64),
    )


@inner
def _sign(bits: int) -> float:
    """-1 for odd parity."""
    bits ^= bits >> 16
    bits ^= bits >> 8
    bits ^= bits >> 4
    bits ^= bits >> 2
    bits ^= bits >> 1
    return 1.0 - 2.0 * (bits & 1)


@compiled
def expectations(
    flips: Integers, starts: Integers, places: Integers, signs: Integers, turns: Integers, states: Reals, values: Reals
) -> None:
    """Expectation values, ``(batch, n_strings)``, of states ``(batch, 2 * 2**n)``."""
    size = states.shape[1] // 2
    real, imaginary = np.empty(size), np.empty(size)
    for sample in range(states.shape[0]):
        psi = states[sample]
        for group in range(flips.size):
            flip, begin, end = flips[group], starts[group], starts[group + 1]
            for u in range(size):
                v = u ^ flip
                real[u] = psi[2 * v] * psi[2 * u] + psi[2 * v + 1] * psi[2 * u + 1]
                imaginary[u] = psi[2 * v] * psi[2 * u + 1] - psi[2 * v + 1] * psi[2 * u]
            if end - begin > _FEW:
                walsh(real)
                if flip:
                    walsh(imaginary)
            for k in range(begin, end):
                part = imaginary if turns[k] & 1 else real
                if end - begin > _FEW:
                    value = part[signs[k]]
                else:
                    value = 0.0
                    for u in range(size):
                        value += _sign(u & signs[k]) * part[u]
                values[sample, places[k]] = -value if turns[k] == 1 or turns[k] == 2 else value


@compiled
def seeds(
    flips: Integers,
    starts: Integers,
    places: Integers,
    signs: Integers,
    turns: Integers,
    states: Reals,
    slopes: Reals,
    given: Reals,
) -> None:
    """Derivatives by the states' parts, ``(batch, 2 * 2**n)``, from those by the values, ``(batch, n_strings)``."""
    size = states.shape[1] // 2
    real, imaginary = np.empty(size), np.empty(size)
    for sample in range(states.shape[0]):
        psi, out = states[sample], given[sample]
        for place in range(out.size):
            out[place] = 0.0
        for group in range(flips.size):
            flip, begin, end = flips[group], starts[group], starts[group + 1]
            for u in range(size):
                real[u] = imaginary[u] = 0.0
            for k in range(begin, end):
                part = imaginary if turns[k] & 1 else real
                slope = 2.0 * slopes[sample, places[k]]
                if turns[k] >= 2:
                    slope = -slope
                if end - begin > _FEW:
                    part[signs[k]] += slope
                else:
                    for u in range(size):
                        part[u] += slope * _sign(u & signs[k])
            if end - begin > _FEW:
                walsh(real)
                if flip:
                    walsh(imaginary)
            for u in range(size):
                v = u ^ flip
                out[2 * v] += real[u] * psi[2 * u] - imaginary[u] * psi[2 * u + 1]
                out[2 * v + 1] += real[u] * psi[2 * u + 1] + imaginary[u] * psi[2 * u]
