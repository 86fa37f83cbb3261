"""Ending a trial early that does worse than the others did at the same step of their trainings.

What is compared is the metric that judges trials, on the same validation events. The validation losses of two trials
often have no common scale: a search varies what the loss itself is made of (the ``beta`` of a VAE, the path of flow
matching, the discriminator's rate), and the loss of a game says nothing about its generator alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from experiments.experiment import ModelConfig
from experiments.space import Space
from experiments.tune.storage import load_optuna
from experiments.tune.trials import Trials

if TYPE_CHECKING:
    from qgen.generator import Generator

__all__ = ["FIRST_TRIALS", "PrunedError", "Rungs", "check_rungs"]

FIRST_TRIALS = 5
"""Trials that end undisturbed before others are measured against them."""

FREE = 4
"""One over the share of a training in which it is left alone."""

LENGTH = ("training.steps", "training.seconds", "training.validate_every", "training.layerwise")
"""What makes two trainings stand at different places at the same step."""


class PrunedError(Exception):
    """A trial was ended early.

    Args:
        step: the last one of its training.
        score: at it.
        n_parameters: of the model.
    """

    def __init__(self, step: int, score: float, n_parameters: int) -> None:
        super().__init__(f"at step {step}, score {score:.3g}")
        self.step = step
        self.n_parameters = n_parameters


def check_rungs(name: str, model: ModelConfig, space: Space) -> None:
    """Refuse a search in which trials cannot be compared at the same step.

    Args:
        name: of the model.
        model: its configuration.
        space: what is varied of it.

    Raises:
        ValueError: trainings of a given time have no common steps, those of different length are at different places of
            their schedules, or nothing is validated before the end.
    """
    training: dict[str, Any] = model.training or {}
    if training["seconds"] is not None:
        raise ValueError(
            f"models.{name}.training.seconds: found {training['seconds']:g}; pruning compares trials at the same step, "
            "and trainings of a given time have different ones"
        )
    for path in LENGTH:
        if path in space:
            raise ValueError(f"models.{name}.tune: varies {path}; pruning compares trials at the same step")
    if training["validate_every"] >= training["steps"]:
        raise ValueError(
            f"models.{name}.training.validate_every: found {training['validate_every']} for {training['steps']} steps; "
            "pruning needs a validation before the last step"
        )


class Rungs:
    """Scores a training at its validations and ends it if it does worse than the median of other trials there.

    Args:
        trials: of the model.
        number: of this trial.
        steps: of the training.
        score: of the generator as it is, at any step.
    """

    def __init__(self, trials: Trials, number: int, steps: int, score: Callable[[Generator], float]) -> None:
        optuna = load_optuna()
        self._trials, self._number, self._steps, self._score = trials, number, steps, score
        self._last = max(trials.frozen()[number].intermediate_values, default=0)
        self._pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=steps // FREE)
        self._study = optuna.load_study(study_name=trials.study, storage=trials.storage)

    def __call__(self, generator: Generator, record: dict[str, float]) -> None:
        """Look at the training at a record of it.

        Raises:
            PrunedError: it is to end here.
        """
        step = int(record["step"])
        # what was passed before an interruption is not asked again: it would be answered with scores of later steps
        if "validation" not in record or step >= self._steps or step < self._last:
            return
        if step > self._last:
            self._trials.report(self._number, step, self._score(generator))
            self._last = step
        frozen = self._trials.frozen()[self._number]
        if self._pruner.prune(self._study, frozen):
            raise PrunedError(step, frozen.intermediate_values[step], generator.n_parameters)
