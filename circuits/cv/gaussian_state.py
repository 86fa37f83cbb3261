"""``GaussianState``: means and covariances of optical modes, and what can be measured on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from circuits.backends.base import check_shots, fresh_generator
from circuits.cv.arguments import check_axes, check_outcomes, measured_modes, one_mode, phases, positive
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
        ValueError: shapes or dtypes that do not fit, or an ``hbar`` that is not positive.

    >>> vacuum = GaussianState(torch.zeros(2), torch.eye(2))
    >>> vacuum.mean_photons(), vacuum.photon_probs(0, 3)
    (tensor([0.]), tensor([1., 0., 0.]))
    """

    def __init__(self, means: Tensor, covariance: Tensor, hbar: float = 2.0) -> None:
        size = means.shape[-1] if means.ndim else 0
        if size == 0 or size % 2 or covariance.shape != (*means.shape, size):
            shapes = f"{tuple(means.shape)} and {tuple(covariance.shape)}"
            raise ValueError(f"means and covariance have shapes {shapes}; (..., 2M) and (..., 2M, 2M) are needed")
        if not means.is_floating_point() or covariance.dtype != means.dtype:
            dtypes = f"{means.dtype} and {covariance.dtype}"
            raise ValueError(f"means and covariance are {dtypes}; one floating point dtype is needed")
        self.means = means
        self.covariance = covariance
        self.hbar = positive(hbar, "hbar")

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

    def quadrature_means(self, phi: Tensor | float = 0.0) -> Tensor:
        """Means of the quadratures at phase ``phi``, ``(..., n_modes)``."""
        return self._rotated(phi, range(self.n_modes))[0]

    def quadratures(self, phi: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean and variance of the quadratures at phase ``phi``, ``(..., n_modes)`` each.

        Args:
            phi: radians, one or ``(n_modes,)``.

        Raises:
            ValueError: another shape of ``phi``.
        """
        means, covariance = self._rotated(phi, range(self.n_modes))
        return means, covariance.diagonal(dim1=-2, dim2=-1)

    def mean_photons(self) -> Tensor:
        """Mean photon number of each mode, ``(..., n_modes)``."""
        squares = self.covariance.diagonal(dim1=-2, dim2=-1) + self.means.square()
        return squares.unflatten(-1, (2, -1)).sum(-2) / (2 * self.hbar) - 0.5

    def photon_probs(self, mode: int, cutoff: int | None = None) -> Tensor:
        """Probabilities of 0, 1, ... photons in a mode, ``(..., cutoff)``, exact to rounding.

        Args:
            mode: which.
            cutoff: how many; by default so many that less than 1e-10 is left out.

        Raises:
            ValueError: no such mode, a cutoff below 1, or a state of more than a million photons.
        """
        means, covariance = self._of_mode(mode)
        means, covariance = means / math.sqrt(self.hbar), covariance / self.hbar
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
        self,
        shots: int,
        phi: Tensor | float = 0.0,
        generator: torch.Generator | None = None,
        modes: Sequence[int] | None = None,
    ) -> Tensor:
        """Outcomes of homodyne measurements, ``(..., shots, n_modes)``, differentiable in the parameters.

        Args:
            shots: how many per state.
            phi: radians, one or one for each measured mode.
            generator: of normal numbers; they are drawn on its own device.
            modes: which are measured; all by default.

        Raises:
            ValueError: an argument that is not allowed, or modes that are so strongly squeezed together that their
                covariance cannot be factorised.
        """
        means, factor = self._homodyne(phi, measured_modes(modes, self.n_modes))
        rng = fresh_generator(generator)
        size = (*means.shape[:-1], check_shots(shots), means.shape[-1])
        noise = torch.randn(size, generator=rng, dtype=torch.float64, device=rng.device).to(means)
        return means[..., None, :] + noise @ factor.mT

    def homodyne_log_prob(
        self, outcomes: Tensor, phi: Tensor | float = 0.0, modes: Sequence[int] | None = None
    ) -> Tensor:
        """Log density of homodyne outcomes, ``(..., shots, n_modes) -> (..., shots)``.

        Differentiable in the parameters and in the outcomes.

        Args:
            outcomes: in units of ``hbar``; their leading dimensions broadcast with those of the states.
            phi: radians, one or one for each measured mode.
            modes: which were measured; all by default.

        Raises:
            ValueError: shapes that do not fit, or an outcome that is not finite.
        """
        measured = measured_modes(modes, self.n_modes)
        means, factor = self._homodyne(phi, measured)
        check_outcomes(outcomes, len(measured), means.shape[:-1])
        away = (outcomes.to(means) - means[..., None, :]).mT
        scaled = torch.linalg.solve_triangular(factor, away, upper=False)
        log_norm = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * len(measured) * math.log(2 * math.pi)
        return -0.5 * scaled.square().sum(-2) - log_norm[..., None]

    def wigner(self, mode: int, x: Tensor, p: Tensor) -> Tensor:
        """Wigner function of a mode, ``(..., len(x), len(p))``, normalised to 1 over dx dp.

        Raises:
            ValueError: no such mode, or an axis that is not one-dimensional.
        """
        check_axes(x, p)
        means, covariance = self._of_mode(mode)
        points = torch.stack(torch.meshgrid(x, p, indexing="ij"), -1).to(means)
        away = points - means[..., None, None, :]
        square = ((away @ covariance.inverse()[..., None, :, :]) * away).sum(-1)
        return (-0.5 * square).exp() / (2 * math.pi * covariance.det().sqrt()[..., None, None])

    def _rotated(self, phi: Tensor | float, modes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Means ``(..., n)`` and covariance ``(..., n, n)`` of the quadratures of some modes at phase ``phi``."""
        angle = phases(phi, len(modes), self.means.dtype, self.means.device)
        numbers = torch.arange(len(modes))
        turn = self.means.new_zeros(len(modes), 2 * self.n_modes)
        turn[numbers, list(modes)] = angle.cos()
        turn[numbers, [mode + self.n_modes for mode in modes]] = angle.sin()
        return (self.means[..., None, :] @ turn.T)[..., 0, :], turn @ self.covariance @ turn.T

    def _homodyne(self, phi: Tensor | float, modes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Means of the quadratures and the lower triangular factor of their covariance."""
        means, covariance = self._rotated(phi, modes)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed.any():
            raise ValueError(f"the covariance of the outcomes is singular in {means.dtype}: squeezing is too strong")
        return means, factor

    def _of_mode(self, mode: int) -> tuple[Tensor, Tensor]:
        """Means ``(..., 2)`` and covariance ``(..., 2, 2)`` of a mode."""
        place = torch.tensor([one_mode(mode, self.n_modes), mode + self.n_modes], device=self.means.device)
        return self.means[..., place], self.covariance[..., place[:, None], place]
