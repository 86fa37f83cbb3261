r"""What noise does: each model trained under it, and trained exactly and run under it, against the noise's strength.

Models are the same if their configurations are equal but for the backend. The strength is the number of errors that is
expected in one run of the model's circuits,

.. math:: \lambda = \sum_{\text{gates}} (1 - F) + \sum_{\text{measured qubits}} \tfrac12 (p_{01} + p_{10}) ,

with the process fidelity :math:`F` of a gate's noise: for a mixture of Pauli operators, 1 minus the probability of any
but the identity. So a device's calibration and noise written by hand stand on one axis. Coherent errors do not count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from circuits import Circuit
from circuits.backends import Statevector
from circuits.channels import GateNoise, noise_transfer
from circuits.noise import NoiseModel
from experiments.report.style import TRUTH, WIDTH, Picture, label, picture
from experiments.report.summary import Cell, cell
from experiments.rescored import rescorings
from experiments.scores import ModelScores, Results, Score, measured, target
from qgen.random import new_generator

if TYPE_CHECKING:
    from qgen.run import Run

__all__ = ["NoiseRow", "NoiseStudy", "UnderNoise", "expected_errors", "noise_study"]

TRAINED, RUN = "trained under it", "trained exactly, run under it"
COLOURS = {TRAINED: "#bd1f01", RUN: "#3f90da"}
FEWEST_STRENGTHS = 2
"""Strengths above zero that a model must have been judged at."""

PANELS_ACROSS = 4


@dataclass(frozen=True)
class Point:
    """A model judged under noise.

    Args:
        noise: name of the noise: that of the evaluation's backend, or of the model that was trained under it.
        errors: expected in one run of the circuits.
        how: ``TRAINED`` or ``RUN``.
        device: whether it is the calibration of a device.
        scores: metrics.
    """

    noise: str
    errors: float
    how: str
    device: bool
    scores: ModelScores


@dataclass(frozen=True)
class NoiseRow:
    """A row of the table; ``errors`` as text."""

    noise: str
    errors: str
    how: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class UnderNoise:
    """What the page shows of one model.

    Args:
        model: its name, that of the exact one if there is one.
        columns: metrics.
        rows: floor, then the points by strength.
        picture: each metric against the strength.
    """

    model: str
    columns: list[str]
    rows: list[NoiseRow]
    picture: Picture


@dataclass(frozen=True)
class NoiseStudy:
    """What the page shows: every model, and how trainings went under noise."""

    models: list[UnderNoise]
    curves: Picture | None


@lru_cache(maxsize=4096)
def _error(noise: GateNoise, n_wires: int) -> float:
    return 1 - float(noise_transfer(noise, n_wires).trace()) / 4**n_wires


def expected_errors(circuits: Iterable[Circuit], noise: NoiseModel) -> float:
    """Errors expected in one run of each circuit, every wire measured.

    Raises:
        ValueError: the noise model's device cannot host a circuit.

    >>> from circuits import Gate
    >>> bell = Circuit(2, [Gate("H", [0]), Gate("CNOT", [0, 1])])
    >>> model = NoiseModel.from_config({"depolarizing": {"two_qubit": 0.16}, "readout": 0.01})
    >>> round(expected_errors([bell], model), 12)
    0.17
    """
    total = 0.0
    for circuit in circuits:
        prepared = noise.prepare(circuit)
        for gate in prepared.circuit.gates:
            total += _error(prepared.noise.channels(gate.name, gate.wires), len(gate.wires))
        total += sum((one.p01 + one.p10) / 2 for one in prepared.noise.readout_of(prepared.measured))
    return total


def noise_study(run: Run, results: Results) -> NoiseStudy | None:
    """Models that were judged at two strengths of noise or more; None if none was.

    Backends with error mitigation, and devices of which no noise model is known, are left out.

    Raises:
        ValueError: the scores on other backends are damaged.
    """
    groups: dict[str, list[str]] = {}
    for name in results.generators:
        section = {key: value for key, value in run.config["models"][name].items() if key != "backend"}
        groups.setdefault(json.dumps(section, sort_keys=True), []).append(name)
    studied: dict[str, list[Point]] = {}
    for names in groups.values():
        points = _points(run, results, names)
        if len({point.errors for point in points if point.errors > 0}) >= FEWEST_STRENGTHS:
            exact = [point.noise for point in points if point.how == TRAINED and point.errors == 0]
            studied[(exact or names)[0]] = points
    if not studied:
        return None
    return NoiseStudy([_under_noise(name, points, results) for name, points in studied.items()], _curves(run, studied))


def _points(run: Run, results: Results, names: Sequence[str]) -> list[Point]:
    """One model under all its noises, by strength."""
    if len(names) + len(rescorings(run)) < FEWEST_STRENGTHS:
        return []
    circuits = _circuits(run, names[0])
    if not circuits:
        return []
    found = []
    exact: list[str] = []
    for name in names:
        noise = _noise(run.config["models"][name].get("backend"))
        if noise is not None:
            errors = expected_errors(circuits, noise)
            found.append(Point(name, errors, TRAINED, noise.device is not None, results.models[name]))
            exact += [name] if errors == 0 else []
    for label_, one in rescorings(run).items():
        noise = None if one.backend.config is None else _noise(one.backend.config)
        scores = one.models.get(exact[0]) if exact else None
        if noise is not None and scores is not None and (errors := expected_errors(circuits, noise)) > 0:
            found.append(Point(label_, errors, RUN, noise.device is not None, scores))
    return sorted(found, key=lambda point: (point.errors, point.how != TRAINED))


class _Recorder(Statevector):
    """The exact engine, which remembers the circuits that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.circuits: dict[Circuit, None] = {}

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        self.circuits[circuit] = None
        return super().probs(circuit, angles)

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        self.circuits[circuit] = None
        return super().expval(circuit, angles, observables)

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        self.circuits[circuit] = None
        return super().sample(circuit, angles, shots, generator)


