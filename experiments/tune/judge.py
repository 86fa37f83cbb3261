"""How trials are judged: by one metric, on validation events. Test events are never looked at."""

from __future__ import annotations

from dataclasses import dataclass

from qgen.data import Dataset
from qgen.generator import Generator
from qgen.metrics import METRICS, MINIMUM_EVENTS, Metric, MetricResult
from qgen.random import derive_seed, new_generator
from qgen.text import unknown

__all__ = ["METRIC", "Judge"]

METRIC = "sliced_wasserstein"
"""What trials are judged by: it sees correlations, goes on growing for models that are far off, unlike a classifier,
and has no ties at its floor, unlike an unbiased estimate that is cut off at zero."""

MOST_EVENTS = 1000
"""Most validation events that trials are judged by."""


@dataclass(frozen=True)
class Judge:
    """Scores generators of one dataset; the lower, the better.

    Args:
        metric: by which.
        dataset: the events.
        truth: validation events.
        other: as many training events, whose conditions generated events have.
        seed: of the metric.
        floor: the score of ``other``: what a perfect model has.
    """

    metric: Metric
    dataset: Dataset
    truth: Dataset
    other: Dataset
    seed: int
    floor: MetricResult

    @classmethod
    def of(cls, dataset: Dataset, name: str, seed: int) -> Judge:
        """The judge, who has scored training events already; what the metric lacks is said before anything trains.

        Raises:
            ValueError: the metric is unknown or not defined for the events, or they are too few.
        """
        if name not in METRICS:
            raise ValueError(unknown("metric", name, METRICS))
        metric, truth = METRICS[name], dataset.validation
        if "training" in metric.asks:
            raise ValueError(f"metric {name!r} compares with the training events; choose one that does not")
        truth = truth.take(range(min(len(truth), len(dataset.train), MOST_EVENTS)))
        if len(truth) < MINIMUM_EVENTS:
            raise ValueError(f"dataset: {len(truth)} validation events; at least {MINIMUM_EVENTS} are needed to judge")
        other = dataset.train.take(range(len(truth)))
        return cls(metric, dataset, truth, other, seed, _score(metric, truth, other, seed))

    def score(self, generator: Generator, seed: int) -> MetricResult:
        """Of as many events as there are true ones, under conditions of training events."""
        samples = generator.sample(len(self.other), self.other.conditions, new_generator(derive_seed(seed, "samples")))
        return _score(self.metric, self.truth, self.truth.with_samples(samples, self.other.conditions), self.seed)


def _score(metric: Metric, truth: Dataset, generated: Dataset, seed: int) -> MetricResult:
    found = metric(truth, generated, seed=derive_seed(seed, "validation"))
    return MetricResult(abs(found.value - metric.target), found.uncertainty)
