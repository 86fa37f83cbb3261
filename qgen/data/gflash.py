"""``simulate_gflash``: parametrised electromagnetic showers in a sampling calorimeter.

The mean shower and its fluctuations are those of Grindhammer and Peters (`hep-ex/0001020
<https://arxiv.org/abs/hep-ex/0001020>`_, see :mod:`qgen.data.gflash_profile`). What the pads of a real stack see of it
is set by the few constants of :class:`Tuning`, fitted to showers of Geant4. A shower takes less than 0.2 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Len
from numpy.typing import NDArray

from qgen.data.calorimeter import CalorimeterDataset, Normalisation
from qgen.data.geometry import Axis
from qgen.data.gflash_profile import Longitudinal, Medium, gamma_integral, radial
from qgen.data.sampling_calorimeter import SamplingCalorimeter, energy_blocks, shower_dataset
from qgen.random import derive_seed

__all__ = ["BLOCK", "Tuning", "gflash_blocks", "gflash_events", "simulate_gflash"]

BLOCK = 64
"""Showers with one seed; they are simulated together."""

LOWEST, HIGHEST = 1000.0, 1_000_000.0
"""MeV."""

DEEPEST = 20.0
"""Mean depths of a shower from which on it is as wide as there; nothing is left of it by then."""


@dataclass(frozen=True)
class Tuning:
    """Constants beside the published ones, fitted to Geant4 in 25 layers of 5.6 mm lead and 0.5 mm silicon.

    They were fitted to one half of the installed sample, and judged by the other (``qgen study gflash``).

    Args:
        response: of the active plates relative to the absorber, in units of e_hat (see :meth:`visible_fraction`).
        sampling: of the resolution c / sqrt(E / GeV), where c = sampling * sqrt(Ec / MeV * radiation lengths in a
            layer), the scaling of Amaldi (Physica Scripta 23 (1981) 409).
        start: mean depth of the shower's start, radiation lengths; it is exponential. The published profile begins at
            the start.
        last: visible energy of the last active plate, over what it had with more layers behind it: what these would
            scatter back is missing.
        core: radius of the core over the published one.
        tail: radius of the tail over the published one.

    Raises:
        ValueError: one is not within 0.001 to 1000.
    """

    response: float = 0.8706
    sampling: float = 0.0792
    start: float = 0.518
    last: float = 0.704
    core: float = 0.830
    tail: float = 0.924

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.001 <= value <= 1000:
                raise ValueError(f"{field.name} of the tuning is {value!r}; allowed are 0.001 to 1000")

    def visible_fraction(self, calorimeter: SamplingCalorimeter) -> float:
        """Visible energy of a contained shower over its energy.

        With the sampling fraction f of minimum ionising particles and k = response * e_hat it is
        f k / (f k + 1 - f): k f where the active plates are thin, 1 where there is nothing else.

        >>> round(Tuning().visible_fraction(SamplingCalorimeter()), 4)
        0.0158
        """
        fraction = calorimeter.sampling_fraction
        seen = fraction * self.response * Medium.of(calorimeter).e_hat
        return seen / (seen + 1 - fraction)

    def sampling_term(self, calorimeter: SamplingCalorimeter) -> float:
        """Resolution at 1 GeV, c in c / sqrt(E / GeV).

        >>> round(Tuning(sampling=0.08).sampling_term(SamplingCalorimeter()), 2)
        0.22
        """
        return float(self.sampling * np.sqrt(calorimeter.critical_energy / calorimeter.sampling_frequency))


def simulate_gflash(
    n: int = 1000,
    energy: float | Sequence[float] = (10_000.0, 100_000.0),
    calorimeter: SamplingCalorimeter | None = None,
    *,
    tuning: Tuning | None = None,
    grid: Sequence[int] | None = None,
    axes: Sequence[Axis] | None = None,
    seed: int = 0,
) -> CalorimeterDataset:
    """Showers of electrons in a sampling calorimeter, by GFLASH.

    A layer's visible energy comes in spots, a Poisson number of them with exponential energies: about as many as
    particles cross the active plate, and such that their fluctuations make up the resolution of :class:`Tuning`. What
    leaves the stack behind or at its sides is lost. There is no noise.

    Args:
        n: number of showers.
        energy: incident energies in MeV, 1 GeV to 1 TeV, as
            :func:`~qgen.data.sampling_calorimeter.incident_energies` takes them.
        calorimeter: plates and pads; by default 25 layers of lead and silicon.
        tuning: the constants that are not published; by default those fitted to Geant4.
        grid: pixels to which the pads are summed, as in :func:`~qgen.data.load_calorimeter`; None keeps the pads.
        axes: of the image, likewise.
        seed: fixes energies, showers and splits.

    Returns:
        Energy deposited in each active pad, MeV.

    Raises:
        ValueError: an impossible number, or an energy that is too low for GFLASH in this calorimeter.

    >>> showers = simulate_gflash(n=10, energy=50_000.0)
    >>> showers.images.shape, bool(abs(showers.samples.sum(1).mean() / 50_000 - 0.0156) < 0.001)
    (torch.Size([10, 25, 25, 25]), True)
    """
    blocks = list(gflash_blocks(n, energy, calorimeter, tuning=tuning, grid=grid, axes=axes, seed=seed))
    return replace(
        blocks[0],
        samples=torch.cat([block.samples for block in blocks]),
        conditions=torch.cat([block.conditions for block in blocks]),
    )


def gflash_blocks(
    n: int = 1000,
    energy: float | Sequence[float] = (10_000.0, 100_000.0),
    calorimeter: SamplingCalorimeter | None = None,
    *,
    tuning: Tuning | None = None,
    grid: Sequence[int] | None = None,
    axes: Sequence[Axis] | None = None,
    seed: int = 0,
) -> Iterator[CalorimeterDataset]:
    """The showers of :func:`simulate_gflash` in blocks of :data:`BLOCK`, in order; any number fits into memory."""
    calorimeter, tuning = calorimeter or SamplingCalorimeter(), tuning or Tuning()
    parts = energy_blocks(n, energy, BLOCK, allowed=(LOWEST, HIGHEST), seed=seed)
    Longitudinal.of(Medium.of(calorimeter), np.array([np.min(energy)]))  # complains of energies that are too low
    provenance = {"engine": "GFLASH (hep-ex/0001020)", "tuning": asdict(tuning), "seed": seed}

    def simulated() -> Iterator[CalorimeterDataset]:
        for number, part in enumerate(parts):
            rng = np.random.default_rng(derive_seed(seed, "gflash", number))
            showers = _showers(part, calorimeter, tuning, rng)
            yield shower_dataset(part, showers, calorimeter, grid=grid, axes=axes, seed=seed, provenance=provenance)

    return simulated()


def gflash_events(
    *,
    n: Annotated[int, Gt(0)] = 20_000,
    energy: Annotated[tuple[Annotated[float, Gt(0)], ...], Len(2, 2)] = (10_000.0, 100_000.0),
    calorimeter: SamplingCalorimeter | None = None,
    grid: Annotated[tuple[Annotated[int, Gt(0)], ...], Len(1)] | None = (8,),
    axes: tuple[Axis, ...] | None = None,
    threshold: Annotated[float, Ge(0)] = 0.0,
    normalisation: Normalisation = "log",
    seed: int = 0,
) -> CalorimeterDataset:
    """Parametrised showers of electrons (GFLASH) to learn from, simulated anew each time.

    Args:
        n: number of showers.
        energy: lowest and highest incident energy, MeV; uniform between.
        calorimeter: plates and pads; by default 25 layers of lead and silicon.
        grid: pixels along each axis, see :func:`~qgen.data.load_calorimeter`.
        axes: which axes the image has, likewise.
        threshold: pixels with less than this (MeV), after the summing, are set to 0.
        normalisation: see :class:`~qgen.data.CalorimeterDataset`.
        seed: fixes the showers and the splits.

    Raises:
        ValueError: an impossible number.

    >>> gflash_events(n=100, grid=(4, 4)).samples.shape
    torch.Size([100, 16])
    """
    described = SamplingCalorimeter.of(calorimeter)  # a configuration's is plain data
    showers = simulate_gflash(n, tuple(energy), described, grid=grid, axes=axes, seed=seed)
    samples = torch.where(showers.samples < threshold, 0.0, showers.samples)
    return replace(showers, samples=samples, threshold=threshold, normalisation=normalisation)


def _showers(
    energies: NDArray[np.float64], calorimeter: SamplingCalorimeter, tuning: Tuning, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Deposits ``(N, cells)`` in MeV."""
    from qgen.data.gflash_spots import spread

    medium = Medium.of(calorimeter)
    profile = Longitudinal.of(medium, energies)
    depth, alpha = profile.draw(rng)
    start = tuning.start * rng.standard_exponential(len(energies))
    passive, active = (mm / material.radiation_length_mm for material, mm in calorimeter.plates)
    front = (passive + active) * np.arange(calorimeter.layers) + passive - start[:, None]
    shares = np.maximum(gamma_integral(front + active, depth, alpha) - gamma_integral(front, depth, alpha), 0.0)

    # the plate stands for its whole layer, of which it has ``active / (passive + active)`` radiation lengths
    shares *= (passive + active) / active
    shares[:, -1] *= tuning.last
    c = tuning.sampling_term(calorimeter)
    spots = energies[:, None] / 1000.0 * shares * 2 / c**2
    spot = tuning.visible_fraction(calorimeter) * 1000.0 * c**2 / 2

    mean_depth = depth * alpha / (alpha - 1) * (profile.alpha - 1) / profile.alpha
    tau = np.clip((front + active / 2) / mean_depth[:, None], 0.0, DEEPEST)
    core, tail, weight = radial(medium, energies, tau)
    counts = rng.poisson(np.stack([spots * weight, spots * (1 - weight)], axis=-1))
    radii = np.stack([tuning.core * core, tuning.tail * tail], axis=-1)
    radii *= calorimeter.moliere_radius_mm / calorimeter.pad_mm
    showers = np.zeros((len(energies), calorimeter.layers, calorimeter.pads**2))
    spread(rng, counts, radii, spot, calorimeter.pads, showers)
    return showers.reshape(len(energies), -1)
