r"""Rare events: how often are truth's tails hit?

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 5000, 1, generator=rng, dtype=torch.float64)
>>> rare_events(truth, generated.clamp(-2, 2)).value
0.0
>>> rare_events(truth, 1.5 * generated).value > 3
True
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.base import metric
from qgen.metrics.counting import effective_count, poisson_interval
from qgen.metrics.result import MetricResult

__all__ = ["TailCount", "rare_events", "tail_counts"]


@dataclass(frozen=True)
class TailCount:
    """How often a tail is hit.

    Args:
        name: of the tail, its feature and side.
        edge: up to where or from where on, in the feature's unit; it is the innermost true event of the tail.
        expected: number of generated events that a perfect generator would have there: truth's share times their
            number.
        found: number (sum of weights) of generated events there.
        ratio: found over expected, with an uncertainty for both counts, and Garwood's interval at 68.3 % for ``found``.
    """

    name: str
    edge: float
    expected: float
    found: float
    ratio: MetricResult


def tail_counts(
    truth: Dataset,
    generated: Dataset,
    *,
    quantile: float = 0.01,
    weights: tuple[Tensor, Tensor] | None = None,
) -> list[TailCount]:
    """How often each tail of truth is hit: below the ``quantile`` and above ``1 - quantile`` of each feature.

    Of ``n`` true events a tail holds the outermost ``quantile (n - 1)``, rounded but at least one, and is all from the
    innermost of these on: so a perfect generator hits it as often, on average. Of events equal to the next one it holds
    none, and it is left out if then nothing is left (a pixel that is 0 in more than a hundredth of the events).

    Args:
        truth: events whose features fix the edges, by their number (not their weights).
        generated: events with the same features.
        quantile: between 0 and 1/2.
        weights: of both; without them those of the datasets.

    Returns:
        The tails, and last, named ``any``, the events that are in one or more of them.

    Raises:
        ValueError: ``quantile`` out of range.

    >>> from qgen.data import simulate_muon
    >>> counts = tail_counts(simulate_muon(n=1000, seed=1), simulate_muon(n=1000, seed=2))
    >>> counts[0].name, counts[0].expected
    ('energy low', 10.0)
    """
    if not 0 < quantile < 0.5:
        raise ValueError(f"quantile is {quantile}; it must lie between 0 and 0.5")
    both = weights or (_weights(truth), _weights(generated))
    last = len(truth) - 1
    beyond = max(round(quantile * last), 1)
    counts = []
    anywhere = [torch.zeros(len(x), dtype=torch.bool) for x in (truth, generated)]
    for i, feature in enumerate(truth.features):
        columns = [x.samples[:, i] for x in (truth, generated)]
        ordered = columns[0].sort().values
        tails = {"low": ordered[ordered < ordered[beyond]][-1:], "high": ordered[ordered > ordered[last - beyond]][:1]}
        for side, edge in tails.items():
            if not len(edge):
                continue
            inside = [(x <= edge) if side == "low" else (x >= edge) for x in columns]
            anywhere = [a | b for a, b in zip(anywhere, inside, strict=True)]
            if both[0][inside[0]].sum() > 0:
                counts.append(_count(f"{feature.name} {side}", edge.item(), inside, both))
    if both[0][anywhere[0]].sum() > 0:
        counts.append(_count("any", math.nan, anywhere, both))
    return counts


def _count(name: str, edge: float, inside: list[Tensor], weights: tuple[Tensor, Tensor]) -> TailCount:
    w, v = weights
    in_truth, in_generated = w[inside[0]], v[inside[1]]
    expected = (in_truth.sum() / w.sum() * v.sum()).item()
    found, count = in_generated.sum().item(), effective_count(in_generated)
    weight = found / count if count > 0 else (v.square().sum() / v.sum()).item()  # of one event
    low, high = sorted(end * weight / expected for end in poisson_interval(count))
    ratio = found / expected
    uncertainty = math.hypot((high - low) / 2, ratio / math.sqrt(effective_count(in_truth)))
    return TailCount(name, edge, expected, found, MetricResult(ratio, uncertainty, interval=(low, high)))


def _weights(dataset: Dataset) -> Tensor:
    return dataset.samples.new_ones(len(dataset)) if dataset.weights is None else dataset.weights


@metric(
    view="events",
    group="fidelity",
    target=1.0,
    weights="signed",
    by_default=False,
    reference="Poisson intervals of Garwood, Biometrika 28 (1936) 437",
)
def rare_events(
    truth: Dataset, generated: Dataset, seed: int, weights: tuple[Tensor, Tensor], quantile: float = 0.01
) -> Mapping[str, MetricResult]:
    """How often the tails of truth are hit, over how often truth hits them: below its 1 %, above its 99 % quantile.

    1 for a perfect generator, 0 for one without tails. The value is that of events in one or more tails of the physics
    features; each tail has a row of its own, see :func:`tail_counts`, with Garwood's interval for what was found. Where
    truth has no tail at all (every feature constant) the ratio is 1. Blind to where in a tail events lie.
    """
    counts = tail_counts(truth.observables(), generated.observables(), quantile=quantile, weights=weights)
    found = {count.name: count.ratio for count in counts}
    return found | {"": found.pop("any", MetricResult(1.0, 0.0))}
