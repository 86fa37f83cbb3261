"""The file layouts of calorimeter showers.

- CaloChallenge (`2410.21611 <https://arxiv.org/abs/2410.21611>`_): ``incident_energies`` ``(N, 1)`` and ``showers``
  ``(N, voxels)`` in MeV, voxels in the order layer, x, y (last one fastest);
- 3DGAN, that is the CLIC calorimeter data (`1912.06794 <https://arxiv.org/abs/1912.06794>`_) as the 3DGAN papers use
  them: ``ECAL`` ``(N, x, y, z)`` with z the depth, and ``energy`` ``(N,)`` or ``(N, 1)``, both in GeV.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from qgen.data.binning import Binning
from qgen.data.geometry import Geometry
from qgen.data.hdf5 import attribute, dataset, has, names, read_all, read_rows, read_weights
from qgen.data.provenance import provenance_from_json

if TYPE_CHECKING:
    import h5py

__all__ = ["ShowerFile"]


@dataclass(frozen=True)
class ShowerFile:
    """The showers of an open file, in MeV.

    Args:
        path: of the file, for messages.
        layout: which one it is.
        file: open for reading.
        geometry: the order of the voxels.
    """

    path: Path
    layout: Literal["CaloChallenge", "3DGAN"]
    file: h5py.File
    geometry: Geometry

    @classmethod
    def of(
        cls, file: h5py.File, path: Path, shape: tuple[int, int, int] | None, binning: Binning | None = None
    ) -> Self:
        """The showers of a file; ``shape``, (layers, x, y), or ``binning`` where it does not state its voxels.

        Raises:
            ValueError: the file has neither layout, or the shape does not fit.
        """
        if has(file, "showers"):
            voxels = dataset(file, "showers", path)
            if voxels.ndim != 2:
                raise ValueError(f"{path}: showers has shape {voxels.shape}; expected (N, voxels)")
            return cls(path, "CaloChallenge", file, _stated_geometry(file, voxels.shape[1], path, shape, binning))
        if has(file, "ECAL"):
            if binning is not None:
                raise ValueError(f"{path}: a binning goes with showers in CaloChallenge layout, the file has ECAL")
            cells = dataset(file, "ECAL", path)
            if cells.ndim != 4:
                raise ValueError(f"{path}: ECAL has shape {cells.shape}; expected (N, x, y, z)")
            _, x, y, z = cells.shape
            if shape is not None and tuple(shape) != (z, x, y):
                raise ValueError(f"{path}: shape is given as {tuple(shape)}, ECAL has (layers, x, y) = {(z, x, y)}")
            return cls(path, "3DGAN", file, Geometry.cells(layer=z, x=x, y=y))
        raise ValueError(
            f"{path}: not a calorimeter file; datasets found: {names(file)}; expected incident_energies and showers "
            "(CaloChallenge) or energy and ECAL (3DGAN)"
        )

    def incident_energies(self) -> np.ndarray:
        """Incident energies of all events, MeV, float64, shape ``(N,)``.

        Raises:
            ValueError: there is not one for each shower, or one is not positive (the row is named).
        """
        name, factor = ("incident_energies", 1.0) if self.layout == "CaloChallenge" else ("energy", 1000.0)
        values = dataset(self.file, name, self.path)
        events = self._cells.shape[0]
        if values.shape not in {(events,), (events, 1)}:
            raise ValueError(
                f"{self.path}: {name} has shape {values.shape}; expected ({events}, 1), one for each shower"
            )
        if events == 0:
            raise ValueError(f"{self.path}: the file holds no events")
        energies = read_all(values, self.path).reshape(-1)
        bad = np.flatnonzero(~(np.isfinite(energies) & (energies > 0)))
        if len(bad):
            raise ValueError(
                f"{self.path}: {name} row {bad[0]}: {energies[bad[0]]} is not a positive, finite incident energy"
            )
        return energies * factor

    def weights(self) -> np.ndarray | None:
        """Weights of all events, ``(N,)``; None if the file has none.

        Raises:
            ValueError: there is not one for each shower, or one is not finite (the row is named).
        """
        weights = read_weights(self.file, self.path)
        if weights is None:
            return None
        events = self._cells.shape[0]
        if len(weights) != events:
            raise ValueError(f"{self.path}: {len(weights)} weights for {events} showers; expected one each")
        bad = np.flatnonzero(~np.isfinite(weights))
        if len(bad):
            raise ValueError(f"{self.path}: weights row {bad[0]}: {weights[bad[0]]} is not finite")
        return weights

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The showers of these increasing rows, ``(n, voxels)`` in MeV, float64, in blocks.

        Raises:
            ValueError: an energy anywhere in the file is negative or not finite (row and voxel are named).
        """
        for start, block in read_rows(self._cells, self.path):
            values = block.astype(np.float64, copy=False)
            self._check(start, values)
            first, last = np.searchsorted(rows, [start, start + len(values)])
            if last - first < len(values):
                values = values[rows[first:last] - start]
            if self.layout == "3DGAN":
                values = np.moveaxis(values, 3, 1) * 1000.0
            yield values.reshape(len(values), self.geometry.n_pixels)

    def provenance(self) -> dict[str, Any]:
        """Name and layout of the file, and what it states of its origin."""
        stated = provenance_from_json(attribute(self.file, "provenance", self.path), self.path)
        return {"file": self.path.name, "layout": self.layout, **stated}

    def threshold(self) -> float:
        """The energy (MeV) below which the file says that a voxel counts as empty; 0 if it says nothing.

        Raises:
            ValueError: what it says is no energy.
        """
        stated = attribute(self.file, "threshold_MeV", self.path)
        threshold = 0.0 if stated is None else stated if isinstance(stated, int | float) else math.nan
        if not 0.0 <= threshold < math.inf:
            found = repr(stated)[:40]
            raise ValueError(f"{self.path}: attribute threshold_MeV is {found}; an energy of at least 0 is needed")
        return float(threshold)

    @property
    def _cells(self) -> h5py.Dataset:
        return dataset(self.file, "showers" if self.layout == "CaloChallenge" else "ECAL", self.path)

    def _check(self, start: int, block: np.ndarray) -> None:
        good = block.size == 0 or (block.min() >= 0 and np.isfinite(block.max()))
        if not good:
            row, *cell = np.argwhere(~(np.isfinite(block) & (block >= 0)))[0].tolist()
            value = block[(row, *cell)]
            fault = "negative" if value < 0 else "not finite"
            where = f"voxel {cell[0]}" if len(cell) == 1 else f"cell {tuple(cell)}"
            name = self._cells.name.lstrip("/")
            raise ValueError(f"{self.path}: {name} row {start + row}, {where}: the energy {value} is {fault}")


