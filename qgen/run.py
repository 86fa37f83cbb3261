"""``load_run``: a finished or running experiment, read from its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from qgen.data import DATASETS, Dataset, load_events
from qgen.generator import Generator
from qgen.plain import read_yaml_file
from qgen.random import derive_seed, new_generator
from qgen.statefile import load_generator
from qgen.text import is_folder_name, unknown

__all__ = ["Run", "load_run", "read_config", "read_json", "truth_for_judging"]

CONFIG, ENVIRONMENT, RESULTS = "config.yaml", "environment.json", "results.json"
GENERATOR, SAMPLES, TRAINING = "generator.safetensors", "samples.h5", "training.json"
BLOCK_EVENTS, BLOCK_BYTES = 2**16, 2**27

MOST_BYTES = 100_000_000
"""Of a file of JSON that is read."""


@dataclass(frozen=True)
class Run:
    """A run's folder.

    Args:
        folder: where it is.
        config: the resolved configuration as plain data.
    """

    folder: Path
    config: dict[str, Any]

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(self.config["models"])

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trainings."""
        return list(self.config["seeds"])

    @cached_property
    def dataset(self) -> Dataset:
        """The events that the models were trained on, with their splits."""
        options = dict(self.config["dataset"])
        kind = options.pop("kind")
        if kind not in DATASETS:
            raise ValueError(f"{self.folder / CONFIG}: dataset.{unknown('kind', kind, DATASETS)}")
        try:
            dataset: Dataset = DATASETS[kind](**options)
        except TypeError as error:
            raise ValueError(f"{self.folder / CONFIG}: dataset: {error}") from error
        return dataset

    @cached_property
    def truth(self) -> Dataset:
        """The true events that the models are judged by."""
        return truth_for_judging(self.dataset, (self.config.get("evaluation") or {}).get("max_events"))

    @cached_property
    def results(self) -> dict[str, Any]:
        """What stands in ``results.json``.

        Raises:
            FileNotFoundError: the run is not finished.
        """
        path = self.folder / RESULTS
        if not path.exists():
            raise FileNotFoundError(f"{self.folder}: the run is not finished ({RESULTS} is missing); resume it first")
        return _mapping(path)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions and machine of the run."""
        return _mapping(self.folder / ENVIRONMENT)

    def place(self, model: str, seed: int | None = None) -> Path:
        """The folder of one training.

        Args:
            model: its name.
            seed: the first of the run if not given.

        Raises:
            ValueError: the run has no such model or seed.
        """
        if model not in self.models:
            raise ValueError(f"{self.folder}: {unknown('model', model, self.models)}")
        seed = self.seeds[0] if seed is None else seed
        if seed not in self.seeds:
            raise ValueError(f"{self.folder}: seed {seed} is unknown; seeds are {', '.join(map(str, self.seeds))}")
        return self.folder / f"seed-{seed}" / model

    def generator(self, model: str, seed: int | None = None, device: torch.device | str = "cpu") -> Generator:
        """A trained model; one that runs circuits is on its default, exact backend.

        Args:
            model: its name.
            seed: of which training; the first if not given.
            device: where it is put, ``cpu`` or ``cuda``.

        Raises:
            FileNotFoundError: it is not trained yet.
            ValueError: an unknown model, seed or device, or a damaged file.
        """
        place = self.place(model, seed)
        if not (place / GENERATOR).exists():
            raise FileNotFoundError(f"{place}: {model} is not trained yet; resume the run first")
        return load_generator(place / GENERATOR, device)

    def samples(self, model: str, seed: int | None = None) -> Dataset:
        """The events of a model that were judged."""
        return load_events(self.place(model, seed) / SAMPLES)

    def sample(
        self,
        model: str,
        n: int,
        *,
        condition: Sequence[float] | None = None,
        model_seed: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        backend: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """New events from a trained model, all of :meth:`sample_blocks` together.

        Args:
            model: its name.
            n: how many.
            condition: the same for all events, in physical units; without one, each event has the condition of a
                randomly chosen test event.
            model_seed: which of the run's trainings; the first if not given.
            seed: of the random numbers.
            device: where the model runs.
            backend: where its circuits run, as a configuration says it; the one of the run if not given.

        Raises:
            FileNotFoundError: the model is not trained yet.
            ValueError: ``n`` is below 1, an unknown model, seed, device or backend, a backend for a model without
                circuits, or a condition of another length or impossible.
        """
        blocks = list(
            self.sample_blocks(
                model, n, condition=condition, model_seed=model_seed, seed=seed, device=device, backend=backend
            )
        )
        if len(blocks) == 1:
            return blocks[0]
        samples, conditions = (torch.cat([getattr(b, name) for b in blocks]) for name in ("samples", "conditions"))
        return self.dataset.with_samples(samples, conditions)

    def sample_blocks(
        self,
        model: str,
        n: int,
        *,
        condition: Sequence[float] | None = None,
        model_seed: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        backend: Mapping[str, Any] | str | None = None,
    ) -> Iterator[Dataset]:
        """The events of :meth:`sample` in blocks, so that any number fits into memory.

        A block has 65,536 events, or as many as make 128 MB; the events depend on ``seed``, not on who asks for them.

        Args:
            model, n, condition, model_seed, seed, device, backend: see :meth:`sample`.

        Raises:
            FileNotFoundError, ValueError: see :meth:`sample`.
        """
        if n < 1:
            raise ValueError(f"n is {n}; at least 1 event must be asked for")
        generator: Any = self.generator(model, model_seed, device)
        if backend is not None and not generator.runs_circuits:
            raise ValueError(f"model {model!r} runs no circuits of qubits and takes no backend")
        backend = backend if backend is not None else self.config["models"][model].get("backend")
        if backend is not None:
            from circuits.backends import backend_beside, backend_config

            generator.backend = backend_beside(backend_config(backend), device, derive_seed(seed, model, "backend"))
        dataset = self.dataset
        names = [f"{feature.name} in {feature.unit}" for feature in dataset.condition_features]
        if condition is not None and len(condition) != len(names):
            raise ValueError(f"condition has {len(condition)} values; expected {len(names)} ({', '.join(names)})")
        test = dataset.test.conditions
        step = max(1, min(BLOCK_EVENTS, BLOCK_BYTES // (8 * max(1, dataset.n_features))))
        for number, start in enumerate(range(0, n, step)):
            rng = new_generator(derive_seed(seed, model, "new samples", *([number] if number else [])))
            events = min(step, n - start)
            if condition is None:
                conditions = test[torch.randint(len(test), (events,), generator=rng)]
            else:
                conditions = torch.tensor(list(condition), dtype=torch.float64).expand(events, -1)
            yield dataset.with_samples(generator.sample(events, conditions, rng), conditions)

    def training(self, model: str, seed: int | None = None) -> dict[str, Any]:
        """``status``, ``steps``, ``seconds`` and ``history`` of a training."""
        return _mapping(self.place(model, seed) / TRAINING)


def truth_for_judging(dataset: Dataset, max_events: int | None) -> Dataset:
    """The test split, or its first ``max_events``."""
    test = dataset.test
    return test if max_events is None else test.take(range(min(len(test), max_events)))


def load_run(folder: Path | str) -> Run:
    """Open a run's folder.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its configuration is damaged.
    """
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no run is here ({CONFIG} is missing)")
    _check_links(folder)
    return Run(folder, read_config(path))


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run, its names such that no path leads out of the folder.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    config = read_yaml_file(path)
    config = config if isinstance(config, dict) else {}
    bad = [name for name, fits in SHAPES.items() if not fits(config.get(name))]
    if bad:
        raise ValueError(f"{path}: damaged ({', '.join(bad)} missing or of the wrong kind)")
    for name in config["models"]:
        if not isinstance(name, str) or not is_folder_name(name):
            raise ValueError(f"{path}: models: {name!r} is no name for a model; it names a folder")
    return config


def _has_kind(section: Any) -> bool:
    return isinstance(section, dict) and isinstance(section.get("kind"), str)


SHAPES: dict[str, Callable[[Any], bool]] = {
    "dataset": _has_kind,
    "models": lambda models: isinstance(models, dict) and bool(models) and all(map(_has_kind, models.values())),
    "seeds": lambda seeds: isinstance(seeds, list) and bool(seeds) and all(type(seed) is int for seed in seeds),
    "evaluation": lambda evaluation: evaluation is None or isinstance(evaluation, dict),
}
"""What a configuration is seen to be before it is used; :func:`experiments.config.resolve` checks it whole."""


def _check_links(folder: Path) -> None:
    """Refuse links that lead out of the folder: a run is written to when it goes on, and only there."""
    own = folder.resolve()
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(own):
                raise ValueError(f"{path}: is a link out of the run's folder; put what is meant in its place")


def _mapping(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: damaged (found {type(found).__name__}; expected keys and values)")
    return found


def read_json(path: Path) -> Any:
    """A JSON file of a run.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged, or larger than any.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the run is not finished, or not a run")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path}: has {size} bytes; at most {MOST_BYTES} are read")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8, of a number with too many digits
        raise ValueError(f"{path}: damaged ({error}); delete it and resume the run to make it anew") from error
