"""``MixedFockState``: mixed states of optical modes in a truncated basis, and what can be measured on them."""

from __future__ import annotations

import torch
from torch import Tensor

from circuits.cv.arguments import one_mode
from circuits.cv.basis import FockBasis
from circuits.cv.projections import Matrices
from circuits.cv.tables import lowering, split
from circuits.cv.truncated import TruncatedState

__all__ = ["MixedFockState"]


class MixedFockState(TruncatedState):
    """Density matrices between photon-number states; see :class:`~circuits.cv.state.State` for what it answers.

    Args:
        matrix: ``(..., basis.size, basis.size)`` complex and Hermitian.
        basis: which state each row and each column belongs to.
        hbar: fixes the units of quadratures.

    Raises:
        ValueError: the size is not that of the basis.

    >>> half = MixedFockState(0.5 * torch.eye(2, dtype=torch.complex128), FockBasis(1, 2))
    >>> half.mean_photons(), half.purity
    (tensor([0.5000], dtype=torch.float64), tensor(0.5000, dtype=torch.float64))
    """

    def __init__(self, matrix: Tensor, basis: FockBasis, hbar: float = 2.0) -> None:
        if not matrix.is_complex() or matrix.ndim < 2 or matrix.shape[-2:] != (basis.size, basis.size):
            found = f"{tuple(matrix.shape)} {matrix.dtype}"
            raise ValueError(f"matrix is {found}; (..., {basis.size}, {basis.size}) complex is needed")
        super().__init__(basis, hbar)
        self.matrix = matrix

    @property
    def norm(self) -> Tensor:
        """Probability that is left inside the basis, ``(...)``."""
        return self._diagonal.sum(-1)

    @property
    def _diagonal(self) -> Tensor:
        return self.matrix.diagonal(dim1=-2, dim2=-1).real

    def probs(self) -> Tensor:
        """Probabilities of all photon numbers together, in the order of the basis, ``(..., basis.size)``."""
        diagonal = self._diagonal
        return diagonal / diagonal.sum(-1, keepdim=True)

    def reduced(self, mode: int) -> Tensor:
        """Density matrix of one mode, ``(..., cutoff, cutoff)``.

        Raises:
            ValueError: no such mode.
        """
        size = self.basis.size
        table = split(self.basis, one_mode(mode, self.n_modes), self.matrix.device)
        rows, columns = table[:, :, None], table[:, None, :]
        places = torch.where((rows < size) & (columns < size), rows * size + columns, size**2)
        padded = torch.nn.functional.pad(self.matrix.flatten(-2), (0, 1))
        return padded[..., places.flatten()].unflatten(-1, places.shape).sum(-3) / self.norm[..., None, None]

    @property
    def purity(self) -> Tensor:
        """Trace of the squared density matrix, ``(...)``; 1 for a pure state."""
        squares = self.matrix.real.square() + self.matrix.imag.square()
        return squares.sum((-2, -1)) / self.norm.square()

    def _lowered(self, steps: int) -> Tensor:
        upper, lower, factor = lowering(self.basis, steps, self.matrix.device)
        entries = self.matrix.flatten(-2)[..., upper * self.basis.size + lower].unflatten(-1, factor.shape)
        return (entries * factor.to(entries.real.dtype)).sum(-1)

    def _measurable(self, phases: Tensor | None, batch: torch.Size) -> Matrices:
        matrix = self.matrix.to(torch.complex128)
        if phases is not None:
            matrix = matrix * phases[:, None] * phases.conj()
        size = self.basis.size
        return Matrices(matrix.real.expand(*batch, -1, -1).reshape(-1, size, size), self.basis)
