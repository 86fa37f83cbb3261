"""What the metrics of showers and of muon events share: bins of the condition, distances of columns."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.base import MINIMUM_EVENTS, Estimator
from qgen.metrics.bins import condition_bins
from qgen.metrics.columns import spread
from qgen.metrics.distances import wasserstein

__all__ = ["column_distances", "ratio", "shared_bins"]


def ratio(sums: Tensor, by: Tensor) -> Tensor:
    """``sums / by``, and 0 where ``by`` is 0.

    >>> ratio(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    return torch.where(by == 0, 0.0, sums / torch.where(by == 0, 1.0, by))


def column_distances(truth: Tensor, generated: Tensor) -> Estimator:
    """Wasserstein-1 distance of each column, in the column's own unit, ``(d,)``."""
    in_spreads = cast(Estimator, wasserstein.build(truth, generated, 0))
    scale = spread(truth)
    return lambda w, v: in_spreads(w, v) * scale


def shared_bins(truth: Dataset, generated: Dataset, bins: int) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Bins of the first condition that hold about as many true events each, or one for each of few values.

    There are fewer of them than asked for where they would hold fewer than 20 true events each.

    Args:
        truth: fixes the edges.
        generated: with the same conditions.
        bins: their number.

    Returns:
        Labels, and as 0 and 1 which true ``(n, bins)`` and generated events ``(m, bins)`` are in each bin.

    Raises:
        ValueError: fewer than 1 bin, or one without generated events.

    >>> from qgen.data import simulate_muon
    >>> events = simulate_muon(n=100, beam_energy=[50.0, 200.0])
    >>> labels, inside, _ = shared_bins(events, events, 4)
    >>> labels, inside.sum(0).tolist()
    (('beam_energy 50 GeV', 'beam_energy 200 GeV'), [50.0, 50.0])
    """
    most = max(1, len(truth) // MINIMUM_EVENTS)
    found = condition_bins(truth, {truth.condition_features[0].name: min(bins, most)})
    inside = []
    for what, dataset in (("truth", truth), ("generated", generated)):
        parts = [one.holds(dataset) for one in found]
        for one, part in zip(found, parts, strict=True):
            if not part.any():
                raise ValueError(f"{what} has no event with {one.label}; conditions must be drawn as truth's are")
        inside.append(torch.stack(parts, 1).to(torch.float64))
    return tuple(one.label for one in found), inside[0], inside[1]
