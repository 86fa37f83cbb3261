"""Which bits of an event are neighbours: those of one feature, and those of features that lie side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qgen.bits.cells import Frame
from qgen.data.binning import Binning
from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Discretiser

__all__ = ["adjacent_features", "grid_shape", "neighbouring_bits"]


def grid_shape(dataset: Dataset, frame: Frame = "features") -> tuple[int, ...] | None:
    """Numbers of pixels along the axes of a regular image, the last axis fastest; None of anything else."""
    if frame != "gaussian" and isinstance(dataset, CalorimeterDataset) and "voxel" not in dataset.geometry.axes:
        return dataset.geometry.shape
    return None


def adjacent_features(dataset: Dataset, frame: Frame = "features") -> Tensor:
    """Pairs of features that lie side by side, ``(m, 2)``, each ascending and once.

    In an image these are pixels that are next to each other along one of its axes (layer, row, column). Voxels of a
    binning are next to each other in radius, in angle (the last one beside the first), and in depth: in the next layer
    the voxel whose middle is nearest across. Where features have no place (columns of a table, a list of voxels without
    a binning, the directions of the Gaussian frame), each is beside the next column.

    >>> from qgen.data import load_calorimeter
    >>> adjacent_features(load_calorimeter(grid=(2, 2), max_events=10)).tolist()
    [[0, 1], [0, 2], [1, 3], [2, 3]]
    """
    shape = grid_shape(dataset, frame)
    if shape is not None:
        number = torch.arange(dataset.n_features).reshape(shape)
        pairs = [
            torch.stack([number.narrow(axis, 0, size - 1), number.narrow(axis, 1, size - 1)], -1).reshape(-1, 2)
            for axis, size in enumerate(shape)
        ]
        return torch.cat(pairs).unique(dim=0)
    if frame != "gaussian" and isinstance(dataset, CalorimeterDataset) and dataset.geometry.binning is not None:
        return torch.from_numpy(_adjacent_voxels(dataset.geometry.binning))
    first = torch.arange(dataset.n_features - 1)
    return torch.stack([first, first + 1], 1)


def _adjacent_voxels(binning: Binning) -> np.ndarray:
    pairs = []
    above: tuple[np.ndarray, np.ndarray] | None = None
    for start, layer in zip(binning.starts, binning.layers, strict=True):
        number = start + np.arange(layer.n_voxels).reshape(layer.n_alpha, -1)  # the radius is fastest
        pairs.append(np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], 1))
        if layer.n_alpha > 1:
            pairs.append(np.stack([number.ravel(), np.roll(number, -1, axis=0).ravel()], 1))
        # a ring is a whole circle where there is one bin in angle: its middle is the axis
        radius = layer.r if layer.n_alpha > 1 else np.zeros(layer.n_voxels)
        here = np.stack([radius * np.cos(layer.alpha), radius * np.sin(layer.alpha)], 1)
        if above is not None:
            there, numbers = above
            distance = np.square(here[:, None] - there[None]).sum(-1)
            pairs.append(np.stack([numbers[distance.argmin(1)], number.ravel()], 1))
            pairs.append(np.stack([numbers, number.ravel()[distance.argmin(0)]], 1))
        above = here, number.ravel()
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def neighbouring_bits(dataset: Dataset, discretiser: Discretiser, reach: int = 1, frame: Frame = "features") -> Tensor:
    """Pairs of bits that are neighbours, ``(m, 2)``, each ascending and once.

    Those are bits of one feature, and all bits of two features that are at most ``reach`` steps from side to side
    apart (:func:`adjacent_features`). All bits, and not the most significant alone, since the lower ones of a Gray code
    are correlated from pixel to pixel as strongly, or more.

    Args:
        dataset: whose features the bits are of.
        discretiser: says which bit belongs to which feature.
        reach: largest number of steps; 0 for bits of one feature only.
        frame: of the cells, see :func:`~qgen.bits.cells.fit_cells`.

    Raises:
        ValueError: a negative reach.
    """
    from scipy import sparse

    if reach < 0:
        raise ValueError(f"reach is {reach}; it is a number of steps, 0 or more")
    n = dataset.n_features
    first, second = adjacent_features(dataset, frame).numpy().T
    step = sparse.coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(n, n)).tocsr()
    step = step + step.T + sparse.eye_array(n, dtype=bool, format="csr")
    near = sparse.eye_array(n, dtype=bool, format="csr")
    for _ in range(reach):
        near = (near @ step).astype(bool)
    place = near.tocoo()
    bits_of: list[list[int]] = [[] for _ in range(n)]
    for bit, (feature, _) in enumerate(discretiser.wires):
        bits_of[feature].append(bit)
    pairs = [
        (a, b)
        for f, g in zip(place.row.tolist(), place.col.tolist(), strict=True)
        if f <= g
        for a in bits_of[f]
        for b in bits_of[g]
        if f < g or a < b
    ]
    return _ascending(pairs)


def _ascending(pairs: Sequence[tuple[int, int]]) -> Tensor:
    if not pairs:
        return torch.empty(0, 2, dtype=torch.int64)
    return torch.tensor(pairs).sort(dim=1).values.unique(dim=0)
