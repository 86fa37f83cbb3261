r"""Values of Z strings in independent columns, and blocks of unbiased estimates of moments and cumulants from them.

A column is one event's :math:`(-1)^{|S \cap x|}` for every string ``S``, or one unbiased draw of a model's
:math:`\langle Z_S \rangle`. Both are used alike: products of expectation values come from different columns, so that
they are unbiased, whatever noise a column has.

A block is some columns, and of each block the estimates are unbiased on their own. Cumulants are

.. math:: \kappa_{ij} = m_{ij} - m_i m_j, \quad
          \kappa_{ijk} = m_{ijk} - m_i m_{jk} - m_j m_{ik} - m_k m_{ij} + 2 m_i m_j m_k .
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qgen.bits.gaps import FEWEST_BLOCKS
from qgen.bits.sets import BitSets

__all__ = ["BitValues", "Blocks", "Columns", "Model", "n_blocks"]

MOST_BLOCKS, SMALLEST_BLOCK = 50, 6

AT_ONCE = 2**24
"""Numbers in memory at a time."""

STRINGS_AT_ONCE = 2048

Columns = Callable[[BitSets], Tensor]
"""Strings to their values ``(n_strings, n)``, a column each event or draw; ``n`` is 1 where the values are exact."""

Model = Tensor | Columns
"""Bits of events ``(n, n_bits)``, or the columns of a model without events."""


def n_blocks(n: int) -> int:
    """Blocks of ``n`` columns: 50, or fewer of at least 6 columns each, but 3 in any case; 1 of a single column.

    >>> n_blocks(2000), n_blocks(60), n_blocks(20), n_blocks(1)
    (50, 10, 3, 1)
    """
    return 1 if n == 1 else max(FEWEST_BLOCKS, min(MOST_BLOCKS, n // SMALLEST_BLOCK))


@dataclass(frozen=True)
class BitValues:
    """The columns of events.

    Args:
        bits: ``(n, n_bits)``.
    """

    bits: Tensor

    def __call__(self, strings: BitSets) -> Tensor:
        """``(n_strings, n)`` float32."""
        return torch.cat([part.signs(self.bits) for part in _parts(strings, len(self.bits))])


@dataclass(frozen=True)
class Blocks:
    """Estimates from the columns of events or of a model, a block a column of each result.

    Args:
        columns: of events or of a model.
    """

    columns: Columns

    @classmethod
    def of(cls, model: Model) -> Blocks:
        """Those of bits, or of columns."""
        return cls(BitValues(model) if isinstance(model, Tensor) else model)

    def means(self, strings: BitSets) -> Tensor:
        """Moments of strings, ``(n_strings, B)`` float64."""
        return torch.cat([blocked(self._values(part)).mean(2) for part in _cut(strings)])

    def sums(self, strings: BitSets, weights: Tensor) -> Tensor:
        """Weighted sums of moments, ``(n_sums, B)``, for weights ``(n_sums, n_strings)``."""
        return weights.to(torch.float64) @ self.means(strings)

    def pairs(self, pairs: Tensor, n_bits: int) -> Tensor:
        """Covariances of pairs of bits ``(P, 2)``, ``(P, B)`` float64."""
        singles = self._singles(n_bits)
        found = []
        for part in pairs.split(STRINGS_AT_ONCE):
            together = self._values(BitSets.of(n_bits, part.tolist()))
            a, b = (blocked(singles[part[:, k]]) for k in range(2))
            found.append(blocked(together).mean(2) - _product(a, b))
        return torch.cat(found)

    def triples(self, triples: Tensor, n_bits: int) -> Tensor:
        """Third cumulants of triples of bits ``(T, 3)``, ``(T, B)`` float64."""
        singles = self._singles(n_bits)
        found = []
        for part in triples.split(STRINGS_AT_ONCE // 4):
            others = [(1, 2), (0, 2), (0, 1)]
            sets = [*part.tolist(), *(row for pair in others for row in part[:, pair].tolist())]
            three, *two = (blocked(x) for x in self._values(BitSets.of(n_bits, sets)).chunk(4))
            one = [blocked(singles[part[:, k]]) for k in range(3)]
            cumulant = three.mean(2) + 2 * _triple_product(*one)
            for single, pair in zip(one, two, strict=True):
                cumulant = cumulant - _product(single, pair)
            found.append(cumulant)
        return torch.cat(found)

    def beyond_means(self, strings: BitSets) -> Tensor:
        """Moments of strings of one size less the products of their bits' means, ``(n_strings, B)`` float64.

        A product takes every bit from another column of the block; no block may have fewer columns than a string bits.
        """
        singles = self._singles(strings.n_bits)
        found = []
        for part in _cut(strings):
            members = part.members.reshape(len(part), -1)
            product = torch.ones(())
            for shift, bit in enumerate(members.T):
                product = product * blocked(singles[bit]).roll(shift, 2)
            found.append(blocked(self._values(part)).mean(2) - product.mean(2))
        return torch.cat(found)

    def _singles(self, n_bits: int) -> Tensor:
        return self._values(BitSets.of(n_bits, [(i,) for i in range(n_bits)]))

    def _values(self, strings: BitSets) -> Tensor:
        values = self.columns(strings)
        if values.ndim != 2 or len(values) != len(strings):
            raise ValueError(f"values of {len(strings)} strings have shape {tuple(values.shape)}; expected a row each")
        return values.detach().cpu()


def blocked(values: Tensor) -> Tensor:
    """Columns ``(K, n)`` cut into blocks of equally many, ``(K, B, size)`` float64; the few that are over are left out.

    A single column is exact: then there is one block of one.
    """
    b = n_blocks(values.shape[1])
    size = values.shape[1] // b
    return values[:, : b * size].to(torch.float64).unflatten(1, (b, size))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Unbiased product of two means, from different columns of each block: ``(K, B, size)`` twice to ``(K, B)``."""
    n = a.shape[2]
    if n == 1:
        return (a * b).squeeze(2)
    return (a.sum(2) * b.sum(2) - (a * b).sum(2)) / (n * (n - 1))


def _triple_product(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The same of three means."""
    n = a.shape[2]
    if n == 1:
        return (a * b * c).squeeze(2)
    ab, ac, bc = a * b, a * c, b * c
    x, y, z = a.sum(2), b.sum(2), c.sum(2)
    total = x * y * z - ab.sum(2) * z - ac.sum(2) * y - bc.sum(2) * x + 2 * (ab * c).sum(2)
    return total / (n * (n - 1) * (n - 2))


def _cut(strings: BitSets) -> Iterator[BitSets]:
    for which in torch.arange(len(strings)).split(STRINGS_AT_ONCE):
        yield strings.take(which)


def _parts(strings: BitSets, n: int) -> Iterator[BitSets]:
    """The strings a few at a time, so that their members times ``n`` events fit in memory."""
    ends = strings.sizes.clamp_min(1).cumsum(0) // max(1, AT_ONCE // n)
    for part in torch.arange(len(strings)).tensor_split((ends.diff() > 0).nonzero().flatten() + 1):
        yield strings.take(part)
