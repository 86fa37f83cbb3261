r"""Expectation values of Z strings of an IQP circuit, at any width.

From :math:`|0 \dots 0\rangle` the gates :math:`e^{i \theta_j X_{g_j}}` (X on all bits of the set :math:`g_j`) act, and
all bits are measured in Z. With :math:`|S \cap g|` the number of bits that two sets share,

.. math:: \langle Z_S \rangle = E_z \cos\Bigl(2 \sum_{j : |S \cap g_j| \text{ odd}} \theta_j (-1)^{|g_j \cap z|}\Bigr)

over uniformly random bit strings :math:`z` (2503.02934; the estimate is that of Van den Nest, 0911.1624).
:func:`iqp_cosines` gives the cosines for drawn strings: their mean is unbiased and each has a variance below one, at
any number of bits. :func:`exact_expectations` gives the expectation values themselves, on few bits.

If the circuit starts from :math:`(|0 \dots 0\rangle + |1 \dots 1\rangle) / \sqrt 2` instead, :math:`\langle Z_S
\rangle` is zero for odd :math:`|S|`, and for even :math:`|S|` the mean is over :math:`z` of even parity.

A string meets few of the gates, so the sums are products of sparse matrices: the compiled kernels of
:mod:`qgen.models.iqp_kernels` on a CPU, torch's on CUDA. The signs of eight draws are one byte, nothing of the size
gates times draws is kept in floating point, and memory is linear in gates, strings and draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qgen.bits.generator import as_numbers
from qgen.bits.sets import BitSets
from qgen.bits.walsh import walsh_hadamard

__all__ = ["EXACT_BITS", "exact_expectations", "iqp_cosines", "uniform_bits"]

EXACT_BITS = 20
"""Most bits of :func:`exact_expectations`."""

AT_ONCE = 2**24
"""Gates times draws done together on CUDA."""


def uniform_bits(
    n_bits: int, count: int, generator: torch.Generator, *, even: bool = False, device: torch.device | str = "cpu"
) -> Tensor:
    """Uniformly random bit strings, ``(count, n_bits)`` uint8.

    Args:
        n_bits: bits of a string.
        count: number of strings.
        generator: source of the draws, on its own device.
        even: only strings with an even number of ones.
        device: where the bits go.

    >>> uniform_bits(3, 4, torch.Generator().manual_seed(0), even=True).sum(1).remainder(2).tolist()
    [0, 0, 0, 0]
    """
    n_bytes = -(-count * n_bits // 8)
    drawn = torch.randint(0, 256, (n_bytes, 1), dtype=torch.uint8, generator=generator, device=generator.device)
    bits = drawn >> torch.arange(8, dtype=torch.uint8, device=generator.device) & 1
    bits = bits.flatten()[: count * n_bits].reshape(count, n_bits)
    if even:
        bits[:, -1] = bits[:, :-1].sum(1).remainder(2)
    return bits.to(device)


def iqp_cosines(
    gates: BitSets,
    angles: Tensor,
    strings: BitSets,
    draws: Tensor,
    *,
    factors: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The cosine of each Z string for each drawn bit string, ``(n_strings, n_draws)``.

    Differentiable in the angles; the gradient has their dtype. With factors the angles of draw ``d`` are ``angles @
    factors[:, d]``, which are never all there at once: a condition's 1 and its columns, say, or the indicators of
    the components of a mixture.

    Args:
        gates: bits of each gate.
        angles: ``(n_gates,)``; or ``(n_gates, n_draws)`` with angles of its own for each draw; with factors
            ``(n_gates, n_terms)``.
        strings: bits of each Z string.
        draws: ``(n_draws, n_bits)`` uint8 of 0 and 1, see :func:`uniform_bits`.
        factors: ``(n_terms, n_draws)``, without a gradient.
        dtype: float32 or float64, of the sums and of the result.

    Raises:
        ValueError: numbers of bits or shapes that do not fit, draws that are not bits, or another dtype.

    >>> gates, strings = BitSets.of(2, [(0,), (0, 1)]), BitSets.of(2, [(0,), (0, 1)])
    >>> draws = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.uint8)
    >>> iqp_cosines(gates, torch.tensor([0.3, 0.2]), strings, draws).mean(1)
    tensor([0.7602, 0.8253])
    """
    _check(gates, angles, strings, draws, factors, dtype)
    if angles.ndim == 1:
        angles, factors = angles[:, None], angles.new_ones(1, len(draws))
    product = _CPU if draws.device.type == "cpu" else _Torch
    made = product.of(gates, strings, draws, None if factors is None else factors.to(dtype), dtype)
    phases: Tensor = _Phases.apply(angles, made)
    return phases.cos()


