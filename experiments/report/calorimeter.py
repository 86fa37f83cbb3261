"""Calorimeter images: mean profiles and images, and single showers."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from experiments.report.distributions import draw_ratio, draw_truth
from experiments.report.events import Events, as_numpy
from experiments.report.style import TRUTH, WIDTH, Look, Picture, grid_shape, picture, short, two_panels
from qgen.data import CalorimeterDataset, Dataset
from qgen.data.geometry import Geometry

__all__ = ["calorimeter"]

ENERGY_MAP, RATIO_MAP, EMPTY = "viridis", "RdBu_r", "#e9e9e9"
LARGEST_IMAGE = 2.3
SHOWERS_AS_IMAGES, SHOWERS_AS_STRIPS = 4, 14


def calorimeter(events: Events) -> list[Picture]:
    """Pictures of calorimeter images; none if the events are no such images."""
    truth = events.truth
    if not isinstance(truth, CalorimeterDataset):
        return []
    images = {
        name: [as_numpy(one.samples).reshape(-1, *truth.geometry.shape) for one in each]
        for name, each in events.models.items()
    }
    true = as_numpy(truth.images)
    pictures = [_profiles(truth.geometry, true, images, events.looks)]
    strips = len(truth.geometry.axes) == 1
    energies, shown = _single(events, true, images, SHOWERS_AS_STRIPS if strips else SHOWERS_AS_IMAGES)
    if strips:
        return [*pictures, _strips(truth.geometry, shown, energies)]
    return [*pictures, _means(truth.geometry, true, images), _showers(shown, energies)]


def _profiles(
    geometry: Geometry, truth: np.ndarray, models: dict[str, list[np.ndarray]], looks: dict[str, Look]
) -> Picture:
    n = len(geometry.axes)
    figure = Figure(figsize=(WIDTH * (0.55 if n == 1 else 1), 4.0))
    outer = figure.add_gridspec(1, n, left=0.11 if n == 1 else 0.06, right=0.985, top=0.97, bottom=0.12, wspace=0.22)
    for i, axis in enumerate(geometry.axes):
        upper, lower = two_panels(figure, outer[0, i], (3, 1))
        edges = np.asarray(geometry.edges[i])
        mean, error = _profile(truth, i)
        made = {}
        for name, seeds in models.items():
            each = [_profile(images, i) for images in seeds]
            means = np.stack([one for one, _ in each])
            between = means.std(0, ddof=1) if len(each) > 1 else np.zeros_like(mean)
            made[name] = (looks[name], means.mean(0), np.maximum(np.stack([e for _, e in each]).mean(0), between))
        draw_truth(upper, edges, mean, error)
        for look, height, _ in made.values():
            upper.stairs(height, edges, color=look.colour, linestyle=look.line)
        positive = mean[mean > 0]
        if len(positive) and positive.max() > 50 * positive.min():
            upper.set_yscale("log")
            upper.set_ylim(positive.min() / 3, positive.max() * 3)
        else:
            upper.set_ylim(0, None)
        upper.set_xlim(edges[0], edges[-1])
        upper.set_ylabel("mean energy per bin [MeV]" if i == 0 else "")
        draw_ratio(lower, edges, (mean, error), made, _ratio_limits(mean, made))
        lower.set_xlabel(f"{axis} [{geometry.units[i]}]", parse_math=False)
        lower.set_ylabel("ratio" if i == 0 else "")
    return picture(
        figure,
        f"Mean energy along {', '.join(geometry.axes)} for truth and every model, with the ratio to truth beneath",
        "Mean energy profile. Grey: truth with the statistical uncertainty of its mean; lines: models; beneath, the "
        "ratio of model to truth.",
    )


def _ratio_limits(truth: np.ndarray, models: dict[str, tuple[Look, np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """0.75 to 1.25 if all models are near, else 0.25 to 1.75."""
    known = truth > 0
    far = max((np.abs(height[known] / truth[known] - 1).max(initial=0) for _, height, _ in models.values()), default=0)
    return (0.75, 1.25) if far < 0.25 else (0.25, 1.75)


def _profile(images: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean energy along an axis, the others summed over, and its statistical uncertainty."""
    energy = images.sum(tuple(k + 1 for k in range(images.ndim - 1) if k != axis))
    return energy.mean(0), energy.std(0) / math.sqrt(len(energy))


