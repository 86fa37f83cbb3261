r"""What generators with latent noise in a circuit's angles share.

Latent numbers :math:`z` and the condition :math:`c` enter the angles of a circuit; the event is read from expectation
values of Pauli strings,

.. math:: x_i = f_i\bigl(\langle O_i \rangle_{U(\alpha_\theta(z, c)) |0\rangle}\bigr) .

The randomness is in :math:`z`: one event costs one circuit and, on hardware, many shots of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from circuits import Circuit
from circuits.backends import Backend
from qgen.data.transforms import Transform
from qgen.generator import Generator
from qgen.models.on_backend import OnBackend

__all__ = ["LatentCircuitGenerator"]


class LatentCircuitGenerator(OnBackend, Generator):
    """Expectation values of a circuit under random angles.

    A subclass implements :meth:`latent`, :meth:`angles` and :meth:`read`.

    Args:
        circuit: its angles are what :meth:`angles` gives.
        observables: Pauli strings, in the notation of :class:`~circuits.backends.base.PauliString`.
        n_features: columns of a sample.
        n_conditions: columns of a condition, 0 for an unconditional model.
        backend: where the circuit runs; exact by default. It must be differentiable to train.
        transform: physical units to order one.
        condition_transform: the same for conditions.
    """

    def __init__(
        self,
        circuit: Circuit,
        observables: Sequence[str],
        n_features: int,
        n_conditions: int = 0,
        *,
        backend: Backend | None = None,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        self.circuit = circuit
        self.observables = list(observables)
        self._backend = backend

    def latent(self, n: int, generator: torch.Generator) -> Tensor:
        """Latent numbers of ``n`` events, ``(n, latent_size)``, on the device of the model."""
        raise NotImplementedError

    def angles(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """The circuit's angles in radians, ``(n, n_angles)``, differentiable in the weights.

        Args:
            latent: ``(n, latent_size)``.
            condition: ``(n, n_conditions)`` in the condition transform's space.
        """
        raise NotImplementedError

    def read(self, expectations: Tensor) -> Tensor:
        """Expectation values ``(n, n_observables)`` to events ``(n, n_features)`` in the transform's space."""
        raise NotImplementedError

    def expectations(self, latent: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Expectation values of the observables, ``(n, n_observables)``, as the backend gives them."""
        backend = self._seeded(generator)
        parts = []
        for rows in torch.arange(len(latent)).split(self._circuits_at_once(self.circuit, self.observables)):
            some = slice(int(rows[0]), int(rows[-1]) + 1)
            angles = self.angles(latent[some], None if condition is None else condition[some])
            parts.append(backend.expval(self.circuit, angles, self.observables))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(self.device)

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        return self.read(self.expectations(self.latent(n, generator), condition, generator))
