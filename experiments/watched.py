"""A backend under observation: its errors told from those of others, and what is run for its answers counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from circuits import Circuit
from circuits.backends import Backend, Capabilities, row_size
from circuits.metering import Tally, metering

__all__ = ["BackendError", "Watched", "failure"]


class BackendError(RuntimeError):
    """A backend cannot be made, or could not answer; the message is one line with its own reason."""


class Watched:
    """A backend that answers as another does, raises :class:`BackendError` only, and tallies what is run for it.

    Args:
        backend: that answers.

    >>> from circuits import Gate
    >>> from circuits.backends import Sampled, Statevector
    >>> watched = Watched(Sampled(Statevector(), 100))
    >>> probs = watched.probs(Circuit(1, [Gate("H", [0])]), torch.zeros(3, 0))
    >>> watched.tally
    Tally(executions=3, shots=300)
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.tally = Tally()

    @property
    def name(self) -> str:
        """As the backend calls itself."""
        return self.backend.name

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do."""
        return self.backend.capabilities

    def row_size(self, circuit: Circuit, observables: Sequence[str] | None = None) -> int:
        """About how many numbers the backend holds for one row of angles."""
        with self._answering():
            return row_size(self.backend, circuit, observables)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with metering() as run:
            try:
                yield
            except Exception as error:  # whatever an engine raises costs this backend only
                raise failure(error) from error
            finally:
                self.tally.executions += run.executions
                self.tally.shots += run.shots

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """The backend's probabilities."""
        with self._answering():
            return self.backend.probs(circuit, angles)

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """The backend's expectation values."""
        with self._answering():
            return self.backend.expval(circuit, angles, observables)

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Bits as the backend measures them."""
        with self._answering():
            return self.backend.sample(circuit, angles, shots, generator)


def failure(error: Exception) -> BackendError:
    """Whatever an engine raised, with its reason in one line.

    >>> failure(ZeroDivisionError("division by\\n zero")), failure(ValueError("shots is 0"))
    (BackendError('ZeroDivisionError: division by zero'), BackendError('shots is 0'))
    """
    reason = " ".join(str(error).split())
    plain = isinstance(error, ValueError | ImportError | OSError)
    return BackendError(reason if plain and reason else f"{type(error).__name__}: {reason}".rstrip(": "))
