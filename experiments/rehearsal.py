"""The rehearsal of an experiment: what cannot work is said before hours are spent."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from experiments.experiment import Evaluation, Experiment
from experiments.strings import check_strings
from experiments.trained import backend_for, built, named, put_on_backend
from qgen.data import Dataset
from qgen.metrics import MINIMUM_EVENTS, evaluate, find_metrics
from qgen.metrics.bins import condition_bins
from qgen.metrics.columns import Columns
from qgen.random import new_generator
from qgen.run import truth_for_judging
from qgen.training import OBJECTIVES, TrainingDivergedError, fit
from qgen.training.layerwise import Growth

__all__ = ["rehearse"]


def rehearse(experiment: Experiment, dataset: Dataset, device: torch.device) -> None:
    """Build every model and take one training step with it, so that what cannot work is said before hours are spent.

    A backend elsewhere is asked whether it is there, and the step is taken on the model's exact one: a job may queue
    and cost.

    Raises:
        ValueError: the model is named, or there are too few events to judge by.
    """
    truth = truth_for_judging(dataset, experiment.evaluation.max_events)
    if len(truth) < MINIMUM_EVENTS:
        raise ValueError(f"dataset: {len(truth)} test events; at least {MINIMUM_EVENTS} are needed to judge a model")
    _judging(truth, dataset, experiment.evaluation)
    if experiment.evaluation.strings:
        check_strings(experiment, dataset)
    for name, config in experiment.models.items():
        seed = experiment.seeds[0]
        generator = built(name, config, dataset, seed).to(device)
        if put_on_backend(generator, name, config, seed, device):
            generator = built(name, config, dataset, seed).to(device)
        if config.objective is None or config.training is None:
            continue
        objective = OBJECTIVES[config.objective.kind](**config.objective.options)
        # a training that diverges at once is no mistake of the configuration: the run reports it as any other
        with suppress(TrainingDivergedError), named(name):
            if config.training["layerwise"] is not None:
                Growth(generator, config.training["layerwise"], config.training["steps"])
            fit(generator, dataset, objective, **{**config.training, "steps": 1, "seconds": None, "layerwise": None})
        if name in experiment.models_on_backends:
            _elsewhere(experiment, generator, name, dataset.train, device)


def _judging(truth: Dataset, dataset: Dataset, evaluation: Evaluation) -> None:
    """Look at bins and metrics, and judge true events by the metrics that have options.

    Raises:
        ValueError: a bin has too few events, a named metric is not defined for them, or an option is impossible.
    """
    for part in condition_bins(truth, evaluation.bins):
        held = int(part.holds(truth).sum())
        if held < MINIMUM_EVENTS:
            raise ValueError(
                f"evaluation.bins: {part.label} holds {held} test events; at least {MINIMUM_EVENTS} are needed"
            )
    for metric in find_metrics(evaluation.metrics):
        problem = metric.problem(Columns(truth, metric.view))
        if problem and metric.name in (evaluation.metrics or ()):
            raise ValueError(f"evaluation.metrics: {problem}")
        if problem or metric.slow or not evaluation.options.get(metric.name):
            continue
        try:
            evaluate(
                truth,
                truth,
                reference=truth,
                training=dataset.train,
                metrics=[metric.name],
                options={metric.name: evaluation.options[metric.name]},
                n_bootstrap=2,
            )
        except ValueError as error:
            raise ValueError(f"evaluation.options.{metric.name}: {error}") from None


def _elsewhere(experiment: Experiment, generator: Any, name: str, events: Dataset, device: torch.device) -> None:
    """Draw two events on each backend of the evaluation; one elsewhere is only asked whether it is there."""
    for label, config in experiment.evaluation.backends.items():
        try:
            backend = backend_for(config, name, experiment.seeds[0], device)
            if not backend.capabilities.remote:
                generator.backend = backend
                generator.sample(2, events.conditions[:2], new_generator(0))
        except ValueError as error:
            raise ValueError(f"evaluation.backends.{label}: {name}: {error}") from error
