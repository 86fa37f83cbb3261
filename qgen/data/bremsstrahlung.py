r"""Radiation of a massive force carrier by a muon on a nucleus, improved Weizsaecker-Williams approximation.

:math:`\mu N \to \mu N V` (vector) or :math:`\mu N S` (scalar): `2101.12192 <https://arxiv.org/abs/2101.12192>`_ Eqs 16
and 17, scalar amplitude as in `1705.01633 <https://arxiv.org/abs/1705.01633>`_. With the carrier's mass :math:`m`, its
share :math:`x` of the beam energy :math:`E_0`, its lab angle :math:`\theta`, :math:`m_\mu` the muon's mass and

.. math::
    U &= 2 x E_0^2 (1 - \cos\theta) + m^2 (1 - x) / x + m_\mu^2 x \\
    S &= -U x + m^2 (1 - x) + m_\mu^2 x^2 \\
    A_V &= 2 (2 - 2 x + x^2) / (1 - x) + 4 (m^2 + 2 m_\mu^2) S / U^2 \\
    A_S &= x^2 / (1 - x) + 2 (m^2 - 4 m_\mu^2) S / U^2 \\
    \frac{d\sigma}{dx\, d\cos\theta} &\propto \sqrt{x^2 E_0^2 - m^2}\, E_0 (1 - x)\, \chi(t_\mathrm{min})\, A / U^2

where :math:`\chi = \int_{t_\mathrm{min}}^{t_\mathrm{max}} dt\, G_2(t) (t - t_\mathrm{min}) / t^2` counts the photons of
the nucleus, :math:`t_\mathrm{min} = (U / (2 E_0 (1 - x)))^2` and :math:`t_\mathrm{max} = m^2 + m_\mu^2`. The
form factor :math:`G_2` is that of `0906.0580 <https://arxiv.org/abs/0906.0580>`_ with the correction of
`2401.06843 <https://arxiv.org/abs/2401.06843>`_. All energies in GeV.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from qgen.data.nuclei import Nucleus
from qgen.random import uniform

__all__ = ["MUON_MASS", "Bremsstrahlung", "form_factor"]

MUON_MASS = 0.1056583755
ELECTRON_MASS = 0.51099895e-3
PROTON_MASS = 0.93827208943
PROTON_MOMENT = 2.79

Mediator = Literal["vector", "scalar"]


def form_factor(t: np.ndarray, nucleus: Nucleus) -> np.ndarray:
    """Electric form factor G2 of a nucleus, elastic and inelastic part.

    Args:
        t: momentum transfer squared, GeV^2.
        nucleus: the target.
    """
    a = 111.0 * nucleus.z ** (-1 / 3) / ELECTRON_MASS
    b = 773.0 * nucleus.z ** (-2 / 3) / ELECTRON_MASS
    d = 0.164 * nucleus.a ** (-2 / 3)
    screened, inelastic = a * a * t / (1 + a * a * t), b * b * t / (1 + b * b * t)
    elastic = nucleus.z**2 * (screened / (1 + t / d)) ** 2
    nucleon = (1 + t * (PROTON_MOMENT**2 - 1) / (4 * PROTON_MASS**2)) / (1 + t / 0.71) ** 4
    return elastic + nucleus.z * inelastic**2 * nucleon


@dataclass(frozen=True)
class Bremsstrahlung:
    """The differential cross-section for one carrier and target, and events drawn from it.

    Beyond the formulas of the module, the muon must be able to balance the carrier's transverse momentum.

    Events are drawn from the bilinear interpolation of the density on a grid in a logit of ``x`` and in
    ``s = U(0) / U``, in which the pole at small ``U`` is flat.

    Args:
        mass: of the carrier, GeV.
        nucleus: the target.
        mediator: ``vector`` or ``scalar``.
        nodes: of the grid, along x and along s.

    Raises:
        ValueError: the mass is not positive, or the mediator is unknown.
    """

    mass: float
    nucleus: Nucleus
    mediator: Mediator = "vector"
    nodes: tuple[int, int] = (513, 257)

    def __post_init__(self) -> None:
        if not 0.0 < self.mass < float("inf"):
            raise ValueError(f"mediator_mass is {self.mass} GeV; it must be positive and finite")
        if self.mediator not in ("vector", "scalar"):
            raise ValueError(f"mediator is {self.mediator!r}; allowed are 'vector' and 'scalar'")

    @property
    def t_max(self) -> float:
        """Upper end of the momentum transfer, GeV^2."""
        return self.mass**2 + MUON_MASS**2

    def chi(self, t_min: np.ndarray) -> np.ndarray:
        """The photon flux of the nucleus (up to a constant) by Gauss-Legendre quadrature in log t; 0 above t_max."""
        nodes, weights = np.polynomial.legendre.leggauss(200)
        low = np.log(np.maximum(t_min, self._t_low))
        half = 0.5 * np.maximum(np.log(self.t_max) - low, 0.0)
        t = np.exp(low[..., None] + half[..., None] * (1 + nodes))
        integrand = form_factor(t, self.nucleus) * np.maximum(1 - np.asarray(t_min)[..., None] / t, 0.0)
        return half * (integrand @ weights)

    @property
    def _t_low(self) -> float:
        """Below this the screening of the atomic electrons leaves less than 1e-9 of the flux."""
        return (
            1e-5
            * float(min((self.nucleus.z ** (1 / 3) / 111, self.nucleus.z ** (2 / 3) / 773))) ** 2
            * (ELECTRON_MASS**2)
        )

    @cached_property
    def _log_t(self) -> np.ndarray:
        low = min(self._t_low, 0.01 * self.t_max)
        return np.linspace(np.log(low), np.log(self.t_max), 4001)

    @cached_property
    def _chi_values(self) -> np.ndarray:
        return self.chi(np.exp(self._log_t))

    @cached_property
    def _flux_below(self) -> np.ndarray:
        """The integral of G2 / t up to each node."""
        values = form_factor(np.exp(self._log_t), self.nucleus)
        steps = 0.5 * (values[1:] + values[:-1]) * np.diff(self._log_t)
        return np.concatenate([[0.0], np.cumsum(steps)])

    def u_forward(self, x: np.ndarray) -> np.ndarray:
        """U at angle 0, GeV^2."""
        return self.mass**2 * (1 - x) / x + MUON_MASS**2 * x

    def density(self, x: np.ndarray, u: np.ndarray, beam_energy: float) -> np.ndarray:
        """d sigma / dx dU up to a constant, in any shape; 0 where it is kinematically impossible.

        Args:
            x: share of the beam energy, between ``mass / beam_energy`` and 1.
            u: U, GeV^2.
            beam_energy: GeV.
        """
        t_min = (u / (2 * beam_energy * (1 - x))) ** 2
        chi = np.interp(np.log(t_min), self._log_t, self._chi_values, right=0.0)
        s = -u * x + self.mass**2 * (1 - x) + MUON_MASS**2 * x**2
        if self.mediator == "vector":
            amplitude = 2 * (2 - 2 * x + x**2) / (1 - x) + 4 * (self.mass**2 + 2 * MUON_MASS**2) * s / u**2
        else:
            amplitude = x**2 / (1 - x) + 2 * (self.mass**2 - 4 * MUON_MASS**2) * s / u**2
        momentum = np.sqrt(np.maximum(x**2 * beam_energy**2 - self.mass**2, 0.0))
        return momentum * (1 - x) / x * chi * amplitude / u**2

    def table(self, beam_energy: float) -> Table:
        """The grid from which events of this beam energy (GeV) are drawn.

        Raises:
            ValueError: the carrier is too heavy for the beam.
        """
        ends = self.mass / beam_energy, 1 - MUON_MASS / beam_energy
        possible = np.array([])
        if ends[0] < ends[1]:
            x = ends[0] + (ends[1] - ends[0]) / (1 + np.exp(-np.linspace(-40, 36, 20001)))
            possible = x[(x < ends[1]) & (self.u_forward(x) < self._u_max(x, beam_energy))]
        if len(possible) < 3:
            raise ValueError(
                f"a carrier of {self.mass:g} GeV cannot be produced by a beam of {beam_energy:g} GeV on a nucleus"
            )
        low, high = possible[0], possible[-1]
        span = np.linspace(-(14 + np.log1p(1 / low)), 14.0, self.nodes[0])
        x = low + (high - low) / (1 + np.exp(-span))
        sigma = np.linspace(0, 1, self.nodes[1]) ** 3
        jacobian = (x - low) * (high - x)
        s_low, u0 = self._s_low(x, beam_energy), self.u_forward(x)
        s = s_low[:, None] + (1 - s_low)[:, None] * sigma
        u = u0[:, None] / s
        # dU = U^2 ds / U(0)
        values = self.density(x[:, None], u, beam_energy) * u**2 * ((1 - s_low) * jacobian / u0)[:, None]
        return Table(self, beam_energy, low, high, span, sigma, values)

    def _u_max(self, x: np.ndarray, beam_energy: float) -> np.ndarray:
        """Where t_min reaches t_max, or the muon's momentum the carrier's transverse one."""
        largest = 2 * beam_energy * (1 - x) * np.sqrt(self.t_max)
        muon = np.maximum((1 - x) ** 2 * beam_energy**2 - MUON_MASS**2, 0.0)
        carrier = np.maximum(x**2 * beam_energy**2 - self.mass**2, 1e-300)
        sine = np.minimum(muon / carrier, 1.0)  # squared
        one_less_cosine = np.where(muon < carrier, sine / (1 + np.sqrt(1 - sine)), 2.0)
        return np.minimum(largest, self.u_forward(x) + 2 * x * beam_energy**2 * one_less_cosine)

    def _s_low(self, x: np.ndarray, beam_energy: float) -> np.ndarray:
        return np.minimum(self.u_forward(x) / self._u_max(x, beam_energy), 1.0)

    def recoil(self, t_min: np.ndarray, largest: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Transverse momentum of the nucleus, GeV: ``sqrt(t - t_min)`` with t drawn from the integrand of chi.

        Args:
            t_min: ``(n,)``, GeV^2, below ``t_max``.
            largest: transverse momentum (GeV) beyond which nothing is drawn, ``(n,)``.
            generator: source of randomness.
        """
        t_end = np.minimum(t_min + largest**2, self.t_max)
        below, above = (np.interp(np.log(t), self._log_t, self._flux_below) for t in (t_min, t_end))
        # G2 / t, cheap to draw from, is kept with probability 1 - t_min / t; in a short range it is the factor
        # t - t_min that is drawn, and kept with the rest, which falls with t
        short = (t_min > 0.9 * t_end) | (above <= below)
        scale = form_factor(t_min, self.nucleus) / t_min**2
        t = t_min.copy()
        pending = np.flatnonzero(t_end > t_min)
        while len(pending):
            u, lot = _uniform(len(pending), generator), _uniform(len(pending), generator)
            low, high, near = t_min[pending], t_end[pending], short[pending]
            flux = below[pending] + u * (above[pending] - below[pending])
            draw = np.where(
                near, low + (high - low) * np.sqrt(u), np.exp(np.interp(flux, self._flux_below, self._log_t))
            )
            rest = form_factor(draw, self.nucleus) / draw**2 / scale[pending]
            kept = lot <= np.where(near, rest, 1 - low / draw)
            t[pending[kept]] = draw[kept]
            pending = pending[~kept]
        return np.sqrt(np.maximum(t - t_min, 0.0))


