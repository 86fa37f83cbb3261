"""Compiled sweeps over state vectors: forward, and back with the adjoint.

A state is an array of reals in units: ``(re, im)`` of psi going forward, ``(re, im)`` of psi and of lambda going back.
Rotations act on vectors of 64 bytes; the lowest qubits lie within a vector. The backward sweep un-computes psi and
carries lambda, the derivative of the loss by psi, along; the derivative by an angle is an overlap of the two
(2009.02823). One thread, no Python: other threads run meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from circuits.backends.vectors import (
    load,
    load_each,
    load_half,
    load_lanes,
    load_rows,
    measure_and_turn,
    measure_lanes,
    move_pair,
    move_quad,
    splat_each,
    store,
    store_each,
    store_rows,
    times_conjugate,
    times_number,
    times_phase,
    turn,
    turn_lanes,
)

__all__ = ["backward", "compiled", "forward", "walsh"]

Reals = NDArray[Any]
Integers = NDArray[np.int64]

_FAST = {"contract", "nsz", "reassoc", "arcp"}  # infinities and NaN stay what they are
compiled: Any = njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")

_CHUNK_BITS = 9  # phases are made for so many qubits at once
_GROUPS = 1024  # row sets whose overlaps are summed in the state's precision


# rotations


@compiled
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


@compiled
def _base(group: int, shifts: Any) -> int:
    """The first vector of a row set: the group's number with a zero bit at every shift."""
    for shift in shifts:
        group = ((group >> shift) << (shift + 1)) | (group & ((1 << shift) - 1))
    return group


@compiled
def _turn_rows(state: Reals, shifts: Any, cosines: Reals, sines: Reals, g: int) -> None:
    c, s = splat_each(state, cosines, g, shifts), splat_each(state, sines, g, shifts)
    for group in range((state.size * state.itemsize >> 6) >> len(shifts)):
        base = _base(group, shifts)
        store_rows(state, base, shifts, turn(load_rows(state, base, shifts), c, s))


@compiled
def _turn_all(state: Reals, tables: Reals, bits: Integers, first: int, end: int, cosines: Reals, sines: Reals) -> None:
    """The rotations of one step, on psi."""
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


@compiled
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


@compiled
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


@compiled
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


@compiled
def _measure_all(
    state: Reals,
    tables: Reals,
    bits: Integers,
    first: int,
    end: int,
    cosines: Reals,
    sines: Reals,
    slopes: Reals,
) -> None:
    """The rotations of one step undone, on psi and lambda, and the derivatives by their angles."""
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


# phases


@compiled
def walsh(values: Reals) -> None:
    """The Walsh transform in place: ``sum_m (-1)^(parity of m & y) values[m]``."""
    half = 1
    while half < values.size:
        for start in range(0, values.size, 2 * half):
            low, high = values[start : start + half], values[start + half : start + 2 * half]
            for i in range(half):
                a, b = low[i], high[i]
                low[i], high[i] = a + b, a - b
        half *= 2


