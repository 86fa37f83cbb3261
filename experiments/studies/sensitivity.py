"""The study ``sensitivity``: which metric sees which fault of a generator.

True events are made faulty in one way at a time (:mod:`experiments.studies.faults`) and scored as a generator's events
are: against other true events, beside the floor. What counts is by how many standard deviations a metric puts the fault
further from a perfect generator's value than the floor is: negative or small where it is blind.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from experiments.studies.faults import FAULTS
from qgen.data import load_calorimeter, muon_events
from qgen.data.dataset import Dataset
from qgen.metrics import METRICS, MetricRow, evaluate, find_metrics
from qgen.random import derive_seed, new_generator
from qgen.text import unknown

__all__ = ["SOURCES", "Settings", "excess", "sensitivity"]

SOURCES: dict[str, Callable[[int], Dataset]] = {
    "8 pixels": lambda n: load_calorimeter(grid=(8,)),
    "8x8 pixels": lambda n: load_calorimeter(grid=(8, 8)),
    "muon events": lambda n: muon_events(n=8 * n),
}
"""True events by name, for samples of so many; of muon events as many as are needed."""

POOL = 2
"""Events from which a sample without some of them is drawn, over its size."""


@dataclass(frozen=True)
class Settings:
    """What the study computes.

    Args:
        sources: names of :data:`SOURCES`.
        faults: names of :data:`~experiments.studies.faults.FAULTS`.
        metrics: names or groups; slow ones only by name.
        events: in each sample.
        seeds: repetitions with other events.
        bootstrap: replicas of each uncertainty.

    Raises:
        ValueError: the option is named, with what was found and what is allowed.
    """

    sources: Sequence[str] = tuple(SOURCES)
    faults: Sequence[str] = tuple(FAULTS)
    metrics: Sequence[str] = ("all",)
    events: int = 600
    seeds: int = 3
    bootstrap: int = 10

    def __post_init__(self) -> None:
        for what, names, known in (("source", self.sources, SOURCES), ("fault", self.faults, FAULTS)):
            for name in names:
                if name not in known:
                    raise ValueError(unknown(what, name, known))
        if not self.sources or not self.faults:
            raise ValueError("sources or faults is empty; name at least one of each")
        find_metrics(self.metrics)
        for name, least in (("events", 100), ("seeds", 1), ("bootstrap", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {least} is needed")


def sensitivity(settings: Settings, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Do the study.

    Args:
        settings: what to compute.
        progress: is told of each part.

    Returns:
        JSON values: ``settings``; ``rows`` with ``source``, ``metric``, ``fault``, the ``excess`` of each seed (None
        where neither value nor floor has an uncertainty) and their ``mean``; ``refused``, what metrics had to say of
        events that they do not score.

    Raises:
        ValueError: a source has too few events.
    """
    found: dict[tuple[str, str, str], list[float | None]] = {}
    refused: dict[str, str] = {}
    for source in settings.sources:
        whole = SOURCES[source](settings.events)
        most = len(whole) // (3 + POOL)
        if settings.events > most:
            raise ValueError(f"events is {settings.events}; {source} has {len(whole)}, enough for {most}")
        for seed in range(settings.seeds):
            truth, other, training, faulty = _samples(whole, settings, seed)
            for metric in find_metrics(settings.metrics):
                progress(f"{source}, seed {seed}, {metric.name}")
                rows, problems = _scored(metric.name, truth, other, training, faulty, settings, seed)
                for row in rows:
                    found.setdefault((source, metric.name, row.generator), []).append(excess(row))
                refused |= {f"{metric.name}, {source}{name}": line for name, line in problems.items()}
    return {
        "settings": asdict(settings),
        "rows": [
            {"source": source, "metric": metric, "fault": fault, "excess": values, "mean": _mean(values)}
            for (source, metric, fault), values in found.items()
        ],
        "refused": refused,
    }


def excess(row: MetricRow) -> float | None:
    """How much further from a perfect generator's value than the floor, in standard deviations; None if it has none."""
    sigma = math.hypot(row.value.uncertainty, row.floor.uncertainty)
    difference = abs(row.value.value - row.target) - abs(row.floor.value - row.target)
    return difference / sigma if sigma > 0 else None


def _samples(whole: Dataset, settings: Settings, seed: int) -> tuple[Dataset, Dataset, Dataset, dict[str, Dataset]]:
    """Truth, other truth for the floor, training events, and by name what faulty generators make of further events."""
    n = settings.events
    order = torch.randperm(len(whole), generator=new_generator(derive_seed(seed, "sensitivity")))
    truth, other, training = (whole.take(order[i * n : (i + 1) * n]) for i in range(3))
    pool = whole.take(order[3 * n :])
    faulty = {name: FAULTS[name](pool, training, n, derive_seed(seed, name)) for name in settings.faults}
    return truth, other, training, faulty


def _scored(
    metric: str,
    truth: Dataset,
    other: Dataset,
    training: Dataset,
    faulty: Mapping[str, Dataset],
    settings: Settings,
    seed: int,
) -> tuple[list[MetricRow], dict[str, str]]:
    """The rows of a metric, and its line where it refuses all of the events (under the empty name) or some."""

    def rows(of: Mapping[str, Dataset]) -> list[MetricRow]:
        table = evaluate(
            truth,
            of,
            reference=other,
            training=training,
            metrics=[metric],
            n_bootstrap=settings.bootstrap,
            seed=seed,
        )
        return [row for row in table if not row.feature]

    if METRICS[metric].needs(truth):
        return [], {}
    try:
        return rows(faulty), {}
    except ValueError:  # of which of them it does not say
        kept, problems = [], {}
        for name, events in faulty.items():
            try:
                kept += rows({name: events})
            except ValueError as error:
                problems[f", {name}"] = str(error)
        return kept, problems


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None
