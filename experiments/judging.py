"""Judging a model: as many events as there are true ones to compare with, drawn under conditions of their own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.experiment import Evaluation
from qgen.data import Dataset, write_events
from qgen.files import UnwritableError
from qgen.generator import Generator
from qgen.metrics import evaluate
from qgen.metrics.columns import as_dataset
from qgen.random import derive_seed, new_generator
from qgen.run import truth_for_judging

__all__ = ["Drawn", "Judge", "over_seeds"]


@dataclass(frozen=True)
class Drawn:
    """Events of a model.

    Args:
        events: None if they cannot be judged.
        seconds: that drawing them took.
        problem: why they cannot be judged, empty if they can.
    """

    events: Dataset | None
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Judge:
    """The true events of a run and how models are compared with them; the same for a run and whatever re-scores it.

    Args:
        truth: the test split, or its first events.
        other: as many training events, for the floor; models are asked for events under their conditions, because
            those of ``truth`` would flatter a model against the floor.
        training: all training events, for metrics that ask whether a model has learned them by heart.
        evaluation: metrics and bootstrap.
    """

    truth: Dataset
    other: Dataset
    training: Dataset
    evaluation: Evaluation

    @classmethod
    def of(cls, dataset: Dataset, evaluation: Evaluation) -> Judge:
        """The judge of the models that were trained on a dataset."""
        truth = truth_for_judging(dataset, evaluation.max_events)
        training = dataset.train
        return cls(truth, training.take(range(min(len(training), len(truth)))), training, evaluation)

    def draw(self, model: str, generator: Generator, seed: int, save: Path) -> Drawn:
        """Draw a model's events and write them.

        Args:
            model: its name; with the seed it fixes the random numbers.
            generator: the model.
            seed: of its training.
            save: the file to write, HDF5.

        Raises:
            UnwritableError, OSError: the events cannot be written; that says nothing about the model.
        """
        if generator.no_samples:
            return Drawn(None, 0.0, f"no samples: {generator.no_samples}")
        rng = new_generator(derive_seed(seed, model, "samples"))
        started = time.perf_counter()
        try:
            samples = generator.sample(len(self.other), self.other.conditions, rng)
            drawn = self.truth.with_samples(samples, self.other.conditions)
            seconds = time.perf_counter() - started
            as_dataset("generated", drawn, like=self.truth)
            write_events(save, drawn)
        except UnwritableError:
            raise
        except ValueError as error:  # a model that generates nonsense must not cost the others their scores
            return Drawn(None, time.perf_counter() - started, f"not judged: {error}")
        return Drawn(drawn, seconds)

    def scores(
        self, samples: Mapping[str, Dataset], seed: int, warn: Callable[[str], None]
    ) -> dict[str, dict[str, dict[str, float]]]:
        """By name and metric: value, uncertainty, floor and floor's uncertainty.

        Args:
            samples: events of models by name.
            seed: of the training.
            warn: is told which metric could not judge which model, and why.
        """
        table = evaluate(
            self.truth,
            samples,
            reference=self.other,
            training=self.training,
            metrics=self.evaluation.metrics,
            options=self.evaluation.options,
            bins=self.evaluation.bins,
            n_bootstrap=self.evaluation.bootstrap,
            seed=derive_seed(seed, "evaluation"),
        )
        for refusal in table.refused:
            warn(f"{refusal}")
        scores: dict[str, dict[str, dict[str, float]]] = table.to_dict()
        return scores


def over_seeds(judged: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """By metric that all have, the mean of each number over the seeds that could be judged, and the value's spread.

    Of p-values it is the median; an interval is that of a single training and is left out where there are several.

    >>> over_seeds([{"ks": {"value": 0.1, "floor": 0.05}}, {"ks": {"value": 0.3, "floor": 0.05}}])["ks"]["value"]
    0.2
    """
    means: dict[str, dict[str, float]] = {}
    for metric in judged[0] if judged else ():
        results = [one[metric] for one in judged if metric in one]
        if len(results) < len(judged):
            continue
        if len(results) == 1:
            means[metric] = dict(results[0])
            continue
        shared = [key for key in results[0] if key != "interval" and all(key in one for one in results)]
        means[metric] = {
            key: (statistics.median if key == "p_value" else statistics.fmean)(one[key] for one in results)
            for key in shared
        }
        means[metric]["spread"] = statistics.stdev(one["value"] for one in results)
    return means
