r"""The Quantum Angle Generator (2307.05253): a pixel's intensity is the angle of its qubit.

Each of :math:`n` pixels has a qubit. Latent numbers turn the qubits, MERA-up layers
(:func:`circuits.ansatz.mera_up`) correlate them, and pixel :math:`i` is read from

.. math:: \langle Z_i \rangle = \cos\vartheta_i, \quad I_i = \vartheta_i / \pi .

The slope of the arc cosine is infinite at both ends. Here the angle is read from :math:`(1 - \delta) \langle Z_i
\rangle` and scaled so that the ends stay the ends,

.. math:: I_i = \frac12 - \frac{\arcsin((1 - \delta) \langle Z_i \rangle)}{2 \arcsin(1 - \delta)},
          \quad \delta = 10^{-3} ,

which differs from :math:`\vartheta_i / \pi` by at most 0.0112 and has a slope of at most 7.4.

What is published: one qubit a pixel, 8 pixels, the MERA-up architecture, training on the maximum mean discrepancy.
What is ours: the order of the blocks, the distribution and the encoding of the latent numbers, conditions, the
smoothed ends, the ranges. The rest of the model is described in :mod:`qgen.models.pixel_circuit`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from circuits import Circuit, ansatz
from qgen.models.pixel_circuit import PixelCircuitGenerator

__all__ = ["AngleGenerator"]

_SHRINK = 1 - 1e-3


class AngleGenerator(PixelCircuitGenerator):
    """One qubit a pixel, MERA-up layers, intensities read as angles.

    The arguments are those of :class:`~qgen.models.pixel_circuit.PixelCircuitGenerator`.

    >>> model = AngleGenerator([0.0] * 8, [1.0] * 8, layers=1)
    >>> model.sample(3, generator=torch.Generator().manual_seed(0)).shape, model.n_parameters
    (torch.Size([3, 8]), 38)
    """

    @staticmethod
    def layer(n_wires: int) -> Circuit:
        """MERA-up with an RY on both wires of each block."""
        return ansatz.mera_up(n_wires)

    def intensity(self, expectations: Tensor) -> Tensor:
        """The angle of each qubit over pi, with finite slopes at both ends."""
        inside = _SHRINK * expectations.clamp(-1, 1)
        return 0.5 - torch.asin(inside) / (2 * math.asin(_SHRINK))
