r"""Precision, recall, density and coverage: how generated events lie among the nearest neighbours of true ones.

Columns are divided by truth's standard deviations. The ball of an event reaches to its ``k``-th nearest neighbour in
its own sample, ``k = 5``. An event is in a ball if it is nearer to the centre than that (``<``, as in the references),
or at the centre itself: without the second part, a sample of identical events, whose balls have radius 0, would score
0 against itself.

Balls are those of the events that have a weight other than 0, whatever it is. Weights count in the shares, and a place
is covered if the weights of the events that cover it have a positive sum.

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 1000, 2, generator=rng, dtype=torch.float64)
>>> half = torch.stack([generated[:, 0].abs(), generated[:, 1]], 1)
>>> precision(truth, half).value > 0.9, recall(truth, half).value < 0.6, coverage(truth, half).value < 0.6
(True, True, True)
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.columns import chosen, spread
from qgen.metrics.pairs import parts_of_squared_distances

__all__ = [
    "coverage",
    "density",
    "nearest_distances",
    "precision",
    "recall",
    "standardised",
]

NEIGHBOUR_EVENTS = 4000
"""Most events of each sample whose neighbours are looked at."""
K = 5
FARTHEST = 1e6


def standardised(truth: Tensor, *samples: Tensor) -> list[Tensor]:
    """Samples about truth's mean in units of truth's standard deviations, at most 1e6 of them away.

    >>> standardised(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0]]))
    [tensor([[2.]])]
    """
    centre, scale = truth.mean(0), spread(truth)
    return [((x - centre) / scale).clamp_(-FARTHEST, FARTHEST) for x in samples]


def nearest_distances(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Distances of each event of ``(n, d)`` from its ``k`` nearest among ``(m, d)``, ``(n, k)``, the nearest first.

    >>> nearest_distances(torch.tensor([[0.0]]), torch.tensor([[3.0], [-1.0], [7.0]]), 2)
    tensor([[1., 3.]])
    """
    found = a.new_empty(len(a), k)
    for rows, squared in parts_of_squared_distances(a, b):
        nearest = squared.topk(k, dim=1, largest=False).indices
        exact = (a[rows, None] - b[nearest]).square().sum(2)  # without the rounding of the difference of squares
        found[rows] = exact.sort(1).values.sqrt()
    return found


def _rows(weights: tuple[Tensor, Tensor], seed: int, k: int) -> tuple[Tensor, Tensor]:
    """Rows of truth and of generated events that enter."""
    there = [x.nonzero()[:, 0] for x in weights]
    t, g = (x[chosen(len(x), NEIGHBOUR_EVENTS, seed, "neighbours", w)] for x, w in zip(there, "tg", strict=True))
    least = min(len(t), len(g))
    if not 1 <= k < least:
        raise ValueError(f"k is {k}; 1 to {least - 1} neighbours are possible in samples of {least} events")
    return t, g


