"""A circuit compiled to a few tensor operations on a batch of state vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from circuits.backends.frame import Frame
from circuits.backends.schedule import Block, Elementary, schedule
from circuits.backends.templates import Kind, Template
from circuits.circuit import Circuit
from circuits.gate_table import gate_definition, gate_matrix

__all__ = ["Dense", "Diagonal", "Operation", "Program", "compile_circuit", "permute", "walsh_transform"]

_LARGE = 20
"""Wires above which few programs are kept."""


class _Permute(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        if values.ndim == 2 and len(values) == 1:  # faster on the CPU
            return values[0].index_select(0, index)[None]
        return values.index_select(-1, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return permute(tangents[0], *ctx.saved_tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        return permute(gradients[0], inverse, index), None, None


def permute(values: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """``values[..., index]`` for a permutation; its derivative uses the inverse permutation and no scatter."""
    result: Tensor = _Permute.apply(values, index, inverse)
    return result


@lru_cache
def _hadamard(n_bits: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        matrix = torch.ones((1, 1), dtype=dtype)
        for _ in range(n_bits):
            matrix = torch.kron(matrix, torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=dtype))
        return matrix.to(device)


def walsh_transform(values: Tensor) -> Tensor:
    """``sum_m (-1)^(parity of m & y) values[m]`` for all ``y``, over the last dimension of ``(batch, 2**n)``.

    >>> walsh_transform(torch.tensor([[1.0, 2.0]]))
    tensor([[ 3., -1.]])
    """
    batch, size = values.shape
    left = size.bit_length() - 1
    while left:
        width = min(4, left)
        matrix = _hadamard(width, values.dtype, values.device)
        values = values.reshape(batch, 2**width, size >> width).transpose(1, 2) @ matrix
        left -= width
    return values.reshape(batch, size)


class Diagonal:
    """Multiplication by ``exp(i phase)``, the phase a Walsh transform of few coefficients linear in the angles."""

    def __init__(
        self,
        gates: Iterable[Elementary],
        frame: Frame,
        n_wires: int,
        dtype: torch.dtype,
        device: torch.device,
        known: dict[tuple[tuple[int, float], ...], Tensor],
    ) -> None:
        fixed: defaultdict[int, float] = defaultdict(float)
        terms: list[tuple[int, int, float]] = []
        for gate in gates:
            signs = gate_definition(gate.name).signs
            if signs is None:
                raise ValueError(f"{gate.name} is not diagonal")
            for subset, slope, constant in signs(len(gate.wires)):
                here, sign = frame.sign(sum(1 << (n_wires - 1 - gate.wires[i]) for i in subset))
                offset = gate.angle.offset if gate.angle else 0.0
                fixed[here] += sign * (slope * offset + constant)
                if gate.angle is not None and gate.angle.index is not None and slope:
                    terms.append((gate.angle.index, here, sign * slope * gate.angle.scale))
        self.size = 2**n_wires
        self.factor: Tensor | None = None
        key = tuple(sorted((mask, weight) for mask, weight in fixed.items() if weight))
        if key:
            if key not in known:
                masks, weights = zip(*key, strict=True)
                spectrum = torch.zeros((1, 2**n_wires), dtype=torch.float64, device=device)
                spectrum[0, list(masks)] = torch.tensor(weights, dtype=torch.float64, device=device)
                phase = walsh_transform(spectrum)
                known[key] = torch.complex(phase.cos(), phase.sin()).to(dtype)
            self.factor = known[key]
        self.terms = None
        if terms:
            index, mask, weight = zip(*terms, strict=True)
            self.terms = (
                torch.tensor(index, device=device),
                torch.tensor(mask, device=device),
                torch.tensor(weight, dtype=dtype.to_real(), device=device),
            )

    def factors(self, angles: Tensor) -> list[Tensor]:
        """What the state is multiplied by: ``(1, 2**n)`` for what is fixed, ``(batch, 2**n)`` for what is free."""
        factors = [] if self.factor is None else [self.factor]
        if self.terms is not None:
            index, mask, weight = self.terms
            coefficients = angles.index_select(1, index) * weight
            empty = coefficients.new_zeros((len(angles), self.size))
            phase = walsh_transform(empty.index_add(1, mask, coefficients))
            factors.append(torch.complex(phase.cos(), phase.sin()))
        return factors

    def __call__(self, state: Tensor, angles: Tensor) -> Tensor:
        """The state ``(batch or 1, 2**n)`` after it."""
        for factor in self.factors(angles):
            state = state * factor
        return state

    def pull(self, by_phase: Tensor, by_angle: Tensor) -> None:
        """Add the gradient by the angles that the gradient by the phases ``(batch, 2**n)`` makes."""
        if self.terms is not None:
            index, mask, weight = self.terms
            by_angle.index_add_(1, index, walsh_transform(by_phase).index_select(1, mask) * weight)


@dataclass(frozen=True)
class Dense:
    """A dense product on the leading wires, which become the last.

    Args:
        n_wires: wires that it acts on.
        template: which of the program's stacks of matrices it is in.
        number: its place there, if the stack has a place for each.
    """

    n_wires: int
    template: int
    number: int

    def matrix(self, matrices: Sequence[Tensor]) -> Tensor:
        """Its matrix, ``(batch or 1, K, K)``."""
        stack = matrices[self.template]
        return stack[:, self.number if stack.shape[1] > 1 else 0]


Operation = Diagonal | Dense | tuple[Tensor, Tensor]
"""What a program does to a state; a permutation is its indices and those of its inverse."""


class Program:
    """A circuit as dense products on the leading wires, diagonal factors and permutations of amplitudes.

    After a dense product the wires acted upon come last (the transposed result of the matrix product costs nothing),
    so that the next ones lead. CNOT, X and SWAP only change the :class:`~circuits.backends.frame.Frame`; amplitudes
    move when a dense product needs its wires in front.

    Args:
        circuit: the circuit.
        group: largest number of wires of a dense product.
        dtype: complex.
        device: where the tensors are.
    """

    def __init__(self, circuit: Circuit, group: int, dtype: torch.dtype, device: torch.device) -> None:
        self.n_wires, self.dtype, self.device = circuit.n_wires, dtype, device
        self._kinds: dict[Kind, list[tuple[int, float, float]]] = {}
        self._templates: dict[tuple[Any, ...], Template] = {}
        self._factors: dict[tuple[tuple[int, float], ...], Tensor] = {}
        self._permutations: dict[Frame, tuple[Tensor, Tensor]] = {}
        self.operations: list[Operation] = []  # after those in `first`, which make the initial product state
        self._start = 0
        frame = self._compile(schedule(circuit, min(group, circuit.n_wires) if circuit.n_wires > 1 else 1))
        self.first = self._take_first()
        identity = frame == Frame.identity(self.n_wires)
        self.restore = None if identity else self._permutation(frame.inverse())
        self._identity = torch.eye(2, dtype=dtype, device=device)[None, None]
        for template in self._templates.values():
            template.freeze(device)
        self._slots = {
            kind: (
                torch.tensor([index for index, _, _ in slots], device=device),
                torch.tensor([scale for _, scale, _ in slots], dtype=dtype.to_real(), device=device),
                torch.tensor([offset for _, _, offset in slots], dtype=dtype.to_real(), device=device),
            )
            for kind, slots in self._kinds.items()
        }

    def _compile(self, blocks: list[Block]) -> Frame:
        frame = Frame.identity(self.n_wires)
        untouched = True
        for number, block in enumerate(blocks):
            if block.kind == "permutation":
                for gate in block.gates:
                    frame = frame.permuted(gate.name, [self._bit(wire) for wire in gate.wires])
            elif block.kind == "diagonal":
                self.operations.append(
                    Diagonal(block.gates, frame, self.n_wires, self.dtype, self.device, self._factors)
                )
                untouched = False
            else:
                bits = {self._bit(wire) for wire in block.wires}
                order = frame.leading(bits)
                if order is None:
                    target = Frame.of_layout(self._layout(blocks[number:]))
                    move = target.then(frame.inverse())
                    if untouched:
                        self._start = move.inverse()(self._start)
                    else:
                        self.operations.append(self._permutation(move))
                    frame = target
                    order = [self._bit(wire) for wire in sorted(block.wires)]
                self.operations.append(self._dense(block, [self.n_wires - 1 - bit for bit in order]))
                frame = frame.rotated(len(order))
                untouched = False
        return frame

    def _take_first(self) -> list[Dense]:
        """Move the dense products on different wires of the basis state at the start out of the operations."""
        first: list[Dense] = []
        left = self.n_wires
        for operation in self.operations:
            if not isinstance(operation, Dense) or operation.n_wires > left:
                break
            first.append(operation)
            left -= operation.n_wires
        del self.operations[: len(first)]
        return first

    def _bit(self, wire: int) -> int:
        return self.n_wires - 1 - wire

    def _layout(self, blocks: list[Block]) -> list[int]:
        """An order of the wires with which the coming dense blocks find theirs in front."""
        wires: list[int] = []
        for block in blocks:
            if block.kind == "permutation" or (block.kind == "dense" and block.wires & set(wires)):
                break
            if block.kind == "dense":
                wires.extend(sorted(block.wires))
        return wires + [wire for wire in range(self.n_wires) if wire not in wires]

    def _permutation(self, move: Frame) -> tuple[Tensor, Tensor]:
        if move not in self._permutations:
            pair = (move.indices(self.device).int(), move.inverse().indices(self.device).int())
            self._permutations[move] = pair
        return self._permutations[move]

    def _dense(self, block: Block, wires: list[int]) -> Dense:
        steps: list[tuple[tuple[int, ...], Tensor | Kind]] = []
        key: list[Any] = [len(wires)]
        members = []
        for gate in block.gates:
            positions = tuple(wires.index(wire) for wire in gate.wires)
            if gate.angle is not None and gate.angle.index is not None:
                kind = (gate.name, len(gate.wires))
                slots = self._kinds.setdefault(kind, [])
                members.append(len(slots))
                slots.append((gate.angle.index, gate.angle.scale, gate.angle.offset))
                steps.append((positions, kind))
                key.append((positions, kind))
            else:
                value = [gate.angle.offset] if gate.angle else []
                fixed = gate_matrix(gate.name, torch.tensor(value, dtype=torch.float64), len(gate.wires))
                steps.append((positions, fixed.to(self.device, self.dtype)[None, None]))
                key.append((positions, gate.name, *value))
        template = self._templates.setdefault(tuple(key), Template(len(wires), steps))
        number = list(self._templates.values()).index(template)
        return Dense(len(wires), number, template.add(members))

    def matrices(self, angles: Tensor) -> list[Tensor]:
        """The matrices of the dense products, ``(batch or 1, blocks or 1, K, K)`` for each template.

        Args:
            angles: ``(batch, n_angles)`` real, of the program's precision and device.
        """
        by_kind = {
            (name, n_wires): gate_matrix(name, (angles.index_select(1, index) * scale + offset)[..., None], n_wires)
            for (name, n_wires), (index, scale, offset) in self._slots.items()
        }
        return [template.matrices(by_kind, self._identity) for template in self._templates.values()]

    def initial(self, matrices: Sequence[Tensor]) -> Tensor:
        """The state after the operations :attr:`first`, ``(batch or 1, 2**n_wires)``: a product of columns."""
        state = torch.ones((1, 1), dtype=self.dtype, device=self.device)
        left = self.n_wires
        for operation in self.first:
            left -= operation.n_wires
            place = self._start >> left & (2**operation.n_wires - 1)
            state = _outer(state, operation.matrix(matrices)[..., place])
        if left:
            rest = torch.zeros((1, 2**left), dtype=self.dtype, device=self.device)
            rest[0, self._start & (2**left - 1)] = 1
            state = _outer(rest, state)
        return state

    def run(self, angles: Tensor, matrices: Sequence[Tensor] | None = None) -> Tensor:
        """Amplitudes in the program's own order, ``(batch, 2**n_wires)``; :attr:`restore` orders them.

        Args:
            angles: ``(batch, n_angles)`` real, of the program's precision and device.
            matrices: what :meth:`matrices` gives for these angles, if it is known.
        """
        matrices = self.matrices(angles) if matrices is None else matrices
        state = self.initial(matrices)
        for operation in self.operations:
            if isinstance(operation, Diagonal):
                state = operation(state, angles)
            elif isinstance(operation, Dense):
                state = _multiply(operation.matrix(matrices), state)
            else:
                state = permute(state, *operation)
        return state.expand(len(angles), -1)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """The product of two states ``(batch or 1, size)``, those on the left leading."""
    batch = max(len(left), len(right)) if len(left) and len(right) else 0
    product = left.expand(batch, -1).unsqueeze(2) @ right.expand(batch, -1).unsqueeze(1)
    return product.reshape(batch, left.shape[1] * right.shape[1])


def _multiply(matrix: Tensor, state: Tensor) -> Tensor:
    """A matrix ``(batch or 1, K, K)`` on the leading wires, which become the last."""
    batch, size = state.shape
    width = matrix.shape[-1]
    if batch == 1 and len(matrix) == 1:
        return (state.view(width, -1).mT @ matrix[0].mT).view(1, size)
    product = state.view(batch, width, size // width).mT @ matrix.mT
    return product.reshape(len(product), size)


def compile_circuit(circuit: Circuit, group: int, dtype: torch.dtype, device: torch.device) -> Program:
    """The program of a circuit, kept for the next call; of large ones, whose tables take much memory, the last few."""
    compiled = _compile_large if circuit.n_wires > _LARGE else _compile
    return compiled(circuit, group, dtype, device)


def _new_program(circuit: Circuit, group: int, dtype: torch.dtype, device: torch.device) -> Program:
    with torch.inference_mode(False), torch.no_grad():  # it serves later calls, with gradients or without
        return Program(circuit, group, dtype, device)


_compile = lru_cache(maxsize=64)(_new_program)
_compile_large = lru_cache(maxsize=2)(_new_program)
