"""One training of a model of an experiment: built, put on its backend, trained, and kept in its folder."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from circuits.backends import Backend, backend_beside
from circuits.metering import Tally, metering
from experiments.experiment import ModelConfig
from experiments.scores import COMPLETED
from qgen.data import Dataset
from qgen.generator import Generator
from qgen.random import derive_seed
from qgen.registry import generator_class
from qgen.run import GENERATOR, TRAINING, read_json
from qgen.statefile import load_generator, save_generator, write_atomically
from qgen.training import OBJECTIVES, TrainingDivergedError, fit
from qgen.training.checkpoint import Checkpoints, DamagedCheckpointWarning, Saved
from qgen.training.parallel import Ranks

__all__ = ["JOBS", "Reporter", "as_json", "backend_for", "built", "named", "put_on_backend", "steps_of", "trained"]

CHECKPOINT = "checkpoint.safetensors"
JOBS = "jobs"
DONE = {"status", "steps", "best_step", "history", "seconds", "cpu_seconds", "executions", "shots"}
"""What is known of every training that came to its end."""


@dataclass(frozen=True)
class Reporter:
    """What a run tells while it goes: the start of a stage (model, seed, steps) and every record of a training."""

    stage: Callable[[str, int, int], None] = lambda model, seed, steps: None
    record: Callable[[dict[str, float]], None] = lambda record: None
    warning: Callable[[str], None] = lambda line: None


def steps_of(config: ModelConfig) -> int:
    """How many steps its training takes, 0 if that is not known before."""
    training = config.training or {}
    return training.get("steps", 0) if training.get("seconds") is None else 0


def built(name: str, config: ModelConfig, dataset: Dataset, seed: int) -> Generator:
    """The model of a configuration, untrained; what its class refuses is said with the model's name."""
    with named(name):
        return generator_class(config.generator.kind).for_dataset(
            dataset, seed=derive_seed(seed, name, "model"), **config.generator.options
        )


def put_on_backend(
    generator: Any, name: str, config: ModelConfig, seed: int, device: torch.device, jobs: Path | None = None
) -> bool:
    """Give the generator the backend of its configuration, if one is named there; True if that is elsewhere.

    Args:
        generator: is changed.
        name: of the model; with the seed it fixes the backend's random draws.
        config: of the model.
        seed: of the training.
        device: of the model; a torch engine that names none of its own runs there.
        jobs: folder in which the jobs of a machine elsewhere are recorded, unless the configuration names one.
    """
    if config.backend is None:
        return False
    try:
        backend = backend_for(config.backend, name, seed, device, jobs)
    except ValueError as error:
        raise ValueError(f"models.{name}.{error}") from error
    generator.backend = backend
    return backend.capabilities.remote


def backend_for(
    config: Mapping[str, Any], model: str, seed: int, device: torch.device, jobs: Path | None = None
) -> Backend:
    """The backend of a configuration, for one training of a model.

    Args:
        config: as :func:`circuits.backends.make_backend` takes it.
        model: its name; with the seed it fixes the backend's random draws.
        seed: of the training.
        device: of the model; a torch engine that names none of its own runs there.
        jobs: folder in which the jobs of a machine elsewhere are recorded, unless the configuration names one.

    Raises:
        ValueError: the key is named that is wrong.
        ImportError: a package is missing.
    """
    folder = None if jobs is None else str(jobs)
    return backend_beside(config, device, derive_seed(seed, model, "backend"), folder)


def trained(
    name: str,
    config: ModelConfig,
    dataset: Dataset,
    seed: int,
    place: Path,
    device: torch.device,
    reporter: Reporter,
    checkpoint_every: int = 100,
    watch: Callable[[Generator, dict[str, float]], None] | None = None,
    ranks: Ranks | None = None,
) -> tuple[Generator, dict[str, Any]]:
    """The model, on its backend, and what its training was; read from the folder if it is there already.

    What is damaged of a finished training is made anew from its last checkpoint, and the reporter is told.

    Args:
        name: of the model; with the seed it fixes all random numbers.
        config: of the model.
        dataset: the events.
        seed: of the training.
        place: folder of this training.
        device: where it trains.
        reporter: is told of records and remarks.
        checkpoint_every: steps between two checkpoints.
        watch: is shown the model as it is at every record; what it raises ends the training.
        ranks: the processes that take the steps together; the others wait in
            :func:`experiments.ranks.help_with_trainings`.

    Returns:
        The model; and ``status``, ``steps``, ``best_step``, ``seconds``, ``cpu_seconds``, ``executions`` and ``shots``
        of circuits, ``remarks`` and ``history``, JSON values.
    """
    try:
        found = _finished(place, device)
    except ValueError as error:
        found = None
        reporter.warning(f"{name}, seed {seed}: {error}; the model is made anew from its checkpoint")
    if found is not None:
        put_on_backend(found[0], name, config, seed, device, place / JOBS)
        return found
    with metering() as tally:
        return _train(name, config, dataset, seed, place, device, reporter, checkpoint_every, tally, watch, ranks)


