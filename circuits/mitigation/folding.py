"""Gate folding: circuits that do the same with more gates, and so with more noise."""

from __future__ import annotations

from typing import Literal

from circuits.circuit import Circuit, Gate

__all__ = ["fold"]


def fold(circuit: Circuit, scale: float, folding: Literal["global", "gates"] = "global") -> Circuit:
    """The circuit, made longer by gates that undo each other (2005.10921).

    A circuit of ``d`` gates becomes one of ``d + 2 k`` gates, ``k`` the integer that comes nearest to ``scale * d``.
    What is folded once more than the rest, where ``k`` is not a multiple of ``d``, are the last gates of the circuit or
    gates spread evenly over it.

    Args:
        circuit: the circuit ``U``.
        scale: number of gates as a multiple of the circuit's, at least 1.
        folding: ``"global"`` appends ``U^-1 U``, ``"gates"`` puts ``G^-1 G`` after each gate ``G``.

    Raises:
        ValueError: a scale below 1, or another folding.

    >>> bell = Circuit(2, [Gate("H", 0), Gate("CNOT", [0, 1])])
    >>> [gate.name for gate in fold(bell, 3, "global").gates]
    ['H', 'CNOT', 'CNOT', 'H', 'H', 'CNOT']
    >>> [gate.name for gate in fold(bell, 3, "gates").gates]
    ['H', 'H', 'H', 'CNOT', 'CNOT', 'CNOT']
    """
    if not scale >= 1:
        raise ValueError(f"scale is {scale!r}; a number of at least 1 is needed")
    if folding not in ("global", "gates"):
        raise ValueError(f"folding is {folding!r}; 'global' or 'gates' is needed")
    gates, depth = circuit.gates, len(circuit)
    if not depth:
        return circuit
    times, more = divmod(round((scale - 1) * depth / 2), depth)
    folded: list[Gate] = []
    if folding == "global":
        folded = [*gates, *times * [*_undone(gates), *gates]]
        if more:
            folded += [*_undone(gates[-more:]), *gates[-more:]]
    else:
        for place, gate in enumerate(gates):
            extra = (place + 1) * more // depth - place * more // depth
            folded += [gate, *(times + extra) * [gate.inverse(), gate]]
    return Circuit(circuit.n_wires, folded, circuit.n_angles)


def _undone(gates: tuple[Gate, ...]) -> list[Gate]:
    return [gate.inverse() for gate in reversed(gates)]
