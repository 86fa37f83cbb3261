"""What an experiment is: data, models, seeds and how they are judged, with every default filled in."""

from __future__ import annotations

from typing import Annotated, Any

import yaml
from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, ConfigDict

from qgen.registry import generator_class

__all__ = ["Choice", "Evaluation", "Experiment", "ModelConfig", "StringOptions"]


class Choice(BaseModel):
    """A kind with its validated options, defaults filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    options: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML."""
        return {"kind": self.kind, **self.options}


class ModelConfig(BaseModel):
    """A model of an experiment.

    ``backend`` is None for a model that runs no circuits or runs them on its own default; ``objective`` and
    ``training`` are None for one that is fitted when it is built. ``tune`` is what a search may vary, by its place in
    the section; a run does not look at it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    generator: Choice
    backend: dict[str, Any] | None
    objective: Choice | None
    training: dict[str, Any] | None
    tune: dict[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML."""
        backend = {} if self.backend is None else {"backend": self.backend}
        trained = {} if self.objective is None else {"objective": self.objective.plain(), "training": self.training}
        tune = {} if self.tune is None else {"tune": self.tune}
        return {**self.generator.plain(), **backend, **trained, **tune}


class StringOptions(BaseModel):
    """How models are judged by expectation values of strings of Z.

    ``scales`` are the bandwidths, in units of a bit, and ``strings`` the random strings of each; ``pairs`` and
    ``triples`` the most of bits whose correlations are compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    scales: Annotated[list[Annotated[float, Gt(0)]], MinLen(1)] | None = None
    strings: Annotated[int, Ge(10), Le(100_000)] = 500
    pairs: Annotated[int, Ge(1)] = 2000
    triples: Annotated[int, Ge(1)] = 1000


class Evaluation(BaseModel):
    """How models are judged.

    ``metrics`` are names of metrics and groups of them, ``options`` are theirs by metric and name, ``bins`` those of
    conditions in which everything is judged as well: by name their number or their edges.

    ``strings`` says whether, or how, all models are also judged by expectation values of the bits of those on bits; if
    it is None they are where one of them cannot be sampled.

    ``backends`` are further ones, by a name that is a folder's, on which trained models are judged as well;
    ``models_on_backends`` are those models, all that run circuits if it is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    metrics: Annotated[list[str], MinLen(1)] | None = None
    options: dict[str, dict[str, Any]] = {}
    bins: dict[str, Annotated[int, Ge(1)] | Annotated[list[float], MinLen(2)]] = {}
    bootstrap: Annotated[int, Ge(2)] = 20
    max_events: Annotated[int, Ge(20)] | None = None
    strings: StringOptions | bool | None = None  # the first is what a message is about
    backends: dict[str, Any] = {}
    models_on_backends: Annotated[list[str], MinLen(1)] | None = None

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML, without options, bins, strings and backends if there are none."""
        without = {name for name in ("options", "bins") if not getattr(self, name)}
        without |= {"strings"} if self.strings is None else set()
        return self.model_dump(exclude=without | (set() if self.backends else {"backends", "models_on_backends"}))


class Experiment(BaseModel):
    """A whole experiment: data, models, seeds and how they are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    description: str
    dataset: Choice
    models: dict[str, ModelConfig]
    seeds: list[int]
    threads: int
    checkpoint_every: int
    evaluation: Evaluation

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML, every default filled in; ``resolve(experiment.plain()) == experiment``."""
        return {
            "name": self.name,
            "description": self.description,
            "dataset": self.dataset.plain(),
            "models": {name: model.plain() for name, model in self.models.items()},
            "seeds": self.seeds,
            "threads": self.threads,
            "checkpoint_every": self.checkpoint_every,
            "evaluation": self.evaluation.plain(),
        }

    @property
    def models_on_backends(self) -> list[str]:
        """The models that are judged on the evaluation's backends as well."""
        if not self.evaluation.backends:
            return []
        asked = self.evaluation.models_on_backends
        return [
            name
            for name, model in self.models.items()
            if generator_class(model.generator.kind).runs_circuits and (asked is None or name in asked)
        ]

    def to_yaml(self) -> str:
        """The resolved configuration as YAML."""
        return yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True)