def _circuits(run: Run, model: str) -> list[Circuit]:
    """What a trained model runs for an event; nothing for a classical one, or one that cannot be loaded here."""
    try:
        generator: Any = run.generator(model)
    except (ValueError, ImportError):  # the page says of it that it cannot be loaded
        return []
    if not generator.runs_circuits or generator.no_samples:
        return []
    generator.backend = recorder = _Recorder()
    generator.sample(1, run.dataset.train.conditions[:1], new_generator(0))
    return list(recorder.circuits)


def _noise(backend: Mapping[str, Any] | None) -> NoiseModel | None:
    """The noise of a configured backend; None where it is not known or corrected for."""
    if backend is None:
        return NoiseModel()
    if backend.get("mitigation"):
        return None
    noise = backend.get("noise")
    if noise is None:
        return NoiseModel() if backend["kind"] in ("statevector", "density_matrix", "trajectories") else None
    try:
        return NoiseModel.from_config(noise)
    except ImportError:  # the package that brings the device's calibration is not here
        return None


def _under_noise(name: str, points: list[Point], results: Results) -> UnderNoise:
    metrics = [metric for metric in results.headline if any(metric in point.scores.metrics for point in points)]
    floors = {m: next(p.scores.metrics[m] for p in points if m in p.scores.metrics) for m in metrics}
    floor = {metric: Cell(measured(one.floor, one.floor_uncertainty)) for metric, one in floors.items()}
    rows = [NoiseRow("truth vs truth", "", "floor", floor)]
    for point in points:
        cells = {metric: cell(point.scores.metrics.get(metric), target(metric)) for metric in metrics}
        how = "exact" if point.errors == 0 else point.how
        rows.append(NoiseRow(point.noise, f"{point.errors:.2f}", how, cells))
    return UnderNoise(name, metrics, rows, _drawing(name, points, metrics, floors))


