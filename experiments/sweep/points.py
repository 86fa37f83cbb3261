"""From a point of a grid to its job: the configuration with the point's values in their places, and its name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from experiments.config import resolve, set_at
from experiments.experiment import Experiment, ModelConfig
from experiments.provenance import config_hash
from experiments.sweep.grid import Grid, Point, point_text, points
from qgen.registry import generator_class
from qgen.text import listed

__all__ = ["SEED", "Base", "job_id", "planned"]

SEED = "seed"
"""The path that makes a job one training of each model: ``seeds`` is this one."""

MOST_KEPT = 1000
"""Resolved points that are kept, for the seeds that are to come."""

LETTERS = 16
"""Of a job's name: 64 bits."""


def job_id(experiment: Experiment) -> str:
    """The name of an experiment's job, which comes from what the experiment is and from nothing else."""
    return config_hash(experiment)[:LETTERS]


@dataclass(frozen=True)
class Base:
    """What all jobs of a sweep have in common: a configuration as it is written."""

    raw: dict[str, Any]

    @cached_property
    def experiment(self) -> Experiment:
        """The configuration without a point."""
        return resolve(self.raw)

    def at(self, point: Mapping[str, Any]) -> Experiment:
        """The experiment of a point.

        Raises:
            ValueError: a path leads nowhere, or a value is not allowed there; the point is named.
        """
        seedless = {path: value for path, value in point.items() if path != SEED}
        key = json.dumps(seedless)
        try:
            if key not in self._resolved:
                if len(self._resolved) >= MOST_KEPT:
                    self._resolved.clear()
                self._resolved[key] = self._with(seedless)
            experiment = self._resolved[key]
            return experiment if SEED not in point else _with_seed(experiment, point[SEED])
        except (LookupError, ValueError) as error:
            raise ValueError(f"grid at {point_text(point)}: {error.args[0]}") from None

    @cached_property
    def _resolved(self) -> dict[str, Experiment]:
        """Points that were resolved already, without their seed."""
        return {}

    def _with(self, point: Point) -> Experiment:
        raw = dict(self.raw)
        for path, value in point.items():
            for parts in self.places(path):
                set_at(raw, parts, value)
        return resolve(raw)

    def places(self, path: str) -> list[list[str]]:
        """Where a path leads, cut at its dots; ``model.x`` to every model that has x.

        Raises:
            ValueError: to no model, or to kinds of several.
        """
        first, *rest = path.split(".")
        if first != "model":
            return [[first, *rest]]
        models = self.experiment.models
        if not rest:
            raise ValueError(f"{path}: expected what of the model is varied, model.layers")
        if len(models) > 1 and rest == ["kind"]:
            raise ValueError(f"{path}: which of the models {listed(models)}? Name it: models.NAME.kind")
        chosen = [name for name, model in models.items() if len(models) == 1 or _has(model, rest)]
        if not chosen:
            raise ValueError(f"{path}: none of the models {listed(models)} has it; name one: models.NAME.key")
        return [["models", *name.split("."), *rest] for name in chosen]

    def concerns(self, path: str, model: str) -> bool:
        """Whether a path changes a model: it is not that of others alone."""
        places = [["seeds"]] if path == SEED else self.places(path)
        name = ["models", *model.split(".")]
        return any(place[0] != "models" or place[: len(name)] == name or len(place) == 1 for place in places)

    def check(self, grid: Grid) -> None:
        """See that the paths of a grid do not meet.

        Raises:
            ValueError: two are the same place or one is within the other, or one is of no consequence.
        """
        taken: dict[tuple[str, ...], str] = {}
        for path in grid:
            if path in ("name", "description"):
                raise ValueError(f"grid {path}: changes no result; vary something else")
            for parts in [["seeds"]] if path == SEED else self.places(path):
                for other, name in taken.items():
                    shared = min(len(other), len(parts))
                    if other[:shared] == tuple(parts[:shared]):
                        raise ValueError(f"grid: {name} and {path} are the same place, or one is within the other")
                taken[tuple(parts)] = path


def planned(base: Base, grids: Sequence[Grid]) -> Iterator[tuple[str, Point]]:
    """Name and point of every job, each job once; every point is resolved.

    Raises:
        ValueError: a point is impossible, or two of one grid are the same job.
    """
    done: set[str] = set()
    for grid in grids:
        base.check(grid)
        own: dict[str, Point] = {}
        for point in points(grid):
            job = job_id(base.at(point))
            if job in own:
                raise ValueError(f"grid: {point_text(own[job])} and {point_text(point)} are the same job")
            own[job] = point
            if job not in done:
                yield job, point
        done |= own.keys()


def _with_seed(experiment: Experiment, seed: Any) -> Experiment:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed: found {seed!r}; expected an integer, 0 or above")
    return experiment.model_copy(update={"seeds": [seed]})


def _has(model: ModelConfig, keys: Sequence[str]) -> bool:
    """Whether a model has something at a place of its section, every default filled in."""
    if keys[0] == "backend":
        return generator_class(model.generator.kind).runs_circuits
    inner: Any = model.plain()
    for key in keys:
        if not isinstance(inner, Mapping) or key not in inner:
            return False
        inner = inner[key]
    return True
