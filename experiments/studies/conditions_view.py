"""The study of conditions as tables, as a figure over the energy, and as corner plots of the events at one energy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.report.style import TRUTH, Look, label, looks, styled
from experiments.scores import Score, measured
from experiments.studies.conditions import ConditionsStudy, Point, excess, growth

__all__ = ["conditions_figure", "conditions_tables", "corner"]

SYMBOL = {"trained": "o", "between": "s", "beyond": "^"}
SHARE = 0.68
BINS, COARSE = 24, 12


def conditions_tables(study: ConditionsStudy) -> RenderableType:
    """A table for each metric: models against energies, the floor first, and how the excess grows on its right."""
    return Group(*(_table(study, metric) for metric in study.metrics), Text(_beyond(study), style="yellow"))


def _table(study: ConditionsStudy, metric: str) -> Table:
    unit = study.condition.unit
    drawn = Table(box=box.SIMPLE_HEAD, title=f"{study.name}: {metric}", title_justify="left", pad_edge=False)
    drawn.add_column("model", overflow="fold", min_width=18)
    for point in study.points:
        drawn.add_column(Text(f"{point.energy:g} {unit}\n{point.where}"), justify="right")
    for heading in ("excess\ntrained", "\nbetween", "\nbeyond", "slope\nbetween", "\nbeyond"):
        drawn.add_column(heading, justify="right")
    floors = [next((s[metric] for s in p.scores.values() if metric in s), None) for p in study.points]
    drawn.add_row("truth vs truth", *(_floor(score) for score in floors), *[""] * 5, style="dim")
    for model in study.models:
        cells = [_number(point.scores.get(model, {}).get(metric)) for point in study.points]
        found = growth(study.points, model, metric)
        numbers = [found[key] for key in ("trained", "between", "beyond", "slope_between", "slope_beyond")]
        grown = ["–" if number is None else f"{number:.3f}" for number in numbers]
        drawn.add_row(Text(model), *cells, *grown)
    return drawn


def _floor(score: Score | None) -> str:
    return "–" if score is None else _stacked(score.floor, score.floor_uncertainty)


def _number(score: Score | None) -> str:
    return "–" if score is None else _stacked(score.value, score.sigma)


def _stacked(value: float, uncertainty: float) -> str:
    return "\n±".join(measured(value, uncertainty, digits=1).parts())


def _beyond(study: ConditionsStudy) -> str:
    beyond = [f"{point.energy:g}" for point in study.points if point.where == "beyond"]
    if not beyond:
        return ""
    trained = ", ".join(f"{energy:g}" for energy in study.trained)
    return f"trained at {trained} {study.condition.unit}; at {', '.join(beyond)} {study.condition.unit} it extrapolates"


def conditions_figure(study: ConditionsStudy) -> Figure:
    """Each metric against the energy (left) and its excess against the distance from the trained ones (right).

    Bars are the uncertainty of the mean over trainings. Circles are at trained energies, squares between them and
    triangles beyond, where the ground is shaded; the grey band is the floor.
    """
    metrics = study.metrics
    with styled():
        figure = Figure(figsize=(11, 2.6 * len(metrics) + 0.6), layout="constrained")
        grid = figure.subplots(len(metrics), 2, squeeze=False, width_ratios=(1.5, 1))
        styles = looks({name: study.trains.get(name, False) for name in study.models})
        for metric, (left, right) in zip(metrics, grid, strict=True):
            _against_energy(left, study, metric, styles)
            _against_distance(right, study, metric, styles)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, [label(name) for name in names], loc="outside upper center", ncols=4, frameon=False)
    return figure


def _against_energy(axes: Axes, study: ConditionsStudy, metric: str, styles: dict[str, Look]) -> None:
    points = [point for point in study.points if any(metric in scores for scores in point.scores.values())]
    floors = [next(s[metric] for s in p.scores.values() if metric in s) for p in points]
    energies = [point.energy for point in points]
    low = [score.floor - score.floor_uncertainty for score in floors]
    high = [score.floor + score.floor_uncertainty for score in floors]
    axes.fill_between(energies, low, high, color=TRUTH, alpha=0.25, linewidth=0, label="truth vs truth")
    axes.set_xscale("log")
    reach = (min(energies) / 1.15, max(energies) * 1.15)
    for ends in ((reach[0], study.trained[0]), (study.trained[-1], reach[1])):
        axes.axvspan(*ends, color="#f2e6d8", linewidth=0, zorder=0)
    for energy in study.trained:
        axes.axvline(energy, color="#999999", linewidth=0.7, linestyle=":", zorder=1)
    for model in study.models:
        here = [(p, p.scores[model][metric]) for p in points if metric in p.scores.get(model, {})]
        look = styles[model]
        xs, ys = [p.energy for p, _ in here], [score.value for _, score in here]
        axes.plot(xs, ys, color=look.colour, linestyle=look.line, label=model)
        _marks(axes, [(p, p.energy, score.value, score.sigma) for p, score in here], look)
    axes.set_xticks(energies, [f"{energy:g}" for energy in energies], minor=False)
    axes.minorticks_off()
    shown = study.condition.label or study.condition.name
    axes.set(xlim=reach, xlabel=label(f"{shown} [{study.condition.unit}]"), ylabel=metric.replace("_", " "))


def _against_distance(axes: Axes, study: ConditionsStudy, metric: str, styles: dict[str, Look]) -> None:
    for model in study.models:
        here = [p for p in study.points if metric in p.scores.get(model, {})]
        each = [(p, p.distance, excess(p.scores[model][metric], metric), p.scores[model][metric].sigma) for p in here]
        _marks(axes, each, styles[model])
        start = growth(study.points, model, metric)["trained"]
        beyond = sorted((p.distance, e) for p, _, e, _ in each if p.where == "beyond")
        if start is not None and beyond:
            xs, ys = zip((0.0, start), *beyond, strict=True)
            axes.plot(xs, ys, color=styles[model].colour, linestyle=styles[model].line, linewidth=0.9)
    axes.axhline(0, color=TRUTH, linewidth=0.8)
    ylabel = f"excess of {metric.replace('_', ' ')}"
    axes.set(xlabel="distance to the nearest trained, $|\\ln(E/E_t)|$", ylabel=ylabel)


def _marks(axes: Axes, each: Iterable[tuple[Point, float, float, float]], look: Look) -> None:
    for point, x, y, bar in each:
        axes.errorbar(
            x,
            y,
            bar,
            color=look.colour,
            marker=SYMBOL[point.where],
            markersize=4,
            markerfacecolor=look.colour if point.where == "trained" else "white",
            linewidth=0.9,
            capsize=0,
        )


def corner(study: ConditionsStudy, energy: float, models: Iterable[str] | None = None) -> Figure:
    """Marginals on the diagonal, every pair below it, Pearson correlations above it.

    A pair is the true events in grey and, of each model, the line around the densest 68 % of its events.

    Args:
        study: made with ``show`` for this energy.
        energy: which.
        models: of which models; of all if not given.

    Raises:
        ValueError: the events at this energy were not kept.
    """
    shown = next((point.shown for point in study.points if point.energy == energy and point.shown), None)
    if shown is None:
        raise ValueError(f"no events are kept at {energy:g} {study.condition.unit}; ask for them with show")
    names = list(shown.models) if models is None else list(models)
    styles = looks({name: study.trains[name] for name in names})
    of = {"truth": shown.truth.samples.numpy()} | {name: shown.models[name].samples.numpy() for name in names}
    features = shown.truth.features
    edges = [_edges(of["truth"][:, i]) for i in range(len(features))]
    with styled():
        size = max(2.3 * len(features), 4.5)
        figure = Figure(figsize=(size, size + 0.4), layout="constrained")
        grid = figure.subplots(len(features), len(features), squeeze=False)
        panels: list[list[Axes]] = grid.tolist()
        for row, column in np.ndindex(len(features), len(features)):
            axes = panels[row][column]
            for place, (name, table) in enumerate(of.items()):
                colour, line = (TRUTH, "-") if name == "truth" else (styles[name].colour, styles[name].line)
                if row == column:
                    filled = {"histtype": "stepfilled", "alpha": 0.3} if name == "truth" else {"histtype": "step"}
                    axes.hist(
                        table[:, row], edges[row], density=True, color=colour, linestyle=line, label=name, **filled
                    )
                elif row > column:
                    _pair(axes, table[:, column], table[:, row], (edges[column], edges[row]), colour)
                else:
                    value = float(np.corrcoef(table[:, row], table[:, column])[0, 1])
                    text = f"{label(name)}  {value:+.2f}"
                    axes.text(0.04, 0.93 - 0.12 * place, text, color=colour, va="top", transform=axes.transAxes)
            if row < column:
                axes.axis("off")
                continue
            axes.set_xlim(edges[column][0], edges[column][-1])
            if row > column:
                axes.set_ylim(edges[row][0], edges[row][-1])
            else:
                axes.set_yticks([])
            if row == len(features) - 1:
                axes.set_xlabel(label(features[column].title))
            if column == 0 and row:
                axes.set_ylabel(label(features[row].title))
        handles, texts = grid[0, 0].get_legend_handles_labels()
        title = f"{energy:g} {study.condition.unit}"
        texts = [label(text) for text in texts]
        figure.legend(handles, texts, title=title, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _edges(values: np.ndarray) -> list[float]:
    """Bins over the middle 99 % of the true events, and a little more."""
    low, high = np.quantile(values, [0.005, 0.995])
    pad = 0.05 * (high - low) or 1.0
    return [float(edge) for edge in np.linspace(low - pad, high + pad, BINS + 1)]


def _pair(axes: Axes, x: np.ndarray, y: np.ndarray, edges: tuple[list[float], list[float]], colour: str) -> None:
    """The truth as densities, another sample as the line around its densest cells that hold 68 % of it."""
    coarse = [np.linspace(e[0], e[-1], COARSE + 1) for e in edges]
    counts = np.histogram2d(x, y, coarse)[0].T
    if colour == TRUTH:
        axes.pcolormesh(*coarse, counts, cmap="Greys", vmax=1.4 * counts.max(), rasterized=True)
        return
    ordered = np.sort(counts.ravel())[::-1]
    level = ordered[np.searchsorted(ordered.cumsum(), SHARE * ordered.sum())]
    if 0 < level < counts.max():
        axes.contour(*(0.5 * (e[1:] + e[:-1]) for e in coarse), counts, levels=[level], colors=colour, linewidths=1.2)
