"""The matrices of dense blocks, those of one form computed together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Kind", "Template"]

Kind = tuple[str, int]
"""A gate's name and number of wires: gates of one kind have their matrices computed together."""


class Template:
    """The matrix of all dense blocks that differ only in which free angles they have.

    Args:
        n_wires: wires of the block.
        steps: for each gate its positions in the block, and its fixed matrix or its kind.
    """

    def __init__(self, n_wires: int, steps: Sequence[tuple[tuple[int, ...], Tensor | Kind]]) -> None:
        self.n_wires = n_wires
        self.steps = steps
        self.members: list[list[int]] = []
        self.indices: list[Tensor] = []

    def add(self, members: list[int]) -> int:
        """One more block, whose free gates have these places among their kinds; its number."""
        self.members.append(members)
        return len(self.members) - 1

    def freeze(self, device: torch.device) -> None:
        """Keep the places where they are used, once all blocks are known."""
        self.indices = [torch.tensor(column, device=device) for column in zip(*self.members, strict=True)]

    def matrices(self, by_kind: dict[Kind, Tensor], identity: Tensor) -> Tensor:
        """The blocks' matrices, ``(batch or 1, blocks or 1, 2**n_wires, 2**n_wires)``."""
        indices = iter(self.indices)
        total: Tensor | None = None
        single: list[Tensor | None] = [None] * self.n_wires
        for positions, source in self.steps:
            matrix = source if isinstance(source, Tensor) else by_kind[source].index_select(1, next(indices))
            if len(positions) == 1:
                before = single[positions[0]]
                single[positions[0]] = matrix if before is None else matrix @ before
            else:
                total = _apply_local(self._merge(total, single, identity), matrix, positions, self.n_wires)
                single = [None] * self.n_wires
        return self._merge(total, single, identity)

    @staticmethod
    def _merge(total: Tensor | None, single: list[Tensor | None], identity: Tensor) -> Tensor:
        if total is not None and all(matrix is None for matrix in single):
            return total
        layer = identity if single[0] is None else single[0]
        for matrix in single[1:]:
            right = identity if matrix is None else matrix
            size = layer.shape[-1] * 2
            product = layer[..., :, None, :, None] * right[..., None, :, None, :]
            layer = product.reshape(*product.shape[:-4], size, size)
        return layer if total is None else layer @ total


def _apply_local(total: Tensor, gate: Tensor, positions: Sequence[int], n_wires: int) -> Tensor:
    """``gate`` on some wires of a block times the block's matrix so far."""
    lead, size = total.shape[:-2], total.shape[-1]
    split = total.reshape(*lead, *[2] * n_wires, size)
    axes = [len(lead) + position for position in positions]
    front = list(range(len(lead), len(lead) + len(positions)))
    moved = split.movedim(axes, front)
    width = gate.shape[-1]
    product = gate @ moved.reshape(*lead, width, size * size // width)
    shaped = product.reshape(*product.shape[:-2], *moved.shape[len(lead) :])
    return shaped.movedim(front, axes).reshape(*product.shape[:-2], size, size)
