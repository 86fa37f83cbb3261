"""Kernels of the sparse products of :mod:`qgen.models.iqp_expectations`.

A sparse matrix of zeros and ones is its rows: those of row ``k`` are ``members[pointers[k] : pointers[k + 1]]``. The
signs of the gates for eight drawn bit strings are one byte: bit ``i`` is set where the gate has an odd number of ones
in draw ``i``; a table gives the eight numbers +2 and -2 of each byte (a phase is twice a sum). One thread, no Python:
others run meanwhile.
"""

from __future__ import annotations

import numpy as np

from circuits.backends.compiled import Integers, Reals, compiled, inner

__all__ = ["angle_gradients", "odd_overlaps", "packed", "phases", "sign_bytes", "sign_table", "transposed"]

FORWARD = 16
"""Bytes of draws done together in :func:`phases`: the terms of all gates for them should stay in the cache."""

BACKWARD = 64
"""Bytes of draws done together in :func:`angle_gradients`."""


def sign_table(dtype: np.dtype) -> Reals:
    """Twice the eight signs of each byte, ``(256, 8)``."""
    return (2 - 4 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)).astype(dtype)


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
def packed(draws: Reals, out: Reals) -> None:
    """Eight draws in a byte: of ``(n_draws, n_bits)`` zeros and ones, ``(n_bytes, n_bits)``."""
    out[:] = 0
    for draw in range(len(draws)):
        row, shift = out[draw // 8], draw % 8
        for bit in range(draws.shape[1]):
            row[bit] |= draws[draw, bit] << shift


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


@inner
def _add_rows(values: Reals, rows: Integers, begin: int, total: Reals) -> None:
    """Add the rows of ``values``, from column ``begin`` on, to ``total``: four at once, as memory is slow."""
    size = len(total)
    fours = len(rows) - len(rows) % 4
    for entry in range(0, fours, 4):
        a = values[rows[entry], begin : begin + size]
        b = values[rows[entry + 1], begin : begin + size]
        c = values[rows[entry + 2], begin : begin + size]
        d = values[rows[entry + 3], begin : begin + size]
        for i in range(size):
            total[i] += (a[i] + b[i]) + (c[i] + d[i])
    for entry in range(fours, len(rows)):
        a = values[rows[entry], begin : begin + size]
        for i in range(size):
            total[i] += a[i]


@compiled
def phases(
    pointers: Integers,
    gates: Integers,
    used: Reals,
    signs: Reals,
    table: Reals,
    angles: Reals,
    factors: Reals,
    first: int,
    last: int,
    out: Reals,
) -> None:
    """``out[k, d]``, twice the sum of angle times sign in draw ``d`` over the gates of row ``k``.

    Args:
        pointers: of the strings.
        gates: gates of each string.
        used: ``(n_gates,)``, whether a string has the gate.
        signs: sign bytes of the gates.
        table: :func:`sign_table`.
        angles: ``(n_gates, n_terms)``; without factors ``(n_gates, 8 n_bytes)``, those of each draw.
        factors: ``(n_terms, 8 n_bytes)``: the angles of draw ``d`` are ``angles @ factors[:, d]``; or ``(0, 0)``.
        first: first byte of draws.
        last: first byte that is not done.
        out: ``(n_strings, 8 n_bytes)``.
    """
    terms = np.empty((len(signs), 8 * FORWARD), out.dtype)
    for start in range(first, last, FORWARD):
        n_bytes = min(FORWARD, last - start)
        begin, end = 8 * start, 8 * (start + n_bytes)
        for gate in range(len(signs)):
            if used[gate]:
                row = terms[gate]
                if len(factors):
                    for term in range(len(factors)):
                        angle, of_draws = angles[gate, term], factors[term, begin:end]
                        for d in range(end - begin):
                            row[d] = angle * of_draws[d] + (row[d] if term else 0)
                else:
                    row[: end - begin] = angles[gate, begin:end]
                for byte in range(n_bytes):
                    sign = table[signs[gate, start + byte]]
                    for i in range(8):
                        row[8 * byte + i] *= sign[i]
        for string in range(len(pointers) - 1):
            total = out[string, begin:end]
            total[:] = 0
            _add_rows(terms, gates[pointers[string] : pointers[string + 1]], 0, total)


@compiled
def angle_gradients(
    pointers: Integers,
    strings: Integers,
    signs: Reals,
    table: Reals,
    gradient: Reals,
    factors: Reals,
    first: int,
    last: int,
    out: Reals,
) -> None:
    """The adjoint of :func:`phases`: the gradient of the angles of some gates.

    Args:
        pointers: of the gates.
        strings: strings of each gate.
        signs: sign bytes of the gates.
        table: :func:`sign_table`.
        gradient: of the phases, ``(n_strings, 8 n_bytes)``.
        factors: as there.
        first: first gate.
        last: first gate that is not done.
        out: zeros of the shape of the angles.
    """
    total = np.empty(8 * BACKWARD, out.dtype)
    for start in range(0, signs.shape[1], BACKWARD):
        n_bytes = min(BACKWARD, signs.shape[1] - start)
        begin, end = 8 * start, 8 * (start + n_bytes)
        for gate in range(first, last):
            if pointers[gate] == pointers[gate + 1]:
                continue
            total[:] = 0
            _add_rows(gradient, strings[pointers[gate] : pointers[gate + 1]], begin, total[: end - begin])
            for byte in range(n_bytes):
                sign = table[signs[gate, start + byte]]
                for i in range(8):
                    total[8 * byte + i] *= sign[i]
            if len(factors):
                for term in range(len(factors)):
                    of_draws = factors[term, begin:end]
                    for d in range(end - begin):
                        out[gate, term] += total[d] * of_draws[d]
            else:
                out[gate, begin:end] = total[: end - begin]
