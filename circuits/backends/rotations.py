"""Compiled rotations of all qubits of a state, and their derivatives.

A state is an array of reals in units: ``(re, im)`` of psi going forward, ``(re, im)`` of psi and of lambda going back.
The lowest qubits lie within a vector; up to three others are rotated at once, their amplitudes held in registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.backends.compiled import Integers, Reals, inner
from circuits.backends.vectors import (
    load,
    load_each,
    load_lanes,
    load_rows,
    measure_and_turn,
    measure_lanes,
    splat_each,
    store,
    store_each,
    store_rows,
    turn,
    turn_lanes,
)

__all__ = ["measure_all", "turn_all"]

_GROUPS = 1024  # row sets whose overlaps are summed in the state's precision
_BLOCK = 2**17  # bytes that stay in the cache while all rotations within them are done


@inner
def _lane_tables(
    table_c: Reals, table_s: Reals, unit: int, bits: Integers, first: int, end: int, cosines: Reals, sines: Reals
) -> tuple[int, int]:
    """Cosines and signed sines of the rotations within a vector; the first one that is not, and the bits within."""
    width = 64 // table_c.itemsize
    table_c[:] = 1.0
    table_s[:] = 0.0
    n_lane_bits = 0
    while unit << n_lane_bits < width:
        n_lane_bits += 1
    while first < end and bits[first] < n_lane_bits:
        bit = bits[first]
        for lane in range(width):
            table_c[bit * width + lane] = cosines[first]
            table_s[bit * width + lane] = sines[first] if (lane // unit) >> bit & 1 else -sines[first]
        first += 1
    return first, n_lane_bits


@inner
def _base(group: int, shifts: Any) -> int:
    """The first vector of a row set: the group's number with a zero bit at every shift."""
    for shift in shifts:
        group = ((group >> shift) << (shift + 1)) | (group & ((1 << shift) - 1))
    return group


@inner
def _turn_rows(state: Reals, shifts: Any, cosines: Reals, sines: Reals, g: int) -> None:
    c, s = splat_each(state, cosines, g, shifts), splat_each(state, sines, g, shifts)
    for group in range((state.size * state.itemsize >> 6) >> len(shifts)):
        base = _base(group, shifts)
        store_rows(state, base, shifts, turn(load_rows(state, base, shifts), c, s))


@inner
def _turn_block(
    state: Reals, tables: Reals, bits: Integers, first: int, end: int, cosines: Reals, sines: Reals
) -> None:
    """Rotations on psi, one pass over it for three of them."""
    g, inside = _lane_tables(tables[0], tables[1], 2, bits, first, end, cosines, sines)
    if g > first:
        c, s = load_lanes(tables[0], 2), load_lanes(tables[1], 2)
        for vector in range(state.size * state.itemsize >> 6):
            store(state, vector, turn_lanes(load(state, vector), c, s))
    while g < end:
        left = end - g
        if left == 1:
            _turn_rows(state, (bits[g] - inside,), cosines, sines, g)
            g += 1
        elif left == 2 or left == 4:
            _turn_rows(state, (bits[g] - inside, bits[g + 1] - inside), cosines, sines, g)
            g += 2
        else:
            shifts = (bits[g] - inside, bits[g + 1] - inside, bits[g + 2] - inside)
            _turn_rows(state, shifts, cosines, sines, g)
            g += 3


