"""``GaussianState``: means and covariances of optical modes, and what can be measured on them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from circuits.backends.base import check_shots, fresh_generator
from circuits.cv.gaussian_photons import draw_numbers, enough_photons, number_probs
from circuits.gates import integer

__all__ = ["GaussianState"]


class GaussianState:
    """Gaussian states; see :class:`~circuits.cv.state.State` for what they answer. Nothing is truncated.

    Args:
        means: of the quadratures ``(x_0, ..., x_(M-1), p_0, ..., p_(M-1))``, ``(..., 2M)``.
        covariance: of the same, ``(..., 2M, 2M)``; the vacuum's is ``hbar / 2`` times the unit matrix.
        hbar: fixes the units of quadratures.

    Raises:
        ValueError: shapes that do not fit.

    >>> vacuum = GaussianState(torch.zeros(2), torch.eye(2))
    >>> vacuum.mean_photons(), vacuum.photon_probs(0, 3)
    (tensor([0.]), tensor([1., 0., 0.]))
    """

    def __init__(self, means: Tensor, covariance: Tensor, hbar: float = 2.0) -> None:
        if means.ndim == 0 or means.shape[-1] % 2 or covariance.shape != (*means.shape, means.shape[-1]):
            shapes = f"{tuple(means.shape)} and {tuple(covariance.shape)}"
            raise ValueError(f"means and covariance have shapes {shapes}; (..., 2M) and (..., 2M, 2M) are needed")
        self.means = means
        self.covariance = covariance
        self.hbar = hbar

    @property
    def n_modes(self) -> int:
        """Number of modes."""
        return self.means.shape[-1] // 2

    @property
    def norm_lost(self) -> Tensor:
        """Zero, ``(...)``: nothing is truncated."""
        return self.means.new_zeros(self.means.shape[:-1])

    @property
    def purity(self) -> Tensor:
        """Trace of the squared density matrix, ``(...)``; 1 for a pure state."""
        return (self.covariance * (2 / self.hbar)).det().rsqrt()

    def quadratures(self, phi: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean and variance of the quadrature at phase ``phi``, ``(..., n_modes)`` each."""
        means, covariance = self._rotated(phi)
        return means, covariance.diagonal(dim1=-2, dim2=-1)

    def mean_photons(self) -> Tensor:
        """Mean photon number of each mode, ``(..., n_modes)``."""
        squares = self.covariance.diagonal(dim1=-2, dim2=-1) + self.means.square()
        return squares.unflatten(-1, (2, -1)).sum(-2) / (2 * self.hbar) - 0.5

    def photon_probs(self, mode: int, cutoff: int | None = None) -> Tensor:
        """Probabilities of 0, 1, ... photons in a mode, ``(..., cutoff)``, exact to rounding.

        By default so many that less than 1e-10 is left out.
        """
        means, covariance = self._reduced(mode)
        if cutoff is None:
            cutoff = enough_photons(means, covariance, 1e-10)
        return number_probs(means, covariance, integer(cutoff, "cutoff", 1))

    def sample_photons(self, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Photon numbers found in all modes, ``(..., shots, n_modes)`` int64, drawn from the exact joint distribution.

        Raises:
            ValueError: there are too many photons in too many modes.
        """
        shots, generator = check_shots(shots), fresh_generator(generator)
        found = draw_numbers(self.means / math.sqrt(self.hbar), self.covariance / self.hbar, shots, generator)
        return found.to(self.means.device)

    def sample_homodyne(
        self, shots: int, phi: Tensor | float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Outcomes of homodyne measurements of all modes, ``(..., shots, n_modes)``, differentiable.

        Raises:
            ValueError: modes are so strongly squeezed together that their covariance cannot be factorised.
        """
        means, factor = self._homodyne(phi)
        generator = fresh_generator(generator)
        size = (*means.shape[:-1], check_shots(shots), self.n_modes)
        noise = torch.randn(size, generator=generator, dtype=means.dtype, device=generator.device).to(means.device)
        return means[..., None, :] + noise @ factor.mT

    def homodyne_log_prob(self, outcomes: Tensor, phi: Tensor | float = 0.0) -> Tensor:
        """Log density of homodyne outcomes of all modes, ``(..., shots, n_modes) -> (..., shots)``."""
        means, factor = self._homodyne(phi)
        away = (outcomes - means[..., None, :]).mT
        scaled = torch.linalg.solve_triangular(factor, away, upper=False)
        log_norm = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * self.n_modes * math.log(2 * math.pi)
        return -0.5 * scaled.square().sum(-2) - log_norm[..., None]

    def wigner(self, mode: int, x: Tensor, p: Tensor) -> Tensor:
        """Wigner function of a mode, ``(..., len(x), len(p))``, normalised to 1 over dx dp."""
        place = self._place(mode)
        means, covariance = self.means[..., place], self.covariance[..., place[:, None], place]
        points = torch.stack(torch.broadcast_tensors(x[:, None], p[None, :]), -1)
        away = points.to(means) - means[..., None, None, :]
        inverse = covariance.inverse()[..., None, :, :]
        square = ((away @ inverse) * away).sum(-1)
        return (-0.5 * square).exp() / (2 * math.pi * covariance.det().sqrt()[..., None, None])

    def _rotated(self, phi: Tensor | float) -> tuple[Tensor, Tensor]:
        """Means ``(..., M)`` and covariance ``(..., M, M)`` of the quadratures at phase ``phi``."""
        n = self.n_modes
        phi = torch.as_tensor(phi, dtype=self.means.dtype, device=self.means.device)
        if phi.ndim > 1 or phi.numel() not in (1, n):
            raise ValueError(f"phi has shape {tuple(phi.shape)}; one phase or one for each of the {n} modes is needed")
        c, s = phi.cos().expand(n), phi.sin().expand(n)
        turn = torch.cat([c.diag(), s.diag()], -1)
        return self.means @ turn.T, turn @ self.covariance @ turn.T

    def _homodyne(self, phi: Tensor | float) -> tuple[Tensor, Tensor]:
        """Means of the quadratures and the lower triangular factor of their covariance."""
        means, covariance = self._rotated(phi)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed.any():
            raise ValueError(f"the covariance of the outcomes is singular in {means.dtype}: squeezing is too strong")
        return means, factor

    def _place(self, mode: int) -> Tensor:
        mode = integer(mode, "mode", 0)
        if mode >= self.n_modes:
            raise ValueError(f"mode {mode} is out of range 0 to {self.n_modes - 1}")
        return torch.tensor([mode, mode + self.n_modes], device=self.means.device)

    def _reduced(self, mode: int) -> tuple[Tensor, Tensor]:
        """Means ``(..., 2)`` and covariance ``(..., 2, 2)`` of a mode for hbar = 1."""
        place = self._place(mode)
        return self.means[..., place] / math.sqrt(self.hbar), self.covariance[..., place[:, None], place] / self.hbar
