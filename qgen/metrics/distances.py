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

from collections.abc import Callable

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.columns import spread, varies

__all__ = ["correlation", "ks", "kuiper", "pearson", "wasserstein"]

ROWS = 8192
"""Events at a time, where more would need memory."""


def _column_by_column(truth: Tensor, generated: Tensor, distance: Callable[[Tensor, Tensor], Tensor]) -> Estimator:
    """The estimator of a distance between the cumulative distributions ``F`` and ``G`` of each column.

    ``distance`` is given a column's pooled values in order ``(n + m,)`` and ``F - G`` at (just above) each of them,
    ``(..., n + m)``, which it may overwrite. Columns are sorted one after the other for all sets of weights and nothing
    of them is kept.
    """

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        steps = torch.cat([w / w.sum(-1, keepdim=True), -v / v.sum(-1, keepdim=True)], -1)
        difference, found = torch.empty_like(steps), []
        for columns in zip(truth.T, generated.T, strict=True):
            pooled, order = torch.cat(columns).sort()
            torch.gather(steps, -1, order.expand_as(steps), out=difference)
            found.append(distance(pooled, difference.cumsum_(-1)))
        return torch.stack(found, -1)

    return estimate


@metric(
    view="samples",
    per_feature=True,
    unit="standard deviations of truth",
    reference="Wasserstein distance of order 1",
    bias=0.5,
    weights="signed",
    batched=True,
)
def wasserstein(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Wasserstein-1 distance of each feature, in units of truth's standard deviation.

    :math:`\int |F - G| dx / \sigma`, ``F`` and ``G`` being the cumulative distributions. For a feature that is constant
    in truth, in the feature's own unit. Blind to correlations between features.
    """
    scale = spread(truth)

    def distance(pooled: Tensor, difference: Tensor) -> Tensor:
        return difference.abs_()[..., :-1] @ pooled.diff()

    in_units = _column_by_column(truth, generated, distance)
    return lambda w, v: in_units(w, v) / scale


@metric(
    view="samples",
    per_feature=True,
    reference="two-sample Kolmogorov-Smirnov statistic",
    bias=0.5,
    weights="signed",
    batched=True,
)
def ks(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Kolmogorov-Smirnov distance of each feature, the greatest difference of the cumulative distributions.

    :math:`\max |F - G|`, between 0 and 1. Blind to correlations between features, and nearly so to tails.
    """

    def distance(pooled: Tensor, difference: Tensor) -> Tensor:
        return difference.abs_().mul_(_last_of_ties(pooled)).amax(-1)

    return _column_by_column(truth, generated, distance)


@metric(
    view="samples",
    per_feature=True,
    by_default=False,
    bias=0.5,
    weights="signed",
    batched=True,
    reference="Kuiper, Proc. K. Ned. Akad. Wet. A 63 (1960) 38",
)
def kuiper(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Kuiper's distance of each feature: the greatest excesses of either cumulative distribution, added.

    :math:`\max (F - G) + \max (G - F)`, between 0 and 1. As sensitive in the tails as in the middle, where ``ks`` is at
    its best; on a circle (an azimuth) it does not depend on where the circle is cut. Blind to how far apart values are,
    and to correlations between features.
    """

    def distance(pooled: Tensor, difference: Tensor) -> Tensor:
        difference.mul_(_last_of_ties(pooled))
        return difference.amax(-1).clamp_min(0) - difference.amin(-1).clamp_max(0)

    return _column_by_column(truth, generated, distance)


def _last_of_ties(pooled: Tensor) -> Tensor:
    """1 where the next value is greater, 0 elsewhere, ``(n,)``."""
    return torch.cat([pooled.diff() > 0, torch.tensor([True])]).to(pooled)


@metric(
    view="joint",
    min_columns=2,
    max_columns=1000,
    bias=0.5,
    weights="signed",
    reference="Pearson correlation matrices",
)
def correlation(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Mean absolute difference of Pearson correlations, over all pairs of columns, conditions included.

    A column that is constant, or whose variance negative weights cancel, has correlation 0 with every other: a
    collapsed generator is scored, not refused. Blind to the distribution of any single column, and to dependence that
    is not linear.
    """
    d = truth.shape[1]
    rows, columns = torch.triu_indices(d, d, 1)
    scale = spread(truth)
    centred = [(x - x.mean(0)).div_(scale).mul_(varies(x)) for x in (truth, generated)]
    widths = [x.abs().amax(0) for x in centred]

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        a, b = (pearson(*each) for each in zip(centred, widths, (w, v), strict=True))
        return (a - b)[rows, columns].abs().mean()

    return estimate


def pearson(x: Tensor, width: Tensor, w: Tensor) -> Tensor:
    """Weighted Pearson matrix ``(d, d)``; 0 where a column's spread is only that of rounding.

    Args:
        x: ``(n, d)``.
        width: largest magnitude of each column.
        w: weights ``(n,)``.
    """
    w = w / w.sum()
    mean = w @ x
    covariance = torch.zeros(2 * mean.shape, dtype=x.dtype)
    for part, weights in zip(x.split(ROWS), w.split(ROWS), strict=True):
        moved = part - mean
        covariance.addmm_((moved * weights[:, None]).T, moved)
    variance = covariance.diagonal()
    moves = variance > (1e-12 * width) ** 2
    scale = torch.where(moves, variance, torch.ones_like(variance)).sqrt()
    return torch.where(moves[:, None] & moves, covariance / scale / scale[:, None], torch.zeros_like(covariance))
