"""Drawings of circuits: as text, and through Qiskit as a matplotlib figure."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from circuits.circuit import Circuit, Gate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_lines", "draw_mpl", "draw_text"]

_CONTROLLED = {"CNOT": "⊕", "CZ": "●", "CRX": "RX", "CRY": "RY", "CRZ": "RZ", "ControlledPhaseShift": "PhaseShift"}


def _cells(gate: Gate) -> dict[int, str]:
    """What stands on each wire from the gate's first to its last."""
    angles = f"({', '.join(map(str, gate.angles))})" if gate.angles else ""
    cells = dict.fromkeys(range(min(gate.wires), max(gate.wires) + 1), "│")
    if gate.name in _CONTROLLED:
        control, target = gate.wires
        return cells | {control: "●", target: _CONTROLLED[gate.name] + angles}
    return cells | dict.fromkeys(gate.wires, "×" if gate.name == "SWAP" else gate.name + angles)


def draw_text(circuit: Circuit, width: int = 120) -> str:
    """The circuit as text, one line per wire, folded at ``width`` columns.

    A column holds gates that do not overlap, lines between their wires included.

    >>> print(draw_text(Circuit(3, [Gate("H", [1]), Gate("CNOT", [0, 2]), Gate("T", [1])])))
    0: ─────●────
    1: ──H──│──T─
    2: ─────⊕────
    """
    return draw_lines(circuit.n_wires, map(_cells, circuit.gates), width)


def draw_lines(n_lines: int, gates: Iterable[Mapping[int, str]], width: int = 120) -> str:
    """Gates on numbered lines as text; each gate is given as what stands on every line from its first to its last."""
    columns: list[dict[int, str]] = []
    free = [0] * n_lines
    for cells in gates:
        place = max(free[line] for line in cells)
        if place == len(columns):
            columns.append({})
        columns[place] |= cells
        for line in cells:
            free[line] = place + 1
    labels = [f"{line}:" for line in range(n_lines)]
    margin = max(map(len, labels)) + 1
    parts: list[list[str]] = [[]]
    for column in columns:
        size = max(map(len, column.values()))
        piece = ["──" + column.get(line, "").ljust(size, "─") for line in range(n_lines)]
        if parts[-1] and margin + len(parts[-1][0]) + len(piece[0]) >= width:
            parts.append([])
        parts[-1] = [a + b for a, b in zip(parts[-1] or [""] * n_lines, piece, strict=True)]
    parts = [part or ["──"] * n_lines for part in parts]
    return "\n\n".join(
        "\n".join(label.ljust(margin) + text + "─" for label, text in zip(labels, part, strict=True)) for part in parts
    )


def draw_mpl(circuit: Circuit) -> Figure:
    """The circuit as a matplotlib figure, drawn by Qiskit; pyplot does not keep it.

    Raises:
        ImportError: pylatexenc is missing; it comes with the extra ``draw``.
    """
    if importlib.util.find_spec("pylatexenc") is None:
        raise ImportError("drawing with matplotlib needs pylatexenc: pip install 'qgen-hep[draw]'")
    from matplotlib import pyplot

    from circuits.interop import to_qiskit

    figure: Figure = to_qiskit(circuit).draw("mpl")
    pyplot.close(figure)
    return figure
