"""The cascade: every wire is turned under the control of those before it."""

from __future__ import annotations

from itertools import combinations

from circuits.circuit import Circuit
from circuits.gates import Gate, integer

__all__ = ["cascade"]


def cascade(n_wires: int, n_layers: int, degree: int = 2, n_inputs: int = 0) -> Circuit:
    r"""Wires one after the other, each turned about Y by an angle that depends on the bits of the wires before it.

    On wire :math:`k` a layer is the product of the commuting rotations :math:`\exp(-\tfrac i2 \theta_S Y_k Z_S)` over
    sets :math:`S` of earlier wires: RY by :math:`\sum_S \theta_S (-1)^{\sum_{j \in S} b_j}`, a polynomial of the bits
    before. With all sets this is the uniformly controlled rotation, which prepares any real state (quant-ph/0407010);
    here sets have at most ``degree`` wires in the first layer and at most one in the others. RX on every wire stands
    between two layers and lets them interfere; a single layer is a classical chain of conditional probabilities.

    Wires that hold what matters most should come first. Started from the uniform superposition with small angles it
    trains well. An input turns every wire about Y in every layer, and as in :func:`~circuits.ansatz.data_reuploading`
    the angle vector is **the weights first, the inputs last**.

    Args:
        n_wires: number of qubits.
        n_layers: number of layers.
        degree: largest number of wires that together control another one, in the first layer.
        n_inputs: number of inputs, in radians.

    Returns:
        A circuit whose weights are in the order of its gates.

    Raises:
        ValueError: an impossible argument.

    >>> cascade(4, 2).counts
    {'SX': 8, 'RZ': 8, 'SXdg': 8, 'MultiRZ': 16, 'RX': 4}
    >>> cascade(12, 2).n_angles
    388
    """
    integer(n_wires, "n_wires", 1)
    integer(n_layers, "n_layers", 1)
    integer(degree, "degree", 1)
    integer(n_inputs, "n_inputs", 0)
    gates: list[Gate] = []
    encoding: list[tuple[int, int, int]] = []
    n_weights = 0
    for layer in range(n_layers):
        if layer:
            gates.extend(Gate("RX", wire, [n_weights + wire]) for wire in range(n_wires))
            n_weights += n_wires
        for wire in range(n_wires):
            gates.append(Gate("SX", wire))  # between this and its inverse Z is Y
            encoding.extend((len(gates), wire, number) for number in range(n_inputs))
            for size in range(min(degree if layer == 0 else 1, wire) + 1):
                for controls in combinations(range(wire), size):
                    gates.append(Gate("MultiRZ" if controls else "RZ", (*controls, wire), [n_weights]))
                    n_weights += 1
            gates.append(Gate("SXdg", wire))
    for place, wire, number in reversed(encoding):
        gates.insert(place, Gate("RZ", wire, [n_weights + number]))
    return Circuit(n_wires, gates, n_weights + n_inputs)
