"""Models on bits by expectation values: of single bits, pairs and triples, of layers, by bandwidth and by order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.distributions import draw_ratio, draw_truth
from experiments.report.style import TRUTH, WIDTH, Look, Picture, picture, two_panels
from experiments.report.summary import cell
from experiments.scores import Results, Score, measured
from experiments.strings import FIRST_ORDERS, STRINGS, named, read_strings
from qgen.text import unknown

if TYPE_CHECKING:
    from qgen.run import Run

__all__ = ["StringTable", "Strings", "string_tables", "strings_of"]

PANELS = {"one_body": "mean of a bit's sign", "two_body": "covariance of two", "three_body": "third cumulant of three"}
SLICES = {"expected_profile": "mean energy [MeV]", "expected_hits": "mean number of hits"}
BAND = "#cfcfcf"


@dataclass(frozen=True)
class StringTable:
    """A table of texts under a title, the first column naming the rows."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Strings:
    """What the page shows of models judged by strings."""

    pictures: list[Picture]
    tables: list[StringTable]


def strings_of(run: Run, results: Results, looks: dict[str, Look]) -> Strings | None:
    """Pictures and tables for each kind of cells; None if the run was not judged so."""
    groups = _groups(run)
    if not groups:
        return None
    pictures = []
    for group in groups:
        pictures.append(_scatter(group, looks))
        if any(name in group["truth"] for name in SLICES):
            pictures.append(_profiles(group, looks))
        pictures.append(_kernels(group, results, looks))
    return Strings(pictures, string_tables(run, results))


def string_tables(run: Run, results: Results) -> list[StringTable]:
    """Which orders each bandwidth sees, and how far every model is at each bandwidth and at each order."""
    tables = []
    for group in _groups(run):
        about = f" ({group['label']})" if group["label"] else ""
        models = [name for name in results.generators if name in group["of"]]
        orders = [*map(str, range(1, FIRST_ORDERS + 1)), f"> {FIRST_ORDERS}"]
        header = ["bandwidth", *(f"order {order}" for order in orders), "truth vs truth", *models]
        rows = [
            [f"{scale:.4g}", *(f"{100 * w:.2g} %" for w in weights), *_cells(results, group, f"string_mmd/{scale:.4g}")]
            for scale, weights in zip(group["scales"], group["orders"], strict=True)
        ]
        tables.append(
            StringTable(f"Share of each order in a bandwidth, and the squared discrepancy{about}", header, rows)
        )
        known = [k for k in range(1, FIRST_ORDERS + 1) if _scores(results, group, f"string_order/{k}")]
        rows = [[str(k), *_cells(results, group, f"string_order/{k}")] for k in known]
        title = f"The discrepancy of strings of one order; 1 is what independent bits score{about}"
        tables.append(StringTable(title, ["order", "truth vs truth", *models], rows))
    return tables


def _groups(run: Run) -> list[dict[str, Any]]:
    """What was kept of the first training."""
    path = run.folder / f"seed-{run.seeds[0]}" / STRINGS
    groups = read_strings(path)
    for name in (name for group in groups for name in group["of"] if name not in run.models):
        raise ValueError(f"{path}: {unknown('model', name, run.models)}")
    return groups


def _scores(results: Results, group: dict[str, Any], metric: str) -> dict[str, Score]:
    """Of the models that have it."""
    name = named(metric, group["label"])
    models = {model: results.generators[model] for model in group["of"] if model in results.generators}
    return {model: scores.metrics[name] for model, scores in models.items() if name in scores.metrics}


def _cells(results: Results, group: dict[str, Any], metric: str) -> list[str]:
    """The floor, and each model with its pull."""
    found = _scores(results, group, metric)
    models = [name for name in results.generators if name in group["of"]]
    first = next(iter(found.values()), None)
    floor = "–" if first is None else str(measured(first.floor, first.floor_uncertainty))
    texts = [cell(found.get(name), 0.0) for name in models]
    return [floor, *("–" if one.number is None else f"{one.number} ({one.pull})" for one in texts)]


def _title(group: dict[str, Any]) -> str:
    return f"{group['n_bits']} bits" + (f" ({group['label']})" if group["label"] else "")


