"""Which layer of a circuit each of its angles is of."""

from __future__ import annotations

import torch
from torch import Tensor

from circuits.circuit import Circuit

__all__ = ["angle_layers"]


def angle_layers(circuit: Circuit) -> Tensor:
    """The layer of each angle, ``(n_angles,)`` int64, counted from 0.

    On a wire, a new layer begins with the first one-wire gate after a gate on several wires. A gate on several wires
    is of the latest layer of its wires, which all have come to that layer after it. An angle in several gates is of
    the first one's layer, one in no gate of layer 0.

    >>> from circuits import ansatz
    >>> angle_layers(ansatz.hardware_efficient(2, 2, final_rotations=True)).tolist()
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    """
    at = [0] * circuit.n_wires
    entangled = [False] * circuit.n_wires
    found: dict[int, int] = {}
    for gate in circuit.gates:
        if len(gate.wires) == 1:
            (wire,) = gate.wires
            at[wire] += entangled[wire]
            entangled[wire] = False
            layer = at[wire]
        else:
            layer = max(at[wire] for wire in gate.wires)
            for wire in gate.wires:
                at[wire], entangled[wire] = layer, True
        for angle in gate.angles:
            if angle.index is not None:
                found.setdefault(angle.index, layer)
    layers = torch.zeros(circuit.n_angles, dtype=torch.long)
    for rank, layer in enumerate(sorted(set(found.values()))):
        layers[[index for index, one in found.items() if one == layer]] = rank
    return layers
