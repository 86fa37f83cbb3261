"""Figures of a sweep: a metric against each quantity that is varied, with the spread over seeds and the floor."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.style import COLOURS, DASHES, TRUTH, WIDTH, Look, Picture, label, picture, short
from experiments.sweep.grid import plain_value, point_text
from experiments.sweep.standing import Standing

__all__ = ["Drawn", "drawn"]

DECADES = 30.0
"""From this ratio of the largest value to the smallest on, an axis is logarithmic."""

MOST_LINES = 10
"""Lines of a panel that can be told apart."""

MOST_ACROSS = 3


@dataclass(frozen=True)
class Panel:
    """What the lines of a panel are.

    Args:
        quantity: on its axis; empty if models stand side by side.
        looks: of the lines, by what they are.
        pooled: quantities over whose values its numbers are averaged.
    """

    quantity: str
    looks: dict[str, Look]
    pooled: list[str]


@dataclass(frozen=True)
class Drawn:
    """A metric against what is varied.

    Args:
        metric: its name.
        picture: a panel for each quantity.
        panels: what is in them.
    """

    metric: str
    picture: Picture
    panels: list[Panel]


def drawn(metric: str, found: Sequence[Standing], paths: Sequence[str]) -> Drawn | None:
    """The figure of a metric; None if nothing has a finite value.

    A line is a model and, where more than one quantity is varied, the values of the others; of too many others the one
    with the fewest values is told apart and the rest is averaged over. Without a quantity, models stand side by side.

    Args:
        metric: its name.
        found: models at points.
        paths: that are varied, but for the seed.
    """
    finite = [one for one in found if math.isfinite(one.score.value)]
    if not finite:
        return None
    varied = [path for path in paths if len({_key(one, path) for one in finite if path in one.point}) > 1]
    quantities = varied or [""]
    across = min(len(quantities), MOST_ACROSS)
    down = -(-len(quantities) // across)
    height = 3.6 * down
    figure = Figure(figsize=(WIDTH * max(across, 1.5) / MOST_ACROSS, height))
    grid = figure.add_gridspec(
        down,
        across,
        left=0.2 / max(across, 1.5),
        right=0.985,
        top=1 - 0.15 / height,
        bottom=0.55 / height,
        wspace=0.25,
        hspace=0.4,
    )
    panels = []
    for k, quantity in enumerate(quantities):
        axes = figure.add_subplot(grid[k // across, k % across])
        panels.append(_panel(axes, finite, quantity, [path for path in varied if path != quantity]))
        if k % across == 0:
            axes.set_ylabel(label(metric.replace("_", " ")))
    return Drawn(metric, picture(figure, f"{metric} against {' and '.join(varied) or 'models'}"), panels)


def _panel(axes: Axes, found: Sequence[Standing], quantity: str, others: Sequence[str]) -> Panel:
    """Draw a metric against one quantity."""
    apart = _apart(found, others)
    lines: dict[str, dict[str, list[Standing]]] = {}
    for one in found:
        rest = point_text({path: one.point[path] for path in apart if path in one.point})
        name = f"{one.model}, {rest}" if rest else one.model
        lines.setdefault(name, {}).setdefault(_key(one, quantity), []).append(one)
    places = {_key(one, quantity): one.point.get(quantity, one.model) for one in found if _concerns(one, quantity)}
    numbers = [value for value in places.values() if isinstance(value, int | float) and not isinstance(value, bool)]
    numeric = len(numbers) == len(places)
    at = {place: float(value) if numeric else float(k) for k, (place, value) in enumerate(places.items())}
    _floor(axes, found, quantity, at, numeric)
    looks = {name: Look(COLOURS[k % len(COLOURS)], DASHES[k // len(COLOURS) % 3]) for k, name in enumerate(lines)}
    for k, (name, line) in enumerate(lines.items()):
        look = looks[name]
        if everywhere := [one for some in line.values() for one in some if not _concerns(one, quantity)]:
            mean, spread = _spread(everywhere)
            axes.axhspan(mean - spread, mean + spread, color=look.colour, alpha=0.1, linewidth=0)
            axes.axhline(mean, color=look.colour, linestyle=look.line)
            continue
        marks = sorted((at[place], *_spread(some)) for place, some in line.items())
        x, y, sigma = ([mark[i] for mark in marks] for i in range(3))
        if numeric:
            low, high = ([a + sign * b for a, b in zip(y, sigma, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)
            axes.plot(x, y, color=look.colour, linestyle=look.line, marker="o", markersize=3.5)
        else:
            shift = 0.6 * ((k + 0.5) / len(lines) - 0.5) if quantity else 0.0
            axes.errorbar([a + shift for a in x], y, sigma, color=look.colour, fmt="o", markersize=4)
            if not quantity:
                values = [value for some in line.values() for one in some for value in one.values]
                axes.plot([x[0] + 0.15] * len(values), values, "_", color=look.colour, markersize=7)
    _axis(axes, places, at, numeric)
    values = [one.score.value for one in found]
    if min(values) > 0 and max(values) > DECADES * min(values):
        axes.set_yscale("log")
    axes.set_xlabel(label(quantity or "model"))
    axes.grid(alpha=0.25, linewidth=0.5)
    return Panel(quantity, looks, [path for path in others if path not in apart])


def _apart(found: Sequence[Standing], others: Sequence[str]) -> list[str]:
    """The other quantities whose values are lines of their own."""
    models = len({one.model for one in found})

    def lines(paths: Sequence[str]) -> int:
        return len({(one.model, *(_key(one, path) for path in paths)) for one in found})

    if lines(others) <= max(MOST_LINES, models):
        return list(others)
    fewest = min(others, key=lambda path: lines([path]))
    return [fewest] if lines([fewest]) <= MOST_LINES else []


def _spread(some: Sequence[Standing]) -> tuple[float, float]:
    """Mean of all values and their spread; of a single one its uncertainty."""
    values = [value for one in some for value in one.values]
    if len(values) > 1:
        return statistics.fmean(values), statistics.stdev(values)
    uncertainty = some[0].score.uncertainty
    return values[0], uncertainty if math.isfinite(uncertainty) else 0.0


def _floor(axes: Axes, found: Sequence[Standing], quantity: str, at: dict[str, float], numeric: bool) -> None:
    """A grey band: truth against truth."""
    bands = []
    for place, x in sorted(at.items(), key=lambda entry: entry[1]):
        scores = [one.score for one in found if _key(one, quantity) in (place, "")]
        floors = [(s.floor, s.floor_uncertainty) for s in scores if math.isfinite(s.floor + s.floor_uncertainty)]
        if floors:
            mean, sigma = (statistics.fmean(values) for values in zip(*floors, strict=True))
            bands.append((x, mean - sigma, mean + sigma))
    style: dict[str, Any] = {"color": TRUTH, "alpha": 0.25, "linewidth": 0}
    if numeric and bands:
        places, lows, highs = zip(*bands, strict=True)
        axes.fill_between(places, lows, highs, **style)
        return
    for x, low, high in bands:
        axes.fill_between([x - 0.45, x + 0.45], low, high, **style)


def _axis(axes: Axes, places: dict[str, Any], at: dict[str, float], numeric: bool) -> None:
    if not numeric:
        names = [
            short(value if isinstance(value, str) else plain_value(value), 2 * len(at)) for value in places.values()
        ]
        axes.set_xticks(list(at.values()), [name.replace("$", r"\$") for name in names])
        axes.set_xlim(-0.6, len(at) - 0.4)
        axes.minorticks_off()
    elif min(at.values()) > 0 and max(at.values()) > DECADES * min(at.values()):
        axes.set_xscale("log")
    elif len(at) <= 8:
        axes.set_xticks(sorted(at.values()), [f"{x:g}" for x in sorted(at.values())])


def _key(one: Standing, quantity: str) -> str:
    """Where a model at a point stands on the axis of a quantity; empty if that does not concern it."""
    if not quantity:
        return one.model
    return json.dumps(one.point[quantity]) if quantity in one.point else ""


def _concerns(one: Standing, quantity: str) -> bool:
    return not quantity or quantity in one.point
