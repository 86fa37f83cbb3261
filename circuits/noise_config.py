"""Noise models from configuration files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from circuits.channels import (
    AmplitudeDamping,
    Channel,
    Depolarizing,
    GateNoise,
    OverRotation,
    PhaseDamping,
    ReadoutError,
    ThermalRelaxation,
    probability,
)
from circuits.gate_table import gate_definition
from circuits.gates import finite_number
from circuits.noise import NoiseModel

__all__ = ["read_noise"]

_SIMPLE: dict[str, Callable[[float], Channel]] = {
    "depolarizing": Depolarizing,
    "amplitude_damping": AmplitudeDamping,
    "phase_damping": PhaseDamping,
}
_KEYS = (*_SIMPLE, "thermal_relaxation", "over_rotation", "readout", "gates", "device", "scale")
_GATE_KEYS = (*_SIMPLE, "thermal_relaxation")


def read_noise(value: Mapping[str, Any] | str | NoiseModel | None) -> NoiseModel:
    """The noise model that a configuration file describes.

    Args:
        value: None for no noise; a name that :func:`circuits.backends.devices.find_device` knows, for the noise of that
            device's calibration; or a mapping with any of

            * ``depolarizing``, ``amplitude_damping``, ``phase_damping``: a probability after every gate, or
              ``{one_qubit: ..., two_qubit: ...}``; depolarizing noise is of all wires of a gate together (see
              :class:`~circuits.channels.Depolarizing` for its convention), damping of each.
            * ``thermal_relaxation``: ``{t1, t2, one_qubit_time, two_qubit_time}`` in seconds.
            * ``over_rotation``: radians added to every angle, or ``{radians: ..., relative: ...}``.
            * ``readout``: ``{p01, p10}``, the probabilities to read 1 for 0 and 0 for 1; one probability for both; or a
              list of these, one for each wire.
            * ``gates``: for a gate (``CNOT``) or a gate on given wires (``CNOT 0 1``) its own noise, in place of the
              above: the same keys with one number each, and ``thermal_relaxation: {t1, t2, time}``.
            * ``device``: a device's name; readout and over-rotation may be added or replaced, its gates' noise too.
            * ``scale``: a factor for all of it, see :meth:`~circuits.noise.NoiseModel.scaled`.

    Raises:
        ValueError: an unknown key, or a value that is not allowed; the line names the field.

    >>> noise = read_noise({"depolarizing": {"two_qubit": 0.01}, "gates": {"CNOT 0 1": {"depolarizing": 0.05}}})
    >>> noise.channels("CNOT", (0, 1)), noise.channels("RX", (0,))
    (((Depolarizing(probability=0.05), None),), ())
    """
    if value is None:
        return NoiseModel()
    if isinstance(value, NoiseModel):
        return value
    if isinstance(value, str):
        return _device_noise(value)
    _check_keys(value, "noise", _KEYS)
    scale = _number(value.get("scale", 1.0), "noise.scale")
    base = NoiseModel() if value.get("device") is None else _device_noise(value["device"])
    general = [key for key in _GATE_KEYS if key in value]
    if base.device is not None and general:
        raise ValueError(
            f"noise.{general[0]}: {base.device.name} has its own; write it under noise.gates, gate by gate"
        )
    by_gate, by_place = _gates(value.get("gates", {}))
    merged = {row[:2]: row for row in base.by_place} | {row[:2]: row for row in by_place}
    noise = NoiseModel(
        one_qubit=_sized(value, "one_qubit"),
        two_qubit=_sized(value, "two_qubit"),
        by_gate=tuple(by_gate),
        by_place=tuple(merged[key] for key in sorted(merged)),
        over_rotation=_over_rotation(value.get("over_rotation", 0.0)),
        readout=_readout(value["readout"]) if "readout" in value else base.readout,
        device=base.device,
    )
    return noise if scale == 1 else noise.scaled(scale)


def _device_noise(name: str) -> NoiseModel:
    if isinstance(name, str) and name.lower().startswith("fake"):
        return _snapshot_noise(name)
    return _calibration(name)


@cache
def _snapshot_noise(name: str) -> NoiseModel:
    """That of a device which works offline: its calibration stays as it is, and takes half a second to read."""
    return _calibration(name)


def _calibration(name: str) -> NoiseModel:
    from circuits.backends.devices import find_device

    noise = NoiseModel.from_qiskit(find_device(name))
    if noise.device is None:
        raise ValueError(f"noise: {name} has no calibration to read noise from; name a device such as 'fake_manila'")
    return noise


def _check_keys(value: object, where: str, allowed: Sequence[str], needed: Sequence[str] = ()) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: found {value!r}; a mapping with keys of {', '.join(allowed)} is needed")
    for key in value:
        if key not in allowed:
            raise ValueError(f"{where}.{key}: there is no such field; the fields are {', '.join(allowed)}")
    for key in needed:
        if key not in value:
            raise ValueError(f"{where} lacks {key}; the fields are {', '.join(allowed)}")


def _plain(value: object) -> object:
    """The value; a number such as ``1e-6``, which YAML reads as text, as a number."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _number(value: object, where: str) -> float:
    return finite_number(_plain(value), where)


