r"""Matrix entries of the gates between photon-number states, exact below the cutoff and differentiable.

Every gate is a real matrix between rotations, :math:`G(r, \phi) = e^{i\phi n} G(r, 0) e^{-i\phi n}` and the like
(:mod:`circuits.cv.schedule`); here are the real ones. Their entries are those of the operators on the whole space, so
that what leaves the truncated space is missing from the norm:

- displacements and cubic phases are functions :math:`f` of one quadrature, hence sums over nodes,
  :math:`\sum_q \psi_m(x_q)\, f(x_q)\, \psi_n(x_q)\, w_q` (a displacement, :math:`f(x) = e^{i\sqrt2 r x}`, is one along
  p), of Gauss and Hermite or, where f turns ever faster, of a grid;
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
    "TooFastError",
    "beamsplitter",
    "cubic_phase",
    "displacement",
    "furthest",
    "hermite_functions",
    "losing_tables",
    "loss",
    "normal_order_tables",
    "squeezing",
    "two_mode_squeezing",
    "wave_tables",
]

WaveTables = tuple[tuple[Tensor, ...], ...]

_BLOCKS_AT_ONCE = 20
_MOST_POINTS = 2**14


class TooFastError(ValueError):
    """A cubic phase that turns too fast for a grid of moderate size."""


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


def _waves(values: Tensor, tables: WaveTables) -> Tensor:
    parts = [torch.cos(values[..., None] * rates - 0.25 * math.pi) @ table for rates, table in tables]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


@lru_cache(maxsize=64)
def _quadrature(cutoff: int, nodes: int, device: str) -> tuple[Tensor, ...]:
    """Gauss-Hermite nodes times sqrt(2) ``(nodes,)`` and products of wave functions there, ``(nodes, cutoff**2)``."""
    # the nodes are the eigenvalues of the truncated position operator; its eigenvectors are the weighted wave functions
    off = np.sqrt(np.arange(1, nodes) / 2)
    x, vectors = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
    waves = (vectors * np.where(vectors[0] < 0, -1.0, 1.0))[:cutoff].T
    return _table(math.sqrt(2) * x, _products(waves), device=device)


@lru_cache(maxsize=64)
def _grid(cutoff: int, points: int, device: str) -> tuple[Tensor, ...]:
    """Cubes of a grid wider than the wave functions, and the same: sums of what vanishes at both ends are exact."""
    x = torch.linspace(-1, 1, points, dtype=torch.float64) * (math.sqrt(2 * cutoff) + 6)
    waves = hermite_functions(x, cutoff).numpy() * math.sqrt(float(x[1] - x[0]))
    return _table(x.numpy() ** 3, _products(waves), device=device)


def _products(waves: np.ndarray) -> np.ndarray:
    """From weighted wave functions ``(nodes, cutoff)``, with the signs that leave ``i**(m - n)`` to rotations."""
    n = np.arange(waves.shape[1])
    signs = math.sqrt(2) * (1.0 - 2.0 * ((n[:, None] - n) // 2 % 2))
    return (waves[:, :, None] * waves[:, None, :] * signs).reshape(len(waves), -1)


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max()) if values.numel() else 0.0


def wave_tables(name: str, largest: float, cutoff: int, kind: BasisKind, device: str) -> WaveTables:
    r"""Of a gate whose entries are sums of waves, one part of the entries after another.

    Args:
        name: ``Displacement``, ``CubicPhase`` or ``Beamsplitter``.
        largest: the largest absolute value that the parameter takes.
        cutoff: of the basis.
        kind: of the basis.
        device: where the tables are needed.

    Returns:
        Pairs ``(q,)`` and ``(q, entries)``: rates f and a table C of
        :math:`\sum_q \cos(f_q v - \pi/4)\, C_{qe}`.

    Raises:
        TooFastError: a cubic phase that turns too fast for a grid of moderate size.
    """
    if name == "Beamsplitter":
        return _blocks(cutoff, kind, device)
    if name == "Displacement":
        return (_quadrature(cutoff, _enough_nodes(cutoff, largest), device),)
    return (_grid(cutoff, _enough_points(cutoff, largest), device),)


def furthest(cutoff: int) -> float:
    """A displacement beyond which no entry below the cutoff is larger than 1e-30: larger ones count as this one.

    Entries fall off like ``exp(-(r - sqrt(m) - sqrt(n))**2 / 2)``.
    """
    return 2 * math.sqrt(cutoff) + 12


def _enough_nodes(cutoff: int, largest: float) -> int:
    """Nodes that resolve a displacement of this size: photon numbers reach ``(sqrt(cutoff) + r)**2`` and a tail."""
    reach = (math.sqrt(cutoff) + min(largest, furthest(cutoff))) ** 2
    return 16 * math.ceil((reach + 6 * math.sqrt(reach) + 24) / 16)


def displacement(a: Tensor, cutoff: int) -> Tensor:
    """Displacements by real ``a``, ``(...) -> (..., cutoff**2)``."""
    a = a.clamp(-furthest(cutoff), furthest(cutoff))
    return _waves(a, wave_tables("Displacement", _largest(a), cutoff, "mode", str(a.device)))


def _enough_points(cutoff: int, largest: float) -> int:
    """Grid points that resolve ``exp(i s x**3)`` between wave functions, rounded up to a power of 2."""
    turning = math.sqrt(2 * cutoff)
    fastest = 3 * largest * (turning + 4) ** 2 + 2 * turning + 16
    wanted = (turning + 6) * fastest / math.pi
    if not wanted <= _MOST_POINTS:
        most = (_MOST_POINTS * math.pi / (turning + 6) - 2 * turning - 16) / (3 * (turning + 4) ** 2)
        raise TooFastError(
            f"CubicPhase of strength {largest:.4g} in exp(i s x^3); at cutoff {cutoff} at most {most:.4g}"
        )
    return 2 ** math.ceil(math.log2(wanted))


def cubic_phase(strength: Tensor, cutoff: int) -> Tensor:
    r""":math:`e^{i s x^3}` for x in units of sqrt(hbar), without factors :math:`i^{m - n}`; ``(..., cutoff**2)``.

    Raises:
        TooFastError: a phase that turns too fast for a grid of moderate size.
    """
    return _waves(strength, wave_tables("CubicPhase", _largest(strength), cutoff, "mode", str(strength.device)))


def _powers(x: Tensor, count: int) -> Tensor:
    """``x**0, ..., x**(count - 1)``, ``(...) -> (..., count)``, differentiable to all orders also at 0."""
    found, factor = torch.ones_like(x)[..., None], x[..., None]
    while found.shape[-1] < count:
        found = torch.cat([found, found * factor], dim=-1)
        factor = factor * factor
    return found[..., :count]


def normal_order_tables(name: str, cutoff: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    r"""Of ``Squeezing`` or ``TwoModeSqueezing``: what each power of :math:`\tanh r` adds to the triangular matrices.

    Returns:
        Tables ``(powers, ..., cutoff, cutoff)`` of the first and, transposed, the last factor, and powers of
        :math:`1 / \cosh r` for the diagonal one, which divide the columns of the first.
    """
    return _raising(cutoff, device) if name == "Squeezing" else _raising_pairs(cutoff, device)


@lru_cache(maxsize=64)
def _raising(cutoff: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    r"""Of :math:`e^{-t a^{\dagger 2} / 2}` and :math:`e^{t a^2 / 2}`."""
    m, n = np.meshgrid(np.arange(cutoff), np.arange(cutoff), indexing="ij")
    j = np.where((m >= n) & ((m - n) % 2 == 0), (m - n) // 2, -1)
    logs = 0.5 * (gammaln(m + 1) - gammaln(n + 1)) - j * math.log(2) - gammaln(np.maximum(j, 0) + 1)
    minus, plus = _by_power(np.exp(logs), j, (cutoff + 1) // 2)
    first, last, middle = _table(minus, plus, np.arange(cutoff) + 0.5, device=device)
    return first, last, middle


@lru_cache(maxsize=64)
def _raising_pairs(cutoff: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    r"""Of :math:`e^{t a^\dagger b^\dagger}` and :math:`e^{-t a b}`, for each difference of the numbers."""
    d, m, n = np.meshgrid(*[np.arange(cutoff)] * 3, indexing="ij")
    logs = 0.5 * (gammaln(m + 1) - gammaln(n + 1) + gammaln(m + d + 1) - gammaln(n + d + 1))
    logs -= gammaln(np.maximum(m - n, 0) + 1)
    minus, plus = _by_power(np.exp(logs), np.where(m >= n, m - n, -1), cutoff)
    first, last, middle = _table(plus, minus, 2.0 * n[:, :1] + d[:, :1] + 1, device=device)
    return first, last, middle


def _by_power(factors: np.ndarray, j: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tables ``(count, ...)`` of ``(-t)**j`` and of ``t**j``, where ``j`` is not negative."""
    each = np.arange(count).reshape(-1, *[1] * j.ndim)
    tables = np.where(j == each, factors, 0.0)
    return (-1.0) ** each * tables, tables


