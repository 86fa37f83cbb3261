"""Expectation values under noise from light cones: for each observable only the gates it sees, on few wires at a time.

What happens to a wire after the last gate that an observable sees cannot change its expectation value, since gates and
noise keep the trace. So for each observable the register begins empty, a wire joins in its ground state before the
first gate on it, and leaves, traced out, after the last. Tree circuits such as MERA need no more than a few wires at a
time, however many there are in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from circuits.backends.transfer_blocks import BlockMatrices, two_wire_blocks
from circuits.noise import PreparedCircuit

__all__ = ["Cones", "compile_cones"]

_OVERHEAD = 2**9
"""Numbers that could be multiplied in the time that a product takes anyway, whatever its size."""

_MARGIN = 8
"""How much more a number costs in a cone, whose products are small, than in the whole density matrix."""


@dataclass(frozen=True)
class _Visit:
    """A block in one observable's cone: its number, its wires, and which of the register's wires leave after it."""

    block: int
    wires: tuple[int, ...]
    leaving: tuple[int, ...]


class Cones:
    """The light cones of some sets of wires in a noisy circuit.

    Args:
        prepared: the circuit and its noise.
        supports: the wires of each observable.
        dtype: real.
        device: where the tensors are.

    Attributes:
        pay: whether the cones are less work than the whole density matrix.
    """

    def __init__(
        self,
        prepared: PreparedCircuit,
        supports: Sequence[tuple[int, ...]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        blocks = two_wire_blocks(prepared)
        wires = [tuple(sorted(block.wires)) for block in blocks]
        self.supports = supports
        self._visits = [_cone(wires, support) for support in supports]
        self._matrices = BlockMatrices(dtype, device)
        self._members = [self._matrices.add(*pair) for pair in zip(blocks, wires, strict=True)]
        self._matrices.freeze()
        self._widths = [_widths(visits) for visits in self._visits]
        work = sum(4**width + _OVERHEAD for widths in self._widths for width in widths)
        self.pay = _MARGIN * work < len(blocks) * 4**prepared.circuit.n_wires

    def numbers(self, taped: bool) -> int:
        """Numbers that a run holds at once for each row of angles, about."""
        sizes = [4**width for widths in self._widths for width in widths]
        return 4 * (sum(sizes) if taped else max(sizes, default=1)) + self._matrices.size

    def run(self, angles: Tensor) -> list[Tensor]:
        """For each support the Pauli coefficients on its wires, ``(batch, 4**len(support))``.

        Args:
            angles: ``(batch, n_angles)`` real, of the blocks' precision and device.
        """
        matrix_of = self._matrices(angles)
        matrices = [matrix_of(member) for member in self._members]
        return [self._one(*pair, matrices, angles) for pair in zip(self._visits, self.supports, strict=True)]

    @staticmethod
    def _one(visits: Sequence[_Visit], support: Sequence[int], matrices: Sequence[Tensor], like: Tensor) -> Tensor:
        ground = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=like.dtype, device=like.device)
        order: list[int] = []
        state = like.new_ones(len(like), 1)
        for visit in visits:
            order, state = _joined(order, state, visit.wires, ground)
            order, state = _last(order, state, visit.wires)
            matrix = matrices[visit.block]
            split = state.reshape(len(state), -1, matrix.shape[-1])
            state = (split @ matrix.transpose(-1, -2)).flatten(1)
            if visit.leaving:
                order, state = _last(order, state, visit.leaving)
                order = order[: -len(visit.leaving)]
                state = state.reshape(len(state), 4 ** len(order), -1)[:, :, 0]
        order, state = _joined(order, state, support, ground)
        return _last(order, state, support)[1]


def _cone(blocks: Sequence[tuple[int, ...]], support: tuple[int, ...]) -> list[_Visit]:
    cone, visits = set(support), list[_Visit]()
    for number in range(len(blocks) - 1, -1, -1):
        wires = blocks[number]
        if cone & set(wires):
            visits.append(_Visit(number, wires, tuple(wire for wire in wires if wire not in cone)))
            cone |= set(wires)
    return visits[::-1]


def _widths(visits: Sequence[_Visit]) -> list[int]:
    """Wires of the register at each visit."""
    register, widths = set[int](), []
    for visit in visits:
        register |= set(visit.wires)
        widths.append(len(register))
        register -= set(visit.leaving)
    return widths


def _joined(order: list[int], state: Tensor, wires: Sequence[int], ground: Tensor) -> tuple[list[int], Tensor]:
    """The register with these wires in it, new ones in their ground state."""
    for wire in wires:
        if wire not in order:
            order, state = [*order, wire], (state[:, :, None] * ground).flatten(1)
    return order, state


def _last(order: list[int], state: Tensor, wires: Sequence[int]) -> tuple[list[int], Tensor]:
    """The register with these wires last, in this order."""
    target = [*(wire for wire in order if wire not in wires), *wires]
    if target != order:
        axes = [0, *(1 + order.index(wire) for wire in target)]
        state = state.reshape(len(state), *[4] * len(order)).permute(axes).flatten(1)
    return target, state


@lru_cache(maxsize=64)
def compile_cones(
    prepared: PreparedCircuit, supports: tuple[tuple[int, ...], ...], dtype: torch.dtype, device: torch.device
) -> Cones:
    """The cones of these wires; kept for the next call."""
    return Cones(prepared, supports, dtype, device)
