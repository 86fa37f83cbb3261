r"""Rows of a computation shared out to processes, exactly and to all orders of derivatives.

Outside of a shared piece every process holds the same numbers and does the same with them. Inside, process :math:`r`
computes its own rows of :math:`y = f(x, \theta)`. Three linear maps lead in and out, each other's adjoints if gradients
outside are the same everywhere and inside each process's own:

- :class:`_Own`: of all rows to one's own; backwards, the rows of all processes are gathered;
- :class:`_Whole`: of one's own rows to all, gathered; backwards, one's own are taken;
- :class:`_Shared`: parameters as they are; backwards, their gradients are summed over the processes.

So whatever is computed from :math:`y`, a loss on the whole sample, a penalty on gradients, has the gradients of one
process, up to the order of a sum. (The conjugate operators of tensor parallelism, 1909.08053, for rows.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

__all__ = ["gathered", "own_rows", "shared"]


def own_rows(rows: Tensor) -> Tensor:
    """The rows of this process ``(ceil(n / ranks), ...)``; beyond the last there are copies of it, so that all have
    equally many and none has none."""
    found: Tensor = _Own.apply(rows, True)
    return found


def gathered(part: Tensor, n: int) -> Tensor:
    """All ``n`` rows ``(n, ...)`` from what each process computed for its own."""
    found: Tensor = _Whole.apply(part, n)
    return found


def shared(parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same tensors, whose gradients are sums over the processes."""
    return tuple(_Shared.apply(*parameters)) if parameters else ()


def _per_rank(n: int) -> int:
    return -(-n // dist.get_world_size())


class _Own(Function):
    """Rows ``rank * k`` to ``(rank + 1) * k``; beyond the last, copies of it or zeros."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, copies: bool) -> Tensor:
        ctx.n = n = len(whole)
        k = _per_rank(n)
        places = torch.arange(k, device=whole.device) + dist.get_rank() * k
        own = whole[places.clamp(max=n - 1)]
        beyond = (places >= n).reshape(-1, *[1] * (whole.ndim - 1))
        return own if copies else own.masked_fill(beyond, 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Whole.apply(gradients[0], ctx.n), None


class _Whole(Function):
    """The rows of all processes, without those beyond the last."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, n: int) -> Tensor:
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part)
        return torch.cat(parts)[:n]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Own.apply(gradients[0], False), None


class _Shared(Function):
    """The identity."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Summed.apply(*gradients)


class _Summed(Function):
    """Sums over the processes, in one message."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return tuple(part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Shared.apply(*gradients)
