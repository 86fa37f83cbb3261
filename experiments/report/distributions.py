"""Distributions of the physics observables, truth and models, each with the ratio beneath."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.report.events import Columns
from experiments.report.style import TRUTH, WIDTH, Look, Picture, grid_shape, label, picture, two_panels
from qgen.data.dataset import Feature

__all__ = ["Distributions", "bin_edges", "choose", "distributions", "draw_ratio", "draw_truth", "histogram"]

MOST_PANELS = 12
MOST_BINS = 30
MOST_LATTICE = 400
RATIO = (0.25, 1.75)
TALLEST = 1.7


@dataclass(frozen=True)
class Distributions:
    """The figure, and what lies outside of its ranges.

    Args:
        picture: the histograms.
        outside: rows of (observable, range, {truth or model: (below, above) in fractions}).
        left_out: observables that are not drawn.
    """

    picture: Picture
    outside: list[tuple[str, str, dict[str, tuple[float, float]]]]
    left_out: list[str]


def distributions(columns: Columns, looks: dict[str, Look]) -> Distributions:
    """Histograms of (at most 12 of) the observables."""
    chosen = choose(columns.features, MOST_PANELS)
    rows, cols = grid_shape(len(chosen))
    width, height = WIDTH * min(cols, 3) / 3, 3.25 * rows
    figure = Figure(figsize=(width, height))
    outer = figure.add_gridspec(
        rows,
        cols,
        left=0.6 / width,
        right=1 - 0.1 / width,
        top=1 - 0.1 / height,
        bottom=0.45 / height,
        wspace=0.17,
        hspace=0.24,
    )
    outside = []
    for place, i in enumerate(chosen):
        truth = columns.truth[:, i]
        models = {name: [table[:, i] for table in each] for name, each in columns.models.items()}
        edges = bin_edges(truth, [values for each in models.values() for values in each])
        upper, lower = two_panels(figure, outer[place // cols, place % cols], (2.6, 1))
        _panel(upper, lower, edges, truth, models, looks)
        lower.set_xlabel(label(columns.features[i].title))
        upper.set_ylabel("events" if place % cols == 0 else "")
        lower.set_ylabel("ratio" if place % cols == 0 else "")
        outside.append(_outside(columns.features[i], edges, truth, models))
    drawn = picture(
        figure,
        "Histograms of "
        + ", ".join(columns.features[i].name for i in chosen)
        + " for truth and every model, with the ratio to truth beneath each",
    )
    left_out = [feature.name for i, feature in enumerate(columns.features) if i not in chosen]
    return Distributions(drawn, outside, left_out)


def choose(features: tuple[Feature, ...], most: int) -> list[int]:
    """Which columns to draw: all, or the single ones and evenly spaced ones of those that are numbered.

    >>> names = ["response", *(f"energy_layer_{i}" for i in range(25)), "sparsity"]
    >>> [names[i] for i in choose(tuple(map(Feature, names)), 5)]
    ['response', 'energy_layer_0', 'energy_layer_12', 'energy_layer_24', 'sparsity']
    """
    if len(features) <= most:
        return list(range(len(features)))
    numbered = [i for i, feature in enumerate(features) if re.search(r"_\d+$", feature.name)]
    single = [i for i in range(len(features)) if i not in numbered][:most]
    some = most - len(single)
    if numbered and some:
        single += [numbered[k] for k in np.linspace(0, len(numbered) - 1, some).round().astype(int)]
    return sorted(set(single))


def bin_edges(truth: np.ndarray, models: list[np.ndarray]) -> np.ndarray:
    """Bins over truth's 0.2 to 99.8 % quantile, slightly widened; for values on a lattice, bins in step with it.

    >>> bin_edges(np.array([0.0, 0.5, 1.0, 1.0]), [np.array([0.0, 1.5])]).tolist()
    [-0.25, 0.25, 0.75, 1.25, 1.75]
    """
    everything = np.concatenate([truth, *models])
    n_bins = int(np.clip(0.8 * np.sqrt(len(truth)), 10, MOST_BINS))
    distinct = np.unique(everything)
    low, high = distinct[0], distinct[-1]
    if len(distinct) <= MOST_LATTICE and high > low:
        step = np.diff(distinct).min()
        places = (distinct - low) / step
        if places[-1] < MOST_LATTICE and np.abs(places - places.round()).max() < 1e-3:
            together = int(np.ceil((places[-1] + 1) / MOST_BINS))
            count = int(np.ceil((places[-1].round() + 1) / together))
            return low + step * (np.arange(count + 1) * together - 0.5)
    low, high = np.quantile(truth, [0.002, 0.998])
    if not _apart(low, high):
        low, high = np.quantile(everything, [0.01, 0.99])
    if not _apart(low, high):
        half = 0.5 * max(abs(low), 1.0)
        return np.array([low - half, low + half])
    margin = 0.03 * (high - low)
    return np.linspace(low - margin, high + margin, n_bins + 1)


def _apart(low: float, high: float) -> bool:
    return bool(high - low > 1e-9 * max(abs(low), abs(high)))


def histogram(edges: np.ndarray, seeds: list[np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Contents of the bins, scaled to ``n`` events and averaged over seeds, and their uncertainty.

    The uncertainty is that of one sample's statistics or the standard deviation between seeds, the larger of the two.
    """
    counts = np.stack([np.histogram(values, edges)[0] * (n / len(values)) for values in seeds])
    statistical = np.sqrt(np.stack([counts[k] * (n / len(values)) for k, values in enumerate(seeds)]).mean(0))
    between = counts.std(0, ddof=1) if len(seeds) > 1 else np.zeros_like(statistical)
    return counts.mean(0), np.maximum(statistical, between)


