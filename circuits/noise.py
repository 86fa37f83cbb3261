"""``NoiseModel``: what goes wrong at each gate and each measurement, as plain data.

Noise comes after each gate of the circuit as it is written; ``Rot`` counts as one gate and runs as ``U3``, ``MultiRZ``
on more than two wires runs as CNOTs around an RZ. A model that was read from a device holds the device's gates and
coupling as well, and circuits are transpiled to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from circuits.channels import CHANNELS, Channel, Depolarizing, GateNoise, OverRotation, ReadoutError, noise_transfer
from circuits.circuit import Circuit, Gate
from circuits.gate_table import gate_definition
from circuits.gates import finite_number
from circuits.interop import expand_gates
from circuits.transpile import Device, transpile

if TYPE_CHECKING:
    import qiskit_aer.noise

__all__ = ["NoiseModel", "PreparedCircuit"]


@dataclass(frozen=True)
class PreparedCircuit:
    """A circuit as a noisy device runs it.

    Args:
        circuit: the gates that are run, angles with their over-rotation; wires are those in use.
        noise: their noise, on the same wires.
        measured: for each wire of the original circuit, the wire on which it is measured.
        physical: for each wire, the device's qubit.
    """

    circuit: Circuit
    noise: NoiseModel
    measured: tuple[int, ...]
    physical: tuple[int, ...]


@dataclass(frozen=True)
class NoiseModel:
    """Noise of gates and measurements; frozen, hashable and written to JSON without loss.

    The noise of a gate is looked up by its name and wires, then by its name, then by its number of wires; the first
    that is there counts, alone.

    Args:
        one_qubit: channels after every gate on one wire.
        two_qubit: channels after every gate on two wires.
        by_gate: channels after gates of a name; ``Rot`` and ``MultiRZ`` run under other names (see the module).
        by_place: channels after gates of a name on given wires, in the gate's order.
        over_rotation: coherent error of every angle; of ``U3`` and ``Rot`` only the angle of their RY.
        readout: of each wire; one alone is that of every wire.
        device: gates and coupling that circuits are transpiled to; wires are then the device's qubits.

    >>> noise = NoiseModel.from_config({"depolarizing": {"one_qubit": 0.001, "two_qubit": 0.01}})
    >>> noise.channels("CNOT", (3, 4))
    ((Depolarizing(probability=0.01), None),)
    >>> NoiseModel.from_json(noise.to_json()) == noise
    True
    """

    one_qubit: GateNoise = ()
    two_qubit: GateNoise = ()
    by_gate: tuple[tuple[str, GateNoise], ...] = ()
    by_place: tuple[tuple[str, tuple[int, ...], GateNoise], ...] = ()
    over_rotation: OverRotation = field(default_factory=OverRotation)
    readout: tuple[ReadoutError, ...] = ()
    device: Device | None = None

    def __post_init__(self) -> None:
        for each in ("one_qubit", "two_qubit", "by_gate", "by_place", "readout"):
            object.__setattr__(self, each, tuple(getattr(self, each)))
        for name in (*(row[0] for row in self.by_gate), *(row[0] for row in self.by_place)):
            gate_definition(name)
            if name in ("Rot", "MultiRZ"):
                raise ValueError(
                    f"noise of {name}: it runs as {'U3' if name == 'Rot' else 'RZ, RZZ or CNOTs'}; name that"
                )

        for noise, n_wires in (
            (self.one_qubit, 1),
            (self.two_qubit, 2),
            *((noise, gate_definition(name).n_wires or 1) for name, noise in self.by_gate),
            *((noise, len(wires)) for _, wires, noise in self.by_place),
        ):
            _check_depolarizing(noise, n_wires)

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, each.name) for each in fields(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}  # another process hashes otherwise

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _places(self) -> dict[tuple[str, tuple[int, ...]], GateNoise]:
        return {(name, wires): noise for name, wires, noise in self.by_place}

    @cached_property
    def _names(self) -> dict[str, GateNoise]:
        return dict(self.by_gate)

    def channels(self, name: str, wires: Sequence[int]) -> GateNoise:
        """The channels after a gate, in order of application."""
        place = self._places.get((name, tuple(wires)))
        if place is not None:
            return place
        by_size = self.one_qubit if len(wires) == 1 else self.two_qubit
        return self._names.get(name, by_size)

    def readout_of(self, wires: Sequence[int]) -> tuple[ReadoutError, ...]:
        """The readout errors of some wires.

        Raises:
            ValueError: the model does not know a wire.
        """
        if len(self.readout) < 2:
            return (self.readout or (ReadoutError(0.0, 0.0),)) * len(wires)
        if max(wires) >= len(self.readout):
            raise ValueError(
                f"noise.readout is given for {len(self.readout)} wires; the circuit measures wire {max(wires)}"
            )
        return tuple(self.readout[wire] for wire in wires)

    # models from models

    def scaled(self, factor: float) -> NoiseModel:
        """All probabilities, gate times and over-rotations times ``factor``, for studies of how much noise matters.

        Args:
            factor: 0 is no noise, 1 the model itself.

        Raises:
            ValueError: a negative factor, or a probability that would exceed 1.

        >>> NoiseModel.from_config({"readout": 0.02}).scaled(2).readout
        (ReadoutError(p01=0.04, p10=0.04),)
        """
        factor = finite_number(factor, "noise scale")
        if factor < 0:
            raise ValueError(f"noise scale is {factor!r}; a number of at least 0 is needed")

        def scale(noise: GateNoise) -> GateNoise:
            return tuple((channel.scaled(factor), position) for channel, position in noise)

        try:
            return replace(
                self,
                one_qubit=scale(self.one_qubit),
                two_qubit=scale(self.two_qubit),
                by_gate=tuple((name, scale(noise)) for name, noise in self.by_gate),
                by_place=tuple((name, wires, scale(noise)) for name, wires, noise in self.by_place),
                over_rotation=self.over_rotation.scaled(factor),
                readout=tuple(error.scaled(factor) for error in self.readout),
            )
        except ValueError as error:
            raise ValueError(f"noise scale {factor!r}: {error}") from error

    def restricted(self, wires: Sequence[int]) -> NoiseModel:
        """The model of some wires only, numbered by their place in ``wires``, without the device."""
        place = {wire: number for number, wire in enumerate(wires)}
        return replace(
            self,
            by_place=tuple(
                (name, tuple(place[wire] for wire in on), noise)
                for name, on, noise in self.by_place
                if all(wire in place for wire in on)
            ),
            readout=self.readout if len(self.readout) < 2 else self.readout_of(wires),
            device=None,
        )

    def prepare(self, circuit: Circuit) -> PreparedCircuit:
        """The circuit as it is run: transpiled to the device if there is one, angles over-rotated.

        Running ``prepared.circuit`` with the channels of ``prepared.noise`` and measuring ``prepared.measured`` is what
        the noisy backends do.

        Raises:
            ValueError: the device cannot host the circuit.
        """
        return _prepare(self, circuit)

    # files

    def to_json(self) -> str:
        """The model as JSON text; :meth:`from_json` reads it back exactly."""
        content = {
            "one_qubit": _noise_to_json(self.one_qubit),
            "two_qubit": _noise_to_json(self.two_qubit),
            "by_gate": [[name, _noise_to_json(noise)] for name, noise in self.by_gate],
            "by_place": [[name, list(wires), _noise_to_json(noise)] for name, wires, noise in self.by_place],
            "over_rotation": self.over_rotation.to_dict(),
            "readout": [error.to_dict() for error in self.readout],
            "device": None if self.device is None else self.device.to_dict(),
        }
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> NoiseModel:
        """The model written by :meth:`to_json`.

        Raises:
            ValueError: the text is not such JSON.
        """
        try:
            content = json.loads(text)
            return cls(
                _noise_from_json(content["one_qubit"]),
                _noise_from_json(content["two_qubit"]),
                tuple((name, _noise_from_json(noise)) for name, noise in content["by_gate"]),
                tuple((name, tuple(wires), _noise_from_json(noise)) for name, wires, noise in content["by_place"]),
                OverRotation.from_dict(content["over_rotation"]),
                tuple(ReadoutError.from_dict(error) for error in content["readout"]),
                None if content["device"] is None else Device.from_dict(content["device"]),
            )
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"noise model is not the JSON that to_json writes: {error}") from error

    # elsewhere

    @classmethod
    def from_config(cls, value: Mapping[str, Any] | str | NoiseModel | None) -> NoiseModel:
        """The model that a configuration file describes; see :func:`circuits.noise_config.read_noise`."""
        from circuits.noise_config import read_noise

        return read_noise(value)

    @classmethod
    def from_qiskit(cls, backend: Any) -> NoiseModel:
        """The model of a device's calibration; see :func:`circuits.noise_qiskit.from_qiskit`."""
        from circuits.noise_qiskit import from_qiskit

        return from_qiskit(backend)

    def to_aer(self) -> qiskit_aer.noise.NoiseModel:
        """The model for Qiskit Aer; see :func:`circuits.noise_qiskit.to_aer`."""
        from circuits.noise_qiskit import to_aer

        return to_aer(self)


