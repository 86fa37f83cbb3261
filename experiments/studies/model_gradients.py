"""The gradient of one configured model under its own objective, where its training starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from circuits.backends import ParameterShift, Sampled, Statevector
from experiments.experiment import Experiment
from experiments.run import backend_for, load_dataset
from qgen.data import Dataset
from qgen.generator import Generator
from qgen.random import derive_seed, new_generator
from qgen.registry import generator_class
from qgen.text import unknown
from qgen.training import OBJECTIVES
from qgen.training.objectives import Batch, Objective

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["model_gradients", "model_table"]

DEAD = 1e-12
"""A derivative below it is rounding."""


def model_gradients(
    experiment: Experiment, model: str, *, seeds: int = 10, events: int = 256, shots: int = 1000
) -> dict[str, Any]:
    """Build a model afresh for several seeds and take the gradient of its objective each time.

    The noise of a derivative is the spread between gradients of the same weights and events: that of the model's own
    draws, and for circuits that with so many shots of every circuit, by the parameter-shift rule.

    Args:
        experiment: names the data and the model.
        model: its name there; one that trains.
        seeds: how many initial states, numbered from 0.
        events: training events of the batch, the same for all seeds.
        shots: measurements of each circuit.

    Returns:
        JSON values. For each group of parameters (``groups``): ``parameters``, ``rms`` (root of the mean squared
        derivative), ``variance`` (over seeds, mean over parameters), ``norm`` (of the gradient, mean over seeds) and
        ``dead`` (share of parameters whose derivative is 0 for every seed). ``losses`` by seed; ``noise`` of a
        derivative, ``shot_noise`` (None where there are no circuits or the objective takes no shots) and a ``verdict``.

    Raises:
        ValueError: no such model, one that is fitted when it is built, or fewer than 2 seeds, events or shots.
    """
    if model not in experiment.models:
        raise ValueError(f"--model: {unknown('model', model, list(experiment.models))}")
    config = experiment.models[model]
    if config.objective is None:
        raise ValueError(f"--model: {config.generator.kind} is fitted when it is built; it has no gradient")
    for name, value in (("seeds", seeds), ("events", events), ("shots", shots)):
        if value < 2:
            raise ValueError(f"{name} is {value}; at least 2 are needed")
    dataset = load_dataset(experiment)
    cls = generator_class(config.generator.kind)
    losses: list[float] = []
    found: dict[str, list[Tensor]] = {}
    for seed in range(seeds):
        generator: Any = cls.for_dataset(dataset, seed=derive_seed(seed, model, "model"), **config.generator.options)
        if config.backend is not None:
            generator.backend = backend_for(config.backend, model, seed, torch.device("cpu"))
        objective = OBJECTIVES[config.objective.kind](**config.objective.options)
        train = _batch(generator, dataset.train)
        objective.prepare(generator, train, derive_seed(seed, model, "fit"))
        batch = train.take(torch.arange(min(events, len(train))))
        loss, slopes = _slopes(generator, objective, batch, derive_seed(seed, model, "gradient"))
        losses.append(loss)
        for name, slope in slopes.items():
            found.setdefault(name, []).append(slope)
    noise = _noise(generator, objective, batch)
    shot_noise, refused = None, None
    if cls.runs_circuits:
        generator.backend = ParameterShift(Sampled(Statevector(), shots))
        try:
            objective.prepare(generator, train, seed)
            shot_noise = _noise(generator, objective, batch)
        except ValueError as error:
            refused = str(error)
    groups = {name: _group(torch.stack(slopes).flatten(1)) for name, slopes in found.items()}
    return {
        "experiment": experiment.name,
        "model": model,
        "kind": config.generator.kind,
        "objective": config.objective.kind,
        "seeds": seeds,
        "events": len(batch),
        "shots": shots,
        "losses": losses,
        "groups": groups,
        "noise": noise,
        "shot_noise": shot_noise,
        "verdict": _verdict(groups, noise, shot_noise, shots) + (f" ({refused})" if refused else ""),
    }


def _slopes(generator: Generator, objective: Objective, batch: Batch, seed: int) -> tuple[float, dict[str, Tensor]]:
    """The loss, and its derivative by each parameter, by name."""
    loss = objective.loss(generator, batch, new_generator(seed))
    named = {name: parameter for name, parameter in generator.named_parameters() if parameter.requires_grad}
    slopes = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return loss.item(), {
        name: torch.zeros_like(parameter) if slope is None else slope
        for (name, parameter), slope in zip(named.items(), slopes, strict=True)
    }


def _noise(generator: Generator, objective: Objective, batch: Batch) -> float:
    """Standard deviation of a derivative between random draws, over all parameters, from two of them."""
    first, second = (
        torch.cat([slope.flatten() for slope in _slopes(generator, objective, batch, seed)[1].values()])
        for seed in (0, 1)
    )
    return math.sqrt((first - second).square().mean().item() / 2)


def _batch(generator: Generator, events: Dataset) -> Batch:
    values = generator.transform(events.samples, events.conditions)
    return Batch(values, generator.condition_transform(events.conditions) if generator.n_conditions else None)


def _group(slopes: Tensor) -> dict[str, float]:
    """Numbers of a group of parameters from its gradients ``(seeds, parameters)``."""
    return {
        "parameters": slopes.shape[1],
        "rms": slopes.square().mean().sqrt().item(),
        "variance": slopes.var(0).mean().item(),
        "norm": slopes.norm(dim=1).mean().item(),
        "dead": (slopes.abs() < DEAD).all(0).to(torch.float64).mean().item(),
    }


def _verdict(groups: Mapping[str, Mapping[str, float]], noise: float, shot_noise: float | None, shots: int) -> str:
    """One line: the typical derivative against its noise, and with circuits against that of shots."""
    count = sum(group["parameters"] for group in groups.values())
    rms = math.sqrt(sum(group["rms"] ** 2 * group["parameters"] for group in groups.values()) / count)
    if rms < DEAD:
        return "the gradient is zero: nothing trains from this start"
    line = f"typical derivative {rms:.2g}, noise of the model's own draws {noise:.2g}"
    if shot_noise is None:
        return line
    side = "below" if rms > shot_noise else "above"
    needed = shots * max(shot_noise**2 - noise**2, 0.0) / rms**2
    return (
        f"{line}; with {shots} shots of each circuit {shot_noise:.2g}, {side} it; equal with about {needed:.1g} shots"
    )


def model_table(results: Mapping[str, Any]) -> Table:
    """The groups of parameters, and the verdict below.

    Args:
        results: of :func:`model_gradients`.
    """
    from rich import box
    from rich.table import Table

    title = f"{results['model']} under {results['objective']}, {results['seeds']} seeds, {results['events']} events"
    table = Table(title=title, caption=results["verdict"], box=box.SIMPLE_HEAD)
    table.add_column("parameters")
    for heading in ("number", "rms derivative", "variance over seeds", "norm", "dead"):
        table.add_column(heading, justify="right")
    for name, group in results["groups"].items():
        numbers = (f"{group[key]:.3g}" for key in ("rms", "variance", "norm"))
        table.add_row(name, str(group["parameters"]), *numbers, f"{group['dead']:.0%}")
    return table
