r"""What is lost on the way from events to bits and back.

Two things are lost: energies are known to their cell only, and features without bits lose all. Bits that are drawn do
not say where in the cell a value is, so an event comes back with a draw from each of its cells; all errors here are of
such draws. Of a bit that is one with probability :math:`p` the entropy is
:math:`-p \log_2 p - (1 - p) \log_2 (1 - p)`, at most one bit. The sum over bits is what they could tell if they were
independent of each other, the sum over cells what they could if only the features were.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Discretiser
from qgen.data.transforms import Transform
from qgen.random import derive_seed, new_generator

__all__ = ["EnergyLost", "InformationLost", "information_lost"]


class EnergyLost(NamedTuple):
    """Of calorimeter images; shares are of the energy of all events.

    Args:
        without_bits: share of the energy in pixels without bits.
        pixels: sum over pixels and events of the distances of energies before and after, as a share.
        total: mean distance of a shower's total energy before and after, over the mean total energy.
        shift: mean total energy after over that before, minus 1.
        layers: mean distance of each layer's energy before and after (MeV); empty without layers.
        filled: share of the pixels that are empty before or after, but not both.
    """

    without_bits: float
    pixels: float
    total: float
    shift: float
    layers: tuple[float, ...]
    filled: float


class InformationLost(NamedTuple):
    """What :func:`information_lost` finds.

    Args:
        n_bits: of an event.
        with_bits: features that have bits.
        constant_bits: bits that are the same in all events.
        bit_entropy: sum over the bits of their entropies, in bits.
        cell_entropy: sum over the features of the entropies of their cells, in bits.
        errors: of each feature, mean distance of the value before and after, in its unit.
        error: the mean of these in standard deviations of the feature, over the features that are not constant.
        energy: of calorimeter images, else None.
    """

    n_bits: int
    with_bits: int
    constant_bits: int
    bit_entropy: float
    cell_entropy: float
    errors: tuple[float, ...]
    error: float
    energy: EnergyLost | None


def information_lost(
    dataset: Dataset, discretiser: Discretiser, transform: Transform, *, seed: int = 0
) -> InformationLost:
    """What events lose on the way to bits and back.

    Args:
        dataset: the events, best others than those that fixed the cells; their weights have no effect.
        discretiser: the cells.
        transform: physical units to the space of the cells, as :func:`~qgen.bits.cells.fit_cells` gives it.
        seed: of the draws within the cells.

    Raises:
        ValueError: the events do not fit the cells.

    >>> from qgen.bits.cells import fit_cells
    >>> from qgen.data import load_calorimeter
    >>> data = load_calorimeter(grid=(8,), max_events=500)
    >>> cells, transform = fit_cells(data, 2, "quantile", 0.0, "gray", "by-feature", "marginals", voxels=6)
    >>> lost = information_lost(data.test, cells, transform)
    >>> lost.n_bits, lost.with_bits, 0.01 < lost.energy.without_bits < 0.1
    (12, 6, True)
    """
    values = transform(dataset.samples, dataset.conditions)
    indices = discretiser.indices(values)
    bits = discretiser.indices_to_bits(indices)
    rng = new_generator(derive_seed(seed, "information"))
    back = transform.inverse(discretiser.decode(bits, rng), dataset.conditions)
    ones = bits.to(torch.float64).mean(0)
    away = (back - dataset.samples).abs().mean(0)
    spread = dataset.samples.std(0, correction=0)
    varies = spread > 0
    return InformationLost(
        n_bits=discretiser.n_bits,
        with_bits=sum(b > 0 for b in discretiser.bits),
        constant_bits=int(((ones == 0) | (ones == 1)).sum()),
        bit_entropy=float((_entropy(ones) + _entropy(1 - ones)).sum()),
        cell_entropy=_cell_entropy(indices, max(discretiser.cells)),
        errors=tuple(away.tolist()),
        error=float((away[varies] / spread[varies]).mean()) if varies.any() else 0.0,
        energy=_energy_lost(dataset, discretiser, back) if isinstance(dataset, CalorimeterDataset) else None,
    )


def _entropy(p: Tensor) -> Tensor:
    """``-p log2 p``, 0 at 0."""
    return -torch.xlogy(p, p) / np.log(2)


def _cell_entropy(indices: Tensor, most: int) -> float:
    """Sum over the features of the entropies of their cells."""
    n, n_features = indices.shape
    number = indices + most * torch.arange(n_features, device=indices.device)
    shares = torch.bincount(number.flatten(), minlength=most * n_features).to(torch.float64) / n
    return float(_entropy(shares).sum())


def _energy_lost(dataset: CalorimeterDataset, discretiser: Discretiser, back: Tensor) -> EnergyLost:
    before = dataset.samples
    energy = float(before.sum())
    if energy <= 0:
        raise ValueError("the images have no energy; nothing can be said of what is lost of it")
    away = back - before
    none = torch.tensor([b == 0 for b in discretiser.bits])
    return EnergyLost(
        without_bits=float(before[:, none].sum()) / energy,
        pixels=float(away.abs().sum()) / energy,
        total=float(away.sum(1).abs().sum()) / energy,
        shift=float(away.sum()) / energy,
        layers=tuple(_layers(dataset, away).abs().mean(0).tolist()),
        filled=float(((before > 0) != (back > 0)).to(torch.float64).mean()),
    )


def _layers(dataset: CalorimeterDataset, pixels: Tensor) -> Tensor:
    """Pixels ``(N, n_features)`` summed to layers ``(N, n_layers)``, none where the image has no layers."""
    geometry = dataset.geometry
    if geometry.binning is not None:
        return torch.from_numpy(geometry.binning.layer_sums(pixels.numpy()))
    if "layer" not in geometry.axes:
        return pixels.new_empty(len(pixels), 0)
    images = pixels.reshape(-1, *geometry.shape).movedim(geometry.axes.index("layer") + 1, 1)
    return images.flatten(2).sum(2) if images.ndim > 2 else images
