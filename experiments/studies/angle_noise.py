"""The Quantum Angle Generator under noise: trained with it, and trained exactly and run with it (2307.05253).

Noise of strength p is a depolarizing channel of probability p after every gate, on all wires of the gate together, and
a readout error of probability p in both directions. Every cell of the study is one seed at one strength. The paper
reports stable results up to about 1.5 % of noise at inference and almost 3 % in training; here a threshold is the
strength at which the mean over seeds of a metric has grown by half of its value without noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from circuits.backends import DensityMatrix
from qgen.data import Dataset, load_calorimeter
from qgen.files import write_atomically
from qgen.metrics import evaluate
from qgen.models import AngleGenerator
from qgen.random import derive_seed, new_generator
from qgen.training import Mixture, fit

__all__ = ["METRICS", "AngleNoise", "Cell", "draw", "report", "summary", "threshold"]

METRICS = ("wasserstein", "correlation", "classifier_auc")

STRENGTHS = (0.0, 0.005, 0.015, 0.03, 0.06, 0.1)

GROWTH = 1.5
"""A threshold is where a metric is this much of what it is without noise."""

PUBLISHED = {"inference": 0.015, "training": 0.03}
"""Up to which strengths 2307.05253 calls its results stable, about."""


@dataclass(frozen=True)
class Cell:
    """One seed at one strength: metrics of the model trained exactly and run with noise, and of one trained with it."""

    strength: float
    seed: int
    inference: dict[str, float]
    training: dict[str, float]


@dataclass(frozen=True)
class AngleNoise:
    """The settings of a study.

    Args:
        strengths: probabilities of noise; 0 comes first and is added where it is missing.
        seeds: of models and trainings.
        pixels: of the longitudinal profile, and qubits.
        layers: of the model.
        steps: of each training.
        batch_size: events of a step.
        learning_rate: of Adam.
        events: generated and true events that are compared.

    Raises:
        ValueError: a strength that is no probability, or no seed.
    """

    strengths: Sequence[float] = STRENGTHS
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    pixels: int = 8
    layers: int = 1
    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 0.1
    events: int = 1000

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds are empty; at least one is needed")
        for strength in self.strengths:
            if not 0 <= strength <= 0.5:
                raise ValueError(f"strength is {strength}; a probability of 0 to 0.5 is needed")
        object.__setattr__(self, "strengths", tuple(sorted({0.0, *self.strengths})))
        object.__setattr__(self, "seeds", tuple(self.seeds))

    def run(self, out: Path, tell: Callable[[str], None] = lambda line: None) -> list[Cell]:
        """All cells, in order; each is written to ``out/results.json`` when it is done, and those there are kept.

        Args:
            out: an existing folder.
            tell: called with a line for every cell.

        Raises:
            ValueError: ``out`` holds the results of other settings.
        """
        path = out / "results.json"
        settings = json.loads(json.dumps(asdict(self)))
        cells: dict[tuple[int, float], Cell] = {}
        if path.exists():
            found = json.loads(path.read_text())
            if found.get("settings") != settings:
                raise ValueError(f"{path}: holds the results of other settings; choose another folder")
            cells = {(cell["seed"], cell["strength"]): Cell(**cell) for cell in found["cells"]}
        dataset = load_calorimeter(grid=(self.pixels,))
        for seed in self.seeds:
            exact: AngleGenerator | None = None
            for strength in self.strengths:
                if (seed, strength) not in cells:
                    exact = self._trained(dataset, seed, 0.0) if exact is None else exact
                    cells[seed, strength] = self._cell(dataset, exact, seed, strength)
                cell = cells[seed, strength]
                values = f"{cell.inference['wasserstein']:.3f} inference, {cell.training['wasserstein']:.3f} training"
                tell(f"seed {seed}, noise {100 * strength:g} %: Wasserstein distance {values}")
                done = {"settings": settings, "cells": [asdict(each) for each in cells.values()]}
                write_atomically(path, json.dumps(done, indent=1).encode())
        return list(cells.values())

    def _cell(self, dataset: Dataset, exact: AngleGenerator, seed: int, strength: float) -> Cell:
        exact.backend = _backend(strength)
        inference = self._judged(dataset, exact, seed)
        if strength == 0:
            return Cell(strength, seed, inference, inference)
        return Cell(strength, seed, inference, self._judged(dataset, self._trained(dataset, seed, strength), seed))

    def _trained(self, dataset: Dataset, seed: int, strength: float) -> AngleGenerator:
        model = AngleGenerator.for_dataset(dataset, seed=seed, layers=self.layers)
        model.backend = _backend(strength)
        fit(
            model,
            dataset,
            Mixture([{"kind": "mmd"}, {"kind": "correlation", "weight": 0.1}]),
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            keep="last",
            validate_every=self.steps,
            seed=seed,
        )
        return model

    def _judged(self, dataset: Dataset, model: AngleGenerator, seed: int) -> dict[str, float]:
        test = dataset.test
        truth = test.take(range(min(self.events, len(test))))
        conditions = truth.conditions[torch.randperm(len(truth), generator=new_generator(derive_seed(seed, "asked")))]
        samples = model.sample(len(truth), conditions, new_generator(derive_seed(seed, "events")))
        table = evaluate(
            truth, truth.with_samples(samples, conditions), reference=dataset.train, metrics=METRICS, n_bootstrap=2
        )
        return {name: table[name].value.value for name in METRICS}


def _backend(strength: float) -> DensityMatrix | None:
    noise = {"depolarizing": strength, "readout": strength}
    return DensityMatrix(noise, dtype=torch.float32) if strength else None


def threshold(cells: Sequence[Cell], how: str, name: str = "wasserstein") -> float | None:
    """The strength at which the mean of a metric passes ``GROWTH`` times that without noise.

    Linear between strengths; None where it never does.

    Args:
        cells: of a study.
        how: ``inference`` or ``training``.
        name: of the metric.

    >>> cells = [Cell(p, 0, {"wasserstein": w}, {"wasserstein": 1.0}) for p, w in ((0.0, 1.0), (0.1, 2.0))]
    >>> threshold(cells, "inference"), threshold(cells, "training")
    (0.05, None)
    """
    points = [(row["strength"], row[f"{how}/{name}"][0]) for row in summary(cells, (name,))]
    limit = GROWTH * points[0][1]
    for (before, low), (after, high) in pairwise(points):
        if high >= limit:
            return float(before + (after - before) * (limit - low) / (high - low))
    return None


def summary(cells: Sequence[Cell], metrics: Sequence[str] = METRICS) -> list[dict[str, Any]]:
    """For each strength, by ``how/metric``, the mean over seeds and the standard deviation (0 for one seed)."""
    rows = []
    for strength in sorted({cell.strength for cell in cells}):
        row: dict[str, Any] = {"strength": strength}
        for how in PUBLISHED:
            for name in metrics:
                values = torch.tensor(
                    [getattr(cell, how)[name] for cell in cells if cell.strength == strength], dtype=torch.float64
                )
                row[f"{how}/{name}"] = values.mean().item(), values.std().item() if len(values) > 1 else 0.0
        rows.append(row)
    return rows


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Each metric against the strength of the noise, mean and spread over seeds; published thresholds dotted."""
    from matplotlib.figure import Figure

    rows = summary(cells)
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        for how, colour, text in (
            ("inference", "#bd1f01", "trained exactly, run with noise"),
            ("training", "#3f90da", "trained and run with noise"),
        ):
            mean, spread = zip(*(row[f"{how}/{name}"] for row in rows), strict=True)
            strengths = [100 * row["strength"] for row in rows]
            axes.errorbar(strengths, mean, spread, color=colour, marker="o", capsize=2, label=text)
            axes.axvline(100 * PUBLISHED[how], color=colour, linestyle=":")
        axes.set(xlabel="noise [%]", ylabel=name.replace("_", " "))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def report(settings: AngleNoise, out: Path, tell: Callable[[str], None]) -> None:
    """Run a study and leave ``results.json``, ``angle-noise.png`` and a table on the screen.

    Args:
        settings: of the study.
        out: its folder.
        tell: called with a line for every cell.

    Raises:
        ValueError: see :meth:`AngleNoise.run`.
        OSError: ``out`` cannot be made or written.
    """
    from rich.table import Table

    from experiments.terminal import console

    out.mkdir(parents=True, exist_ok=True)
    cells = settings.run(out, tell)
    table = Table("noise", *(f"{how}\n{name}" for how in PUBLISHED for name in METRICS))
    for row in summary(cells):
        found = (row[f"{how}/{name}"] for how in PUBLISHED for name in METRICS)
        table.add_row(f"{100 * row['strength']:g} %", *(f"{mean:.3f} ± {spread:.3f}" for mean, spread in found))
    results = console()
    results.print(table)
    for how, published in PUBLISHED.items():
        limits = []
        for name in ("wasserstein", "correlation"):
            limit = threshold(cells, how, name)
            limits.append(f"{name} at {'no strength' if limit is None else f'{100 * limit:.1f} %'}")
        results.print(
            f"{how}: {GROWTH:g} times the value without noise, {', '.join(limits)}; "
            f"2307.05253 reports stable results up to about {100 * published:g} %",
            soft_wrap=True,
        )
    draw(cells, out / "angle-noise.png")
