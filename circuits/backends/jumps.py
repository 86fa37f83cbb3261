"""Compiled quantum trajectories: one state vector at a time through gates, Pauli errors and decays.

Gates and errors on one wire are not applied to the state but collected as a 2 x 2 matrix for each wire, until a gate on
two wires needs them: then they and it are one 4 x 4 matrix and one pass over the state. A decay only needs the wire's
reduced density matrix, a pass that reads; whether it happens is decided with it, and it is collected as well. Matrices
that do not keep the norm of the state are applied before another wire's density matrix is asked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuits.backends.compiled import Integers, Reals, compiled, inner

__all__ = ["DECAY", "ONE", "PAULI", "TWO", "trajectories"]

ONE, TWO, PAULI, DECAY = 0, 1, 2, 3
"""Operations: a gate on one wire, a gate on two, Pauli operators drawn beforehand, a decay drawn on the way."""

Complexes = NDArray[Any]
"""Amplitudes or matrices, complex64 or complex128."""


@inner
def _apply_one(state: Complexes, matrix: Complexes, stride: int) -> None:
    a, b, c, d = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    for start in range(0, len(state), 2 * stride):
        for low in range(start, start + stride):
            zero, one = state[low], state[low + stride]
            state[low] = a * zero + b * one
            state[low + stride] = c * zero + d * one


@inner
def _apply_two(state: Complexes, matrix: Complexes, first: int, second: int) -> None:
    """``matrix`` on the wires of these strides, ``first`` the matrix's most significant bit."""
    large, small = max(first, second), min(first, second)
    for high in range(0, len(state), 2 * large):
        for middle in range(high, high + large, 2 * small):
            for i in range(middle, middle + small):
                j, k, m = i + second, i + first, i + first + second
                w, x, y, z = state[i], state[j], state[k], state[m]
                state[i] = matrix[0, 0] * w + matrix[0, 1] * x + matrix[0, 2] * y + matrix[0, 3] * z
                state[j] = matrix[1, 0] * w + matrix[1, 1] * x + matrix[1, 2] * y + matrix[1, 3] * z
                state[k] = matrix[2, 0] * w + matrix[2, 1] * x + matrix[2, 2] * y + matrix[2, 3] * z
                state[m] = matrix[3, 0] * w + matrix[3, 1] * x + matrix[3, 2] * y + matrix[3, 3] * z


@inner
def _reduced(state: Complexes, stride: int) -> tuple[float, float, complex]:
    """The wire's populations and its coherence ``sum psi_0 conj(psi_1)``."""
    zero = one = real = imaginary = 0.0
    for start in range(0, len(state), 2 * stride):
        for low in range(start, start + stride):
            a, b = state[low], state[low + stride]
            zero += a.real * a.real + a.imag * a.imag
            one += b.real * b.real + b.imag * b.imag
            real += a.real * b.real + a.imag * b.imag
            imaginary += a.imag * b.real - a.real * b.imag
    return zero, one, complex(real, imaginary)


@inner
def _multiply(matrix: Complexes, waiting: Complexes) -> None:
    """``waiting = matrix @ waiting`` for 2 x 2 matrices."""
    for column in range(2):
        zero, one = waiting[0, column], waiting[1, column]
        waiting[0, column] = matrix[0, 0] * zero + matrix[0, 1] * one
        waiting[1, column] = matrix[1, 0] * zero + matrix[1, 1] * one


@inner
def _pauli(code: int, waiting: Complexes) -> None:
    """``waiting = P @ waiting`` for X (1), Y (2, without its phase) or Z (3)."""
    for column in range(2):
        zero, one = waiting[0, column], waiting[1, column]
        if code == 1:
            waiting[0, column], waiting[1, column] = one, zero
        elif code == 2:
            waiting[0, column], waiting[1, column] = -one, zero
        else:
            waiting[1, column] = -one


@inner
def _decay(probability: float, draw: float, density: tuple[float, float, complex], waiting: Complexes) -> None:
    """``waiting`` after a decay that happens or does not, the state kept at norm 1."""
    zero, one, coherence = density
    weights = np.empty(2)
    for row in range(2):
        a, b = waiting[row, 0], waiting[row, 1]
        cross = a * b.conjugate() * coherence
        weights[row] = abs(a) ** 2 * zero + abs(b) ** 2 * one + 2 * cross.real
    if draw * (weights[0] + weights[1]) < probability * weights[1]:
        scale = 1 / math.sqrt(weights[1])
        for column in range(2):
            waiting[0, column] = scale * waiting[1, column]
            waiting[1, column] = 0
    else:
        scale = 1 / math.sqrt(weights[0] + (1 - probability) * weights[1])
        for column in range(2):
            waiting[0, column] *= scale
            waiting[1, column] *= scale * math.sqrt(1 - probability)


