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

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.columns import Columns, View, as_dataset, check_alike, look
from qgen.metrics.result import MetricResult
from qgen.random import derive_seed, new_generator
from qgen.text import listed, unknown

__all__ = ["METRICS", "MINIMUM_EVENTS", "Estimator", "Metric", "find_metrics", "metric"]

MINIMUM_EVENTS = 20
"""Fewest events in either sample for which a metric is computed."""

Estimator = Callable[[Tensor, Tensor], Tensor]
"""``(weights of truth (n,), weights of generated (m,)) -> value``, shape ``()``, or ``(d,)`` if per feature."""

METRICS: dict[str, Metric] = {}
"""Every metric by name."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A distance between two samples, called on them: ``metric(truth, generated)`` is a :class:`MetricResult`.

    Args:
        name: under which it stands in the table.
        build: ``(truth (n, d), generated (m, d), seed) -> Estimator``. Whatever must be the same for the value and its
            floor (scales, bin edges, bandwidths) is taken from ``truth``.
        view: the columns that ``build`` is given.
        per_feature: whether the estimator gives one value a feature; their mean is the metric's value.
        target: the value of a perfect generator, apart from fluctuations.
        unit: of the value, empty if it has none.
        reference: where it is defined.
        min_columns: fewest columns for which it is defined.
        max_columns: most columns for which it is defined: beyond, time and memory grow out of bounds.
        inflation: factor on the bootstrap's standard deviation, for what reweighting cannot vary.
        by_default: whether :func:`qgen.metrics.evaluate` takes it when no metrics are named.
        limits: whether ``build`` is also given the features' limits, ``(d, 2)``, nan for a feature without.

    >>> from qgen.metrics import wasserstein
    >>> rng = torch.Generator().manual_seed(0)
    >>> truth, generated = torch.randn(2, 1000, 3, generator=rng)
    >>> print(wasserstein(truth, generated + 0.5))
    0.47... ± 0.0...
    """

    name: str
    build: Callable[..., Estimator]
    view: View
    per_feature: bool = False
    target: float = 0.0
    unit: str = ""
    reference: str = ""
    min_columns: int = 1
    max_columns: float = math.inf
    inflation: float = 1.0
    by_default: bool = True
    limits: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.build.__doc__)

    @property
    def description(self) -> str:
        """The first line of the definition."""
        return (self.build.__doc__ or "").strip().split("\n")[0]

    def __call__(
        self, truth: Dataset | Tensor, generated: Dataset | Tensor, *, n_bootstrap: int = 20, seed: int = 0
    ) -> MetricResult:
        """The metric between two samples; for a metric per feature, the mean over the features.

        Args:
            truth: events, or a plain table ``(n, d)``.
            generated: events with the same columns, ``(m, d)``.
            n_bootstrap: bootstrap replicas, each of both samples, whose standard deviation is the uncertainty.
            seed: fixes the replicas and whatever else the metric draws.

        Raises:
            ValueError: too few events, columns that differ, a value that is not finite.
        """
        truth = as_dataset("truth", truth)
        generated = as_dataset("generated", generated, like=truth)
        columns = look(truth, self.view), look(generated, self.view)
        check_alike("truth", columns[0], "generated", columns[1])
        return self.results(*columns, n_bootstrap=n_bootstrap, seed=seed)[""]

    def results(self, truth: Columns, generated: Columns, *, n_bootstrap: int, seed: int) -> dict[str, MetricResult]:
        """By feature's name the result of each, and under the empty name that of all (their mean).

        Raises:
            ValueError: too few events, replicas or columns, or a value that is not finite.
        """
        for which, columns in (("truth", truth), ("generated", generated)):
            if len(columns.values) < MINIMUM_EVENTS:
                raise ValueError(f"{which} has {len(columns.values)} events; at least {MINIMUM_EVENTS} are needed")
        if n_bootstrap < 2:
            raise ValueError(f"n_bootstrap is {n_bootstrap}; at least 2 replicas are needed for an uncertainty")
        if not self.applies(truth):
            most = "" if self.max_columns == math.inf else f" and at most {self.max_columns}"
            found = f"{len(truth.features)} ({listed(f.name for f in truth.features)})"
            raise ValueError(f"{self.name} needs at least {self.min_columns}{most} columns, found {found}")
        options = {}
        if self.limits:
            pairs = [f.limits or (math.nan, math.nan) for f in truth.features]
            options = {"limits": torch.tensor(pairs, dtype=torch.float64)}
        estimator = self.build(truth.values, generated.values, seed, **options)

        def estimate(w: Tensor, v: Tensor) -> Tensor:
            values = estimator(w, v)
            return torch.cat([values, values.mean(0, keepdim=True)]) if self.per_feature else values[None]

        n, m = len(truth.values), len(generated.values)
        value = estimate(truth.values.new_ones(n), truth.values.new_ones(m))
        w = bootstrap_weights(n, n_bootstrap, derive_seed(seed, "bootstrap", "truth"))
        v = bootstrap_weights(m, n_bootstrap, derive_seed(seed, "bootstrap", "generated"))
        uncertainty = torch.stack([estimate(*pair) for pair in zip(w, v, strict=True)]).std(0) * self.inflation
        if not (value.isfinite().all() and uncertainty.isfinite().all()):
            raise ValueError(
                f"{self.name} is not finite: generated values lie too many orders of magnitude from truth's"
            )
        names = [*(f.name for f in truth.features), ""] if self.per_feature else [""]
        results = [MetricResult(*pair) for pair in zip(value.tolist(), uncertainty.tolist(), strict=True)]
        return dict(zip(names, results, strict=True))

    def applies(self, columns: Columns) -> bool:
        """Whether it is defined for these columns."""
        return self.min_columns <= len(columns.features) <= self.max_columns


