"""Circuits rewritten for a device: its gates, its coupling, its best qubits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from circuits.circuit import Circuit, Gate
from circuits.gate_table import gate_definition
from circuits.interop import expand_gates, from_qiskit_named, qiskit_class, to_qiskit

if TYPE_CHECKING:
    from qiskit.transpiler import PassManager

__all__ = ["Device", "transpile"]

Place = tuple[str, tuple[int, ...]]
"""A gate's name and the qubits it acts on."""


@dataclass(frozen=True)
class Device:
    """What a device can do.

    Args:
        name: of the device.
        n_qubits: its qubits.
        operations: its gates by this package's names, each with the qubits it can act on.
    """

    name: str
    n_qubits: int
    operations: tuple[tuple[str, tuple[tuple[int, ...], ...]], ...]

    def __post_init__(self) -> None:
        for name, _ in self.operations:
            gate_definition(name)

    def to_dict(self) -> dict[str, Any]:
        """The device as plain data."""
        operations = {name: [list(place) for place in places] for name, places in self.operations}
        return {"name": self.name, "n_qubits": self.n_qubits, "operations": operations}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Device:
        """What :meth:`to_dict` wrote."""
        operations = tuple(
            (name, tuple(tuple(place) for place in places)) for name, places in content["operations"].items()
        )
        return cls(content["name"], content["n_qubits"], operations)


def transpile(
    circuit: Circuit, device: Device, infidelity: Mapping[Place, float], readout: Sequence[float]
) -> tuple[Circuit, tuple[int, ...], tuple[int, ...]]:
    """The circuit on a device: layout, routing and translation by Qiskit's transpiler at level 1, with a fixed seed.

    Parameters stay parameters: the result's angles are affine in the circuit's, so that it is transpiled once for all
    angles. No gates are merged or cancelled, since circuits may repeat gates for the sake of their noise. Circuits with
    the same pairs of wires start on the same qubits, so that those which stand for each other share their noise.

    Args:
        circuit: the circuit.
        device: where it is to run.
        infidelity: of the device's gates by place, to choose good qubits.
        readout: probability of a wrong bit for each qubit; empty for none.

    Returns:
        The circuit on the qubits in use; for each of its wires, the device's qubit; for each wire of the original, the
        wire of the result on which it is measured.

    Raises:
        ValueError: the device is too small, or its coupling or gates cannot host the circuit.
    """
    from qiskit.transpiler.exceptions import TranspilerError

    if circuit.n_wires > device.n_qubits:
        raise ValueError(f"the circuit has {circuit.n_wires} qubits; {device.name} has {device.n_qubits}")
    known = device, tuple(infidelity.items()), tuple(readout)
    written = to_qiskit(circuit, barriers=True)
    names = [f"angles[{index}]" for index in range(circuit.n_angles)]
    measured = written.copy()
    measured.measure_all(add_bits=True)
    try:
        start = _start(circuit.n_wires, _pairs(circuit), *known)
        result = _pass_manager(*known, start).run(measured)
    except TranspilerError as error:
        reason = str(error).strip("\"' ").splitlines()[0]
        raise ValueError(f"{device.name} cannot host the circuit of {circuit.n_wires} qubits: {reason}") from error
    place = {
        result.find_bit(instruction.clbits[0]).index: result.find_bit(instruction.qubits[0]).index
        for instruction in result.data
        if instruction.operation.name == "measure"
    }
    whole = from_qiskit_named(result, names)
    used = sorted({wire for gate in whole.gates for wire in gate.wires} | set(place.values()))
    number = {qubit: wire for wire, qubit in enumerate(used)}
    gates = [type(gate)(gate.name, [number[wire] for wire in gate.wires], gate.angles) for gate in whole.gates]
    kept = Circuit(len(used), gates, circuit.n_angles)
    return kept, tuple(used), tuple(number[place[wire]] for wire in range(circuit.n_wires))


def _pairs(circuit: Circuit) -> tuple[tuple[int, ...], ...]:
    """The pairs of wires with a gate between them, by their first one."""
    gates = (wires for gate in circuit.gates for _, wires, _ in expand_gates(gate))
    return tuple(dict.fromkeys(wires for wires in gates if len(wires) == 2))


@lru_cache(maxsize=256)
def _start(
    n_wires: int,
    pairs: tuple[tuple[int, ...], ...],
    device: Device,
    infidelity: tuple[tuple[Place, float], ...],
    readout: tuple[float, ...],
) -> tuple[int, ...]:
    """The qubits on which a circuit with these pairs starts, chosen as for one CNOT between each."""
    written = to_qiskit(Circuit(n_wires, [Gate("CNOT", pair) for pair in pairs]))
    written.measure_all()
    placed = _pass_manager(device, infidelity, readout, None).run(written)
    return tuple(placed.layout.initial_index_layout(filter_ancillas=True))


@lru_cache(maxsize=64)
def _pass_manager(
    device: Device,
    infidelity: tuple[tuple[Place, float], ...],
    readout: tuple[float, ...],
    start: tuple[int, ...] | None,
) -> PassManager:
    from qiskit.circuit import Measure, Parameter
    from qiskit.transpiler import InstructionProperties, Target, generate_preset_pass_manager

    errors = dict(infidelity)
    target = Target(num_qubits=device.n_qubits)
    for name, places in device.operations:
        if not places:
            continue  # Qiskit would take it for a gate between any qubits
        gate = qiskit_class(name)(*(Parameter(f"t{slot}") for slot in range(gate_definition(name).n_angles)))
        target.add_instruction(
            gate, {place: InstructionProperties(error=errors.get((name, place), 0.0)) for place in places}
        )
    wrong = readout if len(readout) > 1 else (readout or (0.0,)) * device.n_qubits
    target.add_instruction(
        Measure(), {(qubit,): InstructionProperties(error=wrong[qubit]) for qubit in range(device.n_qubits)}
    )
    layout = None if start is None else list(start)
    manager = generate_preset_pass_manager(
        optimization_level=1, target=target, seed_transpiler=0, initial_layout=layout
    )
    manager.init = manager.optimization = None  # both cancel gates
    return manager
