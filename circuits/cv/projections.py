"""States of optical modes whose modes are projected on positions one after the other.

All numbers here are real: wave functions are, so that the real and the imaginary part of a pure state's amplitudes are
two states of which the densities are added, and of a density matrix only the real part counts. Positions are in units
of sqrt(hbar).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from circuits.cv.basis import FockBasis, basis_size
from circuits.cv.hermite_series import by_torch, bytes_to_invert
from circuits.cv.tables import split, without_a_mode

__all__ = ["Matrices", "Measurable", "Vectors"]


class Measurable(Protocol):
    """``n`` states, as real numbers, whose modes can be measured."""

    @property
    def basis(self) -> FockBasis:
        """Which photon-number state each number belongs to."""

    def density(self, mode: int, waves: Tensor) -> Tensor:
        """Density of outcomes in a mode, ``(n, outcomes)``, times the state's norm.

        ``waves`` are wave functions at the outcomes, ``(outcomes, cutoff)`` or ``(n, outcomes, cutoff)``.
        """

    def after(self, mode: int, waves: Tensor) -> Measurable:
        """The states of the other modes after these outcomes, ``(n, outcomes, cutoff)``: ``n * outcomes`` of them."""

    def pick(self, rows: slice) -> Measurable:
        """Some of the states."""

    @property
    def bytes_per_outcome(self) -> int:
        """Memory that measuring all modes once takes, roughly."""


@dataclass(frozen=True)
class Vectors:
    """Pure states.

    Args:
        parts: real and imaginary parts of amplitudes, ``(n, 2, size)`` float64.
        basis: which state each belongs to.
    """

    parts: Tensor
    basis: FockBasis

    def _by_mode(self, mode: int) -> Tensor:
        table = split(self.basis, mode, self.parts.device)
        parts = self.parts
        if self.basis.kind == "total":
            parts = torch.nn.functional.pad(parts, (0, 1))
        return parts[..., table.flatten()].reshape(len(parts), -1, self.basis.cutoff)

    def density(self, mode: int, waves: Tensor) -> Tensor:
        """See :class:`Measurable`."""
        if waves.ndim > 2 or by_torch(self.parts):
            return (self._by_mode(mode) @ waves.mT).square().sum(-2)
        from circuits.cv.homodyne_kernels import densities

        found = torch.empty(len(self.parts), len(waves), dtype=torch.float64)
        table = split(self.basis, mode, self.parts.device)
        densities(self.parts.detach().numpy(), table.numpy(), waves.numpy(), found.numpy())
        return found

    def after(self, mode: int, waves: Tensor) -> Vectors:
        """See :class:`Measurable`."""
        rest = without_a_mode(self.basis)
        if waves.shape[1] > 1 or by_torch(self.parts, waves):
            return Vectors((waves @ self._by_mode(mode).mT).reshape(-1, 2, rest.size), rest)
        from circuits.cv.homodyne_kernels import project

        found = torch.empty(len(self.parts), 2, rest.size, dtype=torch.float64)
        table = split(self.basis, mode, self.parts.device)
        project(self.parts.detach().numpy(), table.numpy(), waves[:, 0].detach().numpy(), found.numpy())
        return Vectors(found, rest)

    def pick(self, rows: slice) -> Vectors:
        """See :class:`Measurable`."""
        return Vectors(self.parts[rows], self.basis)

    @property
    def bytes_per_outcome(self) -> int:
        """See :class:`Measurable`."""
        once, twice = _sizes_left(self.basis)
        return 16 * (once + 3 * twice * self.basis.cutoff) + bytes_to_invert(self.basis.cutoff)


@dataclass(frozen=True)
class Matrices:
    """Mixed states.

    Args:
        matrix: real parts of density matrices, ``(n, size, size)`` float64.
        basis: which state each row and column belongs to.
    """

    matrix: Tensor
    basis: FockBasis

    def _by_mode(self, mode: int) -> Tensor:
        """``(n, others, cutoff, others, cutoff)``."""
        table = split(self.basis, mode, self.matrix.device)
        matrix = self.matrix
        if self.basis.kind == "total":
            matrix = torch.nn.functional.pad(matrix, (0, 1, 0, 1))
        flat = table.flatten()
        return matrix[:, flat][..., flat].reshape(len(matrix), *table.shape, *table.shape)

    def density(self, mode: int, waves: Tensor) -> Tensor:
        """See :class:`Measurable`."""
        reduced = self._by_mode(mode).diagonal(dim1=1, dim2=3).sum(-1)
        return ((waves @ reduced) * waves).sum(-1)

    def after(self, mode: int, waves: Tensor) -> Matrices:
        """See :class:`Measurable`."""
        blocks = self._by_mode(mode)
        n, others, cutoff = blocks.shape[:3]
        once = waves @ blocks.transpose(1, 2).reshape(n, cutoff, -1)
        once = once.reshape(n, -1, others * others, cutoff)
        twice = (once @ waves[..., None])[..., 0]
        rest = without_a_mode(self.basis)
        return Matrices(twice.reshape(-1, rest.size, rest.size), rest)

    def pick(self, rows: slice) -> Matrices:
        """See :class:`Measurable`."""
        return Matrices(self.matrix[rows], self.basis)

    @property
    def bytes_per_outcome(self) -> int:
        """See :class:`Measurable`."""
        once, twice = _sizes_left(self.basis)
        cutoff = self.basis.cutoff
        return 8 * (once**2 * (cutoff + 1) + 3 * (twice * cutoff) ** 2) + bytes_to_invert(cutoff)


def _sizes_left(basis: FockBasis) -> tuple[int, int]:
    """States that are left after one and after two modes are measured."""
    sizes = [basis_size(n, basis.cutoff, basis.kind) if n > 0 else 1 for n in (basis.n_modes - 1, basis.n_modes - 2)]
    return sizes[0], sizes[1]
