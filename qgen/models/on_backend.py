"""What every model that runs quantum circuits shares: the backend on which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

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
        return 2**31 if self.backend.capabilities.remote else max(1, AMPLITUDES_AT_ONCE // 2**n_wires)
