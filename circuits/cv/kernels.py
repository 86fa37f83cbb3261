"""Compiled passes over photon-number amplitudes: forward, and back with the derivatives of a loss.

The amplitudes of a batch are reals seen as ``(outer, size, inner, 2, rows)``: a pass acts on ``size``, gates with real
matrices on everything inside alike, phases on real and imaginary parts together. A density matrix is seen once with
its ket as ``size`` and once with its bra. The states before all mixings are kept for the way back, after the phases
in front of them: the derivative by a phase needs what comes out, which is what the next mixing takes in.
"""

from __future__ import annotations

from typing import Any

from circuits.backends.compiled import Integers, Reals, compiled, inner

__all__ = ["backward", "forward"]

# columns of a table of steps
KIND, PER_SAMPLE, PLACE, TABLE, BACK_TABLE, OUTER, SIZE, INNER = range(8)
PHASES, BOTH, MIX = range(3)


@inner
def _add_four(out: Reals, a: Reals, b: Reals, c: Reals, d: Reals, e: float, f: float, g: float, h: float) -> None:
    for i in range(out.size):
        out[i] += (e * a[i] + f * b[i]) + (g * c[i] + h * d[i])


@inner
def _add_two(out: Reals, a: Reals, b: Reals, e: float, f: float) -> None:
    for i in range(out.size):
        out[i] += e * a[i] + f * b[i]


@inner
def _add_one(out: Reals, a: Reals, e: float) -> None:
    for i in range(out.size):
        out[i] += e * a[i]


@inner
def _mix(x: Reals, y: Reals, starts: Integers, source: Integers, entry: Integers, values: Reals) -> None:
    """``y[a] = sum values[entry] * x[source]``, for ``(size, width)``."""
    for a in range(y.shape[0]):
        out = y[a]
        out[:] = 0.0
        k, end = starts[a], starts[a + 1]
        while k + 4 <= end:
            _add_four(
                out,
                x[source[k]],
                x[source[k + 1]],
                x[source[k + 2]],
                x[source[k + 3]],
                values[entry[k]],
                values[entry[k + 1]],
                values[entry[k + 2]],
                values[entry[k + 3]],
            )
            k += 4
        if k + 2 <= end:
            _add_two(out, x[source[k]], x[source[k + 1]], values[entry[k]], values[entry[k + 1]])
            k += 2
        if k < end:
            _add_one(out, x[source[k]], values[entry[k]])


@inner
def _add_product(out: Reals, a: Reals, b: Reals) -> None:
    for i in range(out.size):
        out[i] += a[i] * b[i]


@inner
def _mix_each(x: Reals, y: Reals, starts: Integers, source: Integers, entry: Integers, values: Reals) -> None:
    """The same with ``values`` ``(n_entries, rows)`` and states ``(size, repeats, rows)``."""
    y[:] = 0.0
    for a in range(y.shape[0]):
        for k in range(starts[a], starts[a + 1]):
            for i in range(y.shape[1]):
                _add_product(y[a, i], values[entry[k]], x[source[k], i])


@inner
def _measure(x: Reals, c: Reals, starts: Integers, source: Integers, entry: Integers, slopes: Reals) -> None:
    """``slopes[entry] += sum x[source] * c[a]``."""
    for a in range(c.shape[0]):
        given = c[a]
        k, end = starts[a], starts[a + 1]
        while k + 4 <= end:
            first, second, third, fourth = x[source[k]], x[source[k + 1]], x[source[k + 2]], x[source[k + 3]]
            e = f = g = h = given.dtype.type(0.0)
            for i in range(given.size):
                e += first[i] * given[i]
                f += second[i] * given[i]
                g += third[i] * given[i]
                h += fourth[i] * given[i]
            slopes[entry[k]] += e
            slopes[entry[k + 1]] += f
            slopes[entry[k + 2]] += g
            slopes[entry[k + 3]] += h
            k += 4
        while k < end:
            first = x[source[k]]
            e = given.dtype.type(0.0)
            for i in range(given.size):
                e += first[i] * given[i]
            slopes[entry[k]] += e
            k += 1


@inner
def _measure_each(x: Reals, c: Reals, starts: Integers, source: Integers, entry: Integers, slopes: Reals) -> None:
    for a in range(c.shape[0]):
        for k in range(starts[a], starts[a + 1]):
            for i in range(c.shape[1]):
                _add_product(slopes[entry[k]], x[source[k], i], c[a, i])


@inner
def _turn(real: Reals, imaginary: Reals, cosine: float, sine: float) -> None:
    for i in range(real.size):
        x, y = real[i], imaginary[i]
        real[i] = cosine * x - sine * y
        imaginary[i] = sine * x + cosine * y


@inner
def _turn_each(real: Reals, imaginary: Reals, cosines: Reals, sines: Reals, sign: float) -> None:
    for i in range(real.size):
        x, y, s = real[i], imaginary[i], sign * sines[i]
        real[i] = cosines[i] * x - s * y
        imaginary[i] = s * x + cosines[i] * y


@inner
def _overlap(x: Reals, c: Reals) -> float:
    total = x.dtype.type(0.0)
    for i in range(x.shape[1]):
        total += c[1, i] * x[0, i] - c[0, i] * x[1, i]
    return total


@inner
def _add_overlap(x: Reals, c: Reals, sign: float, out: Reals) -> None:
    for i in range(out.size):
        out[i] += sign * (c[1, i] * x[0, i] - c[0, i] * x[1, i])