def _probability(value: object, where: str) -> float:
    return probability(_plain(value), where)


def _sized(value: Mapping[str, Any], size: str) -> GateNoise:
    """The channels of every gate on one or two wires."""
    channels: list[tuple[Channel, int | None]] = []
    for key, make in _SIMPLE.items():
        strength = value.get(key, 0.0)
        where = f"noise.{key}"
        if isinstance(strength, Mapping):
            _check_keys(strength, where, ("one_qubit", "two_qubit"))
            where, strength = f"{where}.{size}", strength.get(size, 0.0)
        number = _probability(strength, where)
        if number:
            channels.append((make(number), None))
    if value.get("thermal_relaxation") is not None:
        channels.append((_relaxation(value["thermal_relaxation"], "noise.thermal_relaxation", size), None))
    return tuple(channels)


def _relaxation(value: Any, where: str, size: str | None) -> ThermalRelaxation:
    keys = ("t1", "t2", *(("time",) if size is None else ("one_qubit_time", "two_qubit_time")))
    _check_keys(value, where, keys, keys)
    numbers = {key: _number(value[key], f"{where}.{key}") for key in keys}
    for key, number in numbers.items():
        if number < 0 or (number == 0 and key in ("t1", "t2")):
            raise ValueError(f"{where}.{key}: found {number!r}; a time in seconds above 0 is needed")
    try:
        return ThermalRelaxation(numbers["t1"], numbers["t2"], numbers["time" if size is None else f"{size}_time"])
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from error


def _over_rotation(value: Any) -> OverRotation:
    if isinstance(value, Mapping):
        _check_keys(value, "noise.over_rotation", ("radians", "relative"))
        return OverRotation(**{key: _number(each, f"noise.over_rotation.{key}") for key, each in value.items()})
    return OverRotation(radians=_number(value, "noise.over_rotation"))


def _readout(value: Any) -> tuple[ReadoutError, ...]:
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise ValueError("noise.readout: found an empty list; one entry for each wire is needed")
        return tuple(_readout_error(each, f"noise.readout[{wire}]") for wire, each in enumerate(value))
    return (_readout_error(value, "noise.readout"),)


def _readout_error(value: Any, where: str) -> ReadoutError:
    if isinstance(value, Mapping):
        _check_keys(value, where, ("p01", "p10"))
        return ReadoutError(*(_probability(value.get(key, 0.0), f"{where}.{key}") for key in ("p01", "p10")))
    both = _probability(value, where)
    return ReadoutError(both, both)


def _gates(
    value: Any,
) -> tuple[list[tuple[str, GateNoise]], list[tuple[str, tuple[int, ...], GateNoise]]]:
    if not isinstance(value, Mapping):
        raise ValueError(f"noise.gates: found {value!r}; a mapping from gates to their noise is needed")
    by_gate: list[tuple[str, GateNoise]] = []
    by_place: list[tuple[str, tuple[int, ...], GateNoise]] = []
    for key, content in value.items():
        where = f"noise.gates[{key!r}]"
        name, *places = str(key).split()
        try:
            definition = gate_definition(name)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if not all(place.isascii() and place.isdigit() for place in places):
            raise ValueError(f"{where}: found wires {' '.join(places)!r}; numbers such as '{name} 0' are needed")
        wires = tuple(int(place) for place in places)
        if wires and (len(wires) != definition.n_wires or len(set(wires)) != len(wires)):
            raise ValueError(f"{where}: {name} takes {definition.n_wires} different wires")
        noise = _gate_noise({} if content is None else content, where)
        if wires:
            by_place.append((name, wires, noise))
        else:
            by_gate.append((name, noise))
    return by_gate, by_place


def _gate_noise(value: Any, where: str) -> GateNoise:
    _check_keys(value, where, _GATE_KEYS)
    channels: list[tuple[Channel, int | None]] = []
    for key, make in _SIMPLE.items():
        number = _probability(value.get(key, 0.0), f"{where}.{key}")
        if number:
            channels.append((make(number), None))
    if value.get("thermal_relaxation") is not None:
        channels.append((_relaxation(value["thermal_relaxation"], f"{where}.thermal_relaxation", None), None))
    return tuple(channels)
