"""Metrics on counts: divergences on joint cells, separation power on histograms.

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 2000, 2, generator=rng, dtype=torch.float64)
>>> total_variation(truth, generated + 1).value > 0.3
True
>>> round(separation(truth, generated + 100).value, 6)
1.0
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.columns import spread
from qgen.metrics.counting import histogram_shares

__all__ = ["jensen_shannon", "joint_cells", "separation", "total_variation"]

EVENTS_PER_CELL = 20
MOST_CELLS = 128
N_BINS = 50


def joint_cells(truth: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
    """Cells of about equal truth content, in any number of columns.

    Truth is cut in two at the median of one column, each part again, and so on while both parts keep at least
    ``max(20, n / 128)`` truth events. The column to be cut is the one in which the part's events lie widest: greatest
    mean distance from the median, in truth's standard deviations. Where half or more of the values are equal, the
    edge lies beside them.

    Args:
        truth: ``(n, d)``, which fixes the edges.
        generated: ``(m, d)``.

    Returns:
        The cell number of each truth event ``(n,)`` and of each generated one ``(m,)``.

    >>> x = torch.arange(80.0)[:, None]
    >>> cells, _ = joint_cells(x, x)
    >>> cells.bincount().tolist()
    [20, 20, 20, 20]
    """
    scale = spread(truth)
    least = max(EVENTS_PER_CELL, len(truth) // MOST_CELLS)
    labels = torch.zeros(len(truth), dtype=torch.long), torch.zeros(len(generated), dtype=torch.long)
    parts = [(torch.arange(len(truth)), torch.arange(len(generated)))]
    n_cells = 0
    while parts:
        part = parts.pop()
        cut = _cut(truth[part[0]], scale, least)
        if cut is None:
            for label, rows in zip(labels, part, strict=True):
                label[rows] = n_cells
            n_cells += 1
            continue
        column, edge = cut
        below = [x[rows, column] <= edge for x, rows in zip((truth, generated), part, strict=True)]
        for side in (below, [~mask for mask in below]):
            parts.append((part[0][side[0]], part[1][side[1]]))
    return labels


def _cut(x: Tensor, scale: Tensor, least: int) -> tuple[int, Tensor] | None:
    """Column and upper edge of the lower part, ``None`` if no column leaves ``least`` events on both sides."""
    if len(x) < 2 * least:
        return None
    median = x.median(0).values
    width = (x - median).abs().mean(0) / scale
    for column in width.argsort(descending=True, stable=True).tolist():
        values, edge = x[:, column], median[column]
        smaller = values[values < edge]
        for candidate in (edge, *([smaller.max()] if len(smaller) else [])):
            n_below = int((values <= candidate).sum())
            if least <= n_below <= len(x) - least:
                return column, candidate
    return None


def _cell_masses(truth: Tensor, generated: Tensor) -> Estimator:
    """The estimator of the two samples' probabilities in the joint cells, shape ``(2, cells)``."""
    labels = joint_cells(truth, generated)
    n_cells = int(labels[0].max()) + 1

    def masses(w: Tensor, v: Tensor) -> Tensor:
        return torch.stack([torch.bincount(c, x, n_cells) / x.sum() for c, x in zip(labels, (w, v), strict=True)])

    return masses


@metric(view="joint", bias=1, unit="bits", weights="signed", reference="Lin, IEEE Trans. Inf. Theory 37 (1991) 145")
def jensen_shannon(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Jensen-Shannon divergence on joint cells of features and conditions, between 0 and 1 bit.

    :math:`\frac12 \sum_i p_i \log_2 \frac{2 p_i}{p_i + q_i} + \frac12 \sum_i q_i \log_2 \frac{2 q_i}{p_i + q_i}`, where
    an empty cell adds nothing. A cell whose weights have a negative sum counts as empty. For the cells see
    :func:`joint_cells`. Blind to structure within a cell, and in many columns to those that are never cut.
    """
    masses = _cell_masses(truth, generated)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        p = histogram_shares(masses(w, v))
        entropy = torch.special.entr(torch.cat([p.mean(0, keepdim=True), p])).sum(1)
        return (entropy[0] - (entropy[1] + entropy[2]) / 2).clamp_min(0) / math.log(2)

    return estimate


@metric(view="joint", bias=0.5, weights="signed", reference="total variation distance")
def total_variation(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Total variation on joint cells of features and conditions, between 0 and 1.

    :math:`\frac12 \sum_i |p_i - q_i|`, the greatest difference in probability that any union of cells shows. For the
    cells see :func:`joint_cells`. Blind to structure within a cell, and in many columns to those that are never cut.
    """
    masses = _cell_masses(truth, generated)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        p, q = masses(w, v)
        return (p - q).abs().sum() / 2

    return estimate


@metric(
    view="observables",
    per_feature=True,
    bias=1,
    group="physics",
    weights="signed",
    batched=True,
    reference="CaloChallenge, 2410.21611",
)
def separation(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Separation power of the histograms of each physics feature, between 0 and 1.

    :math:`\frac12 \sum_i (p_i - q_i)^2 / (p_i + q_i + 10^{-16})`. Histograms of 50 equal bins from truth's 0.5 % to its
    99.5 % quantile (from its smallest to its largest value where these agree); on either side one bin for truth's tail
    and one for all beyond truth's last event. Nothing is dropped, and samples that do not overlap have separation 1.
    A bin whose weights have a negative sum counts as empty. Blind to dependence between features, and to where beyond
    truth's range or how far apart separate peaks lie.
    """

    def shares(bins: Tensor, weights: Tensor) -> Tensor:
        empty = weights.new_zeros(*weights.shape[:-1], N_BINS + 4)
        return histogram_shares(empty.scatter_add_(-1, bins.expand_as(weights), weights))

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        found = []
        for true, other in zip(truth.T, generated.T, strict=True):
            bins = _histogram_bins(true)
            p, q = shares(bins(true), w), shares(bins(other), v)
            difference = p - q
            difference.masked_fill_(difference.abs() < 1e-12, 0)  # of sums in another order
            found.append((difference**2 / (p + q + 1e-16)).sum(-1) / 2)
        return torch.stack(found, -1)

    return estimate


def _histogram_bins(truth: Tensor) -> Callable[[Tensor], Tensor]:
    """Where values lie among the bins of :func:`separation` that the true values ``(n,)`` fix."""
    ordered = truth.sort().values
    last = len(truth) - 1
    least, low, high, most = (ordered[round(q * last)] for q in (0.0, 0.005, 0.995, 1.0))
    if high <= low:
        low, high = least, most
    width = (high - low) / N_BINS if high > low else torch.ones_like(low) / N_BINS

    def bins(x: Tensor) -> Tensor:
        inside = ((x - low) / width).floor().clamp(-1, N_BINS).long()
        return inside + 2 - (x < least).long() + (x > most).long()

    return bins
