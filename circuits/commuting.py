"""Gates that commute in another order, so that as many as possible act at once."""

from __future__ import annotations

from collections import defaultdict

from circuits.circuit import Circuit, Gate

__all__ = ["side_by_side"]

_DIAGONAL = ("Z", "S", "Sdg", "T", "Tdg", "RZ", "PhaseShift", "CZ", "CRZ", "ControlledPhaseShift", "RZZ", "MultiRZ")


def side_by_side(circuit: Circuit) -> Circuit:
    """The same circuit, diagonal gates that follow each other sorted into layers where that makes it shorter.

    Diagonal gates commute. Those on most wires come first, each in the first layer in which its wires are free. A chain
    of ``n`` qubits then has a depth that does not grow with ``n``.

    >>> chain = Circuit(9, [Gate("RZZ", (wire, wire + 1), [wire]) for wire in range(8)])
    >>> chain.depth, side_by_side(chain).depth
    (8, 2)
    """
    gates: list[Gate] = []
    run: list[Gate] = []
    for gate in circuit.gates:
        if gate.name in _DIAGONAL:
            run.append(gate)
        else:
            gates += [*_layered(run), gate]
            run = []
    layered = Circuit(circuit.n_wires, [*gates, *_layered(run)], circuit.n_angles)
    return min(circuit, layered, key=lambda one: one.depth)


def _layered(run: list[Gate]) -> list[Gate]:
    busy: dict[int, int] = defaultdict(int)  # for each wire the layers in which it has a gate, as a number's bits
    layers: dict[int, list[Gate]] = defaultdict(list)
    for gate in sorted(run, key=lambda gate: -len(gate.wires)):
        taken = 0
        for wire in gate.wires:
            taken |= busy[wire]
        first = ~taken & (taken + 1)
        for wire in gate.wires:
            busy[wire] |= first
        layers[first].append(gate)
    return [gate for first in sorted(layers) for gate in layers[first]]
