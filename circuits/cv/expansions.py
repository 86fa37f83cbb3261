"""Gates that a :class:`~circuits.cv.program.Program` lacks and other notations have, in terms of those that it has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from circuits.cv.gates import CVGate, Parameter

__all__ = ["controlled_phase", "controlled_shift", "mach_zehnder"]

_SYMMETRIC = (math.pi / 4, math.pi / 2)


def controlled_shift(s: float, modes: Sequence[int]) -> list[CVGate]:
    r""":math:`\exp(-i s\, x_1 p_2 / \hbar)`, which adds :math:`s x_1` to :math:`x_2`.

    The map of both positions is a real matrix of determinant 1, so a rotation, opposite squeezings and a rotation.
    """
    left, strengths, right = np.linalg.svd(np.array([[1.0, 0.0], [s, 1.0]]))
    if np.linalg.det(left) < 0:
        left[:, 1] *= -1
        right[1] *= -1
    r = math.log(strengths[0])
    return [
        CVGate("Beamsplitter", modes, (float(np.arctan2(right[1, 0], right[0, 0])), 0.0)),
        CVGate("Squeezing", modes[0], (-r, 0.0)),
        CVGate("Squeezing", modes[1], (r, 0.0)),
        CVGate("Beamsplitter", modes, (float(np.arctan2(left[1, 0], left[0, 0])), 0.0)),
    ]


def controlled_phase(s: float, modes: Sequence[int]) -> list[CVGate]:
    r""":math:`\exp(i s\, x_1 x_2 / \hbar)`: a controlled shift between two Fourier transforms of the second mode."""
    before, after = (CVGate("Rotation", modes[1], (angle,)) for angle in (-math.pi / 2, math.pi / 2))
    return [before, *controlled_shift(s, modes), after]


def mach_zehnder(inside: Parameter, outside: Parameter, modes: Sequence[int]) -> list[CVGate]:
    """Two symmetric beamsplitters with a rotation of the first mode before each, ``outside`` and then ``inside``."""
    return [
        CVGate("Rotation", modes[0], (outside,)),
        CVGate("Beamsplitter", modes, _SYMMETRIC),
        CVGate("Rotation", modes[0], (inside,)),
        CVGate("Beamsplitter", modes, _SYMMETRIC),
    ]
