"""IQP circuits: commuting rotations about products of X."""

from __future__ import annotations

from collections.abc import Sequence

from circuits.circuit import Circuit
from circuits.gates import Angle, Gate, integer

__all__ = ["iqp"]


def iqp(n_wires: int, gates: Sequence[Sequence[int]], *, spin_symmetric: bool = False) -> Circuit:
    r"""An IQP circuit: the gates :math:`e^{i \theta_j X_{g_j}}`, X on all wires of the set :math:`g_j`.

    They commute and act on :math:`|0 \dots 0\rangle`; all wires are then measured in Z (2503.02934). H on every wire
    turns them into ``MultiRZ`` by :math:`-2 \theta_j`. Angle ``j`` of the circuit is :math:`\theta_j`.

    Args:
        n_wires: number of qubits.
        gates: the wires of each gate.
        spin_symmetric: start from :math:`(|0 \dots 0\rangle + |1 \dots 1\rangle) / \sqrt 2`, which a first gate with
            CNOTs prepares: a bit string is then as probable as its complement.

    Returns:
        A circuit with an angle for each gate.

    Raises:
        ValueError: a gate without wires, a wire twice in one, or one that is not there.

    >>> iqp(3, [(0,), (0, 2)]).counts
    {'H': 6, 'RZ': 1, 'MultiRZ': 1}
    """
    integer(n_wires, "n_wires", 1)
    start = [Gate("H", 0), *(Gate("CNOT", (wire - 1, wire)) for wire in range(1, n_wires))] if spin_symmetric else []
    layer = [Gate("H", wire) for wire in range(n_wires)]
    rotations = []
    for number, wires in enumerate(gates):
        if not wires or len(set(wires)) < len(wires) or not all(0 <= wire < n_wires for wire in wires):
            raise ValueError(f"gate {number} is {list(wires)}; different wires from 0 to {n_wires - 1} are needed")
        rotations.append(Gate("MultiRZ" if len(wires) > 1 else "RZ", wires, [Angle(number, -2.0)]))
    return Circuit(n_wires, [*start, *layer, *rotations, *layer], len(rotations))