def exact_expectations(gates: BitSets, angles: Tensor, strings: BitSets, *, spin_symmetric: bool = False) -> Tensor:
    """The expectation value of each Z string, ``(n_strings,)`` float64.

    By Walsh-Hadamard transforms of the amplitudes, on up to :data:`EXACT_BITS` bits. Differentiable in the angles.

    Args:
        gates: bits of each gate.
        angles: ``(n_gates,)``.
        strings: bits of each Z string.
        spin_symmetric: the circuit starts from the equal superposition of all bits 0 and all bits 1.

    Raises:
        ValueError: more bits, or numbers that do not fit.

    >>> one = BitSets.of(1, [(0,)])
    >>> exact_expectations(one, torch.tensor([0.3]), one)  # cos 0.6
    tensor([0.8253], dtype=torch.float64)
    """
    n = gates.n_bits
    if n > EXACT_BITS:
        raise ValueError(f"gates have {n} bits; exact expectation values are for up to {EXACT_BITS}")
    _check_sets(gates, strings)
    if angles.shape != (len(gates),):
        raise ValueError(f"angles have shape {tuple(angles.shape)}; expected ({len(gates)},)")
    device = angles.device
    spectrum = torch.zeros(2**n, dtype=torch.float64, device=device)
    phase = walsh_hadamard(spectrum.index_add(0, as_numbers(gates.dense()).to(device), angles.double()))
    real, imaginary = walsh_hadamard(phase.cos()), walsh_hadamard(phase.sin())
    if spin_symmetric:
        real, imaginary = ((part + part.flip(0)) / 2**0.5 for part in (real, imaginary))
    probabilities = (real.square() + imaginary.square()) / 4.0**n
    return walsh_hadamard(probabilities)[as_numbers(strings.dense()).to(device)]


def _check_sets(gates: BitSets, strings: BitSets) -> None:
    if gates.n_bits != strings.n_bits:
        raise ValueError(f"strings have {strings.n_bits} bits; the gates have {gates.n_bits}")


def _check(
    gates: BitSets, angles: Tensor, strings: BitSets, draws: Tensor, factors: Tensor | None, dtype: torch.dtype
) -> None:
    _check_sets(gates, strings)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is {dtype}; allowed are torch.float32 and torch.float64")
    if draws.ndim != 2 or draws.shape[1] != gates.n_bits or draws.dtype != torch.uint8:
        raise ValueError(
            f"draws are {draws.dtype} of shape {tuple(draws.shape)}; expected torch.uint8, (n_draws, {gates.n_bits})"
        )
    if draws.numel() and (largest := int(draws.max())) > 1:
        raise ValueError(f"draws have the entry {largest}; allowed are 0 and 1")
    expected: list[tuple[int, ...]] = [(len(gates),), (len(gates), len(draws))]
    if factors is not None:
        expected = [(len(gates), len(factors))]
        if factors.ndim != 2 or factors.shape[1] != len(draws) or not len(factors) or factors.requires_grad:
            raise ValueError(
                f"factors have shape {tuple(factors.shape)}{' and a gradient' * factors.requires_grad}; expected "
                f"(n_terms, {len(draws)}) without a gradient"
            )
    if angles.shape not in expected:
        raise ValueError(f"angles have shape {tuple(angles.shape)}; expected {' or '.join(map(str, expected))}")
    for what, values in (("angles", angles), ("factors", factors)):
        if values is not None and values.device != draws.device:
            raise ValueError(f"{what} are on {values.device}; the draws are on {draws.device}")


