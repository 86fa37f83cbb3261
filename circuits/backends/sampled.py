"""Backends that are seen through shots: probabilities and expectation values as estimates from measured bits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from circuits.backends.base import (
    Backend,
    Capabilities,
    PauliString,
    check_angles,
    check_shots,
    draw_counts,
    frequencies,
    fresh_generator,
    measurement_groups,
    parse_observables,
)
from circuits.backends.program import walsh_transform
from circuits.circuit import Circuit
from circuits.metering import ran

__all__ = ["Sampled", "SamplingBackend", "parity_means", "signs"]


def signs(bits: Tensor, string: PauliString) -> Tensor:
    """The sign that each measurement gives to a Pauli string, ``(..., shots, n_wires)`` to ``(..., shots)`` float64."""
    return 1 - 2 * (bits[..., [wire for wire, _ in string.factors]].sum(-1) % 2).to(torch.float64)


def parity_means(bits: Tensor, string: PauliString) -> Tensor:
    """Mean sign of a Pauli string over bits measured in its basis, ``(..., shots, n_wires)`` to ``(...)`` float64."""
    return signs(bits, string).mean(-1)


class SamplingBackend(ABC):
    """A backend that only measures: relative frequencies are its probabilities, means of signs its expectation values.

    A subclass gives :meth:`sample_circuits`, ``name`` and ``capabilities``.

    Args:
        shots: measurements of each circuit for ``probs`` and ``expval``; ``sample`` is told how many.
        generator: source of the randomness of ``probs`` and ``expval``; without one, a new one seeded by the
            operating system.

    Raises:
        ValueError: fewer than one shot.
    """

    name: str
    capabilities: Capabilities

    def __init__(self, shots: int, generator: torch.Generator | None = None) -> None:
        self.shots = check_shots(shots)
        self.generator = fresh_generator(generator)

    @abstractmethod
    def sample_circuits(
        self, circuits: Sequence[Circuit], angles: Tensor, shots: int, generator: torch.Generator
    ) -> list[Tensor]:
        """Measured bits of several circuits at the same angles, each ``(..., shots, n_wires)`` uint8.

        A machine that runs jobs makes one job of them all.
        """

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Measured bits, ``(..., shots, n_wires)`` uint8; wire 0 first.

        Raises:
            ValueError: angles of another shape, or fewer than one shot.
        """
        check_angles(circuit, angles)
        check_shots(shots)
        return self.sample_circuits([circuit], angles, shots, fresh_generator(generator))[0]

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Relative frequencies of the basis states, ``(..., 2**n_wires)`` float64.

        Raises:
            ValueError: angles of another shape.
        """
        return frequencies(self.sample(circuit, angles, self.shots, self.generator))

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Estimates of the expectation values of Pauli strings, ``(..., n_observables)`` float64.

        Strings that can be measured together share their shots.

        Raises:
            ValueError: angles of another shape, or an impossible observable.
        """
        check_angles(circuit, angles)
        strings = parse_observables(observables, circuit.n_wires)
        groups = measurement_groups(circuit, strings)
        measured = self.sample_circuits([group for group, _ in groups], angles, self.shots, self.generator)
        columns = {
            place: parity_means(bits, strings[place])
            for (_, places), bits in zip(groups, measured, strict=True)
            for place in places
        }
        return torch.stack([columns[place] for place in range(len(strings))], -1)


class Sampled(SamplingBackend):
    """Any backend, seen through shots only, as an experiment would see it.

    The shots of an exact backend are counted without being listed, so that any number of them takes the same time.

    Args:
        backend: what is measured.
        shots: measurements of each circuit for ``probs`` and ``expval``.
        generator: source of their randomness; without one, a new one seeded by the operating system.

    Raises:
        ValueError: fewer than one shot.

    >>> from circuits import Gate
    >>> from circuits.backends import Statevector
    >>> coin = Circuit(1, [Gate("H", [0])])
    >>> Sampled(Statevector(), 4, torch.Generator().manual_seed(0)).probs(coin, torch.zeros(0)).sum()
    tensor(1., dtype=torch.float64)
    """

    def __init__(self, backend: Backend, shots: int, generator: torch.Generator | None = None) -> None:
        super().__init__(shots, generator)
        self.backend = backend

    @property
    def name(self) -> str:  # type: ignore[override]
        """The inner backend's name and the shots."""
        return f"{self.backend.name}, {self.shots} shots"

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """The inner backend's, without gradients and not exact."""
        return replace(self.backend.capabilities, differentiable=False, exact=False)

    def sample_circuits(
        self, circuits: Sequence[Circuit], angles: Tensor, shots: int, generator: torch.Generator
    ) -> list[Tensor]:
        """Measured bits of several circuits at the same angles, each ``(..., shots, n_wires)`` uint8."""
        return [self.backend.sample(circuit, angles, shots, generator) for circuit in circuits]

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Relative frequencies of the basis states, ``(..., 2**n_wires)`` float64.

        Raises:
            ValueError: angles of another shape, or not finite.
        """
        if not self.backend.capabilities.exact:
            return super().probs(circuit, angles)
        return self._counts(circuit, angles) / self.shots

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Estimates of the expectation values of Pauli strings, ``(..., n_observables)`` float64.

        Strings that can be measured together share their shots.

        Raises:
            ValueError: angles of another shape or not finite, or an impossible observable.
        """
        if not self.backend.capabilities.exact:
            return super().expval(circuit, angles, observables)
        check_angles(circuit, angles)
        strings = parse_observables(observables, circuit.n_wires)
        columns: dict[int, Tensor] = {}
        for group, places in measurement_groups(circuit, strings):
            counts = self._counts(group, angles)
            means = walsh_transform(counts.reshape(math.prod(counts.shape[:-1]), counts.shape[-1])) / self.shots
            for place in places:
                column = means[:, strings[place].x_mask | strings[place].z_mask]
                columns[place] = column.reshape(angles.shape[:-1])
        return torch.stack([columns[place] for place in range(len(strings))], -1)

    def _counts(self, circuit: Circuit, angles: Tensor) -> Tensor:
        with torch.no_grad():
            probabilities = self.backend.probs(circuit, angles)
        ran(0, self.shots * angles.shape[:-1].numel())
        return draw_counts(probabilities, self.shots, self.generator).to(torch.float64)
