r"""Matrix entries of the gates between photon-number states, exact below the cutoff and differentiable.

Every gate is a real matrix between rotations, :math:`G(r, \phi) = e^{i\phi n} G(r, 0) e^{-i\phi n}` and the like
(:mod:`circuits.cv.schedule`); here are the real ones. Their entries are those of the operators on the whole space, so
that what leaves the truncated space is missing from the norm:

- displacements and cubic phases are functions :math:`f` of one quadrature, hence sums over Gauss-Hermite nodes,
  :math:`\sum_q \psi_m(x_q)\, f(x_q)\, \psi_n(x_q)\, w_q` (a displacement, :math:`f(x) = e^{i\sqrt2 r x}`, is one along
  p);
- squeezing and two-mode squeezing are products of a lower triangular, a diagonal and an upper triangular matrix, their
  normal order (Barnett and Radmore, Methods in Theoretical Quantum Optics, 1997), which truncation leaves exact;
- beamsplitters conserve the photon number :math:`N`: each block is :math:`V e^{i\theta\lambda} V^\dagger` with
  eigenvalues :math:`-N, -N + 2, \dots, N` and eigenvectors computed once.

In the first and the last kind an entry has the even or the odd part of :math:`e^{it}` alone, so that
:math:`\cos t + \sin t = \sqrt2 \cos(t - \pi/4)` does for both, and all entries are one product with a table.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from circuits.cv.basis import BasisKind, blocks_of

__all__ = [
    "beamsplitter",
    "cubic_phase",
    "displacement",
    "hermite_functions",
    "loss",
    "squeezing",
    "two_mode_squeezing",
]

_BLOCKS_AT_ONCE = 20


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


def _table(*arrays: np.ndarray, device: str) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)


def _waves(argument: Tensor, table: Tensor) -> Tensor:
    return torch.cos(argument - 0.25 * math.pi) @ table


@lru_cache(maxsize=64)
def _quadrature(cutoff: int, nodes: int, device: str) -> tuple[Tensor, ...]:
    """Gauss-Hermite nodes ``(nodes,)`` and products of wave functions there, ``(nodes, cutoff**2)``."""
    # the nodes are the eigenvalues of the truncated position operator; its eigenvectors are the weighted wave functions
    off = np.sqrt(np.arange(1, nodes) / 2)
    x, vectors = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
    vectors = (vectors * np.where(vectors[0] < 0, -1.0, 1.0))[:cutoff].T
    steps = np.arange(cutoff)[:, None] - np.arange(cutoff)
    signs = math.sqrt(2) * (1.0 - 2.0 * ((steps // 2) % 2))
    return _table(x, (vectors[:, :, None] * vectors[:, None, :] * signs).reshape(nodes, -1), device=device)


def _enough_nodes(cutoff: int, largest: float) -> int:
    """Nodes that resolve a displacement of this size: photon numbers reach ``(sqrt(cutoff) + r)**2`` and a tail."""
    reach = (math.sqrt(cutoff) + min(largest, 64.0)) ** 2
    return 16 * math.ceil((reach + 6 * math.sqrt(reach) + 24) / 16)


def displacement(a: Tensor, cutoff: int) -> Tensor:
    """Displacements by real ``a``, ``(...) -> (..., cutoff**2)``."""
    largest = float(a.detach().abs().max()) if a.numel() else 0.0
    x, table = _quadrature(cutoff, _enough_nodes(cutoff, largest), str(a.device))
    return _waves((math.sqrt(2) * a)[..., None] * x, table)


def cubic_phase(strength: Tensor, cutoff: int) -> Tensor:
    r""":math:`e^{i s x^3}` for x in units of sqrt(hbar), without factors :math:`i^{m - n}`; ``(..., cutoff**2)``."""
    x, table = _quadrature(cutoff, 16 * math.ceil((4 * cutoff + 160) / 16), str(strength.device))
    return _waves(strength[..., None] * x**3, table)


@lru_cache(maxsize=64)
def _raising(cutoff: int, device: str) -> tuple[Tensor, ...]:
    r"""Powers ``j`` and coefficients of :math:`e^{t a^{\dagger 2} / 2}`, ``(cutoff, cutoff)`` each."""
    m, n = np.meshgrid(np.arange(cutoff), np.arange(cutoff), indexing="ij")
    allowed = (m >= n) & ((m - n) % 2 == 0)
    j = np.where(allowed, (m - n) // 2, 0)
    logs = 0.5 * (gammaln(m + 1) - gammaln(n + 1)) - j * math.log(2) - gammaln(j + 1)
    return _table(j, np.where(allowed, np.exp(logs), 0.0), (-1.0) ** j, np.arange(cutoff) + 0.5, device=device)


def squeezing(r: Tensor, cutoff: int) -> Tensor:
    """Squeezings by real ``r``, ``(...) -> (..., cutoff**2)``."""
    powers, factors, signs, middle = _raising(cutoff, str(r.device))
    down = factors * r.tanh()[..., None, None] ** powers
    up = down * signs * r.cosh()[..., None, None] ** -middle
    return (up @ down.mT).flatten(-2)


@lru_cache(maxsize=64)
def _raising_pairs(cutoff: int, device: str) -> tuple[Tensor, ...]:
    r"""Powers and coefficients of :math:`e^{t a^\dagger b^\dagger}`, ``(cutoff, cutoff)`` and for each difference."""
    d, m, n = np.meshgrid(*[np.arange(cutoff)] * 3, indexing="ij")
    logs = 0.5 * (gammaln(m + 1) - gammaln(n + 1) + gammaln(m + d + 1) - gammaln(n + d + 1))
    logs = np.where(m >= n, logs - gammaln(np.maximum(m - n, 0) + 1), -np.inf)
    j = np.maximum(m - n, 0)[0]
    return _table(j, np.exp(logs), (-1.0) ** j, 2.0 * n[:, :1] + d[:, :1] + 1, device=device)


def two_mode_squeezing(r: Tensor, cutoff: int) -> Tensor:
    """Two-mode squeezings by real ``r``, ``(...) -> (..., cutoff**3)``: difference, pairs after and before."""
    powers, factors, signs, middle = _raising_pairs(cutoff, str(r.device))
    up = factors * (r.tanh()[..., None, None] ** powers)[..., None, :, :]
    down = up * signs
    return ((up * r.cosh()[..., None, None, None] ** -middle) @ down.mT).flatten(-3)


@lru_cache(maxsize=64)
def _beamsplitter_tables(cutoff: int, kind: BasisKind, device: str) -> tuple[tuple[Tensor, ...], ...]:
    """Eigenvalues and what each adds to each entry, ``(values,)`` and ``(values, entries)``, for runs of blocks."""
    blocks, found = blocks_of(cutoff, kind), []
    for first in range(0, len(blocks.length), _BLOCKS_AT_ONCE):
        some = range(first, min(first + _BLOCKS_AT_ONCE, len(blocks.length)))
        start = blocks.start[first]
        table = np.zeros((2 * some[-1] + 1, blocks.start[some[-1] + 1] - start))
        for photons in some:
            n = np.arange(photons)
            hop = np.sqrt((n + 1) * (photons - n))  # <n, N - n| a b^+ |n + 1, N - n - 1>
            _, vectors = np.linalg.eigh(-1j * (np.diag(hop, 1) - np.diag(hop, -1)))
            low = blocks.lowest[photons]
            kept = vectors[low : low + blocks.length[photons]].T
            products = kept[:, :, None] * kept[:, None, :].conj()
            values = np.arange(-photons, photons + 1, 2) + some[-1]
            here = slice(blocks.start[photons] - start, blocks.start[photons + 1] - start)
            table[values, here] = math.sqrt(2) * (products.real - products.imag).reshape(photons + 1, -1)
        found.append(_table(np.arange(-some[-1], some[-1] + 1.0), table, device=device))
    return tuple(found)


def beamsplitter(theta: Tensor, cutoff: int, kind: BasisKind) -> Tensor:
    """Real beamsplitters, ``(...) -> (..., n_entries)``, the entries of :func:`~circuits.cv.basis.blocks_of`."""
    tables = _beamsplitter_tables(cutoff, kind, str(theta.device))
    parts = [_waves(theta[..., None] * values, table) for values, table in tables]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


@lru_cache(maxsize=64)
def _losing(cutoff: int, device: str) -> tuple[Tensor, ...]:
    """Photons left on both sides, photons lost, and coefficients, ``(cutoff, cutoff, cutoff)`` or less."""
    m, n, k = np.meshgrid(*[np.arange(cutoff)] * 3, indexing="ij")
    logs = 0.5 * (gammaln(m + k + 1) + gammaln(n + k + 1) - gammaln(m + 1) - gammaln(n + 1)) - gammaln(k + 1)
    return _table((m + n)[..., :1], np.arange(cutoff), np.exp(logs), device=device)


def loss(transmissivity: Tensor, cutoff: int) -> Tensor:
    r"""Loss on density matrices, ``(...) -> (..., cutoff**3)``: photons left on both sides, photons lost.

    .. math:: \langle m|\rho|n\rangle \to \sum_k \sqrt{\tbinom{m+k}{k} \tbinom{n+k}{k}}\,
        T^{(m+n)/2} (1 - T)^k \langle m + k|\rho|n + k\rangle

    The derivative of :math:`\sqrt T` at 0 is taken as 0.
    """
    left, lost, factors = _losing(cutoff, str(transmissivity.device))
    some = transmissivity > 0
    root = torch.where(some, torch.where(some, transmissivity, 1.0).sqrt(), 0.0)[..., None, None, None]
    return (factors * root**left * (1 - transmissivity)[..., None, None, None] ** lost).flatten(-3)
