"""Distributions of the study ``amplification``: their events, and cells of equal true probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qgen.data import Dataset, Feature, simulate_muon
from qgen.metrics import QuantileCells
from qgen.random import derive_seed, new_generator, normal, uniform

__all__ = ["SOURCES", "Draw", "Source", "fit_two_peaks", "two_peaks_worth"]

PEAKS = (-4.0, 4.0)
"""Means of two normal peaks, each of width 1 and with half of the events."""

MUON_FEATURES = ("x", "pt", "muon_pt")
BEAM_ENERGY = 100.0

Draw = Callable[[int], Tensor]
"""Makes so many events, ``(n, d)``."""


@dataclass(frozen=True)
class Source:
    """A distribution whose truth is known.

    Args:
        events: so many of a seed.
        columns: of an event.
        cells: of so many quantiles of each column, from so many true events where they are not known exactly.
        exact: whether they are.
    """

    events: Callable[[int, int], Dataset]
    columns: int
    cells: Callable[[int, int], QuantileCells]
    exact: bool


def double_peak(n: int, seed: int) -> Dataset:
    """Events of two normal peaks.

    >>> double_peak(1000, 0).samples.abs().mean().round()
    tensor(4., dtype=torch.float64)
    """
    rng = new_generator(derive_seed(seed, "double peak"))
    side = torch.tensor(PEAKS, dtype=torch.float64)[(uniform((n,), rng, dtype=torch.float64) < 0.5).long()]
    return Dataset((side + normal((n,), rng, dtype=torch.float64))[:, None], (Feature("x"),), seed=seed)


def muons(n: int, seed: int) -> Dataset:
    """Muonic force carriers under a beam of 100 GeV: x and pT, and pT of the muon."""
    events = simulate_muon(n, BEAM_ENERGY, seed=seed).select(*MUON_FEATURES)
    return replace(events, conditions=torch.empty(0, 0), condition_features=(), fitted=None)


def _cdf(x: Tensor, share: Tensor | float, means: Tensor, widths: Tensor) -> Tensor:
    """Of two normal peaks, the first with ``share`` of the events."""
    first, second = (torch.special.ndtr((x - mean) / width) for mean, width in zip(means, widths, strict=True))
    return share * first + (1 - share) * second


def _double_peak_cells(quantiles: int, _: int) -> QuantileCells:
    """Between the quantiles of the true distribution, found by bisection."""
    levels = torch.arange(1, quantiles, dtype=torch.float64) / quantiles
    low, high = torch.full_like(levels, PEAKS[0] - 10), torch.full_like(levels, PEAKS[1] + 10)
    means, widths = torch.tensor(PEAKS, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        below = _cdf(middle, 0.5, means, widths) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return QuantileCells.between([float(edge) for edge in low])


def _muon_cells(quantiles: int, truth: int) -> QuantileCells:
    return QuantileCells.of(muons(truth, derive_seed(0, "truth")).samples, quantiles)


SOURCES: dict[str, Source] = {
    "double peak": Source(double_peak, 1, _double_peak_cells, exact=True),
    "muon events": Source(muons, len(MUON_FEATURES), _muon_cells, exact=False),
}
"""By name."""


def fit_two_peaks(events: Tensor, seed: int) -> Draw:
    """What two normal peaks, fitted to these events by maximum likelihood, give."""
    from sklearn.mixture import GaussianMixture

    start = [[mean] for mean in PEAKS]
    found = GaussianMixture(2, means_init=start, reg_covar=0.0, random_state=0).fit(events.numpy())
    share = float(found.weights_[1])
    means, widths = torch.from_numpy(found.means_[:, 0]), torch.from_numpy(found.covariances_[:, 0, 0]).sqrt()

    def draw(size: int) -> Tensor:
        rng = new_generator(derive_seed(seed, size))
        side = (uniform((size,), rng, dtype=torch.float64) < share).long()
        return (means[side] + widths[side] * normal((size,), rng, dtype=torch.float64))[:, None]

    return draw


def two_peaks_worth(cells: QuantileCells, n: int) -> float:
    """What a fit of two peaks to ``n`` events is worth by propagation of errors to the shares of the cells.

    The peaks are so far apart that each is fitted as if it were alone.
    """
    edges = cells.edges[0][0]

    def shares(p: Tensor) -> Tensor:
        return torch.cat([p.new_zeros(1), _cdf(edges, p[0], p[1:3], p[3:]), p.new_ones(1)]).diff()

    true = torch.tensor([0.5, *PEAKS, 1.0, 1.0], dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(shares, true)
    variances = torch.tensor([1 / 4, 2, 2, 1, 1], dtype=torch.float64) / n  # of share, means and widths
    return cells.worth(float((slopes.square() * variances).sum(1).mean()))
