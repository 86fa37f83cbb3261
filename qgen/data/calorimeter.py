"""Calorimeter images: the CaloChallenge and 3DGAN file layouts, downscaling, observables.

Energies are in MeV everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from annotated_types import Ge, Gt, Len
from torch import Tensor

from qgen.data.binning import load_binning
from qgen.data.clusters import cluster_shapes, nearest, shapes_of
from qgen.data.dataset import Dataset, Feature
from qgen.data.geometry import Axis, Downscaling, Geometry
from qgen.data.hdf5 import open_hdf5
from qgen.data.memory import check_memory
from qgen.data.showers import ShowerFile
from qgen.data.transforms import Compose, EnergyFraction, Log, MinMax, Standardise, Transform
from qgen.random import derive_seed, new_generator

__all__ = ["INCIDENT_ENERGY", "SAMPLE", "CalorimeterDataset", "load_calorimeter", "pixel_features"]

SAMPLE = Path(__file__).parent / "files" / "geant4_electrons_pb_si.h5"
"""The sample that is installed with the package; its README is beside it."""

INCIDENT_ENERGY = Feature("incident_energy", "MeV", r"$E_\mathrm{inc}$")

Normalisation = Literal["log", "linear", "minmax"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CalorimeterDataset(Dataset):
    """Calorimeter images ``(N, pixels)`` in MeV, given the incident energy ``(N, 1)`` in MeV.

    Args:
        geometry: axes and pixel boundaries; ``samples`` are the flattened images, last axis fastest.
        threshold: pixels below it (MeV) count as empty in :meth:`observables`.
        normalisation: how pixels become order one for a model, always as fractions of the incident energy: ``log``
            is ``log(1 + fraction / its mean)`` of each pixel, standardised; ``linear`` is the standardised fraction;
            ``minmax`` brings each pixel's fraction linearly to [-1, 1]. Back in MeV no pixel is negative.

    Raises:
        ValueError: the geometry does not fit the samples, an incident energy is not positive, or an impossible
            threshold or normalisation.

    >>> data = load_calorimeter(grid=(4, 4), max_events=100)
    >>> data.images.shape, data.geometry.axes
    (torch.Size([100, 4, 4]), ('x', 'y'))
    """

    geometry: Geometry
    threshold: float = 0.0
    normalisation: Normalisation = "log"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.geometry.n_pixels != self.n_features:
            raise ValueError(f"images of {self.geometry.shape} pixels do not fit {self.n_features} features")
        if self.n_conditions != 1:
            raise ValueError(f"calorimeter images have one condition, the incident energy; found {self.n_conditions}")
        _check_threshold(self.threshold)
        if self.normalisation not in get_args(Normalisation):
            allowed = ", ".join(map(repr, get_args(Normalisation)))
            raise ValueError(f"normalisation is {self.normalisation!r}; allowed are {allowed}")
        low = (self.conditions[:, 0] <= 0).nonzero()
        if len(low):
            row = int(low[0])
            raise ValueError(f"conditions row {row}: incident energy {self.conditions[row, 0]:g} MeV is not positive")

    @property
    def images(self) -> Tensor:
        """The samples as images, shape ``(N, *geometry.shape)``, MeV."""
        return self.samples.reshape(-1, *self.geometry.shape)

    @property
    def incident_energy(self) -> Tensor:
        """Incident energies, shape ``(N,)``, MeV."""
        return self.conditions[:, 0]

    def select(self, *names: str) -> Dataset:
        """The same events with only these pixels, in this order: a plain table, no longer an image."""
        plain = Dataset(
            self.samples,
            self.features,
            self.conditions,
            self.condition_features,
            self.seed,
            self.provenance,
            weights=self.weights,
        )
        return plain.select(*names)

    def _fit_transforms(self, samples: Tensor, conditions: Tensor) -> tuple[Transform, Transform]:
        fraction = EnergyFraction()
        values = fraction(samples, conditions)
        if self.normalisation == "minmax":
            transform = Compose([fraction, MinMax.fit(values)])
        elif self.normalisation == "linear":
            transform = Compose([fraction, Standardise.fit(values)])
        else:
            mean = values.mean(0)
            overall = mean.mean() if mean.mean() > 0 else torch.ones(())
            log = Log(torch.where(mean > 0, mean, overall).tolist())
            transform = Compose([fraction, log, Standardise.fit(log(values))])
        log_energy = Log([0.0])
        return transform, Compose([log_energy, Standardise.fit(log_energy(conditions))])

    def observables(self) -> Dataset:
        """Physics features as the CaloChallenge defines them, where the image has the axes for them.

        ``response`` (total over incident energy); ``energy_layer_i`` (MeV) if there is a layer axis; for each of the
        axes layer, x and y the energy-weighted mean position ``centre_...`` and its spread ``width_...`` (in layers
        from the front face, in mm or pads along x and y); ``sparsity``, the fraction of pixels without energy above
        the threshold. Pixels below the threshold are set to 0 first. An empty image has centre and width 0. Voxels of a
        binning have the features of :func:`~qgen.data.voxels.shower_features`, layer by layer.

        >>> [feature.name for feature in load_calorimeter(grid=(4, 4), max_events=10).observables().features]
        ['response', 'centre_x', 'width_x', 'centre_y', 'width_y', 'sparsity']
        """
        if self.geometry.binning is not None:
            return self._binned_observables()
        images = torch.where(self.images >= self.threshold, self.images, 0.0)
        total = images.flatten(1).sum(1)
        columns: list[tuple[Feature, Tensor]] = [
            (Feature("response", "", r"$E_\mathrm{tot}/E_\mathrm{inc}$"), total / self.incident_energy)
        ]
        profiles = {axis: self._profile(images, axis) for axis in self.geometry.axes if axis != "voxel"}
        if "layer" in profiles:
            columns += [
                (Feature(f"energy_layer_{i}", "MeV", rf"$E_{{\mathrm{{layer}}\,{i}}}$"), energy)
                for i, energy in enumerate(profiles["layer"].unbind(1))
            ]
        for axis, profile in profiles.items():
            unit = self.geometry.unit(axis)
            positions = torch.from_numpy(self.geometry.centres(axis))
            centre = profile @ positions / (total + 1e-16)
            width = (profile @ positions**2 / (total + 1e-16) - centre**2).clamp_min(0.0).sqrt()
            columns.append((Feature(f"centre_{axis}", unit, rf"$\langle \mathrm{{{axis}}} \rangle$"), centre))
            columns.append((Feature(f"width_{axis}", unit, rf"$\sigma_\mathrm{{{axis}}}$"), width))
        columns.append((Feature("sparsity", "", "fraction of empty pixels"), (images <= 0).flatten(1).double().mean(1)))
        return Dataset(
            torch.stack([values for _, values in columns], dim=1),
            tuple(feature for feature, _ in columns),
            self.conditions,
            self.condition_features,
            self.seed,
            weights=self.weights,
        )

    def _binned_observables(self) -> Dataset:
        from qgen.data.voxels import shower_features  # which imports this module

        features, values = shower_features(self, threshold=self.threshold)
        known = (self.conditions, self.condition_features, self.seed)
        return Dataset(values, features, *known, weights=self.weights)

    def _profile(self, images: Tensor, axis: str) -> Tensor:
        others = [i + 1 for i, name in enumerate(self.geometry.axes) if name != axis]
        return images.sum(others) if others else images


def load_calorimeter(
    path: str | Path | None = None,
    *,
    grid: Annotated[tuple[Annotated[int, Gt(0)], ...], Len(1)] | None = (8,),
    axes: tuple[Axis, ...] | None = None,
    edges: dict[Axis, tuple[Annotated[int, Ge(0)], ...]] | None = None,
    shape: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)], Annotated[int, Gt(0)]] | None = None,
    binning: str | Path | None = None,
    threshold: Annotated[float, Ge(0)] = 0.0,
    energy_window: tuple[float, float] | None = None,
    max_events: Annotated[int, Gt(0)] | None = None,
    normalisation: Normalisation = "log",
    cluster_means: Annotated[int, Ge(1)] | None = None,
    seed: int = 0,
) -> CalorimeterDataset:
    """Calorimeter showers from a file, summed to the pixels that a model is to learn.

    Args:
        path: an HDF5 file in CaloChallenge or 3DGAN layout; without one, the Geant4 sample of electrons in lead and
            silicon that is installed with the package (25 layers of 25 x 25 pads, 10 to 100 GeV).
        grid: pixels along each axis: ``(8,)`` is the longitudinal profile, ``(8, 8)`` the lateral image, three
            numbers are layers, x and y. Neighbouring cells are summed; where the number does not divide the file's
            cells, pixel ``i`` starts at cell ``i * cells / pixels``, rounded half up. None keeps the file's cells.
        axes: which of ``layer``, ``x``, ``y`` the image has, in this order; the others are summed over. Default:
            ``layer`` for one number, ``x, y`` for two. ``axes=("layer", "x")`` is the image seen from the side.
        edges: explicit cell indices where pixels start and the last one ends, for some axes; cells outside are left
            out. For an axis that is summed over: the range (first, one past the last) that is summed.
        shape: cells of the file along layer, x and y, for a file that does not state them.
        binning: an XML file of the CaloChallenge that says where the voxels are, for a file of its layout (see
            :func:`~qgen.data.binning.load_binning`). Its voxels are kept with ``grid=None``; a grid of one number is
            the longitudinal profile.
        threshold: pixels with less than this (MeV), after the summing, are set to 0. If the file states a higher one,
            that one counts in the observables, and the pixels stay as they are.
        energy_window: lowest and highest incident energy (MeV) of the events that are kept, both included.
        max_events: at most so many events, drawn by ``seed`` from those in the window; file order is kept.
        normalisation: see :class:`CalorimeterDataset`.
        cluster_means: every shower gets the mean shape of the nearest of so many clusters and keeps its total energy.
            Clusters are those of the training events, so that the others stay independent of them.
        seed: fixes the splits, the choice of ``max_events`` and where the search for clusters starts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, foreign, empty or holds impossible numbers (dataset, row and voxel are
            named), or an option does not fit it.

    >>> data = load_calorimeter(grid=(8,), energy_window=(40e3, 60e3), max_events=500)
    >>> data.samples.shape, data.condition_features[0].title
    (torch.Size([500, 8]), '$E_\\\\mathrm{inc}$ [MeV]')
    """
    path = SAMPLE if path is None else Path(path)
    _check_threshold(threshold)
    voxels = None if binning is None else load_binning(binning)
    with open_hdf5(path) as file:
        source = ShowerFile.of(file, path, shape, voxels)
        energies = source.incident_energies()
        rows = _choose(energies, energy_window, max_events, seed, path)
        cells, blocks = source.geometry, source.blocks(rows)
        if cells.binning is not None and (grid is not None or axes is not None):
            blocks = map(cells.binning.layer_sums, blocks)
            cells = Geometry.cells(layer=len(cells.binning.layers))
        try:
            downscaling = Downscaling.plan(cells, grid, axes, edges)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        n_pixels = downscaling.target.n_pixels
        check_memory(9 * len(rows) * n_pixels, f"{path}: {len(rows)} events of {n_pixels} pixels")
        samples, filled = np.empty((len(rows), n_pixels)), 0
        for block in blocks:
            samples[filled : filled + len(block)] = downscaling(block)
            filled += len(block)
        origin, stated_threshold = source.provenance(), source.threshold()
        weights = source.weights()
    samples[samples < threshold] = 0.0
    whole = CalorimeterDataset(
        samples=torch.from_numpy(samples),
        features=pixel_features(downscaling.target),
        conditions=torch.from_numpy(energies[rows]).unsqueeze(1),
        condition_features=(INCIDENT_ENERGY,),
        seed=seed,
        provenance=origin,
        weights=None if weights is None else torch.from_numpy(weights[rows]),
        geometry=downscaling.target,
        threshold=max(threshold, stated_threshold),
        normalisation=normalisation,
    )
    return whole if cluster_means is None else _with_cluster_means(whole, cluster_means)


def _check_threshold(threshold: float) -> None:
    if not 0.0 <= threshold < math.inf:
        raise ValueError(f"threshold is {threshold} MeV; it must be finite and not negative")


def _choose(
    energies: np.ndarray, window: tuple[float, float] | None, max_events: int | None, seed: int, path: Path
) -> np.ndarray:
    rows = np.arange(len(energies))
    if window is not None:
        if len(window) != 2 or not window[0] < window[1]:
            found = ", ".join(map(str, window))
            raise ValueError(f"energy_window is {found} MeV; two energies are needed, the first below the second")
        low, high = window
        rows = rows[(energies >= low) & (energies <= high)]
        if len(rows) == 0:
            raise ValueError(
                f"{path}: no event in the energy_window {low:g} to {high:g} MeV; incident energies are "
                f"{energies.min():g} to {energies.max():g} MeV"
            )
    if max_events is not None and max_events < len(rows):
        if max_events < 1:
            raise ValueError(f"max_events is {max_events}; at least 1 is needed")
        order = torch.randperm(len(rows), generator=new_generator(derive_seed(seed, "events")))
        rows = rows[np.sort(order[:max_events].numpy())]
    return rows


def _with_cluster_means(dataset: CalorimeterDataset, k: int) -> CalorimeterDataset:
    try:
        means = cluster_shapes(dataset.train.samples, k, dataset.seed)
    except ValueError as error:
        raise ValueError(f"cluster_means is {k}: {error}") from None
    total = dataset.samples.sum(1, keepdim=True)
    samples = total * means[nearest(shapes_of(dataset.samples), means)]
    return replace(dataset, samples=samples, provenance={**dataset.provenance, "cluster_means": means.tolist()})


def pixel_features(geometry: Geometry) -> tuple[Feature, ...]:
    """A feature in MeV for each pixel of an image, named by its indices."""
    stem = geometry.axes[0] if len(geometry.axes) == 1 else "pixel"
    indices = [tuple(index) for index in np.ndindex(*geometry.shape)]
    return tuple(Feature("_".join([stem, *map(str, i)]), "MeV", rf"$E_{{{','.join(map(str, i))}}}$") for i in indices)
