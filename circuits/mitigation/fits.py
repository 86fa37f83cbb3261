"""Extrapolation to zero noise: least-squares fits of many values at a few noise scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from circuits.mitigation.measure import Estimate

__all__ = ["exponential_at_zero", "polynomial_at_zero"]

_MOST_DECAY = math.log(10)
_GOLDEN = (math.sqrt(5) - 1) / 2
_GRID = 64
_NUMBERS_AT_ONCE = 2**24
_TINY = 1e-300


def polynomial_at_zero(scales: Tensor, values: Tensor, deviations: Tensor | None, degree: int) -> Estimate:
    """Value at zero of the polynomial that fits best, with equal weights; linear in the values.

    Args:
        scales: ``(m,)``, more than ``degree``.
        values: ``(m, ...)``.
        deviations: ``(m, ...)``, of independent values; without, the scatter about the fit stands for them.
        degree: of the polynomial.

    >>> scales = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    >>> polynomial_at_zero(scales, 5 - scales, None, 1).value.round(decimals=9)
    tensor(5., dtype=torch.float64)
    """
    powers = torch.linalg.vander(scales, N=degree + 1)
    fit = torch.linalg.pinv(powers)
    at_zero = fit[0].to(values)
    value = torch.tensordot(at_zero, values, 1)
    if deviations is not None:
        return Estimate(value, torch.tensordot(at_zero.square(), deviations.square(), 1).sqrt())
    residuals = values - torch.tensordot((powers @ fit).to(values), values, 1)
    return Estimate(value, (at_zero.square().sum() * _scatter(residuals, degree + 1)).sqrt())


def exponential_at_zero(
    scales: Tensor, values: Tensor, deviations: Tensor | None, asymptote: Tensor, least: float, most: float
) -> Estimate:
    """Values at zero of the exponentials that fit best, with equal weights, known asymptotes and one rate together.

    The fit is ``asymptote + a exp(-b scale)`` with an ``a`` for each of ``k`` values and one ``b`` for all of them, the
    best with ``least <= asymptote + a <= most`` and ``0 <= b min(scales) <= log(10)``: nothing grows with the noise,
    and not more than nine tenths are lost at the smallest scale. With these bounds it exists for any values.
    Deviations are those of the linearised fit.

    Args:
        scales: ``(m,)``, 2 or more.
        values: ``(m, n, k)``.
        deviations: ``(m, n, k)``, of independent values; without, the scatter about the fit stands for them.
        asymptote: ``(n, k)``, the values at infinite noise.
        least, most: the range of the values at zero.

    >>> scales = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    >>> values = torch.tensor([[0.8, -0.2]]) * torch.exp(-0.3 * scales)[:, None, None]
    >>> exponential_at_zero(scales, values, None, torch.zeros(1, 2), -1, 1).value.round(decimals=6)
    tensor([[ 0.8000, -0.2000]], dtype=torch.float64)
    """
    if not values.shape[1]:
        return Estimate(values[0], values[0])
    at_once = max(1, _NUMBERS_AT_ONCE // (values[:, 0].numel() * _GRID))
    found = []
    for start in range(0, values.shape[1], at_once):
        rows = slice(start, start + at_once)
        known = None if deviations is None else deviations[:, rows]
        found.append(_exponential(scales, values[:, rows], known, asymptote[rows], least, most))
    return Estimate(torch.cat([one.value for one in found]), torch.cat([one.deviation for one in found]))


def _exponential(
    scales: Tensor, values: Tensor, deviations: Tensor | None, asymptote: Tensor, least: float, most: float
) -> Estimate:
    x = scales.to(values)
    y = (values - asymptote).movedim(0, -1)  # (n, k, m)

    def amplitudes(rate: Tensor) -> tuple[Tensor, Tensor]:
        """For rates ``(n, r)``, the decays ``(n, r, 1, m)`` and the amplitudes ``(n, r, k, 1)`` that fit best."""
        decay = torch.exp(-rate[..., None, None] * x)
        along = (decay * y[:, None]).sum(-1, keepdim=True) / decay.square().sum(-1, keepdim=True)
        low, high = (bound - asymptote[:, None, :, None] for bound in (least, most))
        return decay, along.clamp(low, high)

    def left(rate: Tensor) -> Tensor:
        decay, amplitude = amplitudes(rate)
        return (y[:, None] - amplitude * decay).square().sum((-1, -2))

    grid = torch.cat([torch.zeros(1), torch.logspace(-5, 0, _GRID - 1)]).to(values) * (_MOST_DECAY / scales.min())
    place = left(grid.expand(len(y), -1)).argmin(-1, keepdim=True)
    low, high = grid[(place - 1).clamp(min=0)], grid[(place + 1).clamp(max=_GRID - 1)]
    for _ in range(60):  # golden section; 0.62**60 is beyond the precision
        inner = torch.cat([high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)], 1)
        first, second = left(inner).chunk(2, 1)
        low, high = torch.where(first < second, low, inner[:, :1]), torch.where(first < second, inner[:, 1:], high)
    decay, amplitude = (part[:, 0] for part in amplitudes((low + high) / 2))  # (n, 1, m), (n, k, 1)

    # how the amplitudes follow the values: by themselves at a fixed rate, and all together through the rate
    norm = decay.square().sum(-1, keepdim=True)
    tilt = (x * decay.square()).sum(-1, keepdim=True) / norm
    across = x * decay - tilt * decay  # what a change of the rate changes, orthogonal to the decay
    strength = (amplitude.square().sum(1, keepdim=True) * across.square().sum(-1, keepdim=True)).clamp(min=_TINY)
    by_rate = tilt * amplitude * across / strength  # (n, k, m): shift of value l is its amplitude times this
    if deviations is None:
        residuals = (y - amplitude * decay).movedim(-1, 0)
        n_free = residuals[:, 0].numel() - amplitude.shape[1] - 1
        scatter = residuals.square().sum((0, 2)) / n_free if n_free else torch.full_like(residuals[0, :, 0], torch.nan)
        variances = scatter[:, None, None].expand(y.shape)
    else:
        variances = deviations.square().movedim(0, -1)
    own = variances * (decay / norm - amplitude * by_rate).square()
    others = amplitude.square() * ((variances * by_rate.square()).sum(1, keepdim=True) - variances * by_rate.square())
    return Estimate(asymptote + amplitude[..., 0], (own + others).sum(-1).sqrt())


def _scatter(residuals: Tensor, n_parameters: int) -> Tensor:
    """Variance of values about their fit, ``(m, n)`` to ``(n,)``; NaN where the fit goes through all of them."""
    left = len(residuals) - n_parameters
    return residuals.square().sum(0) / left if left else torch.full_like(residuals[0], torch.nan)
