"""Noise channels of gates and measurements, as plain data.

Every channel is ``rho -> sum_k K_k rho K_k^dagger``. Those of one qubit are a decay (amplitude damping with probability
``gamma``) and a flip of the sign of ``|1>`` with some probability; depolarizing noise is a mixture of Pauli operators.
Simulators need no more than that: :meth:`Channel.transfer` is the matrix on Pauli coefficients, ``decay`` and
``phase_flip`` are what a quantum trajectory draws.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from circuits.gates import finite_number

__all__ = [
    "CHANNELS",
    "AmplitudeDamping",
    "Channel",
    "Depolarizing",
    "GateNoise",
    "OneQubitChannel",
    "OverRotation",
    "PhaseDamping",
    "ReadoutError",
    "ThermalRelaxation",
    "noise_transfer",
    "probability",
]


def probability(value: object, what: str, largest: float = 1.0) -> float:
    """The value, if it is a number between 0 and ``largest``; otherwise a ``ValueError`` that names it."""
    try:
        number = finite_number(value, what)
    except ValueError as error:
        raise ValueError(f"{what}: found {value!r}; a probability in [0, 1] is needed") from error
    if not 0 <= number <= largest:
        raise ValueError(f"{what}: found {value!r}; a probability in [0, 1] is needed")
    return number


class _Data:
    """Frozen numbers with names."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, self._checked(field.name, getattr(self, field.name)))

    def _checked(self, name: str, value: object) -> float:
        return probability(value, name)

    def to_dict(self) -> dict[str, float | None]:
        """The numbers by name, None for infinity."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: None if math.isinf(value) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` wrote."""
        return cls(**{name: math.inf if value is None else value for name, value in content.items()})


class Channel(_Data, ABC):
    """Noise on the wires of a gate.

    A subclass is frozen data with the ``kind`` that names it in files.
    """

    kind: ClassVar[str]
    joint: ClassVar[bool] = False
    """Whether it acts on all wires of a gate together, rather than on each."""

    @abstractmethod
    def transfer(self, n_wires: int) -> Tensor:
        """The real matrix on coefficients ``tr(P rho)``, P in the order I, X, Y, Z; ``(4**n_wires, 4**n_wires)``."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """The channel with its probabilities or its time times ``factor``."""


@dataclass(frozen=True)
class Depolarizing(Channel):
    """With a probability, the state of the gate's wires is replaced by the maximally mixed one.

    ``rho -> (1 - p) rho + p I / 2**n`` on all ``n`` wires of the gate together. This is Qiskit Aer's
    ``depolarizing_error(p, n)``; PennyLane's ``DepolarizingChannel(q)`` on one wire has ``q = 3 p / 4``, the
    probability that X, Y or Z happens.

    Args:
        probability: ``p``. Above 1, and up to ``4**n / (4**n - 1)``, it is still a channel, found in the calibration of
            broken gates.

    >>> Depolarizing(0.1).transfer(1).diagonal()
    tensor([1.0000, 0.9000, 0.9000, 0.9000], dtype=torch.float64)
    """

    kind: ClassVar[str] = "depolarizing"
    joint: ClassVar[bool] = True
    probability: float

    def _checked(self, name: str, value: object) -> float:
        return probability(value, name, largest=4 / 3)

    def transfer(self, n_wires: int) -> Tensor:
        """The matrix on Pauli coefficients: identity keeps 1, all others ``1 - p``."""
        factors = torch.full((4**n_wires,), 1 - self.probability, dtype=torch.float64)
        factors[0] = 1
        return torch.diag(factors)

    def scaled(self, factor: float) -> Self:
        """The channel with its probability times ``factor``."""
        return type(self)(self.probability * factor)


class OneQubitChannel(Channel):
    """A decay and a phase flip on each wire, one after the other in either order."""

    @property
    def decay(self) -> float:
        """The probability that ``|1>`` becomes ``|0>``."""
        return 0.0

    @property
    def phase_flip(self) -> float:
        """The probability that the sign of ``|1>`` flips."""
        return 0.0

    def transfer(self, n_wires: int) -> Tensor:
        """The matrix on Pauli coefficients of each wire.

        >>> AmplitudeDamping(0.36).transfer(1).tolist()[3]
        [0.36, 0.0, 0.0, 0.64]
        """
        coherence = math.sqrt(1 - self.decay) * (1 - 2 * self.phase_flip)
        one = torch.diag(torch.tensor([1.0, coherence, coherence, 1 - self.decay], dtype=torch.float64))
        one[3, 0] = self.decay
        result = one
        for _ in range(n_wires - 1):
            result = torch.kron(result, one)
        return result


@dataclass(frozen=True)
class AmplitudeDamping(OneQubitChannel):
    """Decay of ``|1>`` to ``|0>``, as in PennyLane and Aer.

    Args:
        probability: of the decay.
    """

    kind: ClassVar[str] = "amplitude_damping"
    probability: float

    @property
    def decay(self) -> float:
        """The probability that ``|1>`` becomes ``|0>``."""
        return self.probability

    def scaled(self, factor: float) -> Self:
        """The channel with its probability times ``factor``."""
        return type(self)(self.probability * factor)


@dataclass(frozen=True)
class PhaseDamping(OneQubitChannel):
    """Loss of coherence without loss of energy: ``rho_01 -> sqrt(1 - p) rho_01``, as in PennyLane and Aer.

    Args:
        probability: ``p``.
    """

    kind: ClassVar[str] = "phase_damping"
    probability: float

    @property
    def phase_flip(self) -> float:
        """The probability that the sign of ``|1>`` flips."""
        return (1 - math.sqrt(1 - self.probability)) / 2

    def scaled(self, factor: float) -> Self:
        """The channel with its probability times ``factor``."""
        return type(self)(self.probability * factor)


@dataclass(frozen=True)
class ThermalRelaxation(OneQubitChannel):
    """Relaxation to ``|0>`` during a gate: populations as ``exp(-time / T1)``, coherences as ``exp(-time / T2)``.

    Args:
        t1: in seconds, may be infinite.
        t2: in seconds, at most ``2 * t1``.
        time: of the gate in seconds.

    Raises:
        ValueError: a time that is not positive, or ``t2`` above ``2 * t1``.
    """

    kind: ClassVar[str] = "thermal_relaxation"
    t1: float
    t2: float
    time: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.t2 > 2 * self.t1 * (1 + 1e-12):
            raise ValueError(f"t2: found {self.t2!r}; at most 2 * t1 = {2 * self.t1!r} is possible")

    def _checked(self, name: str, value: object) -> float:
        if value == math.inf and name != "time":
            return math.inf
        number = finite_number(value, name)
        if number < 0 or (number == 0 and name != "time"):
            raise ValueError(f"{name}: found {value!r}; a time in seconds above 0 is needed")
        return number

    @property
    def decay(self) -> float:
        """The probability that ``|1>`` becomes ``|0>``."""
        return -math.expm1(-self.time / self.t1)

    @property
    def phase_flip(self) -> float:
        """The probability that the sign of ``|1>`` flips."""
        return max(0.0, -math.expm1(self.time / (2 * self.t1) - self.time / self.t2) / 2)

    def scaled(self, factor: float) -> Self:
        """The channel with its time times ``factor``."""
        return type(self)(self.t1, self.t2, self.time * factor)


CHANNELS: dict[str, type[Channel]] = {
    channel.kind: channel for channel in (Depolarizing, AmplitudeDamping, PhaseDamping, ThermalRelaxation)
}
"""The channels by kind, in the order in which a hand-written model applies them."""


GateNoise = tuple[tuple[Channel, int | None], ...]
"""Channels in order of application, each with the place in the gate's wires that it acts on; None is all of them."""


