"""Compiled sweeps over state vectors: forward, and back with the adjoint.

A state is an array of reals in units: ``(re, im)`` of psi going forward, ``(re, im)`` of psi and of lambda going back.
The backward sweep un-computes psi and carries lambda, the derivative of the loss by psi, along; the derivative by an
angle is an overlap of the two (2009.02823). One thread, no Python: other threads run meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.backends.compiled import Integers, Reals, compiled, inner
from circuits.backends.moves import chunk_bits_of, cosines_and_sines, move_back, move_forward
from circuits.backends.rotations import measure_all, turn_all

__all__ = ["backward", "forward"]


@inner
def _parameters(
    row: Reals,
    offsets: Reals,
    places: Integers,
    indices: Integers,
    scales: Reals,
    n_turns: int,
    angles: Reals,
    cosines: Reals,
    sines: Reals,
) -> None:
    """The parameters, half of them for the rotations, and their cosines and sines; the arrays are longer."""
    for place in range(angles.size):
        angles[place] = offsets[place] if place < offsets.size else 0.0
    for entry in range(places.size):
        angles[places[entry]] += scales[entry] * row[indices[entry]]
    for g in range(n_turns):
        angles[g] *= 0.5
    cosines_and_sines(angles, cosines, sines)


@inner
def _aligned(like: Reals, size: int) -> Reals:
    """An array that starts where a vector may."""
    lanes = 64 // like.itemsize
    array = np.empty(size + lanes, like.dtype)
    skip = (-(array.ctypes.data // like.itemsize)) % lanes
    return array[skip : skip + size]


@inner
def _count(steps: Integers) -> tuple[int, int, int]:
    """Rotations, steps that permute, and phases of parities."""
    turns = moves = parities = 0
    for number in range(steps.shape[0]):
        if steps[number, 0] == 0:
            turns += steps[number, 2] - steps[number, 1]
        else:
            moves += steps[number, 1] >= 0
            parities += steps[number, 6] - steps[number, 5]
    return turns, moves, parities


@inner
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
        steps, bits, offsets, places, indices, scales, targets, fixed: the fields of a ``Sweep``; ``fixed`` as
            pairs of reals of the state's precision.
        rows: ``(batch, n_angles)`` float64.
        states: ``(batch, 2 * 2**n_bits)``, or ``(0, ...)`` if only the probabilities are asked for.
        probabilities: ``(batch, 2**n_wires)``, or ``(batch, 0)``.
    """
    size = states.shape[1]
    chunk = _aligned(states, 2 << chunk_bits_of(size // 2))
    tables = np.empty((2, 3 * (64 // states.itemsize)), states.dtype)
    padded = (offsets.size + 7) // 8 * 8
    angles, cosines, sines = np.empty(padded), np.empty(padded), np.empty(padded)
    scratch, unkept = _aligned(states, size), _aligned(states, 0 if states.shape[0] else size)
    n_turns, moves, parities = _count(steps)
    totals = np.empty(size // 2 if parities else 0)
    work = np.empty(chunk.size if parities else 0)
    for sample in range(rows.shape[0]):
        _parameters(rows[sample], offsets, places, indices, scales, n_turns, angles, cosines, sines)
        final = states[sample] if states.shape[0] else unkept
        state, other = (scratch, final) if moves % 2 else (final, scratch)
        state[:] = 0.0
        state[0] = 1.0
        for number in range(steps.shape[0]):
            step = steps[number]
            if step[0] == 0:
                turn_all(state, tables, bits, step[1], step[2], cosines, sines)
            else:
                move_forward(state, other, chunk, step, bits, angles, cosines, sines, targets, fixed, totals, work)
                if step[1] >= 0:
                    state, other = other, state
        for i in range(probabilities.shape[1]):
            probabilities[sample, i] = final[2 * i] * final[2 * i] + final[2 * i + 1] * final[2 * i + 1]


@compiled
def backward(
    steps: Integers,
    bits: Integers,
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
        steps, bits, offsets, places, indices, scales, targets, fixed, rows: as for :func:`forward`.
        states: ``(batch, 2 * 2**n_bits)``, the final states.
        given: derivatives of the loss by the probabilities, ``(batch, 2**n_wires)``, or, ``by_parts``, by the real and
            imaginary parts of the final states, ``(batch, 2 * 2**n_wires)``.
        gradients: ``(batch, n_angles)`` float64; the result.
    """
    size = states.shape[1]
    chunk = _aligned(states, 2 << chunk_bits_of(size // 2))
    tables = np.empty((3, 3 * (64 // states.itemsize)), states.dtype)
    padded = (offsets.size + 7) // 8 * 8
    angles, cosines, sines, slopes = np.empty(padded), np.empty(padded), np.empty(padded), np.empty(padded)
    first, second = _aligned(states, 2 * size), _aligned(states, 2 * size)
    n_turns, _, parities = _count(steps)
    totals, overlaps = np.empty(size // 2 if parities else 0), np.empty(size // 2 if parities else 0)
    work = np.empty(chunk.size if parities else 0)
    for sample in range(rows.shape[0]):
        _parameters(rows[sample], offsets, places, indices, scales, n_turns, angles, cosines, sines)
        for place in range(padded):
            sines[place] = -sines[place]
            slopes[place] = 0.0
        state, other = first, second
        _seed(state, states[sample], given[sample], by_parts)
        for number in range(steps.shape[0] - 1, -1, -1):
            step = steps[number]
            if step[0] == 0:
                measure_all(state, tables, bits, step[1], step[2], cosines, sines, slopes)
            else:
                move_back(
                    state,
                    other,
                    chunk,
                    step,
                    bits,
                    angles,
                    cosines,
                    sines,
                    targets,
                    fixed,
                    totals,
                    work,
                    overlaps,
                    slopes,
                )
                if step[1] >= 0:
                    state, other = other, state
        for index in range(gradients.shape[1]):
            gradients[sample, index] = 0.0
        for entry in range(places.size):
            gradients[sample, indices[entry]] += scales[entry] * slopes[places[entry]]