def _flat(images: np.ndarray) -> np.ndarray:
    """Images of two dimensions: those with three are summed along the first, the depth."""
    return images.sum(1) if images.ndim == 4 else images


def _norm(values: np.ndarray) -> Normalize:
    """Logarithmic scale over the positive values, at most four orders of magnitude."""
    positive = values[values > 0]
    if not len(positive) or positive.max() <= positive.min():
        return Normalize(0, float(positive.max()) if len(positive) else 1.0)
    high = float(positive.max())
    low = max(float(np.quantile(positive, 0.02)), high * 1e-4)
    return LogNorm(min(low, high / 1.001), high)


def _image(axes: Axes, image: np.ndarray, norm: Normalize, cmap: str) -> None:
    axes.set_facecolor(EMPTY)
    shown = np.ma.masked_less_equal(image, 0) if isinstance(norm, LogNorm) else image
    axes.imshow(shown.T, origin="lower", cmap=cmap, norm=norm, aspect="equal", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _means(geometry: Geometry, truth: np.ndarray, models: dict[str, list[np.ndarray]]) -> Picture:
    """Mean images in the first row, their ratios to truth in the second."""
    true = _flat(truth).mean(0)
    means = {name: np.mean([_flat(images).mean(0) for images in seeds], axis=0) for name, seeds in models.items()}
    norm = _norm(true)
    n = len(means) + 1
    figure, grid = _square_grid(2, n)
    _image(grid[0, 0], true, norm, ENERGY_MAP)
    grid[0, 0].set_title("truth")
    grid[1, 0].set_axis_off()
    spread = Normalize(-1, 1)
    for k, (name, mean) in enumerate(means.items(), start=1):
        _image(grid[0, k], mean, norm, ENERGY_MAP)
        grid[0, k].set_title(short(name, n), parse_math=False)
        ratio = np.divide(mean, true, out=np.full_like(true, np.nan), where=true > 0)
        with np.errstate(divide="ignore"):
            _image(grid[1, k], np.log2(ratio), spread, RATIO_MAP)
    names = geometry.axes[-2:]
    grid[0, 0].set_ylabel(names[1])
    grid[0, 0].set_xlabel(names[0])
    _bar(figure, grid[0, -1], norm, ENERGY_MAP, "mean energy [MeV]")
    bar = _bar(figure, grid[1, -1], spread, RATIO_MAP, "model / truth")
    bar.set_yticks([-1, 0, 1], ["½", "1", "2"])
    return picture(
        figure,
        "Mean images of truth and every model on a shared logarithmic colour scale, and their ratios to truth",
        "Mean image in MeV on one logarithmic colour scale (above), and its ratio to truth from ½ to 2 (below; white "
        "is agreement). Empty pixels are grey.",
    )


def _square_grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Axes for square images, with room for a colour bar on the right; few images do not fill the page."""
    left, right, top, bottom = 0.32, 0.85, 0.42, 0.08
    side = min((WIDTH - left - right) / columns, LARGEST_IMAGE)
    width, height = left + columns * side + right, top + rows * side + bottom
    figure = Figure(figsize=(width, height))
    grid: np.ndarray = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=0.06,
        hspace=0.06,
    )
    return figure, grid


def _bar(figure: Figure, beside: Axes, norm: Normalize, cmap: str, text: str) -> Axes:
    """A colour bar at the right of axes, in the margin of the figure."""
    place = beside.get_position()
    width = figure.get_figwidth()
    axes = figure.add_axes((place.x1 + 0.1 / width, place.y0, 0.12 / width, place.height))
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=axes)
    bar.set_label(text, fontsize=7.5)
    axes.tick_params(labelsize=6.5)
    return axes


def _showers(showers: dict[str, np.ndarray], energies: np.ndarray) -> Picture:
    """A few showers, a row each: truth and every model under nearly the same incident energy."""
    shown = {name: _flat(images) for name, images in showers.items()}
    norm = _norm(np.concatenate(list(shown.values())))
    n = len(shown)
    figure, grid = _square_grid(len(energies), n)
    for k, (name, images) in enumerate(shown.items()):
        for j, image in enumerate(images):
            _image(grid[j, k], image, norm, ENERGY_MAP)
        grid[0, k].set_title(short(name.removeprefix("model "), n), parse_math=False)
    for j, energy in enumerate(energies):
        grid[j, 0].set_ylabel(f"{energy / 1000:.3g} GeV", fontsize=7.5)
    _bar(figure, grid[0, -1], norm, ENERGY_MAP, "energy [MeV]")
    return picture(
        figure,
        "Single showers of truth and every model",
        "Single showers on one logarithmic colour scale. Every row is one incident energy; truth and each model "
        "(first seed) show the shower whose own is nearest to it. Empty pixels are grey.",
    )


def _strips(geometry: Geometry, shown: dict[str, np.ndarray], energies: np.ndarray) -> Picture:
    """Showers of one dimension as strips, one a row, ordered by incident energy."""
    norm = _norm(np.concatenate(list(shown.values())))
    down, across = (1, len(shown)) if len(shown) <= 8 else grid_shape(len(shown), (6, 7, 8))
    height = 3.1 * down + 0.7
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(down, across, squeeze=False)
    figure.subplots_adjust(
        left=0.05, right=0.935, top=1 - 0.42 / height, bottom=0.42 / height, wspace=0.08, hspace=0.34
    )
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    edges = np.asarray(geometry.edges[0])
    for k, (axes, (name, images)) in enumerate(zip(grid.flat, shown.items(), strict=False)):
        axes.set_facecolor(EMPTY)
        strips = np.ma.masked_less_equal(images, 0) if isinstance(norm, LogNorm) else images
        axes.pcolormesh(edges, np.arange(len(energies) + 1), strips, norm=norm, cmap=ENERGY_MAP)
        axes.set_title(short(name.removeprefix("model "), across), parse_math=False)
        axes.set_xlabel(f"{geometry.axes[0]} [{geometry.units[0]}]", parse_math=False, fontsize=7.5)
        axes.set_yticks([])
        if k % across == 0:
            axes.set_yticks(np.arange(len(energies)) + 0.5, [f"{energy / 1000:.0f}" for energy in energies])
            axes.tick_params(axis="y", length=0)
            axes.set_ylabel("incident energy [GeV]", fontsize=7.5, color=TRUTH)
    _bar(figure, grid[0, -1], norm, ENERGY_MAP, "energy [MeV]")
    return picture(
        figure,
        "Single showers of truth and every model as strips of colour",
        "Single showers on one logarithmic colour scale. Every strip is one shower, in order of incident energy; "
        "at the same height truth and each model (first seed) show the shower nearest to the same incident energy.",
    )


def _single(
    events: Events, truth: np.ndarray, models: dict[str, list[np.ndarray]], n: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A few incident energies in MeV, rising, and the shower of truth and of each model that is nearest to each."""
    true = np.sort(as_numpy(events.truth.column("incident_energy")))
    energies: np.ndarray = true[(np.linspace(0.03, 0.97, min(n, len(true))) * (len(true) - 1)).round().astype(int)]

    def nearest(dataset: Dataset, images: np.ndarray) -> np.ndarray:
        distance = np.abs(as_numpy(dataset.column("incident_energy"))[None, :] - energies[:, None])
        found: np.ndarray = images[distance.argmin(1)]
        return found

    shown = {"truth": nearest(events.truth, truth)}
    return energies, shown | {f"model {k}": nearest(events.models[k][0], seeds[0]) for k, seeds in models.items()}
