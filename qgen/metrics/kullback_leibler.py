r"""Kullback-Leibler and Jensen-Shannon divergence of each feature, as published for the style-based qGAN and otherwise.

.. math:: \mathrm{KL}(p \| q) = \sum_i p_i \ln \frac{p_i}{q_i}

over bins, ``p`` of truth and ``q`` of the generated events. It has no finite value where a bin with truth is empty in
the generated histogram, and what is done there decides what it measures. :data:`kl_published` puts 1e-100 into empty
bins, so that one true event of ``n`` in such a bin costs :math:`\ln(10^{100} / n) / n`: it mostly counts the true
events in the tails to which no generated event happens to keep company. :data:`kl` cuts bins that truth fills equally
and adds half an event to each generated bin. On the same bins are :data:`kl_reverse` and the Jensen-Shannon divergence
:data:`js`, where an empty generated bin adds nothing to the sum. A bin whose weights have a negative sum is empty.

None is among the metrics that :func:`~qgen.metrics.evaluate` takes by default.

>>> rng = torch.Generator().manual_seed(0)
>>> truth, other, generated = torch.randn(3, 10_000, 1, generator=rng, dtype=torch.float64)
>>> kl(truth, other).value < 0.02 < 0.4 < kl(truth, generated + 1).value
True
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.cells import EVENTS_PER_CELL, MOST_CELLS
from qgen.metrics.counting import effective_count, histogram_shares

__all__ = ["equal_edges", "histogram_kl", "js", "kl", "kl_published", "kl_reverse"]

PUBLISHED_BINS = 99
EMPTY = 1e-100
PRIOR = 0.5
"""Events added to each bin of the divisor: Krichevsky & Trofimov, IEEE Trans. Inf. Theory 27 (1981) 199."""


def histogram_kl(truth: Tensor, generated: Tensor) -> Tensor:
    """The published divergence of two histograms, in nats: 1e-100 in empty bins, then both are normalised.

    Args:
        truth: share of the true events in each bin, ``(bins,)``; the sum is below 1 if some lie in none.
        generated: the same of the generated ones.

    >>> round(histogram_kl(torch.tensor([0.0001, 0.9999]), torch.tensor([0.0, 1.0])).item(), 4)
    0.022
    """
    p, q = (torch.where(x > 0, x.double(), EMPTY) for x in (truth, generated))
    p, q = p / p.sum(), q / q.sum()
    return (p * (p.log() - q.log())).sum()


@metric(
    view="samples",
    per_feature=True,
    by_default=False,
    bias=1,
    weights="signed",
    unit="nats",
    reference="code of 2110.06933",
)
def kl_published(truth: Tensor, generated: Tensor, seed: int, limits: Tensor) -> Estimator:
    """Kullback-Leibler divergence as published for the style-based qGAN: 99 equal bins, 1e-100 in empty ones.

    The bins cover the feature's limits or, where it has none, truth's range; events beyond are left out. At 10,000
    events it is about as large between two samples of truth as for a good generator: look at its floor. Blind to nearly
    all but empty bins.
    """
    low, high = (
        torch.where(limit.isnan(), extreme, limit)
        for limit, extreme in zip(limits.T, truth.aminmax(dim=0), strict=True)
    )
    width = torch.where(high > low, high - low, torch.ones_like(low))
    places = [
        torch.stack([_place(*one) for one in zip(x.T, low, high, width, strict=True)]) for x in (truth, generated)
    ]

    def shares(column: int, side: int, weights: Tensor) -> Tensor:
        return torch.bincount(places[side][column], weights, PUBLISHED_BINS + 1)[:-1] / weights.sum()

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        columns = range(truth.shape[1])
        return torch.stack([histogram_kl(shares(i, 0, w), shares(i, 1, v)) for i in columns])

    return estimate


def _place(x: Tensor, low: Tensor, high: Tensor, width: Tensor) -> Tensor:
    """The bin of each value ``(n,)``, the last one closed; one more for values beyond the limits."""
    place = ((x - low) / width * PUBLISHED_BINS).floor().clamp(0, PUBLISHED_BINS - 1).int()
    return place.masked_fill_((x < low) | (x > high), PUBLISHED_BINS)


@metric(
    view="samples",
    per_feature=True,
    by_default=False,
    bias=1,
    weights="signed",
    unit="nats",
    reference="2110.06933; bins and prior ours",
)
def kl(truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor]) -> Estimator:
    """Kullback-Leibler divergence of each feature on bins of equal truth content, half an event in each as prior.

    At most 128 bins hold at least 20 true events each and the outermost ones are open, so that nothing is left out (see
    :func:`~qgen.metrics.joint_cells`). With the half event no generated bin is empty: one that truth fills and the
    generator misses costs a finite amount that grows with the logarithm of the number of events, as the evidence does.
    Between two samples of truth, of ``n`` events each, it is about the number of bins over ``n``. Blind to dependence
    between features.
    """

    events = effective_count(weights[1])

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        return torch.special.xlogy(p, p / _with_prior(q, events)).sum()

    return _on_equal_bins(truth, generated, divergence)


@metric(
    view="samples",
    per_feature=True,
    by_default=False,
    bias=1,
    weights="signed",
    unit="nats",
    reference="2110.06933; bins ours",
)
def kl_reverse(truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor]) -> Estimator:
    r"""Reverse Kullback-Leibler divergence of each feature, :math:`\sum_i q_i \ln (q_i / p_i)`, on the bins of ``kl``.

    A bin without generated events adds nothing; truth fills every bin with 20 events or more, and half an event is
    added to each, so that none is empty after reweighting either. No value exceeds about the logarithm of the number of
    bins. It is large where events are generated that truth hardly has, and nearly blind to a mode of truth that is
    missed: half of truth missed costs :math:`\ln 2`. Blind to dependence between features.
    """

    events = effective_count(weights[0])

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        return torch.special.xlogy(q, q / _with_prior(p, events)).sum()

    return _on_equal_bins(truth, generated, divergence)


@metric(
    view="samples",
    per_feature=True,
    by_default=False,
    bias=1,
    weights="signed",
    unit="bits",
    reference="Lin, IEEE Trans. Inf. Theory 37 (1991) 145",
)
def js(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Jensen-Shannon divergence of each feature on the bins of ``kl``, between 0 and 1 bit.

    :math:`\frac12 \sum_i p_i \log_2 \frac{2 p_i}{p_i + q_i} + \frac12 \sum_i q_i \log_2 \frac{2 q_i}{p_i + q_i}`,
    where an empty bin adds nothing: it needs neither floor nor prior. Blind to dependence between features; that of all
    columns together is :data:`~qgen.metrics.jensen_shannon`.
    """

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        mean, one, other = torch.special.entr(torch.stack([(p + q) / 2, p, q])).sum(1)
        return (mean - (one + other) / 2).clamp_min(0) / math.log(2)

    return _on_equal_bins(truth, generated, divergence)


