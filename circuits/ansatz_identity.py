r"""Circuits of blocks that can undo themselves, so that training can start from the identity (1903.05076).

A block is a part :math:`U` and its mirror image, each with angles of its own,

.. math:: B(a, b) = U(a) \, U(b)^\dagger ,

which is the identity where :math:`a = b`. The gradients of a deep random circuit vanish with the number of qubits; a
deep circuit that is the identity has those of a shallow one. Such angles are drawn by
:func:`circuits.initialisation.identity`.
"""

from __future__ import annotations

from collections.abc import Sequence

from circuits.circuit import Circuit
from circuits.gates import integer

__all__ = ["identity_blocks", "mirrored"]


def mirrored(part: Circuit) -> Circuit:
    """A circuit, then its mirror image with angles of its own: the identity where the two have equal angles.

    Args:
        part: ``U``; with ``n`` angles, the result has ``2 n``.

    >>> from circuits import Gate
    >>> print(mirrored(Circuit(2, [Gate("RY", [0], [0]), Gate("CNOT", [0, 1])])).draw())
    0: ──RY(a0)──●──●──RY(-1*a1)─
    1: ──────────⊕──⊕────────────
    """
    return part + part.inverse()


def identity_blocks(
    n_wires: int,
    n_layers: int,
    block_layers: int = 1,
    rotations: Sequence[str] = ("RY", "RZ"),
    entangler: str = "CNOT",
    topology: str = "linear",
) -> Circuit:
    """Hardware-efficient layers in blocks that can be the identity (1903.05076).

    Half a block is ``block_layers`` layers of rotations and an entangler, closed by rotations; the other half is its
    mirror image with angles of its own. The mirror image has the inverse gates: its angles count negatively.

    Args:
        n_wires: number of qubits.
        n_layers: blocks, each of ``2 * block_layers`` entangling layers.
        block_layers: entangling layers of half a block.
        rotations: rotations on each wire, in order; gates with one wire and one angle.
        entangler: ``"CNOT"`` or ``"CZ"``.
        topology: ``"linear"``, ``"ring"`` or ``"all-to-all"``.

    Returns:
        A circuit whose weights have shape ``(n_layers, 2, block_layers + 1, n_wires, len(rotations))``.

    Raises:
        ValueError: an impossible argument.

    >>> identity_blocks(3, 2).n_angles
    48
    """
    from circuits.ansatz import hardware_efficient  # ansatz lists this builder

    integer(n_layers, "n_layers", 1)
    integer(block_layers, "block_layers", 1)
    half = hardware_efficient(n_wires, block_layers, rotations, entangler, topology, final_rotations=True)
    circuit = block = mirrored(half)
    for _ in range(n_layers - 1):
        circuit = circuit + block
    return circuit
