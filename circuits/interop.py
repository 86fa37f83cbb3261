"""Circuits to and from PennyLane and Qiskit; OpenQASM is in :mod:`circuits.qasm`.

Gates that a :class:`~circuits.circuit.Circuit` lacks are decomposed by the framework they come from; global phases are
dropped. Qiskit numbers basis states with qubit 0 as the least significant bit, this package with wire 0 as the most
significant: qubit ``q`` is wire ``q``, and only the order of probabilities and bits differs
(``probabilities.reshape([2] * n).transpose()``). Measurements at the end are dropped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from circuits.circuit import Angle, Circuit, Gate
from circuits.tracing import TOLERANCE, Found, tidy, traced

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import CircuitInstruction

__all__ = [
    "expand_gates",
    "from_pennylane",
    "from_qiskit",
    "from_qiskit_class",
    "from_qiskit_named",
    "qiskit_class",
    "to_pennylane",
    "to_qiskit",
]

# Qiskit ---------------------------------------------------------------------------------------------------------------

_TO_QISKIT = {
    "H": "HGate",
    "X": "XGate",
    "Y": "YGate",
    "Z": "ZGate",
    "S": "SGate",
    "Sdg": "SdgGate",
    "T": "TGate",
    "Tdg": "TdgGate",
    "SX": "SXGate",
    "SXdg": "SXdgGate",
    "RX": "RXGate",
    "RY": "RYGate",
    "RZ": "RZGate",
    "PhaseShift": "PhaseGate",
    "U3": "UGate",
    "CNOT": "CXGate",
    "CZ": "CZGate",
    "SWAP": "SwapGate",
    "ECR": "ECRGate",
    "CRX": "CRXGate",
    "CRY": "CRYGate",
    "CRZ": "CRZGate",
    "ControlledPhaseShift": "CPhaseGate",
    "RXX": "RXXGate",
    "RYY": "RYYGate",
    "RZZ": "RZZGate",
}
_FROM_QISKIT = {qiskit: name for name, qiskit in _TO_QISKIT.items()} | {
    "U3Gate": "U3",
    "U1Gate": "PhaseShift",
    "CU1Gate": "ControlledPhaseShift",
}
_QISKIT_IGNORED = ("Barrier", "IGate", "GlobalPhaseGate", "Delay")


def to_qiskit(circuit: Circuit, barriers: bool = False) -> QuantumCircuit:
    """The circuit as a Qiskit ``QuantumCircuit`` without measurements.

    Args:
        circuit: the circuit. ``Rot`` becomes ``U`` and ``MultiRZ`` on more than two wires a ladder of CNOTs around RZ.
        barriers: put one between a gate and its inverse right after it. A transpiler then keeps both, as circuits need
            whose gates are folded on purpose (:func:`circuits.mitigation.fold`).

    Returns:
        A circuit whose parameters are the elements of one ``ParameterVector`` named ``angles``, of length
        ``n_angles``.

    >>> to_qiskit(Circuit(2, [Gate("RZZ", [0, 1], [0])])).num_parameters
    1
    """
    from qiskit import QuantumCircuit
    from qiskit.circuit import ParameterVector

    vector = ParameterVector("angles", circuit.n_angles)
    result = QuantumCircuit(circuit.n_wires)

    def value(angle: Angle) -> Any:
        if angle.index is None:
            return angle.offset
        expression = vector[angle.index] if angle.scale == 1 else angle.scale * vector[angle.index]
        return expression if angle.offset == 0 else expression + angle.offset

    for before, gate in zip((None, *circuit.gates), circuit.gates, strict=False):
        if barriers and before is not None and gate == before.inverse():
            result.barrier()
        for name, wires, angles in expand_gates(gate):
            result.append(qiskit_class(name)(*map(value, angles)), wires)
    return result


def qiskit_class(name: str) -> Any:
    """The class of Qiskit's library for a gate other than ``Rot`` and ``MultiRZ``, which Qiskit lacks."""
    from qiskit.circuit import library

    return getattr(library, _TO_QISKIT[name])


