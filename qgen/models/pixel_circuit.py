r"""One qubit a pixel: latent numbers turn the qubits, a trainable circuit binds them, each is read as one intensity.

With latent numbers :math:`z`, uniform in :math:`[-1, 1)`, and conditions :math:`c`, layer :math:`l` of the circuit is

.. math:: U_l(z, c) = V_l(\theta_l) \prod_k R_k\bigl(s_{lk} z_k + \textstyle\sum_j u_{lkj} c_j\bigr) ,

:math:`V_l` the layer of a subclass and :math:`s`, :math:`u` trainable slopes in radians; an RY on every qubit closes
the circuit. Intensity :math:`I_i \in [0, 1]` of pixel :math:`i` follows from :math:`\langle Z_i \rangle`, and the
pixel's value is :math:`x_i = a_i + (b_i - a_i) I_i` between the ends of its range in the training events.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from circuits import Circuit, Gate
from circuits.angle_layers import angle_layers
from circuits.backends import Backend
from qgen.data import Dataset
from qgen.data.transforms import Transform
from qgen.models.latent_circuit import LatentCircuitGenerator
from qgen.random import derive_seed, new_generator, symmetric, uniform

__all__ = ["PixelCircuitGenerator"]


class PixelCircuitGenerator(LatentCircuitGenerator):
    """A generator with one qubit for each feature.

    A subclass gives the layer's circuit in :meth:`layer` and the intensity in :meth:`intensity`.

    Args:
        low: lower end of each feature's range, in the transform's space.
        high: upper end of each, above ``low``.
        n_conditions: columns of a condition, 0 for an unconditional model.
        layers: how many there are.
        latent_size: latent numbers of an event; as many as features if not given. Number ``k`` turns qubit
            ``k % n_features``: by an RY the first time round, an RX the second, and so on in turn.
        reupload: whether latent numbers and conditions enter before every layer, with slopes of their own, or before
            the first alone (1907.02085).
        initial_range: trainable angles start uniform within this of where they put the pixels half-way, in radians.
        backend: where the circuit runs; exact by default. It must be differentiable to train.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: ranges that are not finite and increasing, a size below 1, or an ``initial_range`` that is not
            positive and finite.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        n_conditions: int = 0,
        *,
        layers: int = 2,
        latent_size: int | None = None,
        reupload: bool = True,
        initial_range: float = 0.3,
        backend: Backend | None = None,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        n = len(low)
        if len(high) != n:
            raise ValueError(f"low has {n} values, high has {len(high)}; one of each is needed for a feature")
        for i, (a, b) in enumerate(zip(low, high, strict=True)):
            if not -math.inf < a < b < math.inf:
                raise ValueError(f"range of feature {i} is {a} to {b}; it must be finite and increasing")
        latent_size = n if latent_size is None else latent_size
        if layers < 1 or latent_size < 1:
            raise ValueError(f"layers is {layers}, latent_size is {latent_size}; both must be at least 1")
        if not 0 < initial_range < math.inf:
            raise ValueError(f"initial_range is {initial_range}; a positive, finite angle in radians is needed")
        circuit, self._n_weights = _assemble(
            self.layer(n), layers, latent_size, layers if reupload else 1, n_conditions > 0
        )
        super().__init__(
            circuit,
            [f"Z{wire}" for wire in range(n)],
            n,
            n_conditions,
            backend=backend,
            transform=transform,
            condition_transform=condition_transform,
        )
        self.layers, self.latent_size, self.reupload = layers, latent_size, reupload
        self.register_buffer("low", torch.tensor(low, dtype=torch.float64))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float64))
        uploads = layers if reupload else 1
        rng = new_generator(derive_seed(seed, "weights"))
        weights = symmetric((self._n_weights,), initial_range, rng)
        weights[-n:] += math.pi / 2
        self.weights = nn.Parameter(weights)
        self.latent_slopes = nn.Parameter(_START_SLOPE / uploads + symmetric((uploads, latent_size), 0.1, rng))
        if n_conditions:
            self.condition_slopes = nn.Parameter(symmetric((uploads, n, n_conditions), 0.1, rng))

    def weight_layers(self) -> dict[str, Tensor]:
        """The layer of every weight, by the parameter's name.

        The rotations at the end, which start at a right angle, count for the first layer; an upload is of its layer.
        """
        weights = angle_layers(self.circuit)[: self._n_weights]
        weights[-self.n_features :] = 0
        found = {"weights": weights}
        for name, slopes in self.named_parameters():
            if name != "weights":
                found[name] = torch.arange(len(slopes)).reshape(-1, *[1] * (slopes.ndim - 1)).expand_as(slopes)
        return found

    @staticmethod
    def layer(n_wires: int) -> Circuit:
        """One layer, all of whose angles are trainable."""
        raise NotImplementedError

    def intensity(self, expectations: Tensor) -> Tensor:
        """Expectation values of Z to intensities in ``[0, 1]``, shape kept; 1 gives 0 and -1 gives 1."""
        raise NotImplementedError

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        layers: Annotated[int, Ge(1), Le(1000)] = 2,
        latent_size: Annotated[int, Ge(1)] | None = None,
        reupload: bool = True,
        tails: Annotated[float, Ge(0), Lt(0.5)] = 0.001,
        initial_range: Annotated[float, Gt(0)] = 0.3,
    ) -> Self:
        """A fresh model for these events.

        Args:
            dataset: its training events fix the features' ranges.
            seed: fixes the initial weights.
            layers: of the circuit.
            latent_size: latent numbers of an event; as many as features if not given.
            reupload: whether latent numbers and conditions enter before every layer or before the first alone.
            tails: share of the training values beyond the range on either side, where the model generates none.
            initial_range: trainable angles start uniform within this of where they put the pixels half-way, radians.
        """
        train = dataset.train
        low, high = _ranges(dataset.transform(train.samples, train.conditions), tails)
        return cls(
            low,
            high,
            dataset.n_conditions,
            layers=layers,
            latent_size=latent_size,
            reupload=reupload,
            initial_range=initial_range,
            seed=seed,
            transform=dataset.transform,
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Ranges and sizes; the backend, the seed and the start are not part of a trained model."""
        return {
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "n_conditions": self.n_conditions,
            "layers": self.layers,
            "latent_size": self.latent_size,
            "reupload": self.reupload,
        }

    def latent(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform in ``[-1, 1)``, ``(n, latent_size)``."""
        return 2 * uniform((n, self.latent_size), generator, dtype=self.weights.dtype, device=self.device) - 1

    def angles(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Trainable angles, the same for all events, then the encoding angles, ``(n, n_angles)`` in radians."""
        inputs = latent[:, None, :] * self.latent_slopes
        if condition is not None:
            turns = torch.einsum("nj,ukj->nuk", condition.to(self.condition_slopes), self.condition_slopes)
            width = max(inputs.shape[2], turns.shape[2])
            inputs = _padded(inputs, width) + _padded(turns, width)
        return torch.cat([self.weights.expand(len(latent), -1), inputs.flatten(1)], dim=1)

    def read(self, expectations: Tensor) -> Tensor:
        """Each pixel's value within its range."""
        return torch.lerp(self.low, self.high, self.intensity(expectations.to(self.low)))


_START_SLOPE = 0.8
"""Radians by which a latent number of 1 turns its qubit in all uploads together before training."""


def _assemble(layer: Circuit, layers: int, latent_size: int, uploads: int, conditional: bool) -> tuple[Circuit, int]:
    """The whole circuit and how many of its angles, the first ones, are trained directly."""
    n = layer.n_wires
    n_weights = layers * layer.n_angles + n
    n_inputs = max(latent_size, n) if conditional else latent_size
    gates: list[Gate] = []
    for number in range(layers):
        if number < uploads:
            first = n_weights + number * n_inputs
            gates += [Gate(("RY", "RX")[k // n % 2], [k % n], [first + k]) for k in range(n_inputs)]
        places = range(number * layer.n_angles, (number + 1) * layer.n_angles)
        gates += layer.remap(angles=places, n_wires=n).gates
    gates += [Gate("RY", [wire], [n_weights - n + wire]) for wire in range(n)]
    return Circuit(n, gates, n_weights + uploads * n_inputs), n_weights


def _ranges(values: Tensor, tails: float) -> tuple[list[float], list[float]]:
    """Ends of each column's range; a constant ``c`` gets ``c - 1`` to ``c + 1``."""
    ordered = values.sort(0).values
    cut = int(tails * len(values))
    low, high = ordered[cut], ordered[len(values) - 1 - cut]
    constant = (high <= low).to(values)
    return (low - constant).tolist(), (high + constant).tolist()


def _padded(values: Tensor, width: int) -> Tensor:
    return nn.functional.pad(values, (0, width - values.shape[-1]))
