"""What a truncated simulation does, step by step: a program sorted once into passes over the amplitudes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from circuits.cv.basis import FockBasis, Mixing, block_mixing, pair_mixing, single_mixing
from circuits.cv.gates import CVGate
from circuits.cv.program import Program

__all__ = ["Group", "PhaseGroup", "Schedule", "Step", "schedule"]

MIXINGS = {"Beamsplitter": block_mixing, "TwoModeSqueezing": pair_mixing}


@dataclass(frozen=True)
class Group:
    """Gates of one kind whose matrices are made in one go.

    Args:
        name: the gate's name.
        per_sample: the matrices differ within a batch.
        index: entry of the parameter vector of each parameter of each gate, ``(gates, n)``; of a fixed one, 0.
        scale: factor of that entry, ``(gates, n)``; of a fixed one, 0.
        offset: what is added, ``(gates, n)``.
    """

    name: str
    per_sample: bool
    index: np.ndarray
    scale: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True)
class PhaseGroup:
    """Passes that only change phases: the phase of a state is a sum of parameters times functions of photon numbers.

    Args:
        per_sample: the phases differ within a batch.
        terms: the parameters, as for other gates, with one parameter each.
        place: of each term the pass and the function, as ``pass * n_functions + function``, ``(terms,)``.
        n_passes: how many passes.
        functions: values of the functions in every state, ``(n_functions, size)`` float64.
    """

    per_sample: bool
    terms: Group
    place: np.ndarray
    n_passes: int
    functions: np.ndarray


@dataclass(frozen=True)
class Step:
    """One pass: phases, or a gate that mixes amplitudes.

    Args:
        group: which group its matrix or phases are in, by number; phase groups come after the groups of gates.
        number: which of the group.
        mixing: what is mixed; None for phases.
        loss_of: the mode of a loss, else None.
    """

    group: int
    number: int
    mixing: Mixing | None
    loss_of: int | None = None


@dataclass(frozen=True)
class Schedule:
    """A program in a basis.

    Args:
        basis: of the amplitudes.
        groups: of gates.
        phases: of phase passes.
        steps: in order.
        start: number of the state in which the program starts.
    """

    basis: FockBasis
    groups: tuple[Group, ...]
    phases: tuple[PhaseGroup, ...]
    steps: tuple[Step, ...]
    start: int


@lru_cache(maxsize=64)
def schedule(program: Program, basis: FockBasis, n_shared: int) -> Schedule:
    """Sort a program.

    Args:
        program: the program.
        basis: of the amplitudes.
        n_shared: how many of its parameters, the first ones, are the same in a whole batch.

    Raises:
        ValueError: it starts in a state that is not in the basis.
    """
    start = int(basis.find(np.array(program.photons)))
    if start < 0:
        raise ValueError(f"the program starts with photons {program.photons}, beyond cutoff {basis.cutoff}")
    gates: dict[tuple[str, bool], list[CVGate]] = {}
    phases: dict[bool, list[list[CVGate]]] = {False: [], True: []}
    steps: list[tuple[tuple[str, bool], int, CVGate | None]] = []
    pending: list[CVGate] = []

    def flush() -> None:
        for per_sample in (False, True):
            some = [gate for gate in pending if _per_sample(gate, n_shared) is per_sample]
            if some:
                steps.append((("", per_sample), len(phases[per_sample]), None))
                phases[per_sample].append(some)
        pending.clear()

    for gate in program.gates:
        if gate.definition.diagonal:
            pending.append(gate)
            continue
        if any(set(other.modes) & set(gate.modes) for other in pending):
            flush()
        key = (gate.name, _per_sample(gate, n_shared))
        steps.append((key, len(gates.setdefault(key, [])), gate))
        gates[key].append(gate)
    flush()
    groups = [_group(name, per_sample, some) for (name, per_sample), some in gates.items()]
    numbers = {key: number for number, key in enumerate(gates)}
    phase_groups: list[PhaseGroup] = []
    for per_sample, passes in phases.items():
        if passes:
            numbers["", per_sample] = len(groups) + len(phase_groups)
            phase_groups.append(_phase_group(basis, per_sample, passes))
    return Schedule(
        basis,
        tuple(groups),
        tuple(phase_groups),
        tuple(Step(numbers[key], number, *_mixing(basis, gate)) for key, number, gate in steps),
        start,
    )


def _mixing(basis: FockBasis, gate: CVGate | None) -> tuple[Mixing | None, int | None]:
    if gate is None:
        return None, None
    if gate.name == "Loss":
        return None, gate.modes[0]
    return MIXINGS.get(gate.name, single_mixing)(basis, *gate.modes), None


def _per_sample(gate: CVGate, n_shared: int) -> bool:
    return any(slot.index is not None and slot.index >= n_shared for slot in gate.parameters)


def _group(name: str, per_sample: bool, gates: list[CVGate]) -> Group:
    slots = [gate.parameters for gate in gates]
    return Group(
        name,
        per_sample,
        np.array([[slot.index or 0 for slot in row] for row in slots], dtype=np.int64),
        np.array([[slot.scale for slot in row] for row in slots]),
        np.array([[slot.offset for slot in row] for row in slots]),
    )


def _phase_group(basis: FockBasis, per_sample: bool, passes: list[list[CVGate]]) -> PhaseGroup:
    functions: dict[tuple[str, tuple[int, ...]], int] = {}
    values, place = [], []
    n = basis.occupations.astype(np.float64)
    for number, gates in enumerate(passes):
        for gate in gates:
            key = (gate.name, tuple(sorted(gate.modes)))
            if key not in functions:
                functions[key] = len(functions)
                powers = {"Rotation": 1, "Kerr": 2, "CrossKerr": 1}[gate.name]
                values.append((n[:, list(gate.modes)] ** powers).prod(1))
            place.append((number, functions[key]))
    terms = _group("", per_sample, [gate for gates in passes for gate in gates])
    flat = np.array([number * len(functions) + function for number, function in place], dtype=np.int64)
    return PhaseGroup(per_sample, terms, flat, len(passes), np.stack(values))
