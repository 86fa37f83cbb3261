"""``State``: what both simulations of optical modes answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["State"]


@runtime_checkable
class State(Protocol):
    """States of optical modes, one for each set of parameters: a batch of shape ``(...)``.

    Quadratures are :math:`x = \\sqrt{\\hbar/2}(a + a^\\dagger)`, :math:`p = -i\\sqrt{\\hbar/2}(a - a^\\dagger)` and
    :math:`x_\\phi = x \\cos\\phi + p \\sin\\phi`: the vacuum's variance is :math:`\\hbar/2`. All but photon
    samples are differentiable in the parameters. A truncated state is divided by its norm.
    """

    @property
    def n_modes(self) -> int:
        """Number of modes."""

    @property
    def hbar(self) -> float:
        """What fixes the units of quadratures."""

    @property
    def norm_lost(self) -> Tensor:
        """Probability that truncation left out, ``(...)``; zero where nothing is truncated."""

    @property
    def purity(self) -> Tensor:
        """Trace of the squared density matrix, ``(...)``; 1 for a pure state."""

    def quadrature_means(self, phi: Tensor | float = 0.0) -> Tensor:
        """Means of the quadratures at phase ``phi``, as :meth:`quadratures` gives first."""

    def quadratures(self, phi: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean and variance at phase ``phi``, radians, one or ``(n_modes,)``; ``(..., n_modes)`` each."""

    def mean_photons(self) -> Tensor:
        """Mean photon number of each mode, ``(..., n_modes)``."""

    def photon_probs(self, mode: int, cutoff: int | None = None) -> Tensor:
        """Probabilities of 0, 1, ... photons in a mode, ``(..., cutoff)``.

        The default is the cutoff of the simulation, or where nothing is truncated all but less than 1e-10.
        """

    def sample_photons(self, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Photon numbers found in all modes, ``(..., shots, n_modes)`` int64."""

    def sample_homodyne(
        self,
        shots: int,
        phi: Tensor | float = 0.0,
        generator: torch.Generator | None = None,
        modes: Sequence[int] | None = None,
    ) -> Tensor:
        """Outcomes of homodyne measurements, ``(..., shots, n_modes)``, of all modes or of ``modes`` in their order.

        They are differentiable in the parameters where gradients are enabled (implicit reparametrisation, 1805.08498).
        """

    def homodyne_log_prob(
        self, outcomes: Tensor, phi: Tensor | float = 0.0, modes: Sequence[int] | None = None
    ) -> Tensor:
        """Log density of homodyne outcomes, ``(..., shots, n_modes) -> (..., shots)``."""

    def wigner(self, mode: int, x: Tensor, p: Tensor) -> Tensor:
        """Wigner function of a mode, ``(..., len(x), len(p))``, normalised to 1 over dx dp."""
