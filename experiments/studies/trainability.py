r"""The study ``trainability``: how large the gradient of a loss is where training starts.

For every ansatz size (qubits, layers), loss and initialisation, the gradient is computed exactly for many draws of the
initial angles. Its variance says how strong a signal the optimiser gets; where it falls as :math:`2^{-r n}` with the
number of qubits :math:`n`, no training starts beyond some size (a barren plateau, 1803.11173). Expressibility and
entangling capability of the circuits stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from circuits import Circuit, Gate
from circuits.ansatz import ANSATZE
from circuits.expressibility import entangling_capability, expressibility
from circuits.initialisation import INITIALISATIONS, initial_angles
from experiments.studies.gradients import LOSSES, Moments, Target, gradients, moments
from qgen.data import Dataset, load_calorimeter, muon_events
from qgen.random import derive_seed, new_generator
from qgen.text import unknown

__all__ = ["DATA", "STARTS", "Settings", "fall", "trainability"]

DATA: dict[str, Callable[[], Dataset]] = {
    "muon": lambda: muon_events(n=5000, features=("x", "pt", "eta"), beam_energies=(100.0,)),
    "calorimeter": lambda: load_calorimeter(grid=(8,)),
}
"""Events that the data-driven losses compare with."""

STARTS = ("plus", "zero")
MIRRORED = "identity_blocks"

_AMPLITUDES_AT_ONCE = 2**20


@dataclass(frozen=True)
class Settings:
    """What the study computes.

    Args:
        qubits: numbers of qubits.
        layers: numbers of layers, that is of entangling ones.
        losses: names of :data:`experiments.studies.gradients.LOSSES`.
        initialisations: names of :data:`circuits.initialisation.INITIALISATIONS`; ``identity`` takes the ansatz
            ``identity_blocks`` of as many entangling layers, and so an even number.
        ansatz: name of the circuit's builder.
        samples: draws of the initial angles.
        data: name of :data:`DATA`.
        start: state before the circuit: ``plus`` for equal probabilities of all cells (a Hadamard gate on each wire),
            ``zero`` for all probability in cell 0.
        pairs: pairs of states for expressibility, and states for entangling capability; 0 to leave both out.
        seed: fixes every random number.

    Raises:
        ValueError: the option is named, with what was found and what is allowed.
    """

    qubits: tuple[int, ...] = (2, 4, 6, 8, 10)
    layers: tuple[int, ...] = (1, 2, 4, 8, 16)
    losses: tuple[str, ...] = ("global", "local", "nll", "mmd", "mmd-narrow", "mmd-wide")
    initialisations: tuple[str, ...] = ("uniform", "small-angle", "identity")
    ansatz: str = "hardware_efficient"
    samples: int = 200
    data: str = "muon"
    start: str = "plus"
    pairs: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, values, smallest, largest in (("qubits", self.qubits, 2, 20), ("layers", self.layers, 1, 1000)):
            if not values or not smallest <= min(values) <= max(values) <= largest or len(set(values)) < len(values):
                raise ValueError(
                    f"{name} is {list(values)}; different integers from {smallest} to {largest} are needed"
                )
        allowed: dict[str, tuple[Sequence[str], Collection[str]]] = {
            "losses": (self.losses, LOSSES),
            "initialisations": (self.initialisations, INITIALISATIONS),
            "ansatz": ((self.ansatz,), ANSATZE),
            "data": ((self.data,), DATA),
            "start": ((self.start,), STARTS),
        }
        for what, (names, choices) in allowed.items():
            if not names:
                raise ValueError(f"{what} is empty; allowed are {', '.join(choices)}")
            for name in names:
                if name not in choices:
                    raise ValueError(unknown(what, name, list(choices)))
        if self.ansatz == "data_reuploading":
            raise ValueError("ansatz is data_reuploading, which needs inputs; the study's circuits have none")
        if self.samples < 2 or self.pairs == 1 or self.pairs < 0:
            raise ValueError(f"samples is {self.samples}, pairs {self.pairs}; at least 2 are needed (or no pairs: 0)")

    def circuit(self, initialisation: str, n_wires: int, n_layers: int) -> Circuit | None:
        """The ansatz for an initialisation; None where that has none of so many layers."""
        if initialisation != "identity" or self.ansatz == MIRRORED:
            return ANSATZE[self.ansatz](n_wires=n_wires, n_layers=n_layers)
        return ANSATZE[MIRRORED](n_wires=n_wires, n_layers=n_layers // 2) if n_layers % 2 == 0 else None


def trainability(settings: Settings, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Do the study.

    Args:
        settings: what to compute.
        progress: is told of each size of circuit.

    Returns:
        JSON values: ``settings``; ``gradients``, a row for each initialisation, layers, qubits and loss with the
        :class:`~experiments.studies.gradients.Moments`; ``falls``, the rates at which these fall with the qubits;
        ``circuits`` with expressibility and entangling capability.

    Raises:
        ValueError: the ansatz takes no such numbers of qubits and layers, or the events do not fill so many cells.
    """
    dataset = DATA[settings.data]()
    targets = {n: Target.of(dataset, n) for n in settings.qubits}
    rows: list[dict[str, Any]] = []
    circuits: dict[str, dict[str, Any]] = {}
    for n_wires in settings.qubits:
        for n_layers in settings.layers:
            progress(f"{n_wires} qubits, {n_layers} layers")
            for name in settings.initialisations:
                circuit = settings.circuit(name, n_wires, n_layers)
                if circuit is None:
                    continue
                place = {"initialisation": name, "layers": n_layers, "qubits": n_wires}
                found = _moments(settings, circuit, place, targets[n_wires])
                rows += [
                    {**place, "parameters": circuit.n_angles, "loss": loss, **asdict(one)}
                    for loss, one in found.items()
                ]
                if settings.pairs and circuit.to_json() not in circuits:
                    builder = settings.ansatz if name != "identity" else MIRRORED
                    circuits[circuit.to_json()] = {
                        "ansatz": builder,
                        "layers": n_layers,
                        "qubits": n_wires,
                        "parameters": circuit.n_angles,
                        **_reach(settings, circuit, builder, n_layers),
                    }
    return {
        "settings": asdict(settings),
        "gradients": rows,
        "falls": _falls(rows),
        "circuits": list(circuits.values()),
    }


