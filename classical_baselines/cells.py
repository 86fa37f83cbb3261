"""Parts of the closed-form models: groups of similar conditions, cells of a feature, quantile functions."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["PEAK_WIDTH", "ConditionBins", "QuantileMarginals", "locate", "quantiles"]

PEAK_WIDTH = 1e-6
"""A value that many events share exactly counts, in a density, as a peak of this width (in the transform's units)."""


def quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """Empirical quantiles of each column, ``(N, n_features)`` and ``(K,)`` to ``(K, n_features)``.

    >>> quantiles(torch.tensor([[4.0], [0.0], [2.0]]), torch.tensor([0.0, 0.25, 1.0]))
    tensor([[0.],
            [1.],
            [4.]])
    """
    ordered = values.sort(0).values
    position = levels.to(values) * (len(values) - 1)
    low = position.long().clamp(max=max(len(values) - 2, 0))
    high = (low + 1).clamp(max=len(values) - 1)
    return torch.lerp(ordered[low], ordered[high], (position - low).unsqueeze(1))


def locate(edges: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The edges between which each value lies.

    Args:
        edges: of each feature, ascending, ``(n_features, K)``; edges that coincide enclose a single value.
        values: ``(n, n_features)``; a value outside belongs to the nearest cell.

    Returns:
        Index of the lower and of the upper edge, both ``(n, n_features)``. On a value where edges coincide, the first
        and the last of these.

    >>> low, high = locate(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.tensor([[0.0], [0.5], [3.0]]))
    >>> low.T.tolist(), high.T.tolist()
    ([[0, 2, 2]], [[2, 3, 3]])
    """
    columns = values.T.contiguous()
    left = torch.searchsorted(edges, columns).T
    right = torch.searchsorted(edges, columns, right=True).T
    shared = right - left >= 2
    low = torch.where(shared, left, (right - 1).clamp(0, edges.shape[1] - 2))
    return low, torch.where(shared, right - 1, low + 1)


class ConditionBins(nn.Module):
    """Groups of events with similar conditions.

    Each column of the condition is cut at its quantiles or, where it has few distinct values, between these; the
    products of the columns' bins are the groups. A product that held no event in the fit belongs to the closest group.

    Args:
        n_conditions: columns of a condition; with none there is a single group.
        n_bins: bins of each column.
        n_groups: number of groups.
    """

    edges: Tensor
    group: Tensor

    def __init__(self, n_conditions: int, n_bins: int, n_groups: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        self.n_groups = n_groups
        self.register_buffer("edges", torch.full((n_conditions, n_bins - 1), math.inf, dtype=torch.float64))
        self.register_buffer("group", torch.zeros((n_bins,) * n_conditions, dtype=torch.long))

    @classmethod
    def fit(cls, condition: Tensor, n_groups: int) -> Self:
        """At most ``n_groups`` groups of the conditions ``(N, n_conditions)``.

        >>> bins = ConditionBins.fit(torch.tensor([[50.0], [100.0], [50.0], [200.0]]), 8)
        >>> bins(torch.tensor([[200.0], [60.0], [100.0]]), 3)
        tensor([2, 0, 1])
        """
        n_conditions = condition.shape[1]
        n_bins = 1
        while n_conditions and (n_bins + 1) ** n_conditions <= n_groups:
            n_bins += 1
        bins = cls(n_conditions, n_bins, 1)
        if n_conditions == 0:
            return bins
        for column, edges in zip(condition.T, bins.edges, strict=True):
            values = column.unique()
            if len(values) <= n_bins:
                edges[: len(values) - 1] = (values[1:] + values[:-1]) / 2
            else:
                levels = torch.arange(1, n_bins, dtype=torch.float64) / n_bins
                edges.copy_(quantiles(column.unsqueeze(1), levels).squeeze(1))
        occupied = torch.stack(bins._place(condition), dim=1).unique(dim=0)
        products = torch.ones_like(bins.group).nonzero()
        nearest = torch.cdist(products.to(torch.float64), occupied.to(torch.float64)).argmin(1)
        bins.group.copy_(nearest.reshape(bins.group.shape))
        bins.n_groups = len(occupied)
        return bins

    def _place(self, condition: Tensor) -> tuple[Tensor, ...]:
        columns = condition.to(self.edges).T.contiguous()
        return torch.searchsorted(self.edges, columns, right=True).unbind(0)

    def forward(self, condition: Tensor | None, n: int) -> Tensor:
        """The group of each of ``n`` events, shape ``(n,)``."""
        if condition is None:
            return torch.zeros(n, dtype=torch.long, device=self.group.device)
        return self.group[self._place(condition)]


class QuantileMarginals(nn.Module):
    """Quantile function of each feature in each group of events, linear between knots.

    The knots stand at the levels ``(1 - cos(pi k / K)) / 2``, dense in both tails.

    Args:
        n_groups: groups of events.
        n_features: columns of a sample.
        n_knots: knots of each quantile function, ``K + 1``.
    """

    levels: Tensor
    knots: Tensor

    def __init__(self, n_groups: int, n_features: int, n_knots: int) -> None:
        super().__init__()
        angle = torch.linspace(0, math.pi, n_knots, dtype=torch.float64)
        self.register_buffer("levels", (1 - angle.cos()) / 2)
        self.register_buffer("knots", self.levels.repeat(n_groups, n_features, 1))

    @classmethod
    def fit(cls, values: Tensor, group: Tensor, n_groups: int, n_knots: int) -> Self:
        """Empirical quantiles of ``values`` ``(N, n_features)`` in each group."""
        marginals = cls(n_groups, values.shape[1], n_knots)
        for g in range(n_groups):
            marginals.knots[g] = quantiles(values[group == g], marginals.levels).T
        return marginals

    def quantile(self, level: Tensor, group: Tensor) -> Tensor:
        """Values at levels in [0, 1] ``(n, n_features)`` for events of these groups ``(n,)``, same shape."""
        low = (torch.searchsorted(self.levels, level, right=True) - 1).clamp(0, len(self.levels) - 2)
        below, above = self._knots(group, low), self._knots(group, low + 1)
        return torch.lerp(below, above, (level - self.levels[low]) / (self.levels[low + 1] - self.levels[low]))

    def cdf_and_log_density(self, values: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """Cumulative distribution and log density of each feature, both ``(n, n_features)``.

        Outside the knots the log density is minus infinity.
        """
        low, high = torch.empty_like(values, dtype=torch.long), torch.empty_like(values, dtype=torch.long)
        for g in group.unique().tolist():
            low[group == g], high[group == g] = locate(self.knots[g], values[group == g])
        below, above = self._knots(group, low), self._knots(group, high)
        mass = self.levels[high] - self.levels[low]
        width = above - below
        inside = torch.where(width > 0, (values - below) / width, 0.5).clamp(0, 1)
        log_density = (mass / torch.where(width > 0, width, PEAK_WIDTH)).log()
        log_density = log_density.masked_fill((values < below) | (values > above), -math.inf)
        return self.levels[low] + inside * mass, log_density

    def _knots(self, group: Tensor, index: Tensor) -> Tensor:
        features = torch.arange(index.shape[1], device=index.device)
        return self.knots[group.unsqueeze(1), features, index]
