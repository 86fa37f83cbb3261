r"""What a truncated simulation does, step by step: a program sorted once into passes over the amplitudes.

Every gate is a real matrix between rotations. With :math:`R(\phi) = e^{i\phi n}`, on the first mode of two,

- :math:`D(a, \phi) = R(\phi)\, D(a)\, R(-\phi)`, and the same for two-mode squeezing; squeezing has
  :math:`\phi/2` and beamsplitters :math:`-\phi`;
- :math:`e^{i s x^3} = R(\pi/2)\, M\, R(-\pi/2)` with a real matrix M;
- the quadratic phase is :math:`e^{i\beta(n + 1/2)} R(-\pi/4)\, S(\operatorname{arsinh}(s/2))\, R(\pi/4)
  e^{i\beta(n + 1/2)}` with :math:`2\beta = \arctan(s/2)`.

Rotations and the other gates that only change phases are collected into as few passes as possible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from circuits.cv.basis import FockBasis, Mixing, block_mixing, loss_mixing, pair_mixing, single_mixing
from circuits.cv.gates import CVGate, Parameter
from circuits.cv.program import Program

__all__ = ["Group", "Layer", "PhaseGroup", "Schedule", "Step", "Terms", "gate_layers", "schedule"]

_MIXINGS = {"Beamsplitter": block_mixing, "TwoModeSqueezing": pair_mixing, "Loss": loss_mixing}
_TURNS = {"Displacement": 1.0, "TwoModeSqueezing": 1.0, "Squeezing": 0.5, "Beamsplitter": -1.0}


@dataclass(frozen=True, eq=False)
class Terms:
    """Affine functions of single parameters: ``scale * parameters[index] + offset``, and its arc tangent where asked.

    Args:
        index: entry of the parameter vector, ``(n,)``; of a fixed one, 0.
        scale: its factor, ``(n,)``; of a fixed one, 0.
        offset: what is added, ``(n,)``.
        bent: numbers of the terms of which half the arc tangent is taken, ``(k,)``.
    """

    index: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    bent: np.ndarray

    @cached_property
    def is_plain(self) -> bool:
        """Whether all are entries of the parameter vector as they are."""
        return bool((self.scale == 1).all() and (self.offset == 0).all())

    @classmethod
    def of(cls, slots: list[Parameter], bent: list[int] | None = None) -> Terms:
        """From parameters of gates."""
        return cls(
            np.array([slot.index or 0 for slot in slots], dtype=np.int64),
            np.array([slot.scale if slot.index is not None else 0.0 for slot in slots]),
            np.array([slot.offset for slot in slots]),
            np.array(bent or [], dtype=np.int64),
        )


@dataclass(frozen=True, eq=False)
class Group:
    """Gates of one kind, whose matrices are made in one go.

    Args:
        name: the gates' name.
        per_sample: the matrices differ within a batch.
        terms: the gates' first parameters.
    """

    name: str
    per_sample: bool
    terms: Terms


@dataclass(frozen=True, eq=False)
class PhaseGroup:
    """Passes that only change phases: the phase of a state is a sum of parameters times functions of photon numbers.

    Args:
        per_sample: the phases differ within a batch.
        terms: the parameters.
        place: of each term the pass and the function, as ``pass * n_functions + function``, ``(terms,)``.
        n_passes: how many passes.
        functions: values of the functions in every state, ``(n_functions, size)`` float64.
    """

    per_sample: bool
    terms: Terms
    place: np.ndarray
    n_passes: int
    functions: np.ndarray


@dataclass(frozen=True, eq=False)
class Step:
    """One pass: phases, or a gate that mixes amplitudes.

    Args:
        group: the number of the group that its matrix is in, or of the phase group that its phases are in.
        number: which of the group.
        mixing: what is mixed; None for phases.
        lossy: it acts on both sides of a density matrix at once.
    """

    group: int
    number: int
    mixing: Mixing | None
    lossy: bool = False


@dataclass(frozen=True, eq=False)
class Schedule:
    """A program in a basis.

    Args:
        basis: of the amplitudes.
        groups: of gates.
        phases: of phase passes.
        steps: in order.
        start: number of the state in which the program starts; -1 if it is not in the basis.
    """

    basis: FockBasis
    groups: tuple[Group, ...]
    phases: tuple[PhaseGroup, ...]
    steps: tuple[Step, ...]
    start: int

    @cached_property
    def lossy(self) -> bool:
        """Whether a density matrix is needed."""
        return any(step.lossy for step in self.steps)


@dataclass(frozen=True)
class _Phase:
    """A parameter, or half its arc tangent, times a function of the photon numbers: their product plus ``shift``."""

    modes: tuple[int, ...]
    slot: Parameter
    power: int = 1
    shift: float = 0.0
    bent: bool = False


@dataclass
class Layer:
    """Phases, then gates on different modes."""

    phases: list[_Phase] = field(default_factory=list)
    gates: list[CVGate] = field(default_factory=list)


def _pieces(gate: CVGate) -> Iterator[CVGate | _Phase]:
    """A gate as phases and gates whose matrices are real, in order of application."""
    slots, mode = gate.parameters, gate.modes[:1]
    if gate.definition.diagonal:
        yield _Phase(gate.modes, slots[0], 2 if gate.name == "Kerr" else 1)
    elif gate.name in _TURNS:
        yield _Phase(mode, slots[1].affine(-_TURNS[gate.name]))
        yield gate
        yield _Phase(mode, slots[1].affine(_TURNS[gate.name]))
    elif gate.name in ("CubicPhase", "QuadraticPhase"):
        turn = 0.5 * math.pi if gate.name == "CubicPhase" else -0.25 * math.pi
        bend = [_Phase(mode, slots[0], shift=0.5, bent=True)] if gate.name == "QuadraticPhase" else []
        yield from bend
        yield _Phase(mode, Parameter(None, offset=-turn))
        yield gate
        yield _Phase(mode, Parameter(None, offset=turn))
        yield from bend
    else:
        yield gate


@lru_cache(maxsize=64)
def gate_layers(program: Program) -> tuple[Layer, ...]:
    """Every piece as early as its modes allow."""
    layers: list[Layer] = [Layer()]
    busy = [0] * program.n_modes  # the first layer whose phases may still act on a mode
    for gate in program.gates:
        for piece in _pieces(gate):
            number = max(busy[mode] for mode in piece.modes)
            if isinstance(piece, _Phase):
                if not (piece.slot.index is None and piece.slot.offset == 0):
                    layers[number].phases.append(piece)
            else:
                layers[number].gates.append(piece)
                number += 1
                if number == len(layers):
                    layers.append(Layer())
            for mode in piece.modes:
                busy[mode] = number
    return tuple(layers)


@lru_cache(maxsize=64)
def schedule(program: Program, basis: FockBasis, n_shared: int) -> Schedule:
    """Sort a program.

    Args:
        program: the program.
        basis: of the amplitudes.
        n_shared: how many of its parameters, the first ones, are the same in a whole batch.
    """
    gates: dict[tuple[str, bool], list[CVGate]] = {}
    phases: dict[bool, list[list[_Phase]]] = {False: [], True: []}
    order: list[tuple[bool, int, CVGate | None]] = []
    for layer in gate_layers(program):
        if layer.phases:
            per_sample = any(_per_sample(phase.slot, n_shared) for phase in layer.phases)
            order.append((per_sample, len(phases[per_sample]), None))
            phases[per_sample].append(layer.phases)
        for gate in layer.gates:
            per_sample = _per_sample(gate.parameters[0], n_shared)
            members = gates.setdefault((gate.name, per_sample), [])
            order.append((per_sample, len(members), gate))
            members.append(gate)
    numbers = {key: number for number, key in enumerate(gates)}
    kinds = [per_sample for per_sample in phases if phases[per_sample]]
    steps = [
        Step(kinds.index(per_sample), number, None)
        if gate is None
        else Step(
            numbers[gate.name, per_sample],
            number,
            _MIXINGS.get(gate.name, single_mixing)(basis, *gate.modes),
            gate.name == "Loss",
        )
        for per_sample, number, gate in order
    ]
    return Schedule(
        basis,
        tuple(Group(name, per, Terms.of([gate.parameters[0] for gate in some])) for (name, per), some in gates.items()),
        tuple(_phase_group(basis, per_sample, phases[per_sample]) for per_sample in kinds),
        tuple(steps),
        int(basis.find(np.array(program.photons))),
    )


def _per_sample(slot: Parameter, n_shared: int) -> bool:
    return slot.index is not None and slot.index >= n_shared


def _phase_group(basis: FockBasis, per_sample: bool, passes: list[list[_Phase]]) -> PhaseGroup:
    functions: dict[tuple[tuple[int, ...], int, float], int] = {}
    values, place = [], []
    occupations = basis.occupations.astype(np.float64)
    flat = [phase for phases in passes for phase in phases]
    for number, phases in enumerate(passes):
        for phase in phases:
            key = (tuple(sorted(phase.modes)), phase.power, phase.shift)
            if key not in functions:
                functions[key] = len(functions)
                values.append((occupations[:, list(phase.modes)] ** phase.power).prod(1) + phase.shift)
            place.append((number, functions[key]))
    terms = Terms.of([phase.slot for phase in flat], [i for i, phase in enumerate(flat) if phase.bent])
    places = np.array([number * len(functions) + function for number, function in place], dtype=np.int64)
    return PhaseGroup(per_sample, terms, places, len(passes), np.stack(values))
