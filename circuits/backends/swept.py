"""Exact simulation on the CPU by compiled sweeps, as differentiable torch functions.

``swept_probs``, ``swept_state`` and ``swept_expval`` keep one state for each set of angles; their gradient is one
backward sweep (:mod:`circuits.backends.kernels`). Second derivatives go through :mod:`circuits.backends.plain`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuits.backends.base import PauliString
from circuits.backends.plain import asks_for_plain, plain_expval, plain_probs, plain_state
from circuits.backends.sweep import compile_sweep
from circuits.circuit import Circuit

__all__ = ["swept_expval", "swept_probs", "swept_state"]

_CPU = torch.device("cpu")


@lru_cache(maxsize=64)
def _arrays(circuit: Circuit, real: torch.dtype) -> tuple[Any, ...]:
    """What the kernels need to know of a circuit, kept for the next call."""
    sweep = compile_sweep(circuit)
    fixed = sweep.fixed.view(np.float64).astype(np.float32 if real == torch.float32 else np.float64, copy=False)
    affine = sweep.offsets, sweep.parameters, sweep.indices, sweep.scales
    return sweep.n_bits, (sweep.steps, sweep.bits, *affine, sweep.targets, fixed)


def _rows(angles: Tensor, batch: int) -> Any:
    """The angles as the kernels take them; another layout would be another compilation."""
    return angles.detach().to(torch.float64).contiguous().resolve_neg().numpy().reshape(batch, angles.shape[-1])


def _run(
    circuit: Circuit, dtype: torch.dtype, angles: Tensor, keep: bool, probabilities: bool
) -> tuple[Tensor, Tensor]:
    """Final states as pairs of reals, if they are to be kept, and probabilities, if they are asked for."""
    from circuits.backends.kernels import forward

    real = dtype.to_real()
    n_bits, arrays = _arrays(circuit, real)
    shape = angles.shape[:-1]
    batch = shape.numel()
    width = 2**circuit.n_wires if probabilities else 0
    states = torch.empty((batch if keep else 0, 2 << n_bits), dtype=real)
    values = torch.empty((*shape, width), dtype=real)
    forward(*arrays, _rows(angles, batch), states.numpy(), values.numpy().reshape(batch, width))
    return states, values


def _back(circuit: Circuit, angles: Tensor, states: Tensor, given: Tensor, by_parts: bool) -> Tensor:
    """Derivatives by the angles from those by the probabilities or by the states' parts."""
    from circuits.backends.kernels import backward

    _, arrays = _arrays(circuit, states.dtype)
    batch = len(states)
    gradients = torch.empty(angles.shape, dtype=torch.float64)
    slopes = given.contiguous().resolve_neg().numpy().reshape(batch, given.shape[-1])
    flat = gradients.numpy().reshape(batch, angles.shape[-1])
    backward(*arrays, _rows(angles, batch), states.numpy(), slopes, by_parts, flat)
    return gradients.to(angles.dtype)


def _again(function: Callable[[Tensor], Tensor], angles: Tensor, gradient: Tensor) -> Tensor:
    """The same derivative by ordinary operations; itself differentiable if that is asked for."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        value = function(angles)
        if not value.requires_grad:
            return torch.zeros_like(angles)
        (result,) = torch.autograd.grad(value, angles, gradient, create_graph=further)
    return result


class _Probs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, angles: Tensor, circuit: Circuit, dtype: torch.dtype) -> Tensor:
        states, probabilities = _run(circuit, dtype, angles, ctx.needs_input_grad[0], True)
        ctx.save_for_backward(angles, states)
        ctx.circuit, ctx.dtype = circuit, dtype
        return probabilities

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        angles, states = ctx.saved_tensors
        (gradient,) = gradients
        if asks_for_plain(gradient):
            return _again(lambda a: plain_probs(ctx.circuit, a, ctx.dtype, _CPU), angles, gradient), None, None
        return _back(ctx.circuit, angles, states, gradient, False), None, None


class _State(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, angles: Tensor, circuit: Circuit, dtype: torch.dtype) -> Tensor:
        states, _ = _run(circuit, dtype, angles, True, False)
        ctx.save_for_backward(angles, states)
        ctx.circuit, ctx.dtype = circuit, dtype
        amplitudes = torch.view_as_complex(states.view(*angles.shape[:-1], states.shape[1] // 2, 2))
        return amplitudes[..., : 2**circuit.n_wires].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        angles, states = ctx.saved_tensors
        (gradient,) = gradients
        if asks_for_plain(gradient):
            return _again(lambda a: plain_state(ctx.circuit, a, ctx.dtype, _CPU), angles, gradient), None, None
        parts = torch.view_as_real(gradient.resolve_conj()).flatten(-2)
        return _back(ctx.circuit, angles, states, parts, True), None, None


class _Expval(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, angles: Tensor, circuit: Circuit, dtype: torch.dtype, strings: Sequence[PauliString]
    ) -> Tensor:
        from circuits.backends.observables import Strings, expectations

        states, _ = _run(circuit, dtype, angles, True, False)
        ctx.save_for_backward(angles, states)
        ctx.circuit, ctx.dtype, ctx.strings = circuit, dtype, strings
        values = torch.empty((*angles.shape[:-1], len(strings)), dtype=states.dtype)
        expectations(*Strings.of(strings).arrays, states.numpy(), values.numpy().reshape(len(states), len(strings)))
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        from circuits.backends.observables import Strings, seeds

        angles, states = ctx.saved_tensors
        (gradient,) = gradients
        if asks_for_plain(gradient):
            again = _again(lambda a: plain_expval(ctx.circuit, a, ctx.strings, ctx.dtype, _CPU), angles, gradient)
            return again, None, None, None
        given = torch.empty_like(states)
        slopes = gradient.contiguous().resolve_neg().numpy().reshape(len(states), len(ctx.strings))
        seeds(*Strings.of(ctx.strings).arrays, states.numpy(), slopes, given.numpy())
        return _back(ctx.circuit, angles, states, given, True), None, None, None


def swept_probs(circuit: Circuit, angles: Tensor, dtype: torch.dtype) -> Tensor:
    """Probabilities of the basis states.

    Args:
        circuit: the circuit.
        angles: ``(..., n_angles)`` real, in radians, on the CPU.
        dtype: ``torch.complex128`` or ``torch.complex64``.

    Returns:
        ``(..., 2**n_wires)`` real; wire 0 is the most significant bit.

    >>> from circuits import Gate
    >>> swept_probs(Circuit(2, [Gate("H", [0])]), torch.zeros(1, 0), torch.complex128)
    tensor([[0.5000, 0.0000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    result: Tensor = _Probs.apply(angles, circuit, dtype)
    return result


def swept_state(circuit: Circuit, angles: Tensor, dtype: torch.dtype) -> Tensor:
    """Amplitudes of the final state, ``(..., 2**n_wires)`` complex; arguments as in :func:`swept_probs`."""
    result: Tensor = _State.apply(angles, circuit, dtype)
    return result


def swept_expval(circuit: Circuit, angles: Tensor, dtype: torch.dtype, strings: Sequence[PauliString]) -> Tensor:
    """Expectation values of Pauli strings, ``(..., n_strings)`` real; arguments as in :func:`swept_probs`."""
    result: Tensor = _Expval.apply(angles, circuit, dtype, strings)
    return result
