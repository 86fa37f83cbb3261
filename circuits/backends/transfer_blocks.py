"""The blocks of a noisy circuit as real matrices on Pauli coefficients.

A gate ``U`` and its noise ``N`` are the real matrix ``tr(P_i N(U P_j U^dagger)) / 2**k`` on their ``k`` wires, Pauli
strings ``P`` with letters in the order I, X, Y, Z. For a gate with one angle it is a short trigonometric polynomial of
the angle with fixed matrices as coefficients. Gates on the same one or two wires are a block, whose matrices are
multiplied together before they meet a state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from circuits.channels import GateNoise, noise_transfer
from circuits.gate_table import gate_definition, gate_matrix
from circuits.gates import Angle
from circuits.noise import PreparedCircuit

__all__ = ["Block", "BlockMatrices", "Member", "gate_transfer", "two_wire_blocks"]

Kind = tuple[str, int, GateNoise]
"""A gate's name, its number of wires, and its noise: gates of one kind have their matrices computed together."""

_GROUP = 2
"""Largest number of wires of a block; 16 x 16 matrices are fast enough that larger ones gain nothing."""


@lru_cache
def _pauli_basis(n_wires: int) -> Tensor:
    """The matrix from a flattened density matrix to Pauli coefficients."""
    one = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [0, 1j, -1j, 0], [1, 0, 0, -1]], dtype=torch.complex128)
    basis = one
    for k in range(1, n_wires):
        split = torch.kron(basis, one).reshape(-1, 2**k, 2**k, 2, 2)
        basis = split.transpose(2, 3).reshape(4 ** (k + 1), 4 ** (k + 1))
    return basis


def _transfer(left: Tensor, right: Tensor) -> Tensor:
    """The matrix of ``rho -> left rho right^dagger`` on Pauli coefficients; complex unless left is right."""
    n_wires = len(left).bit_length() - 1
    basis = _pauli_basis(n_wires)
    return basis @ torch.kron(left, right.conj()) @ basis.mH / 2**n_wires


@dataclass(frozen=True)
class _Polynomial:
    """``sum_k f_k(t) matrices[k]`` with ``f`` the terms that occur of 1, cos ft, sin ft, cos 2ft, sin 2ft."""

    frequency: float
    terms: tuple[int, ...]
    matrices: Tensor

    def __call__(self, angles: Tensor) -> Tensor:
        t = self.frequency * angles
        values = {
            0: lambda: torch.ones_like(t),
            1: t.cos,
            2: t.sin,
            3: (2 * t).cos,
            4: (2 * t).sin,
        }
        size = self.matrices.shape[-1]
        basis = torch.stack([values[term]() for term in self.terms], -1)
        return (basis @ self.matrices.flatten(1)).reshape(*angles.shape, size, size)


@lru_cache(maxsize=1024)
def _polynomial(name: str, n_wires: int, noise: GateNoise) -> _Polynomial:
    definition = gate_definition(name)
    if definition.trigonometric is None:
        raise ValueError(f"{name} has no angle")
    a, b, c = definition.trigonometric(n_wires)
    bb, cc = _transfer(b, b), _transfer(c, c)
    terms = [
        _transfer(a, a) + (bb + cc) / 2,
        _transfer(a, b) + _transfer(b, a),
        _transfer(a, c) + _transfer(c, a),
        (bb - cc) / 2,
        (_transfer(b, c) + _transfer(c, b)) / 2,
    ]
    after = noise_transfer(noise, n_wires)
    real = [after @ term.real for term in terms]
    kept = tuple(number for number, term in enumerate(real) if float(term.abs().max()) > 1e-14)
    return _Polynomial(definition.frequency, kept, torch.stack([real[number] for number in kept]))


def gate_transfer(name: str, angle: float | None, n_wires: int, noise: GateNoise = ()) -> Tensor:
    """The real matrix of a gate with a fixed angle and its noise, ``(4**n_wires, 4**n_wires)`` float64.

    >>> gate_transfer("H", None, 1).round().int().tolist()
    [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0], [0, 1, 0, 0]]
    """
    values = torch.tensor([] if angle is None else [angle], dtype=torch.float64)
    matrix = gate_matrix(name, values, n_wires)
    return noise_transfer(noise, n_wires) @ _transfer(matrix, matrix).real


