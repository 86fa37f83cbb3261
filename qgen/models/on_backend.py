"""What every model that runs quantum circuits shares: the backend on which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from circuits import Circuit
from circuits.backends import Backend, Distributed, Statevector, reseed, row_size, shots_of
from circuits.backends.distributed import Share
from qgen.bits.generator import as_numbers

if TYPE_CHECKING:
    from qgen.generator import Generator as _Base
else:
    _Base = object

__all__ = ["NUMBERS_AT_ONCE", "OnBackend"]

NUMBERS_AT_ONCE = 2**22
"""Amplitudes, or what else a backend holds, of all circuits that go to it at once: a larger batch is cut."""


class OnBackend(_Base):
    """A mixin, named before :class:`~qgen.generator.Generator`: the model has a backend and runs its circuits there.

    The backend may be set at any time. Without one the circuits run on an exact
    :class:`~circuits.backends.Statevector` where the weights are. It is not saved with the model.
    """

    runs_circuits: ClassVar[bool] = True
    _backend: Backend | None = None

    @property
    def backend(self) -> Backend:
        """Where the circuits run."""
        return self._backend if self._backend is not None else Statevector(device=self.device)

    @backend.setter
    def backend(self, backend: Backend | None) -> None:
        self._backend = backend

    @contextmanager
    def rows_shared(self, share: Share) -> Iterator[None]:
        """Let the rows of every batch of circuits be shared out, see :class:`~circuits.backends.Distributed`."""
        own, self._backend = self._backend, Distributed(self.backend, share)
        try:
            yield
        finally:
            self._backend = own

    @property
    def circuits(self) -> dict[str, Circuit]:
        """The circuits that run for an event, by what they are called; those that the model holds as attributes."""
        return {
            name: value for name, value in vars(self).items() if isinstance(value, Circuit) and not name.startswith("_")
        }

    @property
    def shots(self) -> int | None:
        """The backend's measurements of each circuit, None if it computes probabilities."""
        return None if self._backend is None else shots_of(self._backend)

    def _seeded(self, generator: torch.Generator) -> Backend:
        """The backend, its random draws fixed by the generator."""
        backend = self.backend
        reseed(backend, generator)
        return backend

    def _circuits_at_once(self, circuit: Circuit, observables: Sequence[str] | None = None) -> int:
        """How many rows of angles go to the backend in one call: all to a machine elsewhere, which makes them one job.

        Args:
            circuit: what runs.
            observables: whose expectation values are asked for; None for probabilities or samples.
        """
        if self.backend.capabilities.remote:
            return 2**31
        return max(1, NUMBERS_AT_ONCE // row_size(self.backend, circuit, observables))

    def _measure(
        self, circuit: Circuit, angles: Callable[[Tensor], Tensor], row: Tensor, generator: torch.Generator
    ) -> Tensor:
        """One measurement for each event, as the number of the basis state, ``(n,)``; see :meth:`_measure_bits`."""
        numbers = torch.empty(len(row), dtype=torch.long, device=self.device)
        for events, bits in self._measured(circuit, angles, row, generator):
            numbers[events] = as_numbers(bits)
        return numbers

    def _measure_bits(
        self, circuit: Circuit, angles: Callable[[Tensor], Tensor], row: Tensor, generator: torch.Generator
    ) -> Tensor:
        """One measurement for each event, as the bits of all wires, ``(n, n_wires)`` uint8.

        Args:
            circuit: what is measured.
            angles: for the numbers of some rows ``(k,)`` their angles ``(k, n_angles)``; never asked for more rows than
                go to the backend at once.
            row: ``(n,)``, the row of each event, counted from 0.
            generator: source of the randomness.
        """
        found = torch.empty(len(row), circuit.n_wires, dtype=torch.uint8, device=self.device)
        for events, bits in self._measured(circuit, angles, row, generator):
            found[events] = bits
        return found

    def _measured(
        self, circuit: Circuit, angles: Callable[[Tensor], Tensor], row: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Some events ``(k, shots)`` and their bits ``(k, shots, n_wires)`` at a time, until all are measured."""
        row = row.cpu()
        count = torch.bincount(row)
        backend = self._seeded(generator)
        at_once = self._circuits_at_once(circuit)
        order = torch.argsort(row, stable=True)
        # circuits that are asked for equally often go together: in one job, or as many as fit in memory at once
        for shots in torch.unique(count[count > 0]).tolist():
            which = (count == shots).nonzero().flatten()
            first = (count.cumsum(0) - count)[which]
            for some, start in zip(which.split(at_once), first.split(at_once), strict=True):
                bits = backend.sample(circuit, angles(some.to(self.device)), shots, generator=generator)
                events = order[start[:, None] + torch.arange(shots)]
                yield events.to(self.device), bits.to(self.device)