@inner
def _phases(x: Reals, turns: Any, turns_each: Any, place: int, per_sample: bool, both: bool, sign: float) -> None:
    """``(size, inner, 2, rows)`` times phases of the ket, and conjugate ones of the bra if it is ``both``."""
    for a in range(x.shape[0]):
        if per_sample:
            for b in range(x.shape[1]):
                _turn_each(x[a, b, 0], x[a, b, 1], turns_each[0][place + a], turns_each[1][place + a], sign)
                if both:
                    _turn_each(x[a, b, 0], x[a, b, 1], turns_each[0][place + b], turns_each[1][place + b], -sign)
        else:
            for b in range(x.shape[1]):
                c, s = turns[0][place + a], turns[1][place + a]
                if both:
                    d, t = turns[0][place + b], turns[1][place + b]
                    c, s = c * d + s * t, s * d - c * t
                _turn(x[a, b, 0], x[a, b, 1], c, sign * s)


@inner
def _measure_phases(
    x: Reals, c: Reals, slopes: Reals, slopes_each: Reals, place: int, per_sample: bool, both: bool
) -> None:
    """Derivatives by the angles from the states after the phases."""
    for a in range(x.shape[0]):
        for b in range(x.shape[1]):
            if per_sample:
                _add_overlap(x[a, b], c[a, b], 1.0, slopes_each[place + a])
                if both:
                    _add_overlap(x[a, b], c[a, b], -1.0, slopes_each[place + b])
            else:
                total = _overlap(x[a, b], c[a, b])
                slopes[place + a] += total
                if both:
                    slopes[place + b] -= total


@compiled
def forward(
    steps: Integers,
    starts: Integers,
    source: Integers,
    entry: Integers,
    shared: Reals,
    each: Reals,
    cosines: Reals,
    sines: Reals,
    cosines_each: Reals,
    sines_each: Reals,
    states: Reals,
) -> int:
    """States before each mixing and at the end.

    Args:
        steps: ``(n_steps, 8)``, see the columns above.
        starts, source, entry: tables of mixings, one after another.
        shared, each: entries of all gates, ``(n,)`` and ``(n, rows)``.
        cosines, sines, cosines_each, sines_each: of the phases, ``(n,)`` and ``(n, rows)``.
        states: ``(slots, numbers)``; the first is what to start from. Fewer slots than mixings are used in turn.

    Returns:
        The slot of the final states.
    """
    rows = each.shape[1]
    slot = 0
    for number in range(steps.shape[0]):
        kind, per_sample, place, table, _, outer, size, repeats = steps[number]
        x = states[slot].reshape(outer, size, repeats, 2, rows)
        if kind == MIX:
            slot = (slot + 1) % states.shape[0]
            y = states[slot].reshape(outer, size, repeats, 2, rows)
            begins = starts[table:]
            for o in range(outer):
                if per_sample:
                    before, after = x[o].reshape(size, repeats * 2, rows), y[o].reshape(size, repeats * 2, rows)
                    _mix_each(before, after, begins, source, entry, each[place:])
                else:
                    before_, after_ = x[o].reshape(size, repeats * 2 * rows), y[o].reshape(size, repeats * 2 * rows)
                    _mix(before_, after_, begins, source, entry, shared[place:])
        else:
            _phases(x[0], (cosines, sines), (cosines_each, sines_each), place, per_sample == 1, kind == BOTH, 1.0)
    return slot


@compiled
def backward(
    steps: Integers,
    starts: Integers,
    source: Integers,
    entry: Integers,
    shared: Reals,
    each: Reals,
    cosines: Reals,
    sines: Reals,
    cosines_each: Reals,
    sines_each: Reals,
    states: Reals,
    given: Reals,
    shared_slopes: Reals,
    angle_slopes: Reals,
    each_slopes: Reals,
    angle_slopes_each: Reals,
) -> int:
    """Derivatives of a loss by entries, by angles and by the state at the start.

    Args:
        steps, starts, source, entry, shared, each, cosines, sines, cosines_each, sines_each, states: as for
            :func:`forward`, with all states kept.
        given: ``(2, numbers)``; the first has the derivatives by the final states.
        shared_slopes, angle_slopes, each_slopes, angle_slopes_each: the results, which are added to.

    Returns:
        Where in ``given`` the derivatives by the state at the start are.
    """
    rows = each.shape[1]
    slot, here = states.shape[0] - 1, 0
    for number in range(steps.shape[0] - 1, -1, -1):
        kind, per_sample, place, table, back, outer, size, repeats = steps[number]
        c = given[here].reshape(outer, size, repeats, 2, rows)
        if kind == MIX:
            slot -= 1
            x = states[slot].reshape(outer, size, repeats, 2, rows)
            d = given[1 - here].reshape(outer, size, repeats, 2, rows)
            for o in range(outer):
                if per_sample:
                    shape = size, repeats * 2, rows
                    before, slope, result = x[o].reshape(shape), c[o].reshape(shape), d[o].reshape(shape)
                    _measure_each(before, slope, starts[table:], source, entry, each_slopes[place:])
                    _mix_each(slope, result, starts[back:], source, entry, each[place:])
                else:
                    flat = size, repeats * 2 * rows
                    before_, slope_, result_ = x[o].reshape(flat), c[o].reshape(flat), d[o].reshape(flat)
                    _measure(before_, slope_, starts[table:], source, entry, shared_slopes[place:])
                    _mix(slope_, result_, starts[back:], source, entry, shared[place:])
            here = 1 - here
        else:
            x = states[slot].reshape(outer, size, repeats, 2, rows)
            _measure_phases(x[0], c[0], angle_slopes, angle_slopes_each, place, per_sample == 1, kind == BOTH)
            _phases(c[0], (cosines, sines), (cosines_each, sines_each), place, per_sample == 1, kind == BOTH, -1.0)
    return here