def noise_transfer(noise: GateNoise, n_wires: int) -> Tensor:
    """The matrix of a gate's noise on Pauli coefficients, ``(4**n_wires, 4**n_wires)`` float64.

    >>> noise_transfer(((AmplitudeDamping(1.0), 1),), 2)[3, 0]
    tensor(1., dtype=torch.float64)
    """
    result = torch.eye(4**n_wires, dtype=torch.float64)
    for channel, position in noise:
        if position is None:
            matrix = channel.transfer(n_wires)
        else:
            before, after = (torch.eye(4**wires, dtype=torch.float64) for wires in (position, n_wires - 1 - position))
            matrix = torch.kron(torch.kron(before, channel.transfer(1)), after)
        result = matrix @ result
    return result


@dataclass(frozen=True)
class OverRotation(_Data):
    """A coherent error of calibration: a gate meant to turn by ``t`` turns by ``t * (1 + relative) + radians``.

    Args:
        radians: added to every angle.
        relative: fraction of the angle.
    """

    radians: float = 0.0
    relative: float = 0.0

    def _checked(self, name: str, value: object) -> float:
        return finite_number(value, name)

    def __bool__(self) -> bool:
        return bool(self.radians or self.relative)

    def scaled(self, factor: float) -> Self:
        """The error times ``factor``."""
        return type(self)(self.radians * factor, self.relative * factor)


@dataclass(frozen=True)
class ReadoutError(_Data):
    """Wrongly read bits of one wire.

    Args:
        p01: probability to read 1 where the qubit is in ``|0>``.
        p10: probability to read 0 where it is in ``|1>``.

    >>> ReadoutError(0.02, 0.05).confusion
    ((0.98, 0.05), (0.02, 0.95))
    """

    p01: float
    p10: float

    def __bool__(self) -> bool:
        return bool(self.p01 or self.p10)

    @property
    def confusion(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The matrix from true to read probabilities: rows are the bit read, columns the true one."""
        return (1 - self.p01, self.p10), (self.p01, 1 - self.p10)

    def scaled(self, factor: float) -> Self:
        """The error times ``factor``."""
        return type(self)(self.p01 * factor, self.p10 * factor)