@lru_cache(maxsize=256)
def _prepare(noise: NoiseModel, circuit: Circuit) -> PreparedCircuit:
    physical = measured = tuple(range(circuit.n_wires))
    if noise.device is not None:
        infidelity = {(name, wires): _infidelity(channels, len(wires)) for name, wires, channels in noise.by_place}
        readout = tuple((error.p01 + error.p10) / 2 for error in noise.readout)
        circuit, physical, measured = transpile(circuit, noise.device, infidelity, readout)
    else:
        noise.readout_of(measured)
    gates = [
        Gate(name, wires, angles) for gate in circuit.gates for name, wires, angles in expand_gates(gate)
    ]  # the same as what to_qiskit hands to Aer
    if noise.over_rotation:
        gates = [_over_rotated(gate, noise.over_rotation) for gate in gates]
    local = replace(noise.restricted(physical), over_rotation=OverRotation())
    return PreparedCircuit(Circuit(circuit.n_wires, gates, circuit.n_angles), local, measured, physical)


def _check_depolarizing(noise: GateNoise, n_wires: int) -> None:
    """What is still a channel on one wire may not be one on two."""
    for channel, position in noise:
        if isinstance(channel, Depolarizing) and position is None:
            most = 4**n_wires / (4**n_wires - 1)
            if channel.probability > most * (1 + 1e-12):
                raise ValueError(
                    f"depolarizing on {n_wires} wires: found {channel.probability!r}; at most {most:.6g} is possible"
                )


def _over_rotated(gate: Gate, error: OverRotation) -> Gate:
    turned = [
        angle.affine(1 + error.relative, error.radians) if number == 0 else angle
        for number, angle in enumerate(gate.angles)
    ]
    return Gate(gate.name, gate.wires, turned)


def _infidelity(noise: GateNoise, n_wires: int) -> float:
    """Average gate infidelity of channels on all wires, for the choice of a device's qubits."""
    size = 2**n_wires
    process = float(noise_transfer(noise, n_wires).trace()) / size**2
    return 1 - (size * process + 1) / (size + 1)


def _noise_to_json(noise: GateNoise) -> list[dict[str, Any]]:
    return [{"kind": channel.kind, "position": position, **channel.to_dict()} for channel, position in noise]


def _noise_from_json(content: Any) -> GateNoise:
    noise: list[tuple[Channel, int | None]] = []
    for entry in content:
        values = {key: value for key, value in entry.items() if key not in ("kind", "position")}
        noise.append((CHANNELS[entry["kind"]].from_dict(values), entry["position"]))
    return tuple(noise)
