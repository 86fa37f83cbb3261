"""A noisy circuit compiled to real matrix products on vectors of Pauli coefficients.

The state ``rho`` of ``n`` qubits is the real vector ``tr(P rho)`` over the ``4**n`` Pauli strings ``P``, letters in the
order I, X, Y, Z and wire 0 most significant. The matrices are those of :mod:`circuits.backends.transfer_blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from circuits.backends.transfer_blocks import Block, BlockMatrices, Member, two_wire_blocks
from circuits.circuit import Circuit
from circuits.noise import NoiseModel, PreparedCircuit

__all__ = ["TransferProgram", "compile_transfer"]

_FEW, _WIDE = 16, 64
"""A block is applied in place if at most so many slices precede it or at least so many numbers follow each."""


@dataclass(frozen=True)
class _Apply:
    """One block: which matrix, and how many coefficients lie before its wires and after them."""

    member: Member
    before: int
    after: int


class TransferProgram:
    """A noisy circuit as products of small matrices with the vector of Pauli coefficients.

    A block acts where its wires lie side by side in the vector; when they do not, the vector is transposed to an order
    that serves as many of the coming blocks as possible.

    Args:
        prepared: the circuit and its noise.
        dtype: real.
        device: where the tensors are.
    """

    def __init__(self, prepared: PreparedCircuit, dtype: torch.dtype, device: torch.device) -> None:
        self.n_wires, self.dtype, self.device = prepared.circuit.n_wires, dtype, device
        self._matrices = BlockMatrices(dtype, device)
        self._operations: list[_Apply | tuple[int, ...]] = []
        self.order = self._compile(two_wire_blocks(prepared))
        self.n_products = sum(isinstance(operation, _Apply) for operation in self._operations)
        self.n_moves = len(self._operations) - self.n_products
        self._matrices.freeze()

    @property
    def row_size(self) -> int:
        """Numbers for one row of angles: the matrices and the state."""
        return self._matrices.size + 4**self.n_wires

    def _compile(self, blocks: Sequence[Block]) -> tuple[int, ...]:
        order = list(range(self.n_wires))
        untouched = True
        for number, block in enumerate(blocks):
            place = self._place(order, block.wires)
            if place is None:
                target = _layout(blocks[number:], order)
                if not untouched:
                    self._operations.append(tuple(order.index(wire) for wire in target))
                order = target
                place = self._place(order, block.wires)
                if place is None:
                    raise RuntimeError(f"no order of the wires suits a block on {block.wires}")
            before, after = place
            wires = order[before : before + len(block.wires)]
            self._operations.append(_Apply(self._matrices.add(block, wires), 4**before, 4**after))
            untouched = False
        return tuple(order)

    def _place(self, order: Sequence[int], wires: set[int]) -> tuple[int, int] | None:
        """How many wires lie before and after these, if they lie together in a place where products are fast."""
        before = min(order.index(wire) for wire in wires)
        after = len(order) - before - len(wires)
        if set(order[before : before + len(wires)]) != wires:
            return None
        return (before, after) if 4**before <= _FEW or 4**after >= _WIDE else None

    def run(self, angles: Tensor) -> Tensor:
        """Pauli coefficients, ``(batch, 4**n_wires)``, wires in the order :attr:`order`.

        Args:
            angles: ``(batch, n_angles)`` real, of the program's precision and device.
        """
        matrix_of = self._matrices(angles)
        state = _ground_state(self.n_wires, self.dtype, self.device)[None]
        for operation in self._operations:
            batch, size = state.shape
            if isinstance(operation, _Apply):
                matrix = matrix_of(operation.member)
                split = state.view(batch, operation.before, matrix.shape[-1], operation.after)
                product = torch.matmul(matrix[:, None], split)
                state = product.reshape(len(product), size)
            else:
                axes = [0, *(axis + 1 for axis in operation)]
                state = state.view(batch, *[4] * self.n_wires).permute(axes).reshape(batch, size)
        return state.expand(len(angles), -1)


def _ground_state(n_wires: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if n_wires == 1:
        return torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=dtype, device=device)
    half = _ground_state(n_wires // 2, dtype, device)
    return torch.kron(half, half if n_wires % 2 == 0 else _ground_state(n_wires // 2 + 1, dtype, device))


def _layout(blocks: Sequence[Block], order: Sequence[int]) -> list[int]:
    """An order of the wires that has those of the first block in front and the coming ones next to each other."""
    chain: list[int] = []
    for number, block in enumerate(blocks):
        new = [wire for wire in sorted(block.wires) if wire not in chain]
        if not chain or len(new) == len(block.wires):
            chain += sorted(new, key=lambda wire: -_next_use(blocks[number + 1 :], wire))
        elif new:
            (known,) = block.wires - set(new)
            if chain[-1] != known:
                break
            chain += new
    return chain + [wire for wire in order if wire not in chain]


def _next_use(blocks: Sequence[Block], wire: int) -> int:
    return next((number for number, block in enumerate(blocks) if wire in block.wires), len(blocks))


@lru_cache(maxsize=64)
def _compiled(prepared: PreparedCircuit, dtype: torch.dtype, device: torch.device) -> TransferProgram:
    return TransferProgram(prepared, dtype, device)


def compile_transfer(
    circuit: Circuit, noise: NoiseModel, dtype: torch.dtype, device: torch.device
) -> tuple[PreparedCircuit, TransferProgram]:
    """The circuit as the noise model runs it, and its program; kept for the next call."""
    prepared = noise.prepare(circuit)
    return prepared, _compiled(prepared, dtype, device)
