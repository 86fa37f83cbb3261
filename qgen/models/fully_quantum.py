r"""The generator of the fully quantum GAN (2305.07284): a circuit against a circuit.

Each of :math:`n` pixels has a qubit. Latent numbers turn the qubits by angle encoding, trainable layers of RY and a
ring of CZ bind them, and pixel :math:`i` is the probability to find its qubit in :math:`|1\rangle`,

.. math:: I_i = \tfrac12 (1 - \langle Z_i \rangle) ,

so that one circuit gives one image of real intensities and not a distribution over pixels. Its opponent is
:class:`~qgen.models.quantum_discriminator.QuantumDiscriminator`; the objective is
:class:`qgen.training.Adversarial` with ``discriminator: {kind: quantum}``.

What is published: 8 pixels, 8 qubits in the generator and 8 in the discriminator, angle encoding, images of individual
showers. What is ours: the layers, the latent numbers, conditions, the ranges and the loss. The rest of the model is
described in :mod:`qgen.models.pixel_circuit`.
"""

from __future__ import annotations

from torch import Tensor

from circuits import Circuit, ansatz
from qgen.models.pixel_circuit import PixelCircuitGenerator

__all__ = ["FullyQuantumGenerator"]


class FullyQuantumGenerator(PixelCircuitGenerator):
    """One qubit a pixel, hardware-efficient layers, intensities read as probabilities.

    The arguments are those of :class:`~qgen.models.pixel_circuit.PixelCircuitGenerator`.

    >>> import torch
    >>> model = FullyQuantumGenerator([0.0] * 8, [1.0] * 8, layers=3)
    >>> model.sample(3, generator=torch.Generator().manual_seed(0)).shape, model.n_parameters
    (torch.Size([3, 8]), 56)
    """

    @staticmethod
    def layer(n_wires: int) -> Circuit:
        """RY on every wire and a ring of CZ."""
        return ansatz.hardware_efficient(n_wires, 1, ("RY",), "CZ", "ring")

    def intensity(self, expectations: Tensor) -> Tensor:
        """The probability of 1."""
        return 0.5 * (1 - expectations)