def _scatter(group: dict[str, Any], looks: dict[str, Look]) -> Picture:
    """Estimates of models against truth's, those of other true events in grey."""
    shown = {name: text for name, text in PANELS.items() if name in group["truth"]}
    figure = Figure(figsize=(WIDTH, WIDTH / 3 + 0.25))
    grid = figure.subplots(1, 3, squeeze=False)[0]
    figure.subplots_adjust(left=0.055, right=0.99, top=0.93, bottom=0.13, wspace=0.2)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    for axes, (name, text) in zip(grid, shown.items(), strict=False):
        truth = np.asarray(group["truth"][name]["values"])
        other = np.asarray(group["floor"][name]["values"])
        reach = 1.08 * max(np.abs(truth).max(), np.abs(other).max(), 1e-9)
        low = -reach if truth.min() < 0 else min(0.0, truth.min())
        axes.plot(truth, other, "o", color=BAND, markersize=4, markeredgewidth=0, zorder=1)
        axes.plot([low, reach], [low, reach], color=TRUTH, linewidth=0.7, zorder=2)
        for model, numbers in group["of"].items():
            values = np.clip(np.asarray(numbers[name]["values"]), low, reach)
            axes.plot(truth, values, ".", color=looks[model].colour, markersize=2.6, alpha=0.6, zorder=3)
        error = float(np.sqrt(np.mean(np.square(group["truth"][name]["errors"]))))
        axes.errorbar(
            [0.94], [0.07], [error / (reach - low)], [error / (reach - low)], color=TRUTH, transform=axes.transAxes
        )
        axes.set_xlim(low, reach)
        axes.set_ylim(low, reach)
        axes.set_title(f"{name.replace('_', '-')}, {_title(group)}", parse_math=False)
        axes.set_xlabel(f"truth: {text}")
        axes.set_ylabel("model" if axes is grid[0] else "")
    return picture(
        figure,
        f"Means, covariances and third cumulants of bits of {', '.join(group['of'])} against those of truth",
        "Expectation values of bits, model against truth (first seed; of many strings some, what lies beyond the panel "
        "at its edge). Grey: other true events; the cross is truth's mean uncertainty.",
    )


def _profiles(group: dict[str, Any], looks: dict[str, Look]) -> Picture:
    """Energy and hits along the depth, with the ratio to truth beneath."""
    shown = {name: text for name, text in SLICES.items() if name in group["truth"]}
    figure = Figure(figsize=(WIDTH * (1 if len(shown) > 1 else 0.55), 4.0))
    left = 0.06 if len(shown) > 1 else 0.11
    outer = figure.add_gridspec(1, len(shown), left=left, right=0.985, top=0.97, bottom=0.12, wspace=0.2)
    for i, (name, text) in enumerate(shown.items()):
        upper, lower = two_panels(figure, outer[0, i], (3, 1))
        truth, error = (np.asarray(group["truth"][name][key]) for key in ("values", "errors"))
        edges = np.arange(len(truth) + 1) - 0.5
        made = {
            model: (looks[model], np.asarray(numbers[name]["values"]), np.asarray(numbers[name]["errors"]))
            for model, numbers in group["of"].items()
        }
        draw_truth(upper, edges, truth, error)
        for look, height, _ in made.values():
            upper.stairs(height, edges, color=look.colour, linestyle=look.line)
        upper.set_ylim(0, None)
        if truth.min() > 0 and truth.max() > 50 * truth.min():
            upper.set_yscale("log")
            upper.set_ylim(truth.min() / 3, truth.max() * 3)
        upper.set_ylabel(text)
        known = truth > 0
        far = max((np.abs(h[known] / truth[known] - 1).max(initial=0) for _, h, _ in made.values()), default=0)
        draw_ratio(lower, edges, (truth, error), made, (0.75, 1.25) if far < 0.25 else (0.25, 1.75))
        lower.set_xlabel(group["axis"], parse_math=False)
        lower.set_ylabel("ratio")
    return picture(
        figure,
        f"Mean energy and hits along {group['axis']} from expectation values, with the ratio to truth beneath",
        f"Mean energy and hits along the axis {group['axis']}, from expectation values of bits alone (first seed). "
        "Grey: truth in the same cells with its uncertainty; beneath, the ratio of model to truth.",
    )


