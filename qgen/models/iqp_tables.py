"""Blocks of qubits of an IQP circuit by the tables of their amplitudes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from circuits.backends.draws import draw_bits
from circuits.backends.memory import check_memory
from qgen.bits.sets import BitSets
from qgen.bits.walsh import walsh_hadamard

__all__ = ["Tables"]

_ALWAYS_FREE = 2**24  # bytes; asking the system takes longer than a small table


@dataclass(frozen=True, eq=False)
class Tables:
    """Blocks of equal size; all their tables are computed together.

    Args:
        order: bits of all blocks, one block after the other.
        size: bits of each.
        gates: numbers of the gates that act on them.
        places: for each the place of its members, as a number, in the tables of all blocks one after the other.

    >>> tables = Tables.of(BitSets.of(3, [(0,), (1, 2)]), [(1, 2)])
    >>> tables.at(torch.tensor([[0.0, torch.pi / 2]])).draw(2, torch.Generator().manual_seed(0)).tolist()
    [[1, 1], [1, 1]]
    """

    order: tuple[int, ...]
    size: int
    gates: Tensor
    places: Tensor

    @classmethod
    def of(cls, gates: BitSets, blocks: Sequence[tuple[int, ...]]) -> Self:
        """The tables of these blocks, all of one size, in a circuit of these gates."""
        size = len(blocks[0])
        order = [bit for block in blocks for bit in block]
        value, number = torch.zeros(2, gates.n_bits, dtype=torch.int64)
        value[order] = (1 << torch.arange(size - 1, -1, -1)).repeat(len(blocks))
        number[order] = torch.arange(len(blocks)).repeat_interleave(size)
        first = torch.zeros(len(gates), dtype=torch.int64)
        first[gates.rows] = gates.members
        inside = ((gates.sizes > 0) & (value[first] > 0)).nonzero().flatten()
        mine = gates.take(inside)
        masks = torch.zeros(len(mine), dtype=torch.int64).index_add_(0, mine.rows, value[mine.members])
        return cls(tuple(order), size, inside, (number[first[inside]] << size) + masks)

    @property
    def numbers(self) -> int:
        """Amplitudes of all blocks."""
        return len(self.order) // self.size << self.size

    def at(self, angles: Tensor) -> Amplitudes:
        """The tables at these angles of the whole circuit, ``(1, n_gates)`` in radians, or a row for every draw.

        Raises:
            ValueError: more memory is needed than there is.
        """
        n_blocks = len(self.order) // self.size
        numbers = len(angles) * self.numbers
        needed = 8 * 6 * numbers  # both parts, twice in a transform, probabilities and their sums
        if needed > _ALWAYS_FREE:
            check_memory(needed, None, angles.device, f"amplitudes of {n_blocks} blocks of {self.size} qubits")
        phase = torch.zeros(len(angles), self.numbers, dtype=torch.float64, device=angles.device)
        phase.index_add_(1, self.places.to(angles.device), angles[:, self.gates.to(angles.device)].to(torch.float64))
        phase = walsh_hadamard(phase.reshape(len(angles), n_blocks, -1))
        parts = torch.empty(2, *phase.shape, dtype=phase.dtype, device=phase.device)
        torch.cos(phase, out=parts[0])
        torch.sin(phase, out=parts[1])
        del phase
        return Amplitudes(walsh_hadamard(parts).div_(1 << self.size))


@dataclass(frozen=True, eq=False)
class Amplitudes:
    """:class:`Tables` at given angles.

    Args:
        parts: real and imaginary parts, ``(2, rows, n_blocks, 2**size)``, one row or one for every draw.
    """

    parts: Tensor

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Bits of ``n`` samples, ``(n, n_blocks * size)`` uint8."""
        real, imaginary = self.parts
        bits = draw_bits(torch.addcmul(real.square(), imaginary, imaginary), n // len(real), generator)
        return bits.transpose(1, 2).reshape(n, -1)

    def amplitude(self, bits: Tensor) -> Tensor:
        """Logarithm of the modulus and phase of the amplitudes of bits ``(n, n_blocks * size)``, ``(2, n)``."""
        rows, n_blocks = self.parts.shape[1:3]
        states = torch.zeros(len(bits), n_blocks, dtype=torch.int64, device=bits.device)
        for column in bits.reshape(len(bits), n_blocks, -1).unbind(2):
            states = 2 * states + column
        states = states.reshape(rows, -1, n_blocks).transpose(1, 2)
        real, imaginary = self.parts.gather(3, states.expand(2, -1, -1, -1))
        logarithm, phase = torch.hypot(real, imaginary).log().sum(1), torch.atan2(imaginary, real).sum(1)
        return torch.stack([logarithm.flatten(), phase.flatten()])
