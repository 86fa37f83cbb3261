"""Training curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.style import TRUTH, WIDTH, Look, Picture, picture, two_panels

if TYPE_CHECKING:
    from qgen.run import Run

__all__ = ["training_curves"]

LOSSES = {"loss": None, "discriminator_loss": "#8c8c8c"}
"""What of a record is drawn as a loss, and its colour where that is not the model's."""


def training_curves(run: Run, looks: dict[str, Look]) -> Picture | None:
    """Loss and validation loss against step for each trained model, all seeds; None if nothing was trained."""
    trainings = {model: [run.training(model, seed) for seed in run.seeds] for model in run.models}
    trained = {model: each for model, each in trainings.items() if any(one.get("history") for one in each)}
    if not trained:
        return None
    across = min(len(trained), 4)
    down = -(-len(trained) // across)
    height = 3.5 * down
    figure = Figure(figsize=(WIDTH * max(across, 2) / 4, height))
    outer = figure.add_gridspec(
        down,
        across,
        left=0.24 / max(across, 2),
        right=0.985,
        top=1 - 0.3 / height,
        bottom=0.45 / height,
        wspace=0.3,
        hspace=0.32,
    )
    for k, (model, each) in enumerate(trained.items()):
        upper, lower = two_panels(figure, outer[k // across, k % across], (1, 1))
        _curves(upper, lower, each, looks[model].colour)
        diverged = " (diverged)" if any("diverged" in one.get("status", "") for one in each) else ""
        upper.set_title(f"{model}{diverged}", parse_math=False)
        lower.set_xlabel("step")
        if k % across == 0:
            upper.set_ylabel("training loss")
            lower.set_ylabel("validation loss")
    return picture(
        figure,
        f"Training and validation loss against step of {', '.join(trained)}",
        "Each model's own objective, a line for each seed; what a discriminator minimises is grey. The ring marks the "
        "step whose weights were kept. Losses of different objectives cannot be compared with each other.",
    )


def _curves(upper: Axes, lower: Axes, each: list[dict[str, Any]], colour: str) -> None:
    losses: list[float] = []
    for training in each:
        history = training.get("history") or []
        for name, own in LOSSES.items():
            steps, values = _series(history, name)
            upper.plot(steps, values, color=own or colour, linewidth=0.9, alpha=0.8)
            losses += values
        steps, values = _series(history, "validation")
        lower.plot(steps, values, color=colour, linewidth=1.0, marker=".", markersize=3, alpha=0.9)
        best = training.get("best_step")
        if best in steps:
            lower.plot(best, values[steps.index(best)], "o", markersize=6, markerfacecolor="none", color=TRUTH)
    for axes in (upper, lower):
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.yaxis.set_major_formatter("{x:g}")  # a common power of ten would stand between the panels
    if losses and min(losses) > 0 and max(losses) > 30 * float(np.median(losses)):
        upper.set_yscale("log")


def _series(history: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    pairs = [(record["step"], record[name]) for record in history if math.isfinite(record.get(name, math.nan))]
    return [step for step, _ in pairs], [value for _, value in pairs]
