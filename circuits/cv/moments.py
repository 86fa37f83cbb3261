"""Expectation values of powers of lowering operators in pure states, compiled on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from circuits.backends.plain import asks_for_plain
from circuits.cv.basis import FockBasis
from circuits.cv.tables import lowering

__all__ = ["lowered"]


def lowered(amplitudes: Tensor, basis: FockBasis, steps: int) -> Tensor:
    """Expectation values of ``a**steps`` of every mode, times the norm.

    Args:
        amplitudes: ``(..., basis.size)`` complex.
        basis: which state each belongs to.
        steps: the power.

    Returns:
        ``(..., n_modes)`` complex. On the CPU first derivatives are compiled too.

    >>> lowered(torch.tensor([0.6, 0.8j], dtype=torch.complex128), FockBasis(1, 2), 1)
    tensor([0.+0.4800j], dtype=torch.complex128)
    """
    if amplitudes.device.type != "cpu":
        return _plain(amplitudes, basis, steps)
    rows = amplitudes.reshape(-1, basis.size)
    found: Tensor = _Lowered.apply(rows, basis, steps)
    return found.reshape(*amplitudes.shape[:-1], basis.n_modes)


def _plain(amplitudes: Tensor, basis: FockBasis, steps: int) -> Tensor:
    upper, lower, factor = lowering(basis, steps, amplitudes.device)
    products = amplitudes[..., lower].conj() * amplitudes[..., upper]
    return (products.unflatten(-1, factor.shape) * factor.to(products.real.dtype)).sum(-1)


def _tables(basis: FockBasis, steps: int) -> list[Any]:
    return [table.numpy() for table in lowering(basis, steps, torch.device("cpu"))]


def _reals(values: Tensor) -> Any:
    return torch.view_as_real(values.detach().resolve_conj().contiguous()).numpy()


class _Lowered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, amplitudes: Tensor, basis: FockBasis, steps: int) -> Tensor:
        from circuits.cv.moment_kernels import expectations

        ctx.basis, ctx.steps = basis, steps
        ctx.save_for_backward(amplitudes)
        found = torch.empty(len(amplitudes), basis.n_modes, dtype=amplitudes.dtype)
        expectations(_reals(amplitudes), *_tables(basis, steps), _reals(found))
        return found

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        (amplitudes,), (slope,) = ctx.saved_tensors, slopes
        if asks_for_plain(slope):
            further = torch.is_grad_enabled()
            with torch.enable_grad():
                value = _plain(amplitudes, ctx.basis, ctx.steps)
                (found,) = torch.autograd.grad(value, amplitudes, slope, create_graph=further)
            return found, None, None
        from circuits.cv.moment_kernels import derivatives

        found = torch.zeros(amplitudes.shape, dtype=amplitudes.dtype)
        derivatives(_reals(amplitudes), *_tables(ctx.basis, ctx.steps), _reals(slope), _reals(found))
        return found, None, None
