"""``FockState``: pure states of optical modes in a truncated basis, and what can be measured on them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from circuits.cv.basis import FockBasis

__all__ = ["FockState"]


class FockState:
    """Amplitudes of photon-number states; see :class:`~circuits.cv.state.State` for what it answers.

    Args:
        amplitudes: ``(..., basis.size)`` complex.
        basis: which state each of them belongs to.
        hbar: fixes the units of quadratures.
    """

    def __init__(self, amplitudes: Tensor, basis: FockBasis, hbar: float = 2.0) -> None:
        self.amplitudes = amplitudes
        self.basis = basis
        self.hbar = hbar

    @property
    def n_modes(self) -> int:
        """Number of modes."""
        return self.basis.n_modes

    @property
    def norm(self) -> Tensor:
        """Probability that is left inside the basis, ``(...)``."""
        return self.amplitudes.real.square().sum(-1) + self.amplitudes.imag.square().sum(-1)

    @property
    def norm_lost(self) -> Tensor:
        """Probability that truncation left out, ``(...)``."""
        return 1 - self.norm

    def ket(self) -> Tensor:
        """Amplitudes as a tensor ``(..., cutoff, ..., cutoff)`` with one dimension for each mode."""
        cutoff, n_modes = self.basis.cutoff, self.n_modes
        if self.basis.kind == "total":
            full = self.amplitudes.new_zeros(*self.amplitudes.shape[:-1], cutoff**n_modes)
            places = torch.from_numpy(self.basis.places).to(full.device)
            full = full.index_copy(full.ndim - 1, places, self.amplitudes)
        else:
            full = self.amplitudes
        return full.unflatten(-1, (cutoff,) * n_modes)

    def quadratures(self, phi: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean and variance of the quadrature at phase ``phi``, ``(..., n_modes)`` each."""
        means, variances = [], []
        turn = torch.as_tensor(phi, dtype=torch.float64, device=self.amplitudes.device).expand(self.n_modes)
        norm = self.norm
        for mode in range(self.n_modes):
            down, down_twice, number = self._moments(mode, norm)
            rotated = torch.polar(torch.ones_like(turn[mode]), -turn[mode])
            mean = math.sqrt(2 * self.hbar) * (rotated * down).real
            square = 0.5 * self.hbar * (2 * (rotated**2 * down_twice).real + 2 * number + 1)
            means.append(mean)
            variances.append(square - mean**2)
        return torch.stack(means, -1), torch.stack(variances, -1)

    def mean_photons(self) -> Tensor:
        """Mean photon number of each mode, ``(..., n_modes)``."""
        probs = self.amplitudes.real.square() + self.amplitudes.imag.square()
        numbers = torch.from_numpy(self.basis.occupations).to(probs)
        return (probs @ numbers) / self.norm[..., None]

    def _moments(self, mode: int, norm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Expectation values of a, a^2 and the photon number of a mode."""
        ket = self.ket().movedim(-self.n_modes + mode, -1)
        ket = ket.reshape(*self.amplitudes.shape[:-1], -1, self.basis.cutoff)
        n = torch.arange(self.basis.cutoff, device=ket.device, dtype=ket.real.dtype)
        once = (ket[..., :-1].conj() * n[1:].sqrt() * ket[..., 1:]).sum((-2, -1))
        twice = (ket[..., :-2].conj() * (n[2:] * n[1:-1]).sqrt() * ket[..., 2:]).sum((-2, -1))
        number = (n * (ket.real.square() + ket.imag.square())).sum((-2, -1))
        return once / norm, twice / norm, number / norm
