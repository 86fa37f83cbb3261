"""``FockState``: pure states of optical modes in a truncated basis, and what can be measured on them."""

from __future__ import annotations

import torch
from torch import Tensor

from circuits.cv.arguments import one_mode
from circuits.cv.basis import FockBasis
from circuits.cv.moments import lowered
from circuits.cv.projections import Vectors
from circuits.cv.tables import split
from circuits.cv.truncated import TruncatedState

__all__ = ["FockState"]


class FockState(TruncatedState):
    """Amplitudes of photon-number states; see :class:`~circuits.cv.state.State` for what it answers.

    Args:
        amplitudes: ``(..., basis.size)`` complex.
        basis: which state each of them belongs to.
        hbar: fixes the units of quadratures.

    Raises:
        ValueError: the number of amplitudes is not that of the basis.

    >>> one_photon = FockState(torch.tensor([0.0, 1.0], dtype=torch.complex128), FockBasis(1, 2))
    >>> one_photon.mean_photons(), one_photon.quadratures()[1]
    (tensor([1.], dtype=torch.float64), tensor([3.], dtype=torch.float64))
    """

    def __init__(self, amplitudes: Tensor, basis: FockBasis, hbar: float = 2.0) -> None:
        if not amplitudes.is_complex() or amplitudes.ndim == 0 or amplitudes.shape[-1] != basis.size:
            found = f"{tuple(amplitudes.shape)} {amplitudes.dtype}"
            raise ValueError(f"amplitudes are {found}; (..., {basis.size}) complex is needed")
        super().__init__(basis, hbar)
        self.amplitudes = amplitudes

    @property
    def norm(self) -> Tensor:
        """Probability that is left inside the basis, ``(...)``."""
        return self.amplitudes.real.square().sum(-1) + self.amplitudes.imag.square().sum(-1)

    @property
    def purity(self) -> Tensor:
        """1, ``(...)``: the state is pure."""
        return torch.ones_like(self.norm)

    def ket(self) -> Tensor:
        """Amplitudes as a tensor ``(..., cutoff, ..., cutoff)`` with one dimension for each mode, as they are."""
        cutoff, n_modes = self.basis.cutoff, self.n_modes
        if self.basis.kind == "total":
            full = self.amplitudes.new_zeros(*self.amplitudes.shape[:-1], cutoff**n_modes)
            places = torch.from_numpy(self.basis.places).to(full.device)
            full = full.index_copy(full.ndim - 1, places, self.amplitudes)
        else:
            full = self.amplitudes
        return full.unflatten(-1, (cutoff,) * n_modes)

    def probs(self) -> Tensor:
        """Probabilities of all photon numbers together, in the order of the basis, ``(..., basis.size)``."""
        squares = self.amplitudes.real.square() + self.amplitudes.imag.square()
        return squares / squares.sum(-1, keepdim=True)

    def reduced(self, mode: int) -> Tensor:
        """Density matrix of one mode, ``(..., cutoff, cutoff)``.

        Raises:
            ValueError: no such mode.
        """
        table = split(self.basis, one_mode(mode, self.n_modes), self.amplitudes.device)
        padded = torch.nn.functional.pad(self.amplitudes, (0, 1))
        blocks = padded[..., table.flatten()].unflatten(-1, table.shape)
        return blocks.mT @ blocks.conj() / self.norm[..., None, None]

    def fidelity(self, other: FockState) -> Tensor:
        """Squared overlap with other pure states of the same basis, ``(...)``.

        Raises:
            ValueError: the bases differ.
        """
        if other.basis != self.basis:
            raise ValueError(f"fidelity of states in {self.basis} and {other.basis}; one basis is needed")
        overlap = (self.amplitudes.conj() * other.amplitudes).sum(-1)
        return (overlap.real.square() + overlap.imag.square()) / (self.norm * other.norm)

    def _lowered(self, steps: int) -> Tensor:
        return lowered(self.amplitudes, self.basis, steps)

    def _measurable(self, phases: Tensor | None, batch: torch.Size) -> Vectors:
        amplitudes = self.amplitudes.to(torch.complex128)
        if phases is not None:
            amplitudes = amplitudes * phases
        parts = torch.stack([amplitudes.real, amplitudes.imag], -2)
        return Vectors(parts.expand(*batch, -1, -1).reshape(-1, 2, self.basis.size), self.basis)
