"""Gradients of large state vectors with the memory of two, by the adjoint method (2009.02823).

The circuit runs forward as the few tensor operations of a :class:`~circuits.backends.program.Program`, and only the
final state is kept. Backward, the state and its cotangent go through the operations in reverse, each undone by its
inverse, and the gradient by the small matrix of each dense product is one matrix product of the two. From there to the
angles it is the ordinary autograd of small matrices. Everything is torch without a look at values, so that it runs on
any device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from circuits.backends.plain import asks_for_plain
from circuits.backends.program import Dense, Diagonal, Program, compile_circuit, permute
from circuits.circuit import Circuit

__all__ = ["grouped_probs", "grouped_state"]

_SERIAL = 2**17
"""Amplitudes below which more threads than one cost more than they bring."""


def grouped_state(
    circuit: Circuit, angles: Tensor, dtype: torch.dtype = torch.complex128, device: torch.device | str = "cpu"
) -> Tensor:
    """Amplitudes of the final state, differentiable with the memory of a few states.

    Second derivatives work too; they keep a state for each operation.

    Args:
        circuit: the circuit.
        angles: ``(batch, n_angles)`` real, in radians.
        dtype: complex.
        device: where to compute.

    Returns:
        ``(batch, 2**n_wires)`` complex; wire 0 is the most significant bit.

    >>> from circuits import Gate
    >>> grouped_state(Circuit(1, [Gate("RX", [0], [0])]), torch.tensor([[torch.pi]], dtype=torch.float64)).imag
    tensor([[ 0., -1.]], dtype=torch.float64)
    """
    return _grouped(circuit, angles, dtype, device, False)


def grouped_probs(
    circuit: Circuit, angles: Tensor, dtype: torch.dtype = torch.complex128, device: torch.device | str = "cpu"
) -> Tensor:
    """Probabilities of the basis states, differentiable with the memory of a few states.

    Args and precision as in :func:`grouped_state`.

    Returns:
        ``(batch, 2**n_wires)`` real; wire 0 is the most significant bit.

    >>> from circuits import Gate
    >>> grouped_probs(Circuit(2, [Gate("H", [0])]), torch.zeros(1, 0))
    tensor([[0.5000, 0.0000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    return _grouped(circuit, angles, dtype, device, True)


def _grouped(circuit: Circuit, angles: Tensor, dtype: torch.dtype, device: torch.device | str, squared: bool) -> Tensor:
    batch = len(angles)
    if batch > 1 and (angles.stride(0) == 0 or circuit.n_angles == 0):  # one row, expanded
        angles = angles[:1]
    group = 4 if circuit.n_wires >= (10 if len(angles) == 1 else 13) else 2  # larger matrices cost more than they save
    program = compile_circuit(circuit, group, dtype, torch.device(device))
    angles = angles.to(program.device, dtype.to_real())
    with _threads(len(angles) << circuit.n_wires):
        result: Tensor = _Run.apply(program, squared, angles, *program.matrices(angles))
        if program.restore is not None:
            result = permute(result, *program.restore)
    return result.expand(batch, -1)


@contextmanager
def _threads(amplitudes: int) -> Iterator[None]:
    """One thread for small problems; the caller's number afterwards."""
    before = torch.get_num_threads()
    if before == 1 or amplitudes >= _SERIAL:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run(torch.autograd.Function):
    """The state of a program, or its squares, from the angles and the matrices that they make."""

    @staticmethod
    def forward(ctx: Any, program: Program, squared: bool, angles: Tensor, *matrices: Tensor) -> Tensor:
        state = _forward(program, angles, matrices)
        ctx.program, ctx.squared = program, squared
        ctx.save_for_backward(angles, state, *matrices)
        return _squares(state) if squared else state

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        program: Program = ctx.program
        angles, state, *matrices = ctx.saved_tensors
        (gradient,) = gradients
        if asks_for_plain(gradient):
            further = torch.is_grad_enabled()
            with torch.enable_grad():
                angles = angles.view_as(angles)  # apart from the angles that the matrices come from
                again = program.run(angles, matrices)
                again = _squares(again) if ctx.squared else again
            inputs = [tensor for tensor in (angles, *matrices) if tensor.requires_grad]
            if not again.requires_grad:  # no angle is in use
                return (None,) * (3 + len(matrices))
            found = iter(torch.autograd.grad(again, inputs, gradient, create_graph=further, allow_unused=True))
            return None, None, *(next(found) if tensor.requires_grad else None for tensor in (angles, *matrices))
        with _threads(state.numel()):
            cotangent = state * (2 * gradient) if ctx.squared else gradient.resolve_conj().clone()
            del gradient, gradients
            return None, None, *_backward(program, angles, matrices, state, cotangent, ctx.needs_input_grad[2:])


def _squares(state: Tensor) -> Tensor:
    real, imaginary = state.real, state.imag
    return real * real + imaginary * imaginary


def _forward(program: Program, angles: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    walk = _Walk(program.initial(matrices).expand(len(angles), -1).contiguous())
    for operation in program.operations:
        if isinstance(operation, Diagonal):
            for factor in operation.factors(angles):
                walk.multiply(factor)
        elif isinstance(operation, Dense):
            walk.apply(operation.matrix(matrices))
        else:
            walk.gather(operation[0])
    return walk.state


def _backward(
    program: Program,
    angles: Tensor,
    matrices: Sequence[Tensor],
    state: Tensor,
    cotangent: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients by the angles, where they enter by phases, and by the matrices."""
    by_angle = torch.zeros_like(angles)
    by_matrix = [torch.zeros_like(stack) for stack in matrices]
    psi, dual = _Walk(state, keep=True), _Walk(cotangent.contiguous())
    dual.spare = psi.spare
    for operation in reversed(program.operations):
        if isinstance(operation, Diagonal):
            if operation.terms is not None and needed[0]:
                operation.pull((dual.state * psi.state.conj()).imag, by_angle)
            for factor in operation.factors(angles):
                psi.multiply(factor.conj())
                dual.multiply(factor.conj())
        elif isinstance(operation, Dense):
            matrix = operation.matrix(matrices)
            if needed[1 + operation.template]:
                target = operation.matrix(by_matrix)
                product = _overlaps(dual.state, psi.state, matrix.shape[-1]) @ matrix
                target += product.sum(0, keepdim=True) if len(target) < len(product) else product
            psi.undo(matrix)
            dual.undo(matrix)
        else:
            psi.gather(operation[1])
            dual.gather(operation[1])
    gradient = dual.state
    del psi, dual, state, cotangent
    with torch.enable_grad():
        inputs = [matrix.detach().requires_grad_() for matrix in matrices]
        initial = program.initial(inputs)
        if initial.requires_grad:
            gradient = gradient.sum(0, keepdim=True) if len(initial) < len(gradient) else gradient
            for total, part in zip(
                by_matrix, torch.autograd.grad(initial, inputs, gradient, allow_unused=True), strict=True
            ):
                if part is not None:
                    total += part
    return [by_angle, *by_matrix]


class _Walk:
    """A state on its way through operations, in two buffers.

    Args:
        state: ``(batch, 2**n_wires)``.
        keep: the state's own memory is not to be written.
    """

    def __init__(self, state: Tensor, keep: bool = False) -> None:
        self.state = state
        self.spare: list[Tensor] = []
        self.keep = keep

    def _target(self) -> Tensor:
        return self.spare.pop() if self.spare else torch.empty_like(self.state)

    def _move(self, target: Tensor) -> None:
        if not self.keep:
            self.spare.append(self.state)
        self.state, self.keep = target, False

    def multiply(self, factor: Tensor) -> None:
        """Multiplication by phases."""
        if self.keep:
            self._move(torch.mul(self.state, factor, out=self._target()))
        else:
            self.state.mul_(factor)

    def gather(self, index: Tensor) -> None:
        """A permutation of the amplitudes."""
        target = self._target()
        if _by_row(self.state):
            for source, row in zip(self.state, target, strict=True):
                torch.index_select(source, 0, index, out=row)
        else:
            torch.index_select(self.state, 1, index, out=target)
        self._move(target)

    def apply(self, matrix: Tensor) -> None:
        """A matrix ``(batch or 1, K, K)`` on the leading wires, which become the last."""
        width, target = matrix.shape[-1], self._target()
        _product(_split(self.state, width).mT, matrix.mT, _split(target, -width))
        self._move(target)

    def undo(self, matrix: Tensor) -> None:
        """The inverse of :meth:`apply`."""
        width, target = matrix.shape[-1], self._target()
        _product(matrix.mH, _split(self.state, -width).mT, _split(target, width))
        self._move(target)


def _overlaps(dual: Tensor, state: Tensor, width: int) -> Tensor:
    """``sum_r dual[r, i] conj(state[r, j])`` on the last wires, ``(batch, width, width)``.

    On a GPU the sum is cut to pieces that run side by side.
    """
    batch, size = state.shape
    pieces = 1 if _on_cpu(state) else max(1, size // width // 1024)
    result = state.new_empty((batch * pieces, width, width))
    shape = (batch * pieces, size // width // pieces, width)
    _product(dual.view(shape).mH, state.view(shape), result)
    return result.view(batch, pieces, width, width).sum(1).conj()


def _split(state: Tensor, width: int) -> Tensor:
    """The state as ``(batch, width, rest)``, or ``(batch, rest, -width)`` for a negative width."""
    batch, size = state.shape
    return state.view(batch, width, size // width) if width > 0 else state.view(batch, size // -width, -width)


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _by_row(state: Tensor) -> bool:
    """On the CPU, few long rows are faster one by one."""
    return _on_cpu(state) and (len(state) == 1 or state.shape[1] >= 2**12)


def _product(left: Tensor, right: Tensor, target: Tensor) -> None:
    """Matrix products ``(batch or 1, ., .)`` into ``target``."""
    batch = len(target)
    if _on_cpu(target) and (batch == 1 or left.shape[1] * left.shape[2] + right.shape[1] * right.shape[2] >= 2**12):
        for row in range(batch):
            torch.mm(left[row if len(left) > 1 else 0], right[row if len(right) > 1 else 0], out=target[row])
    else:
        torch.bmm(left.expand(batch, -1, -1), right.expand(batch, -1, -1), out=target)
