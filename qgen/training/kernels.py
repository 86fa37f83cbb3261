"""Gaussian kernels: between sample sets, and between distributions over cells as a product over features or bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["bit_factors", "gaussian_mixture", "product_form", "value_factors"]


def gaussian_mixture(x: Tensor, y: Tensor, bandwidths: Sequence[float]) -> Tensor:
    """Mean over bandwidths ``s`` of ``exp(-|x - y|^2 / (2 s^2))``, shape ``(len(x), len(y))``.

    >>> gaussian_mixture(torch.zeros(1, 2), torch.zeros(3, 2), [0.5, 1.0])
    tensor([[1., 1., 1.]])
    """
    squared = (x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T).clamp_min(0)
    return torch.stack([torch.exp(squared / (-2 * s * s)) for s in bandwidths]).mean(0)


def value_factors(representatives: Sequence[Tensor], bandwidth: float) -> list[Tensor]:
    """The Gaussian kernel on cells as one matrix for each feature.

    Args:
        representatives: for each feature, the value that stands for each of its cells.
        bandwidth: ``s`` in ``exp(-|x - y|^2 / (2 s^2))``, in the units of the values.

    Returns:
        Matrices ``(cells of the feature, cells of the feature)``; their Kronecker product is the kernel.
    """
    return [torch.exp((v[:, None] - v[None, :]).square() / (-2 * bandwidth * bandwidth)) for v in representatives]


def bit_factors(n_bits: int, bandwidth: float) -> list[Tensor]:
    """The Gaussian kernel on bit strings as one ``(2, 2)`` matrix for each bit (2503.02934)."""
    off = torch.exp(torch.tensor(-1 / (2 * bandwidth * bandwidth), dtype=torch.float64))
    one = torch.ones((), dtype=torch.float64)
    return [torch.stack([one, off, off, one]).reshape(2, 2)] * n_bits


def product_form(left: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """Apply a kernel that is a product over features to distributions, never as a matrix over all cells.

    Args:
        left: ``(m, n_cells)``.
        factors: one square matrix for each feature, the first feature most significant.

    Returns:
        ``left @ K`` with ``K`` the Kronecker product of the factors, ``(m, n_cells)``.

    >>> left = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    >>> a, b = torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    >>> torch.equal(product_form(left, [a, b]), left @ torch.kron(a, b))
    True
    """
    values = left
    for factor in factors:
        size = factor.shape[0]
        values = values.reshape(len(left), size, -1)
        # the leading feature is contracted and moved to the end; after all of them the order is the first one again
        values = torch.einsum("mar,ab->mrb", values, factor.to(values))
    return values.reshape(left.shape)
