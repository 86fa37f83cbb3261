r"""Memorisation: are generated events nearer to the training events than true ones that were held out?

The measure of nearness is the distance from the nearest training event over that from the second nearest, on features
in the training events' standard deviations. It is 0 for a copy and small for a blurred one, whatever the density: an
event in a crowded place has both neighbours near, one far out has both far. So neither a generator that prefers dense
regions nor a noisy one looks like one that copies. Where both distances are 0 (training events that are equal
themselves), the ratio is 1: such an event belongs to none of them.

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, training, fresh = torch.randn(3, 1000, 2, generator=rng, dtype=torch.float64)
>>> memorisation(truth, training[:500], training=training).value
1.0
>>> memorisation(truth, fresh, training=training).p_value > 0.01
True
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qgen.metrics.base import metric
from qgen.metrics.columns import chosen
from qgen.metrics.counting import effective_count
from qgen.metrics.neighbours import nearest_distances, standardised
from qgen.metrics.result import MetricResult

__all__ = ["copied", "memorisation", "nearness"]

MEMORY_EVENTS = 2000
"""Most true and most generated events that are looked up among the training events."""


def nearness(events: Tensor, training: Tensor) -> Tensor:
    """Distance of each event from the nearest training event over that from the second nearest, ``(n,)``, 0 to 1.

    Args:
        events: ``(n, d)``.
        training: ``(m, d)``, at least 2.

    >>> nearness(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0.0], [3.0], [5.0], [5.0]])).tolist()
    [0.0, 0.5, 1.0]
    """
    first, second = nearest_distances(events, training, 2).unbind(1)
    return torch.where(second > 0, first / torch.where(second > 0, second, 1.0), 1.0)


def copied(
    held_out: Tensor, generated: Tensor, quantile: float, weights: tuple[Tensor, Tensor] | None = None
) -> MetricResult:
    r"""The share of copies among generated events, from their nearness and that of held-out true events.

    The threshold is the ``quantile`` of the held-out events' nearness; with the shares :math:`q` of held-out and
    :math:`s` of generated events at or below it, the result is :math:`(s - q) / (1 - q)`: ``f`` if a share ``f`` are
    copies and the others as new as truth. The p-value is Fisher's exact, that of so many or more generated events below
    the threshold; with weights, by which shares are then meant, the numbers of events are their effective ones, see
    :func:`~qgen.metrics.counting.effective_count`, rounded.

    Args:
        held_out: ``(n,)``.
        generated: ``(m,)``.
        quantile: between 0 and 1.
        weights: of both, ``(n,)`` and ``(m,)``, of either sign; without them all count the same.
    """
    from scipy.stats import hypergeom

    threshold = held_out.sort().values[max(math.ceil(quantile * len(held_out)), 1) - 1]
    w, v = weights or (torch.ones_like(held_out), torch.ones_like(generated))
    q, s = (_share(x <= threshold, of) for x, of in ((held_out, w), (generated, v)))
    n, m = (round(effective_count(x)) for x in (w, v))
    if q == 1:
        return MetricResult(0.0, 1 / math.sqrt(n), p_value=1.0)
    variance = (s * (1 - s) + 0.25 / m) / m + ((1 - s) / (1 - q)) ** 2 * q * (1 - q) / n
    a, b = round(q * n), round(s * m)
    p_value = float(hypergeom.sf(b - 1, n + m, a + b, m))
    return MetricResult((s - q) / (1 - q), math.sqrt(variance) / (1 - q), p_value=min(max(p_value, 0.0), 1.0))


def _share(inside: Tensor, weights: Tensor) -> float:
    """The share of weights inside, from 0 to 1."""
    return (weights[inside].sum() / weights.sum()).clamp(0, 1).item()


@metric(
    view="samples",
    group="fidelity",
    weights="signed",
    by_default=False,
    reference="test of data copying against held-out events: Meehan et al., 2004.05675; ratio: Lowe, IJCV 60 (2004) 91",
)
def memorisation(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    training: Tensor,
    weights: tuple[Tensor, Tensor],
    quantile: float = 0.05,
) -> MetricResult:
    """Share of generated events that are copies of training events, beyond what held-out truth shows.

    0 for a generator whose events are as new as held-out true ones, 1 if all are copies, blurred ones included;
    negative if they lie between training events more often than truth does. See :func:`nearness` and :func:`copied`;
    the threshold is the 5 % quantile of truth's nearness. All training events are searched; of truth and of generated
    events at most 2000 are looked up. Weights count in the shares. Conditions do not enter: a copy under another
    condition is one too. Where true events are equal to training events themselves (empty showers, events on a grid),
    only what goes beyond counts, and nothing can be told if all are. Blind to copies that are blurred by more than
    training events lie apart.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}; it must lie between 0 and 1")
    if len(training) < 2:
        raise ValueError(f"training has {len(training)} events; at least 2 are needed")
    rows = [chosen(len(x), MEMORY_EVENTS, seed, "memory", which) for x, which in ((truth, "t"), (generated, "g"))]
    learned, x, y = standardised(training, training, truth[rows[0]], generated[rows[1]])
    return copied(nearness(x, learned), nearness(y, learned), quantile, (weights[0][rows[0]], weights[1][rows[1]]))
