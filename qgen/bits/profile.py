r"""Energies and hits of the layers of a shower from expectation values of strings, without a sample.

The probability that the bits of a voxel have the values :math:`c` is a sum over the strings on them,
:math:`P(c) = 2^{-b} \sum_S (-1)^{S \cdot c} \langle Z_S \rangle`, and the mean energy of the voxel is
:math:`\sum_c P(c) E(c)` with the mean energy :math:`E(c)` of training events in the cell. So the energy of a layer is
linear in the expectation values, and so is the number of its voxels that are hit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from qgen.bits.generator import bit_strings
from qgen.bits.sets import BitSets
from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.discretiser import Discretiser
from qgen.data.voxels import layers_of

__all__ = ["Profile"]

MOST_BITS = 10
"""Of a voxel; one of more has too many strings."""


@dataclass(frozen=True)
class Profile:
    """Of each layer, or slice, what is a weighted sum of expectation values: its energy, and its voxels that are hit.

    Args:
        axis: of the image, along which the slices are.
        strings: sets of bits within a voxel; the first one is empty.
        energy: weights, MeV, ``(n_slices, n_strings)``.
        hits: weights, ``(n_slices, n_strings)``.
    """

    axis: str
    strings: BitSets
    energy: Tensor
    hits: Tensor

    @classmethod
    def of(cls, discretiser: Discretiser, indices: Tensor, dataset: CalorimeterDataset) -> Self | None:
        """The layers of an image, or its slices along the first axis if it has no more than one layer.

        A voxel is hit unless it is in its lowest cell, which is that of empty voxels where these have one.

        Args:
            discretiser: the cells of each voxel.
            indices: of training events, the cell of each voxel ``(N, n_voxels)``.
            dataset: the training events.

        Returns:
            None where a voxel has more than 10 bits.
        """
        most = max(discretiser.bits)
        if most > MOST_BITS:
            return None
        wires = torch.tensor(discretiser.wires)
        bits = torch.tensor(discretiser.bits)
        # all voxels have the same values at a time; those of few bits have theirs in the first rows
        values = bit_strings(most)[:, most - bits[wires[:, 0]] + wires[:, 1]]
        cells = discretiser.bits_to_indices(values.to(torch.uint8))
        means = [_means(indices[:, i], dataset.samples[:, i], len(e) - 1) for i, e in enumerate(discretiser.edges)]

        axis, slice_of = _slices(dataset)
        strings: list[list[int]] = [[]]
        energy = torch.zeros(int(slice_of.max()) + 1, int((2**bits - 1).sum()) + 1, dtype=torch.float64)
        hits = torch.zeros_like(energy)
        for i, b in enumerate(discretiser.bits):
            of_bits = (wires[:, 0] == i).nonzero().flatten()
            members = of_bits[wires[of_bits, 1].argsort()].tolist()
            patterns = bit_strings(b)
            weights = (1 - 2 * (patterns @ patterns.T % 2)) / 2**b
            of_voxel = cells[: 2**b, i]
            columns = torch.tensor([0, *range(len(strings), len(strings) + 2**b - 1)])
            energy[slice_of[i], columns] += weights @ means[i][of_voxel]
            hits[slice_of[i], columns] += weights @ (of_voxel > 0).to(torch.float64)
            strings += [
                [bit for bit, there in zip(members, row, strict=True) if there] for row in patterns[1:].tolist()
            ]
        return cls(axis, BitSets.of(discretiser.n_bits, strings), energy, hits)


def _slices(dataset: CalorimeterDataset) -> tuple[str, Tensor]:
    """An axis, and the place along it of each voxel."""
    place = torch.empty(dataset.n_features, dtype=torch.int64)
    layers = layers_of(dataset)
    if len(layers) > 1:
        for k, layer in enumerate(layers):
            place[layer.columns] = k
        return "layer", place
    shape = dataset.geometry.shape
    return dataset.geometry.axes[0], torch.arange(shape[0]).repeat_interleave(dataset.n_features // shape[0])


def _means(cells: Tensor, energies: Tensor, n_cells: int) -> Tensor:
    """Mean energy of the events in each cell ``(n_cells,)``; a cell without any has that of the nearest with some."""
    count = torch.bincount(cells, minlength=n_cells)
    sums = torch.zeros(n_cells, dtype=torch.float64).index_add_(0, cells, energies)
    filled = count.nonzero().flatten()
    nearest = (torch.arange(n_cells)[:, None] - filled).abs().argmin(1)
    return (sums[filled] / count[filled])[nearest]
