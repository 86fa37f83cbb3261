"""What a backend is, and the checks that all backends share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from circuits.backends.draws import draw_bits, draw_counts, frequencies
from circuits.circuit import Circuit, Gate

__all__ = [
    "Backend",
    "Capabilities",
    "PauliString",
    "check_angles",
    "check_shots",
    "draw_bits",
    "draw_counts",
    "frequencies",
    "fresh_generator",
    "measurement_groups",
    "parse_observables",
]


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do.

    Args:
        differentiable: gradients flow through ``probs`` and ``expval``.
        exact: ``probs`` and ``expval`` have no statistical error.
        noisy: the simulated or real device has noise.
        batched: a batch of angles is one computation, not a loop.
        remote: every call is a job on a machine elsewhere, which may queue and cost.
    """

    differentiable: bool
    exact: bool
    noisy: bool
    batched: bool
    remote: bool = False


@runtime_checkable
class Backend(Protocol):
    """Answers three questions about a circuit and angles.

    ``angles`` are always ``(..., circuit.n_angles)`` in radians; the leading dimensions are a batch.
    """

    @property
    def name(self) -> str:
        """Name in tables and configuration files."""

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do."""

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Probabilities of the basis states, ``(..., 2**n_wires)``; wire 0 is the most significant bit."""

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Expectation values of Pauli strings, ``(..., n_observables)``; see :class:`PauliString` for the notation."""

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Measured bits, ``(..., shots, n_wires)`` uint8; without a generator, one seeded by the operating system."""


def check_angles(circuit: Circuit, angles: Tensor) -> Tensor:
    """The angles, if their shape fits the circuit.

    Raises:
        ValueError: not a real tensor of shape ``(..., n_angles)``.
    """
    if not isinstance(angles, Tensor):
        raise ValueError(f"angles are a {type(angles).__name__}; a torch tensor is needed")
    if angles.ndim == 0 or angles.shape[-1] != circuit.n_angles:
        raise ValueError(f"angles have shape {tuple(angles.shape)}; expected (..., {circuit.n_angles})")
    if angles.is_complex() or angles.dtype == torch.bool:
        raise ValueError(f"angles are {angles.dtype}; real numbers are needed")
    return angles


def check_shots(shots: int) -> int:
    """The number of shots, if it is one.

    Raises:
        ValueError: not an integer of at least 1.
    """
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 1:
        raise ValueError(f"shots is {shots!r}; an integer of at least 1 is needed")
    return shots


def fresh_generator(generator: torch.Generator | None) -> torch.Generator:
    """The given generator, or a new one seeded by the operating system."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    return generator


@dataclass(frozen=True)
class PauliString:
    """A product of Pauli operators.

    Written densely, one letter per wire with wire 0 leftmost (``"ZIX"``), or sparsely (``"Z0 X2"``).

    Args:
        n_wires: wires of the circuit.
        factors: wire and ``"X"``, ``"Y"`` or ``"Z"``, by ascending wire; identities are left out.

    >>> PauliString.parse("ZIX", 3) == PauliString.parse("X2 Z0", 3)
    True
    """

    n_wires: int
    factors: tuple[tuple[int, str], ...]

    @classmethod
    def parse(cls, text: str, n_wires: int) -> PauliString:
        """The Pauli string written as ``text``.

        Raises:
            ValueError: neither notation, a wire out of range or named twice.
        """
        if not isinstance(text, str):
            raise ValueError(f"observable is {text!r}; a Pauli string such as 'ZIX' or 'Z0 X2' is needed")
        if re.fullmatch(r"[IXYZ]+", text):
            if len(text) != n_wires:
                raise ValueError(f"observable {text!r} has {len(text)} letters; the circuit has {n_wires} wires")
            return cls(n_wires, tuple((wire, letter) for wire, letter in enumerate(text) if letter != "I"))
        if not re.fullmatch(r"\s*[IXYZ][0-9]{1,6}(\s+[IXYZ][0-9]{1,6})*\s*", text, re.ASCII):
            raise ValueError(f"observable {text!r} is not a Pauli string; write 'ZIX' or 'Z0 X2'")
        factors = sorted((int(word[1:]), word[0]) for word in text.split())
        wires = [wire for wire, _ in factors]
        if wires[-1] >= n_wires:
            raise ValueError(f"observable {text!r}: wire {wires[-1]} is out of range 0 to {n_wires - 1}")
        if len(set(wires)) != len(wires):
            raise ValueError(f"observable {text!r} names a wire twice")
        return cls(n_wires, tuple((wire, letter) for wire, letter in factors if letter != "I"))

    @property
    def x_mask(self) -> int:
        """The bits that the string flips, as a number; wire 0 is the most significant bit."""
        return sum(1 << (self.n_wires - 1 - wire) for wire, letter in self.factors if letter in "XY")

    @property
    def z_mask(self) -> int:
        """The bits whose parity gives its sign, as a number."""
        return sum(1 << (self.n_wires - 1 - wire) for wire, letter in self.factors if letter in "YZ")

    def __str__(self) -> str:
        letters = dict(self.factors)
        return "".join(letters.get(wire, "I") for wire in range(self.n_wires))


def parse_observables(observables: Sequence[str], n_wires: int) -> list[PauliString]:
    """The Pauli strings of a list.

    Raises:
        ValueError: an empty list, a bare string, or a string that is not a Pauli string on these wires.
    """
    if isinstance(observables, str) or not isinstance(observables, Sequence) or not observables:
        raise ValueError(f"observables are {observables!r}; a list of Pauli strings is needed")
    return [PauliString.parse(text, n_wires) for text in observables]


def measurement_groups(circuit: Circuit, strings: Sequence[PauliString]) -> list[tuple[Circuit, list[int]]]:
    """Circuits that end in the basis of Pauli strings, for backends that measure bits only.

    Strings that never ask for two bases on one wire share a circuit. The expectation value of a string is the mean,
    over the bits of its circuit, of the sign ``(-1)**(parity of the bits on its wires)``.

    Args:
        circuit: the circuit.
        strings: the observables.

    Returns:
        Circuits with the change of basis appended, each with the places in ``strings`` it serves.
    """
    groups: list[tuple[dict[int, str], list[int]]] = []
    for place, string in enumerate(strings):
        factors = dict(string.factors)
        for bases, places in groups:
            if all(bases.get(wire, letter) == letter for wire, letter in factors.items()):
                bases |= factors
                places.append(place)
                break
        else:
            groups.append((factors, [place]))
    turns = {"X": ("H",), "Y": ("Sdg", "H"), "Z": ()}
    return [
        (
            Circuit(
                circuit.n_wires,
                [*circuit.gates, *(Gate(name, wire) for wire, letter in bases.items() for name in turns[letter])],
                circuit.n_angles,
            ),
            places,
        )
        for bases, places in groups
    ]
