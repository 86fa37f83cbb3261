"""The study ``gflash``: parametrised showers beside those of Geant4 in the same calorimeter.

One half of the true showers fixes the constants of :class:`~qgen.data.gflash.Tuning`, each from the one quantity that
it moves; the other half judges. Response, resolution, longitudinal and lateral profile are compared in bins of the
incident energy, layer by layer where it is a profile, each with a stated bound; then the lab's metrics judge GFLASH as
they judge any generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgen.data.calorimeter import CalorimeterDataset, load_calorimeter
from qgen.data.gflash import Tuning, gflash_blocks, simulate_gflash
from qgen.data.sampling_calorimeter import SamplingCalorimeter
from qgen.metrics import evaluate

__all__ = ["BOUNDS", "Settings", "Showers", "calibrated", "compared", "gflash_study"]

Reals = NDArray[np.float64]
Pair = tuple[float, float]

NAME = "GFLASH"

BINS = (10.0, 20.0, 40.0, 70.0, 100.0)
"""Edges of the bins of the incident energy, GeV."""

WINDOWS = (1, 3, 5, 9)
"""Sides of the squares of pads about the axis in which a shower's energy is summed."""

CUT = 0.02
"""MeV; pads with less count as empty, as in the sample that is installed."""

LEAST_SHARE = 0.01
"""Layers with a smaller part of the visible energy are shown but have no bound."""

GRIDS: tuple[tuple[int, ...], ...] = ((8,), (25,), (8, 8), (5, 5, 5))
"""Sizes of the images that the metrics judge."""

ROUNDS, TIMES = 8, 4
"""Rounds of the calibration, and simulated showers for each true one in it."""