def _drawing(name: str, points: list[Point], metrics: list[str], floors: dict[str, Score]) -> Picture:
    """A panel for each metric: value against strength, a line for each way to meet the noise."""
    across = min(len(metrics), PANELS_ACROSS)
    down = -(-len(metrics) // across)
    width = WIDTH * max(across, 2) / PANELS_ACROSS
    figure = Figure(figsize=(width, 2.9 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(metrics) :]:
        axes.set_axis_off()
    for metric, axes in zip(metrics, grid.flat, strict=False):
        floor = floors[metric]
        axes.axhspan(
            floor.floor - floor.floor_uncertainty, floor.floor + floor.floor_uncertainty, color="#dedede", lw=0
        )
        for how in (RUN, TRAINED):
            _line(axes, [point for point in points if point.how == how or point.errors == 0], metric, how)
        axes.set_xscale("function", functions=(_root, _square))
        axes.set_xlim(left=0)
        axes.set_title(metric.replace("_", " "), parse_math=False)
        axes.set_xlabel("expected errors in a run")
        axes.grid(alpha=0.25, linewidth=0.5)
    return picture(
        figure,
        f"Every metric of {name} against the strength of noise, trained under it and trained exactly and run under it",
        f"{name}: red, trained under the noise that it is judged under; blue, trained exactly and run under it. "
        "Diamonds: the calibration of a device. Bars: standard deviation between seeds (of one seed, by bootstrap). "
        "Grey: truth against truth. The axis is that of the square root.",
    )


def _root(values: Any) -> Any:
    return abs(values) ** 0.5


def _square(values: Any) -> Any:
    return values**2


def _line(axes: Axes, points: list[Point], metric: str, how: str) -> None:
    style: dict[str, Any] = {"color": COLOURS[how], "capsize": 2, "markersize": 4}
    if how == RUN:
        style |= {"markerfacecolor": "white"}
    for device, marker in ((False, "o"), (True, "D")):
        scores = [
            (p.errors, p.scores.metrics[metric]) for p in points if p.device is device and metric in p.scores.metrics
        ]
        bars = [score.uncertainty if score.spread is None else score.spread for _, score in scores]
        line = ("-" if how == TRAINED else "--") if not device else ""
        axes.errorbar(
            [errors for errors, _ in scores], [s.value for _, s in scores], bars, marker=marker, linestyle=line, **style
        )


def _curves(run: Run, studied: Mapping[str, list[Point]]) -> Picture | None:
    """Validation loss against step under every noise, the models side by side; None if none was trained so."""
    shown = {name: [p for p in points if p.how == TRAINED] for name, points in studied.items()}
    shown = {name: points for name, points in shown.items() if len(points) > 1}
    if not shown:
        return None
    across = len(shown)
    figure = Figure(figsize=(WIDTH * min(max(across, 2), 3) / 3, 3.4), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, across, squeeze=False)[0], shown.items(), strict=True):
        for number, point in enumerate(points):
            colour = TRUTH if point.errors == 0 else mpl.colormaps["plasma"](0.85 * number / len(points))
            for seed in run.seeds:
                history = run.training(point.noise, seed).get("history") or []
                pairs = [(r["step"], r["validation"]) for r in history if math.isfinite(r.get("validation", math.nan))]
                text = label(point.noise) if seed == run.seeds[0] else None
                style = (0, (4, 1.5)) if point.device else "-"
                axes.plot(*zip(*pairs, strict=True), color=colour, linestyle=style, linewidth=0.9, label=text)
        axes.set_title(name, parse_math=False)
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize=6.5)
        axes.grid(alpha=0.25, linewidth=0.5)
    figure.axes[0].set_ylabel("validation loss under the noise")
    return picture(
        figure,
        f"Validation loss against step under each noise of {', '.join(shown)}",
        "Each training is validated under the noise that it is trained under, a line for each seed; grey is exact, a "
        "dashed line the calibration of a device.",
    )
