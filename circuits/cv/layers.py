r"""``CVNeuralNetworkLayers``: neural networks of optical modes.

A layer (Killoran et al., 1806.06871) is an interferometer, squeezings, an interferometer, displacements and Kerr gates,

.. math:: L = \Phi \circ D \circ U_2 \circ S \circ U_1 ,

which on the quadratures is the :math:`\sigma(W x + b)` of a neural network: the first three are, by their singular
value decomposition, the matrix, the displacements the bias, and the Kerr gates the non-linearity.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from circuits.cv.gates import CVGate
from circuits.cv.meshes import Mesh, mesh
from circuits.cv.program import Program
from circuits.gates import finite_number, integer

__all__ = ["CVNeuralNetworkLayers"]

_NAMES = ("theta_1", "phi_1", "varphi_1", "r", "phi_r", "theta_2", "phi_2", "varphi_2", "a", "phi_a", "k")
_ACTIVE = ("r", "a", "k")


class CVNeuralNetworkLayers:
    """A program of such layers, with the weights of PennyLane's ``CVNeuralNetLayers``.

    With ``M`` modes and ``K = M (M - 1) / 2`` the weights are, for ``L`` layers: ``theta_1``, ``phi_1`` ``(L, K)`` and
    ``varphi_1`` ``(L, M)`` of the first interferometer; ``r``, ``phi_r`` ``(L, M)`` of the squeezings; ``theta_2``,
    ``phi_2`` ``(L, K)`` and ``varphi_2`` ``(L, M)`` of the second interferometer; ``a``, ``phi_a`` ``(L, M)`` of the
    displacements; ``k`` ``(L, M)`` of the Kerr gates. The program's parameter vector holds them one after another.

    Args:
        n_layers: number of layers.
        n_modes: number of modes.
        mesh: of the interferometers; PennyLane's are rectangular.

    Raises:
        ValueError: a number below 1, or another mesh.

    >>> layers = CVNeuralNetworkLayers(n_layers=1, n_modes=2)
    >>> layers.program.counts
    {'Beamsplitter': 2, 'Rotation': 4, 'Squeezing': 2, 'Displacement': 2, 'Kerr': 2}
    >>> layers.flatten(*layers.initial(torch.Generator().manual_seed(0))).shape
    torch.Size([18])
    """

    def __init__(self, n_layers: int, n_modes: int, mesh: Mesh = "rectangular") -> None:
        self.n_layers = integer(n_layers, "n_layers", 1)
        self.n_modes = integer(n_modes, "n_modes", 1)
        self.mesh: Mesh = mesh
        self.program = self._program()

    @staticmethod
    def shape(n_layers: int, n_modes: int) -> list[tuple[int, int]]:
        """Shapes of the 11 weights.

        >>> CVNeuralNetworkLayers.shape(2, 3)[:3]
        [(2, 3), (2, 3), (2, 3)]
        """
        pairs, single = (n_layers, n_modes * (n_modes - 1) // 2), (n_layers, n_modes)
        return [pairs, pairs, single, single, single, pairs, pairs, single, single, single, single]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of the 11 weights."""
        return self.shape(self.n_layers, self.n_modes)

    def flatten(self, *weights: Tensor) -> Tensor:
        """The program's parameter vector, ``(..., n_parameters)``, from the 11 weights.

        Args:
            weights: of :attr:`shapes`, all with the same leading dimensions if there are any.

        Raises:
            ValueError: another number of weights, or another shape.
        """
        if len(weights) != len(_NAMES):
            raise ValueError(f"{len(weights)} weights are given; {len(_NAMES)} are needed: {', '.join(_NAMES)}")
        batch = weights[-1].shape[:-2]
        for name, weight, shape in zip(_NAMES, weights, self.shapes, strict=True):
            if weight.shape != (*batch, *shape):
                raise ValueError(f"{name} is of shape {tuple(weight.shape)}; {(*batch, *shape)} is needed")
        return torch.cat([weight.flatten(-2) for weight in weights], dim=-1)

    def split(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """The 11 weights from parameter vectors ``(..., n_parameters)``; undoes :meth:`flatten`.

        Raises:
            ValueError: another number of parameters.
        """
        size = self.program.n_parameters
        if parameters.shape[-1:] != (size,):
            raise ValueError(f"parameters are of shape {tuple(parameters.shape)}; (..., {size}) is needed")
        parts = parameters.split([math.prod(shape) for shape in self.shapes], dim=-1)
        return tuple(part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True))

    def initial(
        self, generator: torch.Generator | None = None, *, active: float = 0.01, passive: float = 0.1
    ) -> tuple[Tensor, ...]:
        """Random weights to start a training from, float64.

        Squeezing, displacement and Kerr add energy, and with it what truncation loses; so their strengths start small,
        while angles are free. The defaults are those of piquasso's ``generate_random_cvqnn_weights``.

        Args:
            generator: of the random numbers.
            active: standard deviation of ``r``, ``a`` and ``k``, around 0.
            passive: standard deviation of all angles, radians, around 0.
        """
        scales = {True: finite_number(active, "active"), False: finite_number(passive, "passive")}
        return tuple(
            torch.randn(shape, generator=generator, dtype=torch.float64) * scales[name in _ACTIVE]
            for name, shape in zip(_NAMES, self.shapes, strict=True)
        )

    def _program(self) -> Program:
        places: dict[str, np.ndarray] = {}
        size = 0
        for name, shape in zip(_NAMES, self.shapes, strict=True):
            places[name] = size + np.arange(math.prod(shape)).reshape(shape)
            size += math.prod(shape)
        bare = mesh(self.n_modes, self.mesh)
        gates: list[CVGate] = []
        for layer in range(self.n_layers):
            at = {name: rows[layer].tolist() for name, rows in places.items()}
            first = [*at["theta_1"], *at["phi_1"], *at["varphi_1"]]
            second = [*at["theta_2"], *at["phi_2"], *at["varphi_2"]]
            modes = range(self.n_modes)
            gates += bare.remap(parameters=first, n_parameters=size).gates
            gates += [CVGate("Squeezing", mode, (at["r"][mode], at["phi_r"][mode])) for mode in modes]
            gates += bare.remap(parameters=second, n_parameters=size).gates
            gates += [CVGate("Displacement", mode, (at["a"][mode], at["phi_a"][mode])) for mode in modes]
            gates += [CVGate("Kerr", mode, (at["k"][mode],)) for mode in modes]
        return Program(self.n_modes, gates, size)
