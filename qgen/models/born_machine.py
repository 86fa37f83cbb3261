r"""Quantum circuit Born machines, joint and conditional.

A circuit :math:`U(\theta)` on as many qubits as an event has bits defines, by Born's rule, the distribution

.. math:: p_\theta(b) = |\langle b | U(\theta) | 0 \rangle|^2

over bit strings :math:`b` (1804.04168). A :class:`~qgen.data.Discretiser` reads a bit string as one cell for each
feature. A conditional machine :math:`p_\theta(b | c)` (2205.07674) takes the condition :math:`c` through encoding
gates whose angles are :math:`r s_k c` with trainable :math:`s_k`, uploaded again in every layer (1907.02085). The
probabilities are a Fourier series in :math:`c` whose frequencies are sums of the :math:`r s_k` (2008.08605): with a
small rate :math:`r` they start smooth in the condition and stay so between the trained ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from circuits import Circuit, Gate
from circuits.angle_layers import angle_layers
from circuits.ansatz import cascade, data_reuploading, hardware_efficient, identity_blocks
from circuits.backends import Backend
from circuits.initialisation import identity
from qgen.data import Dataset, Discretiser
from qgen.data.gaussianise import Gaussianise, NormalCDF
from qgen.data.transforms import Compose, Transform
from qgen.generator import DiscreteGenerator
from qgen.models.deployed import MeasuredOnce
from qgen.random import derive_seed, new_generator, symmetric

__all__ = ["BornMachine"]


class BornMachine(MeasuredOnce, DiscreteGenerator):
    """A Born machine over the cells of a discretiser.

    Args:
        circuit: on as many wires as the discretiser has bits. The last ``len(encodes)`` entries of its angle vector
            are encoding angles, those before are trained directly.
        discretiser: bits to cells, in the transform's space.
        n_conditions: columns of a condition.
        encodes: for each encoding angle, the column of the condition that it is proportional to. The factor is
            ``encoding_rate`` times a trained number that starts near 1.
        encoding_rate: in radians per unit of the condition transform's space.
        backend: where the circuit runs, for training, sampling and density alike; an exact
            :class:`~circuits.backends.Statevector` on the weights' device by default. It must be differentiable to
            train. Its random draws follow from the generators that the methods are given. It is not saved with the
            model.
        seed: fixes the initial weights, uniform within ``initial_range`` of zero.
        initial_range: in radians.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: the circuit's wires, angles and encodings do not fit the discretiser and the conditions, or an
            ``initial_range`` or an ``encoding_rate`` that is not positive and finite.

    >>> events = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> machine = BornMachine(hardware_efficient(4, 2), Discretiser.fit(events, bits=2))
    >>> machine.sample(5, generator=torch.Generator().manual_seed(1)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        circuit: Circuit,
        discretiser: Discretiser,
        *,
        n_conditions: int = 0,
        encodes: Sequence[int] = (),
        encoding_rate: float = 1.0,
        backend: Backend | None = None,
        seed: int = 0,
        initial_range: float = math.pi,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(discretiser, n_conditions, transform, condition_transform)
        if circuit.n_wires != discretiser.n_bits:
            raise ValueError(f"the circuit has {circuit.n_wires} wires, the discretiser {discretiser.n_bits} bits")
        if len(encodes) >= circuit.n_angles:
            raise ValueError(f"{len(encodes)} of {circuit.n_angles} angles are for encoding; at least one must be left")
        if not all(0 <= column < n_conditions for column in encodes):
            raise ValueError(f"encodes is {list(encodes)}; columns of the condition are 0 to {n_conditions - 1}")
        if not 0 < initial_range < math.inf:
            raise ValueError(f"initial_range is {initial_range}; a positive, finite angle in radians is needed")
        if not 0 < encoding_rate < math.inf:
            raise ValueError(f"encoding_rate is {encoding_rate}; a positive, finite number of radians is needed")
        self.circuit = circuit
        self.encodes = list(encodes)
        self.encoding_rate = encoding_rate
        self.uses_condition = bool(self.encodes)
        self._backend = backend
        rng = new_generator(derive_seed(seed, "weights"))
        self.weights = nn.Parameter(symmetric((circuit.n_angles - len(self.encodes),), initial_range, rng))
        if self.encodes:
            self.scales = nn.Parameter(1 + symmetric((len(self.encodes),), 0.1, rng))

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        bits: Annotated[int, Ge(1)] | Sequence[Annotated[int, Ge(1)]] = 2,
        edges: Literal["quantile", "linear"] = "linear",
        tails: Annotated[float, Ge(0), Lt(0.5)] = 0.005,
        code: Literal["binary", "gray"] = "binary",
        order: Literal["by-feature", "interleaved", "snake"] = "by-feature",
        frame: Literal["features", "gaussian"] = "features",
        ansatz: Literal["hardware_efficient", "cascade", "identity_blocks"] = "hardware_efficient",
        layers: Annotated[int, Ge(1), Le(1000)] = 4,
        degree: Annotated[int, Ge(1)] = 2,
        rotations: Sequence[Literal["RX", "RY", "RZ"]] = ("RY", "RZ"),
        entangler: Literal["CNOT", "CZ"] = "CNOT",
        topology: Literal["linear", "ring", "all-to-all"] = "ring",
        conditional: bool = True,
        encoding_rate: Annotated[float, Gt(0)] = 0.1,
        start: Literal["zero", "plus"] = "zero",
        initial_range: Annotated[float, Gt(0)] = math.pi,
    ) -> Self:
        """A machine on a hardware-efficient circuit or a cascade for these events.

        With four bits a feature ``ansatz="cascade", layers=2, order="snake", start="plus", initial_range=0.01``
        learns much more than the defaults with as many parameters.

        Args:
            dataset: its training events fix the cells.
            seed: fixes the initial weights.
            bits: qubits of every feature, or of each.
            edges: cells of equal probability or of equal width.
            tails: share of the training values beyond the outer edges on either side, see ``Discretiser.fit``.
            code: how a feature's cells are written in bits.
            order: which bit of which feature each qubit holds, see :class:`~qgen.data.Discretiser`.
            frame: ``gaussian`` cuts the directions of :class:`~qgen.data.Gaussianise` into cells of equal normal
                probability, the strongest direction first; ``edges`` and ``tails`` then have no effect. The
                uniform superposition is a Gaussian copula, and the circuit learns what that misses.
            ansatz: :func:`~circuits.ansatz.hardware_efficient`, or with a condition
                :func:`~circuits.ansatz.data_reuploading`; or :func:`~circuits.ansatz.cascade`; or
                :func:`~circuits.ansatz.identity_blocks`, which starts as the identity however large
                ``initial_range`` is, with RX by the conditions before every block.
            layers: of the circuit; blocks of ``identity_blocks``, each of two entangling layers.
            degree: of the cascade.
            rotations: gates of a layer on every qubit, but of the cascade's.
            entangler: two-qubit gate of a layer, likewise.
            topology: which pairs it joins.
            conditional: whether the dataset's conditions enter the circuit. If not, they still enter through the
                transform (energies as fractions of the incident one, say).
            encoding_rate: as in the class. Small, the machine varies slowly with the condition and interpolates
                between the trained ones; with 1 it is wrong between them.
            start: state before the circuit: all qubits in 0, or by H gates the superposition of all cells. With
                small angles the cascade then starts from the uniform distribution; so do CNOTs, which leave it alone.
            initial_range: as in the class.

        Raises:
            ValueError: an option is impossible for these events.
        """
        train = dataset.train
        transform = dataset.transform
        values = transform(train.samples, train.conditions)
        if frame == "gaussian":
            transform = Compose([transform, Gaussianise.fit(values, train.conditions), NormalCDF()])
            corners = torch.tensor([[0.0], [1.0]]).expand(2, dataset.n_features)
            discretiser = Discretiser.fit(corners, bits, "linear", code=code, order=order)
        else:
            discretiser = Discretiser.fit(values, bits, edges, tails, code, order)
        n, inputs = discretiser.n_bits, dataset.n_conditions if conditional else 0
        if ansatz == "cascade":
            circuit = cascade(n, layers, degree, inputs)
        elif ansatz == "identity_blocks":
            blocks = identity_blocks(n, layers, rotations=rotations, entangler=entangler, topology=topology)
            circuit = _encoded_before_blocks(blocks, layers, inputs)
        elif inputs:
            circuit = data_reuploading(n, layers, inputs, rotations, entangler=entangler, topology=topology)
        else:
            circuit = hardware_efficient(n, layers, rotations, entangler, topology, final_rotations=True)
        circuit, encodes = _untied(circuit, inputs)
        if start == "plus":
            circuit = Circuit(n, [*(Gate("H", wire) for wire in range(n)), *circuit.gates], circuit.n_angles)
        made = cls(
            circuit,
            discretiser,
            n_conditions=dataset.n_conditions,
            encodes=encodes,
            encoding_rate=encoding_rate,
            seed=seed,
            initial_range=initial_range,
            transform=transform,
            condition_transform=dataset.condition_transform,
        )
        if ansatz == "identity_blocks":
            rng = new_generator(derive_seed(seed, "weights"))
            with torch.no_grad():
                made.weights.copy_(identity(blocks, initial_range, generator=rng))
        return made

    def arguments(self) -> dict[str, Any]:
        """Circuit, discretiser and numbers; the backend and the seed are not part of a trained model."""
        return {
            "circuit": self.circuit.to_json(),
            "discretiser": self.discretiser.spec(),
            "n_conditions": self.n_conditions,
            "encodes": self.encodes,
            "encoding_rate": self.encoding_rate,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any], transform: Transform, condition_transform: Transform) -> Self:
        """The machine with these arguments, its weights fresh, on the default backend."""
        rest = dict(arguments)
        return cls(
            Circuit.from_json(rest.pop("circuit")),
            Discretiser.from_spec(rest.pop("discretiser")),
            **rest,
            transform=transform,
            condition_transform=condition_transform,
        )

    def angles(self, condition: Tensor | None = None) -> Tensor:
        """The circuit's angles in radians, ``(m, n_angles)``; ``m`` is 1 without a condition.

        Args:
            condition: ``(m, n_conditions)`` in the condition transform's space.
        """
        if not self.uses_condition or condition is None:
            return self.weights[None]
        inputs = condition.to(self.scales)[:, self.encodes] * (self.encoding_rate * self.scales)
        return torch.cat([self.weights.expand(len(condition), -1), inputs], dim=1)

    def measured(self, condition: Tensor | None = None) -> tuple[Circuit, Tensor]:
        """What is measured for an event: the circuit and its angles, see :meth:`angles`."""
        return self.circuit, self.angles(condition)

    def weight_layers(self) -> dict[str, Tensor]:
        """The layer of every weight, by the parameter's name, as :func:`~circuits.angle_layers.angle_layers` has it."""
        layers = angle_layers(self.circuit)
        n_weights = len(self.weights)
        return {"weights": layers[:n_weights], **({"scales": layers[n_weights:]} if self.encodes else {})}

    def probabilities(self, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Probability of each cell, ``(m, n_cells)``, as the backend gives it and as differentiable as the backend."""
        found = self._seeded(generator).probs(self.circuit, self.angles(condition))
        return self.discretiser.by_cell(found.to(self.weights.device))

    def _sample_cells(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        row, distinct = self.distinct_conditions(condition, n)
        states = self._measure(
            self.circuit, lambda some: self.angles(None if distinct is None else distinct[some]), row, generator
        )
        return self.discretiser.from_states(states)


def _encoded_before_blocks(blocks: Circuit, n_blocks: int, n_inputs: int) -> Circuit:
    """The circuit with RX by each input on every wire before each of its blocks; the inputs stand last."""
    size = len(blocks.gates) // n_blocks
    inputs = range(blocks.n_angles, blocks.n_angles + n_inputs)
    encoding = [Gate("RX", wire, [number]) for number in inputs for wire in range(blocks.n_wires)]
    gates = [gate for k in range(n_blocks) for gate in (*encoding, *blocks.gates[k * size : (k + 1) * size])]
    return Circuit(blocks.n_wires, gates, blocks.n_angles + n_inputs)


def _untied(circuit: Circuit, n_inputs: int) -> tuple[Circuit, list[int]]:
    """The circuit with an entry of its own in the angle vector for every encoding gate, and the input of each."""
    n_weights = circuit.n_angles - n_inputs
    gates, encodes = [], []
    for gate in circuit.gates:
        angles = []
        for angle in gate.angles:
            if angle.index is not None and angle.index >= n_weights:
                encodes.append(angle.index - n_weights)
                angle = replace(angle, index=n_weights + len(encodes) - 1)
            angles.append(angle)
        gates.append(replace(gate, angles=tuple(angles)))
    return Circuit(circuit.n_wires, gates, n_weights + len(encodes)), encodes
