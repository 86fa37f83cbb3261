r"""Cells learned from events: those whose values differ least from the mean of their cell (Lloyd-Max).

Of all ways to cut the values of a feature into ``n`` cells, the one with the smallest expected squared distance of a
value from its cell's mean has its edges halfway between neighbouring means (Lloyd, IEEE Trans. Inf. Theory 28 (1982)
129; one-dimensional k-means). A draw from the values of the cell misses by the square root of 2 more.

Moving edges and means in turn ends in one of many local optima, often 20 % worse than the best one where energies have
a long tail. So the values are first put into fine bins, the best cells of whole bins are found by dynamic programming,
and edges and means move from there.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MOST_CELLS", "learned_edges"]

MOST_CELLS = 64
"""Cells of a feature that are learned at most."""

FEWEST_BINS = 96
"""Fine bins of a feature, four a cell if that is more."""

AT_ONCE = 2**21
"""Pairs of bins of all features that are in memory together."""

STEPS = 300
"""Steps after which the edges are taken as they are."""

PRECISION = 1e-6
"""Edges that move by less, over the range of the values, stand still."""


def learned_edges(values: Tensor, counted: Tensor, cells: int) -> Tensor:
    """The inner edges of the cells of each feature with the smallest squared error.

    Args:
        values: ``(N, n_features)``.
        counted: which of them count, ``(N, n_features)`` bool; at least one of each feature.
        cells: of each feature, at most 64.

    Returns:
        ``(n_features, cells - 1)``, ascending; neighbouring ones are equal where a feature has fewer distinct values.

    >>> values = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0, 12.0]).double()[:, None]
    >>> learned_edges(values, values > -1, 2).tolist()
    [[6.0]]
    """
    ordered = torch.where(counted, values, torch.inf).T.contiguous().sort(1).values
    count = counted.sum(0)[:, None]
    finite = torch.where(ordered.isfinite(), ordered - ordered[:, :1], 0)
    sums = _from_zero(finite.cumsum(1))
    bins = max(FEWEST_BINS, 4 * cells)
    ends = torch.cat(
        [torch.zeros_like(count), torch.searchsorted(ordered, _fine_edges(ordered, count, bins)), count], dim=1
    )
    squares = _from_zero(finite.square().cumsum(1))
    moments = torch.stack([ends.to(sums), sums.gather(1, ends), squares.gather(1, ends)])
    at_once = max(1, AT_ONCE // bins**2)
    chosen = torch.cat([_best_bins(some, cells) for some in moments.split(at_once, dim=1)])
    ends = ends.gather(1, chosen)
    precision = PRECISION * finite.amax(1, keepdim=True)
    edges = _between_means(ordered, sums, ends)
    for _ in range(STEPS):
        ends[:, 1:-1] = torch.searchsorted(ordered, edges)
        before, edges = edges, _between_means(ordered, sums, ends)
        if ((edges - before).abs() <= precision).all():
            break
    return edges


def _between_means(ordered: Tensor, sums: Tensor, ends: Tensor) -> Tensor:
    """The middles between the means of neighbouring cells, whose values end at ``ends``."""
    number = ends.diff(dim=1)
    of_cell = sums.gather(1, ends).diff(dim=1) / number.clamp_min(1)
    # a cell without values has its mean at the next value
    next_value = ordered.gather(1, ends[:, :-1].clamp_max(ends[:, -1:] - 1)) - ordered[:, :1]
    means = ordered[:, :1] + torch.where(number > 0, of_cell, next_value)
    return (means[:, :-1] + means[:, 1:]) / 2


def _best_bins(moments: Tensor, cells: int) -> Tensor:
    """Where cells of whole bins end that have the smallest squared error, ``(n_features, cells + 1)``.

    Args:
        moments: number, sum and sum of squares of the values below each end of a bin, ``(3, n_features, bins + 1)``.
        cells: of each feature.
    """
    number, total, square = (m[:, None, :] - m[:, :, None] for m in moments)  # from bin i up to bin k
    error = (square - total.square() / number.clamp_min(1)).clamp_min(0)
    error = torch.where(torch.ones_like(error[0], dtype=torch.bool).triu(), error, torch.inf)
    least, start = error[:, 0], []
    for _ in range(cells - 1):
        least, best = (least[:, :, None] + error).min(1)
        start.append(best)
    places = [torch.full_like(start[0][:, :1] if start else moments[0, :, :1].long(), error.shape[1] - 1)]
    for best in reversed(start):
        places.append(best.gather(1, places[-1]))
    places.append(torch.zeros_like(places[0]))
    return torch.cat(places[::-1], dim=1)


def _fine_edges(ordered: Tensor, count: Tensor, bins: int) -> Tensor:
    """Edges of bins with equal shares of the cube root of the density, the best ones where cells are many."""
    levels = torch.linspace(0, 1, min(ordered.shape[1], 4 * bins), dtype=torch.float64)
    knots = ordered.gather(1, (levels * (count - 1)).round().long())
    # the integral of p^(1/3) over a spacing dx that holds a share dF is (dF / dx)^(1/3) dx
    share = _from_zero((knots.diff(dim=1) ** (2 / 3)).cumsum(1))
    wanted = share[:, -1:] * torch.arange(1, bins, dtype=torch.float64) / bins
    place = (torch.searchsorted(share, wanted, right=True) - 1).clamp_max(max(len(levels) - 2, 0))
    low = share.gather(1, place)
    width = share.gather(1, (place + 1).clamp_max(len(levels) - 1)) - low
    position = (wanted - low) / torch.where(width > 0, width, 1)
    return torch.lerp(knots.gather(1, place), knots.gather(1, (place + 1).clamp_max(len(levels) - 1)), position)


def _from_zero(sums: Tensor) -> Tensor:
    return torch.cat([sums.new_zeros(len(sums), 1), sums], dim=1)
