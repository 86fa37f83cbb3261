"""Kernels of the sparse products of :mod:`qgen.models.iqp_expectations`.

A sparse matrix of zeros and ones is its rows: those of row ``k`` are ``members[pointers[k] : pointers[k + 1]]``. The
signs of the gates for eight drawn bit strings are one byte: bit ``i`` is set where the gate has an odd number of ones
in draw ``i``; a table gives the eight numbers +1 and -1 of each byte. One thread, no Python: others run meanwhile.
"""

from __future__ import annotations

import numpy as np

from circuits.backends.compiled import Integers, Reals, compiled

__all__ = ["angle_gradients", "odd_overlaps", "phases", "sign_bytes", "sign_table", "transposed"]

FORWARD = 16
"""Bytes of draws done together in :func:`phases`: the terms of all gates for them should stay in the cache."""

BACKWARD = 64
"""Bytes of draws done together in :func:`angle_gradients`."""


def sign_table(dtype: np.dtype) -> Reals:
    """The eight signs of each byte, ``(256, 8)``."""
    return (1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)).astype(dtype)


@compiled
def transposed(pointers: Integers, members: Integers, new_pointers: Integers, rows: Integers) -> None:
    """The rows of the transpose; ``new_pointers`` (one more than columns) and ``rows`` are filled."""
    new_pointers[:] = 0
    for member in members:
        new_pointers[member + 1] += 1
    for column in range(len(new_pointers) - 1):
        new_pointers[column + 1] += new_pointers[column]
    place = new_pointers[:-1].copy()
    for row in range(len(pointers) - 1):
        for entry in range(pointers[row], pointers[row + 1]):
            column = members[entry]
            rows[place[column]] = row
            place[column] += 1


@compiled
def odd_overlaps(
    string_pointers: Integers,
    string_members: Integers,
    bit_pointers: Integers,
    bit_gates: Integers,
    odd: Reals,
    pointers: Integers,
    found: Integers,
) -> int:
    """The gates that share an odd number of bits with each string; how many there are.

    Args:
        string_pointers: of the strings.
        string_members: bits of the strings.
        bit_pointers: of the bits.
        bit_gates: gates of each bit.
        odd: ``(n_gates,)`` uint8 zeros, for work.
        pointers: ``(n_strings + 1,)``, to fill.
        found: gates of each string, to fill; as long as all bits of all strings have gates.
    """
    count = 0
    pointers[0] = 0
    for string in range(len(string_pointers) - 1):
        first, last = string_pointers[string], string_pointers[string + 1]
        for entry in range(first, last):
            bit = string_members[entry]
            for place in range(bit_pointers[bit], bit_pointers[bit + 1]):
                odd[bit_gates[place]] ^= 1
        for entry in range(first, last):
            bit = string_members[entry]
            for place in range(bit_pointers[bit], bit_pointers[bit + 1]):
                gate = bit_gates[place]
                if odd[gate]:
                    odd[gate] = 0
                    found[count] = gate
                    count += 1
        pointers[string + 1] = count
    return count


@compiled
def sign_bytes(pointers: Integers, members: Integers, draws: Reals, signs: Reals) -> None:
    """The sign bytes of the gates, ``(n_gates, n_bytes)``, from those of the bits, ``(n_bits, n_bytes)``."""
    for gate in range(len(pointers) - 1):
        row = signs[gate]
        row[:] = 0
        for entry in range(pointers[gate], pointers[gate + 1]):
            bits = draws[members[entry]]
            for byte in range(len(row)):
                row[byte] ^= bits[byte]


@compiled
def phases(
    pointers: Integers,
    gates: Integers,
    used: Reals,
    signs: Reals,
    angles: Reals,
    table: Reals,
    first: int,
    last: int,
    out: Reals,
) -> None:
    """``out[k, d]``, the sum of angle times sign in draw ``d`` over the gates of row ``k``.

    Args:
        pointers: of the strings.
        gates: gates of each string.
        used: ``(n_gates,)``, whether a string has the gate.
        signs: sign bytes of the gates.
        angles: ``(n_gates, 1)``, or a column for each draw.
        table: :func:`sign_table`.
        first: first byte of draws.
        last: first byte that is not done.
        out: ``(n_strings, 8 n_bytes)``.
    """
    shared = angles.shape[1] == 1
    terms = np.empty((len(signs), 8 * FORWARD), out.dtype)
    for start in range(first, last, FORWARD):
        n_bytes = min(FORWARD, last - start)
        for gate in range(len(signs)):
            if used[gate]:
                row = terms[gate]
                for byte in range(n_bytes):
                    sign = table[signs[gate, start + byte]]
                    if shared:
                        for i in range(8):
                            row[8 * byte + i] = angles[gate, 0] * sign[i]
                    else:
                        for i in range(8):
                            row[8 * byte + i] = angles[gate, 8 * (start + byte) + i] * sign[i]
        for string in range(len(pointers) - 1):
            total = out[string, 8 * start : 8 * (start + n_bytes)]
            total[:] = 0
            for entry in range(pointers[string], pointers[string + 1]):
                row = terms[gates[entry]]
                for d in range(8 * n_bytes):
                    total[d] += row[d]


@compiled
def angle_gradients(
    pointers: Integers,
    strings: Integers,
    signs: Reals,
    gradient: Reals,
    table: Reals,
    first: int,
    last: int,
    out: Reals,
) -> None:
    """The gradient of the angles of some gates: that of the phases summed over the gate's strings, times the sign.

    Args:
        pointers: of the gates.
        strings: strings of each gate.
        signs: sign bytes of the gates.
        gradient: of the phases, ``(n_strings, 8 n_bytes)``.
        table: :func:`sign_table`.
        first: first gate.
        last: first gate that is not done.
        out: zeros, ``(n_gates, 1)`` for the sum over draws, or a column for each draw.
    """
    shared = out.shape[1] == 1
    total = np.empty(8 * BACKWARD, out.dtype)
    for start in range(0, signs.shape[1], BACKWARD):
        n_bytes = min(BACKWARD, signs.shape[1] - start)
        for gate in range(first, last):
            if pointers[gate] == pointers[gate + 1]:
                continue
            total[:] = 0
            for entry in range(pointers[gate], pointers[gate + 1]):
                row = gradient[strings[entry], 8 * start : 8 * (start + n_bytes)]
                for d in range(8 * n_bytes):
                    total[d] += row[d]
            if shared:
                for byte in range(n_bytes):
                    sign = table[signs[gate, start + byte]]
                    for i in range(8):
                        out[gate, 0] += total[8 * byte + i] * sign[i]
            else:
                for byte in range(n_bytes):
                    sign = table[signs[gate, start + byte]]
                    for i in range(8):
                        out[gate, 8 * (start + byte) + i] = total[8 * byte + i] * sign[i]
