"""``Metric``: an estimator on two samples, made a number with an uncertainty by the bootstrap.

A metric is written as a function that looks at two samples once and returns an :data:`Estimator`: the value as a
function of the events' weights. Weights of one give the value, multinomial weights its bootstrap replicas, and
whatever can be done once (sorting, kernel matrices, training a classifier) is done once. To add a metric::

    @metric(view="samples", per_feature=True, unit="truth standard deviations")
    def mean_shift(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
        \"\"\"Difference of the means of each feature.\"\"\"
        scale = spread(truth)

        def estimate(w: Tensor, v: Tensor) -> Tensor:
            return ((w @ truth / w.sum() - v @ generated / v.sum()) / scale).abs()

        return estimate

The name then is a :class:`Metric`, registered in :data:`METRICS` and part of :func:`qgen.metrics.evaluate`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.columns import Columns, View, as_dataset, check_alike
from qgen.metrics.result import MetricResult
from qgen.random import derive_seed, new_generator
from qgen.text import listed, unknown

__all__ = [
    "GROUPS",
    "METRICS",
    "MINIMUM_EVENTS",
    "Estimator",
    "Metric",
    "Named",
    "WithPValue",
    "find_metrics",
    "metric",
]

MINIMUM_EVENTS = 20
"""Fewest events in either sample for which a metric is computed."""

Estimator = Callable[[Tensor, Tensor], Tensor]
"""``(weights of truth (n,), weights of generated (m,)) -> value``, shape ``()``, or ``(d,)`` if of several values."""

Group = Literal["distributions", "physics", "fidelity", "tests"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""What kinds of metrics there are: their names may be given in place of those of metrics."""

GIVEN = ("truth", "generated", "seed")
ASKED = ("limits", "training", "weights")
"""What else a metric is given if its function has a parameter of the name."""

METRICS: dict[str, Metric] = {}
"""Every metric by name."""


@dataclass(frozen=True)
class Named:
    """An estimator of several values with names of their own: layers, bins of energy.

    Args:
        names: one for each value.
        estimator: gives ``(len(names),)``.
    """

    names: tuple[str, ...]
    estimator: Estimator


@dataclass(frozen=True)
class WithPValue:
    """An estimator of one value that is also a two-sample test.

    Args:
        estimator: gives ``()``.
        p_value: gives the probability of a value at least as large if both samples had one distribution; called only
            where it is shown.
    """

    estimator: Estimator
    p_value: Callable[[], float]

    def __call__(self, w: Tensor, v: Tensor) -> Tensor:
        """The estimator's value."""
        return self.estimator(w, v)


Built = Estimator | Named | MetricResult | Mapping[str, MetricResult]
"""What the function of a metric returns; results if they have an uncertainty of their own, the whole's under ``""``."""