@compiled
def _chunk_phases(
    chunk: Reals,
    number: int,
    chunk_bits: int,
    step: Integers,
    masks: Integers,
    angles: Reals,
    first_phase: int,
    fixed: Reals,
    total: Reals,
    sign: float,
) -> None:
    """The diagonal of a step on chunk ``number`` of the state; ``sign`` is -1 to undo it."""
    real, imaginary = 1.0, 0.0
    singles = np.zeros(chunk_bits)
    phase = 0.0
    for term in range(step[3], step[4]):
        angle, bit = sign * angles[first_phase + term], masks[term]
        phase += angle
        if bit >= chunk_bits:
            if number >> (bit - chunk_bits) & 1:
                phase -= 2.0 * angle
        elif bit >= 0:
            singles[bit] = angle
    real, imaginary = np.cos(phase), np.sin(phase)
    chunk[0], chunk[1] = real, imaginary
    lanes = 64 // chunk.itemsize
    size = 2
    for bit in range(chunk_bits):
        c, s = np.cos(2.0 * singles[bit]), -np.sin(2.0 * singles[bit])
        if size < lanes:
            for i in range(0, size, 2):
                real, imaginary = chunk[i], chunk[i + 1]
                chunk[size + i] = real * c - imaginary * s
                chunk[size + i + 1] = real * s + imaginary * c
        else:
            vectors = size // lanes
            for vector in range(vectors):
                store(chunk, vectors + vector, times_number(load(chunk, vector), c, s))
        size *= 2
    if step[2] >= 0:
        row = fixed[step[2]]
        first = number * (chunk.size // lanes)
        if sign > 0:
            for vector in range(chunk.size // lanes):
                store(chunk, vector, times_phase(load(chunk, vector), load(row, first + vector)))
        else:
            for vector in range(chunk.size // lanes):
                store(chunk, vector, times_conjugate(load(chunk, vector), load(row, first + vector)))
    if step[6] > step[5]:
        start = number << chunk_bits
        for i in range(chunk.size // 2):
            angle = sign * total[start + i]
            c, s = np.cos(angle), np.sin(angle)
            real, imaginary = chunk[2 * i], chunk[2 * i + 1]
            chunk[2 * i] = real * c - imaginary * s
            chunk[2 * i + 1] = real * s + imaginary * c


@compiled
def _parity_phases(step: Integers, masks: Integers, angles: Reals, first_phase: int, total: Reals) -> None:
    """The phase of every basis state from the parities of a step."""
    if step[6] > step[5]:
        total[:] = 0.0
        for term in range(step[5], step[6]):
            total[masks[term]] += angles[first_phase + term]
        walsh(total)


@compiled
def _move_forward(
    state: Reals,
    other: Reals,
    chunk: Reals,
    chunk_bits: int,
    step: Integers,
    masks: Integers,
    angles: Reals,
    first_phase: int,
    targets: Any,
    fixed: Reals,
    total: Reals,
) -> None:
    """Phases in place, then the permutation, if there is one, to ``other``."""
    _parity_phases(step, masks, angles, first_phase, total)
    phases = step[2] >= 0 or step[6] > step[3]
    amplitudes = 1 << chunk_bits
    vectors = chunk.size * chunk.itemsize >> 6
    for number in range(state.size // chunk.size):
        if phases:
            _chunk_phases(chunk, number, chunk_bits, step, masks, angles, first_phase, fixed, total, 1.0)
            for vector in range(vectors):
                at = number * vectors + vector
                store(state, at, times_phase(load(state, at), load(chunk, vector)))
        if step[1] >= 0:
            target = targets[step[1]]
            for i in range(number * amplitudes, (number + 1) * amplitudes):
                move_pair(other, target[i], state, i)


@compiled
def _move_back(
    state: Reals,
    other: Reals,
    chunk: Reals,
    chunk_bits: int,
    step: Integers,
    masks: Integers,
    angles: Reals,
    first_phase: int,
    targets: Any,
    fixed: Reals,
    total: Reals,
    density: Reals,
    slopes: Reals,
) -> None:
    """The permutation undone, to ``other``, and the phases, on psi and lambda; the derivatives by the phases."""
    _parity_phases(step, masks, angles, first_phase, total)
    parities = step[6] > step[5]
    measured = step[6] > step[3]
    phases = step[2] >= 0 or measured
    amplitudes = 1 << chunk_bits
    vectors = 2 * chunk.size * chunk.itemsize >> 6
    by_low = np.zeros(amplitudes)
    for number in range(state.size // (2 * chunk.size)):
        if step[1] >= 0:
            target = targets[step[1]]
            for i in range(number * amplitudes, (number + 1) * amplitudes):
                move_quad(other, i, state, target[i])
            source = other
        else:
            source = state
        if measured:
            block = 0.0
            for i in range(amplitudes):
                at = 4 * ((number << chunk_bits) + i)
                value = np.float64(source[at] * source[at + 3]) - np.float64(source[at + 1] * source[at + 2])
                by_low[i] += value
                block += value
                if parities:
                    density[(number << chunk_bits) + i] = value
            for term in range(step[3], step[4]):
                bit = masks[term]
                if bit >= chunk_bits:
                    slopes[first_phase + term] += -block if number >> (bit - chunk_bits) & 1 else block
        if phases:
            _chunk_phases(chunk, number, chunk_bits, step, masks, angles, first_phase, fixed, total, -1.0)
            for vector in range(vectors):
                at = number * vectors + vector
                store(source, at, times_phase(load(source, at), load_half(chunk, vector)))
    if measured:
        for term in range(step[3], step[4]):
            bit = masks[term]
            if bit < chunk_bits:
                for i in range(amplitudes):
                    slopes[first_phase + term] += -by_low[i] if bit >= 0 and i >> bit & 1 else by_low[i]
        if parities:
            walsh(density)
            for term in range(step[5], step[6]):
                slopes[first_phase + term] += density[masks[term]]


# sweeps


@compiled
def _parameters(row: Reals, offsets: Reals, places: Integers, indices: Integers, scales: Reals, angles: Reals) -> None:
    for place in range(offsets.size):
        angles[place] = offsets[place]
    for entry in range(places.size):
        angles[places[entry]] += scales[entry] * row[indices[entry]]


@compiled
def _aligned(like: Reals, size: int) -> Reals:
    """An array that starts where a vector may."""
    lanes = 64 // like.itemsize
    array = np.empty(size + lanes, like.dtype)
    skip = (-(array.ctypes.data // like.itemsize)) % lanes
    return array[skip : skip + size]


@compiled
def _count(steps: Integers) -> tuple[int, int]:
    """Steps that permute, and phases of parities."""
    moves = parities = 0
    for number in range(steps.shape[0]):
        if steps[number, 0] == 1:
            moves += steps[number, 1] >= 0
            parities += steps[number, 6] - steps[number, 5]
    return moves, parities


@compiled
def _seed(state: Reals, psi: Reals, given: Reals, by_parts: bool) -> None:
    """Units of psi and lambda from the final state and the derivatives of the loss."""
    for i in range(psi.size // 2):
        real, imaginary = psi[2 * i], psi[2 * i + 1]
        state[4 * i], state[4 * i + 1] = real, imaginary
        if by_parts:
            inside = 2 * i < given.size
            state[4 * i + 2] = given[2 * i] if inside else 0.0
            state[4 * i + 3] = given[2 * i + 1] if inside else 0.0
        else:
            slope = 2.0 * given[i] if i < given.size else 0.0
            state[4 * i + 2], state[4 * i + 3] = slope * real, slope * imaginary


@compiled
def forward(
    steps: Integers,
    bits: Integers,
    masks: Integers,
    offsets: Reals,
    places: Integers,
    indices: Integers,
    scales: Reals,
    targets: Any,
    fixed: Reals,
    rows: Reals,
    states: Reals,
    probabilities: Reals,
) -> None:
    """Final states, or their probabilities, or both.

    Args:
        steps, bits, masks, offsets, places, indices, scales, targets, fixed: the fields of a ``Sweep``; ``fixed`` as
            pairs of reals of the state's precision.
        rows: ``(batch, n_angles)`` float64.
        states: ``(batch, 2 * 2**n_bits)``, or ``(0, ...)`` if only the probabilities are asked for.
        probabilities: ``(batch, 2**n_wires)``, or ``(batch, 0)``.
    """
    size = states.shape[1]
    chunk_bits = 0
    while chunk_bits < _CHUNK_BITS and 4 << chunk_bits <= size:
        chunk_bits += 1
    chunk = _aligned(states, 2 << chunk_bits)
    tables = np.empty((2, 3 * (64 // states.itemsize)), states.dtype)
    n_turns = bits.size
    angles = np.empty(offsets.size)
    cosines, sines = np.empty(n_turns), np.empty(n_turns)
    scratch, unkept = _aligned(states, size), _aligned(states, 0 if states.shape[0] else size)
    moves, parities = _count(steps)
    total = np.empty(size // 2 if parities else 0)
    for sample in range(rows.shape[0]):
        _parameters(rows[sample], offsets, places, indices, scales, angles)
        for g in range(n_turns):
            cosines[g], sines[g] = np.cos(0.5 * angles[g]), np.sin(0.5 * angles[g])
        final = states[sample] if states.shape[0] else unkept
        state, other = (scratch, final) if moves % 2 else (final, scratch)
        state[:] = 0.0
        state[0] = 1.0
        for number in range(steps.shape[0]):
            step = steps[number]
            if step[0] == 0:
                _turn_all(state, tables, bits, step[1], step[2], cosines, sines)
            else:
                _move_forward(state, other, chunk, chunk_bits, step, masks, angles, n_turns, targets, fixed, total)
                if step[1] >= 0:
                    state, other = other, state
        for i in range(probabilities.shape[1]):
            probabilities[sample, i] = final[2 * i] * final[2 * i] + final[2 * i + 1] * final[2 * i + 1]


@compiled
def backward(
    steps: Integers,
    bits: Integers,
    masks: Integers,
    offsets: Reals,
    places: Integers,
    indices: Integers,
    scales: Reals,
    targets: Any,
    fixed: Reals,
    rows: Reals,
    states: Reals,
    given: Reals,
    by_parts: bool,
    gradients: Reals,
) -> None:
    """Derivatives of a loss by the angles.

    Args:
        steps, bits, masks, offsets, places, indices, scales, targets, fixed, rows: as for :func:`forward`.
        states: ``(batch, 2 * 2**n_bits)``, the final states.
        given: derivatives of the loss by the probabilities, ``(batch, 2**n_wires)``, or, ``by_parts``, by the real and
            imaginary parts of the final states, ``(batch, 2 * 2**n_wires)``.
        gradients: ``(batch, n_angles)`` float64; the result.
    """
    size = states.shape[1]
    chunk_bits = 0
    while chunk_bits < _CHUNK_BITS and 4 << chunk_bits <= size:
        chunk_bits += 1
    chunk = _aligned(states, 2 << chunk_bits)
    tables = np.empty((3, 3 * (64 // states.itemsize)), states.dtype)
    n_turns = bits.size
    angles, slopes = np.empty(offsets.size), np.empty(offsets.size)
    cosines, sines = np.empty(n_turns), np.empty(n_turns)
    first, second = _aligned(states, 2 * size), _aligned(states, 2 * size)
    _, parities = _count(steps)
    total, density = np.empty(size // 2 if parities else 0), np.empty(size // 2 if parities else 0)
    for sample in range(rows.shape[0]):
        _parameters(rows[sample], offsets, places, indices, scales, angles)
        for g in range(n_turns):
            cosines[g], sines[g] = np.cos(0.5 * angles[g]), -np.sin(0.5 * angles[g])
        slopes[:] = 0.0
        state, other = first, second
        _seed(state, states[sample], given[sample], by_parts)
        for number in range(steps.shape[0] - 1, -1, -1):
            step = steps[number]
            if step[0] == 0:
                _measure_all(state, tables, bits, step[1], step[2], cosines, sines, slopes)
            else:
                _move_back(
                    state,
                    other,
                    chunk,
                    chunk_bits,
                    step,
                    masks,
                    angles,
                    n_turns,
                    targets,
                    fixed,
                    total,
                    density,
                    slopes,
                )
                if step[1] >= 0:
                    state, other = other, state
        for index in range(gradients.shape[1]):
            gradients[sample, index] = 0.0
        for entry in range(places.size):
            gradients[sample, indices[entry]] += scales[entry] * slopes[places[entry]]