def metric(
    *,
    view: View,
    per_feature: bool = False,
    target: float = 0.0,
    unit: str = "",
    reference: str = "",
    min_columns: int = 1,
    max_columns: float = math.inf,
    inflation: float = 1.0,
    by_default: bool = True,
    limits: bool = False,
) -> Callable[[Callable[..., Estimator]], Metric]:
    """Make a function ``(truth, generated, seed) -> Estimator`` a :class:`Metric` of its name and register it."""

    def register(build: Callable[..., Estimator]) -> Metric:
        made = Metric(
            name=build.__name__,
            build=build,
            view=view,
            per_feature=per_feature,
            target=target,
            unit=unit,
            reference=reference,
            min_columns=min_columns,
            max_columns=max_columns,
            inflation=inflation,
            by_default=by_default,
            limits=limits,
        )
        METRICS[made.name] = made
        return made

    return register


def find_metrics(names: Iterable[str] | None) -> list[Metric]:
    """The metrics of these names; if ``None``, all that are taken by default.

    Raises:
        ValueError: no name, or an unknown one; the nearest is suggested.

    >>> find_metrics(["waserstein"])
    Traceback (most recent call last):
    ValueError: metric 'waserstein' is unknown; did you mean 'wasserstein'? Known: ...
    """
    if names is None:
        return [m for m in METRICS.values() if m.by_default]
    given = [names] if isinstance(names, str) else names
    wanted = list(dict.fromkeys(given))
    if not wanted:
        raise ValueError(f"metrics is empty; known: {', '.join(METRICS)}")
    for name in wanted:
        if name not in METRICS:
            raise ValueError(unknown("metric", name, METRICS))
    return [METRICS[name] for name in wanted]


def bootstrap_weights(n: int, n_bootstrap: int, seed: int) -> Tensor:
    """How often each of ``n`` events is drawn in each replica, shape ``(n_bootstrap, n)``, rows summing to ``n``."""
    rows = torch.randint(n, (n_bootstrap, n), generator=new_generator(seed))
    ones = torch.ones(n_bootstrap, n, dtype=torch.float64)
    return torch.zeros_like(ones).scatter_add_(1, rows, ones)
