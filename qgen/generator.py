"""``Generator``: what every generative model of the lab is, quantum or classical."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from qgen.data.dataset import Dataset
from qgen.data.discretiser import Discretiser
from qgen.data.transforms import Identity, Transform
from qgen.random import new_generator

__all__ = ["DiscreteGenerator", "ExtrapolationWarning", "Generator", "WeightedEvents"]

RANGE_TOLERANCE = 0.01
"""Share of a condition's trained range by which a condition may lie beyond it without a warning."""

CELLS_AT_ONCE = 2**14
"""Cells, of all conditions together, up to which a discrete distribution is given whole and not by draws from it."""


PROBABILITIES_AT_ONCE = 2**24
"""Probabilities of cells, of all conditions together, that a density holds in memory at once."""


class ExtrapolationWarning(UserWarning):
    """A generator is asked under a condition that lies beyond those it was trained with."""


@dataclass(frozen=True)
class WeightedEvents:
    """Events that stand for a generator's distribution; values, weights or both are differentiable.

    An expectation under the generator is ``(weights * f(values)).sum()``.

    Args:
        values: ``(m, n_features)`` in the transform's space.
        weights: ``(m,)``, not negative; their expected sum is 1.
        condition: of each, ``(m, n_conditions)`` in the condition transform's space, or None.
        draws: number of independent draws. Each is as many events as the others, one after the other, whose weights
            have the sum ``1 / draws``: one event, or a few with their probabilities. None where the events are the
            whole distribution, in which a pair of an event with itself counts like any other.
    """

    values: Tensor
    weights: Tensor
    condition: Tensor | None
    draws: int | None

    def joint(self) -> Tensor:
        """Values with their conditions beside them."""
        return self.values if self.condition is None else torch.cat([self.values, self.condition.to(self.values)], 1)