def _normal_ordered(r: Tensor, tables: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    first, last, middle = tables
    powers, shape = _powers(r.tanh(), len(first)), first.shape[1:]
    raised, lowered = ((powers @ table.flatten(1)).unflatten(-1, shape) for table in (first, last))
    return (raised * r.cosh()[(..., *[None] * len(shape))] ** -middle @ lowered.mT).flatten(-len(shape))


def squeezing(r: Tensor, cutoff: int) -> Tensor:
    """Squeezings by real ``r``, ``(...) -> (..., cutoff**2)``."""
    return _normal_ordered(r, normal_order_tables("Squeezing", cutoff, str(r.device)))


def two_mode_squeezing(r: Tensor, cutoff: int) -> Tensor:
    """Two-mode squeezings by real ``r``, ``(...) -> (..., cutoff**3)``: difference, pairs after and before."""
    return _normal_ordered(r, normal_order_tables("TwoModeSqueezing", cutoff, str(r.device)))


@lru_cache(maxsize=64)
def _blocks(cutoff: int, kind: BasisKind, device: str) -> WaveTables:
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
    return _waves(theta, wave_tables("Beamsplitter", 0.0, cutoff, kind, str(theta.device)))


@lru_cache(maxsize=64)
def losing_tables(cutoff: int, device: str) -> tuple[Tensor, ...]:
    """Photons left on both sides, ``(cutoff**2,)``, and coefficients, ``(cutoff**2, cutoff)``."""
    m, n, k = np.meshgrid(*[np.arange(cutoff)] * 3, indexing="ij")
    logs = 0.5 * (gammaln(m + k + 1) + gammaln(n + k + 1) - gammaln(m + 1) - gammaln(n + 1)) - gammaln(k + 1)
    return _table((m + n)[..., 0].flatten(), np.exp(logs).reshape(-1, cutoff), device=device)


def loss(transmissivity: Tensor, cutoff: int) -> Tensor:
    r"""Loss on density matrices, ``(...) -> (..., cutoff**3)``: photons left on both sides, photons lost.

    .. math:: \langle m|\rho|n\rangle \to \sum_k \sqrt{\tbinom{m+k}{k} \tbinom{n+k}{k}}\,
        T^{(m+n)/2} (1 - T)^k \langle m + k|\rho|n + k\rangle

    The derivative of :math:`\sqrt T` at 0 is taken as 0.
    """
    left, factors = losing_tables(cutoff, str(transmissivity.device))
    some = transmissivity > 0
    root = torch.where(some, torch.where(some, transmissivity, 1.0).sqrt(), 0.0)
    kept = _powers(transmissivity, cutoff).index_select(-1, left // 2)
    kept = torch.where(left % 2 == 1, kept * root[..., None], kept)
    return (factors * kept[..., None] * _powers(1 - transmissivity, cutoff)[..., None, :]).flatten(-2)