def _radii(centres: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distance of each event's ``k``-th nearest other event, ``(n,)``, and which ``k + 1`` events are nearest.

    An event itself is among the latter unless others lie at the same place.
    """
    found, which = centres.new_empty(len(centres)), torch.empty(len(centres), k + 1, dtype=torch.long)
    for rows, squared in parts_of_squared_distances(centres, centres):
        squared[torch.arange(len(squared)), torch.arange(rows.start, rows.stop)] = 0
        nearest = squared.topk(k + 1, dim=1, largest=False)
        found[rows], which[rows] = nearest.values[:, -1], nearest.indices
    return found, which


def _inside(centres: Tensor, radii: Tensor, events: Tensor) -> Tensor:
    """Which events are in which balls, as 0 and 1, ``(balls, events)``."""
    found = torch.empty(len(centres), len(events), dtype=torch.float32)
    for some, squared in parts_of_squared_distances(centres, events):
        found[some] = ((squared < radii[some, None]) | (squared == 0)).float()
    return found


def _covered(centres: Tensor, events: Tensor, k: int, of_centres: Tensor, of_events: Tensor) -> Estimator:
    """The share of the events in balls, as a function of the weights of (all) centres and events, of these rows."""
    inside = _inside(centres, _radii(centres, k)[0], events)

    def estimate(of_balls: Tensor, weights: Tensor) -> Tensor:
        of_balls, weights = of_balls[of_centres], weights[of_events]
        covered = of_balls.to(inside) @ inside > 0
        return (weights * covered).sum() / weights.sum()

    return estimate


@metric(
    view="joint",
    group="fidelity",
    target=1.0,
    weights="signed",
    by_default=False,
    reference="Kynkaanniemi et al., 1904.06991; with k = 5, 2002.09797",
)
def precision(truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor], k: int = K) -> Estimator:
    r"""Share of generated events that lie in the ball of at least one true event (are they realistic).

    :math:`\frac1m \sum_j 1[\exists i: |y_j - x_i| < r_i]`, :math:`r_i` being the distance of :math:`x_i` from its
    ``k``-th nearest true event, on features and conditions in truth's standard deviations. Of each sample at most 4000
    events enter. A perfect generator stays somewhat below 1: a few new true events are in no ball either, the floor
    says how many. Blind to what is missing and to how often a place is hit; one outlier of truth has a large ball.
    In bootstrap replicas the balls keep their radii, and those of events that are not drawn are left out.
    """
    t, g = _rows(weights, seed, k)
    x, y = standardised(truth, truth[t], generated[g])
    return _covered(x, y, k, t, g)


@metric(
    view="joint",
    group="fidelity",
    target=1.0,
    weights="signed",
    by_default=False,
    reference="Kynkaanniemi et al., 1904.06991; with k = 5, 2002.09797",
)
def recall(truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor], k: int = K) -> Estimator:
    r"""Share of true events that lie in the ball of at least one generated event (is truth complete).

    :math:`\frac1n \sum_i 1[\exists j: |x_i - y_j| < s_j]`, :math:`s_j` being the distance of :math:`y_j` from its
    ``k``-th nearest generated event; otherwise as :func:`precision`. Blind to noise: events strewn widely have large
    balls and hold all of truth.
    """
    t, g = _rows(weights, seed, k)
    x, y = standardised(truth, truth[t], generated[g])
    share = _covered(y, x, k, g, t)
    return lambda w, v: share(v, w)


@metric(
    view="joint",
    group="fidelity",
    target=1.0,
    weights="signed",
    bias=0,
    by_default=False,
    reference="Naeem et al., 2002.09797",
)
def density(truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor], k: int = K) -> Estimator:
    r"""Mean number of true events' balls that a generated event lies in, over its expectation.

    :math:`\frac1m \sum_j \sum_i 1[|y_j - x_i| < r_i] / k`, balls as in :func:`precision`. The mean is 1 for every
    generator whose events lie where truth's do, :math:`\int (q / p) p`; less for a noisy one; more only as far as balls
    are wide, in many columns, for one that prefers dense regions. Where more than ``k`` other true events equal
    :math:`x_i` (empty showers), their number stands in place of ``k``, so that the mean stays 1. Weights count for the
    events and for the balls :math:`w_i 1[...]`, and the expectation is found from the weights that true events have in
    each others' balls. Blind to what is missing and to how often a place is hit.
    """
    t, g = _rows(weights, seed, k)
    x, y = standardised(truth, truth[t], generated[g])
    radii, nearest = _radii(x, k)
    own = weights[0][t]
    held, mass = torch.full_like(own, k), own[nearest].sum(1) - own
    same = radii == 0
    if same.any():
        places, which = x[same].unique(dim=0, return_inverse=True)
        held[same] = torch.bincount(which, minlength=len(places))[which].to(own) - 1
        mass[same] = torch.bincount(which, own[same], len(places))[which] - own[same]
    inside = _inside(x, radii, y)
    expected = own / held @ mass
    if expected <= 0:
        raise ValueError("density is not defined for truth: negative weights cancel all others nearby")

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        w, v = w[t], v[g]
        return ((w / held).to(inside) @ inside).to(v) @ v / v.sum() * own.sum() ** 2 / expected / w.sum()

    return estimate


@metric(
    view="joint",
    group="fidelity",
    target=1 - 2.0**-K,
    weights="signed",
    by_default=False,
    reference="Naeem et al., 2002.09797",
)
def coverage(truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor], k: int = K) -> Estimator:
    r"""Share of true events whose ball holds at least one generated event (is truth complete).

    :math:`\frac1n \sum_i 1[\exists j: |x_i - y_j| < r_i]`, balls as in :func:`precision`. A perfect generator scores
    :math:`1 - \prod_{l=1}^k (n - l) / (n + m - l)` on average, whatever the distribution: :math:`1 - 2^{-k}` for large
    samples of one size, 0.969 for ``k = 5``. Blind to noise beside what it should be, as long as all of truth is hit.
    """
    t, g = _rows(weights, seed, k)
    x, y = standardised(truth, truth[t], generated[g])
    inside = _inside(x, _radii(x, k)[0], y)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        w, v = w[t], v[g]
        return (w * (inside @ v.to(inside) > 0)).sum() / w.sum()

    return estimate
