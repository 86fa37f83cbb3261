"""Bins of a condition: of incident energies, of beam energies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.text import unknown

__all__ = ["Bin", "bin_edges", "condition_bins"]


@dataclass(frozen=True)
class Bin:
    """Values of a condition from ``low`` to below ``high``.

    Args:
        condition: its name.
        low: lower edge, in the bin.
        high: upper edge, not in the bin unless it is ``closed``.
        closed: whether the upper edge belongs to it.
        unit: of the edges.

    >>> Bin("beam_energy", 50.0, 100.0, False, "GeV").label
    'beam_energy 50 to 100 GeV'
    """

    condition: str
    low: float
    high: float
    closed: bool = False
    unit: str = ""

    @property
    def label(self) -> str:
        """As it stands in tables."""
        edges = f"{self.low:g} to {self.high:g}" if self.high > self.low else f"{self.low:g}"
        return f"{self.condition} {edges} {self.unit}".rstrip()

    def holds(self, dataset: Dataset) -> Tensor:
        """Which events are in the bin, ``(N,)``."""
        values = dataset.column(self.condition)
        return (values >= self.low) & ((values <= self.high) if self.closed else (values < self.high))


def bin_edges(values: Tensor, count: int) -> tuple[float, ...]:
    """Edges of ``count`` bins that hold about as many of the values each; ties may leave fewer bins.

    >>> bin_edges(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2)
    (1.0, 2.5, 4.0)
    """
    quantiles = torch.quantile(values, torch.linspace(0, 1, count + 1, dtype=values.dtype))
    return tuple(quantiles.unique().tolist())


def condition_bins(truth: Dataset, asked: Mapping[str, int | Sequence[float]]) -> list[Bin]:
    """The bins of the conditions that are asked for.

    Args:
        truth: its events fix the edges where only a number of bins is given: bins of about as many events each, or
            one for each value if there are no more values than bins.
        asked: by name of the condition the number of bins, or their edges; the last bin is closed.

    Raises:
        ValueError: no such condition, a number below 1, or edges that do not increase.
    """
    found: list[Bin] = []
    known = {f.name: f for f in truth.condition_features}
    for name, wanted in asked.items():
        if name not in known:
            raise ValueError(unknown("condition", name, known) if known else f"bins of {name!r}: no conditions")
        values, unit = truth.column(name), known[name].unit
        if isinstance(wanted, int):
            if wanted < 1:
                raise ValueError(f"bins of {name!r}: {wanted}; at least 1 is needed")
            distinct = values.unique().tolist()
            if len(distinct) <= wanted:
                found += [Bin(name, value, value, True, unit) for value in distinct]
                continue
            edges: Sequence[float] = bin_edges(values, wanted)
        else:
            edges = [float(edge) for edge in wanted]
            if len(edges) < 2 or not all(a < b for a, b in pairwise(edges)) or not all(map(math.isfinite, edges)):
                raise ValueError(f"bins of {name!r}: {edges}; at least two finite, increasing edges are needed")
        last = len(edges) - 2
        found += [Bin(name, low, high, i == last, unit) for i, (low, high) in enumerate(pairwise(edges))]
    return found