@inner
def _overlap(sums: Reals, number: int, lane_bit: int) -> float:
    """Lanes 0 and 1 of every unit minus lanes 2 and 3; for a qubit within a vector, of the units where it is 0."""
    width = 64 // sums.itemsize
    total = 0.0
    for unit in range(width // 4):
        if lane_bit < 0 or not unit >> lane_bit & 1:
            at = number * width + 4 * unit
            total += (
                np.float64(sums[at]) + np.float64(sums[at + 1]) - np.float64(sums[at + 2]) - np.float64(sums[at + 3])
            )
    return 0.5 * total


@inner
def _measure_rows(state: Reals, sums: Reals, shifts: Any, cosines: Reals, sines: Reals, g: int, slopes: Reals) -> None:
    c, s = splat_each(state, cosines, g, shifts), splat_each(state, sines, g, shifts)
    count = (state.size * state.itemsize >> 6) >> len(shifts)
    for begin in range(0, count, _GROUPS):
        sums[:] = 0.0
        totals = load_each(sums, shifts)
        for group in range(begin, min(begin + _GROUPS, count)):
            base = _base(group, shifts)
            rows, totals = measure_and_turn(load_rows(state, base, shifts), c, s, totals)
            store_rows(state, base, shifts, rows)
        store_each(sums, totals)
        for number in range(len(shifts)):
            slopes[g + number] += _overlap(sums, number, -1)


@inner
def _measure_lanes(state: Reals, tables: Reals, bits: Integers, first: int, end: int, slopes: Reals) -> None:
    sums = tables[2]
    c, s = load_lanes(tables[0], 4), load_lanes(tables[1], 4)
    count = state.size * state.itemsize >> 6
    for begin in range(0, count, _GROUPS):
        sums[:] = 0.0
        totals = load_lanes(sums, 4)
        for vector in range(begin, min(begin + _GROUPS, count)):
            value = load(state, vector)
            totals = measure_lanes(value, totals)
            store(state, vector, turn_lanes(value, c, s))
        store_each(sums, totals)
        for g in range(first, end):
            slopes[g] += _overlap(sums, bits[g], bits[g])


@inner
def _measure_block(
    state: Reals,
    tables: Reals,
    bits: Integers,
    first: int,
    end: int,
    cosines: Reals,
    sines: Reals,
    slopes: Reals,
) -> None:
    """Rotations undone on psi and lambda and the derivatives by their angles, one pass for three of them."""
    g, inside = _lane_tables(tables[0], tables[1], 4, bits, first, end, cosines, sines)
    if g > first:
        _measure_lanes(state, tables, bits, first, g, slopes)
    while g < end:
        left = end - g
        if left == 1:
            _measure_rows(state, tables[2], (bits[g] - inside,), cosines, sines, g, slopes)
            g += 1
        elif left == 2 or left == 4:
            _measure_rows(state, tables[2], (bits[g] - inside, bits[g + 1] - inside), cosines, sines, g, slopes)
            g += 2
        else:
            shifts = (bits[g] - inside, bits[g + 1] - inside, bits[g + 2] - inside)
            _measure_rows(state, tables[2], shifts, cosines, sines, g, slopes)
            g += 3


@inner
def _within(bits: Integers, first: int, end: int, n_amplitudes: int) -> int:
    """The first of the rotations whose bit does not lie within so many amplitudes."""
    while first < end and 1 << bits[first] < n_amplitudes:
        first += 1
    return first


@inner
def turn_all(state: Reals, tables: Reals, bits: Integers, first: int, end: int, cosines: Reals, sines: Reals) -> None:
    """The rotations of one step, on psi."""
    block = min(state.size, _BLOCK // state.itemsize)
    middle = _within(bits, first, end, block // 2)
    for start in range(0, state.size, block):
        _turn_block(state[start : start + block], tables, bits, first, middle, cosines, sines)
    _turn_block(state, tables, bits, middle, end, cosines, sines)


@inner
def measure_all(
    state: Reals, tables: Reals, bits: Integers, first: int, end: int, cosines: Reals, sines: Reals, slopes: Reals
) -> None:
    """The rotations of one step undone, on psi and lambda, and the derivatives by their angles."""
    block = min(state.size, _BLOCK // state.itemsize)
    middle = _within(bits, first, end, block // 4)
    for start in range(0, state.size, block):
        _measure_block(state[start : start + block], tables, bits, first, middle, cosines, sines, slopes)
    _measure_block(state, tables, bits, middle, end, cosines, sines, slopes)
