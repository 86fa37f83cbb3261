"""Compiled diagonals and permutations of a state, and the derivatives by the phases.

A diagonal is made for a chunk of amplitudes at a time, by doubling: each qubit's phase turns a copy of what there is.
Phases of parities of several qubits take a Walsh transform of their angles, and their derivatives one of the overlaps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.backends.compiled import Integers, Reals, inner
from circuits.backends.vectors import (
    across,
    load,
    load_half,
    move_pair,
    move_quad,
    nearest,
    splat,
    store,
    times_conjugate,
    times_number,
    times_phase,
)

__all__ = ["chunk_bits_of", "cosines_and_sines", "move_back", "move_forward", "walsh"]

_CHUNK_BITS = 9


@inner
def chunk_bits_of(n_amplitudes: int) -> int:
    """Qubits whose phases are made at once."""
    bits = 0
    while bits < _CHUNK_BITS and 2 << bits <= n_amplitudes:
        bits += 1
    return bits


@inner
def cosines_and_sines(angles: Reals, cosines: Reals, sines: Reals) -> None:
    """Of float64 arrays whose size is a multiple of 8: to a few ulp, eight at a time, where no angle is huge."""
    largest = 0.0
    for i in range(angles.size):
        largest = max(largest, abs(angles[i]))
    if not largest < 1e6:
        for i in range(angles.size):
            cosines[i], sines[i] = np.cos(angles[i]), np.sin(angles[i])
        return
    one, two = splat(angles, 1.0), splat(angles, 2.0)
    per_turn = splat(angles, 0.15915494309189535)
    # 2 pi in three parts, the first two short enough for exact products with the number of turns
    high, middle, low = (
        splat(angles, 6.2831853069365025),
        splat(angles, 2.4308402025215864e-10),
        splat(angles, 8.089064995183803e-21),
    )
    quarter = splat(angles, 0.25)
    for i in range(angles.size // 8):
        angle = load(angles, i)
        turns = nearest(angle * per_turn)
        x = (((angle - turns * high) - turns * middle) - turns * low) * quarter
        z = x * x
        # Taylor series on [-pi/4, pi/4], then the angle is doubled twice
        sine = splat(angles, 1.0 / 355687428096000.0)
        sine = splat(angles, -1.0 / 1307674368000.0) + z * sine
        sine = splat(angles, 1.0 / 6227020800.0) + z * sine
        sine = splat(angles, -1.0 / 39916800.0) + z * sine
        sine = splat(angles, 1.0 / 362880.0) + z * sine
        sine = splat(angles, -1.0 / 5040.0) + z * sine
        sine = splat(angles, 1.0 / 120.0) + z * sine
        sine = splat(angles, -1.0 / 6.0) + z * sine
        sine = x + x * z * sine
        versine = splat(angles, -1.0 / 20922789888000.0)
        versine = splat(angles, 1.0 / 87178291200.0) + z * versine
        versine = splat(angles, -1.0 / 479001600.0) + z * versine
        versine = splat(angles, 1.0 / 3628800.0) + z * versine
        versine = splat(angles, -1.0 / 40320.0) + z * versine
        versine = splat(angles, 1.0 / 720.0) + z * versine
        versine = splat(angles, -1.0 / 24.0) + z * versine
        versine = z * (splat(angles, 0.5) + z * versine)
        for _ in range(2):  # sin 2x = 2 sin x cos x, and 1 - cos 2x = 2 sin^2 x
            versine, sine = two * sine * sine, two * sine * (one - versine)
        store(cosines, i, one - versine)
        store(sines, i, sine)


@inner
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


@inner
def _singles(
    chunk: Reals, number: int, bits: int, first: int, end: int, masks: Integers, cosines: Reals, sines: Reals
) -> None:
    """The diagonal of phases of single qubits, on chunk ``number``."""
    factor_c, factor_s = np.ones(bits), np.zeros(bits)
    real, imaginary = 1.0, 0.0
    for term in range(first, end):
        c, s, bit = cosines[term], sines[term], masks[term]
        if bit >= bits and number >> (bit - bits) & 1:
            s = -s
        real, imaginary = real * c - imaginary * s, real * s + imaginary * c
        if 0 <= bit < bits:
            factor_c[bit], factor_s[bit] = c * c - s * s, -2.0 * c * s
    chunk[0], chunk[1] = real, imaginary
    lanes = 64 // chunk.itemsize
    size = 2
    for bit in range(bits):
        c, s = factor_c[bit], factor_s[bit]
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


@inner
def _diagonal(
    chunk: Reals,
    number: int,
    step: Integers,
    masks: Integers,
    cosines: Reals,
    sines: Reals,
    fixed: Reals,
    totals: Reals,
    work: Reals,
    undo: bool,
) -> None:
    """The diagonal of a step on chunk ``number`` of the state; the angles are already negative to ``undo`` it."""
    amplitudes = chunk.size // 2
    _singles(chunk, number, chunk_bits_of(amplitudes), step[3], step[4], masks, cosines, sines)
    vectors = chunk.size * chunk.itemsize >> 6
    if step[2] >= 0:
        row, first = fixed[step[2]], number * vectors
        for vector in range(vectors):
            value, phase = load(chunk, vector), load(row, first + vector)
            store(chunk, vector, times_conjugate(value, phase) if undo else times_phase(value, phase))
    if step[6] > step[5]:
        start = number * amplitudes
        c, s = work[:amplitudes], work[amplitudes:]
        cosines_and_sines(totals[start : start + amplitudes], c, s)
        for i in range(amplitudes):
            real, imaginary = chunk[2 * i], chunk[2 * i + 1]
            chunk[2 * i] = real * c[i] - imaginary * s[i]
            chunk[2 * i + 1] = real * s[i] + imaginary * c[i]


@inner
def _parities(step: Integers, masks: Integers, angles: Reals, totals: Reals, sign: float) -> None:
    """The phase of every basis state from the parities of a step."""
    if step[6] > step[5]:
        totals[:] = 0.0
        for term in range(step[5], step[6]):
            totals[masks[term]] += sign * angles[term]
        walsh(totals)


@inner
def move_forward(
    state: Reals,
    other: Reals,
    chunk: Reals,
    step: Integers,
    masks: Integers,
    angles: Reals,
    cosines: Reals,
    sines: Reals,
    targets: Any,
    fixed: Reals,
    totals: Reals,
    work: Reals,
) -> None:
    """Phases in place, then the permutation, if there is one, to ``other``."""
    _parities(step, masks, angles, totals, 1.0)
    phases = step[2] >= 0 or step[6] > step[3]
    amplitudes = chunk.size // 2
    vectors = chunk.size * chunk.itemsize >> 6
    for number in range(state.size // chunk.size):
        if phases:
            _diagonal(chunk, number, step, masks, cosines, sines, fixed, totals, work, False)
            for vector in range(vectors):
                at = number * vectors + vector
                store(state, at, times_phase(load(state, at), load(chunk, vector)))
        if step[1] >= 0:
            target = targets[step[1]]
            for i in range(number * amplitudes, (number + 1) * amplitudes):
                move_pair(other, target[i], state, i)


@inner
def _fold(overlaps: Reals, by_bit: Reals) -> float:
    """The sum of overlaps, and for each bit that where it is 0 minus that where it is 1; ``overlaps`` is spoilt."""
    half = overlaps.size >> 1
    for bit in range(by_bit.size - 1, -1, -1):
        difference = 0.0
        for i in range(half):
            low, high = overlaps[i], overlaps[half + i]
            difference += low - high
            overlaps[i] = low + high
        by_bit[bit] = difference
        half >>= 1
    return overlaps[0]


@inner
def move_back(
    state: Reals,
    other: Reals,
    chunk: Reals,
    step: Integers,
    masks: Integers,
    angles: Reals,
    cosines: Reals,
    sines: Reals,
    targets: Any,
    fixed: Reals,
    totals: Reals,
    work: Reals,
    overlaps: Reals,
    slopes: Reals,
) -> None:
    """The permutation undone, to ``other``, and the phases, on psi and lambda; the derivatives by the phases.

    ``cosines`` and ``sines`` are of the negative angles.
    """
    _parities(step, masks, angles, totals, -1.0)
    parities = step[6] > step[5]
    measured = step[6] > step[3]
    amplitudes = chunk.size // 2
    bits = chunk_bits_of(amplitudes)
    vectors = chunk.size * chunk.itemsize >> 5
    source = other if step[1] >= 0 else state
    lanes = 64 // chunk.itemsize
    by_lane = np.zeros(2 * chunk.size, chunk.dtype)
    now = np.empty(lanes, chunk.dtype)
    for number in range(state.size // (2 * chunk.size)):
        first = number * amplitudes
        if step[1] >= 0:
            target = targets[step[1]]
            for i in range(first, first + amplitudes):
                move_quad(other, i, state, target[i])
        if measured:
            block = splat(chunk, 0.0)
            for vector in range(vectors):
                overlap = across(load(source, number * vectors + vector))
                store(by_lane, vector, load(by_lane, vector) + overlap)
                block = block + overlap
            if parities:
                for i in range(first, first + amplitudes):
                    at = 4 * i
                    overlaps[i] = source[at] * source[at + 3] - source[at + 1] * source[at + 2]
            store(now, 0, block)
            value = 0.0
            for lane in range(0, lanes, 4):
                value += np.float64(now[lane]) - np.float64(now[lane + 1])
            for term in range(step[3], step[4]):
                if masks[term] >= bits:
                    slopes[term] += -value if number >> (masks[term] - bits) & 1 else value
        if step[2] >= 0 or measured:
            _diagonal(chunk, number, step, masks, cosines, sines, fixed, totals, work, True)
            for vector in range(vectors):
                at = number * vectors + vector
                store(source, at, times_phase(load(source, at), load_half(chunk, vector)))
    if step[4] > step[3]:
        low, by_bit = np.empty(amplitudes), np.empty(bits)
        for i in range(amplitudes):
            low[i] = np.float64(by_lane[4 * i]) - np.float64(by_lane[4 * i + 1])
        everything = _fold(low, by_bit)
        for term in range(step[3], step[4]):
            if masks[term] < bits:
                slopes[term] += by_bit[masks[term]] if masks[term] >= 0 else everything
    if parities:
        walsh(overlaps)
        for term in range(step[5], step[6]):
            slopes[term] += overlaps[masks[term]]