class _Phases(torch.autograd.Function):
    """The linear map from angles to phases, and its adjoint."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, product: _CPU | _Torch) -> Tensor:
        ctx.product, ctx.dtype = product, angles.dtype
        return product.phases(angles.detach().to(product.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.product.adjoint(gradient).to(ctx.dtype), None


# on a CPU


@dataclass(frozen=True, eq=False)
class _Rows:
    """A sparse matrix of zeros and ones: the columns of each row."""

    pointers: np.ndarray
    members: np.ndarray

    def transposed(self, n_columns: int) -> _Rows:
        from qgen.models import iqp_kernels as kernels

        pointers, rows = np.empty(n_columns + 1, np.int64), np.empty(len(self.members), np.int32)
        kernels.transposed(self.pointers, self.members, pointers, rows)
        return _Rows(pointers, rows)


def _rows(sets: BitSets) -> _Rows:
    return _Rows(sets.pointers.cpu().numpy(), sets.members.cpu().numpy().astype(np.int32))


def _odd_overlaps(strings: BitSets, gates: BitSets) -> _Rows:
    """The gates that share an odd number of bits with each string."""
    from qgen.models import iqp_kernels as kernels

    rows, bits = _rows(strings), _rows(gates).transposed(gates.n_bits)
    pointers = np.empty(len(strings) + 1, np.int64)
    found = np.empty(int(np.diff(bits.pointers)[rows.members].sum()), np.int32)
    odd = np.zeros(len(gates), np.uint8)
    count = kernels.odd_overlaps(rows.pointers, rows.members, bits.pointers, bits.members, odd, pointers, found)
    return _Rows(pointers, found[:count].copy())


@dataclass(frozen=True, eq=False)
class _CPU:
    """Products with the odd overlaps and the signs, by compiled kernels."""

    overlaps: _Rows
    gates: _Rows
    signs: np.ndarray
    n_draws: int
    factors: Tensor | None
    dtype: torch.dtype

    @classmethod
    def of(cls, gates: BitSets, strings: BitSets, draws: Tensor, factors: Tensor | None, dtype: torch.dtype) -> _CPU:
        from qgen.models import iqp_kernels as kernels

        overlaps = _odd_overlaps(strings, gates)
        rows = _rows(gates)
        packed = np.empty((-(-len(draws) // 8), gates.n_bits), np.uint8)
        kernels.packed(draws.contiguous().numpy(), packed)
        signs = np.empty((len(gates), len(packed)), np.uint8)
        kernels.sign_bytes(rows.pointers, rows.members, np.ascontiguousarray(packed.T), signs)
        return cls(overlaps, overlaps.transposed(len(gates)), signs, len(draws), factors, dtype)

    def _padded(self, values: Tensor | None) -> np.ndarray:
        """Columns of draws up to a full byte."""
        values = torch.empty(0, 0, dtype=self.dtype) if values is None else values
        missing = 8 * self.signs.shape[1] - self.n_draws if len(values) else 0
        return (torch.nn.functional.pad(values, (0, missing)) if missing else values.contiguous()).numpy()

    def phases(self, angles: Tensor) -> Tensor:
        from qgen.models import iqp_kernels as kernels

        rows, n_bytes = self.overlaps, self.signs.shape[1]
        used = np.diff(self.gates.pointers) > 0
        factors = self._padded(self.factors)
        columns = angles.contiguous().numpy() if len(factors) else self._padded(angles)
        table = kernels.sign_table(columns.dtype)
        out = np.empty((len(rows.pointers) - 1, 8 * n_bytes), columns.dtype)

        def part(first: int, last: int) -> None:
            kernels.phases(rows.pointers, rows.members, used, self.signs, table, columns, factors, first, last, out)

        _in_parts(part, n_bytes, kernels.FORWARD)
        return torch.from_numpy(out)[:, : self.n_draws]

    def adjoint(self, gradient: Tensor) -> Tensor:
        from qgen.models import iqp_kernels as kernels

        rows, columns, factors = self.gates, self._padded(gradient), self._padded(self.factors)
        table = kernels.sign_table(columns.dtype)
        out = np.zeros((len(self.signs), len(factors) or columns.shape[1]), columns.dtype)

        def part(first: int, last: int) -> None:
            kernels.angle_gradients(rows.pointers, rows.members, self.signs, table, columns, factors, first, last, out)

        _in_parts(part, len(self.signs), 1)
        return torch.from_numpy(out) if len(factors) else torch.from_numpy(out)[:, : self.n_draws]


def _in_parts(work: Callable[[int, int], None], total: int, step: int) -> None:
    """The work from 0 to ``total``, shared among torch's threads in multiples of ``step``."""
    n_threads = max(1, min(torch.get_num_threads(), total // step))
    ends = [step * (total * part // (n_threads * step)) for part in range(n_threads)] + [total]
    if n_threads == 1:
        work(0, total)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, ends[:-1], ends[1:]))


# on CUDA


@dataclass(frozen=True, eq=False)
class _Torch:
    """The same by torch's sparse products, in blocks of draws."""

    overlaps: Tensor
    gates: Tensor
    draws: Tensor
    factors: Tensor | None
    dtype: torch.dtype

    @classmethod
    def of(cls, gates: BitSets, strings: BitSets, draws: Tensor, factors: Tensor | None, dtype: torch.dtype) -> _Torch:
        odd = _odd_overlaps(strings, gates)
        overlaps = BitSets(len(gates), torch.from_numpy(odd.pointers), torch.from_numpy(odd.members).long())
        return cls(_matrix(overlaps, dtype, draws.device), _matrix(gates, dtype, draws.device), draws, factors, dtype)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Twice the signs of the gates, ``(n_gates, block)``, a block of draws at a time."""
        step = max(1, AT_ONCE // max(1, len(self.gates)))
        for start in range(0, len(self.draws), step):
            ones = self.gates @ self.draws[start : start + step].T.to(self.dtype)
            yield slice(start, start + step), 2 - 4 * ones.remainder(2)

    def phases(self, angles: Tensor) -> Tensor:
        out = angles.new_empty(len(self.overlaps), len(self.draws))
        for block, signs in self._blocks():
            columns = angles[:, block] if self.factors is None else angles @ self.factors[:, block]
            out[:, block] = self.overlaps @ (signs * columns)
        return out

    def adjoint(self, gradient: Tensor) -> Tensor:
        transposed = self.overlaps.T
        n_columns = len(self.draws if self.factors is None else self.factors)
        out = gradient.new_zeros(len(self.gates), n_columns)
        for block, signs in self._blocks():
            columns = signs * (transposed @ gradient[:, block])
            if self.factors is None:
                out[:, block] = columns
            else:
                out += columns @ self.factors[:, block].T
        return out


def _matrix(sets: BitSets, dtype: torch.dtype, device: torch.device) -> Tensor:
    places = torch.stack([sets.rows, sets.members])
    ones = torch.ones(len(sets.members), dtype=dtype, device=sets.device)
    shape = (len(sets), sets.n_bits)
    return torch.sparse_coo_tensor(places, ones, shape, check_invariants=False).to(device).coalesce()
