r"""Separation powers of the CaloChallenge, by its own definitions, and the share of events that these leave out.

The definitions are those of the challenge's evaluation code (`2410.21611 <https://arxiv.org/abs/2410.21611>`_,
github.com/CaloChallenge/homepage). Voxels below a threshold are set to 0, features of
:func:`~qgen.data.voxels.shower_features` are filled in histograms of fixed ranges, and

.. math:: S = \frac12 \sum_i \frac{(p_i - q_i)^2}{p_i + q_i + 10^{-16}},

:math:`p` and :math:`q` being the histograms of truth and generated events, each divided by its own sum. What lies
outside the range thereby drops out unseen: :data:`calochallenge_dropped` tells how much that is.

Ours, where the challenge's code has no number: a histogram in which one sample has nothing counts as 1, as 0 if neither
has anything; and a bin whose weights have a negative sum counts as empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.voxels import layers_of, shower_features, voxel_counts
from qgen.metrics.base import Named, metric
from qgen.metrics.counting import histogram_shares
from qgen.metrics.lacks import lacks_showers

__all__ = ["calochallenge_dropped", "calochallenge_separation"]

SILICON_THRESHOLD = 0.5e-3
"""Least energy in the sensitive material of a voxel of data sets 2 and 3, MeV."""
SAMPLING_FRACTION = 0.033
"""By which the energies of data sets 2 and 3 are divided."""
ENERGIES = 2.0 ** np.arange(8, 23)
"""Incident energies of data set 1, MeV."""

REFERENCE = "CaloChallenge, 2410.21611, code of its evaluation"

Counts = Callable[[Tensor], Tensor]
"""Events' weights ``(n,)`` to the sums of weights in the bins and, last, outside."""


@metric(
    view="events",
    group="physics",
    bias=1,
    weights="signed",
    reference=REFERENCE,
    by_default=False,
    needs=lacks_showers,
)
def calochallenge_separation(
    truth: CalorimeterDataset,
    generated: CalorimeterDataset,
    seed: int,
    threshold: float = 0.0,
    sampling_fraction: float = 0.0,
) -> Named:
    r"""Separation power of every high-level feature of the CaloChallenge, between 0 and 1.

    Features, numbers of bins and ranges are the challenge's: the response on 100 bins from 0.5 to 1.5; energies of
    layers on 39 and of voxels on 49 bins equal in the logarithm, from the threshold to truth's largest value; centres
    and widths along x, y (its eta and phi, in mm) and r on 100 bins; sparsity on 20; for photons and pions the response
    at each of the 15 incident energies on 20. A binning's particle says which data set's ranges and threshold count:
    1 MeV for ``photon`` and ``pion``, 15.15 keV for all others. Other images have no ranges there: theirs are the
    extent of their layers. It is blind to correlations of features, and to whatever lies outside the ranges.

    Args:
        threshold: energy (MeV, as in the file) below which a voxel is empty; 0 is the challenge's, for other images
            0.5 keV or their own threshold if that is higher.
        sampling_fraction: by which all energies are divided; 0 is the challenge's 1, for other images truth's mean
            response.
    """
    histograms = list(_histograms(truth, generated, _Conventions.of(truth, threshold, sampling_fraction)))

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return torch.stack([_separation(h.truth(w), h.generated(v)) for h in histograms])

    return Named(tuple(h.name for h in histograms), estimate)


@metric(
    view="events",
    group="physics",
    bias=0,
    weights="signed",
    unit="share of the entries",
    reference=REFERENCE,
    by_default=False,
    needs=lacks_showers,
)
def calochallenge_dropped(
    truth: CalorimeterDataset,
    generated: CalorimeterDataset,
    seed: int,
    threshold: float = 0.0,
    sampling_fraction: float = 0.0,
) -> Named:
    """Share of generated entries outside the histograms of ``calochallenge_separation``, which it does not see.

    The floor is the same share of true entries: a good generator drops what truth drops. Empty voxels and empty layers
    lie below the first bin of their spectra. Options are those of ``calochallenge_separation``. It is blind to all that
    lies inside the ranges.
    """
    histograms = list(_histograms(truth, generated, _Conventions.of(truth, threshold, sampling_fraction)))

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        counts = (h.generated(v) for h in histograms)
        return torch.stack([c[-1] / torch.where(c.sum() == 0, 1.0, c.sum()) for c in counts])

    return Named(tuple(h.name for h in histograms), estimate)


def _separation(counts: Tensor, others: Tensor) -> Tensor:
    p, q = (_shares(c[:-1]) for c in (counts, others))
    return ((p - q) ** 2 / (p + q + 1e-16)).sum() / 2


def _shares(counts: Tensor) -> Tensor:
    """Divided by their sum; one more for "nothing at all", so that an empty histogram has a sum as well."""
    shares = histogram_shares(counts)
    return torch.cat([shares, (shares.sum() == 0).to(counts)[None]])


