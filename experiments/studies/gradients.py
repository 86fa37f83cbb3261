r"""Gradients of losses on a circuit, for many sets of random angles at once.

Every loss is a function of the probabilities :math:`p` of the :math:`2^n` cells, :math:`q` being the share of the
events in each cell:

``global``      :math:`1 - p_0`, a projector on all qubits
``local``       :math:`\langle Z_0 \rangle`, an observable of one qubit
``nll``         :math:`-\sum_x q_x \ln p_x`
``mmd``         :math:`(p-q)^T K (p-q)`, the kernel of the objective ``mmd`` on the values of the cells
``mmd-narrow``  the same with a Gaussian kernel in the Hamming distance, bandwidth 1/2 bit
``mmd-wide``    the same, bandwidth :math:`\sqrt n` bits

A projector on all qubits has gradients that vanish with their number whatever the depth, an observable of one qubit
only where the circuit is deep (2001.00550). A narrow kernel compares cell by cell, like a projector; a wide one
compares few bits at a time (2305.02881).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuits import Circuit
from circuits.backends import Statevector
from qgen.data import Dataset, Discretiser
from qgen.training import MMD
from qgen.training.kernels import bit_factors, product_form, value_factors

__all__ = ["LOSSES", "Moments", "Target", "gradients", "moments", "two_design_variance"]

TAILS = 0.005
"""Share of the events beyond the outer cells on either side, as the Born machine has it."""

NOTHING = 1e-24
"""A squared derivative below it is rounding."""


@dataclass(frozen=True)
class Target:
    """Events in the cells of as many bits as a circuit has wires.

    Args:
        discretiser: the cells.
        shares: of the events in each cell, ``(2**n_bits,)``.
    """

    discretiser: Discretiser
    shares: Tensor

    @classmethod
    def of(cls, dataset: Dataset, n_bits: int) -> Target:
        """The training events in ``2**n_bits`` cells: as many features as there are bits for, the first with most.

        Raises:
            ValueError: the events do not fill so many cells.
        """
        train = dataset.train
        values = dataset.transform(train.samples, train.conditions)
        n_features = min(n_bits, dataset.n_features)
        bits = [n_bits // n_features + (place < n_bits % n_features) for place in range(n_features)]
        values = values[:, :n_features]
        discretiser = Discretiser.fit(values, bits, "linear", TAILS)
        counts = torch.bincount(discretiser.cell_index(values), minlength=discretiser.n_cells)
        return cls(discretiser, counts.to(torch.float64) / len(values))

    def squared_mmd(self, probabilities: Tensor, factors: Sequence[Sequence[Tensor]]) -> Tensor:
        """Mean over kernels, each given as a product, of ``(p-q)^T K (p-q)`` for every row ``p``, ``(m,)``."""
        off = probabilities - self.shares
        return torch.stack([(product_form(off, kernel) * off).sum(1) for kernel in factors]).mean(0)


Loss = Callable[[Tensor, Target], Tensor]


def _global(probabilities: Tensor, target: Target) -> Tensor:
    return 1 - probabilities[:, 0]


def _local(probabilities: Tensor, target: Target) -> Tensor:
    up, down = probabilities.chunk(2, dim=1)
    return up.sum(1) - down.sum(1)


def _nll(probabilities: Tensor, target: Target) -> Tensor:
    return -(target.shares * probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()).sum(1)


def _mmd(probabilities: Tensor, target: Target) -> Tensor:
    representatives = target.discretiser.representatives()
    scales = MMD()._scales(target.discretiser.n_features)
    return target.squared_mmd(probabilities, [value_factors(representatives, scale) for scale in scales])


def _mmd_narrow(probabilities: Tensor, target: Target) -> Tensor:
    return target.squared_mmd(probabilities, [bit_factors(target.discretiser.n_bits, 0.5)])


def _mmd_wide(probabilities: Tensor, target: Target) -> Tensor:
    n_bits = target.discretiser.n_bits
    return target.squared_mmd(probabilities, [bit_factors(n_bits, n_bits**0.5)])


LOSSES: dict[str, Loss] = {
    "global": _global,
    "local": _local,
    "nll": _nll,
    "mmd": _mmd,
    "mmd-narrow": _mmd_narrow,
    "mmd-wide": _mmd_wide,
}
"""Losses by name: probabilities ``(m, 2**n)`` and the target to ``(m,)``."""


def gradients(circuit: Circuit, angles: Tensor, losses: Sequence[str], target: Target) -> dict[str, Tensor]:
    """The gradient of each loss at each set of angles.

    Args:
        circuit: on as many wires as the target has bits.
        angles: ``(m, n_angles)`` in radians.
        losses: names of :data:`LOSSES`.
        target: the events.

    Returns:
        For each loss ``(m, n_angles)``.
    """
    angles = angles.detach().requires_grad_()
    probabilities = Statevector().probs(circuit, angles)
    return {
        name: torch.autograd.grad(LOSSES[name](probabilities, target).sum(), angles, retain_graph=True)[0]
        for name in losses
    }


@dataclass(frozen=True)
class Moments:
    """Moments of a gradient over random angles, each with its statistical uncertainty.

    Args:
        variance: over draws, mean over the circuit's angles.
        variance_uncertainty: of it.
        first: variance of the derivative by the first angle.
        first_uncertainty: of it.
        mean_square: mean over draws and angles of the squared derivative; larger than the variance where the
            derivatives do not vanish in the mean.
        mean_square_uncertainty: of it.
    """

    variance: float
    variance_uncertainty: float
    first: float
    first_uncertainty: float
    mean_square: float
    mean_square_uncertainty: float


def moments(gradient: Tensor) -> Moments:
    """The moments of gradients ``(m, n_angles)`` of ``m`` independent draws, at least 2."""
    deviation = (gradient - gradient.mean(0)).square() * len(gradient) / (len(gradient) - 1)
    return Moments(
        *_mean(deviation.mean(1)),
        *_mean(deviation[:, 0]),
        *_mean(gradient.square().mean(1)),
    )


def _mean(squares: Tensor) -> tuple[float, float]:
    mean = squares.mean().item()
    return (0.0, 0.0) if mean < NOTHING else (mean, squares.std().item() / len(squares) ** 0.5)


def two_design_variance(n_wires: int, loss: str) -> float:
    r"""Variance of the derivative by a Pauli rotation between two parts of a circuit that are as random as can be.

    For :math:`\langle O \rangle` and parts that are unitary 2-designs (1803.11173),
    :math:`\mathrm{Var} = \frac{N}{2 (N-1)(N+1)^2} \mathrm{Tr}\, O_0^2`, with :math:`O_0` the traceless part of
    :math:`O` and :math:`N = 2^n`.

    Args:
        n_wires: number of qubits.
        loss: ``global`` or ``local``, the two that are expectation values.

    >>> two_design_variance(2, "local"), two_design_variance(2, "global")
    (0.10666666666666667, 0.02)
    """
    size = 2**n_wires
    trace = {"global": 1 - 1 / size, "local": float(size)}[loss]
    return trace * size / (2 * (size - 1) * (size + 1) ** 2)
