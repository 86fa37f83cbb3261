"""A circuit as three kinds of steps: real rotations, phases and permutations.

Every gate is a product of rotations ``RY``, diagonal gates and gates that permute basis states:
``RX(t) = RZ(-pi/2) RY(t) RZ(pi/2)``, ``CRY(t) = CZ RY(-t/2) CZ RY(t/2)``,
``RXX(t) = CNOT RX(t) CNOT`` and so on. ``RY`` is real: it takes a quarter of the work of a complex matrix, and the
derivative by its angle is one overlap. The angles of all steps stay sums of the circuit's angles, so the chain rule
is a sparse matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from circuits.backends.frame import Frame
from circuits.backends.schedule import Elementary, elementary_gates
from circuits.circuit import Angle, Circuit
from circuits.gate_table import gate_definition

__all__ = ["LEAST_BITS", "Sweep", "compile_sweep", "is_swept"]

LEAST_BITS = 3
"""Qubits of the smallest state the kernels take; fewer are padded with idle ones in front."""

TURN, MOVE = 0, 1

_MOST_BYTES = 2**25  # of a circuit's tables


@dataclass(frozen=True)
class _Step:
    """A rotation ``RY`` on a wire, a sum of sign terms on wires, or a permutation gate on wires."""

    kind: str
    wires: tuple[int, ...]
    angle: Angle | None = None
    terms: tuple[tuple[tuple[int, ...], Angle], ...] = ()
    name: str = ""


def _fixed(value: float) -> Angle:
    return Angle(None, offset=value)


def _turn(wire: int, angle: Angle) -> _Step:
    return _Step("turn", (wire,), angle)


def _phase(name: str, wires: tuple[int, ...], angle: Angle | None) -> _Step:
    """The step of a diagonal gate."""
    signs = gate_definition(name).signs
    if signs is None:
        raise ValueError(f"{name} is not diagonal")
    terms = []
    for subset, slope, constant in signs(len(wires)):
        phase = _fixed(constant) if angle is None or slope == 0.0 else angle.affine(slope, constant)
        terms.append((tuple(wires[place] for place in subset), phase))
    return _Step("phase", wires, terms=tuple(terms))


def _fixed_steps(matrix: NDArray[np.complex128], wire: int) -> Iterator[_Step]:
    """A fixed gate on one wire as ``exp(i phase) RZ(after) RY(turn) RZ(before)``."""
    phase = float(np.angle(np.linalg.det(matrix))) / 2
    turn = 2 * math.atan2(abs(matrix[1, 0]), abs(matrix[0, 0]))
    total = 2 * (float(np.angle(matrix[1, 1])) - phase) if abs(matrix[1, 1]) > 1e-9 else 0.0  # after + before
    difference = 2 * (float(np.angle(matrix[1, 0])) - phase) if abs(matrix[1, 0]) > 1e-9 else 0.0  # after - before
    yield _phase("RZ", (wire,), _fixed((total - difference) / 2))
    yield _turn(wire, _fixed(turn))
    yield _phase("RZ", (wire,), _fixed((total + difference) / 2))
    yield _Step("phase", (wire,), terms=(((), _fixed(phase)),))


def _steps(gate: Elementary) -> Iterator[_Step]:
    """A gate in order of application."""
    name, wires, angle = gate.name, gate.wires, gate.angle
    definition = gate_definition(name)
    if definition.permutes:
        yield _Step("permutation", wires, name=name)
    elif definition.signs is not None:
        yield _phase(name, wires, angle)
    elif definition.fixed is not None and len(wires) == 1:
        yield from _fixed_steps(definition.fixed.numpy(), wires[0])
    elif name == "ECR":  # X on the first wire, after exp(-i pi/4 Z X)
        yield _phase("CZ", wires, None)
        yield from _steps(Elementary("RX", wires[1:], _fixed(math.pi / 2)))
        yield _phase("CZ", wires, None)
        yield _Step("permutation", wires[:1], name="X")
    elif angle is None:
        raise ValueError(f"{name} is not a gate that the kernels know")
    elif name == "RY":
        yield _turn(wires[0], angle)
    elif name == "RX":
        yield _phase("RZ", wires, _fixed(math.pi / 2))
        yield _turn(wires[0], angle)
        yield _phase("RZ", wires, _fixed(-math.pi / 2))
    elif name == "CRY":
        for scale in (0.5, -0.5):
            yield _turn(wires[1], angle.affine(scale))
            yield _phase("CZ", wires, None)
    elif name == "CRX":
        yield _phase("RZ", wires[1:], _fixed(math.pi / 2))
        yield from _steps(Elementary("CRY", wires, angle))
        yield _phase("RZ", wires[1:], _fixed(-math.pi / 2))
    elif name == "RXX":
        yield _Step("permutation", wires, name="CNOT")
        yield from _steps(Elementary("RX", wires[:1], angle))
        yield _Step("permutation", wires, name="CNOT")
    elif name == "RYY":
        for wire in wires:
            yield _phase("Sdg", (wire,), None)
        yield from _steps(Elementary("RXX", wires, angle))
        for wire in wires:
            yield _phase("S", (wire,), None)
    else:
        raise ValueError(f"{name} is not a gate that the kernels know")


@dataclass
class _Layer:
    kind: str
    wires: set[int] = field(default_factory=set)
    steps: list[_Step] = field(default_factory=list)


def _layers(circuit: Circuit) -> list[_Layer]:
    """Steps of one kind collected, each as early as its wires allow."""
    layers: list[_Layer] = []
    last = [0] * circuit.n_wires
    for gate in elementary_gates(circuit):
        for step in _steps(gate):
            start = max(last[wire] for wire in step.wires)
            number = next((i for i in range(start, len(layers)) if layers[i].kind == step.kind), len(layers))
            if number == len(layers):
                layers.append(_Layer(step.kind))
            layers[number].steps.append(step)
            layers[number].wires.update(step.wires)
            for wire in step.wires:
                last[wire] = number
    return layers


@dataclass(frozen=True, eq=False)
class Sweep:
    """A circuit as arrays.

    Steps have *parameters*: ``offsets + sum over the entries of scale * angles[index]``; first those of the
    rotations, then those of the phases.

    Args:
        n_bits: qubits of the state, at least :data:`LEAST_BITS`.
        steps: ``(n_steps, 7)``. Rotations: ``TURN``, first and end of their parameters. Phases, then a permutation:
            ``MOVE``, row of ``targets`` or -1, row of ``fixed`` or -1, first and end of the phases of single bits, and
            of those of parities.
        bits: ``(n_parameters,)``, the bit of a rotation or of a single phase, -1 for a global phase, or the bits of a
            parity as a number; ascending within a step.
        offsets: ``(n_parameters,)`` in radians.
        parameters, indices, scales: the entries of the affine map.
        targets: ``(n_permutations, 2**n_bits)``, where an amplitude goes.
        fixed: ``(n_diagonals, 2**n_bits)`` complex, constant diagonals.
    """

    n_bits: int
    steps: NDArray[np.int64]
    bits: NDArray[np.int64]
    offsets: NDArray[np.float64]
    parameters: NDArray[np.int64]
    indices: NDArray[np.int64]
    scales: NDArray[np.float64]
    targets: NDArray[np.int32]
    fixed: NDArray[np.complex128]


class _Builder:
    def __init__(self, circuit: Circuit) -> None:
        self.n_wires = circuit.n_wires
        self.n_bits = max(circuit.n_wires, LEAST_BITS)
        self.steps: list[tuple[int, ...]] = []
        self.turns: list[tuple[int, list[Angle]]] = []
        self.phases: list[tuple[int, list[Angle]]] = []
        self.frames: dict[Frame, int] = {}
        self.diagonals: dict[tuple[tuple[int, float], ...], int] = {}
        layers = _layers(circuit)
        while layers:
            layer = layers.pop(0)
            if layer.kind == "turn":
                self.turn(layer)
            elif layer.kind == "phase" and layers and layers[0].kind == "permutation":
                self.move(layer, layers.pop(0))
            elif layer.kind == "phase":
                self.move(layer, None)
            else:
                self.move(None, layer)

    def mask(self, wires: tuple[int, ...]) -> int:
        return sum(1 << self.n_wires - 1 - wire for wire in wires)

    def turn(self, layer: _Layer) -> None:
        by_bit: dict[int, list[Angle]] = {}
        for step in layer.steps:
            if step.angle is not None:
                by_bit.setdefault(self.n_wires - 1 - step.wires[0], []).append(step.angle)
        first = len(self.turns)
        self.turns.extend(sorted(by_bit.items()))
        self.steps.append((TURN, first, len(self.turns), 0, 0, 0, 0))

    def move(self, phases: _Layer | None, permutation: _Layer | None) -> None:
        singles: dict[int, list[Angle]] = {}
        parities: dict[int, list[Angle]] = {}
        constant: dict[int, float] = {}
        for step in phases.steps if phases else ():
            for wires, angle in step.terms:
                mask = self.mask(wires)
                if mask.bit_count() < 2:
                    singles.setdefault(mask.bit_length() - 1, []).append(angle)
                elif angle.is_fixed:
                    constant[mask] = constant.get(mask, 0.0) + angle.offset
                else:
                    parities.setdefault(mask, []).append(angle)
        start = len(self.phases)
        self.phases.extend(sorted(singles.items()))
        middle = len(self.phases)
        self.phases.extend(sorted(parities.items()))
        target = fixed = -1
        if permutation is not None:
            frame = Frame.identity(self.n_bits)
            for step in permutation.steps:
                frame = frame.permuted(step.name, [self.n_wires - 1 - wire for wire in step.wires])
            target = self.frames.setdefault(frame, len(self.frames))
        if constant:
            fixed = self.diagonals.setdefault(tuple(sorted(constant.items())), len(self.diagonals))
        self.steps.append((MOVE, target, fixed, start, middle, middle, len(self.phases)))

    def build(self) -> Sweep:
        sums = self.turns + self.phases
        entries = [
            (place, angle.index, angle.scale)
            for place, (_, angles) in enumerate(sums)
            for angle in angles
            if angle.index is not None
        ]
        size = 2**self.n_bits
        targets = np.empty((len(self.frames), size), np.int32)
        for frame, row in self.frames.items():
            targets[row] = frame.indices().numpy()
        fixed = np.empty((len(self.diagonals), size), np.complex128)
        states = np.arange(size)
        for terms, row in self.diagonals.items():
            phase = np.zeros(size)
            for mask, value in terms:
                phase += value * (1.0 - 2.0 * (np.bitwise_count(states & mask) % 2))
            fixed[row] = np.exp(1j * phase)
        steps = np.array(self.steps, np.int64).reshape(-1, 7)
        steps[steps[:, 0] == MOVE, 3:] += len(self.turns)
        return Sweep(
            self.n_bits,
            steps,
            np.array([bits for bits, _ in sums], np.int64),
            np.array([sum(angle.offset for angle in angles) for _, angles in sums], np.float64),
            np.array([place for place, _, _ in entries], np.int64),
            np.array([index for _, index, _ in entries], np.int64),
            np.array([scale for _, _, scale in entries], np.float64),
            targets,
            fixed,
        )


@lru_cache(maxsize=64)
def _plan(circuit: Circuit) -> _Builder:
    return _Builder(circuit)


def is_swept(circuit: Circuit) -> bool:
    """Whether the tables of a circuit's permutations and diagonals are small enough."""
    plan = _plan(circuit)
    return (4 * len(plan.frames) + 16 * len(plan.diagonals)) << plan.n_bits <= _MOST_BYTES


def compile_sweep(circuit: Circuit) -> Sweep:
    """The steps of a circuit.

    >>> from circuits import Gate
    >>> compile_sweep(Circuit(2, [Gate("RX", 0, [0]), Gate("RZ", 0, [1]), Gate("CNOT", [0, 1])])).steps[:, 0]
    array([1, 0, 1])
    """
    return _plan(circuit).build()
