"""The Walsh-Hadamard transform, through products with small matrices."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["walsh_hadamard"]

_AXES_AT_ONCE = 5


def walsh_hadamard(values: Tensor) -> Tensor:
    r"""The sums :math:`w_x = \sum_z (-1)^{x \cdot z} v_z`, not normalised, differentiable.

    Args:
        values: ``(..., 2**n)`` real; its places are bit strings, the first bit most significant.

    Returns:
        The same shape; beside the values, twice their memory is in use.

    >>> walsh_hadamard(torch.tensor([1.0, 0.0, 0.0, 2.0])).tolist()
    [3.0, -1.0, -1.0, 3.0]
    """
    shape = values.shape
    left = shape[-1].bit_length() - 1
    groups = -(-left // _AXES_AT_ONCE)
    for group in range(groups, 0, -1):
        axes = -(-left // group)
        left -= axes
        matrix = _hadamard(axes, values.dtype, str(values.device))
        rows = values.reshape(-1, 1 << axes, 1 << left)
        values = matrix @ rows if left else rows[..., 0] @ matrix
    return values.reshape(shape)


@lru_cache(maxsize=32)
def _hadamard(axes: int, dtype: torch.dtype, device: str) -> Tensor:
    with torch.inference_mode(False):  # it serves later calls, with gradients or without
        one = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=dtype, device=device)
        matrix = one
        for _ in range(axes - 1):
            matrix = torch.kron(matrix, one)
        return matrix
