"""Noise models from a Qiskit backend's calibration, and to Qiskit Aer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from circuits.channels import Channel, Depolarizing, GateNoise, OneQubitChannel, ReadoutError, ThermalRelaxation
from circuits.gate_table import GATES, gate_matrix
from circuits.interop import from_qiskit_class, qiskit_class
from circuits.noise import NoiseModel
from circuits.transpile import Device

if TYPE_CHECKING:
    import qiskit_aer.noise
    from qiskit.transpiler import InstructionProperties, Target

__all__ = ["from_qiskit", "to_aer"]


def from_qiskit(backend: Any) -> NoiseModel:
    """The noise that a device's calibration reports, in the convention of Aer's ``NoiseModel.from_backend``.

    A gate's error is one minus its average fidelity. Relaxation during the gate, from T1, T2 and the gate's time,
    explains a part of it; the rest is depolarizing noise of the gate's wires, before the relaxation. Readout errors are
    those of each qubit.

    Args:
        backend: any Qiskit ``BackendV2``. A simulator without coupling gives a model without noise or device.

    Raises:
        ValueError: not a ``BackendV2``.

    >>> from qiskit_ibm_runtime.fake_provider import FakeManilaV2
    >>> noise = NoiseModel.from_qiskit(FakeManilaV2())
    >>> noise.device.n_qubits, [name for name, _ in noise.device.operations]
    (5, ['CNOT', 'RZ', 'SX', 'X'])
    """
    target = getattr(backend, "target", None)
    if target is None:
        raise ValueError(f"noise is asked of {type(backend).__name__}; a Qiskit BackendV2 is needed")
    found: dict[tuple[str, tuple[int, ...]], GateNoise] = {}
    for label in target.operation_names:
        operation = target.operation_from_name(label)
        name = None if isinstance(operation, type) else from_qiskit_class(operation.base_class)
        places = target[label]
        if name is None or places is None or None in places:
            continue
        for qubits, properties in places.items():
            found.setdefault((name, qubits), _calibrated(qubits, properties, target))
    if not found:
        return NoiseModel()
    operations: dict[str, list[tuple[int, ...]]] = {}
    for name, qubits in sorted(found):
        operations.setdefault(name, []).append(qubits)
    device = Device(str(backend.name), target.num_qubits, tuple((name, tuple(on)) for name, on in operations.items()))
    by_place = tuple((name, qubits, noise) for (name, qubits), noise in sorted(found.items()) if noise)
    return NoiseModel(by_place=by_place, readout=_readout(target), device=device)


def _calibrated(qubits: tuple[int, ...], properties: InstructionProperties | None, target: Target) -> GateNoise:
    if properties is None:
        return ()
    relaxation: list[tuple[Channel, int | None]] = []
    if properties.duration and target.qubit_properties:
        for position, qubit in enumerate(qubits):
            relaxation += _relaxation(target.qubit_properties[qubit], properties.duration, position)
    size = 2 ** len(qubits)
    process = math.prod(_process_fidelity(channel) for channel, _ in relaxation if isinstance(channel, OneQubitChannel))
    fidelity = (size * process + 1) / (size + 1)
    wrong = min(properties.error or 0.0, size / (size + 1))
    if wrong <= 1 - fidelity:
        return tuple(relaxation)
    strength = size * (fidelity - 1 + wrong) / (size * fidelity - 1)
    return ((Depolarizing(min(strength, size**2 / (size**2 - 1))), None), *relaxation)


def _relaxation(qubit: Any, time: float, position: int) -> list[tuple[Channel, int | None]]:
    t1 = math.inf if qubit.t1 is None else qubit.t1
    t2 = math.inf if qubit.t2 is None else qubit.t2
    if t1 == t2 == math.inf:
        return []
    return [(ThermalRelaxation(t1, min(t2, 2 * t1), time), position)]


def _process_fidelity(channel: OneQubitChannel) -> float:
    return float(channel.transfer(1).trace()) / 4


def _readout(target: Target) -> tuple[ReadoutError, ...]:
    measure = target["measure"] if "measure" in target.operation_names else None
    if measure is None:
        return ()
    errors = []
    for qubit in range(target.num_qubits):
        properties = measure.get((qubit,))
        wrong = getattr(properties, "error", None) or 0.0
        p01 = getattr(properties, "prob_meas1_prep0", None)
        p10 = getattr(properties, "prob_meas0_prep1", None)
        errors.append(ReadoutError(wrong if p01 is None else p01, wrong if p10 is None else p10))
    return tuple(errors)


def to_aer(noise: NoiseModel) -> qiskit_aer.noise.NoiseModel:
    """The noise model for Qiskit Aer.

    Aer gives the probabilities of the exact noisy backend when it runs ``prepared.circuit.to_qiskit()`` with
    ``prepared.noise.to_aer()``, where ``prepared = noise.prepare(circuit)``. For a model without device, running
    ``circuit.to_qiskit()`` with ``noise.to_aer()`` is the same. Over-rotation by a fixed angle becomes a coherent error
    of the gates with one angle; ``U3`` has it only in the prepared circuit.

    Args:
        noise: the model.

    Raises:
        ValueError: over-rotation that depends on the angle.
        ImportError: qiskit-aer is missing.
    """
    try:
        from qiskit_aer import noise as aer
    except ImportError as error:
        raise ImportError("noise for Aer needs qiskit-aer; install it with: pip install 'qgen-hep[qiskit]'") from error
    if noise.over_rotation.relative:
        raise ValueError(
            "noise.over_rotation.relative depends on the angle, noise models of Aer cannot; use noise.prepare(circuit)"
        )
    result = aer.NoiseModel(basis_gates=[_label(name) for name in GATES if name not in ("Rot", "MultiRZ")])
    for name, definition in GATES.items():
        if name in ("Rot", "MultiRZ"):
            continue
        n_wires = definition.n_wires or 1
        general = _aer_error(noise, name, noise.channels(name, [-1] * n_wires), n_wires)
        if general is not None:
            result.add_all_qubit_quantum_error(general, _label(name))
    for name, wires, channels in noise.by_place:
        local = _aer_error(noise, name, channels, len(wires))
        if local is not None:
            result.add_quantum_error(local, _label(name), list(wires))
    if len(noise.readout) == 1 and noise.readout[0]:
        result.add_all_qubit_readout_error(_aer_readout(noise.readout[0]))
    elif len(noise.readout) > 1:
        for wire, readout in enumerate(noise.readout):
            if readout:
                result.add_readout_error(_aer_readout(readout), [wire])
    return result


def _label(name: str) -> str:
    slots = [0.0] * GATES[name].n_angles
    return str(qiskit_class(name)(*slots).name)


def _aer_readout(error: ReadoutError) -> list[list[float]]:
    return [[1 - error.p01, error.p01], [error.p10, 1 - error.p10]]


def _aer_error(noise: NoiseModel, name: str, channels: GateNoise, n_wires: int) -> Any:
    """Aer's error for channels on a gate, or None if there is none."""
    import torch
    from qiskit_aer import noise as aer

    total = None
    turn = noise.over_rotation.radians
    if turn and GATES[name].n_angles == 1:
        matrix = gate_matrix(name, torch.tensor([turn], dtype=torch.float64)).numpy()
        if n_wires == 2:  # Qiskit's first qubit is the least significant bit
            matrix = matrix.reshape(2, 2, 2, 2).transpose(1, 0, 3, 2).reshape(4, 4)
        total = aer.coherent_unitary_error(matrix)
    for channel, position in channels:
        if isinstance(channel, Depolarizing) and position is None:
            step = aer.depolarizing_error(channel.probability, n_wires)
            total = step if total is None else total.compose(step)
            continue
        one = _aer_channel(channel)
        for wire in range(n_wires) if position is None else (position,):
            total = (_aer_identity(n_wires) if total is None else total).compose(one, qargs=[wire])
    return total


def _aer_identity(n_wires: int) -> Any:
    from qiskit.circuit.library import IGate
    from qiskit_aer import noise as aer

    return aer.QuantumError([([(IGate(), [wire]) for wire in range(n_wires)], 1.0)])


def _aer_channel(channel: Channel) -> Any:
    from qiskit_aer import noise as aer

    if isinstance(channel, OneQubitChannel):
        decay = aer.amplitude_damping_error(channel.decay)
        return decay.compose(aer.pauli_error([("I", 1 - channel.phase_flip), ("Z", channel.phase_flip)]))
    if isinstance(channel, Depolarizing):
        return aer.depolarizing_error(channel.probability, 1)
    raise TypeError(f"{channel!r} has no counterpart in Aer")