def _stated_geometry(
    file: h5py.File, voxels: int, path: Path, shape: tuple[int, int, int] | None, binning: Binning | None
) -> Geometry:
    if voxels == 0:
        raise ValueError(f"{path}: showers has no voxels")
    if shape is not None and binning is not None:
        raise ValueError(f"{path}: shape and binning are both given; one of them says where the voxels are")
    text = attribute(file, "geometry", path)
    if text is not None:
        try:
            geometry = Geometry.from_json(str(text))
        except ValueError as error:
            raise ValueError(f"{path}: attribute geometry: {error}") from error
        if shape is not None and tuple(shape) != geometry.shape:
            raise ValueError(f"{path}: shape is given as {tuple(shape)}, the file states {geometry.shape}")
        if binning is not None and geometry.binning != binning:
            stated = "another" if geometry.binning else f"axes {', '.join(geometry.axes)}"
            raise ValueError(f"{path}: a binning is given, the file states {stated}")
    elif binning is not None:
        if binning.n_voxels != voxels:
            raise ValueError(f"{path}: a binning of {binning.n_voxels} voxels does not fit showers of {voxels} voxels")
        geometry = Geometry.of_binning(binning)
    elif shape is not None:
        geometry = Geometry.cells(layer=shape[0], x=shape[1], y=shape[2])
    else:
        geometry = Geometry.cells(voxel=voxels)
    if geometry.n_pixels != voxels:
        raise ValueError(f"{path}: a geometry of {geometry.shape} cells does not fit showers of {voxels} voxels")
    return geometry