TYPES: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (float, int)),
    str: ("a text", (str,)),
    tuple: ("a list", (list, tuple)),
}
"""By the type of an option's default what is expected of the option."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A distance between two samples, called on them: ``metric(truth, generated)`` is a :class:`MetricResult`.

    Args:
        name: under which it stands in the table.
        build: ``(truth, generated, seed, ...) -> Built``. Whatever must be the same for the value and its floor
            (scales, bin edges, bandwidths) is taken from ``truth``. Both are tables ``(n, d)``, or datasets if the
            view is ``events``. If it has a parameter of the name, it is also given the ``limits`` of the features
            ``(d, 2)``, nan for a feature without; the ``training`` events (a table or dataset as the others); the
            events' ``weights``, a pair ``(n,)`` and ``(m,)``. Any further parameter has a default and is an option.
        view: the columns that ``build`` is given.
        group: what kind of metric it is.
        per_feature: whether the estimator gives one value a feature; their mean is the metric's value.
        target: the value of a perfect generator, apart from fluctuations.
        targets: those of named values for which it is another.
        unit: of the value, empty if it has none.
        reference: where it is defined.
        min_columns: fewest columns for which it is defined.
        max_columns: most columns for which it is defined: beyond, time and memory grow out of bounds.
        inflation: factor on the bootstrap's standard deviation, for what reweighting cannot vary.
        by_default: whether :func:`qgen.metrics.evaluate` takes it when no metrics are named.
        bias: the power of ``1 / N`` with which the part of the value that is due to finite samples falls: 0 for an
            unbiased estimator, 1/2 for a mean of absolute differences, 1 for a mean of squares; None where no power
            is known (a classifier).
        weights: which weights of events it takes: of both signs, positive ones, or none at all.
        slow: whether it takes minutes; then it is taken only by its own name, not as part of a group.
        needs: says of a dataset what it lacks for this metric ("an axis of layers"), nothing if it lacks nothing.
        batched: whether the estimator takes several sets of weights at once, ``(r, n)`` and ``(r, m)``, and then gives
            ``(r,)`` or ``(r, d)``: for work that is done column by column and not kept.

    >>> from qgen.metrics import wasserstein
    >>> rng = torch.Generator().manual_seed(0)
    >>> truth, generated = torch.randn(2, 1000, 3, generator=rng)
    >>> print(wasserstein(truth, generated + 0.5))
    0.47... ± 0.0...
    """

    name: str
    build: Callable[..., Built]
    view: View
    group: Group = "distributions"
    per_feature: bool = False
    target: float = 0.0
    unit: str = ""
    reference: str = ""
    min_columns: int = 1
    max_columns: float = math.inf
    inflation: float = 1.0
    by_default: bool = True
    bias: float | None = None
    weights: Literal["signed", "positive", "none"] = "positive"
    slow: bool = False
    needs: Callable[[Dataset], str] = lambda dataset: ""
    batched: bool = False
    targets: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.build.__doc__)

    @property
    def description(self) -> str:
        """The first line of the definition."""
        return (self.build.__doc__ or "").strip().split("\n")[0]

    def target_of(self, feature: str) -> float:
        """The value of a perfect generator in the row of a feature or of a named value.

        >>> METRICS["low_level_auc"].target_of(""), METRICS["low_level_auc"].target_of("jsd")
        (0.5, 0.0)
        """
        return self.targets.get(feature, self.target)

    @property
    def asks(self) -> frozenset[str]:
        """What its function is given besides both samples and the seed."""
        return frozenset(inspect.signature(self.build).parameters) & frozenset(ASKED)

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        parameters = inspect.signature(self.build).parameters.items()
        return {name: p.default for name, p in parameters if name not in GIVEN and name not in ASKED}

    def __call__(
        self,
        truth: Dataset | Tensor,
        generated: Dataset | Tensor,
        *,
        training: Dataset | Tensor | None = None,
        n_bootstrap: int = 20,
        seed: int = 0,
        **options: Any,
    ) -> MetricResult:
        """The metric between two samples; for a metric per feature, the mean over the features.

        Args:
            truth: events, or a plain table ``(n, d)``.
            generated: events with the same columns, ``(m, d)``.
            training: the events that the generator learned from, for a metric that looks at them.
            n_bootstrap: bootstrap replicas, each of both samples, whose standard deviation is the uncertainty.
            seed: fixes the replicas and whatever else the metric draws.
            options: of the metric, see :attr:`options`.

        Raises:
            ValueError: too few events, columns that differ, an unknown option, a value that is not finite.
        """
        truth = as_dataset("truth", truth)
        generated = as_dataset("generated", generated, like=truth)
        seen = Columns(truth, self.view), Columns(generated, self.view)
        check_alike("truth", seen[0], "generated", seen[1])
        learned = None
        if training is not None:
            learned = Columns(as_dataset("training", training, like=truth), self.view)
            check_alike("truth", seen[0], "training", learned)
        return self.results(*seen, training=learned, n_bootstrap=n_bootstrap, seed=seed, options=options)[""]

    def results(
        self,
        truth: Columns,
        generated: Columns,
        *,
        training: Columns | None = None,
        n_bootstrap: int,
        seed: int,
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, MetricResult]:
        """By feature's name the result of each, and under the empty name that of all (their mean).

        Raises:
            ValueError: too few events, replicas or columns, an unknown option, or a value that is not finite.
        """
        if n_bootstrap < 2:
            raise ValueError(f"n_bootstrap is {n_bootstrap}; at least 2 replicas are needed for an uncertainty")
        built = self._built(truth, generated, training, seed, options or {})
        if isinstance(built, MetricResult):
            built = {"": built}
        if isinstance(built, Mapping):
            self._check_finite(r for one in built.values() for r in (one.value, one.uncertainty))
            return dict(built)
        w, v = (
            torch.cat([x[None], x * bootstrap_weights(len(x), n_bootstrap, derive_seed(seed, "bootstrap", which))])
            for which, x in (("truth", truth.weights), ("generated", generated.weights))
        )
        names, values = self._values_of(built, truth, w, v)
        value, replicas = values[0], values[1:]
        uncertainty = replicas.std(0) * self.inflation
        limit: list[float | None] = [None] * len(names)
        if self.bias:
            # replicas fluctuate about samples that fluctuate themselves: on average they have the bias of half as many
            limit = (value + (value - replicas.mean(0)) / (2**self.bias - 1)).tolist()
        self._check_finite([*value.tolist(), *uncertainty.tolist()])
        found = zip(names, value.tolist(), uncertainty.tolist(), limit, strict=True)
        results = {name: MetricResult(value, sigma, extrapolated=end) for name, value, sigma, end in found}
        if isinstance(built, WithPValue):
            results[""] = replace(results[""], p_value=built.p_value())
        return results

    def problem(self, truth: Columns, *others: Columns) -> str:
        """Why it is not defined for these samples, empty if it is."""
        if not self.min_columns <= len(truth.features) <= self.max_columns:
            most = "" if self.max_columns == math.inf else f" and at most {self.max_columns}"
            found = f"{len(truth.features)} ({listed(f.name for f in truth.features)})"
            return f"{self.name} needs at least {self.min_columns}{most} columns, found {found}"
        if lacks := self.needs(truth.events):
            return f"{self.name} needs {lacks}"
        for columns in (truth, *others):
            given = columns.events.weights
            if given is not None and self.weights == "none":
                return f"{self.name} is not defined for weighted events"
            if given is not None and self.weights == "positive" and (given < 0).any():
                row = int((given < 0).nonzero()[0])
                return f"{self.name} is not defined for negative weights, found {given[row]:g} in row {row}"
        return ""

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse what is no option of it, or of another type than the option's default.

        Raises:
            ValueError: the option is named, with what was found and what is allowed.

        >>> METRICS["ks"].check_options({"bins": 10})
        Traceback (most recent call last):
        ValueError: ks has no options, found 'bins'
        """
        for name, value in options.items():
            if not self.options:
                raise ValueError(f"{self.name} has no options, found {name!r}")
            if name not in self.options:
                raise ValueError(unknown(f"option of {self.name}", name, self.options))
            wanted, allowed = TYPES.get(type(self.options[name]), ("", (type(value),)))
            if type(value) not in allowed:
                raise ValueError(f"option {name} of {self.name} is {value!r}; {wanted} is expected")

    def _built(
        self, truth: Columns, generated: Columns, training: Columns | None, seed: int, options: Mapping[str, Any]
    ) -> Built:
        for which, columns in (("truth", truth), ("generated", generated)):
            if len(columns) < MINIMUM_EVENTS:
                raise ValueError(f"{which} has {len(columns)} events; at least {MINIMUM_EVENTS} are needed")
            check_weights(which, columns.events.weights)
        if problem := self.problem(truth, generated):
            raise ValueError(problem)
        self.check_options(options)

        def part(columns: Columns) -> Dataset | Tensor:
            return columns.events if self.view == "events" else columns.values

        given: dict[str, Any] = dict(options)
        if "limits" in self.asks:
            pairs = [f.limits or (math.nan, math.nan) for f in truth.features]
            given["limits"] = torch.tensor(pairs, dtype=torch.float64)
        if "weights" in self.asks:
            given["weights"] = (truth.weights, generated.weights)
        if "training" in self.asks:
            if training is None:
                raise ValueError(f"{self.name} needs the events that the generator was trained on")
            given["training"] = part(training)
        return self.build(part(truth), part(generated), seed, **given)

    def _values_of(
        self, built: Estimator | Named, truth: Columns, w: Tensor, v: Tensor
    ) -> tuple[tuple[str, ...], Tensor]:
        """Names of all values, the last the mean of the others if there are several, and ``(r, names)``."""
        estimator = built.estimator if isinstance(built, Named) else built
        one_by_one = [(w, v)] if self.batched else zip(w, v, strict=True)
        values = torch.stack([estimator(*pair) for pair in one_by_one]).flatten(0, int(self.batched))
        if isinstance(built, Named):
            names = built.names
        elif self.per_feature:
            names = tuple(f.name for f in truth.features)
        else:
            return ("",), values[:, None]
        return (*names, ""), torch.cat([values, values.mean(1, keepdim=True)], 1)

    def _check_finite(self, numbers: Iterable[float]) -> None:
        if not all(map(math.isfinite, numbers)):
            raise ValueError(
                f"{self.name} is not finite: generated values lie too many orders of magnitude from truth's"
            )


def metric(
    *,
    view: View,
    group: Group = "distributions",
    per_feature: bool = False,
    target: float = 0.0,
    unit: str = "",
    reference: str = "",
    min_columns: int = 1,
    max_columns: float = math.inf,
    inflation: float = 1.0,
    by_default: bool = True,
    bias: float | None = None,
    weights: Literal["signed", "positive", "none"] = "positive",
    slow: bool = False,
    needs: Callable[[Dataset], str] = lambda dataset: "",
    batched: bool = False,
    targets: Mapping[str, float] | None = None,
) -> Callable[[Callable[..., Built]], Metric]:
    """Make a function ``(truth, generated, seed, ...) -> Built`` a :class:`Metric` of its name and register it."""

    def register(build: Callable[..., Built]) -> Metric:
        made = Metric(
            name=build.__name__,
            build=build,
            view=view,
            group=group,
            per_feature=per_feature,
            target=target,
            unit=unit,
            reference=reference,
            min_columns=min_columns,
            max_columns=max_columns,
            inflation=inflation,
            by_default=by_default,
            bias=bias,
            weights=weights,
            slow=slow,
            needs=needs,
            batched=batched,
            targets=targets or {},
        )
        METRICS[made.name] = made
        return made

    return register


def find_metrics(names: Iterable[str] | None) -> list[Metric]:
    """The metrics of these names; if ``None``, all that are taken by default.

    A name may also be that of a group (:data:`GROUPS`), ``default`` or ``all``: all of them but the slow ones.

    Raises:
        ValueError: no name, or an unknown one; the nearest is suggested.

    >>> find_metrics(["waserstein"])
    Traceback (most recent call last):
    ValueError: metric 'waserstein' is unknown; did you mean 'wasserstein'? Known: ...
    """
    given = ["default"] if names is None else [names] if isinstance(names, str) else list(names)
    if not given:
        raise ValueError(f"metrics is empty; known: {', '.join((*METRICS, *GROUPS, 'default', 'all'))}")
    wanted: dict[str, Metric] = {}
    for name in given:
        if name in METRICS:
            wanted[name] = METRICS[name]
        elif name in (*GROUPS, "default", "all"):
            quick = [m for m in METRICS.values() if not m.slow]
            wanted |= {m.name: m for m in quick if name in (m.group, "all") or (name == "default" and m.by_default)}
        else:
            raise ValueError(unknown("metric", name, (*METRICS, *GROUPS, "default", "all")))
    return list(wanted.values())


def check_weights(what: str, weights: Tensor | None) -> None:
    """Refuse weights that leave too little of a sample: nothing could be estimated from it.

    Raises:
        ValueError: their sum is not positive, or ``(sum of w)^2 / sum of w^2`` is below 20 events; ``what`` is named.
    """
    if weights is None:
        return
    total = weights.sum().item()
    if total <= 0:
        raise ValueError(f"{what}: weights sum to {total:g}; a positive sum is needed")
    scaled = weights / weights.abs().max()
    effective = (scaled.sum() ** 2 / scaled.square().sum()).item()
    if effective < MINIMUM_EVENTS:
        raise ValueError(
            f"{what}: {len(weights)} weighted events count as {effective:.3g} ((sum of w)^2 / sum of w^2); "
            f"at least {MINIMUM_EVENTS} are needed"
        )


def bootstrap_weights(n: int, n_bootstrap: int, seed: int) -> Tensor:
    """How often each of ``n`` events is drawn in each replica, shape ``(n_bootstrap, n)``, rows summing to ``n``."""
    rows = torch.randint(n, (n_bootstrap, n), generator=new_generator(seed))
    ones = torch.ones(n_bootstrap, n, dtype=torch.float64)
    return torch.zeros_like(ones).scatter_add_(1, rows, ones)
