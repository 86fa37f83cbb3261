"""Circuits made ready for a Qiskit device: measured, placed on its qubits, written in its gates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from circuits.circuit import Circuit
from circuits.interop import to_qiskit

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import StagedPassManager

__all__ = ["REGISTER", "Placement", "Ready"]

REGISTER = "bits"
"""The classical register that holds the measured bits."""

_KEPT, _KEPT_PLACES = 256, 4096


@dataclass(frozen=True)
class Ready:
    """A circuit ready for the device.

    Args:
        circuit: with the device's gates, and measurements into one register.
        columns: for each of its parameters, the place in the angle vector.
        qubits: for each wire, the qubit on which it is measured.
        digest: hash of the circuit as it was given.
        controlled: there are controlled gates with parameters, which Aer (0.18 at least) does not bind: it takes 0 for
            their angles, and does not say so.
    """

    circuit: QuantumCircuit
    columns: list[int]
    qubits: tuple[int, ...]
    digest: str
    controlled: bool


class Placement:
    """Makes circuits ready for a device, each once.

    Args:
        device: a ``BackendV2``, or None for a sampler that takes any gate.
        name: of the device, for messages.
        optimization_level: of Qiskit's transpiler, 0 to 3.
        seed: of its choices.
    """

    def __init__(self, device: Any, name: str, optimization_level: int, seed: int) -> None:
        self.device = device
        self.name = name
        self.optimization_level = optimization_level
        self.seed = seed
        self._ready: dict[Circuit, Ready] = {}
        self._wanted: dict[Circuit, tuple[int, ...]] = {}
        self._passes: StagedPassManager | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_passes": None}  # they cannot be pickled

    def ready(self, circuit: Circuit) -> Ready:
        """The circuit, ready for the device.

        Raises:
            ValueError: the device is too small, or cannot host the circuit.
        """
        known = self._ready.get(circuit)
        if known is not None:
            return known
        size = getattr(self.device, "num_qubits", None)
        if size is not None and circuit.n_wires > size:
            raise ValueError(f"circuit has {circuit.n_wires} wires; {self.name} has {size} qubits")
        placed = self._transpiled(_measured(circuit), self._wanted.get(circuit))
        result = Ready(
            placed,
            [parameter.index for parameter in placed.parameters],
            _measured_qubits(placed, circuit.n_wires),
            hashlib.sha256(circuit.to_json().encode()).hexdigest(),
            _has_free_controlled_gates(placed),
        )
        if len(self._ready) >= _KEPT:
            del self._ready[next(iter(self._ready))]
        self._ready[circuit] = result
        return result

    def place(self, circuit: Circuit, qubits: Sequence[int]) -> None:
        """Put the circuit on these qubits, one for each wire, from now on.

        Raises:
            ValueError: not one qubit of the device for each wire.
        """
        size = getattr(self.device, "num_qubits", None) or circuit.n_wires
        if len(qubits) != circuit.n_wires or len(set(qubits)) != len(qubits) or not set(qubits) <= set(range(size)):
            raise ValueError(
                f"qubits are {list(qubits)}; {circuit.n_wires} different ones of 0 to {size - 1} are needed"
            )
        if len(self._wanted) >= _KEPT_PLACES:
            del self._wanted[next(iter(self._wanted))]
        self._wanted[circuit] = tuple(qubits)
        self._ready.pop(circuit, None)

    def _transpiled(self, circuit: QuantumCircuit, qubits: tuple[int, ...] | None) -> QuantumCircuit:
        if self.device is None:
            return circuit
        from qiskit.exceptions import QiskitError

        if self._passes is None:
            self._passes = self._manager(None)
        manager = self._passes if qubits is None else self._manager(qubits)
        try:
            return manager.run(circuit)
        except QiskitError as error:
            reason = " ".join(str(error).split()).strip("'\"")
            raise ValueError(f"{self.name} cannot host the circuit: {reason}") from error

    def _manager(self, qubits: tuple[int, ...] | None) -> StagedPassManager:
        from qiskit.transpiler import generate_preset_pass_manager

        return generate_preset_pass_manager(
            self.optimization_level,
            backend=self.device,
            seed_transpiler=self.seed,
            initial_layout=None if qubits is None else list(qubits),
        )


def _measured(circuit: Circuit) -> QuantumCircuit:
    """The circuit with its measurements: wire 0 goes to the last, most significant, classical bit."""
    from qiskit import ClassicalRegister

    result = to_qiskit(circuit, barriers=True)  # gates that were folded on purpose stay
    result.add_register(ClassicalRegister(circuit.n_wires, REGISTER))
    result.measure(range(circuit.n_wires), range(circuit.n_wires - 1, -1, -1))
    return result


def _measured_qubits(circuit: QuantumCircuit, n_wires: int) -> tuple[int, ...]:
    measured = {
        circuit.find_bit(step.clbits[0]).index: circuit.find_bit(step.qubits[0]).index
        for step in circuit.data
        if step.operation.name == "measure"
    }
    return tuple(measured[n_wires - 1 - wire] for wire in range(n_wires))


def _has_free_controlled_gates(circuit: QuantumCircuit) -> bool:
    from qiskit.circuit import ControlledGate

    return any(
        isinstance(step.operation, ControlledGate) and any(getattr(p, "parameters", ()) for p in step.operation.params)
        for step in circuit.data
    )
