r"""Interferometers as meshes of beamsplitters and rotations, and the parameters that make a mesh a given unitary.

An interferometer maps the annihilation operators of its modes by a unitary matrix, :math:`a \to U a`. A mesh of
:math:`K = M(M-1)/2` beamsplitters between neighbours, followed by a rotation of every mode, reaches each of them. Two
arrangements are known: the rectangular one of Clements et al. (1603.08788), of the smallest depth, and the triangular
one of Reck et al. (Phys. Rev. Lett. 73, 58). Order and meaning of the parameters are those of PennyLane's
``Interferometer``: the :math:`\theta` of all beamsplitters, their :math:`\phi`, the angles :math:`\varphi` of the
rotations.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from circuits.cv.gates import CVGate, Parameter
from circuits.cv.program import Program
from circuits.gates import integer

__all__ = ["Mesh", "decompose", "interferometer", "mesh", "rectangular", "triangular"]

Mesh = Literal["rectangular", "triangular"]

_TOLERANCE = 1e-6


def rectangular(n_modes: int) -> Program:
    """The rectangular mesh, whose parameters are theta ``(K,)``, phi ``(K,)`` and varphi ``(M,)``, one after another.

    >>> [gate.modes for gate in rectangular(4).gates[:6]]
    [(0, 1), (2, 3), (1, 2), (0, 1), (2, 3), (1, 2)]
    """
    return mesh(n_modes, "rectangular")


def triangular(n_modes: int) -> Program:
    """The triangular mesh, with the same parameters as :func:`rectangular`.

    >>> [gate.modes for gate in triangular(4).gates[:6]]
    [(2, 3), (1, 2), (0, 1), (2, 3), (1, 2), (2, 3)]
    """
    return mesh(n_modes, "triangular")


def mesh(n_modes: int, kind: Mesh) -> Program:
    """A mesh by its name; see :func:`rectangular`.

    Raises:
        ValueError: another name, or no modes.
    """
    pairs = _pairs(integer(n_modes, "n_modes", 1), kind)
    size = len(pairs)
    gates = [CVGate("Beamsplitter", (pair, pair + 1), (i, size + i)) for i, pair in enumerate(pairs)]
    gates += [CVGate("Rotation", mode, (2 * size + mode,)) for mode in range(n_modes)]
    return Program(n_modes, gates, 2 * size + n_modes)


def _pairs(n_modes: int, kind: Mesh) -> list[int]:
    """First mode of every beamsplitter, in order."""
    if kind not in get_args(Mesh):
        raise ValueError(f"mesh is {kind!r}; allowed are {', '.join(get_args(Mesh))}")
    if kind == "rectangular":
        return [pair for slot in range(n_modes) for pair in range(slot % 2, n_modes - 1, 2)]
    slots = range(2 * n_modes - 3)
    return [pair for slot in slots for pair in range(abs(slot + 2 - n_modes), n_modes - 1, 2)]


def decompose(unitary: Tensor | np.ndarray, kind: Mesh = "rectangular") -> tuple[Tensor, Tensor, Tensor]:
    r"""The parameters with which a mesh is a given interferometer.

    Beamsplitters null the matrix entry by entry until only phases are left.

    Args:
        unitary: how the annihilation operators map, ``(M, M)``, as in PennyLane's ``InterferometerUnitary``.
        kind: of the mesh.

    Returns:
        theta ``(K,)``, phi ``(K,)`` and varphi ``(M,)``, float64; :math:`\theta` in :math:`[0, \pi/2]` for the
        triangular mesh, in :math:`[-\pi/2, \pi/2]` for the other.

    Raises:
        ValueError: the matrix is not square, has entries that are not finite, or is not unitary.

    >>> theta, phi, varphi = decompose(np.array([[0, 1j], [1j, 0]]))
    >>> theta, phi, varphi
    (tensor([1.5708], dtype=torch.float64), tensor([0.], dtype=torch.float64), tensor([-1.5708,  1.5708], ...))
    """
    left = _checked(unitary)
    n_modes = len(left)
    pairs = _pairs(n_modes, kind)
    found = _null_both_sides(left) if kind == "rectangular" else _null_rows(left)
    queues = {pair: [angles for where, *angles in found if where == pair] for pair in pairs}
    ordered = [queues[pair].pop(0) for pair in pairs]
    theta, phi = np.array(ordered, dtype=np.float64).reshape(-1, 2).T.copy()
    varphi = np.angle(np.diag(left))
    return torch.from_numpy(theta), torch.from_numpy(phi), torch.from_numpy(varphi)


def interferometer(
    unitary: Tensor | np.ndarray, modes: Sequence[int] | None = None, kind: Mesh = "rectangular"
) -> tuple[CVGate, ...]:
    """A given interferometer as gates with fixed parameters.

    Args:
        unitary: ``(M, M)``, see :func:`decompose`.
        modes: the modes it acts on, in the order of the matrix; by default 0 to M - 1.
        kind: of the mesh.

    Raises:
        ValueError: another number of modes, or what :func:`decompose` refuses.

    >>> [str(gate) for gate in interferometer(np.eye(2), modes=[3, 1])]
    ['Beamsplitter(0, 0) [3, 1]', 'Rotation(0) [3]', 'Rotation(0) [1]']
    """
    values = torch.cat(decompose(unitary, kind)).tolist()
    n_modes = len(unitary)
    modes = range(n_modes) if modes is None else modes
    if len(modes) != n_modes:
        raise ValueError(f"an interferometer of {n_modes} modes is given modes {list(modes)}")
    return tuple(
        CVGate(gate.name, [modes[m] for m in gate.modes], [Parameter(None, 0.0, values[i]) for i in _indices(gate)])
        for gate in mesh(n_modes, kind).gates
    )


def _indices(gate: CVGate) -> list[int]:
    return [slot.index for slot in gate.parameters if slot.index is not None]


def _checked(unitary: Tensor | np.ndarray) -> np.ndarray:
    """A copy of the matrix, if it is unitary."""
    try:
        values = unitary.detach().cpu().numpy() if isinstance(unitary, Tensor) else unitary
        matrix = np.array(values, dtype=np.complex128)
    except (TypeError, ValueError) as error:
        raise ValueError(f"interferometer is not a matrix of numbers: {error}") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"interferometer is of shape {matrix.shape}; a square matrix is needed")
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        row, column = bad[0].tolist()
        raise ValueError(f"interferometer at [{row}, {column}]: {matrix[row, column]} is not finite")
    with np.errstate(over="ignore", invalid="ignore"):
        excess = np.abs(matrix @ matrix.conj().T - np.eye(len(matrix))).max()
    if not excess <= _TOLERANCE:
        raise ValueError(f"interferometer is not unitary: U U^dagger differs from 1 by up to {excess:.2g}")
    return matrix


Found = tuple[int, float, float]


def _null_rows(matrix: np.ndarray) -> list[Found]:
    """Beamsplitters in order of application (pair, theta, phi), all from the right; leaves phases in ``matrix``."""
    n_modes = len(matrix)
    found = []
    for row in range(n_modes - 1):
        for pair in range(n_modes - 2, row - 1, -1):
            keep, null = matrix[row, pair], matrix[row, pair + 1]
            theta, phi = np.arctan2(abs(null), abs(keep)), np.angle(-keep * null.conj())
            found.append((pair, float(theta), float(phi)))
            matrix[:, pair : pair + 2] @= _beamsplitter(-theta, phi)
    return found


def _null_both_sides(matrix: np.ndarray) -> list[Found]:
    """As :func:`_null_rows`, diagonal by diagonal, from the right and from the left in turn."""
    n_modes = len(matrix)
    right, left = [], []
    for diagonal in range(1, n_modes):
        for step in range(diagonal):
            if diagonal % 2:
                row, column = n_modes - 1 - step, diagonal - 1 - step
                null, keep = matrix[row, column], matrix[row, column + 1]
                theta, phi = np.arctan2(abs(null), abs(keep)), np.angle(null * keep.conj())
                right.append((column, theta, phi))
                matrix[:, column : column + 2] @= _beamsplitter(-theta, phi)
            else:
                row, column = n_modes + step - diagonal, step
                null, keep = matrix[row, column], matrix[row - 1, column]
                theta, phi = np.arctan2(abs(null), abs(keep)), np.angle(-null * keep.conj())
                left.append((row - 1, theta, phi))
                matrix[row - 1 : row + 1] = _beamsplitter(theta, phi) @ matrix[row - 1 : row + 1]
    phases = np.angle(np.diag(matrix))
    # B(theta, phi)^dagger D = D B(-theta, phi + difference of D's phases): what stands left of the phases goes before
    moved = [(pair, -theta, phi + phases[pair] - phases[pair + 1]) for pair, theta, phi in reversed(left)]
    return [(pair, float(theta), float(phi)) for pair, theta, phi in itertools.chain(right, moved)]


def _beamsplitter(theta: float, phi: float) -> np.ndarray:
    cos, sin, turn = np.cos(theta), np.sin(theta), np.exp(1j * phi)
    return np.array([[cos, -sin * turn.conjugate()], [sin * turn, cos]])
