"""Circuit builders, under the field's names.

All return a :class:`~circuits.circuit.Circuit`. Where weights have a shape, the flat angle vector is the weights in
row-major order: ``angles = weights.flatten()``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from circuits.ansatz_identity import identity_blocks
from circuits.cascade import cascade
from circuits.circuit import Circuit, Gate
from circuits.gate_table import GATES
from circuits.iqp import iqp

__all__ = [
    "ANSATZE",
    "basic_entangler_layers",
    "basic_entangler_layers_shape",
    "brickwork",
    "cascade",
    "data_reuploading",
    "efficient_su2",
    "hardware_efficient",
    "identity_blocks",
    "iqp",
    "mera_up",
    "real_amplitudes",
    "strongly_entangling_layers",
    "strongly_entangling_layers_shape",
]

ENTANGLERS = ("CNOT", "CZ")
TOPOLOGIES = ("linear", "ring", "all-to-all")


def _check_sizes(n_wires: int, n_layers: int, minimum_layers: int = 1) -> None:
    for name, value, minimum in (("n_wires", n_wires, 1), ("n_layers", n_layers, minimum_layers)):
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"{name} is {value!r}; an integer of at least {minimum} is needed")


def _choice(what: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}; allowed: {', '.join(allowed)}")
    return value


def _check_rotations(rotations: Sequence[str]) -> tuple[str, ...]:
    if isinstance(rotations, str):
        rotations = (rotations,)
    allowed = [name for name, gate in GATES.items() if gate.n_wires == 1 and gate.n_angles == 1]
    if not rotations:
        raise ValueError(f"rotations is empty; allowed: {', '.join(allowed)}")
    return tuple(_choice("rotations", name, allowed) for name in rotations)


def _pairs(n_wires: int, topology: str) -> list[tuple[int, int]]:
    if topology == "all-to-all":
        return [(a, b) for a in range(n_wires) for b in range(a + 1, n_wires)]
    pairs = [(wire, wire + 1) for wire in range(n_wires - 1)]
    return [*pairs, (n_wires - 1, 0)] if topology == "ring" and n_wires > 2 else pairs


class _Builder:
    """Gates in the making, with a counter that hands out angle indices."""

    def __init__(self, n_wires: int) -> None:
        self.n_wires = n_wires
        self.gates: list[Gate] = []
        self.n_angles = 0

    def rotate(self, rotations: Sequence[str], wires: Sequence[int] | None = None) -> None:
        """Each rotation with a fresh angle on each wire, wire by wire."""
        for wire in range(self.n_wires) if wires is None else wires:
            for name in rotations:
                n_angles = GATES[name].n_angles
                self.gates.append(Gate(name, wire, range(self.n_angles, self.n_angles + n_angles)))
                self.n_angles += n_angles

    def rotate_by_rotation(self, rotations: Sequence[str]) -> None:
        """Each rotation with a fresh angle on each wire, rotation by rotation (Qiskit's order)."""
        for name in rotations:
            self.rotate([name])

    def entangle(self, entangler: str, pairs: Sequence[tuple[int, int]]) -> None:
        self.gates.extend(Gate(entangler, pair) for pair in pairs)

    def circuit(self) -> Circuit:
        return Circuit(self.n_wires, self.gates, self.n_angles)


def hardware_efficient(
    n_wires: int,
    n_layers: int,
    rotations: Sequence[str] = ("RY", "RZ"),
    entangler: str = "CNOT",
    topology: str = "linear",
    final_rotations: bool = False,
) -> Circuit:
    """Layers of rotations on every wire and an entangler between neighbours (1704.05018).

    Args:
        n_wires: number of qubits.
        n_layers: number of layers.
        rotations: rotations on each wire of a layer, in order; gates with one wire and one angle.
        entangler: ``"CNOT"`` or ``"CZ"``.
        topology: ``"linear"``, ``"ring"`` (linear and last to first) or ``"all-to-all"``.
        final_rotations: a further layer of rotations after the last entangler.

    Returns:
        A circuit whose weights have shape ``(n_layers [+ 1], n_wires, len(rotations))``.

    Raises:
        ValueError: an impossible argument.

    >>> hardware_efficient(4, 2, topology="ring").counts
    {'RY': 8, 'RZ': 8, 'CNOT': 8}
    """
    _check_sizes(n_wires, n_layers)
    rotations = _check_rotations(rotations)
    _choice("entangler", entangler, ENTANGLERS)
    pairs = _pairs(n_wires, _choice("topology", topology, TOPOLOGIES))
    build = _Builder(n_wires)
    for _ in range(n_layers):
        build.rotate(rotations)
        build.entangle(entangler, pairs)
    if final_rotations:
        build.rotate(rotations)
    return build.circuit()


def data_reuploading(
    n_wires: int,
    n_layers: int,
    n_inputs: int,
    rotations: Sequence[str] = ("RY", "RZ"),
    encoding: str = "RX",
    entangler: str = "CNOT",
    topology: str = "ring",
) -> Circuit:
    """Inputs encoded again in every layer, between trainable rotations (1907.02085).

    A layer is, for each input, the encoding rotation by that input on every wire followed by trainable rotations on
    every wire, and then the entangler; trainable rotations close the circuit. The flat angle vector is **the weights
    first, the inputs last**: ``angles = torch.cat([weights.flatten(), inputs], -1)``, so that
    ``n_weights = circuit.n_angles - n_inputs``.

    Args:
        n_wires: number of qubits.
        n_layers: number of layers, each of which encodes all inputs.
        n_inputs: number of inputs, in radians once they arrive here.
        rotations: trainable rotations; gates with one wire and one angle.
        encoding: the rotation that encodes an input.
        entangler: ``"CNOT"`` or ``"CZ"``.
        topology: ``"linear"``, ``"ring"`` or ``"all-to-all"``.

    Returns:
        A circuit whose weights have shape ``(n_layers * n_inputs + 1, n_wires, len(rotations))``.

    Raises:
        ValueError: an impossible argument.

    >>> data_reuploading(3, 2, n_inputs=1).n_angles
    19
    """
    _check_sizes(n_wires, n_layers)
    if isinstance(n_inputs, bool) or not isinstance(n_inputs, int) or n_inputs < 1:
        raise ValueError(f"n_inputs is {n_inputs!r}; an integer of at least 1 is needed")
    rotations = _check_rotations(rotations)
    (encoding,) = _check_rotations([encoding])
    _choice("entangler", entangler, ENTANGLERS)
    pairs = _pairs(n_wires, _choice("topology", topology, TOPOLOGIES))
    n_weights = (n_layers * n_inputs + 1) * n_wires * len(rotations)
    build = _Builder(n_wires)
    for _ in range(n_layers):
        for number in range(n_inputs):
            build.gates.extend(Gate(encoding, wire, [n_weights + number]) for wire in range(n_wires))
            build.rotate(rotations)
        build.entangle(entangler, pairs)
    build.rotate(rotations)
    return Circuit(n_wires, build.gates, n_weights + n_inputs)


def brickwork(n_wires: int, n_layers: int, rotations: Sequence[str] = ("RY", "RZ"), entangler: str = "CNOT") -> Circuit:
    """Alternating bricks on even and odd neighbouring pairs, each rotations on both wires and an entangler.

    A layer is the bricks ``(0, 1), (2, 3), ...`` and then ``(1, 2), (3, 4), ...``.

    Args:
        n_wires: number of qubits, at least 2.
        n_layers: number of layers.
        rotations: rotations on each wire of a brick; gates with one wire and one angle.
        entangler: ``"CNOT"`` or ``"CZ"``.

    Returns:
        A circuit whose weights have shape ``(n_layers, n_wires - 1, 2, len(rotations))``, even bricks first.

    Raises:
        ValueError: an impossible argument.

    >>> brickwork(4, 2).n_two_qubit_gates
    6
    """
    _check_sizes(n_wires, n_layers)
    if n_wires < 2:
        raise ValueError(f"n_wires is {n_wires}; a brick needs 2")
    rotations = _check_rotations(rotations)
    _choice("entangler", entangler, ENTANGLERS)
    build = _Builder(n_wires)
    for _ in range(n_layers):
        for start in (0, 1):
            for first in range(start, n_wires - 1, 2):
                build.rotate(rotations, (first, first + 1))
                build.entangle(entangler, [(first, first + 1)])
    return build.circuit()


def mera_up(n_wires: int, n_layers: int = 1, rotations: Sequence[str] = ("RY",), entangler: str = "CNOT") -> Circuit:
    """The multi-scale entanglement renormalisation ansatz run from coarse to fine (quant-ph/0610099, 1804.03680).

    A block is rotations on two wires and an entangler. A layer has a scale for each distance ``d``, from the largest
    power of two below ``n_wires`` halved down to 1: first blocks on ``(0, d), (2d, 3d), ...``, which double the number
    of wires in play, then blocks between those pairs, ``(d, 2d), (3d, 4d), ...``. On 8 wires::

        wire 0  ●───────●───────────●───────
             1  │       │           ■───●───
             2  │       ■───●───────●───■───
             3  │           │       ■───●───
             4  ■───────●───■───────●───■───
             5          │           ■───●───
             6          ■───────────●───■───
             7                      ■───────
          d  =  4       2           1           ● first wire of a block, the entangler's control; ■ second wire

    Every output wire depends on a number of blocks that grows as the logarithm of the number of wires.

    Args:
        n_wires: number of qubits, at least 1; one has rotations only.
        n_layers: how often the whole tree is run.
        rotations: rotations on each wire of a block; gates with one wire and one angle.
        entangler: ``"CNOT"`` or ``"CZ"``.

    Returns:
        A circuit whose weights have shape ``(n_layers, n_blocks, 2, len(rotations))``, or for one wire
        ``(n_layers, len(rotations))``.

    Raises:
        ValueError: an impossible argument.

    >>> [mera_up(n).n_two_qubit_gates for n in (2, 4, 8, 16, 20)]
    [1, 4, 11, 26, 35]
    """
    _check_sizes(n_wires, n_layers)
    rotations = _check_rotations(rotations)
    _choice("entangler", entangler, ENTANGLERS)
    build = _Builder(n_wires)
    for _ in range(n_layers):
        if n_wires == 1:
            build.rotate(rotations)
        for pair in _coarse_to_fine(n_wires):
            build.rotate(rotations, pair)
            build.entangle(entangler, [pair])
    return build.circuit()


def _coarse_to_fine(n_wires: int) -> list[tuple[int, int]]:
    pairs = []
    distance = 2 ** ((n_wires - 1).bit_length() - 1) if n_wires > 1 else 0
    while distance:
        for start in (0, distance):
            pairs += [(first, first + distance) for first in range(start, n_wires - distance, 2 * distance)]
        distance //= 2
    return pairs


def strongly_entangling_layers_shape(n_layers: int, n_wires: int) -> tuple[int, int, int]:
    """Shape of the weights of :func:`strongly_entangling_layers`, PennyLane's."""
    return n_layers, n_wires, 3


def strongly_entangling_layers(
    n_wires: int, n_layers: int, ranges: Sequence[int] | None = None, entangler: str = "CNOT"
) -> Circuit:
    """PennyLane's ``StronglyEntanglingLayers``: ``Rot`` on every wire, entanglers at a distance (1804.00633).

    Args:
        n_wires: number of qubits.
        n_layers: number of layers.
        ranges: distance between the entangled wires in each layer, 1 to ``n_wires - 1``; by default
            ``l % (n_wires - 1) + 1`` for layer ``l``.
        entangler: ``"CNOT"`` or ``"CZ"``.

    Returns:
        A circuit whose weights have shape ``(n_layers, n_wires, 3)``.

    Raises:
        ValueError: an impossible argument.

    >>> strongly_entangling_layers(3, 2).n_angles
    18
    """
    _check_sizes(n_wires, n_layers)
    _choice("entangler", entangler, ENTANGLERS)
    if ranges is None:
        ranges = [layer % max(n_wires - 1, 1) + 1 for layer in range(n_layers)]
    if len(ranges) != n_layers or (n_wires > 1 and not all(0 < r < n_wires for r in ranges)):
        raise ValueError(f"ranges are {tuple(ranges)}; {n_layers} numbers from 1 to {n_wires - 1} are needed")
    build = _Builder(n_wires)
    for distance in ranges:
        build.rotate(["Rot"])
        if n_wires > 1:
            build.entangle(entangler, [(wire, (wire + distance) % n_wires) for wire in range(n_wires)])
    return build.circuit()


def basic_entangler_layers_shape(n_layers: int, n_wires: int) -> tuple[int, int]:
    """Shape of the weights of :func:`basic_entangler_layers`, PennyLane's."""
    return n_layers, n_wires


def basic_entangler_layers(n_wires: int, n_layers: int, rotation: str = "RX") -> Circuit:
    """PennyLane's ``BasicEntanglerLayers``: one rotation on every wire and a ring of CNOTs.

    Args:
        n_wires: number of qubits.
        n_layers: number of layers.
        rotation: a gate with one wire and one angle.

    Returns:
        A circuit whose weights have shape ``(n_layers, n_wires)``.

    Raises:
        ValueError: an impossible argument.

    >>> basic_entangler_layers(3, 2).counts
    {'RX': 6, 'CNOT': 6}
    """
    return hardware_efficient(n_wires, n_layers, [rotation], topology="ring")


def _qiskit_pairs(n_wires: int, layer: int, entanglement: str) -> list[tuple[int, int]]:
    linear = _pairs(n_wires, "linear")
    around = [(n_wires - 1, 0), *linear] if n_wires > 2 else linear
    if entanglement == "sca":
        shift = layer % n_wires
        shifted = around[len(around) - shift :] + around[: len(around) - shift] if n_wires > 2 else linear
        return [pair[::-1] for pair in shifted] if layer % 2 else shifted
    return {
        "reverse_linear": linear[::-1],
        "linear": linear,
        "full": _pairs(n_wires, "all-to-all"),
        "circular": around,
    }[entanglement]


def _n_local(n_wires: int, reps: int, rotations: Sequence[str], entanglement: str, final_rotations: bool) -> Circuit:
    _check_sizes(n_wires, reps, 0)
    _choice("entanglement", entanglement, ("reverse_linear", "linear", "full", "circular", "sca"))
    build = _Builder(n_wires)
    for layer in range(reps):
        build.rotate_by_rotation(rotations)
        build.entangle("CNOT", _qiskit_pairs(n_wires, layer, entanglement))
    if final_rotations:
        build.rotate_by_rotation(rotations)
    return build.circuit()


def real_amplitudes(
    n_wires: int, n_layers: int = 3, entanglement: str = "reverse_linear", final_rotations: bool = True
) -> Circuit:
    """Qiskit's ``real_amplitudes``: layers of RY and CNOTs, whose amplitudes are real.

    Args:
        n_wires: number of qubits.
        n_layers: Qiskit's ``reps``.
        entanglement: ``"reverse_linear"``, ``"linear"``, ``"full"``, ``"circular"`` or ``"sca"``.
        final_rotations: close with a layer of rotations, as Qiskit does by default.

    Returns:
        A circuit whose weights have shape ``(n_layers [+ 1], n_wires)``, in the order of Qiskit's parameters.

    Raises:
        ValueError: an impossible argument.

    >>> real_amplitudes(3, 2).n_angles
    9
    """
    return _n_local(n_wires, n_layers, ("RY",), entanglement, final_rotations)


def efficient_su2(
    n_wires: int,
    n_layers: int = 3,
    rotations: Sequence[str] = ("RY", "RZ"),
    entanglement: str = "reverse_linear",
    final_rotations: bool = True,
) -> Circuit:
    """Qiskit's ``efficient_su2``: layers of single-wire rotations and CNOTs.

    Args:
        n_wires: number of qubits.
        n_layers: Qiskit's ``reps``.
        rotations: gates with one wire and one angle.
        entanglement: as for :func:`real_amplitudes`.
        final_rotations: close with a layer of rotations, as Qiskit does by default.

    Returns:
        A circuit whose weights have shape ``(n_layers [+ 1], len(rotations), n_wires)``, in the order of Qiskit's
        parameters.

    Raises:
        ValueError: an impossible argument.

    >>> efficient_su2(3, 1).n_angles
    12
    """
    return _n_local(n_wires, n_layers, _check_rotations(rotations), entanglement, final_rotations)


ANSATZE: dict[str, Callable[..., Circuit]] = {
    builder.__name__: builder
    for builder in (
        hardware_efficient,
        brickwork,
        strongly_entangling_layers,
        basic_entangler_layers,
        real_amplitudes,
        efficient_su2,
        data_reuploading,
        cascade,
        mera_up,
        identity_blocks,
    )
}
"""The builders by name; all take ``n_wires`` and ``n_layers``."""
