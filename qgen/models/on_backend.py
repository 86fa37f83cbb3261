"""What every model that runs quantum circuits shares: the backend on which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from circuits import Circuit
from circuits.backends import Backend, Statevector, reseed, shots_of

if TYPE_CHECKING:
    from qgen.generator import Generator as _Base
else:
    _Base = object

__all__ = ["AMPLITUDES_AT_ONCE", "OnBackend"]

AMPLITUDES_AT_ONCE = 2**22
"""Amplitudes, of all circuits together, that go to a backend at once: a larger batch is cut."""


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

    @property
    def shots(self) -> int | None:
        """The backend's measurements of each circuit, None if it computes probabilities."""
        return None if self._backend is None else shots_of(self._backend)

    def _seeded(self, generator: torch.Generator) -> Backend:
        """The backend, its random draws fixed by the generator."""
        backend = self.backend
        reseed(backend, generator)
        return backend

    def _circuits_at_once(self, n_wires: int) -> int:
        """How many circuits go to the backend in one call: all to a machine elsewhere, which makes them one job."""
        able = self.backend.capabilities
        numbers = 4**n_wires if able.exact and able.noisy else 2**n_wires  # of a density matrix, of a state
        return 2**31 if able.remote else max(1, AMPLITUDES_AT_ONCE // numbers)

    def _measure(self, circuit: Circuit, angles: Tensor, row: Tensor, generator: torch.Generator) -> Tensor:
        """One measurement for each event, as the number of the basis state, ``(n,)``.

        Args:
            circuit: what is measured.
            angles: ``(m, n_angles)``, one row for each circuit.
            row: ``(n,)``, the circuit of each event.
            generator: source of the randomness.
        """
        row = row.cpu()
        count = torch.bincount(row, minlength=len(angles))
        numbers = torch.empty(len(row), dtype=torch.long, device=angles.device)
        place = 2 ** torch.arange(circuit.n_wires - 1, -1, -1, device=angles.device)
        backend = self._seeded(generator)
        order = torch.argsort(row, stable=True)
        # circuits that are asked for equally often go together: in one job, or as many as fit in memory at once
        for shots in torch.unique(count).tolist():
            which = (count == shots).nonzero().flatten()
            first = (count.cumsum(0) - count)[which]
            at_once = self._circuits_at_once(circuit.n_wires)
            for some, start in zip(which.split(at_once), first.split(at_once), strict=True):
                bits = backend.sample(circuit, angles[some.to(angles.device)], shots, generator=generator)
                events = order[start[:, None] + torch.arange(shots)]
                numbers[events.to(numbers.device)] = bits.to(place) @ place
        return numbers
