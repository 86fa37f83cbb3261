"""The same model on several backends, side by side: what its metrics become elsewhere."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.distances import DISTANCES
from experiments.report.style import TRUTH, WIDTH, Picture, grid_shape, picture
from experiments.report.summary import Cell, cell
from experiments.rescored import ROLES, OnBackend, rescorings, side_by_side, yaml_line
from experiments.scores import Results, Score, measured, target

if TYPE_CHECKING:
    from qgen.run import Run

__all__ = ["ROLE_COLOURS", "BackendRow", "ModelOnBackends", "on_backends"]

ROLE_COLOURS = dict(zip(ROLES, ("#3f90da", "#2e8b6f", "#bd1f01", "#ffa90e"), strict=True))
"""The colour of a backend by how it answers."""

PERFECT = dict(zip(DISTANCES, (0.0, 1.0), strict=True))
NAME_WIDTH = 24


@dataclass(frozen=True)
class BackendRow:
    """A row of the table.

    Args:
        name: of the backend, or of the floor.
        role: ``floor``, ``run`` for the backend on which the run judged the model, or how the backend answers.
        cells: by metric or distance.
        config: the backend's configuration in one line, empty where it is not known.
        shots: of each circuit when probabilities are asked for, as text.
        run: circuits that were run for the model, and their shots, as text.
        seconds: of sampling, as text.
    """

    name: str
    role: str
    cells: dict[str, Cell]
    config: str = ""
    shots: str = ""
    run: str = ""
    seconds: str = ""


@dataclass(frozen=True)
class ModelOnBackends:
    """What the page shows of one model.

    Args:
        model: its name.
        columns: metrics, then distances to the exact distribution.
        rows: floor, the run's own backend, the others.
        picture: the numbers as dots.
        trouble: what could not be scored, a line each.
    """

    model: str
    columns: list[str]
    rows: list[BackendRow]
    picture: Picture
    trouble: list[str]


def on_backends(run: Run, results: Results) -> list[ModelOnBackends]:
    """The models that were scored on other backends; empty if none was.

    Raises:
        ValueError: the scores are damaged.
    """
    return [_model(name, rows, results) for name, rows in side_by_side(run, results, rescorings(run)).items()]


def _model(name: str, rows: list[OnBackend], results: Results) -> ModelOnBackends:
    metrics = [metric for metric in results.headline if metric in rows[0].scores.metrics]
    known = [distance for distance in DISTANCES if any(distance in row.distances for row in rows)]
    floors = {metric: rows[0].scores.metrics[metric] for metric in metrics}
    floor = {metric: Cell(measured(one.floor, one.floor_uncertainty)) for metric, one in floors.items()}
    none = {distance: Cell(None) for distance in known}
    table = [BackendRow("truth vs truth", "floor", floor | none)]
    for row in rows:
        cells = {metric: cell(row.scores.metrics.get(metric), target(metric)) for metric in metrics}
        cells |= {distance: cell(row.distances.get(distance), PERFECT[distance]) for distance in known}
        seconds = f"{row.scores.sample_seconds:.2f}"
        if row.facts is None:
            table.append(BackendRow(row.label, "run", cells, row.label, "–", "–", seconds))
            continue
        config = "given as an object" if row.facts.config is None else yaml_line(row.facts.config)
        shots = "–" if row.facts.shots is None else str(row.facts.shots)
        cost = f"{row.circuits} circuits, {row.measured} shots"
        table.append(BackendRow(row.label, row.facts.role, cells, config, shots, cost, seconds))
    trouble = [f"{row.label}: {row.scores.trouble}" for row in rows if row.scores.trouble]
    return ModelOnBackends(name, [*metrics, *known], table, _drawing(name, rows, metrics, known), trouble)


def _drawing(name: str, rows: list[OnBackend], metrics: list[str], distances: list[str]) -> Picture:
    """A panel for each metric: the backends below each other."""
    panels = [*metrics, *distances]
    down, across = grid_shape(len(panels), (4, 5))
    names = [_name(row) for row in rows]
    tall = 0.2 + len(names) * (0.22 + 0.13 * max(text.count("\n") for text in names))  # rows are equally far apart
    height = down * (tall + 0.55) + 0.15
    left = 0.2 + 0.062 * max(len(line) for text in names for line in text.split("\n"))
    width = WIDTH if across >= 4 else left + (WIDTH - left) * across / 4
    figure = Figure(figsize=(width, height))
    grid = figure.add_gridspec(
        down,
        across,
        left=left / width,
        right=1 - 0.12 / width,
        top=1 - 0.3 / height,
        bottom=0.3 / height,
        wspace=0.1,
        hspace=0.55 / tall,
    )
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(grid[place // across, place % across])
        scores = [(row.distances if panel in distances else row.scores.metrics).get(panel) for row in rows]
        _panel(axes, rows, scores, shared_floor=panel in metrics)
        axes.set_title(panel.replace("_", " "), parse_math=False)
        axes.set_yticks(range(len(rows)), names if place % across == 0 else [""] * len(rows))
    return picture(
        figure,
        f"Every metric of {name} on the backends {', '.join(row.label for row in rows)}",
        width=round(1200 * width / WIDTH),
    )


def _name(row: OnBackend) -> str:
    text = f"{row.label} (the run)" if row.facts is None else row.label
    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), NAME_WIDTH))


def _panel(axes: Axes, rows: list[OnBackend], scores: list[Score | None], *, shared_floor: bool) -> None:
    """Dots with the run's own value as a line, and the floor: a band where all have the same, else a bar for each."""
    reference = scores[0]
    if shared_floor and reference is not None:
        low, high = reference.floor - reference.floor_uncertainty, reference.floor + reference.floor_uncertainty
        axes.axvspan(low, high, color="#dedede", linewidth=0)
        axes.axvline(reference.value, color=TRUTH, linewidth=0.9, linestyle=(0, (4, 1.5)))
    for place, (row, score) in enumerate(zip(rows, scores, strict=True)):
        if score is None:
            continue
        colour = TRUTH if row.facts is None else ROLE_COLOURS[row.facts.role]
        if not shared_floor:
            floor = (score.floor - score.floor_uncertainty, score.floor + score.floor_uncertainty)
            axes.plot(floor, (place, place), color="#c4c4c4", linewidth=6, solid_capstyle="butt")
            axes.plot(score.floor, place, "|", color="#7a7a7a", markersize=8)
        marker = "D" if row.facts is None else "o"
        axes.errorbar(score.value, place, xerr=score.sigma, fmt=marker, color=colour, markersize=4.5, capsize=2)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25, linewidth=0.5)
