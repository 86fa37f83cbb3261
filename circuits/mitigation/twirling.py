"""Pauli twirling: random Paulis that leave the circuit as it is and make its noise stochastic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from circuits.backends.base import (
    Backend,
    Capabilities,
    check_angles,
    check_shots,
    fresh_generator,
    measurement_groups,
    parse_observables,
)
from circuits.backends.layers import shots_of
from circuits.circuit import Circuit, Gate
from circuits.mitigation.measure import (
    Estimate,
    expectations,
    frequencies_over_shots,
    mean_over_parts,
    place_like,
    sample_each,
)

__all__ = ["TWIRLED", "PauliTwirling"]

TWIRLED = ("CNOT", "CZ", "SWAP", "RZZ", "RXX", "RYY")
"""Gates that are twirled; the rotations by the Paulis that commute with them."""

Bits = tuple[int, int, int, int]
"""A Pauli string on two wires: X and Z on the first, X and Z on the second."""


def _before_and_after(name: str, drawn: Bits) -> tuple[Bits, Bits]:
    """Paulis before and after a gate that together leave it as it is, up to a phase."""
    x, z, u, v = drawn
    if name == "CNOT":
        return drawn, (x, z ^ v, u ^ x, v)
    if name == "CZ":
        return drawn, (x, z ^ u, u, v ^ x)
    if name == "SWAP":
        return drawn, (u, v, x, z)
    if name == "RZZ":
        u = x
    elif name == "RXX":
        v = z
    else:
        v = x ^ z ^ u
    return (x, z, u, v), (x, z, u, v)


class PauliTwirling:
    """A backend whose two-qubit gates stand between random Paulis, averaged over many draws (1512.01098, 2010.00215).

    Every CNOT, CZ and SWAP gets a random Pauli string before it and the one after it that undoes it, every RZZ, RXX and
    RYY one of those that commute with it. The ideal circuit stays the same; of the gates' coherent errors, the average
    keeps the stochastic part, in which errors of many gates do not add up in step. Other gates are not twirled. Paulis
    that meet between two gates are one gate.

    Shots are divided among the twirled circuits, which are one job where the inner backend runs jobs. Every call draws
    anew; a batch of angles shares its twirls.

    Args:
        backend: the inner backend.
        twirls: how many random circuits stand for one.
        generator: source of the Paulis and of the shots of ``probs`` and ``expval``; without one, a new one seeded by
            the operating system.

    Raises:
        ValueError: fewer than one twirl.

    >>> from circuits.backends import Statevector
    >>> bell = Circuit(2, [Gate("H", 0), Gate("CNOT", [0, 1])])
    >>> PauliTwirling(Statevector(), twirls=4).expval(bell, torch.zeros(0), ["XX", "ZI"]).round(decimals=12) + 0.0
    tensor([1., 0.], dtype=torch.float64)
    """

    def __init__(self, backend: Backend, twirls: int = 16, generator: torch.Generator | None = None) -> None:
        if isinstance(twirls, bool) or not isinstance(twirls, int) or twirls < 1:
            raise ValueError(f"twirls is {twirls!r}; an integer of at least 1 is needed")
        self.backend = backend
        self.twirls = twirls
        self.generator = fresh_generator(generator)

    @property
    def name(self) -> str:
        """The inner backend's name, marked."""
        return f"{self.backend.name}, Pauli twirled"

    @property
    def capabilities(self) -> Capabilities:
        """The inner backend's, but random, and with shots not differentiable."""
        inner = self.backend.capabilities
        return replace(inner, exact=False, differentiable=inner.differentiable and shots_of(self.backend) is None)

    def twirl(self, circuit: Circuit, generator: torch.Generator | None = None) -> Circuit:
        """The circuit with random Paulis around its two-qubit gates.

        Args:
            circuit: the circuit.
            generator: source of the Paulis; by default the backend's own.
        """
        generator = self.generator if generator is None else generator
        coins = torch.randint(2, (len(circuit), 4), generator=generator, device=generator.device).tolist()
        waiting = [(0, 0)] * circuit.n_wires
        gates: list[Gate] = []

        def emit(wire: int, x: int, z: int) -> None:
            x, z = waiting[wire][0] ^ x, waiting[wire][1] ^ z
            if x or z:
                gates.append(Gate("Y" if x and z else "X" if x else "Z", wire))
            waiting[wire] = (0, 0)

        for gate, drawn in zip(circuit.gates, coins, strict=True):
            if gate.name not in TWIRLED:
                for wire in gate.wires:
                    emit(wire, 0, 0)
                gates.append(gate)
                continue
            before, after = _before_and_after(gate.name, tuple(drawn))
            first, second = gate.wires
            emit(first, *before[:2])
            emit(second, *before[2:])
            gates.append(gate)
            waiting[first], waiting[second] = after[:2], after[2:]
        for wire in range(circuit.n_wires):
            emit(wire, 0, 0)
        return Circuit(circuit.n_wires, gates, circuit.n_angles)

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Probabilities averaged over the twirls, ``(..., 2**n_wires)``.

        Raises:
            ValueError: angles of another shape.
        """
        return self.probs_with_error(circuit, angles).value

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Expectation values of Pauli strings, averaged over the twirls, ``(..., n_observables)``.

        Raises:
            ValueError: angles of another shape, or an impossible observable.
        """
        return self.expval_with_error(circuit, angles, observables).value

    def probs_with_error(self, circuit: Circuit, angles: Tensor) -> Estimate:
        """Probabilities and their deviations, from the spread over the twirls, each ``(..., 2**n_wires)``.

        Raises:
            ValueError: angles of another shape.
        """
        shots = shots_of(self.backend)
        if shots is None:
            return self._spread(circuit, angles, None)
        return frequencies_over_shots(self.sample(circuit, angles, shots, self.generator), self.twirls)

    def expval_with_error(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Estimate:
        """Expectation values and their deviations, from the spread over the twirls, each ``(..., n_observables)``.

        Raises:
            ValueError: angles of another shape, or an impossible observable.
        """
        shots = shots_of(self.backend)
        if shots is None:
            return self._spread(circuit, angles, observables)
        check_angles(circuit, angles)
        strings = parse_observables(observables, circuit.n_wires)
        groups = measurement_groups(circuit, strings)
        measured = self.sample_circuits([group for group, _ in groups], angles, shots, self.generator)
        return expectations([(bits, groups[k][1]) for k, bits in enumerate(measured)], strings, self.twirls)

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Measured bits, ``(..., shots, n_wires)`` uint8, the shots of one twirled circuit after the other's.

        Raises:
            ValueError: angles of another shape, or fewer than one shot.
        """
        check_angles(circuit, angles)
        check_shots(shots)
        return self.sample_circuits([circuit], angles, shots, fresh_generator(generator))[0]

    def sample_circuits(
        self, circuits: Sequence[Circuit], angles: Tensor, shots: int, generator: torch.Generator
    ) -> list[Tensor]:
        """Measured bits of several circuits at the same angles, each ``(..., shots, n_wires)``, all in one job."""
        twirled = []
        for circuit in circuits:
            count = min(self.twirls, shots) if any(gate.name in TWIRLED for gate in circuit.gates) else 1
            twirled.append([self.twirl(circuit, generator) for _ in range(count)])
            place_like(self.backend, circuit, twirled[-1])
        most = max(-(-shots // len(of_one)) for of_one in twirled)
        flat = [one for of_one in twirled for one in of_one]
        measured = iter(sample_each(self.backend, flat, angles, most, generator))
        found = []
        for of_one in twirled:
            each, more = divmod(shots, len(of_one))
            found.append(torch.cat([next(measured)[..., : each + (k < more), :] for k in range(len(of_one))], -2))
        return found

    def _spread(self, circuit: Circuit, angles: Tensor, observables: Sequence[str] | None) -> Estimate:
        """Mean and deviation of the outputs of the twirled circuits on a backend without shots."""
        backend = self.backend
        twirled = [self.twirl(circuit) for _ in range(self.twirls)]
        outputs = [
            backend.probs(one, angles) if observables is None else backend.expval(one, angles, observables)
            for one in twirled
        ]
        return mean_over_parts(torch.stack(outputs), torch.full((self.twirls,), 1 / self.twirls, dtype=torch.float64))
