"""Trainings that the processes of ``torchrun`` take together: the first one runs the experiment, the others help it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.trained import built, put_on_backend
from qgen.data import DATASETS, Dataset
from qgen.random import derive_seed
from qgen.training import OBJECTIVES, TrainingDivergedError, fit
from qgen.training.parallel import Ranks

__all__ = ["help_with_trainings"]


def help_with_trainings(ranks: Ranks) -> None:
    """Take part in every training of the first process's run, until it says that there are no more.

    The experiment comes from the first process, and so does the state of a training that goes on; the events are
    loaded or simulated here. Nothing is written.
    """
    experiment: Experiment | None = None
    dataset: Dataset | None = None
    while (message := ranks.receive()) is not None:
        if "experiment" in message:
            experiment, dataset = resolve(message["experiment"]), None
        elif experiment is not None:
            if dataset is None:
                dataset = DATASETS[experiment.dataset.kind](**experiment.dataset.options)
            _take_part(experiment, dataset, message["model"], message["seed"], ranks)


def _take_part(experiment: Experiment, dataset: Dataset, name: str, seed: int, ranks: Ranks) -> None:
    config = experiment.models[name]
    if config.objective is None or config.training is None:
        return
    torch.set_num_threads(experiment.threads)
    generator = built(name, config, dataset, seed).to(ranks.device)
    put_on_backend(generator, name, config, seed, ranks.device)
    training: dict[str, Any] = config.training
    with suppress(TrainingDivergedError):  # the first process reports it
        fit(
            generator,
            dataset,
            OBJECTIVES[config.objective.kind](**config.objective.options),
            **training,
            seed=derive_seed(seed, name, "fit"),
            checkpoint_every=experiment.checkpoint_every,
            ranks=ranks,
        )
