"""Programs of optical modes to and from PennyLane.

Gates have the same names and meanings there. The documented formula of PennyLane's ``TwoModeSqueezing`` has another
sign than its Heisenberg representation and ``default.gaussian``; these are followed. ``InterferometerUnitary`` is read
as documented; ``default.gaussian`` of PennyLane 0.45 applies its matrix in another order of quadratures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from circuits.cv.expansions import controlled_phase, controlled_shift
from circuits.cv.gates import CV_GATES, CVGate
from circuits.cv.meshes import interferometer
from circuits.cv.program import Program
from circuits.gates import integer
from circuits.tracing import Found, traced

__all__ = ["from_pennylane", "to_pennylane"]

_IGNORED = ("Identity", "Barrier", "WireCut", "Snapshot")
_EXPANDED = {"ControlledAddition": controlled_shift, "ControlledPhase": controlled_phase}
_PREPARED = {
    "FockState": (),
    "CoherentState": ("Displacement",),
    "SqueezedState": ("Squeezing",),
    "DisplacedSqueezedState": ("Squeezing", "Displacement"),
}


def to_pennylane(program: Program) -> Callable[[Any], None]:
    """The program as a PennyLane quantum function of the parameter vector, to be called inside a QNode.

    The function takes ``parameters`` of shape ``(n_parameters,)``. Modes that start with photons are prepared by
    ``FockState``.

    Raises:
        ValueError: the program has loss, which PennyLane's gates lack.

    >>> import pennylane as qml
    >>> import torch
    >>> shift = to_pennylane(Program(1, [CVGate("Displacement", 0, (0, 0.0))]))
    >>> @qml.qnode(qml.device("default.gaussian", wires=1))
    ... def node(parameters):
    ...     shift(parameters)
    ...     return qml.expval(qml.QuadX(0))
    >>> round(float(node(torch.tensor([0.5]))), 6)
    1.0
    """
    for number, gate in enumerate(program.gates):
        if not gate.definition.unitary:
            raise ValueError(f"gate {number}, {gate}: PennyLane has no such channel")

    def function(parameters: Any) -> None:
        import pennylane as qml

        for mode, photons in enumerate(program.photons):
            if photons:
                qml.FockState(photons, wires=mode)
        for gate in program.gates:
            values = [
                slot.offset if slot.index is None else parameters[slot.index] * slot.scale + slot.offset
                for slot in gate.parameters
            ]
            getattr(qml, gate.name)(*values, wires=gate.modes)

    return function


def from_pennylane(function: Callable[..., Any], n_modes: int, n_parameters: int) -> Program:
    """A program from a PennyLane quantum function or QNode.

    The function is called with a few different parameter vectors, torch tensors of shape ``(n_parameters,)``; from the
    values that reach the gates the affine dependence of each of them on one entry is recovered. Interferometers and
    neural-network layers are decomposed, and so are ``ControlledAddition`` and ``ControlledPhase`` of a fixed strength.

    Args:
        function: takes the parameter vector, prepares modes in coherent, squeezed, displaced squeezed or
            photon-number states and applies gates on wires ``0`` to ``n_modes - 1``; what it measures at the end is
            dropped.
        n_modes: number of modes.
        n_parameters: length of the parameter vector.

    Raises:
        ValueError: another operation, a preparation after a gate on the same mode, other wires, gates that change with
            the parameters, or one that is not affine in one entry.

    >>> import pennylane as qml
    >>> def squeezer(parameters):
    ...     qml.Squeezing(parameters[1] / 2, 0.1, wires=0)
    >>> print(from_pennylane(squeezer, 1, 2).gates[0])
    Squeezing(0.5*a1, 0.1) [0]
    """
    n_modes, n_parameters = integer(n_modes, "n_modes", 1), integer(n_parameters, "n_parameters", 0)
    gates = []
    photons = [0] * n_modes
    for name, modes, slots in traced(lambda vector: _record(function, vector, n_modes), n_parameters, "parameter"):
        fixed = all(slot.is_fixed for slot in slots)
        if name in (*_EXPANDED, "FockState") and not fixed:
            raise ValueError(
                f"{name} on wires {list(modes)} depends on a parameter; only a fixed value can be imported"
            )
        if name in _EXPANDED:
            gates += _EXPANDED[name](slots[0].offset, modes)
        elif name == "FockState":
            if not slots[0].offset.is_integer():
                raise ValueError(f"FockState on wires {list(modes)} is {slots[0].offset}; a whole number is needed")
            photons[modes[0]] = int(slots[0].offset)
        else:
            gates.append(CVGate(name, modes, slots))
    return Program(n_modes, gates, n_parameters, photons)


def _record(function: Callable[..., Any], parameters: Tensor, n_modes: int) -> Iterator[Found]:
    import pennylane as qml

    inner = function.func if isinstance(function, qml.QNode) else function
    used: set[int] = set()
    for operation in qml.tape.make_qscript(inner)(parameters).operations:
        if operation.name in _IGNORED:
            continue
        wires = operation.wires.tolist()
        if not all(isinstance(wire, int) and 0 <= wire < n_modes for wire in wires):
            allowed = f"they must be integers from 0 to {n_modes - 1}"
            raise ValueError(f"quantum function: {operation.name} is on wires {wires}; {allowed}")
        if operation.name in _PREPARED and used & set(wires):
            raise ValueError(
                f"quantum function: {operation.name} prepares wire {wires[0]} a second time or after a gate"
            )
        used |= set(wires)
        yield from _decomposed(operation)


def _decomposed(operation: Any) -> Iterator[Found]:
    name = operation.name
    modes = tuple(operation.wires.tolist())
    if name == "InterferometerUnitary":
        for gate in interferometer(operation.parameters[0], modes):
            yield gate.name, gate.modes, tuple(slot.offset for slot in gate.parameters)
    elif name in CV_GATES or name in _EXPANDED or name == "FockState":
        yield name, modes, _numbers(operation)
    elif name in _PREPARED:
        values = _numbers(operation)
        if name == "DisplacedSqueezedState":
            values = values[2:] + values[:2]
        for number, part in enumerate(_PREPARED[name]):
            yield part, modes, values[2 * number : 2 * number + 2]
    elif operation.has_decomposition and not name.endswith("State"):
        for part in operation.decomposition():
            yield from _decomposed(part)
    else:
        raise ValueError(f"quantum function: {name} cannot be imported; a program of optical modes cannot express it")


def _numbers(operation: Any) -> tuple[float, ...]:
    import pennylane as qml

    if any(qml.math.ndim(value) for value in operation.parameters):
        raise ValueError(f"quantum function: {operation.name} has a batch of parameters; one number is needed")
    return tuple(float(value) for value in operation.parameters)
