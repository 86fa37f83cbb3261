"""``Angle`` and ``Gate``: what a circuit is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeGuard

from circuits.gate_table import gate_definition

__all__ = ["Angle", "Gate", "as_iterable", "check_keys", "finite_number", "integer"]


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def integer(value: object, what: str, minimum: int) -> int:
    """The value, if it is an integer of at least ``minimum``; otherwise a ``ValueError`` that names it."""
    if not _is_int(value) or value < minimum:
        raise ValueError(f"{what} is {value!r}; an integer of at least {minimum} is needed")
    return int(value)


def finite_number(value: object, what: str) -> float:
    """The value, if it is a finite real number; otherwise a ``ValueError`` that names it."""
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} is {value!r}; a finite number is needed")
    return number


@dataclass(frozen=True)
class Angle:
    """The angle of a gate, ``scale * angles[index] + offset`` in radians.

    Args:
        index: position in the circuit's flat angle vector; None for a fixed angle of ``offset``.
        scale: factor of the vector's entry, not zero; without an index it has no meaning and is kept as 0.
        offset: what is added; the value of a fixed angle.

    Raises:
        ValueError: a negative index, or numbers that are not finite.

    >>> Angle(3, scale=0.5)
    Angle(index=3, scale=0.5, offset=0.0)
    >>> Angle.of(1) == Angle.of(1.0)
    False
    """

    index: int | None
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", finite_number(self.offset, "offset of an angle"))
        if self.index is None:
            object.__setattr__(self, "scale", 0.0)
            return
        object.__setattr__(self, "index", integer(self.index, "index of an angle", 0))
        object.__setattr__(self, "scale", finite_number(self.scale, "scale of an angle"))
        if self.scale == 0.0:
            raise ValueError("scale of an angle is 0; a fixed angle is Angle(None, offset=value)")

    @classmethod
    def of(cls, value: Angle | float) -> Angle:
        """An angle from what users write: an ``int`` is an index, a ``float`` a fixed angle.

        Raises:
            ValueError: anything else, or a number that is not finite.
        """
        if isinstance(value, Angle):
            return value
        if _is_int(value):
            return cls(int(value))
        if isinstance(value, Real) and not isinstance(value, bool):
            return cls(None, offset=finite_number(value, "fixed angle"))
        raise ValueError(f"angle is {value!r}; give an index (int), a fixed angle (float) or an Angle")

    @property
    def is_fixed(self) -> bool:
        """Whether the angle does not depend on the angle vector."""
        return self.index is None

    def affine(self, scale: float, offset: float = 0.0) -> Angle:
        """The angle ``scale * self + offset``, ``scale`` not zero."""
        return Angle(self.index, scale * self.scale, scale * self.offset + offset)

    def to_data(self) -> dict[str, float]:
        """What JSON files hold of it."""
        if self.index is None:
            return {"value": self.offset}
        return {"index": self.index, "scale": self.scale, "offset": self.offset}

    @classmethod
    def from_data(cls, content: Any, word: str = "angle") -> Angle:
        """The angle written by :meth:`to_data`; ``word`` is what messages call it.

        Raises:
            ValueError: something else.
        """
        if isinstance(content, Mapping) and "value" in content:
            check_keys(content, word, {"value"}, set())
            return cls(None, offset=content["value"])
        check_keys(content, word, {"index"}, {"scale", "offset"})
        article = "an" if word == "angle" else "a"
        index = integer(content["index"], f"index of {article} {word}", 0)
        return cls(index, content.get("scale", 1.0), content.get("offset", 0.0))

    def __str__(self) -> str:
        if self.index is None:
            return f"{self.offset:.4g}"
        text = f"a{self.index}" if self.scale == 1 else f"{self.scale:.4g}*a{self.index}"
        return text if self.offset == 0 else f"{text}{self.offset:+.4g}"


@dataclass(frozen=True)
class Gate:
    """One gate on given wires.

    Args:
        name: a name of :data:`circuits.gate_table.GATES`.
        wires: the wires, controls first.
        angles: for each angle an index into the circuit's angle vector (``int``), a fixed angle in radians
            (``float``), or an :class:`Angle`.

    Raises:
        ValueError: an unknown name, a negative or repeated wire, a wrong number of wires or angles, a fixed angle that
            is not finite.

    >>> Gate("CRX", (0, 1), (4,))
    Gate(name='CRX', wires=(0, 1), angles=(Angle(index=4, scale=1.0, offset=0.0),))
    """

    name: str
    wires: tuple[int, ...]
    angles: tuple[Angle, ...] = ()

    def __init__(self, name: str, wires: int | Iterable[int], angles: Iterable[Angle | float] = ()) -> None:
        definition = gate_definition(name)
        wires = (wires,) if _is_int(wires) else tuple(as_iterable(wires, f"wires of {name}"))
        wires = tuple(integer(wire, f"wire of {name}", 0) for wire in wires)
        slots = tuple(Angle.of(angle) for angle in as_iterable(angles, f"angles of {name}"))
        if len(wires) != definition.n_wires and (definition.n_wires is not None or not wires):
            needed = "at least 1" if definition.n_wires is None else definition.n_wires
            raise ValueError(f"{name} is given {len(wires)} wires {wires}; it takes {needed}")
        if len(set(wires)) != len(wires):
            raise ValueError(f"{name} is given a wire twice: {wires}")
        if len(slots) != definition.n_angles:
            raise ValueError(f"{name} on wires {wires} is given {len(slots)} angles; it takes {definition.n_angles}")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "wires", wires)
        object.__setattr__(self, "angles", slots)

    def inverse(self) -> Gate:
        """The gate that undoes this one."""
        name, order = gate_definition(self.name).inverse
        return Gate(name, self.wires, tuple(self.angles[slot].affine(-1.0) for slot in order))

    def __str__(self) -> str:
        inside = f"({', '.join(map(str, self.angles))})" if self.angles else ""
        return f"{self.name}{inside} {list(self.wires)}"


def as_iterable(value: Any, what: str) -> Iterable[Any]:
    """The value, if it is iterable and not text; otherwise a ``ValueError`` that names it."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ValueError(f"{what} are {value!r}; a sequence is needed")
    return value


def check_keys(content: object, where: str, needed: set[str], optional: set[str]) -> None:
    """A ``ValueError`` that names the place, unless the content has these keys and no others."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} is a {type(content).__name__}; an object is needed")
    missing, unknown = needed - set(content), set(content) - needed - optional
    if missing or unknown:
        fault = f"lacks {sorted(missing)}" if missing else f"has unknown keys {sorted(unknown)}"
        raise ValueError(f"{where} {fault}; its keys are {sorted(needed | optional)}")
