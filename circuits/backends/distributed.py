"""A batch of circuits shared out to processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from circuits.backends.base import Backend, Capabilities, check_angles
from circuits.backends.layers import layers
from circuits.circuit import Circuit

__all__ = ["Distributed", "Share"]

Share = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""Given a function of rows and rows ``(n, k)``, the function's value of all of them, by many hands."""


class Distributed:
    """A backend of which each process runs its share of a batch.

    Probabilities and expectation values are those of the inner backend, gradients included. What is drawn at random
    would be drawn differently: a backend with shots, or one whose gradients are drawn, runs the whole batch in every
    process, with the same numbers in each.

    Args:
        backend: the inner backend.
        share: how rows are shared out and gathered again.

    Raises:
        ValueError: the inner backend is a machine elsewhere, which every process would ask.

    >>> from circuits import Circuit, Gate
    >>> from circuits.backends import Statevector
    >>> halves = lambda function, rows: torch.cat([function(part) for part in rows.chunk(2)])
    >>> circuit = Circuit(1, [Gate("RX", [0], [0])])
    >>> Distributed(Statevector(), halves).probs(circuit, torch.zeros(4, 1, dtype=torch.float64)).shape
    torch.Size([4, 2])
    """

    def __init__(self, backend: Backend, share: Share) -> None:
        if backend.capabilities.remote:
            raise ValueError(f"backend {backend.name!r} is a machine elsewhere; it is asked by one process alone")
        self.backend = backend
        self.share = share

    @property
    def name(self) -> str:
        """That of the inner backend."""
        return self.backend.name

    @property
    def capabilities(self) -> Capabilities:
        """Those of the inner backend."""
        return self.backend.capabilities

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Probabilities of the basis states, ``(..., 2**n_wires)``."""
        return self._shared(lambda rows: self.backend.probs(circuit, rows), check_angles(circuit, angles))

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Expectation values of Pauli strings, ``(..., n_observables)``."""
        angles = check_angles(circuit, angles)
        return self._shared(lambda rows: self.backend.expval(circuit, rows, observables), angles)

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Measured bits, ``(..., shots, n_wires)``, the same in every process if the generator is."""
        return self.backend.sample(circuit, angles, shots, generator)

    def _shared(self, function: Callable[[Tensor], Tensor], angles: Tensor) -> Tensor:
        drawn = any(isinstance(getattr(layer, "generator", None), torch.Generator) for layer in layers(self.backend))
        if drawn or not self.capabilities.exact or angles.ndim < 2:
            return function(angles)
        found = self.share(function, angles.flatten(0, -2))
        return found.reshape(*angles.shape[:-1], -1)