def from_qiskit_class(cls: type) -> str | None:
    """The name of the gate that is this class of Qiskit's library, or None."""
    return _FROM_QISKIT.get(cls.__name__)


Plain = tuple[str, tuple[int, ...], tuple[Angle, ...]]


def expand_gates(gate: Gate, lacking: Sequence[str] = ("Rot", "MultiRZ")) -> Iterator[Plain]:
    """The gate in terms of others, up to a global phase, if it is among those that another notation lacks."""
    if gate.name not in lacking:
        yield gate.name, gate.wires, gate.angles
        return
    for part in _expanded(gate):
        yield from expand_gates(part, lacking)


def _expanded(gate: Gate) -> list[Gate]:
    wires, first, last = gate.wires, gate.wires[0], gate.wires[-1]
    if gate.name == "Rot":
        phi, theta, omega = gate.angles
        return [Gate("U3", wires, [theta, omega, phi])]
    if gate.name == "MultiRZ" and len(wires) < 3:
        return [Gate("RZ" if len(wires) == 1 else "RZZ", wires, gate.angles)]
    if gate.name in ("MultiRZ", "RZZ"):
        ladder = [Gate("CNOT", pair) for pair in itertools.pairwise(wires)]
        return [*ladder, Gate("RZ", last, gate.angles), *reversed(ladder)]
    if gate.name in ("SX", "SXdg"):
        return [Gate("RX", wires, [math.pi / 2 if gate.name == "SX" else -math.pi / 2])]
    if gate.name == "ECR":
        return [Gate("S", first), Gate("SX", last), Gate("CNOT", wires), Gate("X", first)]
    if gate.name in ("RXX", "RYY"):
        turn = [Gate("H", wire) for wire in wires]
        if gate.name == "RYY":
            turn = [*(Gate("Sdg", wire) for wire in wires), *turn]
        return [*turn, Gate("RZZ", wires, gate.angles), *(part.inverse() for part in reversed(turn))]
    if gate.name == "SWAP":
        return [Gate("CNOT", wires), Gate("CNOT", wires[::-1]), Gate("CNOT", wires)]
    if gate.name == "CRX":
        return [Gate("H", last), Gate("CRZ", wires, gate.angles), Gate("H", last)]
    if gate.name == "CRY":
        half = gate.angles[0].affine(0.5)
        flip = Gate("CNOT", (first, last))
        return [Gate("RY", last, [half]), flip, Gate("RY", last, [half.affine(-1.0)]), flip]
    raise ValueError(f"{gate.name} has no expansion")


def from_qiskit(circuit: QuantumCircuit) -> Circuit:
    """A circuit from a Qiskit ``QuantumCircuit``.

    Args:
        circuit: gates with fixed angles or angles that are affine in one parameter each. If all parameters are elements
            of one ``ParameterVector``, angle ``i`` is its element ``i``; otherwise angle ``i`` is
            ``circuit.parameters[i]``. Measurements at the end, barriers and delays are dropped.

    Raises:
        ValueError: measurement before the end, reset, classical control, a gate without a definition, or an angle that
            is not affine in one parameter.

    >>> circuit = Circuit(2, [Gate("CRY", [1, 0], [Angle(0, scale=0.5)])])
    >>> from_qiskit(to_qiskit(circuit)) == circuit
    True
    """
    from qiskit.circuit import ParameterVectorElement

    parameters = list(circuit.parameters)
    vectors = {(p.vector.name, len(p.vector)): p.vector for p in parameters if isinstance(p, ParameterVectorElement)}
    if len(vectors) == 1 and all(isinstance(p, ParameterVectorElement) for p in parameters):
        (vector,) = vectors.values()
        parameters = list(vector)
    return from_qiskit_named(circuit, [parameter.name for parameter in parameters])


def from_qiskit_named(circuit: QuantumCircuit, names: Sequence[str]) -> Circuit:
    """As :func:`from_qiskit`, angle ``i`` being the parameter ``names[i]``."""
    if circuit.num_qubits == 0:
        raise ValueError("Qiskit circuit has no qubits; at least 1 is needed")
    places = {name: index for index, name in enumerate(names)}
    gates: list[Gate] = []
    _collect_qiskit(circuit, list(range(circuit.num_qubits)), places, gates, set())
    return Circuit(circuit.num_qubits, gates, len(names))


