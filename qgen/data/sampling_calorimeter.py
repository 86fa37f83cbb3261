"""``SamplingCalorimeter``: layers of absorber and pads that showers are simulated in.

The description is the same for Geant4 and for GFLASH. Effective quantities of the mixture are weighted by mass as in
`hep-ex/0001020 <https://arxiv.org/abs/hep-ex/0001020>`_.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from qgen.data.calorimeter import INCIDENT_ENERGY, CalorimeterDataset, pixel_features
from qgen.data.dataset import Feature
from qgen.data.geometry import Axis, Downscaling, Geometry
from qgen.data.hdf5 import MAX_COLUMNS
from qgen.random import derive_seed, new_generator, uniform
from qgen.text import unknown

__all__ = ["MATERIALS", "Material", "SamplingCalorimeter", "energy_blocks", "incident_energies", "shower_dataset"]

SCATTERING_ENERGY = 21.2
"""MeV; it relates the Moliere radius to radiation length and critical energy."""

MOST_ALONG = 1000
LEAST_MM, MOST_MM = 1e-3, 1e4


@dataclass(frozen=True)
class Material:
    """A material of a calorimeter.

    Args:
        symbol: by which a user names it.
        z: atomic number; of a mixture its mean weighted by mass.
        a: atomic weight, likewise.
        density: g/cm3.
        radiation_length: g/cm2.
        mip_loss: energy that a minimum ionising particle loses, MeV cm2/g.
        geant4: its name in Geant4's data base.

    >>> lead = MATERIALS["Pb"]
    >>> round(lead.radiation_length_mm, 2), round(lead.critical_energy, 1)
    (5.61, 7.4)
    """

    symbol: str
    z: float
    a: float
    density: float
    radiation_length: float
    mip_loss: float
    geant4: str

    @property
    def radiation_length_mm(self) -> float:
        """Radiation length, mm."""
        return 10.0 * self.radiation_length / self.density

    @property
    def critical_energy(self) -> float:
        """MeV, by the formula that GFLASH is tuned with; the Particle Data Group's lie within 12 % of it."""
        return 2.66 * (self.radiation_length * self.z / self.a) ** 1.1


MATERIALS: dict[str, Material] = {
    material.symbol: material
    for material in (
        Material("Be", 4, 9.0122, 1.848, 65.19, 1.595, "G4_Be"),
        Material("C", 6, 12.011, 2.210, 42.70, 1.742, "G4_GRAPHITE"),
        Material("Al", 13, 26.982, 2.699, 24.01, 1.615, "G4_Al"),
        Material("Si", 14, 28.0855, 2.329, 21.82, 1.664, "G4_Si"),
        Material("LAr", 18, 39.948, 1.396, 19.55, 1.508, "G4_lAr"),
        Material("Ti", 22, 47.867, 4.540, 16.16, 1.477, "G4_Ti"),
        Material("Fe", 26, 55.845, 7.874, 13.84, 1.451, "G4_Fe"),
        Material("Cu", 29, 63.546, 8.960, 12.86, 1.403, "G4_Cu"),
        Material("Sn", 50, 118.710, 7.310, 8.82, 1.263, "G4_Sn"),
        Material("W", 74, 183.84, 19.30, 6.76, 1.145, "G4_W"),
        Material("Au", 79, 196.967, 19.32, 6.46, 1.134, "G4_Au"),
        Material("Pb", 82, 207.2, 11.35, 6.37, 1.122, "G4_Pb"),
        Material("U", 92, 238.029, 18.95, 6.00, 1.081, "G4_U"),
        # (C8H8)n: 92.26 % of the mass is carbon; a is such that z / a is the mixture's
        Material("polystyrene", 5.613, 10.439, 1.060, 43.79, 1.936, "G4_POLYSTYRENE"),
    )
}
"""Materials by symbol, with the values of the `Particle Data Group <https://pdg.lbl.gov/AtomicNuclearProperties>`_."""


