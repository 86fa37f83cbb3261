"""Events outside: beyond truth's smallest and largest values, or beyond what a feature's definition allows.

>>> import torch
>>> truth = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
>>> generated = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
>>> print(outside(truth, generated))
0.5 ± 0.05
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.base import metric
from qgen.metrics.counting import share
from qgen.metrics.result import MetricResult

__all__ = ["outside", "outside_limits"]


def _shares(generated: Dataset, beyond: Tensor, weights: Tensor, which: Tensor) -> Mapping[str, MetricResult]:
    """The share of events beyond in each of the features, and in any of them."""
    found = {generated.features[i].name: share(beyond[:, i], weights) for i in which.tolist()}
    return {**found, "": share(beyond.any(1), weights)}


@metric(view="events", group="fidelity", weights="signed", by_default=False, reference="events beyond truth's range")
def outside(
    truth: Dataset, generated: Dataset, seed: int, weights: tuple[Tensor, Tensor]
) -> Mapping[str, MetricResult]:
    """Share of generated events outside truth's range in at least one feature, and in each feature.

    The range of a feature is from truth's smallest to its largest value. Of a perfect generator with as many events as
    truth's ``n``, each feature has :math:`2 / (n + 1)` outside on average, which the floor shows. With Wilson's
    interval. Blind to all that happens inside the range.
    """
    low, high = truth.samples.amin(0), truth.samples.amax(0)
    beyond = (generated.samples < low) | (generated.samples > high)
    return _shares(generated, beyond, weights[1], torch.arange(truth.n_features))


def _no_limits(dataset: Dataset) -> str:
    return "" if any(f.limits is not None for f in dataset.features) else "features that have limits"


@metric(
    view="events",
    group="fidelity",
    weights="signed",
    by_default=False,
    needs=_no_limits,
    reference="events beyond the limits of a feature's definition",
)
def outside_limits(
    truth: Dataset, generated: Dataset, seed: int, limits: Tensor, weights: tuple[Tensor, Tensor]
) -> Mapping[str, MetricResult]:
    """Share of generated events outside the range that features' definitions fix, in any feature and in each.

    Only features with limits count (:class:`qgen.data.dataset.Feature`): those of a histogram of fixed range, which
    leaves such events out. Truth may have some too, which the floor shows. With Wilson's interval. Blind to all that
    happens within the limits.
    """
    known = limits.isfinite().all(1)
    low, high = limits.nan_to_num().T
    beyond = ((generated.samples < low) | (generated.samples > high)) & known
    return _shares(generated, beyond, weights[1], known.nonzero()[:, 0])
