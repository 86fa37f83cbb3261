"""``evaluate``: generated events against truth, every metric with its uncertainty and its floor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.base import METRICS, MINIMUM_EVENTS, Metric, check_weights, find_metrics
from qgen.metrics.bins import Bin, condition_bins
from qgen.metrics.columns import Columns, View, as_dataset, check_alike, rows_of
from qgen.metrics.result import MetricResult
from qgen.metrics.table import MetricRow, MetricTable, Refusal
from qgen.random import derive_seed, new_generator
from qgen.text import unknown

__all__ = ["evaluate"]


def evaluate(
    truth: Dataset | Tensor,
    generated: Dataset | Tensor | Mapping[str, Dataset | Tensor],
    *,
    reference: Dataset | Tensor | None = None,
    training: Dataset | Tensor | None = None,
    metrics: Iterable[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    bins: Mapping[str, int | Sequence[float]] | None = None,
    n_bootstrap: int = 20,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> MetricTable:
    """Score generated events: each metric's value beside its floor, both with an uncertainty.

    The floor is the same metric between two independent samples of truth: what a perfect generator scores. So that
    the bias of finite samples is the same in both, all samples have the same size ``n``: the value compares ``n`` true
    events with ``n`` generated ones, the floor compares the same true events with ``n`` others. The others come from
    ``reference`` or, without it, ``truth`` is split in two halves. Events in excess are left out at random. ``n`` is
    the smallest of the samples; several generators may have different ``n``, each with the floor of its own. A metric
    that looks at the ``training`` events always has its floor from the two halves of ``truth``, because ``reference``
    may be those very events.

    The uncertainty is the standard deviation over bootstrap replicas of both samples. For a value at its floor it is
    too large, by a factor of up to about two: replicas fluctuate around samples that fluctuate themselves. Scales, bin
    edges and kernel widths are those of the true events. A conditional generator should be given conditions drawn
    afresh, not the very ones of ``truth``: repeated conditions make the samples more alike than independent ones.

    For a metric whose bias falls as a known power ``b`` of the number of events, the value is also extrapolated to
    infinitely many: ``value + (value - mean of the replicas) / (2^b - 1)``, because replicas, which fluctuate about
    samples that fluctuate themselves, have on average the bias of half as many events.

    Weights of events count in all of it, negative ones where the metric allows; scales, edges and widths are those of
    the true events without their weights.

    Args:
        truth: events that no generator has been trained on, or a plain table ``(N, d)``.
        generated: events with the same columns (and their own conditions), a plain table, or several by name.
        reference: true events, independent of ``truth``, for the floor. Training events will do: the floor does not
            look at the generator.
        training: the events that the generators learned from; without them, metrics that look at them are left out.
        metrics: names as in ``METRICS``, or groups of them (:data:`~qgen.metrics.base.GROUPS`, ``default``, ``all``);
            without them the default ones (``Metric.by_default``). Groups are taken as far as they are defined for these
            events (correlation needs two columns); one of a group that cannot judge some generator's events is in the
            table's ``refused``, with its reason.
        options: of metrics, by metric and name.
        bins: conditions in whose bins everything is judged as well: by name the number of bins (of as many true events
            each; a bin for each value if there are no more of them) or their edges.
        n_bootstrap: bootstrap replicas; the uncertainty is known to about ``1 / sqrt(2 n_bootstrap)`` of itself.
        seed: fixes the choice of events, the replicas and the folds of the classifier.
        progress: is told what is done next, how much is done, and of how much.

    Raises:
        ValueError: an unknown metric or option; fewer than 20 events in a sample or in a bin, or weights that leave
            fewer; columns, units or pixels that differ; a value that is not finite. The message names which.

    >>> rng = torch.Generator().manual_seed(0)
    >>> truth, generated = torch.randn(2, 2000, 2, generator=rng, dtype=torch.float64)
    >>> table = evaluate(truth, 1.2 * generated[:1000], metrics=["ks", "correlation"])
    >>> [row.name for row in table]
    ['ks/x0', 'ks/x1', 'ks', 'correlation']
    >>> table["ks"].value.value > table["ks"].floor.value
    True
    """
    names = [metrics] if isinstance(metrics, str) else None if metrics is None else list(metrics)
    asked = find_metrics(names)
    options = options or {}
    for name, given in options.items():
        if name not in {m.name for m in asked}:
            if name in METRICS:
                raise ValueError(f"options of {name} are given, but {name} is not among the metrics that are asked for")
            raise ValueError(unknown("metric with options", name, [m.name for m in asked]))
        METRICS[name].check_options(given)
    truth = as_dataset("truth", truth)
    named = generated if isinstance(generated, Mapping) else {"": generated}
    if not named:
        raise ValueError("generated is an empty mapping; at least one generator's events are needed")
    true = _Sample("truth", truth, _shuffled(len(truth), seed))
    halves = true.halves()
    other = _Sample.of("reference", reference, truth, seed) if reference is not None else halves[1]
    learned = None if training is None else _Sample.of("training", training, truth, seed)
    samples = {
        name: _Sample.of(f"generated {name!r}" if name else "generated", events, truth, seed)
        for name, events in named.items()
    }
    others = [other, *samples.values()]
    chosen = [m for m in asked if _wanted(m, names, truth, [one.dataset for one in others], learned is not None)]
    for sample in (*others, *([] if learned is None else [learned])):
        for view in dict.fromkeys(m.view for m in chosen):
            check_alike(true.what, Columns(truth, view), sample.what, Columns(sample.dataset, view))
    if reference is None:
        true = halves[0]

    rows: list[MetricRow] = []
    refused: list[Refusal] = []
    parts = [None, *(condition_bins(truth, bins) if bins else [])]
    total, done = len(parts) * len(samples) * len(chosen), 0
    for part in parts:
        within = _Within(
            true=true.within(part),
            other=other.within(part),
            halves=(halves[0].within(part), halves[1].within(part)),
            learned=None if learned is None else learned.within(part),
            options=options,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )
        for name, sample in samples.items():
            some = sample.within(part)
            for m in chosen:
                progress(f"{m.name} of {name}" if name else m.name, done, total)
                label = "" if part is None else part.label
                compared = within.compared(m, some)
                try:
                    rows += within.rows(m, name, compared, label)
                except ValueError as error:
                    if names is None or m.name in names:
                        raise
                    refused.append(Refusal(name, m.name, label, str(error)))
                done += 1
    progress("", done, total)
    return MetricTable(tuple(rows), tuple(refused))


@dataclass(frozen=True)
class _Sample:
    """Rows of a dataset in random order, and the first of them as metrics look at them."""

    what: str
    dataset: Dataset
    rows: Tensor
    seen: dict[tuple[View, int], Columns] = field(default_factory=dict)

    @classmethod
    def of(cls, what: str, events: Dataset | Tensor, truth: Dataset, seed: int) -> _Sample:
        dataset = as_dataset(what, events, like=truth)
        return cls(what, dataset, _shuffled(len(dataset), derive_seed(seed, "other")))

    def halves(self) -> tuple[_Sample, _Sample]:
        first, second = self.rows.tensor_split(2)
        return replace(self, rows=first), replace(self, rows=second, what="truth's other half")

    def within(self, part: Bin | None) -> _Sample:
        """The events of a bin; what was looked at before is kept by the whole sample alone."""
        if part is None:
            return replace(self, seen={})
        inside = part.holds(self.dataset)[self.rows]
        return replace(self, what=f"{self.what} in {part.label}", rows=self.rows[inside], seen={})

    def columns(self, view: View, n: int) -> Columns:
        """The first ``n`` of the rows; the same events for every view."""
        if (view, n) not in self.seen:
            known = [columns.events for (_, size), columns in self.seen.items() if size == n]
            events = known[0] if known else rows_of(self.dataset, self.rows[:n])
            check_weights(self.what, events.weights)
            self.seen[view, n] = Columns(events, view)
        return self.seen[view, n]


@dataclass(frozen=True)
class _Compared:
    """Equally many events of truth, other truth and a generator, and the training events if they are looked at."""

    true: Columns
    other: Columns
    generated: Columns
    training: Columns | None
    n: int


@dataclass
class _Within:
    """True samples, of all conditions or of a bin of them, and the floors that were found with them."""

    true: _Sample
    other: _Sample
    halves: tuple[_Sample, _Sample]
    learned: _Sample | None
    options: Mapping[str, Mapping[str, Any]]
    n_bootstrap: int
    seed: int
    floors: dict[tuple[str, int], dict[str, MetricResult]] = field(default_factory=dict)

    def compared(self, m: Metric, sample: _Sample) -> _Compared:
        """What a metric compares: as many events of each sample.

        Raises:
            ValueError: there are too few.
        """
        training = None
        true, other = self.true, self.other
        if "training" in m.asks and self.learned is not None:
            true, other = self.halves
            training = self.learned.columns(m.view, len(self.learned.rows))
        n = min(len(true.rows), len(other.rows), len(sample.rows))
        if n < MINIMUM_EVENTS:
            least = min((true, other, sample), key=lambda one: len(one.rows))
            raise ValueError(f"{least.what}: {n} events; at least {MINIMUM_EVENTS} are needed")
        a, b, c = (one.columns(m.view, n) for one in (true, other, sample))
        return _Compared(true=a, other=b, generated=c, training=training, n=n)

    def rows(self, m: Metric, generator: str, compared: _Compared, label: str) -> list[MetricRow]:
        """A metric of a generator: its own row last, after those of its features."""
        n = compared.n
        settings: dict[str, Any] = {
            "training": compared.training,
            "n_bootstrap": self.n_bootstrap,
            "seed": self.seed,
            "options": self.options.get(m.name, {}),
        }
        if (m.name, n) not in self.floors:
            self.floors[m.name, n] = m.results(compared.true, compared.other, **settings)
        floor = self.floors[m.name, n]
        return [
            MetricRow(generator, m.name, feature, value, floor[feature], m.target_of(feature), n, label)
            for feature, value in m.results(compared.true, compared.generated, **settings).items()
        ]


def _wanted(m: Metric, names: Sequence[str] | None, truth: Dataset, others: Sequence[Dataset], trained: bool) -> bool:
    """Whether it is defined for the samples; one that was asked for by name is, or its own line says why not."""
    if names is not None and m.name in names:
        return True
    if "training" in m.asks and not trained:
        return False
    return not m.problem(Columns(truth, m.view), *(Columns(other, m.view) for other in others))


def _shuffled(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=new_generator(derive_seed(seed, "events")))
