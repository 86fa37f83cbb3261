r"""Style-based quantum generator (2110.06933): latent noise enters the angle of every gate.

Each feature has a qubit. Every angle of the circuit is an affine function of one of the latent numbers,

.. math:: \alpha_j = w_j z_{j \bmod L} + b_j, \qquad z \sim \mathcal N(0, 1)^L,

where the gates take the ``L`` latent numbers in turn, and the features are

.. math:: x_i = -\langle Z_{n - 1 - i} \rangle \in [-1, 1] .

A layer is RY and RZ on every qubit, qubit by qubit. After the second of every four layers qubit 0 controls an RY on
each other qubit; after the fourth, qubits 1, 2, ..., n - 1 control an RY on their neighbour, the last one on qubit 0.
The circuit ends with RY on every qubit. With three qubits this is the published circuit, of 34 parameters with two
layers and 62 with four; with one qubit there is nothing to control. How the entangling gates go on beyond three qubits
is ours.

The condition, which the publication does not have, adds :math:`\sum_k v_{jk} c_k` to each angle.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from circuits import Circuit, Gate
from circuits.angle_layers import angle_layers
from circuits.backends import Backend
from qgen.data.dataset import Dataset
from qgen.data.power import YeoJohnson
from qgen.data.transforms import Compose, MinMax, Transform
from qgen.models.latent_circuit import LatentCircuitGenerator
from qgen.random import derive_seed, new_generator, normal, symmetric

__all__ = ["StyleGenerator", "style_circuit"]


def style_circuit(n_wires: int, layers: int) -> Circuit:
    """The circuit of a style-based generator, every gate with an angle of its own.

    Args:
        n_wires: number of qubits, one for each feature.
        layers: of rotations.

    Raises:
        ValueError: fewer than one qubit or layer.

    >>> [style_circuit(3, layers).n_angles * 2 for layers in (2, 4)]
    [34, 62]
    >>> style_circuit(3, 4).counts
    {'RY': 15, 'RZ': 12, 'CRY': 4}
    """
    if n_wires < 1 or layers < 1:
        raise ValueError(f"n_wires is {n_wires}, layers is {layers}; at least 1 of each is needed")
    star = [(0, wire) for wire in range(1, n_wires)]
    ring = [(wire, (wire + 1) % n_wires) for wire in range(1, n_wires)]
    plan: list[tuple[str, tuple[int, ...]]] = []
    for layer in range(layers):
        plan += [(name, (wire,)) for wire in range(n_wires) for name in ("RY", "RZ")]
        plan += [("CRY", pair) for pair in {1: star, 3: ring}.get(layer % 4, [])]
    plan += [("RY", (wire,)) for wire in range(n_wires)]
    return Circuit(n_wires, [Gate(name, wires, [angle]) for angle, (name, wires) in enumerate(plan)])


class StyleGenerator(LatentCircuitGenerator):
    """A style-based quantum generator.

    It cannot leave the ranges that the outputs -1 and 1 stand for, those of the training events in
    :meth:`for_dataset`: there is nothing beyond the most extreme training event.

    Args:
        n_features: columns of a sample, at the same time the number of qubits.
        n_conditions: columns of a condition.
        layers: of the circuit.
        latent_size: how many latent numbers the gates take in turn.
        seed: fixes the initial weights, uniform within ``initial_range`` of zero.
        initial_range: in radians.
        backend: where the circuit runs; exact by default. It must be differentiable to train.
        transform: physical units to [-1, 1].
        condition_transform: physical units to order one.

    Raises:
        ValueError: a size below 1, or an ``initial_range`` that is not positive and finite.

    >>> model = StyleGenerator(3, layers=2, latent_size=5)
    >>> model.n_parameters, model.sample(4, generator=torch.Generator().manual_seed(0)).shape
    (34, torch.Size([4, 3]))
    """

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        layers: int = 2,
        latent_size: int = 5,
        seed: int = 0,
        initial_range: float = 0.15,
        backend: Backend | None = None,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        if latent_size < 1:
            raise ValueError(f"latent_size is {latent_size}; at least 1 is needed")
        if not 0 < initial_range < math.inf:
            raise ValueError(f"initial_range is {initial_range}; a positive, finite angle in radians is needed")
        circuit = style_circuit(n_features, layers)
        super().__init__(
            circuit,
            [f"Z{wire}" for wire in reversed(range(n_features))],
            n_features,
            n_conditions,
            backend=backend,
            transform=transform,
            condition_transform=condition_transform,
        )
        self.layers = layers
        self.latent_size = latent_size
        rng = new_generator(derive_seed(seed, "weights"))

        self.style = nn.Parameter(symmetric((circuit.n_angles, 2), initial_range, rng))
        """Slope and offset of each angle, ``(n_angles, 2)``: row by row, the order of the published parameters."""
        if n_conditions:
            self.condition_style = nn.Parameter(symmetric((circuit.n_angles, n_conditions), initial_range, rng))

    def weight_layers(self) -> dict[str, Tensor]:
        """The layer of every weight, by the parameter's name, as :func:`~circuits.angle_layers.angle_layers` has it."""
        layers = angle_layers(self.circuit)[:, None]
        return {name: layers.expand_as(weights) for name, weights in self.named_parameters()}

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        layers: Annotated[int, Ge(1), Le(1000)] = 2,
        latent_size: Annotated[int, Ge(1)] = 5,
        scaling: Literal["power", "limits"] = "power",
        initial_range: Annotated[float, Gt(0)] = 0.15,
    ) -> Self:
        """A generator with a qubit for each feature of these events.

        Args:
            dataset: its training events fix the scaling.
            seed: fixes the initial weights.
            layers: of the circuit.
            latent_size: how many latent numbers the gates take in turn.
            scaling: how features come to [-1, 1]. ``power``: the dataset's own transform, then a power transform, then
                linearly from the range of the training events, as published for events of top quarks (there without
                the first step). ``limits``: linearly from the features' limits, as published for the toy
                distributions.
            initial_range: as in the class.

        Raises:
            ValueError: an option is impossible for these events.
        """
        return cls(
            dataset.n_features,
            dataset.n_conditions,
            layers=layers,
            latent_size=latent_size,
            seed=seed,
            initial_range=initial_range,
            transform=_scaling(dataset, scaling),
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Columns and sizes; the backend and what fixed the initial weights are not part of a trained model."""
        return {
            "n_features": self.n_features,
            "n_conditions": self.n_conditions,
            "layers": self.layers,
            "latent_size": self.latent_size,
        }

    def latent(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers, ``(n, latent_size)``."""
        return normal((n, self.latent_size), generator, dtype=self.style.dtype, device=self.device)

    def angles(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """The circuit's angles in radians, ``(n, n_angles)``.

        Args:
            latent: ``(n, latent_size)``.
            condition: ``(n, n_conditions)`` in the condition transform's space.
        """
        slope, offset = self.style.unbind(1)
        turn = torch.arange(self.circuit.n_angles, device=latent.device) % self.latent_size
        angles = torch.addcmul(offset, latent[:, turn], slope)
        return angles if condition is None else angles + condition.to(angles) @ self.condition_style.T

    def read(self, expectations: Tensor) -> Tensor:
        """Minus the expectation values; one beyond [-1, 1], which error mitigation can give, counts as the bound."""
        return -expectations.clamp(-1, 1)


def _scaling(dataset: Dataset, scaling: str) -> Transform:
    if scaling == "limits":
        limits = [feature.limits for feature in dataset.features]
        for feature in dataset.features:
            if feature.limits is None:
                raise ValueError(f"scaling is 'limits', but {feature.name!r} has none; 'power' needs none")
        low, high = zip(*[pair for pair in limits if pair is not None], strict=True)
        return MinMax(list(low), list(high))
    if scaling != "power":
        raise ValueError(f"scaling is {scaling!r}; allowed are 'power' and 'limits'")
    train = dataset.train
    values = dataset.transform(train.samples, train.conditions)
    power = YeoJohnson.fit(values)
    return Compose([dataset.transform, power, MinMax.fit(power(values))])
