"""``shower_features``: energies, centres, widths and sparsity of every layer, wherever its voxels lie.

The high-level features of the `CaloChallenge <https://arxiv.org/abs/2410.21611>`_, for its own binnings and for regular
grids. A grid's axis that was summed over is missing: an image without layers is one layer, and centres and widths exist
only along the axes that there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Feature

__all__ = ["Layer", "layer_energies", "layers_of", "shower_features", "voxel_counts", "voxel_positions"]

CELLS_AT_ONCE = 2**24
TINY = 1e-16


@dataclass(frozen=True)
class Layer:
    """The voxels of a layer and where they are.

    Args:
        number: of the layer.
        columns: of the samples that are its voxels.
        positions: along ``x``, ``y`` and ``r``, as far as the voxels have them, each ``(voxels,)``; of a regular grid
            in its own unit, ``r`` from the middle of the grid; of a binning in mm.
        limits: of each of these positions, where the layer ends.
    """

    number: int
    columns: slice | Tensor
    positions: dict[str, Tensor]
    limits: dict[str, tuple[float, float]]

    @property
    def n_voxels(self) -> int:
        """How many there are."""
        columns = self.columns
        return columns.stop - columns.start if isinstance(columns, slice) else len(columns)


def layers_of(dataset: CalorimeterDataset) -> list[Layer]:
    """The layers of an image, in their order.

    >>> from qgen.data import load_calorimeter
    >>> layers = layers_of(load_calorimeter(grid=(5, 4, 4), max_events=10))
    >>> len(layers), layers[1].columns, sorted(layers[1].positions)
    (5, slice(16, 32, None), ['r', 'x', 'y'])
    """
    binning = dataset.geometry.binning
    if binning is None:
        return _grid_layers(dataset)
    layers = []
    for start, layer in zip(binning.starts, binning.layers, strict=True):
        r, alpha, end = layer.r, layer.alpha, layer.radii[-1]
        positions, limits = {"r": r}, {"r": (layer.radii[0], end)}
        if layer.n_alpha > 1:
            positions |= {"x": r * np.cos(alpha), "y": r * np.sin(alpha)}
            limits |= {"x": (-end, end), "y": (-end, end)}
        tensors = {name: torch.from_numpy(values) for name, values in positions.items()}
        layers.append(Layer(layer.number, slice(start, start + layer.n_voxels), tensors, limits))
    return layers


def _grid_layers(dataset: CalorimeterDataset) -> list[Layer]:
    geometry = dataset.geometry
    index = torch.arange(geometry.n_pixels).reshape(geometry.shape)
    index = index.movedim(geometry.axes.index("layer"), 0) if "layer" in geometry.axes else index[None]
    axes: list[str] = [axis for axis in geometry.axes if axis in ("x", "y")]
    positions: dict[str, Tensor] = {}
    limits: dict[str, tuple[float, float]] = {}
    for i, axis in enumerate(axes):
        shape = [1] * len(axes)
        shape[i] = -1
        centres = torch.from_numpy(geometry.centres(axis)).reshape(shape)
        positions[axis] = centres.expand(index.shape[1:]).flatten()
        edges = geometry.edges[geometry.axes.index(axis)]
        limits[axis] = (edges[0], edges[-1])
    if len(axes) == 2:
        x, y = (positions[axis] - sum(limits[axis]) / 2 for axis in ("x", "y"))
        positions["r"] = torch.hypot(x, y)
        limits["r"] = (0.0, float(np.hypot(*(np.diff(limits[axis])[0] / 2 for axis in ("x", "y")))))
    layers = []
    for number, voxels in enumerate(index.reshape(len(index), -1)):
        start, stop = int(voxels[0]), int(voxels[-1]) + 1
        together = stop - start == len(voxels)
        layers.append(Layer(number, slice(start, stop) if together else voxels, positions, limits))
    return layers


def shower_features(
    dataset: CalorimeterDataset, *, threshold: float = 0.0, scale: float = 1.0
) -> tuple[tuple[Feature, ...], Tensor]:
    r"""The features of every shower, ``(N, features)``, and their names and units.

    ``response`` (total over incident energy); then for each layer ``energy_layer_i`` (MeV), along x, y and the radius
    ``centre_x_layer_i``, :math:`\sum x E / (\sum E + 10^{-16})`, and ``width_x_layer_i``,
    :math:`\sqrt{\max(\langle x^2 \rangle - \langle x \rangle^2, 0)}`, and ``sparsity_layer_i``, the share of voxels
    *without* energy. A layer with one bin in angle has no x and y.

    Args:
        dataset: the showers.
        threshold: voxels with less than this (MeV, before scaling) or less than 0 are set to 0.
        scale: factor on all energies: one over the sampling fraction, of a sampling calorimeter.

    >>> from qgen.data import load_calorimeter
    >>> features, values = shower_features(load_calorimeter(grid=(2, 5), axes=("layer", "x"), max_events=10))
    >>> [f.name for f in features][:5], values.shape
    (['response', 'energy_layer_0', 'centre_x_layer_0', 'width_x_layer_0', 'sparsity_layer_0'], torch.Size([10, 9]))
    """
    units = dict(zip(dataset.geometry.axes, dataset.geometry.units, strict=True))
    unit = units.get("x") or units.get("y") or "mm"
    columns: list[tuple[Feature, Tensor]] = []
    total = torch.zeros(len(dataset), dtype=torch.float64)
    for layer in layers_of(dataset):
        energy, moments, active = _moments(dataset.samples, layer, max(threshold, 0.0), scale)
        total += energy
        columns.append((Feature(f"energy_layer_{layer.number}", "MeV"), energy))
        for axis, (first, second) in moments.items():
            centre = first / (energy + TINY)
            width = (second / (energy + TINY) - centre**2).clamp_min(0).sqrt()
            columns.append((Feature(f"centre_{axis}_layer_{layer.number}", unit), centre))
            columns.append((Feature(f"width_{axis}_layer_{layer.number}", unit), width))
        columns.append((Feature(f"sparsity_layer_{layer.number}"), 1 - active / layer.n_voxels))
    columns.insert(0, (Feature("response"), total / dataset.incident_energy))
    return tuple(feature for feature, _ in columns), torch.stack([values for _, values in columns], 1)


def _moments(
    samples: Tensor, layer: Layer, threshold: float, scale: float
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]], Tensor]:
    """Of each shower the layer's energy, its first and second moments, and the number of voxels with energy."""
    ones = torch.ones(layer.n_voxels, dtype=torch.float64)
    positions = list(layer.positions.values())
    factors = torch.stack([ones, *(power for x in positions for power in (x, x * x))], 1)
    sums, active = [], []
    for rows in samples.split(max(1, CELLS_AT_ONCE // layer.n_voxels)):
        voxels = rows[:, layer.columns]
        voxels = torch.where((voxels >= threshold) & (voxels > 0), voxels, 0.0)
        sums.append(voxels @ factors)
        active.append((voxels > 0).sum(1))
    energy, *others = (torch.cat(sums) * scale).unbind(1)
    pairs = zip(others[::2], others[1::2], strict=True)
    return energy, dict(zip(layer.positions, pairs, strict=True)), torch.cat(active).to(torch.float64)


def layer_energies(dataset: CalorimeterDataset) -> Tensor:
    """Energy in each layer of each shower, ``(N, layers)``, MeV.

    >>> from qgen.data import load_calorimeter
    >>> layer_energies(load_calorimeter(grid=(5, 4, 4), max_events=10)).shape
    torch.Size([10, 5])
    """
    return torch.stack([dataset.samples[:, layer.columns].sum(1) for layer in layers_of(dataset)], 1)


def voxel_positions(dataset: CalorimeterDataset) -> dict[str, Tensor]:
    """Along x, y and the radius, as far as there are such, the position of each voxel, ``(voxels,)``.

    In the unit of the grid, or mm; nan for voxels of a layer without that direction.

    >>> from qgen.data import load_calorimeter
    >>> voxel_positions(load_calorimeter(grid=(2, 5), axes=("layer", "x"), max_events=10))["x"].tolist()
    [-50.0, -25.0, 0.0, 25.0, 50.0, -50.0, -25.0, 0.0, 25.0, 50.0]
    """
    found: dict[str, Tensor] = {}
    for layer in layers_of(dataset):
        for axis, positions in layer.positions.items():
            found.setdefault(axis, torch.full((dataset.n_features,), torch.nan, dtype=torch.float64))
            found[axis][layer.columns] = positions
    return {axis: found[axis] for axis in ("x", "y", "r") if axis in found}


def voxel_counts(dataset: CalorimeterDataset, edges: Tensor, threshold: float) -> Tensor:
    """How many voxels of each shower have an energy in each bin, ``(N, bins + 3)``.

    First the empty voxels, with less than the threshold or nothing, then those below the first edge, those in the bins,
    of which the last is closed, and those above.

    Args:
        dataset: the showers.
        edges: increasing, MeV.
        threshold: MeV.

    >>> from qgen.data import load_calorimeter
    >>> voxel_counts(load_calorimeter(max_events=3), torch.tensor([10.0, 100.0, 1e5]), 0.0).sum(1)
    tensor([8., 8., 8.], dtype=torch.float64)
    """
    parts = []
    for rows in dataset.samples.split(max(1, CELLS_AT_ONCE // dataset.n_features)):
        filled = ((rows >= threshold) & (rows > 0)).flatten().nonzero()[:, 0]
        values = rows.flatten()[filled]
        bins = torch.bucketize(values, edges, right=True) + 1
        bins -= (values == edges[-1]).to(bins)
        width = len(edges) + 2
        bins += filled.div_(dataset.n_features, rounding_mode="floor") * width
        parts.append(torch.bincount(bins, minlength=len(rows) * width).reshape(len(rows), width))
    counts = torch.cat(parts).to(torch.float64)
    counts[:, 0] = dataset.n_features - counts.sum(1)
    return counts
