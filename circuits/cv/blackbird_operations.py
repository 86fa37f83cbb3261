"""The operations of Blackbird, and the gates that they are here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from circuits.cv.expansions import controlled_phase, controlled_shift, mach_zehnder
from circuits.cv.gates import CVGate, Parameter
from circuits.cv.meshes import interferometer

__all__ = ["FROM_GATES", "PREPARATIONS", "gates_of", "photons_of"]

FROM_GATES = {
    "Rotation": "Rgate",
    "Displacement": "Dgate",
    "Squeezing": "Sgate",
    "QuadraticPhase": "Pgate",
    "CubicPhase": "Vgate",
    "Kerr": "Kgate",
    "Beamsplitter": "BSgate",
    "TwoModeSqueezing": "S2gate",
    "CrossKerr": "CKgate",
    "Loss": "LossChannel",
}

_Make = Callable[[tuple[int, ...], list[Any]], list[CVGate]]


def _plain(name: str) -> _Make:
    return lambda modes, values: [CVGate(name, modes, values)]


def _fixed(word: str, value: Parameter) -> float:
    if not value.is_fixed:
        raise ValueError(f"{word} depends on a template parameter; only a fixed value can be imported")
    return value.offset


_ZERO, _QUARTER = {"phi": 0.0}, {"theta": math.pi / 4, "phi": 0.0}
_COHERENT, _SQUEEZED = {"r": 0.0, "phi": 0.0}, {"r": 0.0, "p": 0.0}
_BOTH = {"r_d": 0.0, "phi_d": 0.0, "r_s": 0.0, "phi_s": 0.0}

# of each operation the values it needs, those it has by default, and what it becomes
_OPERATIONS: dict[str, tuple[tuple[str, ...], dict[str, float], _Make]] = {
    "Rgate": (("theta",), {}, _plain("Rotation")),
    "Dgate": (("r",), _ZERO, _plain("Displacement")),
    "Sgate": (("r",), _ZERO, _plain("Squeezing")),
    "Pgate": (("s",), {}, _plain("QuadraticPhase")),
    "Vgate": (("gamma",), {}, _plain("CubicPhase")),
    "Kgate": (("kappa",), {}, _plain("Kerr")),
    "BSgate": ((), _QUARTER, _plain("Beamsplitter")),
    "S2gate": (("r",), _ZERO, _plain("TwoModeSqueezing")),
    "CKgate": (("kappa",), {}, _plain("CrossKerr")),
    "LossChannel": (("T",), {}, _plain("Loss")),
    "Fouriergate": ((), {}, lambda modes, _: [CVGate("Rotation", modes, (math.pi / 2,))]),
    "MZgate": (("phi_in", "phi_ex"), {}, lambda modes, v: mach_zehnder(v[0], v[1], modes)),
    "CXgate": ((), {"s": 1.0}, lambda modes, v: controlled_shift(_fixed("s", v[0]), modes)),
    "CZgate": ((), {"s": 1.0}, lambda modes, v: controlled_phase(_fixed("s", v[0]), modes)),
    "Interferometer": (("U",), {}, lambda modes, v: list(interferometer(v[0], modes))),
    "Vacuum": ((), {}, lambda modes, _: []),
    "Fock": ((), {"n": 0.0}, lambda modes, _: []),
    "Coherent": ((), _COHERENT, _plain("Displacement")),
    "Squeezed": ((), _SQUEEZED, _plain("Squeezing")),
    "DisplacedSqueezed": (
        (),
        _BOTH,
        lambda modes, v: [CVGate("Squeezing", modes, v[2:]), CVGate("Displacement", modes, v[:2])],
    ),
}
PREPARATIONS = ("Vacuum", "Fock", "Coherent", "Squeezed", "DisplacedSqueezed")
_TWO_MODES = ("BSgate", "S2gate", "CKgate", "MZgate", "CXgate", "CZgate")


def gates_of(name: str, modes: tuple[int, ...], values: list[Any], named: dict[str, Any], hbar: float) -> list[CVGate]:
    """What an operation does, as gates.

    Args:
        name: of the operation.
        modes: it acts on.
        values: its values by place: numbers, parameters or, for ``Interferometer``, an array.
        named: those by name.
        hbar: of the quadratures that ``Xgate`` and ``Zgate`` move.

    Raises:
        ValueError: an unknown operation, or modes or values that it does not take.
    """
    if name in ("Xgate", "Zgate"):
        key, turn = ("x", 0.0) if name == "Xgate" else ("p", math.pi / 2)
        (shift,) = _matched(name, (key,), {}, values, named)
        return [CVGate("Displacement", modes, (_scaled(shift, 1 / math.sqrt(2 * hbar)), turn))]
    if name not in _OPERATIONS:
        raise ValueError(f"{name} is unknown or cannot be imported")
    needed, default, make = _OPERATIONS[name]
    found = _matched(name, needed, default, values, named)
    size = len(modes) if name == "Interferometer" else 1 + (name in _TWO_MODES)
    if len(modes) != size:
        raise ValueError(f"{name} is given {len(modes)} modes; it takes {size}")
    return make(modes, found)


def photons_of(values: list[Any], named: dict[str, Any]) -> int:
    """The photon number that ``Fock`` prepares.

    Raises:
        ValueError: it is no whole number, or not fixed.
    """
    (value,) = _matched("Fock", *_OPERATIONS["Fock"][:2], values, named)
    number = _fixed("n", value)
    if not number.is_integer() or number < 0:
        raise ValueError(f"n of Fock is {number}; a whole number of photons is needed")
    return int(number)


def _matched(
    name: str, needed: tuple[str, ...], default: dict[str, float], values: list[Any], named: dict[str, Any]
) -> list[Any]:
    """The values of an operation in order, by place and by name."""
    keys = (*needed, *default)
    if len(values) > len(keys):
        raise ValueError(f"{name} is given {len(values)} values; it takes {len(keys)}: {', '.join(keys) or 'none'}")
    given = dict(zip(keys, values, strict=False))
    for key, value in named.items():
        if key not in keys or key in given:
            raise ValueError(f"{name} is given {key!r}, twice or wrongly; it takes {', '.join(keys) or 'none'}")
        given[key] = value
    lacking = [key for key in needed if key not in given]
    if lacking:
        raise ValueError(f"{name} lacks {', '.join(lacking)}")
    return [_argument(f"{key} of {name}", key, given.get(key, default.get(key))) for key in keys]


def _argument(what: str, key: str, value: Any) -> Any:
    if key == "U":
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{what} is not an array")
        return value
    if isinstance(value, Parameter):
        return value
    if type(value) not in (int, float):
        shown = value if isinstance(value, complex) else f"of type {type(value).__name__}"
        raise ValueError(f"{what} is {shown}; a real number is needed")
    return Parameter(None, offset=float(value))


def _scaled(value: Any, factor: float) -> Parameter:
    return Parameter(None, offset=value.offset * factor) if value.is_fixed else value.affine(factor)
