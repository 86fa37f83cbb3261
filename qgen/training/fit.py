"""``fit``: train a generator on events."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt

from qgen.data.dataset import Dataset
from qgen.generator import Generator
from qgen.random import derive_seed, new_generator
from qgen.training.checkpoint import Checkpoints, DamagedCheckpointWarning, TrainingState
from qgen.training.layerwise import Growth
from qgen.training.objectives import Batch, DivergedError, Objective
from qgen.training.optimisers import OPTIMISERS, OptimiserName, ScheduleName, make_optimiser, set_rates
from qgen.training.parallel import Ranks
from qgen.training.remarks import collapsed, spread

__all__ = ["FitResult", "TrainingDivergedError", "fit"]

FEWEST_EVENTS = 10
"""Fewest events of a dataset with two in each of its splits, as unbiased estimates need."""

VALIDATION_EVENTS = 1000
SPREAD_EVENTS = 256

Record = dict[str, float]


@dataclass(frozen=True)
class FitResult:
    """What a training did.

    Args:
        history: a record every ``log_every`` steps: ``step``, ``loss`` and what else the objective tells, with
            ``validation`` and ``spread`` (of generated events over the true one, in the feature where it is least,
            see :func:`qgen.training.remarks.spread`) where they were computed and ``seconds`` since the start.
        steps: steps done in all.
        best_step: the step whose weights the generator was left with.
        seconds: wall time of the training, validation and checkpoints included; what was spent before an
            interruption counts up to the checkpoint from which it went on.
        cpu_seconds: processor time of this process for the same, summed over its threads.
        remarks: what went wrong without ending it, a plain sentence each: a generator that collapsed, a game without
            balance, a simulation that was cut too short.
    """

    history: list[Record]
    steps: int
    best_step: int
    seconds: float
    cpu_seconds: float
    remarks: tuple[str, ...] = ()


class TrainingDivergedError(RuntimeError):
    """A training broke off; the generator was put back to its last good state.

    Args:
        reason: what was found, and at which step.
        result: the training up to the last good state.
    """

    def __init__(self, reason: str, result: FitResult) -> None:
        super().__init__(reason)
        self.result = result


def fit(
    generator: Generator,
    dataset: Dataset,
    objective: Objective,
    *,
    steps: Annotated[int, Ge(1)] = 500,
    seconds: Annotated[float, Gt(0)] | None = None,
    batch_size: Annotated[int, Ge(2)] | None = 256,
    learning_rate: Annotated[float, Gt(0)] = 0.01,
    optimiser: OptimiserName = "adam",
    betas: tuple[float, float] = (0.9, 0.999),
    schedule: ScheduleName = "cosine",
    clip: Annotated[float, Gt(0)] | None = None,
    layerwise: Annotated[int, Ge(1)] | None = None,
    keep: Literal["best", "last"] = "best",
    validate_every: Annotated[int, Ge(1)] = 50,
    log_every: Annotated[int, Ge(1)] = 10,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 100,
    callback: Callable[[Record], None] | None = None,
    clock: Callable[[], float] = time.process_time,
    ranks: Ranks | None = None,
) -> FitResult:
    """Train ``generator`` in place on the training split of ``dataset``.

    With ``checkpoint``, the whole state is written there, atomically; if the file exists, the training goes on from
    it and ends, on the same machine, with the very weights of a training that was never interrupted. The checkpoint
    before is kept as well, and used with a warning where the newest one is damaged
    (:class:`~qgen.training.checkpoint.Checkpoints`).

    With ``seconds``, the training ends with the step in which it has used so much processor time, all of it counted:
    preparation, steps, validation and checkpoints, in every thread of this process, but no waiting for other processes
    or for a machine elsewhere. At least one step is taken. How many they are differs from run to run, so the weights do
    too.

    Args:
        generator: the model.
        dataset: its ``train`` split is learned, its ``validation`` split (at most 1000 events of it) chooses the state
            that is kept.
        objective: what to minimise.
        steps: optimiser steps of the generator; with ``seconds``, at most so many.
        seconds: of processor time after which it ends; None for as long as the steps take.
        batch_size: events of a step; an epoch takes the events in a new order, a batch that would not be full is
            left out. None for all events in every step.
        learning_rate: of the generator.
        optimiser: of the generator; the objective's own players have theirs.
        betas: of Adam.
        schedule: ``cosine`` brings the learning rate to zero at the last step, or with ``seconds`` as they run out,
            whichever is nearer; players without a schedule of their own follow it too.
        clip: largest norm of the generator's gradient.
        layerwise: steps after which the next layer of the generator's circuit joins; until then its weights are zero
            (see :class:`qgen.training.layerwise.Growth`). None to train all layers from the start.
        keep: ``best`` leaves the weights of the lowest validation loss, ``last`` those of the last step.
        validate_every: steps between two validations.
        log_every: steps between two records.
        seed: fixes initial discriminators, the order of events and all random numbers.
        checkpoint: file of the state, or None; the one before is kept as ``NAME.previous.SUFFIX``.
        checkpoint_every: steps between two checkpoints.
        callback: called with each new record; with ``ranks`` it must not run the model.
        clock: the seconds used so far, of which only differences count.
        ranks: the processes that take the steps together, each calling this function with the same arguments
            (:func:`qgen.training.parallel.joined`). The first one's checkpoint, callback and clock are used.

    Returns:
        The history and the step kept.

    Raises:
        ValueError: an impossible setting, data that do not fit the model, a checkpoint of another training, or two
            checkpoints that are damaged.
        TrainingDivergedError: a loss, gradient or weight was not finite; the last good state was kept.
        OSError: a checkpoint cannot be written; the one before stays.
    """
    settings: dict[str, Any] = {
        "steps": steps,
        "seconds": seconds,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimiser": optimiser,
        "betas": list(betas),
        "schedule": schedule,
        "clip": clip,
        "layerwise": layerwise,
        "keep": keep,
        "validate_every": validate_every,
        "log_every": log_every,
        "seed": seed,
    }
    _check(settings, checkpoint_every, generator, dataset)
    settings |= {
        "objective": objective.settings(),
        "events": len(dataset),
        "data": dataset.checksum,
        "columns": [feature.name for feature in (*dataset.features, *dataset.condition_features)],
    }
    if ranks is not None:
        if (data := ranks.same(dataset.checksum)) != dataset.checksum:
            raise ValueError(
                f"process {ranks.rank} has other events than the first one (SHA-256 {dataset.checksum[:12]}, there "
                f"{data[:12]}); all need the same file, or the same versions that simulate"
            )
        clock = clock if seconds is None else ranks.clock(clock)
    started, began = time.perf_counter(), clock()
    train = _batch(generator, dataset.train)
    generator.saw(dataset.train.conditions)
    validation = _batch(generator, dataset.validation.take(range(min(len(dataset.validation), VALIDATION_EVENTS))))
    objective.prepare(generator, train, seed)
    state = TrainingState(
        generator=generator,
        objective=objective,
        optimisers={
            "generator": make_optimiser(optimiser, generator.parameters(), learning_rate, (betas[0], betas[1])),
            **objective.optimisers(),
        },
        rng=new_generator(derive_seed(seed, "training")),
        step=0,
        history=[],
    )
    growth = None if layerwise is None else Growth(generator, layerwise, steps)
    if growth is not None:
        growth.start(state.optimisers["generator"])
    first = ranks is None or ranks.rank == 0
    checkpoints = None if checkpoint is None or not first else Checkpoints(checkpoint)
    if checkpoints is not None and (saved := checkpoints.load()) is not None:
        if saved.problem:
            warnings.warn(saved.problem, DamagedCheckpointWarning, stacklevel=2)
        state.resume(saved, settings)
    if ranks is not None:
        state.follow(ranks)
    if state.history:
        started -= state.history[-1]["seconds"]
    began -= state.cpu_seconds

    def used() -> float:
        """The share of the budget that is used, of steps or of seconds, whichever is larger."""
        return min(1.0, max(state.step / steps, 0.0 if seconds is None else (clock() - began) / seconds))

    good = state.snapshot()
    order = _Order(len(train), batch_size, seed)
    with nullcontext() if ranks is None else ranks.sharing(generator, objective):
        while (done := used()) < 1 or state.step == 0:
            number = state.step + 1
            set_rates(state.optimisers.values(), schedule, done)
            if growth is not None:
                growth.reach(state.step)
            rows = order.rows(state.step)
            batch = _redrawn(generator, train if rows is None else train.take(rows), state.rng)
            try:
                numbers = objective.step(generator, batch, state.optimisers, state.rng, clip)
                _check_weights(generator)
                state.step = number
                record: Record = {"step": number, **numbers}
                last = used() >= 1
                if last or number % validate_every == 0:
                    record["validation"] = _validate(state, validation, seed)
                    some = validation.take(
                        torch.arange(min(len(validation), SPREAD_EVENTS), device=validation.values.device)
                    )
                    if not generator.no_samples:
                        record["spread"] = spread(generator, some, new_generator(derive_seed(seed, "spread")))
            except DivergedError as error:
                state.restore(good)
                _keep(state, keep)
                result = _result(state, keep, started, clock() - began)
                raise TrainingDivergedError(
                    f"training diverged at step {number}: {error}; kept the state of step {result.best_step}", result
                ) from error
            if last or number % log_every == 0 or "validation" in record:
                record |= generator.records()
                record["seconds"] = time.perf_counter() - started
                state.history.append(record)
                if callback is not None and first:
                    callback(record)
            if last or number % checkpoint_every == 0:
                state.cpu_seconds = clock() - began
                if ranks is not None:
                    state.follow(ranks)  # machines may differ in the last bit
                good = state.snapshot()
                if checkpoints is not None:
                    state.save(checkpoints, settings)
    _keep(state, keep)
    return _result(state, keep, started, clock() - began)


class _Order:
    """Which events a step sees: every event once an epoch, in an order that the seed and the epoch fix."""

    def __init__(self, n_events: int, batch_size: int | None, seed: int) -> None:
        self.n_events = n_events
        self.size = n_events if batch_size is None else min(batch_size, n_events)
        self.seed = seed
        self.epoch = -1

    def rows(self, step: int) -> torch.Tensor | None:
        """Rows of a step's events, or None for all."""
        if self.size == self.n_events:
            return None
        epoch, place = divmod(step, self.n_events // self.size)
        if epoch != self.epoch:
            rng = new_generator(derive_seed(self.seed, "order", epoch))
            self.epoch, self.order = epoch, torch.randperm(self.n_events, generator=rng)
        return self.order[place * self.size : (place + 1) * self.size]


def _check(settings: dict[str, Any], checkpoint_every: int, generator: Generator, dataset: Dataset) -> None:
    allowed = {
        "optimiser": list(OPTIMISERS),
        "schedule": ["constant", "cosine"],
        "keep": ["best", "last"],
    }
    for name, values in allowed.items():
        if settings[name] not in values:
            raise ValueError(f"{name} is {settings[name]!r}; allowed are {', '.join(values)}")
    if settings["batch_size"] is not None and settings["batch_size"] < 2:
        raise ValueError(f"batch_size is {settings['batch_size']}; at least 2 is needed, or none for all events")
    positive = {name: settings[name] for name in ("steps", "seconds", "validate_every", "log_every", "clip")}
    positive |= {"learning_rate": settings["learning_rate"], "checkpoint_every": checkpoint_every}
    for name, value in positive.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; it must be positive and finite")
    if settings["seconds"] is not None and settings["layerwise"] is not None:
        raise ValueError("seconds and layerwise are both given; layers join after steps, of which no number is known")
    if (generator.n_features, generator.n_conditions) != (dataset.n_features, dataset.n_conditions):
        raise ValueError(
            f"the model has {generator.n_features} features and {generator.n_conditions} conditions, the dataset "
            f"{dataset.n_features} ({', '.join(f.name for f in dataset.features)}) and {dataset.n_conditions}"
        )
    if dataset.weights is not None:
        raise ValueError("the dataset has weighted events; training takes events that all count the same")
    if len(dataset) < FEWEST_EVENTS:
        raise ValueError(f"the dataset has {len(dataset)} events; at least {FEWEST_EVENTS} are needed for its splits")
    if not any(parameter.requires_grad for parameter in generator.parameters()):
        raise ValueError(f"{type(generator).__name__} has no trainable parameters; it is fitted when it is built")


def _batch(generator: Generator, events: Dataset) -> Batch:
    device = generator.device
    samples, condition = events.samples.to(device), events.conditions.to(device)
    values = generator.transform(samples, condition)
    return Batch(values, generator.condition_transform(condition) if generator.n_conditions else None)


def _redrawn(generator: Generator, events: Batch, rng: torch.Generator) -> Batch:
    """The events with the random part of the model's transform, if it has one, drawn anew."""
    condition = None if events.condition is None else generator.condition_transform.inverse(events.condition)
    return Batch(generator.transform.noisy(events.values, condition, rng), events.condition)


def _check_weights(generator: Generator) -> None:
    for name, parameter in generator.named_parameters():
        if not torch.isfinite(parameter).all():
            raise DivergedError(f"weights {name!r} are not finite")


def _validate(state: TrainingState, validation: Batch, seed: int) -> float:
    rng = new_generator(derive_seed(seed, "validation"))
    with torch.no_grad():
        events = _redrawn(state.generator, validation, rng)
        value = float(state.objective.validation_loss(state.generator, events, rng))
    if not math.isfinite(value):
        raise DivergedError(f"the validation loss is {value:g}")
    if state.best is None or value < state.best["loss"]:
        weights = {name: tensor.clone() for name, tensor in state.generator.state_dict().items()}
        state.best = {"loss": value, "step": state.step, "weights": weights}
    return value


def _keep(state: TrainingState, keep: str) -> None:
    if keep == "best" and state.best is not None:
        state.generator.load_state_dict(state.best["weights"])


def _result(state: TrainingState, keep: str, started: float, cpu_seconds: float) -> FitResult:
    best_step = int(state.best["step"]) if keep == "best" and state.best is not None else state.step
    remarks = collapsed(state.history, best_step) + state.objective.remarks(state.history)
    remarks += state.generator.remarks(state.history)
    return FitResult(state.history, state.step, best_step, time.perf_counter() - started, cpu_seconds, remarks)