class Generator(nn.Module):
    """A model of ``p(sample | condition)`` that answers in physical units.

    :meth:`sample` and :meth:`log_prob` check shapes, go through the transforms and call the private methods, which
    work on order-one numbers. A model is added in four steps:

    1. ``__init__(self, ..., transform=None, condition_transform=None)`` hands the numbers of columns and the
       transforms to ``super().__init__``.
    2. ``_sample(n, condition, generator)`` gives ``(n, n_features)`` in the transform's space, differentiable where
       the model allows it; every random number comes from ``generator``.
    3. ``_log_prob(values, condition)`` gives ``(n,)`` if the density is tractable (then ``has_log_prob = True``).
    4. ``arguments()`` gives the constructor's arguments as JSON values, and ``for_dataset(dataset, seed=...,
       **options)`` chooses them for given events; its keyword arguments are the options of a configuration file. A
       model that ``for_dataset`` fits at once, without gradients, says ``trains = False``; one that runs quantum
       circuits says ``runs_circuits = True`` and has a property ``backend`` that can be set.

    More is optional. ``_own_loss(values, condition, generator)``, for a model with a loss of its own (then
    ``has_own_loss = True``). ``_weighted(n, condition, generator)``, for a model that knows probabilities: events with
    their weights, through which gradients flow where draws have none. ``weight_layers()``, for a circuit that can grow
    in training: the layer of every weight (:class:`qgen.training.layerwise.Growth`). ``penalty()``, ``records()`` and
    ``remarks(history)``, for a model whose simulation is approximate: what a training adds to its loss, records and
    says at the end. ``no_samples``, for a model that may be too large to be sampled on a computer.

    Args:
        n_features: columns of a sample.
        n_conditions: columns of a condition, 0 for an unconditional model.
        transform: physical units to order one; the identity if not given.
        condition_transform: the same for conditions.

    Raises:
        ValueError: no feature, or a negative number of conditions.
    """

    has_log_prob: bool = False  # a class says it for all its models, or a model for its size
    has_own_loss: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    runs_circuits: ClassVar[bool] = False
    condition_range: Tensor

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__()
        if n_features < 1 or n_conditions < 0:
            raise ValueError(f"n_features is {n_features}, n_conditions is {n_conditions}; at least 1 and 0 are needed")
        self.n_features = n_features
        self.n_conditions = n_conditions
        self.transform = transform if transform is not None else Identity()
        self.condition_transform = condition_transform if condition_transform is not None else Identity()
        if n_conditions:
            self.register_buffer("condition_range", torch.full((2, n_conditions), torch.nan, dtype=torch.float64))

    @classmethod
    def for_dataset(cls, dataset: Dataset, *args: Any, **options: Any) -> Self:
        """A fresh model for these events, initialised from ``seed``.

        Raises:
            ValueError: an option is impossible for these events.
        """
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values, the transforms left out."""
        raise NotImplementedError

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any], transform: Transform, condition_transform: Transform) -> Self:
        """The model with these constructor arguments, its weights fresh."""
        return cls(**arguments, transform=transform, condition_transform=condition_transform)

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _own_loss(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """The scalar that the objective :class:`~qgen.training.Own` minimises, differentiable in the parameters."""
        raise NotImplementedError

    def _weighted(self, n: int, condition: Tensor | None, generator: torch.Generator) -> WeightedEvents:
        """Events that stand for the distribution in an objective: ``n`` draws of equal weight.

        A model that knows probabilities gives them as weights instead, so that a gradient reaches what they depend on.
        """
        values = self._sample(n, condition, generator)
        return WeightedEvents(values, values.new_full((n,), 1 / n), condition, draws=n)

    @property
    def no_samples(self) -> str:
        """Why no events can be drawn, which a model says for its size; empty where they can."""
        return ""

    def penalty(self) -> Tensor | None:
        """What a training adds to the loss of the events drawn since this was last asked, a scalar; nothing here."""
        return None

    def records(self) -> dict[str, float]:
        """What a training records of the model itself, since the record before; nothing here."""
        return {}

    def remarks(self, history: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """What the records of a training say about the model itself, a plain sentence each; nothing here."""
        return ()

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @property
    def device(self) -> torch.device:
        """Where the model's tensors are."""
        for tensor in chain(self.parameters(), self.buffers()):
            return tensor.device
        return torch.device("cpu")

    def saw(self, conditions: Tensor) -> None:
        """Remember the range of the conditions in training, ``(N, n_conditions)`` in physical units.

        From then on the model warns where it is asked beyond. Training calls it, and so does a model that is fitted
        when it is built.
        """
        if self.n_conditions:
            self.condition_range.copy_(torch.stack([conditions.amin(0), conditions.amax(0)]))

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """``n`` events in physical units.

        Args:
            n: how many.
            condition: ``(n, n_conditions)`` in physical units, or ``(n_conditions,)`` for the same in all events.
            generator: source of randomness; without one, a new one seeded by the operating system.

        Returns:
            ``(n, n_features)`` float64, on the model's device.

        Raises:
            ValueError: ``n`` is below 1, the condition is missing, superfluous, of another shape or impossible (an
                energy that is not positive, say), or no events can be drawn (``no_samples`` says why).
        """
        if self.no_samples:
            raise ValueError(f"no events can be drawn: {self.no_samples}")
        if n < 1:
            raise ValueError(f"n is {n}; at least 1 event must be asked for")
        condition = self._check_condition(condition, n)
        inputs = self._model_condition(condition)
        self._warn_beyond_training(condition)
        values = self._sample(n, inputs, generator or new_generator())
        return self.transform.inverse(values.to(torch.float64), condition)

    @torch.no_grad()
    def log_prob(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log density of events, natural logarithm, per unit of the features, shape ``(N,)``.

        Args:
            samples: ``(N, n_features)`` in physical units.
            condition: as in :meth:`sample`.

        Raises:
            TypeError: the model has no tractable density (``has_log_prob`` is false).
            ValueError: shapes that do not fit, a sample that is not finite, or an impossible condition.
        """
        if not self.has_log_prob:
            raise TypeError(f"{type(self).__name__} has no tractable density; has_log_prob is False")
        if samples.ndim != 2 or samples.shape[1] != self.n_features:
            raise ValueError(f"samples have shape {tuple(samples.shape)}; expected (N, {self.n_features})")
        bad = (~torch.isfinite(samples)).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise ValueError(f"samples row {row}, column {column}: {samples[row, column].item()} is not finite")
        samples = samples.to(self.device, torch.float64)
        condition = self._check_condition(condition, len(samples))
        if len(samples) == 0:
            return samples.new_empty(0)
        inputs = self._model_condition(condition)
        self._warn_beyond_training(condition)
        inside = self._log_prob(self.transform(samples, condition), inputs)
        return inside.to(torch.float64) + self.transform.log_abs_det(samples, condition)

    def _model_condition(self, condition: Tensor | None) -> Tensor | None:
        if condition is None:
            return None
        values: Tensor = self.condition_transform(condition)
        bad = (~torch.isfinite(values)).any(1).nonzero()
        if len(bad):
            row = int(bad[0])
            raise ValueError(
                f"condition row {row} is {condition[row].tolist()}, which is impossible: not finite, or beyond the "
                "domain of the model's condition transform"
            )
        return values

    def _check_condition(self, condition: Tensor | None, n: int) -> Tensor | None:
        if condition is not None and not isinstance(condition, Tensor):
            raise ValueError(f"condition is a {type(condition).__name__}; a torch tensor is needed")
        if condition is None or (condition.ndim == 2 and condition.shape[1] == 0):
            if self.n_conditions:
                raise ValueError(f"{type(self).__name__} needs a condition of shape ({n}, {self.n_conditions})")
            return None
        if self.n_conditions == 0:
            raise ValueError(
                f"{type(self).__name__} takes no condition, one of shape {tuple(condition.shape)} was given"
            )
        condition = condition.to(self.device, torch.float64)
        if condition.shape == (self.n_conditions,):
            condition = condition.expand(n, -1)
        if condition.shape != (n, self.n_conditions):
            raise ValueError(f"condition has shape {tuple(condition.shape)}; expected ({n}, {self.n_conditions})")
        return condition

    def _warn_beyond_training(self, condition: Tensor | None) -> None:
        if condition is None:
            return
        low, high = self.condition_range
        slack = RANGE_TOLERANCE * (high - low) + 1e-9 * high.abs()
        beyond = ((condition < low - slack) | (condition > high + slack)).nonzero()  # never, where the range is unknown
        if len(beyond):
            row, column = beyond[0].tolist()
            asked, name = condition[row, column], type(self).__name__
            trained = (
                f"from {low[column]:g} to {high[column]:g}" if low[column] < high[column] else f"at {low[column]:g}"
            )
            warnings.warn(
                f"condition row {row}, column {column} is {asked:g}: {name} was trained {trained} and extrapolates",
                ExtrapolationWarning,
                stacklevel=4,
            )


class DiscreteGenerator(Generator):
    """A generator over cells: bit strings that a :class:`~qgen.data.Discretiser` decodes, uniform within the cell.

    A subclass implements :meth:`probabilities`; sampling, the density and the objectives on cells follow from it.

    Args:
        discretiser: the cells, in the transform's space; they fix the number of features and of bits.
        n_conditions: columns of a condition, 0 for an unconditional model.
        transform: physical units to order one; the identity if not given.
        condition_transform: the same for conditions.
    """

    has_log_prob = True

    def __init__(
        self,
        discretiser: Discretiser,
        n_conditions: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(discretiser.n_features, n_conditions, transform, condition_transform)
        self.discretiser = discretiser
        self.uses_condition = n_conditions > 0

    @property
    def shots(self) -> int | None:
        """Measurements that :meth:`probabilities` are the frequencies of; None where they are computed."""
        return None

    def probabilities(self, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Probability of each cell, differentiable.

        Args:
            condition: ``(m, n_conditions)`` in the condition transform's space, or None.
            generator: source of shots where probabilities are estimated from them.

        Returns:
            ``(m, n_cells)``; ``m`` is 1 without a condition.
        """
        raise NotImplementedError

    def distinct_conditions(self, condition: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
        """For ``n`` events: the row of each event's condition among the distinct ones, and those.

        Without a condition, or if the model does not use it, there is one row and the second is None.
        """
        if condition is None or not self.uses_condition:
            return torch.zeros(n, dtype=torch.long), None
        return _distinct(condition)

    def _sample_cells(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Flat cell numbers of ``n`` events, shape ``(n,)``."""
        raise NotImplementedError

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        return self.discretiser.decode(self._sample_cells(n, condition, generator), generator)

    def _weighted(self, n: int, condition: Tensor | None, generator: torch.Generator) -> WeightedEvents:
        """Every cell with its probability, under each of the conditions; ``n`` draws where there are too many cells.

        A draw's value is constant; its weight is its probability over the same number taken as constant, whose slope
        is the score: the gradient of an expectation is unbiased (the log-derivative trick). Frequencies of shots have
        no score, since a cell that no shot hit has a slope too: then every cell is given, however many there are.
        """
        groups = None
        row = torch.zeros(n, dtype=torch.long, device=self.device)
        if condition is not None:
            row, groups = _distinct(condition)
        n_groups, n_cells = 1 if groups is None else len(groups), self.discretiser.n_cells
        if self.shots is not None or n_groups * n_cells <= CELLS_AT_ONCE:
            probabilities = self.probabilities(groups if self.uses_condition else None, generator).expand(n_groups, -1)
            share = torch.bincount(row, minlength=n_groups).to(probabilities) / n
            cells = torch.arange(n_cells, device=probabilities.device).repeat(n_groups)
            asked = None if groups is None else groups.repeat_interleave(n_cells, 0)
            weights = (share[:, None] * probabilities).flatten()
            return WeightedEvents(self.discretiser.decode(cells, generator), weights, asked, draws=None)
        with torch.no_grad():
            cells = self._sample_cells(n, condition, generator)
        values = self.discretiser.decode(cells, generator)
        weights = values.new_full((n,), 1 / n)
        if torch.is_grad_enabled():
            row, distinct = self.distinct_conditions(condition, n)
            probabilities = self.probabilities(distinct, generator)
            chosen = probabilities[row.to(probabilities.device), cells.to(probabilities.device)]
            weights = weights * chosen / chosen.detach()
        return WeightedEvents(values, weights, condition, draws=n)

    @torch.no_grad()
    def log_prob(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """As :meth:`Generator.log_prob`; minus infinity beyond the outer edges of the cells, where nothing is sampled.

        In training, events beyond the edges count for the outermost cells instead.
        """
        density = super().log_prob(samples, condition)
        samples = samples.to(self.device, torch.float64)
        values = self.transform(samples, self._check_condition(condition, len(samples)))
        return density.masked_fill(self.discretiser.outside(values).any(1), -torch.inf)

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        cells, rng = self.discretiser.cell_index(values), new_generator(0)
        log_prob = self._log_of_table(lambda some: self.probabilities(some, rng), cells, condition)
        return log_prob - self.discretiser.log_volume(cells)

    def _log_of_table(
        self, table: Callable[[Tensor | None], Tensor], columns: Tensor, condition: Tensor | None
    ) -> Tensor:
        """Log probability of each event's column ``(n,)`` in a table ``(m, n_cells)`` of distinct conditions."""
        row, distinct = self.distinct_conditions(condition, len(columns))
        row = row.to(columns.device)
        at_once = max(1, PROBABILITIES_AT_ONCE // self.discretiser.n_cells)
        parts, places = [], []
        for start in range(0, 1 if distinct is None else len(distinct), at_once):
            some = None if distinct is None else distinct[start : start + at_once]
            which = ((row >= start) & (row < start + at_once)).nonzero().flatten()
            parts.append(table(some)[row[which] - start, columns[which]])
            places.append(which)
        inside = torch.cat(parts)[torch.cat(places).argsort()]
        return inside.clamp_min(torch.finfo(inside.dtype).tiny).log()


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``(n, k)`` the place of each row among the distinct ones ``(n,)``, and those."""
    if rows.shape[1] == 1:  # sorting numbers is much faster than sorting rows
        values, place = torch.unique(rows[:, 0], return_inverse=True)
        return place, values[:, None]
    distinct, place = torch.unique(rows, dim=0, return_inverse=True)
    return place, distinct