@inner
def _joined(matrix: Complexes, first: Complexes, second: Complexes, result: Complexes) -> None:
    """``result = matrix @ kron(first, second)``."""
    for row in range(4):
        for i in range(2):
            for j in range(2):
                total = matrix[row, 0] * 0
                for k in range(2):
                    for m in range(2):
                        total += matrix[row, 2 * k + m] * first[k, i] * second[m, j]
                result[row, 2 * i + j] = total


@inner
def _reset(waiting: Complexes) -> None:
    waiting[0, 0] = waiting[1, 1] = 1
    waiting[0, 1] = waiting[1, 0] = 0


@compiled
def trajectories(
    kinds: Integers,
    wires: Integers,
    places: Integers,
    single: Complexes,
    double: Complexes,
    rates: Reals,
    codes: Integers,
    draws: Reals,
    n_wires: int,
    probs: Reals,
) -> None:
    """Run trajectories of one circuit, each to its probabilities.

    Args:
        kinds: ``(n_operations,)``, of :data:`ONE`, :data:`TWO`, :data:`PAULI`, :data:`DECAY`.
        wires: ``(n_operations, 2)``; the second is -1 for operations on one wire.
        places: ``(n_operations,)``, an operation's row in the arrays of its kind.
        single: ``(n, 2, 2)``, the matrices on one wire.
        double: ``(n, 4, 4)``, the matrices on two wires, of the same complex type.
        rates: ``(n,)``, the probabilities of the decays.
        codes: ``(n_trajectories, n)``, the Pauli operators drawn: I, X, Y, Z are 0 to 3, on two wires 4 times the
            first plus the second.
        draws: ``(n_trajectories, n)``, a uniform number for each decay.
        n_wires: wires of the circuit.
        probs: ``(n_trajectories, 2**n_wires)``, is filled.
    """
    state = np.empty(2**n_wires, single.dtype)
    waiting = np.empty((n_wires, 2, 2), single.dtype)
    status = np.empty(n_wires, np.int8)  # of what waits: 0 nothing, 1 keeps the norm, 2 does not
    joined = np.empty((4, 4), single.dtype)
    for lane in range(len(probs)):
        state[:] = 0
        state[0] = 1
        status[:] = 0
        for wire in range(n_wires):
            _reset(waiting[wire])
        for number in range(len(kinds)):
            kind, first, second, place = kinds[number], wires[number, 0], wires[number, 1], places[number]
            if kind == ONE:
                _multiply(single[place], waiting[first])
                status[first] = max(status[first], 1)
            elif kind == TWO:
                _joined(double[place], waiting[first], waiting[second], joined)
                _apply_two(state, joined, 1 << (n_wires - 1 - first), 1 << (n_wires - 1 - second))
                for wire in (first, second):
                    _reset(waiting[wire])
                    status[wire] = 0
            elif kind == PAULI:
                code = codes[lane, place]
                if second >= 0 and code & 3:
                    _pauli(code & 3, waiting[second])
                    status[second] = max(status[second], 1)
                code = code >> 2 if second >= 0 else code
                if code:
                    _pauli(code, waiting[first])
                    status[first] = max(status[first], 1)
            else:
                for wire in range(n_wires):
                    if wire != first and status[wire] == 2:
                        _apply_one(state, waiting[wire], 1 << (n_wires - 1 - wire))
                        _reset(waiting[wire])
                        status[wire] = 0
                density = _reduced(state, 1 << (n_wires - 1 - first))
                _decay(rates[place], draws[lane, place], density, waiting[first])
                status[first] = 2
        for wire in range(n_wires):
            if status[wire]:
                _apply_one(state, waiting[wire], 1 << (n_wires - 1 - wire))
        total = 0.0
        for i in range(len(state)):
            probs[lane, i] = state[i].real ** 2 + state[i].imag ** 2
            total += probs[lane, i]
        for i in range(len(state)):
            probs[lane, i] /= total
