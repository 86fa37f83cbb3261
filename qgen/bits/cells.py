"""The cells of the features of events that models on bits are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from qgen.bits.learned import MOST_CELLS, learned_edges
from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Code, Discretiser, Order
from qgen.data.gaussianise import Gaussianise, NormalCDF
from qgen.data.marginals import EMPTY, Marginals, ZeroSuppress
from qgen.data.transforms import Compose, EnergyFraction, Transform

__all__ = ["Edges", "Frame", "Occupancy", "Threshold", "Voxels", "fit_cells"]

CONSTANT_WIDTH = 1e-6
"""Width of the cell around the value of a feature that never changes."""

SHARED = 0.01
"""Share of the images in which a pixel must be empty for that to be a cell of its own."""

ABOVE_ZERO = 1e-9
"""Distance of the lowest edge of the other cells from the value of an empty pixel."""

Frame = Literal["features", "gaussian", "marginals"]
Edges = Literal["quantile", "linear", "learned"]
Threshold = Annotated[float, Gt(0)] | Literal["calorimeter"] | None
Voxels = Annotated[int, Ge(1)] | None
Occupancy = Annotated[float, Ge(0), Lt(1)]


def fit_cells(
    dataset: Dataset,
    bits: int | Sequence[int],
    edges: Edges,
    tails: float,
    code: Code,
    order: Order,
    frame: Frame,
    *,
    threshold: Threshold = None,
    voxels: Voxels = None,
    occupancy: Occupancy = 0.0,
) -> tuple[Discretiser, Transform]:
    """The cells of the training events and the transform to the space they are in.

    Args:
        dataset: its ``train`` split is cut.
        bits: of every feature, or of each: ``2**bits`` cells, or ``bits + 1`` in a unary code.
        edges: cells with equally many distinct values (``quantile``), of equal width (``linear``), or with the smallest
            expected squared distance from the mean of the cell (``learned``), in physical units; of energies, under
            the mean incident energy. Too few distinct values for the cells asked for are cut into equal widths.
        tails: share of the training values beyond the outer edges on either side.
        code: how a feature's cells are written in bits.
        order: which bit of which feature each bit of an event is.
        frame: ``features`` cuts the transform's values, and a draw is uniform in its cell there. ``marginals`` cuts
            the same values (of a calorimeter: shares of the incident energy), and a draw has the distribution of the
            training values of its cell, see :class:`~qgen.data.marginals.Marginals`. In both, a pixel that is empty in
            more than 1 % of the images has a cell of its own for that, and a feature that never changes has a single
            cell, so no bits. ``gaussian`` cuts the directions of :class:`~qgen.data.gaussianise.Gaussianise` into cells
            of equal normal probability, whatever ``edges`` and ``tails`` are.
        threshold: pixels with less (MeV) count as empty, and what is not empty has at least as much; ``calorimeter``
            takes the dataset's own.
        voxels: only so many pixels have bits, those with most energy; the others are always empty.
        occupancy: pixels that are not empty in a smaller share of the images have no bits and are always empty.

    Raises:
        ValueError: an option is impossible for these events.
    """
    _check(dataset, edges, frame, {"threshold": threshold, "voxels": voxels, "occupancy": occupancy or None})
    train = dataset.train
    if frame == "gaussian":
        values = dataset.transform(train.samples, train.conditions)
        straight = Compose([dataset.transform, Gaussianise.fit(values, train.conditions), NormalCDF()])
        corners = torch.tensor([[0.0], [1.0]]).expand(2, dataset.n_features)
        return Discretiser.fit(corners, bits, "linear", code=code, order=order, numbered=False), straight
    limit = _limit(dataset, threshold)
    if limit is not None and (train.samples < limit).all():
        raise ValueError(f"threshold is {limit:g} MeV; all pixels of the training images are below it")
    events = _Events.of(train, frame, limit)
    suppressed = _suppressed(train.samples, events.empty, voxels, occupancy)
    found = _edges(events, suppressed, bits, edges, tails, code)
    if frame == "features":
        return Discretiser(found, code, order), events.transform
    apart = events.often_empty | suppressed
    marginals = Marginals.fit(events.values, apart)
    return Discretiser(_as_shares(found, marginals), code, order), Compose([events.transform, marginals])


class _Events(NamedTuple):
    """Training events in the space whose cells are sought.

    Args:
        values: ``(N, n_features)``.
        empty: which pixels are empty, same shape; none of a table.
        often_empty: features that have a cell for the empty.
        zero: value of an empty pixel, ``(n_features,)``.
        narrow: a small width, of each feature.
        transform: physical units to these values.
        base: the same without a threshold.
        condition: the mean condition, ``(1, n_conditions)``.
    """

    values: Tensor
    empty: Tensor
    often_empty: Tensor
    zero: Tensor
    narrow: Tensor
    transform: Transform
    base: Transform
    condition: Tensor

    @classmethod
    def of(cls, train: Dataset, frame: Frame, limit: float | None) -> _Events:
        pixels = isinstance(train, CalorimeterDataset)
        of_shares = pixels and frame == "marginals"
        base = EnergyFraction() if of_shares else train.transform
        transform = base if limit is None else Compose([ZeroSuppress(limit), base])
        values = transform(train.samples, train.conditions)
        empty = torch.zeros_like(train.samples, dtype=torch.bool)
        if pixels:
            empty = train.samples == 0 if limit is None else train.samples < limit
        often = empty.to(torch.float64).mean(0) > SHARED
        zero = transform(torch.zeros_like(train.samples[:1]), train.conditions[:1])[0] if pixels else values[0]
        # shares of the incident energy are tiny, other values of order one
        narrow = values.abs().amax(0) if of_shares else torch.ones_like(values[0])
        narrow = ABOVE_ZERO * torch.where(narrow > 0, narrow, 1)
        return cls(values, empty, often, zero, narrow, transform, base, train.conditions.mean(0, keepdim=True))

    def physical(self) -> Tensor:
        """The values in physical units, all under the mean condition."""
        return self.base.inverse(self.values, self.condition.expand(len(self.values), -1))

    def from_physical(self, energies: Tensor) -> Tensor:
        """Physical units under the mean condition, ``(m, n_features)``, to values."""
        return self.base(energies, self.condition.expand(len(energies), -1))


def _edges(
    events: _Events, suppressed: Tensor, bits: int | Sequence[int], kind: Edges, tails: float, code: Code
) -> list[list[float]]:
    """The edges of each feature; two of a feature without bits."""
    values, zero, narrow = events.values, events.zero.tolist(), events.narrow.tolist()
    single = suppressed | (values.amin(0) == values.amax(0))
    if single.all():
        what = "constant, or have no bits by voxels or occupancy" if suppressed.any() else "constant"
        raise ValueError(f"all features are {what}; there is nothing to cut into cells")
    stand_in = torch.arange(len(values), dtype=values.dtype)[:, None]
    cut = torch.where(single, stand_in, values)
    fitted = Discretiser.fit(cut, bits, "linear" if kind == "learned" else kind, tails, code, numbered=False)
    edges = [each.tolist() for each in fitted.edges]
    learned = _learned(events, edges, single) if kind == "learned" else {}
    often = events.often_empty.tolist()
    columns, empty = values.T.contiguous(), events.empty.T.contiguous()
    for i, alone in enumerate(single.tolist()):
        if suppressed[i] or (alone and often[i]):
            edges[i] = [zero[i] - 1, zero[i] + narrow[i]]
        elif alone:
            value = values[0, i].item()
            edges[i] = [value - CONSTANT_WIDTH / 2, value + CONSTANT_WIDTH / 2]
        elif often[i]:
            filled = columns[i][~empty[i]]
            edges[i] = _with_empty_cell(i, filled, zero[i], narrow[i], edges[i], kind, learned.get(i))
        elif i in learned and _increases(made := [edges[i][0], *learned[i], edges[i][-1]]):
            edges[i] = made
    return edges


def _with_empty_cell(
    feature: int,
    filled: Tensor,
    zero: float,
    narrow: float,
    edges: list[float],
    kind: Edges,
    learned: list[float] | None,
) -> list[float]:
    """Edges of a pixel that is often empty: the lowest cell holds the empty pixels alone.

    It lies below the value of an empty pixel, where the transform's inverse gives exactly 0. The others are of the
    asked kind if the ``filled`` values are at least twice as many as there are cells, else equally wide.
    """
    low, high, n = zero + narrow, max(edges[-1], zero + 2 * narrow), len(edges) - 2
    share = torch.linspace(0, 1, n + 1, dtype=torch.float64)[1:-1]
    linear = (low + (high - low) * share).tolist()
    inner = linear
    if kind != "linear" and n > 1:
        distinct = filled.unique()
        if len(distinct) >= 2 * n and learned is not None:
            inner = learned
        elif len(distinct) >= 2 * n and kind == "quantile":
            inner = torch.from_numpy(np.quantile(distinct.numpy(), share.numpy())).clamp(low, high).tolist()
    for some in (inner, linear):
        if _increases(made := [zero - 1, low, *some, high]):
            return made
    raise ValueError(f"feature {feature} has too few distinct values for {n + 1} cells")


def _learned(events: _Events, edges: list[list[float]], single: Tensor) -> dict[int, list[float]]:
    """The learned inner edges of each feature, by its number; of a pixel that is often empty those of the others."""
    outer = torch.tensor([[each[0], each[-1]] for each in edges], dtype=torch.float64)
    counted = (events.values >= outer[:, 0]) & (events.values <= outer[:, 1])
    counted &= ~(events.empty & events.often_empty)
    cells = torch.tensor([len(each) - 1 for each in edges]) - events.often_empty.long()
    if cells.max() > MOST_CELLS:
        raise ValueError(f"edges is 'learned' with {int(cells.max())} cells of a feature; at most {MOST_CELLS} are")
    physical = events.physical()
    found: dict[int, list[float]] = {}
    for n in cells.unique().tolist():
        which = ((cells == n) & ~single & counted.any(0)).nonzero().flatten()
        if n < 2 or not len(which):
            continue
        energies = physical.new_zeros(n - 1, physical.shape[1])
        energies[:, which] = learned_edges(physical[:, which], counted[:, which], n).T
        found.update(zip(which.tolist(), events.from_physical(energies)[:, which].T.tolist(), strict=True))
    return found


def _as_shares(edges: list[list[float]], marginals: Marginals) -> list[list[float]]:
    """Edges of values as edges of their shares; the cell of the empty is all that is negative."""
    inner = [each[2 if empty else 1 : -1] for each, empty in zip(edges, marginals.empty.tolist(), strict=True)]
    table = torch.zeros(max(map(len, inner)), len(inner), dtype=torch.float64)
    for i, each in enumerate(inner):
        table[: len(each), i] = torch.tensor(each, dtype=torch.float64)
    shares = marginals(table)
    found = []
    for i, each in enumerate(inner):
        below = [2 * EMPTY, 0.0] if marginals.empty[i] else [0.0]
        alone = len(edges[i]) == 2
        made = below if alone and marginals.empty[i] else [*below, *shares[: len(each), i].tolist(), 1.0]
        if not _increases(made):
            raise ValueError(f"feature {i} has too few distinct values for {len(edges[i]) - 1} cells")
        found.append(made)
    return found


def _suppressed(samples: Tensor, empty: Tensor, voxels: int | None, occupancy: float) -> Tensor:
    """The features that have no bits because too little is in them, ``(n_features,)`` bool."""
    energy = torch.where(empty, 0, samples).sum(0)
    suppressed = (~empty).to(torch.float64).mean(0) < occupancy
    if voxels is not None:
        if voxels > len(energy):
            raise ValueError(f"voxels is {voxels}; the images have {len(energy)}")
        suppressed[energy.argsort(descending=True, stable=True)[voxels:]] = True
    return suppressed


def _limit(dataset: Dataset, threshold: Threshold) -> float | None:
    """The threshold in MeV."""
    if not isinstance(threshold, str):
        return threshold
    if threshold != "calorimeter":
        raise ValueError(f"threshold is {threshold!r}; allowed are an energy in MeV and 'calorimeter'")
    stated = dataset.threshold if isinstance(dataset, CalorimeterDataset) else 0.0
    if stated == 0:
        raise ValueError("threshold is 'calorimeter', but these images have none; give it in MeV")
    return stated


def _check(dataset: Dataset, edges: str, frame: str, options: Mapping[str, object]) -> None:
    for name, value, allowed in (("frame", frame, get_args(Frame)), ("edges", edges, get_args(Edges))):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}")
    for name, option in options.items():
        if option is None:
            continue
        if not isinstance(dataset, CalorimeterDataset):
            raise ValueError(f"{name} is {option!r}, but only the pixels of calorimeter images can be empty")
        if frame == "gaussian":
            raise ValueError(f"{name} is {option!r}, but frame 'gaussian' cuts directions, not pixels")
    if frame == "gaussian" and edges == "learned":
        raise ValueError("edges is 'learned', but frame 'gaussian' has cells of equal normal probability")


def _increases(edges: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(edges))
