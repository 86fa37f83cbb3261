"""Compiled passes over photon-number amplitudes: forward, and back with the derivatives of a loss.

The amplitudes of a batch are reals seen as ``(outer, size, inner, 2, rows)``: a pass acts on ``size``, gates with real
matrices on everything inside alike, phases on real and imaginary parts together. A density matrix is seen once with
its ket as ``size`` and once with its bra. The states before all mixings are kept for the way back, after the phases
in front of them: the derivative by a phase needs what comes out, which is what the next mixing takes in.

Sums stay in vector registers (:mod:`circuits.backends.vectors`): ``2 * rows`` is a whole number of vectors, so that
real and imaginary parts are whole numbers of half vectors. A *vector number* counts them from the start of an array.
Places are unsigned: a signed index might count from the end, and to look costs as much as the sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuits.backends.compiled import Integers, Reals, compiled, inner
from circuits.backends.vectors import load, load_half, splat, store

__all__ = ["backward", "forward"]

Places = NDArray[np.uint32]

# columns of a table of steps
KIND, PER_SAMPLE, PLACE, COUNT, TABLE, BACK_TABLE, OUTER, SIZE, INNER = range(9)
PHASES, BOTH, MIX = range(3)


@inner
def _mix(
    x: Reals,
    y: Reals,
    first: int,
    width: int,
    starts: Places,
    target: Places,
    source: Places,
    entry: Places,
    values: Reals,
) -> None:
    """``y[target] = sum values[entry] * x[source]``, for states of ``width`` vectors from vector ``first`` on."""
    for a in range(target.size):
        begin, end, to = starts[a], starts[a + 1], first + target[a] * width
        v = 0
        while v + 4 <= width:
            p = first + source[begin] * width + v
            e = splat(x, values[entry[begin]])
            s, t, u, w = e * load(x, p), e * load(x, p + 1), e * load(x, p + 2), e * load(x, p + 3)
            for number in range(begin + 1, end):
                k = np.uint32(number)
                p = first + source[k] * width + v
                e = splat(x, values[entry[k]])
                s = s + e * load(x, p)
                t = t + e * load(x, p + 1)
                u = u + e * load(x, p + 2)
                w = w + e * load(x, p + 3)
            store(y, to + v, s)
            store(y, to + v + 1, t)
            store(y, to + v + 2, u)
            store(y, to + v + 3, w)
            v += 4
        while v < width:
            s = splat(x, values[entry[begin]]) * load(x, first + source[begin] * width + v)
            for number in range(begin + 1, end):
                k = np.uint32(number)
                s = s + splat(x, values[entry[k]]) * load(x, first + source[k] * width + v)
            store(y, to + v, s)
            v += 1


@inner
def _mix_back(
    x: Reals,
    c: Reals,
    d: Reals,
    first: int,
    width: int,
    starts: Places,
    target: Places,
    source: Places,
    entry: Places,
    values: Reals,
    slopes: Reals,
) -> None:
    """The same from ``c`` to ``d`` by the transposed matrix, and vectors ``slopes[entry] += x[target] * c[source]``."""
    for a in range(target.size):
        begin, end, to = starts[a], starts[a + 1], first + target[a] * width
        v = 0
        while v + 4 <= width:
            xs, xt, xu, xw = load(x, to + v), load(x, to + v + 1), load(x, to + v + 2), load(x, to + v + 3)
            zero = splat(x, 0.0)
            s = t = u = w = zero
            for number in range(begin, end):
                k = np.uint32(number)
                p, n = first + source[k] * width + v, entry[k]
                e = splat(x, values[n])
                cs, ct, cu, cw = load(c, p), load(c, p + 1), load(c, p + 2), load(c, p + 3)
                s = s + e * cs
                t = t + e * ct
                u = u + e * cu
                w = w + e * cw
                store(slopes, n, load(slopes, n) + ((xs * cs + xt * ct) + (xu * cu + xw * cw)))
            store(d, to + v, s)
            store(d, to + v + 1, t)
            store(d, to + v + 2, u)
            store(d, to + v + 3, w)
            v += 4
        while v < width:
            xs, s = load(x, to + v), splat(x, 0.0)
            for number in range(begin, end):
                k = np.uint32(number)
                n = entry[k]
                cs = load(c, first + source[k] * width + v)
                s = s + splat(x, values[n]) * cs
                store(slopes, n, load(slopes, n) + xs * cs)
            store(d, to + v, s)
            v += 1


@inner
def _mix_each(
    x: Reals,
    y: Reals,
    first: int,
    repeats: int,
    halves: int,
    starts: Places,
    target: Places,
    source: Places,
    entry: Places,
    values: Reals,
) -> None:
    """As ``_mix`` with ``values`` ``(n_entries, rows)``, for states ``(size, repeats, rows)``, by half vectors."""
    for a in range(target.size):
        begin, end = starts[a], starts[a + 1]
        for i in range(repeats):
            for h in range(halves):
                p = first + (source[begin] * repeats + i) * halves + h
                s = load_half(values, entry[begin] * halves + h) * load_half(x, p)
                for number in range(begin + 1, end):
                    k = np.uint32(number)
                    p = first + (source[k] * repeats + i) * halves + h
                    s = s + load_half(values, entry[k] * halves + h) * load_half(x, p)
                store(y, first + (target[a] * repeats + i) * halves + h, s)


@inner
def _measure_each(
    x: Reals,
    c: Reals,
    first: int,
    repeats: int,
    halves: int,
    starts: Places,
    target: Places,
    source: Places,
    entry: Places,
    slopes: Reals,
) -> None:
    """``slopes[entry] += x[source] * c[target]`` of every row."""
    for a in range(target.size):
        for number in range(starts[a], starts[a + 1]):
            k = np.uint32(number)
            for h in range(halves):
                p, q = first + source[k] * repeats * halves + h, first + target[a] * repeats * halves + h
                s = load_half(slopes, entry[k] * halves + h)
                for i in range(repeats):
                    s = s + load_half(x, p + i * halves) * load_half(c, q + i * halves)
                store(slopes, entry[k] * halves + h, s)


@inner
def _turn(x: Reals, first: int, halves: int, cosine: float, sine: float, pair: Reals) -> None:
    half = pair.size // 2
    for i in range(half):
        pair[i], pair[half + i] = cosine, sine
    c, s = load_half(pair, 0), load_half(pair, 1)
    for h in range(first, first + halves):
        real, imaginary = load_half(x, h), load_half(x, h + halves)
        store(x, h, c * real - s * imaginary)
        store(x, h + halves, s * real + c * imaginary)


@inner
def _turn_each(x: Reals, first: int, halves: int, cosines: Reals, sines: Reals, place: int, forward: bool) -> None:
    for h in range(halves):
        real, imaginary = load_half(x, first + h), load_half(x, first + halves + h)
        c, s = load_half(cosines, place + h), load_half(sines, place + h)
        if forward:
            store(x, first + h, c * real - s * imaginary)
            store(x, first + halves + h, s * real + c * imaginary)
        else:
            store(x, first + h, c * real + s * imaginary)
            store(x, first + halves + h, c * imaginary - s * real)


@inner
def _phases(
    x: Reals, size: int, repeats: int, halves: int, both: bool, cosines: Reals, sines: Reals, sign: int, pair: Reals
) -> None:
    """``(size, repeats, 2, rows)`` times phases of the ket, and conjugate ones of the bra if it is ``both``."""
    for a in range(size):
        for b in range(repeats):
            c, s = cosines[a], sines[a]
            if both:
                d, t = cosines[b], sines[b]
                c, s = c * d + s * t, s * d - c * t
            _turn(x, (a * repeats + b) * 2 * halves, halves, c, sign * s, pair)


@inner
def _phases_each(
    x: Reals, size: int, repeats: int, halves: int, both: bool, cosines: Reals, sines: Reals, sign: int
) -> None:
    for a in range(size):
        for b in range(repeats):
            first = (a * repeats + b) * 2 * halves
            _turn_each(x, first, halves, cosines, sines, a * halves, sign > 0)
            if both:
                _turn_each(x, first, halves, cosines, sines, b * halves, sign < 0)


@inner
def _measure_phases(
    x: Reals, c: Reals, size: int, repeats: int, halves: int, both: bool, slopes: Reals, pair: Reals
) -> None:
    """Derivatives by the angles from the states after the phases."""
    pair[:] = 0.0
    for a in range(size):
        for b in range(repeats):
            first = (a * repeats + b) * 2 * halves
            overlap = load_half(pair, 1)  # zero
            for h in range(first, first + halves):
                real, imaginary = load_half(x, h), load_half(x, h + halves)
                overlap = overlap + (load_half(c, h + halves) * real - load_half(c, h) * imaginary)
            store(pair, 0, overlap)
            total = x.dtype.type(0.0)
            for i in range(pair.size // 2):
                total += pair[i]
            slopes[a] += total
            if both:
                slopes[b] -= total


@inner
def _measure_phases_each(x: Reals, c: Reals, size: int, repeats: int, halves: int, both: bool, slopes: Reals) -> None:
    for a in range(size):
        for b in range(repeats):
            first = (a * repeats + b) * 2 * halves
            for h in range(first, first + halves):
                real, imaginary = load_half(x, h), load_half(x, h + halves)
                overlap = load_half(c, h + halves) * real - load_half(c, h) * imaginary
                here = a * halves + h - first
                store(slopes, here, load_half(slopes, here) + overlap)
                if both:
                    there = b * halves + h - first
                    store(slopes, there, load_half(slopes, there) - overlap)


@compiled
def forward(
    steps: Integers,
    starts: Places,
    target: Places,
    source: Places,
    entry: Places,
    shared: Reals,
    each: Reals,
    cosines: Reals,
    sines: Reals,
    cosines_each: Reals,
    sines_each: Reals,
    states: Reals,
    rows: int,
) -> int:
    """States before each mixing and at the end.

    Args:
        steps: ``(n_steps, 9)``, see the columns above.
        starts, target, source, entry: tables of mixings, one after another.
        shared, each: entries of all gates, ``(n,)`` and ``(n * rows,)``.
        cosines, sines, cosines_each, sines_each: of the phases, ``(n,)`` and ``(n * rows,)``.
        states: ``(slots, numbers)``; the first is what to start from. Fewer slots than mixings are used in turn.
        rows: of the batch.

    Returns:
        The slot of the final states.
    """
    lanes = 64 // states.itemsize
    halves = 2 * rows // lanes
    pair = np.empty(lanes, states.dtype)  # two half vectors
    slot = 0
    for number in range(steps.shape[0]):
        kind, per_sample, place, _, table, _, outer, size, repeats = steps[number]
        x = states[slot]
        if kind == MIX:
            slot = (slot + 1) % states.shape[0]
            y = states[slot]
            begins, targets = starts[table : table + size + 1], target[table : table + size]
            for o in range(outer):
                if per_sample:
                    values, first = each[place * rows :], o * size * repeats * 2 * halves
                    _mix_each(x, y, first, repeats * 2, halves, begins, targets, source, entry, values)
                else:
                    first = o * size * repeats * halves
                    _mix(x, y, first, repeats * halves, begins, targets, source, entry, shared[place:])
        elif per_sample:
            c, s = cosines_each[place * rows :], sines_each[place * rows :]
            _phases_each(x, size, repeats, halves, kind == BOTH, c, s, 1)
        else:
            _phases(x, size, repeats, halves, kind == BOTH, cosines[place:], sines[place:], 1, pair)
    return slot


@compiled
def backward(
    steps: Integers,
    starts: Places,
    target: Places,
    source: Places,
    entry: Places,
    shared: Reals,
    each: Reals,
    cosines: Reals,
    sines: Reals,
    cosines_each: Reals,
    sines_each: Reals,
    states: Reals,
    rows: int,
    given: Reals,
    vectors: Reals,
    shared_slopes: Reals,
    each_slopes: Reals,
    angle_slopes: Reals,
    angle_slopes_each: Reals,
) -> int:
    """Derivatives of a loss by entries, by angles and by the state at the start.

    Args:
        steps, starts, target, source, entry, shared, each, cosines, sines, cosines_each, sines_each, states, rows: as
            for :func:`forward`, with all states kept.
        given: ``(2, numbers)``; the first has the derivatives by the final states.
        vectors: a vector for each entry of the largest gate.
        shared_slopes, each_slopes, angle_slopes, angle_slopes_each: the results, which are added to.

    Returns:
        Where in ``given`` the derivatives by the state at the start are.
    """
    lanes = 64 // states.itemsize
    halves = 2 * rows // lanes
    pair = np.empty(lanes, states.dtype)  # two half vectors
    slot, here = states.shape[0] - 1, 0
    for number in range(steps.shape[0] - 1, -1, -1):
        kind, per_sample, place, count, table, back, outer, size, repeats = steps[number]
        c = given[here]
        if kind == MIX:
            slot -= 1
            x, d = states[slot], given[1 - here]
            begins, targets = starts[table : table + size + 1], target[table : table + size]
            back_begins, back_targets = starts[back : back + size + 1], target[back : back + size]
            if not per_sample:
                vectors[: count * lanes] = 0.0
            for o in range(outer):
                if per_sample:
                    first, values, slopes = o * size * repeats * 2 * halves, each[place * rows :], each_slopes
                    _measure_each(
                        x, c, first, repeats * 2, halves, begins, targets, source, entry, slopes[place * rows :]
                    )
                    _mix_each(c, d, first, repeats * 2, halves, back_begins, back_targets, source, entry, values)
                else:
                    first, width, values = o * size * repeats * halves, repeats * halves, shared[place:]
                    _mix_back(x, c, d, first, width, back_begins, back_targets, source, entry, values, vectors)
            if not per_sample:
                for e in range(count):
                    total = states.dtype.type(0.0)
                    for lane in range(lanes):
                        total += vectors[e * lanes + lane]
                    shared_slopes[place + e] += total
            here = 1 - here
        elif per_sample:
            x, cosine, sine = states[slot], cosines_each[place * rows :], sines_each[place * rows :]
            _measure_phases_each(x, c, size, repeats, halves, kind == BOTH, angle_slopes_each[place * rows :])
            _phases_each(c, size, repeats, halves, kind == BOTH, cosine, sine, -1)
        else:
            x = states[slot]
            _measure_phases(x, c, size, repeats, halves, kind == BOTH, angle_slopes[place:], pair)
            _phases(c, size, repeats, halves, kind == BOTH, cosines[place:], sines[place:], -1, pair)
    return here