@dataclass(frozen=True)
class SamplingCalorimeter:
    """A stack of layers, each an absorber plate and behind it an active plate that is divided into square pads.

    The particle starts 1 mm before the front face, on the axis of the stack and parallel to it; around is vacuum.

    Args:
        passive: absorber, a symbol of :data:`MATERIALS`.
        passive_mm: its thickness in each layer, mm.
        active: material of the pads, likewise.
        active_mm: their thickness, mm.
        layers: number of layers.
        pads: pads along x, and along y, of each layer.
        pad_mm: side of a pad, mm; the stack is ``pads * pad_mm`` wide.

    Raises:
        ValueError: an unknown material or an impossible number; the field is named.

    >>> calorimeter = SamplingCalorimeter(passive="W", passive_mm=1.4)
    >>> round(calorimeter.depth, 1), round(calorimeter.moliere_radius_mm, 1)
    (10.1, 11.9)
    >>> SamplingCalorimeter(passive="Plumbum")
    Traceback (most recent call last):
    ValueError: passive: material 'Plumbum' is unknown; ...
    """

    passive: str = "Pb"
    passive_mm: float = 5.6
    active: str = "Si"
    active_mm: float = 0.5
    layers: int = 25
    pads: int = 25
    pad_mm: float = 5.0

    def __post_init__(self) -> None:
        for name in ("passive", "active"):
            symbol = getattr(self, name)
            if not isinstance(symbol, str) or symbol not in MATERIALS:
                raise ValueError(f"{name}: {unknown('material', symbol, MATERIALS)}")
        for name in ("passive_mm", "active_mm", "pad_mm"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_MM <= value <= MOST_MM:
                raise ValueError(f"{name} is {value!r}; allowed are {LEAST_MM:g} to {MOST_MM:g} mm")
            object.__setattr__(self, name, float(value))
        for name in ("layers", "pads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_ALONG:
                raise ValueError(f"{name} is {value!r}; a whole number from 1 to {MOST_ALONG} is needed")
        if self.n_cells > MAX_COLUMNS:
            raise ValueError(
                f"layers and pads make {self.layers} x {self.pads} x {self.pads} = {self.n_cells} cells; "
                f"at most {MAX_COLUMNS} are allowed"
            )

    @classmethod
    def of(cls, description: SamplingCalorimeter | Mapping[str, Any] | None) -> SamplingCalorimeter:
        """From plain data, in which a field that is not given has its default; a calorimeter stays what it is.

        Raises:
            ValueError: a field that does not exist, or an impossible value.

        >>> SamplingCalorimeter.of({"layers": 10}).layers
        10
        """
        if description is None:
            return cls()
        if isinstance(description, SamplingCalorimeter):
            return description
        if not isinstance(description, Mapping):
            raise ValueError(f"a calorimeter is described by fields and values; found {description!r}")
        known = [field.name for field in fields(cls)]
        for name in description:
            if name not in known:
                raise ValueError(unknown("field of a calorimeter", name, known))
        return cls(**description)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @property
    def n_cells(self) -> int:
        """Number of pads in all layers."""
        return self.layers * self.pads**2

    @property
    def geometry(self) -> Geometry:
        """Layers counted from the front, x and y in mm from the axis."""
        lateral = tuple(self.pad_mm * (i - self.pads / 2) for i in range(self.pads + 1))
        depth = tuple(float(i) for i in range(self.layers + 1))
        return Geometry(("layer", "x", "y"), (depth, lateral, lateral), ("layers", "mm", "mm"))

    @property
    def plates(self) -> tuple[tuple[Material, float], tuple[Material, float]]:
        """Absorber and active material with their thickness in a layer, mm."""
        return (MATERIALS[self.passive], self.passive_mm), (MATERIALS[self.active], self.active_mm)

    @property
    def layer_mm(self) -> float:
        """Thickness of a layer, mm."""
        return self.passive_mm + self.active_mm

    @property
    def weights(self) -> tuple[float, float]:
        """Fractions of the mass: absorber and active material."""
        passive, active = (material.density * mm for material, mm in self.plates)
        return passive / (passive + active), active / (passive + active)

    @property
    def effective_z(self) -> float:
        """Atomic number, the mean weighted by mass."""
        return sum(w * material.z for w, (material, _) in zip(self.weights, self.plates, strict=True))

    @property
    def effective_a(self) -> float:
        """Atomic weight, the mean weighted by mass."""
        return sum(w * material.a for w, (material, _) in zip(self.weights, self.plates, strict=True))

    @property
    def density(self) -> float:
        """Mean density, g/cm3."""
        return sum(material.density * mm for material, mm in self.plates) / self.layer_mm

    @property
    def radiation_length(self) -> float:
        """Effective radiation length, g/cm2."""
        return 1.0 / sum(w / m.radiation_length for w, (m, _) in zip(self.weights, self.plates, strict=True))

    @property
    def radiation_length_mm(self) -> float:
        """Effective radiation length, mm."""
        return 10.0 * self.radiation_length / self.density

    @property
    def critical_energy(self) -> float:
        """Effective critical energy, MeV."""
        per_length = (
            w * m.critical_energy / m.radiation_length for w, (m, _) in zip(self.weights, self.plates, strict=True)
        )
        return self.radiation_length * sum(per_length)

    @property
    def moliere_radius_mm(self) -> float:
        """Effective Moliere radius, mm."""
        return self.radiation_length_mm * SCATTERING_ENERGY / self.critical_energy

    @property
    def sampling_frequency(self) -> float:
        """Layers in one effective radiation length."""
        return self.radiation_length_mm / self.layer_mm

    @property
    def sampling_fraction(self) -> float:
        """Part of its energy that a minimum ionising particle loses in the active plates."""
        passive, active = (m.density * mm * m.mip_loss for m, mm in self.plates)
        return active / (passive + active)

    @property
    def depth(self) -> float:
        """Radiation lengths of the whole stack."""
        return self.layers / self.sampling_frequency


def incident_energies(n: int, energy: float | Sequence[float], *, seed: int = 0) -> np.ndarray:
    """The energies of particles to simulate, MeV, shape ``(n,)``.

    Args:
        n: number of particles.
        energy: MeV; one for all; a tuple ``(low, high)``, drawn uniformly between; or a list, of which event ``i`` has
            number ``i`` modulo their count.
        seed: of the energies that are drawn.

    Raises:
        ValueError: a wrong number or energy.

    >>> incident_energies(3, [10e3, 50e3]).tolist()
    [10000.0, 50000.0, 10000.0]
    >>> bool((incident_energies(100, (10e3, 20e3)) < 20e3).all())
    True
    """
    return np.concatenate(list(energy_blocks(n, energy, 2**20, seed=seed)))


def energy_blocks(
    n: int,
    energy: float | Sequence[float],
    size: int,
    *,
    allowed: tuple[float, float] | None = None,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """The same energies in blocks: in memory is one of them, however many there are.

    Args:
        n, energy, seed: as of :func:`incident_energies`.
        size: of a block; the energies do not depend on it.
        allowed: lowest and highest energy, MeV.

    Raises:
        ValueError: a wrong number or energy, before the first block.

    >>> [block.tolist() for block in energy_blocks(3, [10e3, 50e3], 2)]
    [[10000.0, 50000.0], [10000.0]]
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; a whole number of at least 1 shower is needed")
    try:
        values = [float(value) for value in np.atleast_1d(np.asarray(energy, dtype=np.float64))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"energy is {energy!r}; one number, (low, high) or a list is needed, in MeV") from error
    if not values:
        raise ValueError("energy is empty; at least one number is needed, in MeV")
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(f"energy is {value:g} MeV; positive numbers are needed")
        if allowed is not None and not allowed[0] <= value <= allowed[1]:
            raise ValueError(f"energy is {value:g} MeV; allowed are {allowed[0]:g} to {allowed[1]:g} MeV")
    if isinstance(energy, tuple) and (len(values) != 2 or not values[0] < values[1]):
        found = ", ".join(f"{value:g}" for value in values)
        raise ValueError(f"energy is ({found}) MeV; a range is two numbers, the first below the second")

    def blocks() -> Iterator[np.ndarray]:
        rng = new_generator(derive_seed(seed, "incident energy"))
        for first in range(0, n, size):
            count = min(size, n - first)
            if isinstance(energy, tuple):
                low, high = values
                yield np.asarray(low + (high - low) * uniform((count,), rng, dtype=torch.float64).numpy())
            else:
                yield np.array(values)[np.arange(first, first + count) % len(values)]

    return blocks()


def shower_dataset(
    energies: np.ndarray,
    showers: np.ndarray,
    calorimeter: SamplingCalorimeter,
    *,
    grid: Sequence[int] | None = None,
    axes: Sequence[Axis] | None = None,
    seed: int = 0,
    provenance: Mapping[str, object] | None = None,
) -> CalorimeterDataset:
    """Simulated showers as a dataset.

    Args:
        energies: ``(N,)``, incident, MeV.
        showers: ``(N, cells)``, MeV, in the order layer, x, y.
        calorimeter: the one they are of.
        grid: pixels to which the pads are summed, as in :func:`~qgen.data.load_calorimeter`; None keeps the pads.
        axes: of the image, likewise.
        seed: fixes the splits.
        provenance: how they were made; the calorimeter is added.

    Raises:
        ValueError: the grid does not fit the calorimeter.
    """
    downscaling = Downscaling.plan(calorimeter.geometry, grid, axes, None)
    return CalorimeterDataset(
        samples=torch.from_numpy(downscaling(showers)),
        features=_features(downscaling.target),
        conditions=torch.from_numpy(np.asarray(energies, dtype=np.float64)).unsqueeze(1),
        condition_features=(INCIDENT_ENERGY,),
        seed=seed,
        provenance={**(provenance or {}), "calorimeter": calorimeter.to_dict()},
        geometry=downscaling.target,
    )


@lru_cache(maxsize=4)
def _features(geometry: Geometry) -> tuple[Feature, ...]:
    """Of many pixels, made once for all blocks of a simulation."""
    return pixel_features(geometry)