def _moments(settings: Settings, circuit: Circuit, place: dict[str, Any], target: Target) -> dict[str, Moments]:
    rng = new_generator(derive_seed(settings.seed, "angles", *map(str, place.values())))
    angles = torch.stack([initial_angles(place["initialisation"], circuit, rng) for _ in range(settings.samples)])
    whole = circuit
    if settings.start == "plus":
        first = Circuit(circuit.n_wires, [Gate("H", wire) for wire in range(circuit.n_wires)])
        whole = first + circuit
    parts = [
        gradients(whole, some, settings.losses, target)
        for some in angles.split(max(1, _AMPLITUDES_AT_ONCE // 2**circuit.n_wires))
    ]
    return {loss: moments(torch.cat([part[loss] for part in parts])) for loss in settings.losses}


def _reach(settings: Settings, circuit: Circuit, builder: str, n_layers: int) -> dict[str, float]:
    rng = new_generator(derive_seed(settings.seed, "states", builder, n_layers, circuit.n_wires))
    reach = expressibility(circuit, settings.pairs, generator=rng)
    entangling = entangling_capability(circuit, settings.pairs, generator=rng)
    return {
        "expressibility": reach.value,
        "expressibility_uncertainty": reach.uncertainty,
        "expressibility_floor": reach.floor,
        "entangling": entangling.value,
        "entangling_uncertainty": entangling.uncertainty,
        "entangling_haar": (2**circuit.n_wires - 2) / (2**circuit.n_wires + 1),
    }


def _falls(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rates of all series of rows that differ in the number of qubits alone."""
    series: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        series.setdefault((row["initialisation"], row["layers"], row["loss"]), []).append(row)
    falls = []
    for (initialisation, n_layers, loss), members in series.items():
        entry: dict[str, Any] = {"initialisation": initialisation, "layers": n_layers, "loss": loss}
        for what in ("variance", "first", "mean_square"):
            points = [(row["qubits"], row[what], row[f"{what}_uncertainty"]) for row in members]
            entry[what], entry[f"{what}_uncertainty"] = fall(points)
        falls.append(entry)
    return falls


def fall(points: Sequence[tuple[int, float, float]]) -> tuple[float | None, float | None]:
    """The rate ``r`` of ``2**(-r n)`` fitted to values at numbers of qubits ``n``, with its uncertainty.

    A weighted straight line through the logarithms. The uncertainty is that of the values, or, if larger, that of
    their scatter around the line.

    Args:
        points: number of qubits, value and its uncertainty; a value that is not positive is left out.

    Returns:
        Rate and uncertainty in powers of 2 for each qubit; None and None with fewer than two values.

    >>> rate, uncertainty = fall([(2, 1.0, 0.1), (4, 0.25, 0.02), (6, 0.0625, 0.01)])
    >>> round(rate, 6), round(uncertainty, 3)
    (1.0, 0.064)
    """
    points = [point for point in points if point[1] > 0 and point[2] > 0]
    if len(points) < 2:
        return None, None
    n, value, uncertainty = np.array(points).T
    weight = (value / uncertainty * math.log(2)) ** 2
    centred = n - np.average(n, weights=weight)
    spread = (weight * centred**2).sum()
    slope = (weight * centred * np.log2(value)).sum() / spread
    left = np.log2(value) - np.average(np.log2(value), weights=weight) - slope * centred
    scatter = (weight * left**2).sum() / (len(points) - 2) if len(points) > 2 else 0.0
    return -float(slope), float(np.sqrt(max(1.0, scatter) / spread))