@dataclass(frozen=True)
class Settings:
    """What the study does.

    Args:
        truth: file of Geant4's showers; the installed sample if not given.
        calorimeter: the one that they are of.
        grids: sizes of the images that the metrics judge.
        bootstrap: replicas of each uncertainty of a metric.
        seed: of all random numbers.
    """

    truth: str | None = None
    calorimeter: SamplingCalorimeter = field(default_factory=SamplingCalorimeter)
    grids: tuple[tuple[int, ...], ...] = field(default_factory=lambda: GRIDS)
    bootstrap: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Showers:
    """What is compared of N showers.

    Args:
        energies: ``(N,)``, incident, MeV.
        layers: ``(N, layers)``, MeV.
        windows: ``(N, windows)``, part of the visible energy in the squares of :data:`WINDOWS`.
        spread: ``(N, layers)``, energy times squared distance from the axis, MeV mm2.
        hits: ``(N,)``, pads that are not empty.
    """

    energies: Reals
    layers: Reals
    windows: Reals
    spread: Reals
    hits: Reals

    @classmethod
    def of(cls, blocks: Iterable[CalorimeterDataset], calorimeter: SamplingCalorimeter) -> Showers:
        """Of images of all pads."""
        centres = np.asarray(calorimeter.geometry.centres("x"))
        squared = centres[:, None] ** 2 + centres**2
        parts = []
        for block in blocks:
            images = block.images.numpy()
            images = np.where(images >= CUT, images, 0.0)
            total = images.sum((1, 2, 3))
            low = [(calorimeter.pads - side) // 2 for side in WINDOWS]
            inner = [
                images[:, :, i : i + side, i : i + side].sum((1, 2, 3)) for i, side in zip(low, WINDOWS, strict=True)
            ]
            parts.append(
                (
                    block.incident_energy.numpy(),
                    images.sum((2, 3)),
                    np.stack(inner, axis=1) / total[:, None],
                    np.tensordot(images, squared, 2),
                    (images > 0).sum((1, 2, 3)).astype(np.float64),
                )
            )
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def take(self, rows: NDArray[Any]) -> Showers:
        """Some of them, by index or mask."""
        return Showers(*(values[rows] for values in asdict(self).values()))

    @property
    def visible(self) -> Reals:
        """Visible energy, MeV."""
        return np.asarray(self.layers.sum(1))

    @property
    def centre(self) -> Reals:
        """Energy-weighted mean layer, the first one's middle at 0.5."""
        return np.asarray(self.layers @ self._middles / self.visible)

    @property
    def width(self) -> Reals:
        """Energy-weighted standard deviation of the layer."""
        return np.asarray(np.sqrt(self.layers @ self._middles**2 / self.visible - self.centre**2))

    @property
    def _middles(self) -> Reals:
        return np.asarray(np.arange(self.layers.shape[1]) + 0.5, dtype=np.float64)


def _mean(values: Reals) -> Pair:
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def _std(values: Reals) -> Pair:
    return float(values.std()), float(values.std() / np.sqrt(2 * len(values)))


def _resolution(showers: Showers) -> Pair:
    """Times the root of the energy in GeV, which takes out most of the energies' spread within a bin."""
    response = showers.visible / showers.energies
    return _std((response / response.mean() - 1) * np.sqrt(showers.energies / 1000))


def _correlation(showers: Showers) -> Pair:
    """Of ln alpha and ln T of the gamma distribution with a shower's mean depth and width."""
    alpha = (showers.centre / showers.width) ** 2
    r = float(np.corrcoef(np.log(alpha), np.log(showers.centre * (alpha - 1) / alpha))[0, 1])
    return r, (1 - r**2) / float(np.sqrt(len(alpha)))


@dataclass(frozen=True)
class _Quantity:
    of: Callable[[Showers], Pair]
    bound: float
    relative: bool = True


QUANTITIES: dict[str, _Quantity] = {
    "response": _Quantity(lambda s: _mean(s.visible / s.energies), 0.01),
    "resolution x sqrt(E / GeV)": _Quantity(_resolution, 0.10),
    "mean depth, layers": _Quantity(lambda s: _mean(s.centre), 0.10, relative=False),
    "spread of the mean depth, layers": _Quantity(lambda s: _std(s.centre), 0.15),
    "length, layers": _Quantity(lambda s: _mean(s.width), 0.03),
    "spread of the length, layers": _Quantity(lambda s: _std(s.width), 0.25),
    "correlation of ln alpha and ln T": _Quantity(_correlation, 0.10, relative=False),
    **{
        f"energy within {side} x {side} pads": _Quantity(lambda s, k=k: _mean(s.windows[:, k]), 0.01, relative=False)  # type: ignore[misc]
        for k, side in enumerate(WINDOWS)
    },
    "pads hit": _Quantity(lambda s: _mean(s.hits), 0.03),
}
"""What is compared in each bin of the energy, and how far apart it may be."""

LAYER_BOUNDS = {"mean energy": 0.08, "its relative spread": 0.25, "lateral width": 0.05}
"""Relative, of layers with at least :data:`LEAST_SHARE` of the visible energy."""

BOUNDS = {name: quantity.bound for name, quantity in QUANTITIES.items()} | LAYER_BOUNDS


def calibrated(truth: Showers, calorimeter: SamplingCalorimeter, *, seed: int = 0, rounds: int | None = None) -> Tuning:
    """The constants with which GFLASH has the truth's mean response, resolution, depth and lateral containment.

    Args:
        truth: showers to fit to.
        calorimeter: the one that they are of.
        seed: of the simulated showers, the same in each round.
        rounds: corrections of the constants; :data:`ROUNDS` if not given.
    """
    wanted, tuning = _moments(truth), Tuning()
    energies = np.tile(truth.energies, TIMES).tolist()
    for _ in range(ROUNDS if rounds is None else rounds):
        blocks = gflash_blocks(len(energies), energies, calorimeter, tuning=tuning, seed=seed)
        found = _moments(Showers.of(blocks, calorimeter))
        tuning = Tuning(
            response=tuning.response * wanted["response"] / found["response"],
            sampling=tuning.sampling * wanted["resolution"] / found["resolution"],
            start=max(tuning.start + wanted["depth"] - found["depth"], 0.01),
            last=tuning.last * wanted["last"] / found["last"],
            core=tuning.core * (1 - 2 * (wanted["inner"] - found["inner"])),
            tail=tuning.tail * (1 - 3 * (wanted["outer"] - found["outer"])),
        )
    return tuning


def _moments(showers: Showers) -> dict[str, float]:
    mean = showers.layers.mean(0)
    return {
        "response": _mean(showers.visible / showers.energies)[0],
        "resolution": _resolution(showers)[0],
        "depth": _mean(showers.centre)[0],
        "last": float(mean[-1] / mean[-2]),
        "inner": float(showers.windows[:, 0].mean()),
        "outer": float(showers.windows[:, 2].mean()),
    }


def compared(truth: Showers, generated: Showers) -> list[dict[str, Any]]:
    """A row for each quantity and bin of the energy, and for each property of each layer.

    Returns:
        ``quantity``, ``where``, ``truth``, ``gflash`` (value and uncertainty each), ``off``, ``relative`` (whether
        that is a ratio less 1), ``bound`` (None where none is stated) and ``within``.
    """
    rows = []
    for low, high in pairwise(BINS):
        parts = [s.take((s.energies >= 1000 * low) & (s.energies < 1000 * high)) for s in (truth, generated)]
        for name, quantity in QUANTITIES.items():
            one, other = (quantity.of(part) for part in parts)
            off = other[0] - one[0]
            where = f"{low:g} to {high:g} GeV"
            off = off / one[0] if quantity.relative else off
            rows.append(_row(name, where, (one, other), off, quantity.bound, quantity.relative))
    share = truth.layers.mean(0) / truth.visible.mean()
    for name, values in _by_layer(truth).items():
        for layer, (one, other) in enumerate(zip(values, _by_layer(generated)[name], strict=True)):
            bound = LAYER_BOUNDS[name] if share[layer] >= LEAST_SHARE else None
            rows.append(_row(name, f"layer {layer}", (one, other), other[0] / one[0] - 1, bound, True))
    return rows


def _row(
    name: str, where: str, pair: tuple[Pair, Pair], off: float, bound: float | None, relative: bool
) -> dict[str, Any]:
    return {
        "quantity": name,
        "where": where,
        "truth": list(pair[0]),
        "gflash": list(pair[1]),
        "off": off,
        "relative": relative,
        "bound": bound,
        "within": None if bound is None else bool(abs(off) <= bound),
    }


def _by_layer(showers: Showers) -> dict[str, list[Pair]]:
    """Mean energy (MeV) and its spread (relative), at the energy of each shower over the mean one; rms radius (mm)."""
    scaled = showers.layers * (showers.energies.mean() / showers.energies)[:, None]
    means = [_mean(layer) for layer in scaled.T]
    stds = [_std(layer / layer.mean()) for layer in scaled.T]
    radii = np.sqrt(showers.spread.sum(0) / showers.layers.sum(0))
    ratio = showers.spread - radii**2 * showers.layers  # of the ratio's numerator, whose mean is zero
    errors = ratio.std(0) / np.sqrt(len(ratio)) / showers.layers.mean(0) / (2 * radii)
    return {
        "mean energy": means,
        "its relative spread": stds,
        "lateral width": [(float(r), float(e)) for r, e in zip(radii, errors, strict=True)],
    }


def gflash_study(settings: Settings, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Do the study.

    Args:
        settings: what to do.
        progress: is told what is done next.

    Returns:
        JSON values: ``settings``, ``tuning`` (fitted to the first half), ``rows`` (of :func:`compared`, with the second
        half and the constants that are built in) and ``metrics`` (by grid and name: value, uncertainty and floor).

    Raises:
        ValueError: the file's images are not those of the calorimeter.
    """
    calorimeter, seed = settings.calorimeter, settings.seed
    progress("true showers")
    cells = load_calorimeter(settings.truth, grid=None)
    if cells.geometry.shape != calorimeter.geometry.shape:
        raise ValueError(
            f"the true showers have cells {cells.geometry.shape}, the calorimeter has {calorimeter.geometry.shape}"
        )
    truth, half = Showers.of([cells], calorimeter), len(cells) // 2
    del cells
    rows = np.arange(len(truth.energies))
    progress("constants from the first half")
    tuning = calibrated(truth.take(rows < half), calorimeter, seed=seed)
    progress("the second half against the built-in constants")
    judge = truth.take(rows >= half)
    energies = np.tile(judge.energies, TIMES).tolist()
    generated = Showers.of(gflash_blocks(len(energies), energies, calorimeter, seed=seed + 1), calorimeter)
    found = compared(judge, generated)
    metrics = {}
    for grid in settings.grids:
        name = " x ".join(map(str, grid))
        metrics[name] = _metrics(settings, grid, half, lambda what, name=name: progress(f"{name}: {what}"))  # type: ignore[misc]
    return {
        "settings": {**asdict(settings), "showers": len(rows)},
        "tuning": {"fitted": asdict(tuning), "built in": asdict(Tuning())},
        "rows": found,
        "metrics": metrics,
    }


def _metrics(
    settings: Settings, grid: Sequence[int], half: int, progress: Callable[[str], None]
) -> Mapping[str, Mapping[str, float]]:
    """Of images of a grid: the second half of the truth against GFLASH, floors from the first half."""
    truth = load_calorimeter(None if settings.truth is None else Path(settings.truth), grid=tuple(grid))
    judge, other = truth.take(range(half, len(truth))), truth.take(range(half))
    low, high = (float(x) for x in (truth.incident_energy.min(), truth.incident_energy.max()))
    generated = simulate_gflash(len(judge), (low, high), settings.calorimeter, grid=grid, seed=settings.seed + 2)
    table = evaluate(
        judge,
        {NAME: generated},
        reference=other,
        n_bootstrap=settings.bootstrap,
        seed=settings.seed,
        progress=lambda what, done, of: progress(f"{what} ({done} of {of})"),
    )
    return {name: row for name, row in table.to_dict()[NAME].items() if "/" not in name}
