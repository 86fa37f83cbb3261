"""What of a run is drawn: the true events and each model's, for every seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from experiments.report.style import Look, looks
from qgen.data.dataset import Dataset, Feature

if TYPE_CHECKING:
    from qgen.run import Run

__all__ = ["Columns", "Events"]


@dataclass(frozen=True)
class Columns:
    """Numbers of the same columns for truth and models.

    Args:
        features: the columns.
        truth: ``(N, d)``.
        models: by name, for each seed ``(N, d)``.
    """

    features: tuple[Feature, ...]
    truth: np.ndarray
    models: dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class Events:
    """True events and, by model, generated events of every seed."""

    truth: Dataset
    models: dict[str, list[Dataset]]
    looks: dict[str, Look]

    @classmethod
    def of(cls, run: Run) -> Events:
        """The events of a run that were judged; a model of which none could be is left out.

        Raises:
            FileNotFoundError: samples of a model are missing.
            ValueError: a file is damaged, or samples are of other columns than the run's data.
        """
        truth = run.truth
        names = [f.name for f in truth.features]
        models: dict[str, list[Dataset]] = {model: [] for model in run.models}
        for model, each in models.items():
            seeds = run.results["models"].get(model, {}).get("seeds", {})
            for seed in run.seeds:
                one = seeds.get(str(seed), {})
                if not one.get("metrics", True) or not one.get("sampled", True):
                    continue
                samples = run.samples(model, seed)
                found = [f.name for f in samples.features]
                if found != names:
                    raise ValueError(
                        f"{run.place(model, seed)}: samples have columns {', '.join(found)}; the run's data have "
                        f"{', '.join(names)}"
                    )
                each.append(truth.with_samples(samples.samples, samples.conditions))
        trained = {model: run.config["models"][model].get("objective") is not None for model in run.models}
        return cls(truth, {model: each for model, each in models.items() if each}, looks(trained))

    def features(self) -> Columns:
        """The features and conditions that a model learns."""
        return self._columns(self.truth, self.models, joint=True)

    def observables(self) -> Columns:
        """The physics observables."""
        models = {name: [events.observables() for events in each] for name, each in self.models.items()}
        return self._columns(self.truth.observables(), models, joint=False)

    @staticmethod
    def _columns(truth: Dataset, models: dict[str, list[Dataset]], *, joint: bool) -> Columns:
        def table(events: Dataset) -> np.ndarray:
            samples = as_numpy(events.samples)
            return np.concatenate([samples, as_numpy(events.conditions)], axis=1) if joint else samples

        features = (*truth.features, *truth.condition_features) if joint else truth.features
        return Columns(features, table(truth), {name: [table(one) for one in each] for name, each in models.items()})


def as_numpy(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, on the CPU."""
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array