@dataclass
class _Step:
    """A matrix on some wires: fixed, or of a kind with a free angle."""

    wires: tuple[int, ...]
    fixed: Tensor | None
    kind: Kind | None = None
    angle: Angle | None = None


@dataclass
class Block:
    """Steps on at most two wires, in order."""

    wires: set[int]
    steps: list[_Step] = field(default_factory=list)


def _steps(prepared: PreparedCircuit) -> list[_Step]:
    steps = []
    for gate in prepared.circuit.gates:
        noise = prepared.noise.channels(gate.name, gate.wires)
        slots = [(gate.name, gate.angles[0] if gate.angles else None)]
        sequence = gate_definition(gate.name).sequence
        if sequence:
            slots = [(name, gate.angles[slot]) for name, slot in sequence]
        for number, (name, angle) in enumerate(slots):
            after = noise if number == len(slots) - 1 else ()
            if angle is not None and angle.index is not None:
                steps.append(_Step(gate.wires, None, (name, len(gate.wires), after), angle))
            else:
                value = None if angle is None else angle.offset
                steps.append(_Step(gate.wires, gate_transfer(name, value, len(gate.wires), after)))
    return steps


def two_wire_blocks(prepared: PreparedCircuit) -> list[Block]:
    """Blocks of at most two wires that, applied in order, are the circuit.

    A step goes to the first block it may join: no earlier than the last block on its wires, since steps on different
    wires commute. Steps on single wires wait for a block that needs their wire.
    """
    blocks: list[Block] = []
    last = [-1] * prepared.circuit.n_wires
    waiting: dict[int, list[_Step]] = {}

    def join(number: int, wires: Sequence[int], step: _Step | None) -> None:
        for wire in wires:
            blocks[number].steps += waiting.pop(wire, [])
            blocks[number].wires.add(wire)
            last[wire] = number
        if step is not None:
            blocks[number].steps.append(step)

    for step in _steps(prepared):
        if len(step.wires) == 1:
            (wire,) = step.wires
            if last[wire] < 0:
                waiting.setdefault(wire, []).append(step)
            else:
                blocks[last[wire]].steps.append(step)
            continue
        first = max(0, *(last[wire] for wire in step.wires))
        fitting = (
            number for number in range(first, len(blocks)) if len(blocks[number].wires | set(step.wires)) <= _GROUP
        )
        place = next(fitting, None)
        if place is None:
            place = len(blocks)
            blocks.append(Block(set()))
        join(place, step.wires, step)
    left = sorted(waiting)
    for start in range(0, len(left), _GROUP):
        blocks.append(Block(set()))
        join(len(blocks) - 1, left[start : start + _GROUP], None)
    return blocks


class _Template:
    """The matrix of all blocks that differ only in their free angles.

    Args:
        n_wires: wires of the block.
        steps: for each step its positions in the block, and its fixed matrix or its kind.
    """

    def __init__(self, n_wires: int, steps: Sequence[tuple[tuple[int, ...], Tensor | Kind]]) -> None:
        self.n_wires = n_wires
        self.steps = steps
        self.members: list[list[int]] = []
        self.indices: list[Tensor] = []

    def freeze(self, device: torch.device) -> None:
        self.indices = [torch.tensor(column, device=device) for column in zip(*self.members, strict=True)]

    def matrices(self, by_kind: dict[Kind, Tensor], identity: Tensor) -> Tensor:
        """The blocks' matrices, ``(batch or 1, blocks or 1, 4**n_wires, 4**n_wires)``."""
        indices = iter(self.indices)
        total: Tensor | None = None
        single: list[Tensor | None] = [None] * self.n_wires
        for positions, source in self.steps:
            matrix = source if isinstance(source, Tensor) else by_kind[source].index_select(1, next(indices))
            if len(positions) == 1:
                before = single[positions[0]]
                single[positions[0]] = matrix if before is None else matrix @ before
            else:
                if positions == (1, 0):
                    matrix = matrix.unflatten(-2, (4, 4)).unflatten(-1, (4, 4)).transpose(-4, -3).transpose(-2, -1)
                    matrix = matrix.reshape(*matrix.shape[:-4], 16, 16)
                fresh = total is None and all(each is None for each in single)
                total = matrix if fresh else matrix @ self._merge(total, single, identity)
                single = [None] * self.n_wires
        return self._merge(total, single, identity)

    @staticmethod
    def _merge(total: Tensor | None, single: Sequence[Tensor | None], identity: Tensor) -> Tensor:
        if total is not None and all(matrix is None for matrix in single):
            return total
        layer = identity if single[0] is None else single[0]
        for matrix in single[1:]:
            right = identity if matrix is None else matrix
            size = layer.shape[-1] * 4
            product = layer[..., :, None, :, None] * right[..., None, :, None, :]
            layer = product.reshape(*product.shape[:-4], size, size)
        return layer if total is None else layer @ total


