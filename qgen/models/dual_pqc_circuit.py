"""The circuits of a dual-PQC model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from circuits import Circuit, Gate
from circuits.circuit import Angle

__all__ = ["dual_pqc_circuit", "with_input_state"]


def dual_pqc_circuit(
    n_wires: int,
    n_layers: int,
    inputs: Sequence[int] = (),
    rotations: Sequence[str] = ("RY", "RZ"),
    entangler: str = "CNOT",
    n_read: int | None = None,
) -> tuple[Circuit, list[int]]:
    r"""The circuit of either part, and which input each of its uploads is of.

    A layer is, on every wire, an RY by each input (with an angle of its own) and the rotations, and then entanglers
    on a ring. A last RY on every wire that is read, by its weight plus :math:`\pi/2`, closes the circuit: with all
    weights at 0 every outcome is equally likely, whatever basis state goes in. An RZ of the last layer is left out on
    wires that are not read, where next to nothing sees it. Uploads stand last in the angle vector.

    Args:
        n_wires: number of qubits.
        n_layers: number of layers.
        inputs: the inputs by number.
        rotations: gates with one wire and one angle.
        entangler: ``"CNOT"`` or ``"CZ"``.
        n_read: the first wires, which are read; all if not given.

    >>> circuit, uploads = dual_pqc_circuit(2, 1, [0], n_read=1)
    >>> print(circuit.draw())
    0: ──RY(a4)──RY(a0)──RZ(a1)──●──RY(a3+1.571)─
    1: ──RY(a5)──RY(a2)──────────⊕───────────────
    >>> uploads
    [0, 0]
    """
    n_read = n_wires if n_read is None else n_read
    pairs = [(wire, (wire + 1) % n_wires) for wire in range(n_wires if n_wires > 2 else n_wires - 1)]
    kinds: list[tuple[str, tuple[int, ...], int | None]] = []  # gate, wires, its input
    for layer in range(n_layers):
        for wire in range(n_wires):
            kinds += [("RY", (wire,), number) for number in inputs]
            unseen = layer == n_layers - 1 and wire >= n_read
            kinds += [(name, (wire,), None) for name in rotations if not (unseen and name == "RZ")]
        kinds += [(entangler, pair, None) for pair in pairs]
    uploads = [number for _, _, number in kinds if number is not None]
    n_weights = sum(len(wires) == 1 for _, wires, _ in kinds) - len(uploads) + n_read
    weight, upload = iter(range(n_weights)), iter(range(n_weights, n_weights + len(uploads)))
    gates = [
        Gate(name, wires, [] if len(wires) == 2 else [next(weight if number is None else upload)])
        for name, wires, number in kinds
    ]
    gates += [Gate("RY", wire, [Angle(next(weight), offset=math.pi / 2)]) for wire in range(n_read)]
    return Circuit(n_wires, gates, n_weights + len(uploads)), uploads


def with_input_state(pqc2: Circuit, n1: int) -> Circuit:
    """``pqc2`` after RX gates on its first wires, whose angles stand last in the angle vector."""
    entry = [Gate("RX", wire, [pqc2.n_angles + wire]) for wire in range(n1)]
    return Circuit(pqc2.n_wires, [*entry, *pqc2.gates], pqc2.n_angles + n1)
