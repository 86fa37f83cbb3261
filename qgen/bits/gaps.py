r"""Squared distance between expectation values of two samples, without the part that is noise, and its uncertainty.

Each sample gives ``B`` independent blocks of estimates of the same ``K`` numbers, ``(K, B)``. Of blocks :math:`x_b` of
truth and :math:`y_c` of a model,

.. math:: \frac{\sum_{b \ne b'} x_b \cdot x_{b'}}{B (B - 1)} - 2 \frac{\sum_{b, c} x_b \cdot y_c}{B C}
          + \frac{\sum_{c \ne c'} y_c \cdot y_{c'}}{C (C - 1)}

has the expectation :math:`|\mathrm E x - \mathrm E y|^2` at any number of blocks: no block meets itself. It is negative
about as often as positive where both are the same (Chen and Qin, Ann. Statist. 38 (2010) 808).

The variance is :math:`4 \delta^T \Sigma \delta + V_0`: the first part is due to the difference :math:`\delta`, the
second, that of two equal samples, is estimated without bias by the traces of the same paper. The jackknife over blocks
counts :math:`V_0` twice; it is taken off once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qgen.metrics.result import MetricResult

__all__ = ["FEWEST_BLOCKS", "signal", "squared_gap"]

FEWEST_BLOCKS = 3
"""Of a sample, below which nothing is known of the noise."""


def squared_gap(truth: Tensor, other: Tensor, scale: Callable[[Tensor], Tensor] = torch.ones_like) -> MetricResult:
    """The squared distance over a scale.

    Args:
        truth: ``(K, B)``, at least 3 blocks.
        other: ``(K, C)``, at least 3 blocks; or ``(K, 1)``, numbers without noise.
        scale: of truth's own sum of squares, what the distance is divided by; its noise is taken into account.

    Raises:
        ValueError: other shapes.

    >>> rng = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(2, 100, 20, generator=rng)
    >>> print(squared_gap(x, y))
    -2.333 ± 1.5
    >>> print(squared_gap(x, y + 1))
    88.99 ± 5.7
    """
    if truth.ndim != 2 or other.ndim != 2 or len(truth) != len(other):
        raise ValueError(f"blocks have shapes {tuple(truth.shape)} and {tuple(other.shape)}; expected (K, B), (K, C)")
    if truth.shape[1] < FEWEST_BLOCKS or 1 < other.shape[1] < FEWEST_BLOCKS:
        raise ValueError(f"{truth.shape[1]} and {other.shape[1]} blocks; at least {FEWEST_BLOCKS} are needed")
    x, y = _Squares.of(truth), _Squares.of(other)
    cross = truth.to(torch.float64).T @ other.to(torch.float64)
    b, c = cross.shape
    both = cross.mean()

    def value(own: Tensor, between: Tensor, others: Tensor) -> Tensor:
        return (own - 2 * between + others) / scale(own)

    found = value(x.square, both, y.square)
    without_x = value(x.without, (cross.sum() - cross.sum(1)) / ((b - 1) * c), y.square)
    variance = _jackknife(without_x)
    null = 2 * x.trace / (b * (b - 1))
    if c > 1:
        without_y = value(x.square, (cross.sum() - cross.sum(0)) / (b * (c - 1)), y.without)
        variance = variance + _jackknife(without_y)
        null = null + 2 * y.trace / (c * (c - 1)) + 4 * _shared_trace(cross) / (b * c)
    null = null / scale(x.square).square()
    return MetricResult(found.item(), torch.maximum(variance - null, null).sqrt().item())


def signal(blocks: Tensor) -> float:
    """The sum of squares of the numbers behind blocks ``(K, B)``, in standard deviations of what noise alone gives.

    >>> signal(torch.ones(10, 5)) == float("inf"), signal(torch.zeros(10, 5))
    (True, 0.0)
    """
    own = _Squares.of(blocks)
    b = blocks.shape[1]
    noise = (2 * own.trace / (b * (b - 1))).sqrt().item()
    square = own.square.item()
    return square / noise if noise > 0 else float("inf") if square > 0 else 0.0


@dataclass(frozen=True)
class _Squares:
    """Of blocks: the unbiased sum of squares, the same without each block in turn, and the trace of the squared noise.

    The trace is that of the square of the covariance matrix of a single block.
    """

    square: Tensor
    without: Tensor
    trace: Tensor

    @classmethod
    def of(cls, blocks: Tensor) -> _Squares:
        blocks = blocks.to(torch.float64)
        gram = blocks.T @ blocks
        b = len(gram)
        if b == 1:
            return cls(gram[0, 0], gram[0], gram.new_zeros(()))
        own, rows = gram.diagonal(), gram.sum(1)
        pairs = gram.sum() - own.sum()
        # of two blocks each: the product of one with the other's distance from the mean of all the rest
        apart = gram - (rows[None, :] - gram - own[None, :]) / (b - 2)
        off = apart * apart.T
        trace = (off.sum() - off.diagonal().sum()) / (b * (b - 1))
        return cls(pairs / (b * (b - 1)), (pairs - 2 * (rows - own)) / ((b - 1) * (b - 2)), trace.clamp_min(0))


def _shared_trace(cross: Tensor) -> Tensor:
    """Trace of the product of both covariance matrices, from the products of blocks ``(B, C)``."""
    b, c = cross.shape
    apart_x = cross - (cross.sum(0, keepdim=True) - cross) / (b - 1)
    apart_y = cross - (cross.sum(1, keepdim=True) - cross) / (c - 1)
    return (apart_x * apart_y).mean().clamp_min(0)


def _jackknife(without: Tensor) -> Tensor:
    """Variance of a value, from its values without each block in turn."""
    n = len(without)
    return (n - 1) / n * (without - without.mean()).square().sum()
