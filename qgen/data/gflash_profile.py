r"""The formulas of GFLASH: how an electromagnetic shower develops along its axis and around it.

Grindhammer and Peters, `hep-ex/0001020 <https://arxiv.org/abs/hep-ex/0001020>`_. Along the axis, with t in radiation
lengths from where the shower starts, the energy follows

.. math:: f(t) = \frac{(\beta t)^{\alpha - 1} \beta e^{-\beta t}}{\Gamma(\alpha)}, \quad \beta = \frac{\alpha - 1}{T},

where the logarithms of alpha and of T, the depth of the maximum, are correlated normal numbers. Around the axis, with r
in Moliere radii, a core and a tail make up

.. math:: f(r) = p \frac{2 r R_c^2}{(r^2 + R_c^2)^2} + (1 - p) \frac{2 r R_t^2}{(r^2 + R_t^2)^2}.

Means are functions of ln y, y = E / Ec, and of the depth tau in units of the shower's mean depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qgen.data.sampling_calorimeter import MATERIALS, SamplingCalorimeter

__all__ = ["Longitudinal", "Medium", "gamma_integral", "radial"]

Reals = NDArray[np.float64]

LOWEST_LOG = 3.0
"""ln y below which the formulas' fluctuations are no longer those of a shower."""
LEAST_ALPHA, LEAST_DEPTH = 1.1, 1.0


@dataclass(frozen=True)
class Medium:
    """What the formulas need to know of a sampling calorimeter.

    Args:
        z: effective atomic number.
        critical_energy: effective, MeV.
        frequency: layers in one effective radiation length.
        e_hat: ``1 / (1 + 0.007 (Z1 - Z2))``, about the response to electrons over that to minimum ionising particles.
    """

    z: float
    critical_energy: float
    frequency: float
    e_hat: float

    @classmethod
    def of(cls, calorimeter: SamplingCalorimeter) -> Self:
        """Of a calorimeter.

        >>> round(Medium.of(SamplingCalorimeter()).e_hat, 3)
        0.678
        """
        difference = MATERIALS[calorimeter.passive].z - MATERIALS[calorimeter.active].z
        return cls(
            calorimeter.effective_z,
            calorimeter.critical_energy,
            calorimeter.sampling_frequency,
            1.0 / (1.0 + 0.007 * difference),
        )


@dataclass(frozen=True)
class Longitudinal:
    """Means and fluctuations of the longitudinal profile at given energies; all ``(N,)``.

    Args:
        depth: exp(mean ln T), radiation lengths.
        alpha: exp(mean ln alpha).
        sigma_depth: standard deviation of ln T.
        sigma_alpha: standard deviation of ln alpha.
        correlation: of the two.
    """

    depth: Reals
    alpha: Reals
    sigma_depth: Reals
    sigma_alpha: Reals
    correlation: Reals

    @classmethod
    def of(cls, medium: Medium, energies: Reals) -> Self:
        """In a sampling calorimeter.

        Args:
            medium: the calorimeter's.
            energies: ``(N,)``, MeV.

        Raises:
            ValueError: an energy is so low, or the layers so thick, that the formulas make no shower.

        >>> profile = Longitudinal.of(Medium.of(SamplingCalorimeter()), np.array([50_000.0]))
        >>> profile.depth.round(2), profile.alpha.round(2)
        (array([7.22]), array([4.61]))
        """
        log_y = np.log(energies / medium.critical_energy)
        depth = log_y - 0.812 - 0.55 / medium.frequency - 0.69 * (1 - medium.e_hat)
        alpha = 0.81 + (0.458 + 2.26 / medium.z) * log_y - 0.476 / medium.frequency
        bad = np.flatnonzero((log_y < LOWEST_LOG) | (depth < LEAST_DEPTH) | (alpha < LEAST_ALPHA))
        if len(bad):
            raise ValueError(
                f"energy is {energies[bad[0]]:g} MeV, too low for GFLASH in this calorimeter (critical energy "
                f"{medium.critical_energy:.3g} MeV, {1 / medium.frequency:.3g} radiation lengths in a layer)"
            )
        return cls(
            depth,
            alpha,
            1 / (-2.5 + 1.25 * log_y),
            1 / (-0.82 + 0.79 * log_y),
            0.784 - 0.023 * log_y,
        )

    def draw(self, rng: np.random.Generator) -> tuple[Reals, Reals]:
        """T and alpha of one shower for each energy."""
        together, apart = rng.standard_normal((2, len(self.depth)))
        together *= np.sqrt((1 + self.correlation) / 2)
        apart *= np.sqrt((1 - self.correlation) / 2)
        depth = self.depth * np.exp(self.sigma_depth * (together + apart))
        alpha = self.alpha * np.exp(self.sigma_alpha * (together - apart))
        return np.maximum(depth, LEAST_DEPTH), np.maximum(alpha, LEAST_ALPHA)


def gamma_integral(t: Reals, depth: Reals, alpha: Reals) -> Reals:
    """The part of a shower's energy in front of depths ``t`` ``(N, k)``, from T and alpha ``(N,)``."""
    from scipy.special import gammainc

    beta = (alpha - 1) / depth
    return np.asarray(gammainc(alpha[:, None], beta[:, None] * np.maximum(t, 0.0)))


def radial(medium: Medium, energies: Reals, tau: Reals) -> tuple[Reals, Reals, Reals]:
    """Radius of the core, radius of the tail (both in Moliere radii) and weight of the core, each ``(N, k)``.

    Args:
        medium: the calorimeter's.
        energies: ``(N,)``, MeV.
        tau: ``(N, k)``, depth over the shower's mean depth.

    >>> core, tail, weight = radial(Medium.of(SamplingCalorimeter()), np.array([50_000.0]), np.array([[1.0]]))
    >>> bool(core < tail), weight.round(2)
    (True, array([[0.77]]))
    """
    log_e = np.log(energies / 1000.0)[:, None]
    z, less, per_length = medium.z, 1 - medium.e_hat, 1 / medium.frequency
    core = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * z) * tau
    core += -0.0203 * less + 0.0397 * per_length * np.exp(-tau)
    tail = (0.659 - 0.00309 * z) * (np.exp(-2.59 * (tau - 0.645)) + np.exp((0.3585 + 0.0412 * log_e) * (tau - 0.645)))
    tail += -0.14 * less - 0.495 * per_length * np.exp(-tau)
    w = (0.401 + 0.00187 * z - tau) / (1.313 - 0.0686 * log_e)
    weight = (2.632 - 0.00094 * z) * np.exp(w - np.exp(w))
    weight += less * (0.348 - 0.642 * per_length * np.exp(-((tau - 1) ** 2)))
    return np.maximum(core, 0.001), np.maximum(tail, 0.001), np.clip(weight, 0.0, 1.0)