def _collect_qiskit(
    circuit: QuantumCircuit, wires: Sequence[int], places: dict[str, int], gates: list[Gate], measured: set[int]
) -> None:
    for instruction in circuit.data:
        operation = instruction.operation
        on = [wires[circuit.find_bit(qubit).index] for qubit in instruction.qubits]
        kind = _qiskit_kind(instruction)
        if kind == "Measure":
            measured.update(on)
        elif kind in _QISKIT_IGNORED:
            continue
        elif measured & set(on):
            raise ValueError(f"Qiskit circuit: {operation.name} on qubit {on[0]} follows a measurement; measure last")
        elif kind in _FROM_QISKIT:
            gates.append(Gate(_FROM_QISKIT[kind], on, [_qiskit_angle(p, places) for p in operation.params]))
        elif instruction.clbits or getattr(operation, "blocks", ()) or kind in ("Reset", "Initialize"):
            raise ValueError(
                f"Qiskit circuit: {operation.name} cannot be imported; only gates and final measurements can"
            )
        elif getattr(operation, "definition", None) is None:
            raise ValueError(f"Qiskit circuit: {operation.name} has no definition in terms of known gates")
        else:
            _collect_qiskit(operation.definition, on, places, gates, measured)


def _qiskit_kind(instruction: CircuitInstruction) -> str:
    """The class of a library gate; empty for open controls and for gates of the user's own."""
    operation = instruction.operation
    if getattr(operation, "ctrl_state", None) not in (None, 2 ** getattr(operation, "num_ctrl_qubits", 0) - 1):
        return ""
    cls = getattr(operation, "base_class", type(operation))
    return cls.__name__ if cls.__module__.startswith("qiskit.circuit.") else ""


def _qiskit_angle(value: Any, places: dict[str, int]) -> Angle:
    names = list(getattr(value, "parameters", ()))
    if not names:
        return Angle(None, offset=float(value))
    if len(names) > 1:
        raise ValueError(f"angle {value} depends on {len(names)} parameters; one at most is allowed")
    (parameter,) = names

    def at(x: float) -> float:
        return float(value.bind({parameter: x}))

    try:
        offset, one, two, far = at(0.0), at(1.0), at(2.0), at(-1.7)
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise ValueError(f"angle {value} is not affine in {parameter.name}: {error}") from error
    scale = one - offset
    if max(abs(offset + 2 * scale - two), abs(offset - 1.7 * scale - far)) > TOLERANCE * (1 + abs(scale) + abs(offset)):
        raise ValueError(f"angle {value} is not affine in {parameter.name}; only scale * parameter + offset is allowed")
    return Angle(None, offset=offset) if scale == 0 else Angle(places[parameter.name], tidy(scale), offset)


# PennyLane ------------------------------------------------------------------------------------------------------------

_TO_PENNYLANE = {
    "H": "Hadamard",
    "X": "PauliX",
    "Y": "PauliY",
    "Z": "PauliZ",
    "RXX": "IsingXX",
    "RYY": "IsingYY",
    "RZZ": "IsingZZ",
    "Sdg": "Adjoint(S)",
    "Tdg": "Adjoint(T)",
    "SXdg": "Adjoint(SX)",
}
_SAME_NAME = ("S", "T", "SX", "RX", "RY", "RZ", "PhaseShift", "Rot", "U3")
_SAME_NAME_TWO = ("CNOT", "CZ", "SWAP", "ECR", "CRX", "CRY", "CRZ", "ControlledPhaseShift")
_FROM_PENNYLANE = (
    {pennylane: name for name, pennylane in _TO_PENNYLANE.items()}
    | {name: name for name in (*_SAME_NAME, *_SAME_NAME_TWO, "MultiRZ")}
    | {"U1": "PhaseShift", "CPhase": "ControlledPhaseShift"}
)
_PENNYLANE_IGNORED = ("Identity", "Barrier", "WireCut", "GlobalPhase", "Snapshot")


