"""What pure and mixed states in a truncated basis have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from circuits.backends.base import check_shots, fresh_generator
from circuits.backends.draws import draw_states
from circuits.cv import homodyne
from circuits.cv.arguments import check_axes, check_outcomes, measured_modes, one_mode, phases, positive
from circuits.cv.basis import FockBasis
from circuits.cv.projections import Measurable
from circuits.cv.tables import occupations
from circuits.cv.wigner import wigner_function
from circuits.gates import integer

__all__ = ["TruncatedState"]


class TruncatedState(ABC):
    """A batch of states in a basis; see :class:`~circuits.cv.state.State` for what it answers.

    All answers are those of the state divided by its norm.

    Args:
        basis: which state each entry belongs to.
        hbar: fixes the units of quadratures.
    """

    def __init__(self, basis: FockBasis, hbar: float) -> None:
        self.basis = basis
        self.hbar = positive(hbar, "hbar")

    @property
    @abstractmethod
    def norm(self) -> Tensor:
        """Probability that is left inside the basis, ``(...)``."""

    @abstractmethod
    def probs(self) -> Tensor:
        """Probabilities of all photon numbers together, in the order of the basis, ``(..., basis.size)``."""

    @abstractmethod
    def reduced(self, mode: int) -> Tensor:
        """Density matrix of one mode, ``(..., cutoff, cutoff)``."""

    @abstractmethod
    def _lowered(self, steps: int) -> Tensor:
        """Expectation values of a power of every mode's lowering operator, ``(..., n_modes)``, times the norm."""

    @abstractmethod
    def _measurable(self, phases: Tensor | None, batch: torch.Size) -> Measurable:
        """The states, expanded to a batch, all states multiplied by ``phases`` ``(basis.size,)``."""

    @property
    def n_modes(self) -> int:
        """Number of modes."""
        return self.basis.n_modes

    @property
    @abstractmethod
    def purity(self) -> Tensor:
        """Trace of the squared density matrix, ``(...)``; 1 for a pure state."""

    @property
    def norm_lost(self) -> Tensor:
        """Probability that truncation left out, ``(...)``."""
        return 1 - self.norm

    # quadratures

    def quadrature_means(self, phi: Tensor | float = 0.0) -> Tensor:
        """Means of the quadratures at phase ``phi``, ``(..., n_modes)``: what :meth:`quadratures` gives first."""
        return self._mean(self._phase(phi, self.n_modes), self.norm[..., None])

    def quadratures(self, phi: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Mean and variance of the quadratures at phase ``phi``, ``(..., n_modes)`` each.

        Args:
            phi: radians, one or ``(n_modes,)``.

        Raises:
            ValueError: another shape of ``phi``.
        """
        turn, norm = self._phase(phi, self.n_modes), self.norm[..., None]
        mean = self._mean(turn, norm)
        twice = self._lowered(2)
        if turn is not None:
            twice = twice * _unit(-2 * turn).to(twice.dtype)
        square = 0.5 * self.hbar * (2 * twice.real / norm + 2 * self.mean_photons() + 1)
        return mean, square - mean.square()

    def _mean(self, turn: Tensor | None, norm: Tensor) -> Tensor:
        once = self._lowered(1)
        if turn is not None:
            once = once * _unit(-turn).to(once.dtype)
        return once.real * math.sqrt(2 * self.hbar) / norm

    def _phase(self, phi: Tensor | float, n: int) -> Tensor | None:
        """Phases of ``n`` modes; None where they are zero."""
        if isinstance(phi, int | float) and phi == 0:
            return None
        return phases(phi, n, torch.float64, self.norm.device)

    # photons

    def mean_photons(self) -> Tensor:
        """Mean photon number of each mode, ``(..., n_modes)``."""
        probs = self.probs()
        return probs @ occupations(self.basis, probs.device).to(probs.dtype)

    def photon_probs(self, mode: int, cutoff: int | None = None) -> Tensor:
        """Probabilities of 0, 1, ... photons in a mode, ``(..., cutoff)``; by default the cutoff of the simulation.

        Raises:
            ValueError: no such mode, or a cutoff below 1.
        """
        mode, probs = one_mode(mode, self.n_modes), self.probs()
        size = self.basis.cutoff if cutoff is None else integer(cutoff, "cutoff", 1)
        found = probs.new_zeros(*probs.shape[:-1], max(size, self.basis.cutoff))
        return found.index_add(-1, occupations(self.basis, probs.device)[:, mode], probs)[..., :size]

    @torch.no_grad()
    def sample_photons(self, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Photon numbers found in all modes, ``(..., shots, n_modes)`` int64.

        Raises:
            ValueError: ``shots`` is not an integer of at least 1, or a state has no norm left.
        """
        shots = check_shots(shots)
        self._check_norm()
        drawn = draw_states(self.probs(), shots, fresh_generator(generator))
        return occupations(self.basis, drawn.device)[drawn]

    # homodyne

    def sample_homodyne(
        self,
        shots: int,
        phi: Tensor | float = 0.0,
        generator: torch.Generator | None = None,
        modes: Sequence[int] | None = None,
    ) -> Tensor:
        """Outcomes of homodyne measurements, ``(..., shots, n_modes)``.

        They are differentiable in the parameters where gradients are enabled (implicit reparametrisation, 1805.08498).

        Args:
            shots: how many per state.
            phi: radians, one or one for each measured mode.
            generator: of uniform numbers; they are drawn on its own device.
            modes: which are measured; all by default.

        Raises:
            ValueError: an argument that is not allowed, or a state that has no norm left.
        """
        shots, modes = check_shots(shots), measured_modes(modes, self.n_modes)
        self._check_norm()
        batch = self.norm.shape
        rng = fresh_generator(generator)
        uniform = torch.rand(
            math.prod(batch), shots, len(modes), generator=rng, dtype=torch.float64, device=rng.device
        ).to(self.norm.device)
        states = self._measurable(self._turned(phi, modes), batch)
        outcomes = homodyne.sample(states, uniform, modes) * math.sqrt(self.hbar)
        return outcomes.reshape(*batch, shots, len(modes)).to(self.norm.dtype)

    def homodyne_log_prob(
        self, outcomes: Tensor, phi: Tensor | float = 0.0, modes: Sequence[int] | None = None
    ) -> Tensor:
        """Log density of homodyne outcomes, ``(..., shots, n_modes) -> (..., shots)``.

        Differentiable in the parameters and in the outcomes. It is finite: at an exact zero of the density it is the
        logarithm of the smallest number.

        Args:
            outcomes: in units of ``hbar``; their leading dimensions broadcast with those of the states.
            phi: radians, one or one for each measured mode.
            modes: which were measured; all by default.

        Raises:
            ValueError: shapes that do not fit, or an outcome that is not finite.
        """
        modes = measured_modes(modes, self.n_modes)
        norm = self.norm
        batch = check_outcomes(outcomes, len(modes), norm.shape)
        x = outcomes.to(norm.device, torch.float64) / math.sqrt(self.hbar)
        x = x.expand(*batch, *x.shape[-2:]).reshape(math.prod(batch), *x.shape[-2:])
        found = homodyne.log_prob(self._measurable(self._turned(phi, modes), batch), x, modes)
        found = found.reshape(*batch, x.shape[1]) - 0.5 * len(modes) * math.log(self.hbar)
        return (found - norm.to(torch.float64).log()[..., None]).to(norm.dtype)

    def _turned(self, phi: Tensor | float, modes: Sequence[int]) -> Tensor | None:
        """Phases of the basis states that turn quadratures at ``phi`` into positions."""
        turn = self._phase(phi, len(modes))
        if turn is None:
            return None
        numbers = occupations(self.basis, turn.device)[:, list(modes)].to(turn.dtype)
        return _unit(-(numbers @ turn))

    # phase space

    def wigner(self, mode: int, x: Tensor, p: Tensor) -> Tensor:
        """Wigner function of a mode, ``(..., len(x), len(p))``, normalised to 1 over dx dp.

        Raises:
            ValueError: no such mode, or an axis that is not one-dimensional.
        """
        check_axes(x, p)
        return wigner_function(self.reduced(mode), x, p, self.hbar)

    # checks

    def _check_norm(self) -> None:
        bad = (~(self.norm > 0)).nonzero()
        if len(bad):
            place = tuple(bad[0].tolist())
            raise ValueError(
                f"state {list(place)} has norm {self.norm[place].item()}: nothing is left below cutoff "
                f"{self.basis.cutoff}; a larger one is needed"
            )


def _unit(angle: Tensor) -> Tensor:
    return torch.complex(angle.cos(), angle.sin())
