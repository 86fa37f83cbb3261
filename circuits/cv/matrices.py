r"""Matrix entries of the gates between photon-number states, exact below the cutoff and differentiable.

Every gate is a real one between phases, :math:`\langle m|G(r, \phi)|n\rangle = e^{i\phi s(m - n)}
\langle m|G(r, 0)|n\rangle`. The entries are those of the operators on the whole space, so that what leaves the
truncated space is missing from the norm:

- displacements, quadratic and cubic phases are functions of one quadrature, hence sums over Gauss-Hermite nodes,
  :math:`\sum_q \psi_m(x_q)\, f(x_q)\, \psi_n(x_q)\, w_q` (the displacement with :math:`f(x) = e^{i\sqrt2 r x}`, which
  is one along p, and phases :math:`i^{n - m}`);
- squeezing and two-mode squeezing are products of a lower triangular, a diagonal and an upper triangular matrix, their
  normal order (Barnett and Radmore, Methods in Theoretical Quantum Optics, 1997), which truncation leaves exact;
- beamsplitters conserve the photon number :math:`N`: in each block they are :math:`V e^{-i\theta\lambda} V^\dagger`
  with eigenvalues :math:`-N, -N + 2, \dots, N` and eigenvectors computed once.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from circuits.cv.basis import BasisKind

__all__ = ["beamsplitter", "displacement", "hermite_functions", "position_phase", "squeezing", "two_mode_squeezing"]


def hermite_functions(x: Tensor, cutoff: int) -> Tensor:
    r"""Wave functions of the photon-number states, ``(..., cutoff)``, for positions ``(...)`` in units of sqrt(hbar).

    .. math:: \psi_n(x) = (2^n n! \sqrt\pi)^{-1/2} H_n(x) e^{-x^2/2}

    >>> hermite_functions(torch.zeros(1), 3)
    tensor([[ 0.7511,  0.0000, -0.5311]])
    """
    found = [math.pi**-0.25 * torch.exp(-0.5 * x.square())]
    if cutoff > 1:
        found.append(math.sqrt(2) * x * found[0])
    for n in range(2, cutoff):
        found.append(math.sqrt(2 / n) * x * found[-1] - math.sqrt((n - 1) / n) * found[-2])
    return torch.stack(found, dim=-1)


@lru_cache(maxsize=64)
def _position_nodes(cutoff: int, nodes: int, device: str) -> tuple[Tensor, Tensor]:
    """Gauss-Hermite nodes ``(nodes,)`` and weighted wave functions ``(cutoff, nodes)`` there."""
    # the nodes are the eigenvalues of the truncated position operator; its eigenvectors are the weighted wave functions
    off = np.sqrt(np.arange(1, nodes) / 2)
    x, vectors = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
    vectors *= np.where(vectors[0] < 0, -1.0, 1.0)
    return torch.from_numpy(x).to(device), torch.from_numpy(vectors[:cutoff].copy()).to(device)


def _enough_nodes(cutoff: int, largest: float) -> int:
    """Nodes that resolve a displacement of this size: photon numbers reach ``(sqrt(cutoff) + r)**2`` and a tail."""
    reach = (math.sqrt(cutoff) + min(largest, 64.0)) ** 2
    return 16 * math.ceil((reach + 6 * math.sqrt(reach) + 24) / 16)


def displacement(a: Tensor, phi: Tensor, cutoff: int) -> Tensor:
    """Displacements, ``(...) -> (..., cutoff, cutoff)`` complex.

    Args:
        a: magnitudes, ``(...)`` float64.
        phi: phases, ``(...)``.
        cutoff: size of the matrices.
    """
    largest = float(a.detach().abs().max()) if a.numel() else 0.0
    x, waves = _position_nodes(cutoff, _enough_nodes(cutoff, largest), str(a.device))
    argument = math.sqrt(2) * a[..., None] * x
    real = ((argument.cos() + argument.sin())[..., None, :] * waves) @ waves.T
    # i**(n - m) times the cosine part (even m - n) or i times the sine part (odd m - n)
    n = torch.arange(cutoff, device=a.device)
    steps = n[:, None] - n
    sign = 1.0 - 2.0 * ((steps // 2) % 2)
    return (real * sign) * _turn(phi, steps)


def _turn(phi: Tensor, steps: Tensor) -> Tensor:
    angle = phi[..., None, None] * steps
    return torch.complex(angle.cos(), angle.sin())


def position_phase(strength: Tensor, power: int, cutoff: int) -> Tensor:
    """``exp(i strength x**power)`` for x in units of sqrt(hbar), ``(...) -> (..., cutoff, cutoff)`` complex."""
    x, waves = _position_nodes(cutoff, 16 * math.ceil((4 * cutoff + 160) / 16), str(strength.device))
    argument = strength[..., None] * x**power
    waved = torch.complex(argument.cos(), argument.sin())[..., None, :] * waves
    return waved @ waves.T.to(waved.dtype)


@lru_cache(maxsize=64)
def _raising(cutoff: int, step: int, difference: int, device: str) -> tuple[Tensor, Tensor]:
    """Powers ``j`` and their coefficients, ``(cutoff, cutoff)`` each: ``sum_j t**j O**j / j!`` raises photon numbers.

    ``O`` is half the square of the raising operator (``step`` 2) or raises two modes, whose numbers differ, by one
    each (``step`` 1).
    """
    m, n = np.meshgrid(np.arange(cutoff), np.arange(cutoff), indexing="ij")
    j = (m - n) // step
    allowed = (m >= n) & ((m - n) % step == 0)
    j = np.where(allowed, j, 0)
    if step == 2:
        logs = 0.5 * (gammaln(m + 1) - gammaln(n + 1)) - j * math.log(2) - gammaln(j + 1)
    else:
        d = difference
        logs = 0.5 * (gammaln(m + 1) - gammaln(n + 1) + gammaln(m + d + 1) - gammaln(n + d + 1)) - gammaln(j + 1)
    return torch.from_numpy(j).to(device), torch.from_numpy(np.where(allowed, np.exp(logs), 0.0)).to(device)


def squeezing(r: Tensor, phi: Tensor, cutoff: int) -> Tensor:
    """Squeezings, ``(...) -> (..., cutoff, cutoff)`` complex; arguments as in :func:`displacement`."""
    power, factor = _raising(cutoff, 2, 0, str(r.device))
    tanh = r.tanh()[..., None, None]
    n = torch.arange(cutoff, device=r.device)
    up, down = factor * (-tanh) ** power, factor * tanh**power
    middle = r.cosh()[..., None, None] ** -(n + 0.5)
    return ((up * middle) @ down.transpose(-1, -2)) * _turn(0.5 * phi, n[:, None] - n)


def two_mode_squeezing(r: Tensor, phi: Tensor, cutoff: int) -> Tensor:
    """Two-mode squeezings, ``(...) -> (..., cutoff, cutoff, cutoff)`` complex: difference, pairs after and before."""
    tanh, cosh = r.tanh()[..., None, None], r.cosh()[..., None, None]
    n = torch.arange(cutoff, device=r.device)
    blocks = []
    for difference in range(cutoff):
        power, factor = _raising(cutoff, 1, difference, str(r.device))
        up, down = factor * tanh**power, factor * (-tanh) ** power
        blocks.append((up * cosh ** -(2.0 * n + difference + 1)) @ down.transpose(-1, -2))
    return torch.stack(blocks, dim=-3) * _turn(phi, n[:, None] - n)[..., None, :, :]


@lru_cache(maxsize=64)
def _beamsplitter_vectors(cutoff: int, kind: BasisKind, device: str) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``(blocks, most)`` and eigenvectors ``(blocks, cutoff, most)`` of ``-i (a b^+ - a^+ b)``, padded."""
    blocks = 2 * cutoff - 1 if kind == "mode" else cutoff
    values, vectors = np.zeros((blocks, blocks)), np.zeros((blocks, cutoff, blocks), dtype=np.complex128)
    for photons in range(blocks):
        n = np.arange(photons)
        hop = np.sqrt((n + 1) * (photons - n))  # <n, N - n| a b^+ |n + 1, N - n - 1>
        found, states = np.linalg.eigh(-1j * (np.diag(hop, 1) - np.diag(hop, -1)))
        values[photons, : photons + 1] = np.round(found)
        rows = min(cutoff, photons + 1)
        vectors[photons, :rows, : photons + 1] = states[:rows]
    return torch.from_numpy(values).to(device), torch.from_numpy(vectors).to(device)


def beamsplitter(theta: Tensor, phi: Tensor, cutoff: int, kind: BasisKind) -> Tensor:
    """Beamsplitters, ``(...) -> (..., blocks, cutoff, cutoff)`` complex: photons, first mode after and before."""
    values, vectors = _beamsplitter_vectors(cutoff, kind, str(theta.device))
    angle = theta[..., None, None] * values
    turned = vectors * torch.complex(angle.cos(), angle.sin())[..., None, :]
    n = torch.arange(cutoff, device=theta.device)
    return (turned @ vectors.mH) * _turn(phi, n - n[:, None])[..., None, :, :]
