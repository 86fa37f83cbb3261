r"""Kullback-Leibler divergence of each feature, as published for the style-based qGAN and as it should be.

.. math:: \mathrm{KL}(p \| q) = \sum_i p_i \ln \frac{p_i}{q_i}

over bins, ``p`` of truth and ``q`` of the generated events. It has no finite value where a bin with truth is empty in
the generated histogram, and what is done there decides what it measures. :data:`kl_published` puts 1e-100 into empty
bins, so that one true event of ``n`` in such a bin costs :math:`\ln(10^{100} / n) / n`: it mostly counts the true
events in the tails to which no generated event happens to keep company. :data:`kl` cuts bins that truth fills equally
and adds half an event to each generated bin.

Neither is among the metrics that :func:`~qgen.metrics.evaluate` takes by default.

>>> rng = torch.Generator().manual_seed(0)
>>> truth, other, generated = torch.randn(3, 10_000, 1, generator=rng, dtype=torch.float64)
>>> kl(truth, other).value < 0.02 < 0.4 < kl(truth, generated + 1).value
True
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.cells import joint_cells

__all__ = ["histogram_kl", "kl", "kl_published"]

PUBLISHED_BINS = 99
EMPTY = 1e-100
PRIOR = 0.5
"""Events added to each generated bin: the prior of Krichevsky and Trofimov, IEEE Trans. Inf. Theory 27 (1981) 199."""


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


@metric(view="samples", per_feature=True, by_default=False, bias=1, unit="nats", reference="code of 2110.06933")
def kl_published(truth: Tensor, generated: Tensor, seed: int, limits: Tensor) -> Estimator:
    """Kullback-Leibler divergence as published for the style-based qGAN: 99 equal bins, 1e-100 in empty ones.

    The bins cover the feature's limits or, where it has none, truth's range; events beyond are left out. At 10,000
    events it is about as large between two samples of truth as for a good generator: look at its floor.
    """
    low, high = (
        torch.where(limit.isnan(), extreme, limit)
        for limit, extreme in zip(limits.T, truth.aminmax(dim=0), strict=True)
    )
    width = torch.where(high > low, high - low, torch.ones_like(low))
    sides = []
    for x in (truth, generated):
        place = ((x - low) / width * PUBLISHED_BINS).floor().clamp(-1, PUBLISHED_BINS).long()
        place[x == high] = PUBLISHED_BINS - 1  # the last bin is closed
        sides.append((place.clamp(0, PUBLISHED_BINS - 1), ((x >= low) & (x <= high)).double()))

    def shares(column: int, side: int, weights: Tensor) -> Tensor:
        place, inside = (part[:, column] for part in sides[side])
        return torch.bincount(place, weights * inside, PUBLISHED_BINS) / weights.sum()

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        columns = range(truth.shape[1])
        return torch.stack([histogram_kl(shares(i, 0, w), shares(i, 1, v)) for i in columns])

    return estimate


@metric(
    view="samples", per_feature=True, by_default=False, bias=1, unit="nats", reference="2110.06933; bins and prior ours"
)
def kl(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Kullback-Leibler divergence of each feature on bins of equal truth content, half an event in each as prior.

    At most 128 bins hold at least 20 true events each and the outermost ones are open, so that nothing is left out (see
    :func:`~qgen.metrics.joint_cells`). With the half event no generated bin is empty: one that truth fills and the
    generator misses costs a finite amount that grows with the logarithm of the number of events, as the evidence does.
    Between two samples of truth, of ``n`` events each, it is about the number of bins over ``n``.
    """
    cells = [joint_cells(a[:, None], b[:, None]) for a, b in zip(truth.T, generated.T, strict=True)]

    def divergence(places: tuple[Tensor, Tensor], w: Tensor, v: Tensor) -> Tensor:
        n_cells = int(places[0].max()) + 1
        p = torch.bincount(places[0], w, n_cells) / w.sum()
        q = (torch.bincount(places[1], v, n_cells) + PRIOR) / (v.sum() + PRIOR * n_cells)
        return torch.special.xlogy(p, p / q).sum()

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return torch.stack([divergence(places, w, v) for places in cells])

    return estimate
