"""Affine maps on bit strings: where CNOT, X and SWAP have moved the amplitudes, without moving them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """The map ``f(y) = A y + b`` over bits, from a position ``y`` in an array to a basis state.

    An array ``a`` in this frame holds the amplitudes ``psi[f(y)] = a[y]``. Positions and basis states are numbers; bit
    0 is the least significant.

    Args:
        columns: ``A``'s columns as numbers, that is ``f`` of each bit without the offset.
        offset: ``b`` as a number.
    """

    columns: tuple[int, ...]
    offset: int = 0

    @classmethod
    def identity(cls, n_bits: int) -> Frame:
        """The map that changes nothing."""
        return cls(tuple(1 << bit for bit in range(n_bits)))

    @classmethod
    def of_layout(cls, wires: Sequence[int]) -> Frame:
        """The order of wires in an array, most significant first."""
        n_bits = len(wires)
        return cls(tuple(1 << (n_bits - 1 - wire) for wire in reversed(wires)))

    def __call__(self, position: int) -> int:
        """The basis state at a position."""
        value = self.offset
        for bit, column in enumerate(self.columns):
            if position >> bit & 1:
                value ^= column
        return value

    def then(self, after: Frame) -> Frame:
        """The map ``after(self(y))``."""
        linear = Frame(after.columns)
        return Frame(tuple(linear(column) for column in self.columns), after(self.offset))

    def inverse(self) -> Frame:
        """The map from basis states to positions; ``A`` is invertible for every circuit."""
        rows = [(column, 1 << bit) for bit, column in enumerate(self.columns)]
        solved: list[int] = []
        for bit in range(len(rows)):
            pivot = next(i for i in range(bit, len(rows)) if rows[i][0] >> bit & 1)
            rows[bit], rows[pivot] = rows[pivot], rows[bit]
            value, origin = rows[bit]
            rows = [(v ^ value, o ^ origin) if i != bit and v >> bit & 1 else (v, o) for i, (v, o) in enumerate(rows)]
        solved = [origin for _, origin in rows]
        return Frame(tuple(solved), Frame(tuple(solved))(self.offset))

    def permuted(self, name: str, bits: Sequence[int]) -> Frame:
        """The frame after a gate that permutes basis states, on these bits of the basis state."""
        columns, offset = self.columns, self.offset
        if name == "X":
            return Frame(columns, offset ^ 1 << bits[0])
        first, second = bits
        if name == "CNOT":

            def move(value: int) -> int:
                return value ^ (value >> first & 1) << second

        elif name == "SWAP":

            def move(value: int) -> int:
                different = (value >> first ^ value >> second) & 1
                return value ^ (different << first | different << second)

        else:
            raise ValueError(f"{name} does not permute basis states")
        return Frame(tuple(move(column) for column in columns), move(offset))

    def leading(self, bits: set[int]) -> list[int] | None:
        """The bits in the order in which the leading positions hold them, or None if those hold anything else."""
        count = len(bits)
        if any(self.offset >> bit & 1 for bit in bits):
            return None
        mask = sum(1 << bit for bit in bits)
        head = self.columns[: -count - 1 : -1]
        if any(column & mask for column in self.columns[: len(self.columns) - count]):
            return None
        found = [column.bit_length() - 1 for column in head]
        if any(column.bit_count() != 1 for column in head) or set(found) != bits:
            return None
        return found

    def rotated(self, count: int) -> Frame:
        """The frame after the leading ``count`` positions have become the last ones."""
        cut = len(self.columns) - count
        return Frame(self.columns[cut:] + self.columns[:cut], self.offset)

    def sign(self, mask: int) -> tuple[int, int]:
        """The parity of the bits ``mask`` of the basis state, as a parity of position bits and a sign."""
        here = sum((column & mask).bit_count() % 2 << bit for bit, column in enumerate(self.columns))
        return here, -1 if (self.offset & mask).bit_count() % 2 else 1

    def indices(self, device: torch.device | str = "cpu") -> Tensor:
        """``f`` of all positions, ``(2**n_bits,)`` int64."""
        table = torch.tensor([self.offset], dtype=torch.int64, device=device)
        for column in self.columns:
            table = torch.cat([table, table ^ column])
        return table
