"""Counting: how many circuits, or programs of modes, were run in a stretch of code, and with how many shots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Tally", "metering", "ran"]


@dataclass
class Tally:
    """What was run.

    Args:
        executions: circuits, each set of angles and each basis that is measured counted by itself. An exact engine
            answers any question about one set of angles at once; that is one.
        shots: measurements, of all circuits together; none where an engine computes probabilities.
    """

    executions: int = 0
    shots: int = 0


_tallies: ContextVar[tuple[Tally, ...]] = ContextVar("tallies", default=())


@contextmanager
def metering() -> Iterator[Tally]:
    """Count all that engines run in the block: of every model, forwards and for gradients by shifted circuits.

    A gradient by the adjoint method or by backpropagation runs no circuits, and adds none. What a device elsewhere is
    asked for counts when it is asked.

    >>> import torch
    >>> from circuits import Circuit, Gate
    >>> from circuits.backends import ParameterShift, Sampled, Statevector
    >>> turned, angles = Circuit(1, [Gate("RY", [0], [0])]), torch.zeros(5, 1, requires_grad=True)
    >>> with metering() as tally:
    ...     values = ParameterShift(Sampled(Statevector(), 100)).expval(turned, angles, ["Z"])
    >>> tally
    Tally(executions=5, shots=500)
    >>> with metering() as tally:
    ...     values.sum().backward()  # two shifted circuits for each angle
    >>> tally
    Tally(executions=10, shots=1000)
    """
    tally = Tally()
    token = _tallies.set((*_tallies.get(), tally))
    try:
        yield tally
    finally:
        _tallies.reset(token)


def ran(executions: int, shots: int = 0) -> None:
    """Say that so many circuits are run now, with so many shots in all; an engine calls it.

    >>> with metering() as whole:
    ...     ran(3)
    ...     with metering() as part:
    ...         ran(2, shots=20)
    >>> whole, part
    (Tally(executions=5, shots=20), Tally(executions=2, shots=20))
    """
    for tally in _tallies.get():
        tally.executions += executions
        tally.shots += shots