@dataclass(frozen=True)
class _Conventions:
    """Threshold (MeV, before scaling), factor on energies, and for which of the challenge's particles."""

    threshold: float
    scale: float
    particle: str

    @classmethod
    def of(cls, truth: CalorimeterDataset, threshold: float, sampling_fraction: float) -> _Conventions:
        for name, value in (("threshold", threshold), ("sampling_fraction", sampling_fraction)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; it must be finite and not negative")
        binning = truth.geometry.binning
        particle = "" if binning is None else binning.particle or "electron"
        if not particle:
            threshold = threshold or max(truth.threshold, SILICON_THRESHOLD)
            response = (truth.samples.sum(1) / truth.incident_energy).mean().item()
            fraction = sampling_fraction or (response if response > 0 else 1.0)
        else:
            threshold = threshold or (1.0 if particle in ("photon", "pion") else SILICON_THRESHOLD / SAMPLING_FRACTION)
            fraction = sampling_fraction or 1.0
        return cls(threshold, 1 / fraction, particle)

    def limits(self, quantity: str, axis: str, layer: int, extent: tuple[float, float]) -> tuple[float, float]:
        """Range of a centre or width along an axis."""
        wide = layer in (12, 13)
        if not self.particle:
            return extent if quantity == "centre" else (0.0, (extent[1] - extent[0]) / 2)
        if self.particle not in ("photon", "pion"):
            if axis == "r":
                return (0.0, 42.0) if quantity == "centre" else (0.0, 20.0)
            return (-30.0, 30.0) if quantity == "centre" else (0.0, 30.0)
        if axis == "r":
            return (0.0, 1500.0) if wide or layer == 14 else (0.0, 500.0)
        if quantity == "centre":
            return (-500.0, 500.0) if wide else (-100.0, 100.0)
        return (0.0, 400.0) if wide else (0.0, 100.0)


@dataclass(frozen=True)
class _Histogram:
    name: str
    truth: Counts
    generated: Counts


def _histograms(
    truth: CalorimeterDataset, generated: CalorimeterDataset, conventions: _Conventions
) -> Iterator[_Histogram]:
    names, columns = [], []
    for dataset in (truth, generated):
        features, values = shower_features(dataset, threshold=conventions.threshold, scale=conventions.scale)
        names = [f.name for f in features]
        columns.append(dict(zip(names, values.unbind(1), strict=True)))
    true, found = columns
    least = conventions.threshold * conventions.scale
    layers = {layer.number: layer for layer in layers_of(truth)}
    for name in names:
        if name == "response":
            edges = np.linspace(0.5, 1.5, 101)
        elif name.startswith("energy"):
            edges = _log_edges(least, true[name].max().item(), 40)
        elif name.startswith("sparsity"):
            edges = np.linspace(0.0, 1.0, 21)
        else:
            quantity, axis, _, number = name.split("_")
            extent = layers[int(number)].limits[axis]
            edges = np.linspace(*conventions.limits(quantity, axis, int(number), extent), 101)
        yield _Histogram(name, _events(true[name], edges), _events(found[name], edges))
    if conventions.particle in ("photon", "pion"):
        yield from _responses(truth, generated, true["response"], found["response"], conventions.particle)
    edges = _log_edges(least, truth.samples.max().item() * conventions.scale, 50)
    yield _Histogram("voxel_energy", *(_voxels(x, edges, conventions) for x in (truth, generated)))


def _responses(
    truth: CalorimeterDataset, generated: CalorimeterDataset, true: Tensor, found: Tensor, particle: str
) -> Iterator[_Histogram]:
    for i, energy in enumerate(ENERGIES):
        narrow = particle == "photon" and i > 3
        edges = np.linspace(0.9, 1.1, 21) if narrow else np.linspace(0.4, 1.4, 21)
        counts = []
        for dataset, response in ((truth, true), (generated, found)):
            incident = dataset.incident_energy
            counts.append(_events(response, edges, (incident >= energy) & (incident < 2 * energy)))
        yield _Histogram(f"response at {energy:g} MeV", *counts)


def _log_edges(low: float, high: float, count: int) -> np.ndarray:
    """Edges equal in the logarithm; where truth has nothing above the first, a factor of 10."""
    return np.logspace(np.log10(low), np.log10(high if high > low else 10 * low), count)


def _bins(values: Tensor, edges: Tensor) -> Tensor:
    """Numbers of the bins, the last of which is closed; their count for what lies outside."""
    last = len(edges) - 1
    bins = torch.bucketize(values, edges, right=True) - 1
    bins = torch.where(values == edges[-1], last - 1, bins)
    return torch.where((bins < 0) | (bins >= last), last, bins)


def _events(values: Tensor, edges: np.ndarray, rows: Tensor | None = None) -> Counts:
    rows = torch.arange(len(values)) if rows is None else rows.nonzero()[:, 0]
    bins = _bins(values[rows], torch.from_numpy(edges))
    return lambda w: torch.bincount(bins, w[rows], len(edges))


def _voxels(dataset: CalorimeterDataset, edges: np.ndarray, conventions: _Conventions) -> Counts:
    """Of all voxels of the events; empty ones lie outside."""
    counts = voxel_counts(dataset, torch.from_numpy(edges) / conventions.scale, conventions.threshold)
    outside = dataset.n_features - counts[:, 2:-1].sum(1, keepdim=True)
    counts = torch.cat([counts[:, 2:-1], outside], 1)
    return lambda w: w @ counts
