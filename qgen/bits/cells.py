"""The cells of the features of events that models on bits are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Code, Discretiser, Order
from qgen.data.gaussianise import Gaussianise, NormalCDF
from qgen.data.transforms import Compose, Transform

__all__ = ["Frame", "fit_cells"]

CONSTANT_WIDTH = 1e-6
"""Width of the cell around the value of a feature that never changes."""

SHARED = 0.01
"""Share of the images in which a pixel must be empty for that to be a cell of its own."""

ABOVE_ZERO = 1e-9
"""Distance of the lowest edge of the other cells from the value of an empty pixel."""

Frame = Literal["features", "gaussian"]


def fit_cells(
    dataset: Dataset,
    bits: int | Sequence[int],
    edges: Literal["quantile", "linear"],
    tails: float,
    code: Code,
    order: Order,
    frame: Frame,
) -> tuple[Discretiser, Transform]:
    """The cells of the training events and the transform to the space they are in.

    Args:
        dataset: its ``train`` split is cut.
        bits: of every feature, or of each.
        edges: cells of equal probability or of equal width.
        tails: share of the training values beyond the outer edges on either side.
        code: how a feature's cells are written in bits.
        order: which bit of which feature each bit of an event is.
        frame: ``features`` cuts the transform's values, with a cell of its own for a pixel that is empty in more than
            1 % of the images, and a single cell, so no bits, for a feature that never changes; ``gaussian`` the
            directions of :class:`~qgen.data.gaussianise.Gaussianise` into cells of equal normal probability, whatever
            ``edges`` and ``tails`` are.

    Raises:
        ValueError: an option is impossible for these events.
    """
    if frame not in ("features", "gaussian"):
        raise ValueError(f"frame is {frame!r}; allowed are 'features' and 'gaussian'")
    train = dataset.train
    values = dataset.transform(train.samples, train.conditions)
    if frame == "features":
        constant = values.amin(0) == values.amax(0)
        if constant.all():
            raise ValueError("all features are constant; there is nothing to cut into cells")
        stand_in = torch.arange(len(values), dtype=values.dtype)[:, None]
        cells = Discretiser.fit(
            torch.where(constant, stand_in, values), bits, edges, tails, code, order, numbered=False
        )
        if constant.any():
            cells = _with_constants(cells, values[0], constant)
        if isinstance(dataset, CalorimeterDataset):
            cells = _with_empty_cells(cells, values, train.samples == 0, edges)
        return cells, dataset.transform
    straight = Compose([dataset.transform, Gaussianise.fit(values, train.conditions), NormalCDF()])
    corners = torch.tensor([[0.0], [1.0]]).expand(2, dataset.n_features)
    return Discretiser.fit(corners, bits, "linear", code=code, order=order, numbered=False), straight


def _with_constants(cells: Discretiser, values: Tensor, constant: Tensor) -> Discretiser:
    """The same cells, but features that are ``constant`` have a single narrow one around their value."""
    edges = [each.tolist() for each in cells.edges]
    for i in constant.nonzero().flatten().tolist():
        edges[i] = [values[i].item() - CONSTANT_WIDTH / 2, values[i].item() + CONSTANT_WIDTH / 2]
    return Discretiser(edges, cells.code, cells.order)


def _with_empty_cells(cells: Discretiser, values: Tensor, empty: Tensor, kind: str) -> Discretiser:
    """The same cells, but the lowest one of a pixel that is often empty holds the empty pixels alone.

    It lies below the value of an empty pixel, where the transform's inverse gives exactly 0.
    """
    edges = [each.tolist() for each in cells.edges]
    for i in (empty.to(torch.float64).mean(0) > SHARED).nonzero().flatten().tolist():
        zero = values[empty[:, i], i].max().item()
        if len(edges[i]) == 2:
            edges[i] = [zero - 1, zero + ABOVE_ZERO]
            continue
        filled = values[~empty[:, i], i].unique()
        low, high, n = zero + ABOVE_ZERO, max(edges[i][-1], zero + 2 * ABOVE_ZERO), len(edges[i]) - 2
        share = torch.linspace(0, 1, n + 1, dtype=torch.float64)[1:-1]
        if kind == "linear" or len(filled) < 2 * n:
            inner = low + (high - low) * share
        else:
            inner = torch.from_numpy(np.quantile(filled.numpy(), share.numpy())).clamp(low, high)
        made = [zero - 1, low, *inner.tolist(), high]
        if all(a < b for a, b in pairwise(made)):
            edges[i] = made
    return Discretiser(edges, cells.code, cells.order)
