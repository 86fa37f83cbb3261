"""Counts and shares of weighted events, with uncertainties that stay honest where nothing was counted."""

from __future__ import annotations

import math

from torch import Tensor

from qgen.metrics.result import MetricResult

__all__ = ["ONE_SIGMA", "effective_count", "histogram_shares", "poisson_interval", "share"]

ONE_SIGMA = math.erf(0.5**0.5)
"""Probability of one standard deviation of a normal distribution, the confidence of intervals."""


def poisson_interval(count: float, confidence: float = ONE_SIGMA) -> tuple[float, float]:
    """Garwood's central interval of the mean of a Poisson number that came out as ``count``.

    It covers at least with its ``confidence``. A count that is no whole number is that of weighted events, see
    :func:`effective_count`. Source: Garwood, Biometrika 28 (1936) 437.

    >>> [round(end, 3) for end in poisson_interval(0)]
    [0.0, 1.841]
    >>> [round(end, 3) for end in poisson_interval(4)]
    [2.086, 7.163]
    """
    from scipy.stats import gamma

    tail = (1 - confidence) / 2
    return float(gamma.ppf(tail, count)) if count > 0 else 0.0, float(gamma.ppf(1 - tail, count + 1))


def effective_count(weights: Tensor) -> float:
    """Events without weights that would be known as well: ``(sum of w)^2 / sum of w^2``; 0 without events.

    >>> import torch
    >>> effective_count(torch.tensor([2.0, 2.0, 2.0]))
    3.0
    """
    squares = weights.square().sum().item()
    return weights.sum().item() ** 2 / squares if squares > 0 else 0.0


def histogram_shares(counts: Tensor) -> Tensor:
    """Shares of the bins, of sum 1; a bin whose weights have a negative sum counts as empty.

    If no bin is filled, all are 0.

    Args:
        counts: sums of the events' weights, ``(..., bins)``.

    >>> import torch
    >>> histogram_shares(torch.tensor([3.0, 1.0, -0.5])).tolist()
    [0.75, 0.25, 0.0]
    """
    filled = counts.clamp_min(0)
    total = filled.sum(-1, keepdim=True)
    return filled / total.masked_fill(total == 0, 1)


def share(inside: Tensor, weights: Tensor) -> MetricResult:
    """The share of events ``inside`` with Wilson's interval of one standard deviation, never of width zero.

    Of the ``n`` events that have weights :func:`effective_count` counts. Source: Wilson, J. Am. Stat. Assoc. 22 (1927)
    209.

    Args:
        inside: ``(N,)``, which events count.
        weights: ``(N,)``, of either sign.

    >>> import torch
    >>> found = share(torch.tensor([True, False, False, False]), torch.ones(4))
    >>> print(found, [round(end, 3) for end in found.interval])
    0.25 ± 0.2 [0.1, 0.5]
    """
    p = (weights[inside].sum() / weights.sum()).item()
    n = effective_count(weights)
    middle = (min(max(p, 0.0), 1.0) + 0.5 / n) / (1 + 1 / n)
    variance = max(weights[inside].square().sum().item() * (1 - 2 * p) + p * p * weights.square().sum().item(), 0.0)
    half = math.sqrt(variance / weights.sum().item() ** 2 + 0.25 / n**2) / (1 + 1 / n)
    return MetricResult(p, half, interval=(min(middle - half, p), max(middle + half, p)))
