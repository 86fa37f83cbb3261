"""``Dataset``: events with their conditions, units, transform and splits."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from qgen.data.transforms import Standardise, Transform
from qgen.random import derive_seed, new_generator
from qgen.text import listed, unknown

__all__ = ["SPLITS", "Dataset", "Feature"]

SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}


@dataclass(frozen=True)
class Feature:
    """A column's name, its unit (empty if it has none) and its label in plots (matplotlib mathtext).

    ``limits`` is a range in that unit which a definition fixes for the column, whatever the events; None if none does.

    Raises:
        ValueError: limits that are not finite and increasing.

    >>> Feature("pt", "GeV", "$p_T$").title
    '$p_T$ [GeV]'
    """

    name: str
    unit: str = ""
    label: str = ""
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.limits is not None and not -math.inf < self.limits[0] < self.limits[1] < math.inf:
            raise ValueError(f"limits of {self.name!r} are {self.limits}; they must be finite and increasing")

    @property
    def title(self) -> str:
        """The label, or the name, with the unit in brackets."""
        text = self.label or self.name
        return f"{text} [{self.unit}]" if self.unit else text


@dataclass(frozen=True, eq=False)
class Dataset:
    """Events in physical units: samples ``(N, n_features)`` and conditions ``(N, n_conditions)``, both float64.

    A generator learns ``p(sample | condition)``. The splits ``train``, ``validation`` and ``test`` (60, 15 and 25 %)
    are a fixed function of ``seed`` and the number of events. ``transform`` and ``condition_transform`` bring
    samples and conditions to order one; they are fitted on ``train`` alone.

    Args:
        samples: events, one a row.
        features: one :class:`Feature` for each column of ``samples``.
        conditions: one row for each event; without conditions, zero columns.
        condition_features: one :class:`Feature` for each column of ``conditions``.
        seed: fixes the splits.
        provenance: where the events come from, JSON values.
        weights: ``(N,)``, one for each event, negative ones included; None where every event counts the same. Metrics
            use them; no training does, and :func:`qgen.fit` refuses weighted events.

    Raises:
        ValueError: shapes that do not fit, two columns of one name, or a value that is not finite (the row is named).

    >>> data = Dataset(torch.arange(8.0).reshape(4, 2), (Feature("a"), Feature("b", "GeV")))
    >>> len(data), data.column("b").tolist()
    (4, [1.0, 3.0, 5.0, 7.0])
    """

    samples: Tensor
    features: tuple[Feature, ...]
    conditions: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    condition_features: tuple[Feature, ...] = ()
    seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    fitted: tuple[Transform, Transform] | None = None
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        samples = torch.as_tensor(self.samples, dtype=torch.float64)
        conditions = torch.as_tensor(self.conditions, dtype=torch.float64)
        if conditions.numel() == 0 and not self.condition_features:
            conditions = samples.new_empty(samples.shape[0], 0)
        for what, values, names in (
            ("samples", samples, self.features),
            ("conditions", conditions, self.condition_features),
        ):
            if values.ndim != 2 or values.shape[1] != len(names):
                raise ValueError(
                    f"{what} have shape {tuple(values.shape)}; expected (N, {len(names)}), a column for each of "
                    f"{listed(f.name for f in names)}"
                )
            # a finite sum has finite terms, and is found much faster than each of them
            bad = [] if torch.isfinite(values.sum()) else (~torch.isfinite(values)).nonzero()[:1].tolist()
            if bad:
                row, column = bad[0]
                value = values[row, column].item()
                raise ValueError(f"{what} row {row}, column {names[column].name!r}: {value} is not finite")
        counts = Counter(feature.name for feature in (*self.features, *self.condition_features))
        for name, count in counts.items():
            if count > 1:
                raise ValueError(f"{count} columns have the name {name!r}; every feature and condition needs its own")
        if samples.shape[0] == 0:
            raise ValueError("a dataset needs at least one event, found none")
        if conditions.shape[0] != samples.shape[0]:
            raise ValueError(
                f"{conditions.shape[0]} rows of conditions for {samples.shape[0]} samples; expected one each"
            )
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "conditions", conditions)
        if self.weights is not None:
            object.__setattr__(self, "weights", self._checked_weights(self.weights))

    def _checked_weights(self, weights: Tensor) -> Tensor:
        weights = torch.as_tensor(weights, dtype=torch.float64)
        if weights.shape != (len(self.samples),):
            raise ValueError(
                f"weights have shape {tuple(weights.shape)}; expected ({len(self.samples)},), one an event"
            )
        bad = (~torch.isfinite(weights)).nonzero()
        if len(bad):
            row = int(bad[0])
            raise ValueError(f"weights row {row}: {weights[row].item()} is not finite")
        return weights

    def __len__(self) -> int:
        return self.samples.shape[0]

    @property
    def n_features(self) -> int:
        """Number of columns of ``samples``."""
        return len(self.features)

    @property
    def n_conditions(self) -> int:
        """Number of columns of ``conditions``."""
        return len(self.condition_features)

    def column(self, name: str) -> Tensor:
        """The values of one feature or condition by name, shape ``(N,)``.

        Raises:
            ValueError: no such column; those that exist are listed.
        """
        for values, names in ((self.samples, self.features), (self.conditions, self.condition_features)):
            for i, feature in enumerate(names):
                if feature.name == name:
                    return values[:, i]
        known = [f.name for f in (*self.features, *self.condition_features)]
        raise ValueError(unknown("column", name, known))

    def select(self, *names: str) -> Dataset:
        """The same events with only these features, in this order; transforms are fitted anew.

        Raises:
            ValueError: a name that is not a feature, or none given.
        """
        known = [f.name for f in self.features]
        missing = [name for name in names if name not in known]
        if missing or not names:
            raise ValueError(unknown("feature", missing[0], known) if missing else "no feature is selected; name one")
        index = [known.index(name) for name in names]
        features = tuple(self.features[i] for i in index)
        return replace(self, samples=self.samples[:, index], features=features, fitted=None)

    def take(self, rows: Tensor | Sequence[int]) -> Self:
        """The events of these rows; transforms stay those of this dataset."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return replace(
            self,
            samples=self.samples[index],
            conditions=self.conditions[index],
            weights=None if self.weights is None else self.weights[index],
            fitted=self._transforms,
        )

    def with_samples(self, samples: Tensor, conditions: Tensor | None = None) -> Self:
        """Other events (a generator's, say) with this dataset's columns, units, geometry and transforms."""
        conditions = self.conditions if conditions is None else conditions
        return replace(
            self,
            samples=samples.detach().cpu(),
            conditions=conditions.detach().cpu(),
            provenance={},
            weights=None,
            fitted=self._transforms,
        )

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the numbers of all events, in hexadecimal: the same for the same events in the same order."""
        digest = hashlib.sha256()
        for values in (self.samples, self.conditions, *([] if self.weights is None else [self.weights])):
            digest.update(values.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @cached_property
    def _split_rows(self) -> dict[str, Tensor]:
        order = torch.randperm(len(self), generator=new_generator(derive_seed(self.seed, "split")))
        n_train = round(SPLITS["train"] * len(self))
        n_validation = round(SPLITS["validation"] * len(self))
        parts = order.tensor_split([n_train, n_train + n_validation])
        return dict(zip(SPLITS, parts, strict=True))

    def split(self, name: str) -> Self:
        """The events of one split.

        Raises:
            ValueError: the name is none of ``train``, ``validation``, ``test``.
        """
        if name not in SPLITS:
            raise ValueError(f"split {name!r} is unknown; splits are {', '.join(SPLITS)}")
        return self.take(self._split_rows[name])

    @property
    def train(self) -> Self:
        """The events to learn from."""
        return self.split("train")

    @property
    def validation(self) -> Self:
        """The events that choose between states of a training."""
        return self.split("validation")

    @property
    def test(self) -> Self:
        """The events that judge."""
        return self.split("test")

    @property
    def transform(self) -> Transform:
        """Samples to order one and back, fitted on ``train``."""
        return self._transforms[0]

    @property
    def condition_transform(self) -> Transform:
        """Conditions to order one and back, fitted on ``train``."""
        return self._transforms[1]

    @cached_property
    def _transforms(self) -> tuple[Transform, Transform]:
        if self.fitted is not None:
            return self.fitted
        rows = self._split_rows["train"] if len(self) > 1 else torch.tensor([0])
        return self._fit_transforms(self.samples[rows], self.conditions[rows])

    def _fit_transforms(self, samples: Tensor, conditions: Tensor) -> tuple[Transform, Transform]:
        """Transforms fitted on training events; a kind of data that needs another overrides this."""
        return Standardise.fit(samples), Standardise.fit(conditions)

    def observables(self) -> Self | Dataset:
        """The physics features by which events of this kind are judged, as a dataset of the same length.

        For plain tables the features themselves; calorimeter images and muon events override this.
        """
        return self