def to_pennylane(circuit: Circuit) -> Callable[[Any], None]:
    """The circuit as a PennyLane quantum function of the angle vector, to be called inside a QNode.

    The function takes ``angles`` of shape ``(n_angles,)``, or ``(batch, n_angles)`` with PennyLane's broadcasting.

    >>> import pennylane as qml
    >>> import torch
    >>> layer = to_pennylane(Circuit(1, [Gate("RY", [0], [0])]))
    >>> @qml.qnode(qml.device("default.qubit"))
    ... def node(angles):
    ...     layer(angles)
    ...     return qml.expval(qml.Z(0))
    >>> round(float(node(torch.tensor([torch.pi]))), 6)
    -1.0
    """

    def function(angles: Any) -> None:
        import pennylane as qml

        for gate in circuit.gates:
            free = {a.index: angles[..., a.index] for a in gate.angles if a.index is not None}
            some = next(iter(free.values()), None)  # fixed angles beside free ones need their type
            values = [
                free[a.index] * a.scale + a.offset
                if a.index is not None
                else (a.offset if some is None else qml.math.full_like(some, a.offset))
                for a in gate.angles
            ]
            if gate.name in ("Sdg", "Tdg", "SXdg"):
                qml.adjoint(getattr(qml, gate.name.removesuffix("dg")))(wires=gate.wires)
            else:
                getattr(qml, _TO_PENNYLANE.get(gate.name, gate.name))(*values, wires=gate.wires)

    return function


def from_pennylane(function: Callable[..., Any], n_wires: int, n_angles: int) -> Circuit:
    """A circuit from a PennyLane quantum function or QNode.

    The function is called with a few different angle vectors, torch tensors of shape ``(n_angles,)``; from the values
    that reach the gates the affine dependence of each gate's angle on one entry is recovered.

    Args:
        function: takes the angle vector and applies gates on wires ``0`` to ``n_wires - 1``; what it measures at the
            end is dropped.
        n_wires: number of qubits.
        n_angles: length of the angle vector.

    Raises:
        ValueError: measurement before the end, a gate without decomposition, other wires, gates that change with the
            angles, or an angle that is not affine in one entry.

    >>> import pennylane as qml
    >>> def layer(angles):
    ...     qml.CRX(angles[1] / 2, wires=[0, 1])
    >>> print(from_pennylane(layer, 2, 2).gates[0])
    CRX(0.5*a1) [0, 1]
    """
    gates = traced(lambda angles: _record(function, angles, n_wires), n_angles)
    return Circuit(n_wires, [Gate(*gate) for gate in gates], n_angles)


def _record(function: Callable[..., Any], angles: Tensor, n_wires: int) -> Iterator[Found]:
    import pennylane as qml

    inner = function.func if isinstance(function, qml.QNode) else function
    tape = qml.tape.make_qscript(inner)(angles)
    for operation in tape.operations:
        yield from _decompose(operation, n_wires)


def _decompose(operation: Any, n_wires: int) -> Iterator[Found]:
    name = operation.name
    if name in _PENNYLANE_IGNORED:
        return
    if "MidMeasure" in type(operation).__name__ or name.startswith("Conditional"):
        raise ValueError(f"quantum function: {name} cannot be imported; only gates and final measurements can")
    known = _FROM_PENNYLANE.get(name)
    if known is None:
        if not operation.has_decomposition:
            raise ValueError(f"quantum function: {name} has no decomposition in terms of known gates")
        for part in operation.decomposition():
            yield from _decompose(part, n_wires)
        return
    wires = operation.wires.tolist()
    if not all(isinstance(wire, int) and 0 <= wire < n_wires for wire in wires):
        raise ValueError(f"quantum function: {name} is on wires {wires}; they must be integers from 0 to {n_wires - 1}")
    if operation.batch_size is not None:
        raise ValueError(f"quantum function: {name} has a batch of angles; one number is needed")
    yield known, tuple(wires), tuple(float(value) for value in operation.parameters)
