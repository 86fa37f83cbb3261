"""``BitSets``: sets of bits of a bit string, the gates of a model or the Z strings that are measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

__all__ = ["BitSets"]

DENSE = 128
"""Bits for each member of a set up to which a product of dense matrices counts ones faster than a sum over members."""


@dataclass(frozen=True, eq=False)
class BitSets:
    """Sets of bits, held sparsely: set ``k`` is ``members[pointers[k] : pointers[k + 1]]``, ascending.

    Built by :meth:`of` or :meth:`from_dense`; a set may be empty.

    Args:
        n_bits: bits of a string, numbered from 0.
        pointers: ``(n_sets + 1,)`` int64.
        members: ``(total size,)`` int64.

    >>> sets = BitSets.of(4, [(0,), (1, 3)])
    >>> sets.members.tolist(), sets.sizes.tolist(), list(sets)
    ([0, 1, 3], [1, 2], [(0,), (1, 3)])
    """

    n_bits: int
    pointers: Tensor
    members: Tensor

    @classmethod
    def of(cls, n_bits: int, sets: Iterable[Sequence[int]], what: str = "set") -> Self:
        """The sets with these members.

        Args:
            n_bits: bits of a string.
            sets: members of each, in any order.
            what: what a message calls a set.

        Raises:
            ValueError: a member beyond the bits, or twice in one set; the set is named.
        """
        rows = [sorted(int(bit) for bit in one) for one in sets]
        for k, row in enumerate(rows):
            if row and not 0 <= row[0] <= row[-1] < n_bits:
                wrong = row[0] if row[0] < 0 else row[-1]
                raise ValueError(f"{what} {k} has bit {wrong}; the {n_bits} bits are 0 to {n_bits - 1}")
            if len(set(row)) < len(row):
                raise ValueError(f"{what} {k} is {row}; a bit may be in it once only")
        sizes = torch.tensor([0, *map(len, rows)], dtype=torch.int64)
        return cls(n_bits, sizes.cumsum(0), torch.tensor([bit for row in rows for bit in row], dtype=torch.int64))

    @classmethod
    def from_dense(cls, rows: Tensor) -> Self:
        """The sets whose members are the nonzero entries of each row, ``(n_sets, n_bits)``.

        >>> list(BitSets.from_dense(torch.tensor([[0, 1, 1], [0, 0, 0]])))
        [(1, 2), ()]
        """
        row, members = rows.nonzero(as_tuple=True)
        sizes = torch.bincount(row, minlength=len(rows))
        return cls(rows.shape[1], torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), members)

    def __len__(self) -> int:
        return len(self.pointers) - 1

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        members = self.members.tolist()
        ends = self.pointers.tolist()
        return (tuple(members[a:b]) for a, b in pairwise(ends))

    @property
    def sizes(self) -> Tensor:
        """Number of bits of each set, ``(n_sets,)``."""
        return self.pointers.diff()

    @property
    def rows(self) -> Tensor:
        """The set of each entry of ``members``, same shape."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.members.device), self.sizes)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.members.device

    def to(self, device: torch.device | str) -> Self:
        """The same sets on a device."""
        return type(self)(self.n_bits, self.pointers.to(device), self.members.to(device))

    def take(self, which: Tensor) -> Self:
        """Some of the sets, by their numbers ``(m,)``.

        >>> list(BitSets.of(3, [(0,), (1, 2), (2,)]).take(torch.tensor([2, 1])))
        [(2,), (1, 2)]
        """
        sizes = self.sizes[which]
        ends = sizes.cumsum(0)
        within = torch.arange(int(ends[-1]) if len(ends) else 0, device=self.device)
        start = (self.pointers[:-1][which] - (ends - sizes)).repeat_interleave(sizes)
        return type(self)(self.n_bits, torch.cat([ends.new_zeros(1), ends]), self.members[start + within])

    def dense(self) -> Tensor:
        """The sets as rows of 0 and 1, ``(n_sets, n_bits)`` uint8."""
        rows = torch.zeros(len(self), self.n_bits, dtype=torch.uint8, device=self.device)
        rows[self.rows, self.members] = 1
        return rows

    def check_distinct(self, what: str = "set") -> None:
        """Refuse equal sets and empty ones.

        Raises:
            ValueError: the two sets, or the empty one, are named.
        """
        seen: dict[tuple[int, ...], int] = {}
        for k, one in enumerate(self):
            if not one:
                raise ValueError(f"{what} {k} is empty; at least one bit is needed")
            if one in seen:
                raise ValueError(f"{what} {k} is {list(one)}, as is {what} {seen[one]}; each may be there once")
            seen[one] = k

    def signs(self, bits: Tensor) -> Tensor:
        """``(-1)`` to the number of ones of each bit string in each set, ``(n_sets, m)`` float32.

        Args:
            bits: ``(m, n_bits)`` of 0 and 1.

        Raises:
            ValueError: another number of bits, or entries that are not bits (the row is named).

        >>> BitSets.of(3, [(0, 1), (2,)]).signs(torch.tensor([[1, 0, 1], [1, 1, 0]])).tolist()
        [[-1.0, 1.0], [-1.0, 1.0]]
        """
        if bits.ndim != 2 or bits.shape[1] != self.n_bits:
            raise ValueError(f"bits have shape {tuple(bits.shape)}; expected (m, {self.n_bits})")
        wrong = ((bits != 0) & (bits != 1)).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            raise ValueError(f"bits row {row}, bit {column} is {bits[row, column].item():g}; allowed are 0 and 1")
        bits = bits.to(self.device)
        if len(self) * self.n_bits <= DENSE * len(self.members) and self.n_bits < 2**15:
            total = (self.dense().to(torch.float32) @ bits.to(torch.float32).T).to(torch.int16)
        else:
            ones = bits.T.to(torch.int32)[self.members]
            total = ones.new_zeros(len(self), len(bits)).index_add_(0, self.rows, ones)
        return total.bitwise_and_(1).mul_(-2).add_(1).to(torch.float32)
