"""Distances between two samples: feature by feature, and of all columns together.

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 2000, 2, generator=rng, dtype=torch.float64)
>>> ks(truth, generated).value < 0.05, ks(truth, 2 * generated).value > 0.1
(True, True)
>>> generated[:, 1] = generated[:, 0]
>>> correlation(truth, generated).value
0.98...
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.columns import spread, varies

__all__ = ["correlation", "ks", "wasserstein"]


def _cumulative_difference(truth: Tensor, generated: Tensor) -> tuple[Tensor, Estimator]:
    """Pooled values in order ``(d, n + m)`` and the estimator of ``F - G`` at (just above) each of them."""
    pooled, order = torch.cat([truth, generated]).T.contiguous().sort(dim=1)

    def difference(w: Tensor, v: Tensor) -> Tensor:
        return torch.cat([w / w.sum(), -v / v.sum()])[order].cumsum(1)

    return pooled, difference


@metric(
    view="samples",
    per_feature=True,
    unit="standard deviations of truth",
    reference="Wasserstein distance of order 1; 1904.06240 for generated events",
    bias=0.5,
    weights="signed",
)
def wasserstein(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Wasserstein-1 distance of each feature, in units of truth's standard deviation.

    :math:`\int |F - G| dx / \sigma`, ``F`` and ``G`` being the cumulative distributions. For a feature that is constant
    in truth, in the feature's own unit.
    """
    pooled, difference = _cumulative_difference(truth, generated)
    steps = pooled.diff(dim=1) / spread(truth)[:, None]

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return (difference(w, v)[:, :-1].abs() * steps).sum(1)

    return estimate


@metric(
    view="samples",
    per_feature=True,
    reference="two-sample Kolmogorov-Smirnov statistic",
    bias=0.5,
    weights="signed",
)
def ks(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Kolmogorov-Smirnov distance of each feature, the greatest difference of the cumulative distributions.

    :math:`\max |F - G|`, between 0 and 1.
    """
    pooled, difference = _cumulative_difference(truth, generated)
    last_of_ties = torch.ones_like(pooled, dtype=torch.bool)
    last_of_ties[:, :-1] = pooled.diff(dim=1) > 0

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return (difference(w, v).abs() * last_of_ties).amax(1)

    return estimate


@metric(view="joint", min_columns=2, max_columns=1000, bias=0.5, reference="Pearson correlation matrices")
def correlation(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Mean absolute difference of Pearson correlations, over all pairs of columns, conditions included.

    A column that is constant has correlation 0 with every other: a collapsed generator is scored, not refused.
    """
    d = truth.shape[1]
    rows, columns = torch.triu_indices(d, d, 1)
    scale = spread(truth)
    centred = [(x - x.mean(0)) / scale * varies(x) for x in (truth, generated)]

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        a, b = (_pearson(x, weights) for x, weights in zip(centred, (w, v), strict=True))
        return (a - b)[rows, columns].abs().mean()

    return estimate


def _pearson(x: Tensor, w: Tensor) -> Tensor:
    """Weighted Pearson matrix ``(d, d)``; 0 where a column's spread is only that of rounding."""
    width = x.abs().amax(0)
    x = x - w @ x / w.sum()
    covariance = (x * w[:, None]).T @ x / w.sum()
    variance = covariance.diagonal()
    moves = variance > (1e-12 * width) ** 2
    scale = torch.where(moves, variance, torch.ones_like(variance)).sqrt()
    return torch.where(moves[:, None] & moves, covariance / scale / scale[:, None], torch.zeros_like(covariance))