def _finished(place: Path, device: torch.device) -> tuple[Generator, dict[str, Any]] | None:
    """The model and what its training was, None if it is not trained to its end.

    Raises:
        ValueError: a file is damaged.
    """
    finished, weights = place / TRAINING, place / GENERATOR
    if not finished.exists() or not weights.exists():
        return None
    try:
        training = read_json(finished)
    except ValueError as error:
        raise ValueError(f"{finished}: damaged ({error.__cause__})") from error
    if not isinstance(training, dict) or DONE - set(training):
        raise ValueError(f"{finished}: damaged (it does not say what a training was)")
    return load_generator(weights, device), training


def _train(
    name: str,
    config: ModelConfig,
    dataset: Dataset,
    seed: int,
    place: Path,
    device: torch.device,
    reporter: Reporter,
    checkpoint_every: int,
    tally: Tally,
    watch: Callable[[Generator, dict[str, float]], None] | None,
    ranks: Ranks | None,
) -> tuple[Generator, dict[str, Any]]:
    """Build the model, train it and write both down; ``tally`` counts what is run for it."""
    checkpoint = place / CHECKPOINT
    started, began = time.perf_counter(), time.process_time()
    generator = built(name, config, dataset, seed).to(device)
    remote = put_on_backend(generator, name, config, seed, device, place / JOBS)
    if remote and ranks is not None:
        raise ValueError(f"models.{name}.backend: a machine elsewhere is asked by one process; run without torchrun")
    training: dict[str, Any] = {"status": COMPLETED, "steps": 0, "best_step": 0, "history": []}
    training["seconds"] = time.perf_counter() - started
    training["cpu_seconds"] = time.process_time() - began
    if config.objective is not None and config.training is not None:
        log = place / "metrics.jsonl"
        saved = Checkpoints(checkpoint).load()
        if saved is not None and saved.problem:
            reporter.warning(f"{name}, seed {seed}: {saved.problem}")
        history = _history(saved)
        if history:
            tally.executions += int(history[-1].get("executions", 0))
            tally.shots += int(history[-1].get("shots", 0))
        # an interruption leaves records of steps that are taken again, the last of them perhaps half
        _write_log(log, history)

        def told(record: dict[str, float]) -> None:
            if tally.executions:
                record |= {"executions": tally.executions, "shots": tally.shots}
            with log.open("a") as file:
                file.write(json.dumps(record) + "\n")
            reporter.record(record)
            if watch is not None:
                watch(generator, record)

        if ranks is not None:
            ranks.send({"model": name, "seed": seed})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamagedCheckpointWarning)  # the reporter was told
                result = fit(
                    generator,
                    dataset,
                    OBJECTIVES[config.objective.kind](**config.objective.options),
                    **config.training,
                    seed=derive_seed(seed, name, "fit"),
                    checkpoint=checkpoint,
                    # of a step that costs jobs, none is taken twice
                    checkpoint_every=1 if remote else checkpoint_every,
                    callback=told,
                    ranks=ranks,
                )
        except TrainingDivergedError as error:
            result = error.result
            training["status"] = str(error)
            reporter.warning(f"{name}, seed {seed}: {error}")
        for remark in result.remarks:
            training["status"] += f"; {remark}"
            reporter.warning(f"{name}, seed {seed}: {remark}")
        training |= {"steps": result.steps, "best_step": result.best_step, "remarks": list(result.remarks)}
        training["history"] = result.history
        training["seconds"] += result.seconds
        training["cpu_seconds"] += result.cpu_seconds
        _write_log(log, result.history)  # a training that diverged went back behind its last records
    training |= {"executions": tally.executions, "shots": tally.shots}
    save_generator(place / GENERATOR, generator)
    write_atomically(place / TRAINING, as_json(training))
    return generator, training


@contextmanager
def named(model: str) -> Iterator[None]:
    """Say which model a mistake is of."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"models.{model}: {error}") from error


def _history(saved: Saved | None) -> list[dict[str, float]]:
    """The records up to a checkpoint; ``fit`` says what is wrong with it, if it is none of this training."""
    history = [] if saved is None else saved.state.get("history", [])
    return history if isinstance(history, list) and all(isinstance(record, dict) for record in history) else []


def _write_log(log: Path, history: list[dict[str, float]]) -> None:
    write_atomically(log, "".join(json.dumps(record) + "\n" for record in history).encode())


def as_json(value: Any) -> bytes:
    """A file of JSON."""
    return (json.dumps(value, indent=1) + "\n").encode()
