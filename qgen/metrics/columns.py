"""What a metric looks at: columns of a dataset, checked to be alike in both samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import Literal

import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset, Feature
from qgen.data.geometry import Geometry
from qgen.random import derive_seed, new_generator
from qgen.text import listed

__all__ = ["Columns", "View", "as_dataset", "check_alike", "chosen", "rows_of", "spread", "varies"]

LARGEST = 1e100
"""Largest magnitude of a value that can be squared and summed without overflow."""

MOST_NAMED = 12
"""Columns that a message names one by one."""

View = Literal["samples", "joint", "observables", "events"]
"""What a metric looks at: the features; features and conditions; ``Dataset.observables()``; the dataset itself."""


@dataclass(frozen=True)
class Columns:
    """What a metric looks at of one sample.

    Args:
        events: the sample.
        view: which of its columns.
    """

    events: Dataset
    view: View

    def __len__(self) -> int:
        return len(self.events)

    @cached_property
    def values(self) -> Tensor:
        """The numbers, ``(N, d)``."""
        if self.view == "observables":
            return self.events.observables().samples
        if self.view == "joint" and self.events.n_conditions:
            return torch.cat([self.events.samples, self.events.conditions], 1)
        return self.events.samples

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """Names and units of the columns."""
        if self.view == "observables":
            return rows_of(self.events, torch.tensor([0])).observables().features
        if self.view == "joint":
            return (*self.events.features, *self.events.condition_features)
        return self.events.features

    @property
    def weights(self) -> Tensor:
        """Weights of the events, ``(N,)``; ones where they have none."""
        given = self.events.weights
        return torch.ones(len(self), dtype=torch.float64) if given is None else given


def rows_of(events: Dataset, rows: Tensor) -> Dataset:
    """The events of these rows; unlike :meth:`~qgen.data.Dataset.take` it fits no transforms, which no metric needs."""
    return replace(
        events,
        samples=events.samples[rows],
        conditions=events.conditions[rows],
        weights=None if events.weights is None else events.weights[rows],
    )


def chosen(n: int, most: int, seed: int, *use: str) -> Tensor:
    """All of ``n`` rows, or ``most`` of them drawn by the seed."""
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=new_generator(derive_seed(seed, *use)))[:most]


def as_dataset(what: str, events: Dataset | Tensor, like: Dataset | None = None) -> Dataset:
    """A dataset as it is; a tensor ``(N, d)`` as one with the columns of ``like``, or with columns x0, x1, ...

    Raises:
        ValueError: not a table, or values that are not finite; ``what`` is named.
    """
    if isinstance(events, Dataset):
        dataset = events
    else:
        samples = torch.as_tensor(events, dtype=torch.float64)
        if samples.ndim != 2 or samples.shape[1] == 0:
            raise ValueError(f"{what} has shape {tuple(samples.shape)}; expected (N, d), an event a row")
        try:
            if like is None:
                dataset = Dataset(samples, tuple(Feature(f"x{i}") for i in range(samples.shape[1])))
            elif like.n_conditions:
                names = listed(f.name for f in like.condition_features)
                raise ValueError(f"a plain table has no conditions, truth has {names}; give a Dataset with both")
            else:
                dataset = replace(
                    like, samples=samples, conditions=samples.new_empty(len(samples), 0), provenance={}, weights=None
                )
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
    for values in (dataset.samples, dataset.conditions):
        largest = max(map(abs, torch.stack(values.aminmax()).tolist())) if values.numel() else 0.0
        if largest > LARGEST:
            raise ValueError(f"{what} has a value of magnitude {largest:.2g}; at most {LARGEST:.0e} is allowed")
    return dataset


def check_alike(what: str, columns: Columns, other_what: str, other: Columns) -> None:
    """Refuse samples whose columns have other names or units, or whose images have other pixels."""
    ours, theirs = (_stated(c.features) for c in (columns, other))
    if ours != theirs and max(len(ours), len(theirs)) > MOST_NAMED:
        place = next(i for i, pair in enumerate(zip_longest(ours, theirs)) if pair[0] != pair[1])
        first, second = (names[place] if place < len(names) else "none" for names in (ours, theirs))
        raise ValueError(
            f"columns differ: {what} has {len(ours)}, {other_what} has {len(theirs)}; number {place + 1} is {first} in "
            f"the one and {second} in the other"
        )
    if ours != theirs:
        raise ValueError(f"columns differ: {what} has {listed(ours)}; {other_what} has {listed(theirs)}")
    ours, theirs = (_stated(c.events.condition_features) for c in (columns, other))
    if ours != theirs:
        raise ValueError(
            f"conditions differ: {what} has {listed(ours) or 'none'}; {other_what} has {listed(theirs) or 'none'}"
        )
    pixels = [one.events.geometry for one in (columns, other) if isinstance(one.events, CalorimeterDataset)]
    if len(pixels) == 2 and (different := _different_pixels(*pixels)):
        raise ValueError(f"pixels differ: {what} has {different[0]}; {other_what} has {different[1]}")


def _different_pixels(ours: Geometry, theirs: Geometry) -> tuple[str, str] | None:
    """The first difference as each has it: axes and numbers of pixels, units, an edge; None if there is none."""
    sizes = [" x ".join(f"{n} ({axis})" for n, axis in zip(one.shape, one.axes, strict=True)) for one in (ours, theirs)]
    if sizes[0] != sizes[1]:
        return sizes[0], sizes[1]
    for i, axis in enumerate(ours.axes):
        units = ours.units[i], theirs.units[i]
        for k, edges in enumerate(zip(ours.edges[i], theirs.edges[i], strict=True)):
            if units[0] != units[1] or not math.isclose(*edges, rel_tol=1e-6, abs_tol=1e-9):
                a, b = (f"edge {k} of {axis} at {e:g} {unit}" for e, unit in zip(edges, units, strict=True))
                return a, b
    layers = [() if one.binning is None else one.binning.layers for one in (ours, theirs)]
    for pair in zip_longest(*layers):
        if pair[0] != pair[1]:
            a, b = ("no binning of it" if one is None else f"binned {one}" for one in pair)
            return a, b
    return None


def _stated(features: tuple[Feature, ...]) -> list[str]:
    return [f"{f.name} [{f.unit}]" if f.unit else f.name for f in features]


def spread(samples: Tensor) -> Tensor:
    """Standard deviation of each column, shape ``(d,)``; 1 (the column's unit) for one constant up to rounding.

    >>> spread(torch.tensor([[0.0, 0.1], [2.0, 0.1]])).tolist()
    [1.0, 1.0]
    """
    return torch.where(varies(samples), samples.std(0, correction=0), torch.ones_like(samples[0]))


def varies(samples: Tensor) -> Tensor:
    """Which columns are not constant up to rounding, shape ``(d,)``."""
    width = samples.amax(0) - samples.amin(0)
    return (samples.std(0, correction=0) > 0) & (width > 1e-12 * samples.abs().amax(0))
