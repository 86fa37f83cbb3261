"""``evaluate``: generated events against truth, every metric with its uncertainty and its floor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.base import MINIMUM_EVENTS, find_metrics
from qgen.metrics.columns import Columns, View, as_dataset, check_alike, look
from qgen.metrics.result import MetricResult
from qgen.metrics.table import MetricRow, MetricTable
from qgen.random import derive_seed, new_generator

__all__ = ["evaluate"]


def evaluate(
    truth: Dataset | Tensor,
    generated: Dataset | Tensor | Mapping[str, Dataset | Tensor],
    *,
    reference: Dataset | Tensor | None = None,
    metrics: Iterable[str] | None = None,
    n_bootstrap: int = 20,
    seed: int = 0,
) -> MetricTable:
    """Score generated events: each metric's value beside its floor, both with an uncertainty.

    The floor is the same metric between two independent samples of truth: what a perfect generator scores. So that
    the bias of finite samples is the same in both, all samples have the same size ``n``: the value compares ``n`` true
    events with ``n`` generated ones, the floor compares the same true events with ``n`` others. The others come from
    ``reference`` or, without it, ``truth`` is split in two halves. Events in excess are left out at random. ``n`` is
    the smallest of the samples; several generators may have different ``n``, each with the floor of its own.

    The uncertainty is the standard deviation over bootstrap replicas of both samples. For a value at its floor it is
    too large, by a factor of up to about two: replicas fluctuate around samples that fluctuate themselves. Scales, bin
    edges and kernel widths are those of the true events. A conditional generator should be given conditions drawn
    afresh, not the very ones of ``truth``: repeated conditions make the samples more alike than independent ones.

    Args:
        truth: events that no generator has been trained on, or a plain table ``(N, d)``.
        generated: events with the same columns (and their own conditions), a plain table, or several by name.
        reference: true events, independent of ``truth``, for the floor. Training events will do: the floor does not
            look at the generator.
        metrics: names as in ``METRICS``; without them all of the default ones (``Metric.by_default``) that are defined
            for these columns (correlation needs two).
        n_bootstrap: bootstrap replicas; the uncertainty is known to about ``1 / sqrt(2 n_bootstrap)`` of itself.
        seed: fixes the choice of events, the replicas and the folds of the classifier.

    Raises:
        ValueError: an unknown metric; fewer than 20 events in a sample; columns or units that differ; a value that is
            not finite. The message names which.

    >>> rng = torch.Generator().manual_seed(0)
    >>> truth, generated = torch.randn(2, 2000, 2, generator=rng, dtype=torch.float64)
    >>> table = evaluate(truth, 1.2 * generated[:1000], metrics=["ks", "correlation"])
    >>> [row.name for row in table]
    ['ks/x0', 'ks/x1', 'ks', 'correlation']
    >>> table["ks"].value.value > table["ks"].floor.value
    True
    """
    asked = find_metrics(metrics)
    truth = as_dataset("truth", truth)
    named = generated if isinstance(generated, Mapping) else {"": generated}
    if not named:
        raise ValueError("generated is an empty mapping; at least one generator's events are needed")
    true = _Sample("truth", truth, _shuffled(len(truth), seed))
    if reference is None:
        first, second = true.rows.tensor_split(2)
        true, other = replace(true, rows=first), replace(true, rows=second, what="truth's other half")
    else:
        other = _sample("reference", reference, truth, seed)
    samples = {
        name: _sample(f"generated {name!r}" if name else "generated", events, truth, seed)
        for name, events in named.items()
    }
    chosen = [m for m in asked if metrics is not None or m.applies(true.columns(m.view))]
    for sample in (other, *samples.values()):
        if (n := min(len(true.rows), len(sample.rows))) < MINIMUM_EVENTS:
            raise ValueError(f"{true.what} against {sample.what}: {n} events; at least {MINIMUM_EVENTS} are needed")
        for view in dict.fromkeys(m.view for m in chosen):
            check_alike(true.what, true.columns(view), sample.what, sample.columns(view))

    floors: dict[tuple[str, int], dict[str, MetricResult]] = {}
    rows = []
    for name, sample in samples.items():
        n = min(len(true.rows), len(other.rows), len(sample.rows))
        for m in chosen:
            a, b, c = (part.columns(m.view, n) for part in (true, other, sample))
            if (m.name, n) not in floors:
                floors[m.name, n] = m.results(a, b, n_bootstrap=n_bootstrap, seed=seed)
            for feature, value in m.results(a, c, n_bootstrap=n_bootstrap, seed=seed).items():
                rows.append(MetricRow(name, m.name, feature, value, floors[m.name, n][feature], m.target, n))
    return MetricTable(tuple(rows))


@dataclass(frozen=True)
class _Sample:
    """Rows of a dataset in random order, and what metrics look at, made once for all samples of the dataset."""

    what: str
    dataset: Dataset
    rows: Tensor
    views: dict[View, Columns] = field(default_factory=dict)

    def columns(self, view: View, n: int | None = None) -> Columns:
        """All events of the dataset, or the first ``n`` of these rows."""
        if view not in self.views:
            self.views[view] = look(self.dataset, view)
        columns = self.views[view]
        return columns if n is None else replace(columns, values=columns.values[self.rows[:n]])


def _sample(what: str, events: Dataset | Tensor, truth: Dataset, seed: int) -> _Sample:
    dataset = as_dataset(what, events, like=truth)
    return _Sample(what, dataset, _shuffled(len(dataset), derive_seed(seed, "other")))


def _shuffled(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=new_generator(derive_seed(seed, "events")))
