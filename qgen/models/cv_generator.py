r"""A generator of optical modes: noise displaces them, layers of a CV neural network mix them (2101.11132).

Each feature has a mode. Latent numbers :math:`z \sim \mathcal N(0, 1)^L` and the condition :math:`c` displace the
vacuum, the first :math:`M` along :math:`x` and the others along :math:`p`,

.. math:: d_j = b_j + s_j z_j + \sum_k v_{jk} c_k, \qquad
          |\psi\rangle = L_\theta \prod_m D(d_m + i\, d_{M + m}) |0\rangle ,

then layers of interferometer, squeezing, interferometer, displacement and Kerr gates
(:class:`~circuits.cv.CVNeuralNetworkLayers`) act, and feature :math:`i` is a mean of mode :math:`i`, scaled and moved,

.. math:: x_i = A_i \langle q_i \rangle + B_i, \qquad
          q = \tfrac12 (a + a^\dagger) \text{ (quadrature)} \quad\text{or}\quad q = a^\dagger a \text{ (photons)} .

All letters but :math:`z` and :math:`c` are trainable. What is published: a continuous-variable quantum GAN with a
classical and with a quantum discriminator on reduced calorimeter images, and the layers (1806.06871). What is ours:
how the latent numbers and the condition enter, the read-out, the penalty on truncation, all sizes and ranges.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, get_args

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from circuits.cv import CVGate, CVNeuralNetworkLayers, Program
from circuits.cv.basis import BasisKind
from circuits.cv.meshes import Mesh
from qgen.data.dataset import Dataset
from qgen.data.transforms import Transform
from qgen.generator import Generator
from qgen.models.on_modes import GeneratorOnModes
from qgen.random import derive_seed, new_generator, normal, symmetric

__all__ = ["CVGenerator", "Readout", "layered_program"]

Readout = Literal["quadrature", "photons"]

START_SPREAD = 0.5
"""Displacement by a latent number of 1 before training, of one mode or shared by all, so that few photons start."""

LARGEST_SPREAD = 0.3

START_AMPLITUDE = 0.5
"""Displacement along x of all modes together where photon numbers are read: they have no slope at the vacuum."""


def layered_program(
    n_modes: int, layers: int, n_inputs: int, *, mesh: Mesh = "rectangular", loss: float = 0.0, last_kerr: bool = True
) -> Program:
    """Displacements by inputs, then layers of a CV neural network.

    The parameter vector holds the weights, in the order of :class:`~circuits.cv.CVNeuralNetworkLayers`, then the
    inputs: displacements along x of each mode and, beyond ``n_modes``, along p.

    Args:
        n_modes: number of modes.
        layers: number of layers.
        n_inputs: displacements, at most ``2 * n_modes``.
        mesh: of the interferometers.
        loss: share of the photons that each mode loses after every layer, in [0, 1).
        last_kerr: whether the last layer has its Kerr gates, which photon numbers do not see.

    Raises:
        ValueError: a size or a share out of range.

    >>> layered_program(2, 1, 3).counts["Displacement"]
    5
    """
    if not 0 <= loss < 1:
        raise ValueError(f"loss is {loss}; a share of the photons from 0 to below 1 is needed")
    if not 1 <= n_inputs <= 2 * n_modes:
        raise ValueError(f"{n_inputs} displacements are asked for of {n_modes} modes; 1 to {2 * n_modes} are possible")
    network = CVNeuralNetworkLayers(layers, n_modes, mesh).program
    n_weights = network.n_parameters - (0 if last_kerr else n_modes)
    gates = [
        CVGate("Displacement", j % n_modes, (n_weights + j, 0.0 if j < n_modes else math.pi / 2))
        for j in range(n_inputs)
    ]
    each = len(network) // layers
    for layer in range(layers):
        some = network.gates[layer * each : (layer + 1) * each]
        gates += some if last_kerr or layer < layers - 1 else some[:-n_modes]
        gates += [CVGate("Loss", mode, (1.0 - loss,)) for mode in range(n_modes) if loss]
    return Program(n_modes, gates, n_weights + n_inputs)


class CVGenerator(GeneratorOnModes, Generator):
    """Means of optical modes under random displacements.

    Args:
        n_features: columns of a sample, at the same time the number of modes.
        n_conditions: columns of a condition.
        layers: of the CV neural network.
        cutoff: photon number from which states are cut off.
        basis: ``total``, the cutoff is that of all photons together, or ``mode``, that of each mode.
        readout: ``quadrature``, features follow the means of x, or ``photons``, the mean photon numbers.
        latent_size: how many latent numbers displace the modes, at most two for each; beyond the number of modes they
            displace along p. One for each mode if not given.
        mesh: of the interferometers, ``rectangular`` or ``triangular``.
        loss: share of the photons that each mode loses after every layer.
        norm_penalty: weight, in training, of the mean share of their norm that states lose beyond the cutoff.
        seed: fixes the initial weights, uniform within ``initial_range`` of zero.
        initial_range: of the weights of all gates.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: an argument out of range.

    >>> model = CVGenerator(3, layers=1, cutoff=5)
    >>> model.n_parameters, model.sample(4, generator=torch.Generator().manual_seed(0)).shape
    (45, torch.Size([4, 3]))
    """

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        layers: int = 2,
        cutoff: int = 6,
        basis: BasisKind = "total",
        readout: Readout = "quadrature",
        latent_size: int | None = None,
        mesh: Mesh = "rectangular",
        loss: float = 0.0,
        norm_penalty: float = 100.0,
        seed: int = 0,
        initial_range: float = 0.1,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        latent_size = n_features if latent_size is None else latent_size
        if not 1 <= latent_size <= 2 * n_features:
            raise ValueError(
                f"latent_size is {latent_size}; {n_features} modes take 1 to {2 * n_features} latent numbers"
            )
        if readout not in get_args(Readout):
            raise ValueError(f"readout is {readout!r}; allowed are {', '.join(get_args(Readout))}")
        self._checked_sizes(cutoff, basis, norm_penalty)
        if not 0 < initial_range < math.inf:
            raise ValueError(f"initial_range is {initial_range}; a positive, finite number is needed")
        self.layers, self.mesh, self.loss = layers, mesh, loss
        self.cutoff, self.basis, self.readout = cutoff, basis, readout
        self.latent_size, self.norm_penalty = latent_size, norm_penalty
        n_inputs = n_features if latent_size <= n_features else 2 * n_features
        self.program = layered_program(
            n_features, layers, n_inputs, mesh=mesh, loss=loss, last_kerr=readout == "quadrature"
        )
        rng = new_generator(derive_seed(seed, "weights"))
        self.weights = nn.Parameter(symmetric((self.program.n_parameters - n_inputs,), initial_range, rng))
        photons, kept = readout == "photons", (1 - loss) ** (layers / 2)
        start = START_AMPLITUDE / math.sqrt(n_features) if photons else 0.0
        spread = start / 3 if photons else min(START_SPREAD / math.sqrt(n_features), LARGEST_SPREAD)
        along_x = torch.arange(n_inputs) < n_features
        self.amplitude = nn.Parameter(start * along_x.to(torch.float64))
        """Displacement of every event, ``(n_inputs,)``."""
        self.spread = nn.Parameter(torch.full((latent_size,), spread, dtype=torch.float64))
        """Displacement for each latent number, ``(latent_size,)``."""
        if n_conditions:
            self.condition_spread = nn.Parameter(symmetric((n_inputs, n_conditions), initial_range, rng))
        slope = 2 * start * kept**2 if photons else kept
        scale = torch.full((n_features,), 1 / (slope * spread), dtype=torch.float64)
        self.scale = nn.Parameter(scale)
        """Width of each feature for a mean of 1, ``(n_features,)``."""
        self.offset = nn.Parameter(-scale * (start * kept) ** 2)
        """Each feature where the mean is 0, ``(n_features,)``."""

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        layers: Annotated[int, Ge(1), Le(1000)] = 2,
        cutoff: Annotated[int, Ge(2)] = 6,
        basis: BasisKind = "total",
        readout: Readout = "quadrature",
        latent_size: Annotated[int, Ge(1)] | None = None,
        mesh: Mesh = "rectangular",
        loss: Annotated[float, Ge(0), Lt(1)] = 0.0,
        norm_penalty: Annotated[float, Ge(0)] = 100.0,
        initial_range: Annotated[float, Gt(0), Le(10)] = 0.1,
    ) -> Self:
        """A generator with a mode for each feature of these events, in the dataset's own transform.

        Args:
            dataset: fixes the columns and the transforms.
            seed: fixes the initial weights.
            layers: of the CV neural network.
            cutoff: photon number from which states are cut off.
            basis: as in the class.
            readout: as in the class.
            latent_size: as in the class.
            mesh: of the interferometers.
            loss: share of the photons that each mode loses after every layer; with loss, states are density matrices.
            norm_penalty: as in the class.
            initial_range: as in the class.

        Raises:
            ValueError: an option is impossible for these events.
        """
        return cls(
            dataset.n_features,
            dataset.n_conditions,
            layers=layers,
            cutoff=cutoff,
            basis=basis,
            readout=readout,
            latent_size=latent_size,
            mesh=mesh,
            loss=loss,
            norm_penalty=norm_penalty,
            seed=seed,
            initial_range=initial_range,
            transform=dataset.transform,
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Columns, sizes and how states are simulated; what fixed the initial weights is no part of a trained model."""
        names = ("layers", "cutoff", "basis", "readout", "latent_size", "mesh", "loss", "norm_penalty")
        columns = {"n_features": self.n_features, "n_conditions": self.n_conditions}
        return columns | {name: getattr(self, name) for name in names}

    def latent(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers, ``(n, latent_size)``."""
        return normal((n, self.latent_size), generator, dtype=self.spread.dtype, device=self.device)

    def displacements(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Amplitudes by which the vacuum is displaced, ``(n, n_inputs)``: along x, then along p.

        Args:
            latent: ``(n, latent_size)``.
            condition: ``(n, n_conditions)`` in the condition transform's space.
        """
        moved = nn.functional.pad(latent * self.spread, (0, len(self.amplitude) - self.latent_size)) + self.amplitude
        return moved if condition is None else moved + condition.to(moved) @ self.condition_spread.T

    def means(self, displacements: Tensor) -> Tensor:
        """Read-out of the modes, ``(n, n_features)``: of the quadrature :math:`(a + a^+)/2`, or photon numbers."""
        found = []
        for state in self._states(self.weights, displacements):
            if self.readout == "photons":
                found.append(state.mean_photons())
            else:
                found.append(state.quadratures()[0] / math.sqrt(2 * state.hbar))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        means = self.means(self.displacements(self.latent(n, generator), condition))
        return self.scale * means.to(self.scale) + self.offset
