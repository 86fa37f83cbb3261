r"""A circuit that tells real events from generated ones: the opponent in the fully quantum GAN (2305.07284).

Each feature has a qubit. A layer turns qubit :math:`i` by an RY of :math:`s_{li} x_i + \sum_j u_{lij} c_j`, with
trainable slopes in radians, and then runs MERA from fine to coarse, the inverse of :func:`circuits.ansatz.mera_up`,
which gathers all qubits in the first (1804.03680). The score is one expectation value, scaled to a logit,

.. math:: s(x, c) = a \, \langle Z_0 \rangle + b .

Gates that the expectation value does not see are left out. What is published: 8 qubits for 8 pixels and angle
encoding. What is ours: the layers, repeated encoding (1907.02085), conditions, and the trainable :math:`a` and
:math:`b`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from circuits import Circuit, Gate, ansatz
from circuits.backends import Backend, Distributed, Statevector, make_backend, reseed
from circuits.backends.distributed import Share
from qgen.random import derive_seed, new_generator, symmetric
from qgen.training.discriminators import Discriminator

__all__ = ["QuantumDiscriminator"]

START_SLOPE = 0.6
"""Radians by which a feature of 1 turns its qubit in all layers together before training."""

START_SCALE = 2.0


class QuantumDiscriminator(Discriminator):
    """An expectation value of a circuit as the score of an event.

    Args:
        n_features: columns of an event.
        n_conditions: columns of a condition, 0 for none.
        qubits: one for each feature, or more; as many as features if not given. Those beyond see conditions only.
        layers: how often the event is encoded.
        seed: fixes the initial weights.
        backend: where the circuit runs; exact by default. It must be differentiable, twice for ``wasserstein-gp``.
            What it draws follows from the seed and the number of calls so far, which is part of the state.

    Raises:
        ValueError: fewer qubits than features, or a size below 1.

    >>> judge = QuantumDiscriminator(8, layers=2)
    >>> judge(torch.zeros(5, 8), None).shape, sum(p.numel() for p in judge.parameters())
    (torch.Size([5]), 55)
    """

    calls: Tensor

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        qubits: int | None = None,
        layers: int = 2,
        seed: int = 0,
        backend: Backend | None = None,
    ) -> None:
        super().__init__()
        qubits = n_features if qubits is None else qubits
        if n_features < 1 or layers < 1:
            raise ValueError(f"n_features is {n_features}, layers is {layers}; both must be at least 1")
        if qubits < n_features:
            raise ValueError(
                f"a quantum discriminator of {qubits} qubits cannot take {n_features} features; each needs a qubit"
            )
        self.n_features = n_features
        self.seed = seed
        self.backend = backend
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        encoded = qubits if n_conditions else n_features
        self.circuit, n_weights = _assemble(qubits, encoded, layers)
        rng = new_generator(derive_seed(seed, "weights"))
        self.weights = nn.Parameter(symmetric((n_weights,), math.pi / 2, rng))
        self.slopes = nn.Parameter(START_SLOPE / layers + symmetric((layers, n_features), 0.1, rng))
        if n_conditions:
            self.condition_slopes = nn.Parameter(symmetric((layers, encoded, n_conditions), 0.1, rng))
        self.scale = nn.Parameter(torch.tensor(START_SCALE, dtype=torch.float64))
        self.offset = nn.Parameter(torch.zeros((), dtype=torch.float64))

    @classmethod
    def for_events(
        cls,
        n_features: int,
        n_conditions: int,
        *,
        seed: int = 0,
        qubits: Annotated[int, Ge(1)] | None = None,
        layers: Annotated[int, Ge(1), Le(1000)] = 2,
        backend: Mapping[str, Any] | str | None = None,
    ) -> Self:
        """A fresh circuit.

        Args:
            n_features: columns of an event.
            n_conditions: columns of a condition.
            seed: fixes the initial weights, and the draws of a backend with shots.
            qubits: at least one for each feature; as many as features if not given.
            layers: how often the event is encoded.
            backend: where the circuit runs, as under ``backend`` of a model; exact if not given.

        Raises:
            ValueError: fewer qubits than features, or an impossible backend; the key is named.
        """
        made = None
        if backend is not None:
            options = {"kind": backend} if isinstance(backend, str) else dict(backend)
            if "kind" not in options:
                raise ValueError("backend.kind: missing; a backend needs a kind")
            made = make_backend(**options, seed=derive_seed(seed, "backend") % 2**31)
        return cls(n_features, n_conditions, qubits=qubits, layers=layers, seed=seed, backend=made)

    @contextmanager
    def rows_shared(self, share: Share) -> Iterator[None]:
        """Let the rows of every batch of circuits be shared out, see :class:`~circuits.backends.Distributed`."""
        own = self.backend
        self.backend = Distributed(own if own is not None else Statevector(device=self.weights.device), share)
        try:
            yield
        finally:
            self.backend = own

    def angles(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """The circuit's angles, ``(N, n_angles)`` in radians: trainable ones, then the encoding ones by layer."""
        inputs = values.to(self.slopes)[:, None, :] * self.slopes
        if condition is not None:
            turns = torch.einsum("nj,lkj->nlk", condition.to(self.slopes), self.condition_slopes)
            inputs = nn.functional.pad(inputs, (0, turns.shape[2] - self.n_features)) + turns
        return torch.cat([self.weights.expand(len(values), -1), inputs.flatten(1)], dim=1)

    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        """The score of each event, ``(N, n_features) -> (N,)``."""
        backend = self.backend if self.backend is not None else Statevector(device=self.weights.device)
        reseed(backend, new_generator(derive_seed(self.seed, "draws", int(self.calls))))
        self.calls += 1
        seen = backend.expval(self.circuit, self.angles(values, condition), ["Z0"])[:, 0]
        return self.scale * seen.to(self.scale) + self.offset


def _assemble(qubits: int, encoded: int, layers: int) -> tuple[Circuit, int]:
    """The circuit as far as Z on the first wire sees it, and how many of its angles, the first ones, are weights."""
    layer = ansatz.mera_up(qubits).inverse()
    gates: list[Gate] = []
    for number in range(layers):
        first = layers * layer.n_angles + number * encoded
        gates += [Gate("RY", [wire], [first + wire]) for wire in range(encoded)]
        places = range(number * layer.n_angles, (number + 1) * layer.n_angles)
        gates += layer.remap(angles=places, n_wires=qubits).gates
    seen, cone = [], {0}
    for gate in reversed(gates):
        if cone & set(gate.wires):
            cone |= set(gate.wires)
            seen.append(gate)
    used = {angle.index for gate in seen for angle in gate.angles if angle.index is not None}
    kept = [index for index in range(layers * layer.n_angles) if index in used]
    place = {index: number for number, index in enumerate(kept)}
    inputs = range(layers * layer.n_angles, layers * (layer.n_angles + encoded))
    place |= {index: len(kept) + number for number, index in enumerate(inputs)}
    angles = [place.get(index, 0) for index in range(layers * (layer.n_angles + encoded))]
    circuit = Circuit(qubits, reversed(seen), layers * (layer.n_angles + encoded))
    return circuit.remap(angles=angles, n_wires=qubits, n_angles=len(place)), len(kept)
