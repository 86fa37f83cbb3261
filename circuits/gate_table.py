"""The gate table: every gate a :class:`~circuits.circuit.Circuit` may hold, defined once.

A gate is a fixed matrix, or has one angle ``t`` and the matrix ``A + cos(f t) B + sin(f t) C``, or is a short
sequence of such gates (``Rot``, ``U3``). Diagonal gates also say their phase as a sum of signs
``sum_S (a_S t + b_S) (-1)^(sum of the bits in S)``, and the gates that permute basis states say so, because
simulators treat both without a matrix product.

Names and conventions are PennyLane's, except ``Sdg``, ``Tdg``, ``SXdg``, ``U3``, ``RXX``, ``RYY``, ``RZZ``, which are
Qiskit's (there ``RXX`` is PennyLane's ``IsingXX``, and so on). Angles are radians.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["GATES", "GateDefinition", "gate_definition", "gate_matrix"]

Trigonometric = tuple[Tensor, Tensor, Tensor]
SignTerm = tuple[tuple[int, ...], float, float]


@dataclass(frozen=True)
class GateDefinition:
    """What a gate is.

    Args:
        name: the gate's name.
        n_wires: number of wires, None for any number from one.
        n_angles: number of angles.
        inverse: name of the inverse gate, and which angle of this gate, negated, goes to each of its slots.
        fixed: the matrix, for a gate without angles.
        frequency: ``f`` of a gate with one angle.
        trigonometric: for a gate with one angle, number of wires to the matrices ``A, B, C``.
        sequence: for a composite gate, the gates in order of application and the slot of their angle.
        signs: for a diagonal gate, number of wires to the terms ``(S, a_S, b_S)`` of its phase; ``S`` are positions
            in the gate's wires.
        permutes: the gate permutes basis states, without phases.
        shifts: 2 or 4, the number of terms of the parameter-shift rule; 0 without angles.
    """

    name: str
    n_wires: int | None
    n_angles: int
    inverse: tuple[str, tuple[int, ...]]
    fixed: Tensor | None = None
    frequency: float = 0.5
    trigonometric: Callable[[int], Trigonometric] | None = None
    sequence: tuple[tuple[str, int], ...] = ()
    signs: Callable[[int], tuple[SignTerm, ...]] | None = None
    permutes: bool = False
    shifts: int = 0


def _tensor(rows: list[list[complex]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.complex128)


_PAULI = {
    "I": _tensor([[1, 0], [0, 1]]),
    "X": _tensor([[0, 1], [1, 0]]),
    "Y": _tensor([[0, -1j], [1j, 0]]),
    "Z": _tensor([[1, 0], [0, -1]]),
}
_UP, _DOWN = _tensor([[1, 0], [0, 0]]), _tensor([[0, 0], [0, 1]])


def _controlled(matrix: Tensor) -> Tensor:
    return torch.kron(_UP, _PAULI["I"]) + torch.kron(_DOWN, matrix)


def _rotation(axes: str) -> Callable[[int], Trigonometric]:
    """``exp(-i t/2 P)`` for the Pauli string ``axes``; a single axis is repeated over all wires."""

    @lru_cache
    def matrices(n_wires: int) -> Trigonometric:
        pauli = _tensor([[1]])
        for axis in axes if len(axes) == n_wires else axes * n_wires:
            pauli = torch.kron(pauli, _PAULI[axis])
        identity = torch.eye(len(pauli), dtype=torch.complex128)
        return torch.zeros_like(identity), identity, -1j * pauli

    return matrices


def _controlled_rotation(axis: str) -> Callable[[int], Trigonometric]:
    matrices = (
        torch.kron(_UP, _PAULI["I"]),
        torch.kron(_DOWN, _PAULI["I"]),
        torch.kron(_DOWN, -1j * _PAULI[axis]),
    )
    return lambda n_wires: matrices


def _phase(n_wires: int) -> Trigonometric:
    last = torch.zeros(2**n_wires, dtype=torch.complex128)
    last[-1] = 1
    return torch.diag(1 - last), torch.diag(last), torch.diag(1j * last)


def _sign(angle: float, constant: float, *subsets: tuple[int, ...]) -> tuple[SignTerm, ...]:
    """The phase ``angle * t + constant`` on the basis state with all bits set; ``subsets`` are all subsets of bits."""
    return tuple((s, (-1) ** len(s) * angle / len(subsets), (-1) ** len(s) * constant / len(subsets)) for s in subsets)


def _one(angle: float, constant: float) -> Callable[[int], tuple[SignTerm, ...]]:
    return lambda n_wires: _sign(angle, constant, (), (0,))


def _two(angle: float, constant: float) -> Callable[[int], tuple[SignTerm, ...]]:
    return lambda n_wires: _sign(angle, constant, (), (0,), (1,), (0, 1))


def _parity(n_wires: int) -> tuple[SignTerm, ...]:
    return ((tuple(range(n_wires)), -0.5, 0.0),)


def _constant(
    name: str,
    matrix: Tensor,
    inverse: str | None = None,
    signs: Callable[[int], tuple[SignTerm, ...]] | None = None,
    permutes: bool = False,
) -> GateDefinition:
    n_wires = len(matrix).bit_length() - 1
    return GateDefinition(name, n_wires, 0, (inverse or name, ()), fixed=matrix, signs=signs, permutes=permutes)


def _angled(
    name: str,
    n_wires: int | None,
    matrices: Callable[[int], Trigonometric],
    signs: Callable[[int], tuple[SignTerm, ...]] | None = None,
    *,
    frequency: float = 0.5,
    shifts: int = 2,
) -> GateDefinition:
    return GateDefinition(
        name, n_wires, 1, (name, (0,)), frequency=frequency, trigonometric=matrices, signs=signs, shifts=shifts
    )


_TABLE = (
    _constant("H", _tensor([[1, 1], [1, -1]]) / math.sqrt(2)),
    _constant("X", _PAULI["X"], permutes=True),
    _constant("Y", _PAULI["Y"]),
    _constant("Z", _PAULI["Z"], signs=_one(0.0, math.pi)),
    _constant("S", _tensor([[1, 0], [0, 1j]]), "Sdg", _one(0.0, math.pi / 2)),
    _constant("Sdg", _tensor([[1, 0], [0, -1j]]), "S", _one(0.0, -math.pi / 2)),
    _constant("T", _tensor([[1, 0], [0, complex(1, 1) / math.sqrt(2)]]), "Tdg", _one(0.0, math.pi / 4)),
    _constant("Tdg", _tensor([[1, 0], [0, complex(1, -1) / math.sqrt(2)]]), "T", _one(0.0, -math.pi / 4)),
    _constant("SX", _tensor([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2, "SXdg"),
    _constant("SXdg", _tensor([[1 - 1j, 1 + 1j], [1 + 1j, 1 - 1j]]) / 2, "SX"),
    _angled("RX", 1, _rotation("X")),
    _angled("RY", 1, _rotation("Y")),
    _angled("RZ", 1, _rotation("Z"), _parity),
    _angled("PhaseShift", 1, _phase, _one(1.0, 0.0), frequency=1.0),
    GateDefinition("Rot", 1, 3, ("Rot", (2, 1, 0)), sequence=(("RZ", 0), ("RY", 1), ("RZ", 2)), shifts=2),
    GateDefinition("U3", 1, 3, ("U3", (0, 2, 1)), sequence=(("PhaseShift", 2), ("RY", 0), ("PhaseShift", 1)), shifts=2),
    _constant("CNOT", _controlled(_PAULI["X"]), permutes=True),
    _constant("CZ", _controlled(_PAULI["Z"]), signs=_two(0.0, math.pi)),
    _constant("SWAP", _tensor([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]), permutes=True),
    _constant("ECR", _tensor([[0, 0, 1, 1j], [0, 0, 1j, 1], [1, -1j, 0, 0], [-1j, 1, 0, 0]]) / math.sqrt(2)),
    _angled("CRX", 2, _controlled_rotation("X"), shifts=4),
    _angled("CRY", 2, _controlled_rotation("Y"), shifts=4),
    _angled("CRZ", 2, _controlled_rotation("Z"), lambda n_wires: (((1,), -0.25, 0.0), ((0, 1), 0.25, 0.0)), shifts=4),
    _angled("ControlledPhaseShift", 2, _phase, _two(1.0, 0.0), frequency=1.0),
    _angled("RXX", 2, _rotation("XX")),
    _angled("RYY", 2, _rotation("YY")),
    _angled("RZZ", 2, _rotation("ZZ"), _parity),
    _angled("MultiRZ", None, _rotation("Z"), _parity),
)

GATES: dict[str, GateDefinition] = {definition.name: definition for definition in _TABLE}
"""The gates by name."""


def gate_definition(name: str) -> GateDefinition:
    """The definition of a gate.

    Raises:
        ValueError: there is no such gate; the nearest name is given.

    >>> gate_definition("CRZ").n_wires
    2
    """
    definition = GATES.get(name) if isinstance(name, str) else None
    if definition is None:
        lower = {known.lower(): known for known in GATES}
        near = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
        hint = f"did you mean {lower[near[0]]!r}? " if near else ""
        raise ValueError(f"unknown gate {name!r}; {hint}known gates: {', '.join(GATES)}")
    return definition


@lru_cache(maxsize=256)
def _trigonometric(name: str, n_wires: int, dtype: torch.dtype, device: torch.device) -> Trigonometric:
    """The matrices ``A, B, C`` of a gate where they are needed, copied there once."""
    matrices = gate_definition(name).trigonometric
    if matrices is None:
        raise ValueError(f"{name} is not a gate with one angle")
    with torch.inference_mode(False):
        constant, cosine, sine = (matrix.to(device, dtype) for matrix in matrices(n_wires))
    return constant, cosine, sine


def gate_matrix(name: str, angles: Tensor, n_wires: int | None = None) -> Tensor:
    """The matrices of a gate, differentiable in its angles.

    Args:
        name: the gate.
        angles: ``(..., gate's number of angles)`` in radians, real; the last dimension is 0 for a fixed gate.
        n_wires: number of wires, needed for gates that take any number (``MultiRZ``).

    Returns:
        ``(..., 2**n_wires, 2**n_wires)`` complex, of the angles' precision; the gate's first wire is the most
        significant bit.

    Raises:
        ValueError: an unknown gate, angles of another shape, or ``n_wires`` missing.

    >>> gate_matrix("RX", torch.tensor([[0.0], [torch.pi]], dtype=torch.float64)).shape
    torch.Size([2, 2, 2])
    """
    definition = gate_definition(name)
    wires = definition.n_wires or n_wires
    if wires is None:
        raise ValueError(f"{name} takes any number of wires; say n_wires")
    if angles.ndim == 0 or angles.shape[-1] != definition.n_angles:
        raise ValueError(f"angles of {name} have shape {tuple(angles.shape)}; expected (..., {definition.n_angles})")
    dtype = angles.dtype.to_complex()
    if definition.fixed is not None:
        matrix = definition.fixed.to(angles.device, dtype)
        return matrix.expand(*angles.shape[:-1], *matrix.shape)
    if definition.trigonometric is not None:
        constant, cosine, sine = _trigonometric(name, wires, dtype, angles.device)
        t = (definition.frequency * angles).unsqueeze(-1)
        return constant + torch.cos(t) * cosine + torch.sin(t) * sine
    result = torch.eye(2, dtype=dtype, device=angles.device)
    for step, slot in definition.sequence:
        result = gate_matrix(step, angles[..., slot : slot + 1]) @ result
    return result
