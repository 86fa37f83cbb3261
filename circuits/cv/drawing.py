"""Programs of optical modes as text."""

from __future__ import annotations

from circuits.cv.gates import CVGate
from circuits.cv.program import Program
from circuits.drawing import draw_lines

__all__ = ["draw_text"]

_SHORT = {
    "Rotation": "R",
    "Displacement": "D",
    "Squeezing": "S",
    "QuadraticPhase": "P",
    "CubicPhase": "V",
    "Kerr": "K",
    "Beamsplitter": "BS",
    "TwoModeSqueezing": "S2",
    "CrossKerr": "CK",
}


def draw_text(program: Program, width: int = 120) -> str:
    """The program as text, one line per mode, folded at ``width`` columns.

    Gates are ``R`` rotation, ``D`` displacement, ``S`` squeezing, ``P`` and ``V`` quadratic and cubic phase, ``K``
    Kerr, ``BS`` beamsplitter, ``S2`` two-mode squeezing, ``CK`` cross-Kerr and ``Loss``; a gate on two modes ends at a
    ``●`` on its second. Parameters are ``a0``, ``a1``, ... with their scale and offset. Modes that do not start in the
    vacuum begin with their photons.

    >>> gates = [CVGate("Kerr", 1, (0,)), CVGate("Beamsplitter", (2, 0), (0.5, 0.0))]
    >>> print(draw_text(Program(3, gates, photons=[1, 0, 0])))
    0: ──|1>────●──────────
    1: ──K(a0)──│──────────
    2: ─────────BS(0.5, 0)─
    """
    starts = [{mode: f"|{number}>"} for mode, number in enumerate(program.photons) if number]
    return draw_lines(program.n_modes, [*starts, *map(_cells, program.gates)], width)


def _cells(gate: CVGate) -> dict[int, str]:
    """What stands on each mode from the gate's first to its last."""
    text = f"{_SHORT.get(gate.name, gate.name)}({', '.join(map(str, gate.parameters))})"
    cells = dict.fromkeys(range(min(gate.modes), max(gate.modes) + 1), "│")
    return cells | {gate.modes[-1]: "●"} | {gate.modes[0]: text}
