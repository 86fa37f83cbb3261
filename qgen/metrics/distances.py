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
from qgen.random import derive_seed, new_generator

__all__ = ["correlation", "ks", "mmd", "wasserstein"]

KERNEL_EVENTS = 2000
"""Most events of each sample that enter kernel matrices."""


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


@metric(view="joint", bias=0, weights="signed", reference="Gretton et al., JMLR 13 (2012) 723")
def mmd(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Squared maximum mean discrepancy, unbiased, on features and conditions in truth's standard deviations.

    The kernel is the mean of four Gaussians :math:`\exp(-|x - y|^2 / 2 s^2)`, ``s`` being 1/4, 1/2, 1 and 2 times the
    median distance between different truth events (1 if all are equal). Of each sample at most 2000 events enter,
    drawn by ``seed``. Unbiased: no event meets itself, so the value fluctuates about 0 for a perfect generator and may
    be negative.
    """
    scale = spread(truth)
    a_rows, b_rows = _choose(len(truth), seed, "truth"), _choose(len(generated), seed, "generated")
    a, b = truth[a_rows] / scale, generated[b_rows] / scale
    centre = a.mean(0)
    a, b = a - centre, b - centre
    distances = _squared_distances(a, a)
    apart = distances[distances > 0]
    bandwidth = apart.median() if len(apart) else distances.new_ones(())
    aa, ab, bb = (_kernel(d, bandwidth) for d in (distances, _squared_distances(a, b), _squared_distances(b, b)))

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        w, v = w[a_rows], v[b_rows]
        return _mean_of_pairs(aa, w) + _mean_of_pairs(bb, v) - 2 * (w @ ab @ v) / (w.sum() * v.sum())

    return estimate


def _choose(n: int, seed: int, which: str) -> Tensor:
    if n <= KERNEL_EVENTS:
        return torch.arange(n)
    return torch.randperm(n, generator=new_generator(derive_seed(seed, "mmd", which)))[:KERNEL_EVENTS]


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)
    squared = squares - 2 * a @ b.T
    return squared.masked_fill_(squared <= 1e-12 * squares, 0)


def _kernel(squared: Tensor, bandwidth: Tensor) -> Tensor:
    """Mean of Gaussians at 2, 1, 1/2, 1/4 of the median (``bandwidth`` is its square), each the last to the 4th."""
    gaussian = (squared / (-8 * bandwidth)).exp_()
    total = gaussian.clone()
    for _ in range(3):
        total += gaussian.square_().square_()
    return total / 4


def _mean_of_pairs(kernel: Tensor, w: Tensor) -> Tensor:
    """Weighted mean of ``kernel`` over pairs of different events."""
    squares = w * w
    return (w @ kernel @ w - squares @ kernel.diagonal()) / (w.sum() ** 2 - squares.sum())