@dataclass(frozen=True)
class Table:
    """The density of one beam energy on a grid; :meth:`draw` draws from its bilinear interpolation."""

    process: Bremsstrahlung
    beam_energy: float
    low: float
    high: float
    span: np.ndarray
    sigma: np.ndarray
    values: np.ndarray

    @cached_property
    def _below(self) -> np.ndarray:
        v = self.values
        corners = v[:-1, :-1] + v[1:, :-1] + v[:-1, 1:] + v[1:, 1:]
        mass = corners * np.diff(self.span)[:, None] * np.diff(self.sigma)
        return np.cumsum(mass.reshape(-1))

    def draw(self, n: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """``n`` pairs of x and U (GeV^2), each of shape ``(n,)``."""
        columns = len(self.sigma) - 1
        cell = np.searchsorted(self._below, _uniform(n, generator) * self._below[-1], side="right")
        row, column = np.divmod(np.minimum(cell, len(self._below) - 1), columns)
        f00, f01 = self.values[row, column], self.values[row, column + 1]
        f10, f11 = self.values[row + 1, column], self.values[row + 1, column + 1]
        along = _linear(f00 + f01, f10 + f11, _uniform(n, generator))
        across = _linear(f00 + along * (f10 - f00), f01 + along * (f11 - f01), _uniform(n, generator))
        span = self.span[row] + along * np.diff(self.span)[row]
        # sigma = 1 would be the angle 0, of which there is no pseudorapidity
        sigma = np.minimum(self.sigma[column] + across * np.diff(self.sigma)[column], 1 - 1e-12)
        x = self.low + (self.high - self.low) / (1 + np.exp(-span))
        s_low = self.process._s_low(x, self.beam_energy)
        return x, self.process.u_forward(x) / (s_low + (1 - s_low) * sigma)


def _linear(left: np.ndarray, right: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Quantiles in [0, 1] of densities that go linearly from ``left`` to ``right``."""
    return u * (left + right) / (left + np.sqrt(left**2 + u * (right**2 - left**2)))


def _uniform(n: int, generator: torch.Generator) -> np.ndarray:
    """Uniform numbers in (0, 1]."""
    return 1.0 - uniform((n,), generator, dtype=torch.float64).numpy()