Member = tuple[_Template, int]
"""A block among those of its template."""


class BlockMatrices:
    """The matrices of blocks, as functions of the angles.

    Args:
        dtype: real.
        device: where the tensors are.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._kinds: dict[Kind, list[Angle]] = {}
        self._templates: dict[tuple[Any, ...], _Template] = {}
        self._identity = torch.eye(4, dtype=dtype, device=device)[None, None]

    @property
    def size(self) -> int:
        """Numbers of all matrices for one row of angles."""
        return sum(16**template.n_wires * len(template.members) for template in self._templates.values())

    def add(self, block: Block, wires: Sequence[int]) -> Member:
        """A block, its wires in this order."""
        steps: list[tuple[tuple[int, ...], Tensor | Kind]] = []
        key: list[Any] = [len(wires)]
        members = []
        for positions, step in _merged(block.steps, wires):
            if step.fixed is None and step.kind is not None and step.angle is not None:
                slots = self._kinds.setdefault(step.kind, [])
                members.append(len(slots))
                slots.append(step.angle)
                steps.append((positions, step.kind))
                key.append((positions, step.kind))
            elif step.fixed is not None:
                steps.append((positions, step.fixed.to(self.device, self.dtype)[None, None]))
                key.append((positions, step.fixed.numpy().tobytes()))
        template = self._templates.setdefault(tuple(key), _Template(len(wires), steps))
        template.members.append(members)
        return template, len(template.members) - 1

    def freeze(self) -> None:
        """No block comes after this."""
        for template in self._templates.values():
            template.freeze(self.device)
        self._slots = [
            (
                kind,
                torch.tensor([angle.index for angle in angles], device=self.device),
                torch.tensor([angle.scale for angle in angles], dtype=self.dtype, device=self.device),
                torch.tensor([angle.offset for angle in angles], dtype=self.dtype, device=self.device),
                _moved(_polynomial(*kind), self.dtype, self.device),
            )
            for kind, angles in self._kinds.items()
        ]

    def __call__(self, angles: Tensor) -> Callable[[Member], Tensor]:
        """A function from a block to its matrix, ``(batch or 1, 4**n_wires, 4**n_wires)``.

        Args:
            angles: ``(batch, n_angles)`` real, of the blocks' precision and device.
        """
        by_kind = {
            kind: polynomial(angles.index_select(1, index) * scale + offset)
            for kind, index, scale, offset, polynomial in self._slots
        }
        matrices = {
            id(template): template.matrices(by_kind, self._identity).unbind(1) for template in self._templates.values()
        }

        def matrix(member: Member) -> Tensor:
            found = matrices[id(member[0])]
            return found[member[1] if len(found) > 1 else 0]

        return matrix


def _moved(polynomial: _Polynomial, dtype: torch.dtype, device: torch.device) -> _Polynomial:
    return _Polynomial(polynomial.frequency, polynomial.terms, polynomial.matrices.to(device, dtype))


def _merged(steps: Sequence[_Step], wires: Sequence[int]) -> list[tuple[tuple[int, ...], _Step]]:
    """The steps with their positions, fixed matrices in a row on the same wire multiplied."""
    result: list[tuple[tuple[int, ...], _Step]] = []
    latest: dict[int, int] = {}
    for step in steps:
        positions = tuple(wires.index(wire) for wire in step.wires)
        before = {latest.get(position) for position in positions}
        if len(before) == 1 and (place := before.pop()) is not None:
            on, earlier = result[place]
            if on == positions and earlier.fixed is not None and step.fixed is not None:
                result[place] = (positions, _Step(step.wires, step.fixed @ earlier.fixed))
                continue
        for position in positions:
            latest[position] = len(result)
        result.append((positions, step))
    return result
