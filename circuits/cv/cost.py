"""What a truncated simulation takes of memory, known before anything is made."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from circuits.cv.basis import BasisKind, basis_size
from circuits.cv.program import Program
from circuits.cv.schedule import gate_layers

__all__ = ["Cost", "cost_of"]

_TABLE = 3 * 4 * 2  # bytes of a triple of a mixing, and of its transposed


class Cost(NamedTuple):
    """Bytes.

    Args:
        tables: of what does not depend on the batch.
        row: for each row of a batch.
        piece: for each row of those that go through the passes together.
    """

    tables: int
    row: int
    piece: int


@lru_cache(maxsize=256)
def cost_of(
    program: Program, cutoff: int, kind: BasisKind, real: int, n_shared: int, gradient: bool, compiled: bool
) -> Cost:
    """What a run takes.

    Args:
        program: the program.
        cutoff: of the basis.
        kind: of the basis.
        real: bytes of a real number, 4 or 8.
        n_shared: how many of the program's parameters, the first ones, are the same in a whole batch.
        gradient: the states of all passes are kept.
        compiled: by the kernels, else by the plain passes.
    """
    size = basis_size(program.n_modes, cutoff, kind)
    numbers = size if program.is_unitary else size**2
    layers = gate_layers(program)
    gates = [gate for layer in layers for gate in layer.gates]
    mixed = {(gate.name, gate.modes): numbers if gate.name == "Loss" else size for gate in gates}
    tables = sum(count * cutoff * _TABLE for count in mixed.values())
    copies = 8 * (3 if gradient else 2)  # of the entries and phases, in double precision
    shared = each = 0
    for layer in layers:
        slots = [phase.slot for phase in layer.phases]
        if any(slot.index is not None and slot.index >= n_shared for slot in slots):
            each += 4 * size * copies
        elif slots:
            shared += 4 * size * copies
    for gate in gates:
        slot = gate.parameters[0]
        entries = cutoff**2 if len(gate.modes) == 1 and gate.name != "Loss" else cutoff**3
        if slot.index is not None and slot.index >= n_shared:
            each += entries * copies
        else:
            shared += entries * copies
    sides = 1 if program.is_unitary else 2
    passes = sum(1 if gate.name == "Loss" else sides for gate in gates)
    state = 2 * numbers * real
    if compiled:
        kept = passes + 1 if gradient else 0
        return Cost(tables + shared, state * (kept + 2) + each, state * 4)
    turns = sides * sum(bool(layer.phases) for layer in layers)
    kept = 2 * cutoff * passes + 4 * turns if gradient else 2
    return Cost(tables + shared, state * (kept + 4) + each, 0)
