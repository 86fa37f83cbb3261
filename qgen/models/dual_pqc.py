r"""The dual-PQC model: one circuit gives a distribution over images, a second one the images (2103.15470, 2205.15003).

PQC1 on :math:`n_1` qubits gives the probability of each of :math:`2^{n_1}` images, PQC2 on :math:`n_2 + a` qubits, of
which the last :math:`a` are ancillas, the normalised intensities of each on :math:`2^{n_2}` pixels:

.. math:: p_i = |\langle i | U_1(\theta_1) | 0 \rangle|^2, \qquad
          I_i(j) = \sum_k |\langle j, k | U_2(\theta_2) | i, 0 \rangle|^2 .

The basis state :math:`i` enters PQC2 on its first :math:`n_1` wires, as rotations RX by 0 or :math:`\pi`. The set of
images with their probabilities is what is trained on. Since :math:`U_2` is unitary,

.. math:: \sum_i I_i(j) \le 2^a \quad \text{for every pixel } j :

without ancillas, images that all have energy in the same pixel are out of reach; with :math:`a = n_1` nothing is.

Ours, beyond the papers: images can start near means of the training events; the total energy is restored by an
:class:`~qgen.models.energy_scale.EnergyScale`; numbers :math:`z`, uniform in :math:`[-1, 1]`, and the condition can
enter the angles of every layer with trainable factors, so that there are more than :math:`2^{n_1}` images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from circuits import Circuit
from circuits.angle_layers import angle_layers
from circuits.backends import Backend
from qgen.data import Dataset
from qgen.data.clusters import strata
from qgen.data.transforms import Transform
from qgen.generator import Generator, WeightedEvents
from qgen.models.dual_pqc_circuit import dual_pqc_circuit, with_input_state
from qgen.models.energy_scale import EnergyScale
from qgen.models.on_backend import OnBackend
from qgen.random import derive_seed, new_generator, symmetric, uniform

__all__ = ["DualPQC", "dual_pqc_circuit"]

EVENTS_AT_ONCE = 2**12
"""Events up to which an objective is given every image under every condition; kernels grow with their square."""

LEAST_SHARE = 1e-12
"""Share of the total that an empty pixel has where the transform takes the logarithm of it."""

START_STEPS = 100
START_RATE = 0.05
"""Of Adam, which brings the images near the strata before training; in radians."""

Rotation = Literal["RX", "RY", "RZ"]


class DualPQC(OnBackend, Generator):
    """A distribution over images and the images, each from a circuit of its own.

    Args:
        pqc1: on ``n_1`` wires. The last ``len(uploads1)`` entries of its angle vector are uploads, those before are
            trained directly.
        pqc2: on ``n_2`` wires and ancillas after them; its uploads likewise.
        n_features: pixels of an image, a power of two.
        n_conditions: columns of a condition.
        latent_size: latent numbers of an event.
        uploads1: for each upload of ``pqc1`` the column of the condition that it is proportional to; the factor, in
            radians, is trained and starts near 1.
        uploads2: the same for ``pqc2``; the latent numbers count on after the columns of the condition.
        backend: where both circuits run; exact by default. It must be differentiable to train.
        seed: fixes the initial weights, uniform within ``initial_range`` of zero.
        initial_range: in radians.
        transform: energies to order one. It must be finite for all positive energies.
        condition_transform: the same for conditions.

    Raises:
        ValueError: pixels, wires, angles and uploads do not fit.

    >>> model = DualPQC(dual_pqc_circuit(1, 1)[0], dual_pqc_circuit(3, 2)[0], n_features=4)
    >>> model.images().shape, model.image_probabilities().shape
    (torch.Size([2, 4]), torch.Size([2]))
    >>> model.sample(5, generator=torch.Generator().manual_seed(1)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        pqc1: Circuit,
        pqc2: Circuit,
        n_features: int,
        n_conditions: int = 0,
        *,
        latent_size: int = 0,
        uploads1: Sequence[int] = (),
        uploads2: Sequence[int] = (),
        backend: Backend | None = None,
        seed: int = 0,
        initial_range: float = 0.5,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        pixel_qubits = _qubits(n_features)
        if pqc2.n_wires < pixel_qubits:
            raise ValueError(f"pqc2 has {pqc2.n_wires} wires; {n_features} pixels need {pixel_qubits}")
        if pqc1.n_wires > pqc2.n_wires:
            raise ValueError(
                f"pqc1 tells {2**pqc1.n_wires} images apart, more than the {2**pqc2.n_wires} states that pqc2 on "
                f"{pqc2.n_wires} wires takes in"
            )
        if latent_size < 0:
            raise ValueError(f"latent_size is {latent_size}; it must not be negative")
        for name, circuit, uploads, n_inputs in (
            ("1", pqc1, uploads1, n_conditions),
            ("2", pqc2, uploads2, n_conditions + latent_size),
        ):
            if len(uploads) >= circuit.n_angles:
                raise ValueError(
                    f"{len(uploads)} of {circuit.n_angles} angles of pqc{name} are uploads; at least one must be left"
                )
            if not all(0 <= column < n_inputs for column in uploads):
                raise ValueError(f"uploads{name} is {list(uploads)}; inputs are numbered from 0 to {n_inputs - 1}")
        if not 0 < initial_range < math.inf:
            raise ValueError(f"initial_range is {initial_range}; a positive, finite angle in radians is needed")
        self.pqc1, self.pqc2 = pqc1, pqc2
        self.latent_size = latent_size
        self.uploads1, self.uploads2 = list(uploads1), list(uploads2)
        self._backend = backend
        self._painter = with_input_state(pqc2, pqc1.n_wires)
        rng = new_generator(derive_seed(seed, "weights"))
        self.weights1 = nn.Parameter(symmetric((pqc1.n_angles - len(uploads1),), initial_range, rng))
        self.weights2 = nn.Parameter(symmetric((pqc2.n_angles - len(uploads2),), initial_range, rng))
        if self.uploads1:
            self.factors1 = nn.Parameter(1 + symmetric((len(uploads1),), 0.1, rng))
        if self.uploads2:
            self.factors2 = nn.Parameter(1 + symmetric((len(uploads2),), 0.1, rng))
        self.energy_scale = EnergyScale(n_conditions)

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        n_images: Annotated[int, Ge(2)] = 4,
        ancillas: Annotated[int, Ge(0)] | None = None,
        pqc1_layers: Annotated[int, Ge(1), Le(1000)] = 2,
        pqc2_layers: Annotated[int, Ge(1), Le(1000)] = 6,
        rotations: Sequence[Rotation] = ("RY", "RZ"),
        entangler: Literal["CNOT", "CZ"] = "CNOT",
        latent_size: Annotated[int, Ge(0)] = 0,
        conditional: bool = True,
        initial_range: Annotated[float, Gt(0)] = 0.5,
        start: Literal["random", "strata"] = "random",
    ) -> Self:
        """A model on hardware-efficient circuits for these events.

        Args:
            dataset: its training events fix the scale of the total energy.
            seed: fixes the initial weights.
            n_images: images that PQC1 chooses from, a power of two.
            ancillas: qubits of PQC2 that are not read; by default as many as tell the images apart, so that any set of
                images is possible.
            pqc1_layers: layers of rotations and entanglers of PQC1.
            pqc2_layers: the same of PQC2.
            rotations: gates of a layer on every qubit.
            entangler: two-qubit gate, on a ring.
            latent_size: numbers, uniform in [-1, 1], that enter every layer of PQC2; 0 for the fixed set of images.
            conditional: whether the dataset's conditions enter every layer of both circuits. If not, they enter through
                the total energy only.
            initial_range: as in the class.
            start: ``random`` leaves the weights as drawn. ``strata`` then brings the images, at latent 0 and the centre
                of the conditions, near the mean images of strata of the training events
                (:func:`~qgen.data.clusters.strata`), nearly equally probable: a fixed set of images finds more kinds
                of events from there.

        Raises:
            ValueError: the features are no images, or an option is impossible for them.
        """
        train = dataset.train
        _check_images(dataset)
        n1 = math.log2(n_images)
        if not n1.is_integer():
            raise ValueError(f"n_images is {n_images}; a power of two is needed")
        pixel_qubits = _qubits(dataset.n_features)
        ancillas = int(n1) if ancillas is None else ancillas
        n_wires = pixel_qubits + ancillas
        if n1 > n_wires:
            raise ValueError(
                f"n_images is {n_images}; PQC2 on {pixel_qubits} qubits for pixels and {ancillas} ancillas takes in at "
                f"most {2**n_wires}"
            )
        n_inputs = dataset.n_conditions if conditional else 0
        pqc1, uploads1 = dual_pqc_circuit(int(n1), pqc1_layers, range(n_inputs), rotations, entangler)
        inputs = [*range(n_inputs), *range(dataset.n_conditions, dataset.n_conditions + latent_size)]
        pqc2, uploads2 = dual_pqc_circuit(n_wires, pqc2_layers, inputs, rotations, entangler, pixel_qubits)
        made = cls(
            pqc1,
            pqc2,
            dataset.n_features,
            dataset.n_conditions,
            latent_size=latent_size,
            uploads1=uploads1,
            uploads2=uploads2,
            seed=seed,
            initial_range=initial_range,
            transform=dataset.transform,
            condition_transform=dataset.condition_transform,
        )
        condition = dataset.condition_transform(train.conditions) if dataset.n_conditions else None
        made.energy_scale = EnergyScale.fit(train.samples.sum(1), condition)
        if start == "strata":
            made._start_at(strata(train.samples, made.n_images))
        return made

    def arguments(self) -> dict[str, Any]:
        """Circuits and numbers; the backend and the seed are not part of a trained model."""
        return {
            "pqc1": self.pqc1.to_json(),
            "pqc2": self.pqc2.to_json(),
            "n_features": self.n_features,
            "n_conditions": self.n_conditions,
            "latent_size": self.latent_size,
            "uploads1": self.uploads1,
            "uploads2": self.uploads2,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any], transform: Transform, condition_transform: Transform) -> Self:
        """The model with these arguments, its weights fresh, on the default backend."""
        rest = dict(arguments)
        return cls(
            Circuit.from_json(rest.pop("pqc1")),
            Circuit.from_json(rest.pop("pqc2")),
            **rest,
            transform=transform,
            condition_transform=condition_transform,
        )

    def weight_layers(self) -> dict[str, Tensor]:
        """The layer of every weight, by the parameter's name, as :func:`~circuits.angle_layers.angle_layers` has it.

        Both circuits grow from their first layer; the scale of the total energy trains from the start.
        """
        found = {}
        for number, circuit, uploads in (("1", self.pqc1, self.uploads1), ("2", self.pqc2, self.uploads2)):
            layers = angle_layers(circuit)
            n_weights = circuit.n_angles - len(uploads)
            found[f"weights{number}"] = layers[:n_weights]
            if uploads:
                found[f"factors{number}"] = layers[n_weights:]
        return found

    @property
    def n_images(self) -> int:
        """Images that PQC1 chooses from, ``2**n_1``."""
        return 2**self.pqc1.n_wires

    def image_probabilities(self, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The probability of each image, ``(n_images,)``, differentiable.

        Args:
            condition: ``(n_conditions,)`` in physical units; the centre of the training events if not given.
            generator: source of shots, where the backend has them.
        """
        return self._probabilities(self._one(condition), generator or new_generator())[0]

    def images(
        self,
        condition: Tensor | None = None,
        latent: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The normalised images, ``(n_images, n_features)``, each of sum 1, differentiable.

        Args:
            condition: ``(n_conditions,)`` in physical units; the centre of the training events if not given.
            latent: ``(latent_size,)`` in [-1, 1]; 0 if not given.
            generator: source of shots, where the backend has them.
        """
        states = torch.arange(self.n_images, device=self.device)
        latent = self.weights2.new_zeros(self.latent_size) if latent is None else latent.to(self.weights2)
        inputs = torch.cat([self._one(condition)[0], latent])
        return self._paint(states, inputs.expand(len(states), -1), generator or new_generator())

    def _start_at(self, wanted: Tensor) -> None:
        """Move the images towards these by their relative entropy, and the probabilities towards equality."""
        with torch.no_grad():
            self.weights1.mul_(0.1)
        wanted = wanted.to(self.weights2)
        optimiser = torch.optim.Adam([self.weights2], START_RATE)
        with torch.enable_grad():
            for _ in range(START_STEPS):
                optimiser.zero_grad()
                loss = -(wanted * self.images().clamp_min(LEAST_SHARE).log()).sum(1).mean()
                loss.backward()
                optimiser.step()
        self.zero_grad()

    def _one(self, condition: Tensor | None) -> Tensor:
        """One condition in the condition transform's space, ``(1, n_conditions)``."""
        if condition is None:
            return self.weights1.new_zeros(1, self.n_conditions)
        inner = self._model_condition(self._check_condition(condition, 1))
        return self.weights1.new_zeros(1, 0) if inner is None else inner.to(self.weights1)

    def _probabilities(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """``(m, n_images)`` for conditions ``(m, n_conditions)``; one row if PQC1 does not look at them."""
        return self._seeded(generator).probs(self.pqc1, self._angles1(condition)).to(self.device)

    def _angles1(self, condition: Tensor) -> Tensor:
        if not self.uploads1:
            return self.weights1[None]
        return torch.cat([self.weights1.expand(len(condition), -1), condition[:, self.uploads1] * self.factors1], 1)

    def _paint(self, states: Tensor, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Images ``(m, n_features)`` for basis states ``(m,)`` and inputs ``(m, n_conditions + latent_size)``."""
        places = torch.arange(self.pqc1.n_wires - 1, -1, -1, device=states.device)
        angles = [self.weights2.expand(len(states), -1)]
        if self.uploads2:
            angles.append(inputs[:, self.uploads2] * self.factors2)
        angles.append(math.pi * ((states[:, None] >> places) & 1).to(self.weights2))
        backend = self._seeded(generator)
        parts = torch.cat(angles, 1).split(self._circuits_at_once(self._painter))
        images = [
            backend.probs(self._painter, some).reshape(len(some), self.n_features, -1).sum(2).to(self.device)
            for some in parts
        ]
        return images[0] if len(images) == 1 else torch.cat(images)

    def _latent(self, n: int, generator: torch.Generator) -> Tensor:
        return 2 * uniform((n, self.latent_size), generator, dtype=self.weights2.dtype, device=self.device) - 1

    def _answer(self, images: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Images to events in the transform's space, each with a total energy of its own."""
        totals = self.energy_scale(len(images), condition, generator)
        physical = None if condition is None else self.condition_transform.inverse(condition)
        nothing = self.transform(torch.zeros_like(images[:1]), None if physical is None else physical[:1])
        if not nothing.isfinite().all():
            images = images.clamp_min(LEAST_SHARE)
        values: Tensor = self.transform(images * totals[:, None], physical)
        return values

    def _inputs(self, condition: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        columns = self.weights2.new_zeros(n, 0) if condition is None else condition.to(self.weights2)
        return torch.cat([columns, self._latent(n, generator)], 1)

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """``n`` events, their images chosen by measuring PQC1; differentiable in the images, not in the choice."""
        inputs = self._inputs(condition, n, generator)
        columns = inputs[:, : self.n_conditions]
        first, row = _distinct(columns[:, sorted(set(self.uploads1))])
        with torch.no_grad():
            states = self._measure(self.pqc1, lambda some: self._angles1(columns[first[some]]), row, generator)
        if self.latent_size:
            images = self._paint(states, inputs, generator)
        else:  # events of one image and one condition share a circuit
            first, row = _distinct(torch.cat([states[:, None].to(inputs), inputs[:, sorted(set(self.uploads2))]], 1))
            images = self._paint(states[first], inputs[first], generator)[row]
        return self._answer(images, condition, generator)

    def _weighted(self, n: int, condition: Tensor | None, generator: torch.Generator) -> WeightedEvents:
        """Every image for each of the ``n`` conditions, weighted by its probability: ``n * n_images`` events.

        Each has a total energy and latent numbers of its own. The gradient reaches images and probabilities. Where so
        many events would be too many for an objective, one image is drawn for each condition; its weight is its
        probability over the same number taken as constant (the log-derivative trick).
        """
        k = self.n_images
        states = torch.arange(k, device=self.device)
        columns = self.weights1.new_zeros(n, 0) if condition is None else condition.to(self.weights1)
        probabilities = self._probabilities(columns, generator).expand(n, -1)
        if n * k > EVENTS_AT_ONCE:
            drawn = torch.multinomial(probabilities.detach().to(generator.device), 1, generator=generator).to(
                states.device
            )
            chosen = probabilities.gather(1, drawn).flatten()
            images = self._paint(drawn.flatten(), self._inputs(condition, n, generator), generator)
            return WeightedEvents(
                self._answer(images, condition, generator), chosen / chosen.detach() / n, condition, n
            )
        many = None if condition is None else condition.repeat_interleave(k, 0)
        weights = probabilities.flatten() / n
        if self.uploads2:
            images = self._paint(states.repeat(n), self._inputs(many, n * k, generator), generator)
        else:
            images = self._paint(states, self.weights2.new_zeros(k, 0), generator).repeat(n, 1)
        return WeightedEvents(self._answer(images, many, generator), weights, many, draws=n)


def _qubits(pixels: int) -> int:
    qubits = pixels.bit_length() - 1
    if pixels < 2 or 2**qubits != pixels:
        raise ValueError(f"the data have {pixels} features; a dual-PQC's image has 2, 4, 8, ... pixels, a power of two")
    return qubits


def _check_images(dataset: Dataset) -> None:
    _qubits(dataset.n_features)
    train = dataset.train
    energies, conditions = train.samples, train.conditions
    lowest = energies.amin(0)
    for feature, low in zip(dataset.features, lowest.tolist(), strict=True):
        if low < 0:
            raise ValueError(f"feature {feature.name!r} reaches {low:g}; pixels of an image are never negative")
    top = energies.amax(0).expand_as(energies[:1]) * 10
    reached = dataset.transform(top, conditions[:1])
    for feature, value in zip(dataset.features, reached[0].tolist(), strict=True):
        if not math.isfinite(value):
            raise ValueError(f"feature {feature.name!r} is bounded above by its transform; energies of pixels are not")


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where each distinct row of ``(n, k)`` stands first, and for every row the place of its equal among them."""
    if rows.shape[1] == 0:
        return rows.new_zeros(1, dtype=torch.long), rows.new_zeros(len(rows), dtype=torch.long)
    if rows.shape[1] == 1:  # sorting numbers is much faster than sorting rows
        place = torch.unique(rows[:, 0], return_inverse=True)[1]
    else:
        place = torch.unique(rows, dim=0, return_inverse=True)[1]
    count = torch.bincount(place)
    return torch.argsort(place, stable=True)[count.cumsum(0) - count], place