def equal_edges(values: Tensor) -> Tensor:
    """Inner edges of bins of about equal truth content, in increasing order; a value at an edge lies below it.

    They are those of :func:`~qgen.metrics.joint_cells` of the one column.

    Args:
        values: of truth, ``(n,)``.

    >>> equal_edges(torch.arange(80.0))
    tensor([19., 39., 59.])
    """
    ordered = values.sort().values.numpy()
    least = max(EVENTS_PER_CELL, len(ordered) // MOST_CELLS)
    edges: list[float] = []
    parts = [(0, len(ordered))]
    while parts:
        start, stop = parts.pop()
        if stop - start < 2 * least:
            continue
        part = ordered[start:stop]
        median = part[(len(part) - 1) // 2]
        below, to = (int(part.searchsorted(median, side)) for side in ("left", "right"))
        cuts = [n for n in (to, below) if least <= n <= len(part) - least]
        if cuts:
            edges.append(float(part[cuts[0] - 1]))
            parts += [(start, start + cuts[0]), (start + cuts[0], stop)]
    return torch.tensor(sorted(edges), dtype=values.dtype)


def _with_prior(shares: Tensor, n: float) -> Tensor:
    """With half an event more in each bin, of ``n`` events (weighted ones: their effective number)."""
    return (shares * n + PRIOR) / (n + PRIOR * len(shares))


def _on_equal_bins(truth: Tensor, generated: Tensor, divergence: Callable[[Tensor, Tensor], Tensor]) -> Estimator:
    """The ``divergence`` of each feature from the shares of bins."""
    edges = [equal_edges(x) for x in truth.T]
    cells = [
        tuple(torch.bucketize(x.contiguous(), inner, out_int32=True) for x in pair)
        for inner, *pair in zip(edges, truth.T, generated.T, strict=True)
    ]

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        shares = (
            [histogram_shares(torch.bincount(at, x, len(inner) + 1)) for at, x in zip(places, (w, v), strict=True)]
            for places, inner in zip(cells, edges, strict=True)
        )
        return torch.stack([divergence(p, q) for p, q in shares])

    return estimate