def _kernels(group: dict[str, Any], results: Results, looks: dict[str, Look]) -> Picture:
    """Discrepancy against bandwidth, what each bandwidth sees, and discrepancy against order."""
    figure = Figure(figsize=(WIDTH, 4.0))
    grid = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.065, right=0.99, top=0.92, bottom=0.13, wspace=0.24)
    scales = group["scales"]
    each = [_scores(results, group, f"string_mmd/{scale:.4g}") for scale in scales]
    _with_floor(grid[0], scales, each, looks)
    grid[0].set_xscale("log")
    grid[0].set_xticks(scales, [f"{scale:.3g}" for scale in scales])
    grid[0].minorticks_off()
    grid[0].set_xlabel("bandwidth [bits]")
    grid[0].set_title(f"squared discrepancy, {_title(group)}", parse_math=False)

    bottom = np.zeros(len(scales))
    for k, weights in enumerate(np.asarray(group["orders"])[np.argsort(scales)].T):
        text = str(k + 1) if k < FIRST_ORDERS else f"> {FIRST_ORDERS}"
        colour = colormaps["cividis"](k / FIRST_ORDERS)
        grid[1].bar(range(len(scales)), weights, 0.7, bottom=bottom, color=colour, label=text)
        bottom += weights
    grid[1].set_xticks(range(len(scales)), [f"{scale:.3g}" for scale in sorted(scales)])
    grid[1].set_ylim(0, 1.18)
    grid[1].set_yticks([0, 0.25, 0.5, 0.75, 1])
    grid[1].set_xlabel("bandwidth [bits]")
    grid[1].set_title("share of each order in a bandwidth")
    grid[1].legend(loc="upper center", fontsize=7, ncols=7, frameon=False, handlelength=1, columnspacing=1)

    orders = [k for k in range(1, FIRST_ORDERS + 1) if _scores(results, group, f"string_order/{k}")]
    _with_floor(grid[2], orders, [_scores(results, group, f"string_order/{k}") for k in orders], looks)
    grid[2].axhline(1, color=TRUTH, linewidth=0.8, linestyle=":")
    grid[2].set_xticks(orders)
    grid[2].set_xlabel("order: bits of a string")
    grid[2].set_title("discrepancy of one order over that of independent bits")
    return picture(
        figure,
        "Squared discrepancy against bandwidth, the orders that each bandwidth sees, and the discrepancy at each order",
        "Left: squared maximum mean discrepancy of the bits at each bandwidth; grey: truth against truth with its "
        "uncertainty. Middle: which orders of correlation a bandwidth sees (the rest is the order 0, in which nothing "
        "differs). Right: the discrepancy of strings of one order; at the dotted line are independent bits with true "
        "means, except for order 1, where 1 is a standard deviation. Scales are linear about 0, else logarithmic.",
    )


def _with_floor(
    axes: Axes, places: Sequence[float], scores: Sequence[dict[str, Score]], looks: dict[str, Look]
) -> None:
    """Scores of models at some places, with truth against truth as a band; places without a score are left out."""
    there = [(place, one) for place, one in zip(places, scores, strict=True) if one]
    places, scores = [place for place, _ in there], [one for _, one in there]
    floors = [next(iter(one.values())) for one in scores]
    low = np.array([floor.floor - floor.floor_uncertainty for floor in floors])
    high = np.array([floor.floor + floor.floor_uncertainty for floor in floors])
    axes.fill_between(places, low, high, color=BAND, linewidth=0)
    for model in dict.fromkeys(model for one in scores for model in one):
        known = [(x, one[model]) for x, one in zip(places, scores, strict=True) if model in one]
        axes.errorbar(
            [x for x, _ in known],
            [score.value for _, score in known],
            [score.sigma for _, score in known],
            color=looks[model].colour,
            linestyle=looks[model].line,
            marker="o",
            markersize=3,
            linewidth=1,
            elinewidth=0.8,
        )
    noise = max((floor.floor_uncertainty for floor in floors), default=0.0)
    threshold = 10.0 ** math.ceil(math.log10(noise)) if noise > 0 else 1e-6
    axes.set_yscale("symlog", linthresh=threshold, linscale=0.6)
    axes.axhline(0, color=TRUTH, linewidth=0.6)
