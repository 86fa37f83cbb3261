"""From gates to a few blocks: dense on few wires, diagonal, or a permutation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from circuits.circuit import Angle, Circuit
from circuits.gate_table import gate_definition

__all__ = ["Block", "Elementary", "elementary_gates", "schedule"]


@dataclass(frozen=True)
class Elementary:
    """A gate with at most one angle."""

    name: str
    wires: tuple[int, ...]
    angle: Angle | None


@dataclass
class Block:
    """Gates that are applied together.

    Args:
        kind: ``"dense"`` (one matrix on ``wires``), ``"diagonal"`` or ``"permutation"``.
        wires: the wires touched.
        gates: the gates in order.
    """

    kind: str
    wires: set[int] = field(default_factory=set)
    gates: list[Elementary] = field(default_factory=list)


def elementary_gates(circuit: Circuit) -> Iterator[Elementary]:
    """The circuit's gates, composite ones (``Rot``, ``U3``) taken apart."""
    for gate in circuit.gates:
        sequence = gate_definition(gate.name).sequence
        if sequence:
            for name, slot in sequence:
                yield Elementary(name, gate.wires, gate.angles[slot])
        else:
            yield Elementary(gate.name, gate.wires, gate.angles[0] if gate.angles else None)


def _kind(gate: Elementary) -> str:
    definition = gate_definition(gate.name)
    if definition.permutes:
        return "permutation"
    if definition.signs is not None and len(gate.wires) > 1:
        return "diagonal"
    return "dense"


def schedule(circuit: Circuit, group: int) -> list[Block]:
    """Blocks that, applied in order, are the circuit.

    A gate goes to the first block it may join: no earlier than the last block on its wires, since gates on different
    wires commute. Dense blocks grow to ``group`` wires; diagonal gates and permutations join a dense block only if it
    has all their wires, and otherwise collect in blocks of their own, which have any number of wires.

    Args:
        circuit: the circuit.
        group: largest number of wires of a dense block, at least 2.
    """
    blocks: list[Block] = []
    last = [-1] * circuit.n_wires
    for gate in elementary_gates(circuit):
        kind, wires = _kind(gate), set(gate.wires)
        start = max(0, *(last[wire] for wire in wires))
        place = None
        for number in range(start, len(blocks)):
            block = blocks[number]
            if block.kind == "dense":
                fits = wires <= block.wires or (kind == "dense" and len(wires | block.wires) <= group)
            else:
                fits = block.kind == kind
            if fits:
                place = number
                break
        if place is None:
            place = len(blocks)
            blocks.append(Block(kind))
        blocks[place].gates.append(gate)
        blocks[place].wires |= wires
        for wire in wires:
            last[wire] = place
    return blocks
