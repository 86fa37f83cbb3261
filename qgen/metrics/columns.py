"""What a metric looks at: columns of a dataset, checked to be alike in both samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset, Feature
from qgen.text import listed

__all__ = ["Columns", "View", "as_dataset", "check_alike", "look", "spread", "varies"]

LARGEST = 1e100
"""Largest magnitude of a value that can be squared and summed without overflow."""

View = Literal["samples", "joint", "observables", "events"]
"""What a metric looks at: the features; features and conditions; ``Dataset.observables()``; the dataset itself."""


@dataclass(frozen=True)
class Columns:
    """What a metric looks at of one sample.

    Args:
        values: ``(N, d)``.
        features: of the columns.
        events: the dataset that they are of, event for event.
    """

    values: Tensor
    features: tuple[Feature, ...]
    events: Dataset

    def __len__(self) -> int:
        return len(self.values)

    @property
    def weights(self) -> Tensor:
        """Weights of the events, ``(N,)``; ones where they have none."""
        given = self.events.weights
        return self.values.new_ones(len(self)) if given is None else given

    def take(self, rows: Tensor) -> Columns:
        """The same of these rows."""
        return Columns(self.values[rows], self.features, self.events.take(rows))


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
        if values.numel() and values.abs().max() > LARGEST:
            raise ValueError(
                f"{what} has a value of magnitude {values.abs().max():.2g}; at most {LARGEST:.0e} is allowed"
            )
    return dataset


def look(dataset: Dataset, view: View) -> Columns:
    """What ``view`` says of a dataset."""
    if view == "observables":
        seen = dataset.observables()
        return Columns(seen.samples, seen.features, dataset)
    if view == "joint":
        values = torch.cat([dataset.samples, dataset.conditions], 1)
        return Columns(values, (*dataset.features, *dataset.condition_features), dataset)
    return Columns(dataset.samples, dataset.features, dataset)


def check_alike(what: str, columns: Columns, other_what: str, other: Columns) -> None:
    """Refuse samples whose columns have other names or units, or whose images have other pixels."""
    ours, theirs = (_stated(c.features) for c in (columns, other))
    if ours != theirs:
        raise ValueError(f"columns differ: {what} has {listed(ours)}; {other_what} has {listed(theirs)}")
    ours, theirs = (_stated(c.events.condition_features) for c in (columns, other))
    if ours != theirs:
        raise ValueError(
            f"conditions differ: {what} has {listed(ours) or 'none'}; {other_what} has {listed(theirs) or 'none'}"
        )
    if isinstance(columns.events, CalorimeterDataset) and isinstance(other.events, CalorimeterDataset):
        pixels, others = columns.events.geometry, other.events.geometry
        if pixels != others:
            raise ValueError(f"pixels differ: {what} has {pixels.to_json()}; {other_what} has {others.to_json()}")


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