def _panel(
    upper: Axes,
    lower: Axes,
    edges: np.ndarray,
    truth: np.ndarray,
    models: dict[str, list[np.ndarray]],
    looks: dict[str, Look],
) -> None:
    n = len(truth)
    contents, error = histogram(edges, [truth], n)
    made = {name: histogram(edges, seeds, n) for name, seeds in models.items()}
    draw_truth(upper, edges, contents, error)
    for name, (height, _) in made.items():
        upper.stairs(height, edges, color=looks[name].colour, linestyle=looks[name].line)
    occupied = contents[contents > 0]
    if len(occupied) > 5 and occupied.max() > 12 * np.median(occupied):
        upper.set_yscale("log")
        upper.set_ylim(0.5, 2.5 * max(contents.max(), *(height.max() for height, _ in made.values()), 1))
    else:
        _linear(upper, edges, contents, {name: height for name, (height, _) in made.items()}, looks)
    lower.xaxis.set_major_locator(MaxNLocator(6))
    draw_ratio(lower, edges, (contents, error), {name: (looks[name], *pair) for name, pair in made.items()})


def _linear(
    axes: Axes, edges: np.ndarray, truth: np.ndarray, models: dict[str, np.ndarray], looks: dict[str, Look]
) -> None:
    """A scale on which truth stays readable; a model's peak that leaves the panel ends in a triangle."""
    highest = max((height.max() for height in models.values()), default=0.0)
    top = 1.12 * max(min(max(highest, truth.max()), TALLEST * truth.max()) if truth.max() > 0 else highest, 1.0)
    axes.set_ylim(0, top)
    centres = 0.5 * (edges[1:] + edges[:-1])
    for name, height in models.items():
        beyond = height > top
        axes.plot(centres[beyond], np.full(beyond.sum(), 0.975 * top), "^", color=looks[name].colour, markersize=4)


def draw_truth(axes: Axes, edges: np.ndarray, contents: np.ndarray, error: np.ndarray) -> None:
    """Truth as a filled grey step with its uncertainty as a darker band."""
    axes.stairs(contents, edges, fill=True, color="#dedede")
    axes.stairs(contents + error, edges, baseline=contents - error, fill=True, color="#8a8a8a", alpha=0.5, linewidth=0)
    axes.stairs(contents, edges, color="#7a7a7a", linewidth=0.8)


def draw_ratio(
    axes: Axes,
    edges: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray],
    models: dict[str, tuple[Look, np.ndarray, np.ndarray]],
    limits: tuple[float, float] = RATIO,
) -> None:
    """Model over truth with its uncertainty, about truth's own relative uncertainty as a band.

    What lies beyond the panel is drawn as a triangle at its edge.
    """
    contents, error = truth
    known = contents > 0
    relative = np.divide(error, contents, out=np.zeros_like(error), where=known)
    axes.stairs(1 + relative, edges, baseline=1 - relative, fill=True, color="#cfcfcf", linewidth=0)
    axes.axhline(1, color=TRUTH, linewidth=0.8)
    centres, widths = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
    low, high = limits
    for k, (look, height, uncertainty) in enumerate(models.values()):
        ratio, bar = height[known] / contents[known], uncertainty[known] / contents[known]
        x = (centres + widths * (0.6 * (k + 0.5) / len(models) - 0.3))[known]
        inside = (ratio >= low) & (ratio <= high)
        axes.errorbar(
            x[inside], ratio[inside], bar[inside], fmt="o", color=look.colour, markersize=1.8, elinewidth=0.6, alpha=0.9
        )
        for beyond, at, marker in ((ratio > high, high, "^"), (ratio < low, low, "v")):
            inset = at + (0.07 if at == low else -0.07) * (high - low)
            axes.plot(x[beyond], np.full(beyond.sum(), inset), marker, color=look.colour, markersize=2.4)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(low, high)
    axes.set_yticks([0.5, 1.0, 1.5] if low < 0.5 else [0.8, 1.0, 1.2])


def _outside(
    feature: Feature, edges: np.ndarray, truth: np.ndarray, models: dict[str, list[np.ndarray]]
) -> tuple[str, str, dict[str, tuple[float, float]]]:
    def beyond(seeds: list[np.ndarray]) -> tuple[float, float]:
        values = np.concatenate(seeds)
        return float((values < edges[0]).mean()), float((values > edges[-1]).mean())

    shares = {"truth": beyond([truth])} | {f"model {name}": beyond(seeds) for name, seeds in models.items()}
    unit = f" {feature.unit}" if feature.unit else ""
    return feature.name, f"{edges[0]:.4g} to {edges[-1]:.4g}{unit}", shares
