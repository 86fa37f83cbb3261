r"""Densities of one quadrature as series, their integrals, and the inverse of these.

In a truncated basis the density of a quadrature is a sum of products of two wave functions of photon-number states,
a polynomial of degree :math:`2c - 2` times :math:`e^{-x^2}` with the cutoff :math:`c`, and so

.. math:: p(x) = \sum_{k < 2c - 1} d_k\, \psi_k(\sqrt2 x) .

The coefficients follow from its values at :math:`2c - 1` Gauss-Hermite nodes. The integrals of the wave functions have
a recurrence of two terms, like the wave functions themselves. Positions are in units of :math:`\sqrt\hbar`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from circuits.cv.matrices import hermite_functions

__all__ = ["by_torch", "bytes_to_invert", "integrals", "integrals_over_all", "invert", "nodes"]

_BEYOND = 6.0
"""How far positions may lie beyond the classical turning point of the highest photon number; the rest is empty."""
_LARGEST_CUTOFF = 300
"""Beyond it wave functions are smaller than the smallest number where they begin to oscillate."""


def by_torch(*values: Tensor) -> bool:
    """Whether derivatives are asked for, or the values are not where compiled code runs."""
    asked = torch.is_grad_enabled() and any(value.requires_grad for value in values)
    return asked or values[0].device.type != "cpu"


def bytes_to_invert(cutoff: int) -> int:
    """Memory that one inversion takes, roughly."""
    return 8 * (len(_grid(cutoff, torch.device("cpu"))[0]) + 4 * (2 * cutoff - 1) + 16)


@lru_cache(maxsize=64)
def nodes(cutoff: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Wave functions at nodes ``(2 c - 1, c)``, and the matrix from a density at the nodes to its coefficients.

    Raises:
        ValueError: the cutoff is too large for double precision.
    """
    if cutoff > _LARGEST_CUTOFF:
        raise ValueError(f"cutoff is {cutoff}; homodyne samples are exact up to {_LARGEST_CUTOFF}")
    size = 2 * cutoff - 1
    off = torch.arange(1, size, dtype=torch.float64).div(2).sqrt()
    y = torch.linalg.eigvalsh(torch.diag(off, 1) + torch.diag(off, -1))
    basis = hermite_functions(y, size)
    # Gauss-Hermite weights for functions with the factor exp(-y**2) are the inverse of the sum of squares
    weights = 1 / basis.square().sum(-1)
    return hermite_functions(y / math.sqrt(2), cutoff).to(device), (weights[:, None] * basis).to(device)


def integrals(y: Tensor, size: int) -> Tensor:
    r"""Integrals of :math:`\psi_k` from minus infinity to ``y``, over :math:`\sqrt2`, ``(..., size)``."""
    waves = hermite_functions(y, size)
    found = [0.5 * math.pi**0.25 * (1 + torch.erf(y / math.sqrt(2)))]
    if size > 1:
        found.append(-waves[..., 0])
    for k in range(1, size - 1):
        found.append(math.sqrt(k / (k + 1)) * found[k - 1] - waves[..., k] / math.sqrt(k + 1))
    return torch.stack(found, -1)


@lru_cache(maxsize=64)
def integrals_over_all(size: int, device: torch.device) -> Tensor:
    """Integrals as above from minus to plus infinity, ``(size,)``."""
    return integrals(torch.tensor(1e3, dtype=torch.float64, device=device), size)


@lru_cache(maxsize=64)
def _grid(cutoff: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions ``(g,)`` that hold all probability between them, and the integrals up to them, ``(2 c - 1, g)``."""
    reach = math.sqrt(2 * cutoff) + _BEYOND
    x = torch.linspace(-reach, reach, 2 * math.ceil(4 * reach) + 1, dtype=torch.float64, device=device)
    return x, integrals(math.sqrt(2) * x, 2 * cutoff - 1).T.contiguous()


def _series(coefficients: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Cumulative distribution and density at ``x`` ``(m,)`` for coefficients ``(2 c - 1, m)``."""
    y = math.sqrt(2) * x
    size = len(coefficients)
    before, wave = torch.zeros_like(y), math.pi**-0.25 * torch.exp(-0.5 * y.square())
    below, integral = torch.zeros_like(y), 0.5 * math.pi**0.25 * (1 + torch.erf(y / math.sqrt(2)))
    cumulative, density = coefficients[0] * integral, coefficients[0] * wave
    for k in range(1, size):
        after = math.sqrt((k - 1) / k) * below - wave / math.sqrt(k)
        below, integral = integral, after
        before, wave = wave, math.sqrt(2 / k) * y * wave - math.sqrt((k - 1) / k) * before
        cumulative.addcmul_(coefficients[k], integral)
        density.addcmul_(coefficients[k], wave)
    return cumulative, density


def invert(coefficients: Tensor, uniform: Tensor, cutoff: int) -> tuple[Tensor, Tensor]:
    """Where the cumulative distribution is ``uniform``, and the density there, ``(n, s)`` each.

    A table gives a bracket; Newton steps are taken where they at least halve the last one and stay in the bracket, and
    the bracket is halved otherwise. After a Newton step of 1e-7 the error is about its square.
    """
    grid, integrals = _grid(cutoff, uniform.device)
    if not by_torch(uniform):
        from circuits.cv.homodyne_kernels import invert as compiled

        results = torch.empty(2, *uniform.shape, dtype=torch.float64)
        arguments = (coefficients, uniform.contiguous(), grid, integrals, *results)
        compiled(*(argument.numpy() for argument in arguments))
        return results[0], results[1]
    table = coefficients @ integrals
    above = torch.searchsorted(table, uniform.contiguous()).clamp(1, len(grid) - 1)
    low, high = grid[above - 1].flatten(), grid[above].flatten()
    under, over = (table.gather(1, place).flatten() for place in (above - 1, above))
    target = uniform.flatten()
    share = ((target - under) / (over - under).clamp_min(1e-300)).clamp(0.0, 1.0)
    rows = torch.arange(len(uniform), device=uniform.device).repeat_interleave(uniform.shape[1])
    some = coefficients.T[:, rows].contiguous()
    x = low + share * (high - low)
    step = high - low
    found, densities = x.clone(), torch.zeros_like(x)
    active = torch.arange(len(x), device=x.device)
    while len(active):
        cumulative, density = _series(some, x)
        fault = cumulative - target
        low, high = torch.where(fault < 0, x, low), torch.where(fault < 0, high, x)
        move = fault / density.clamp_min(1e-300)
        newton = x - move
        good = (newton >= low) & (newton <= high) & (2 * move.abs() <= step)
        following = torch.where(good, newton, 0.5 * (low + high))
        step = (following - x).abs()
        exact = fault.abs() <= 1e-15
        found[active], densities[active] = torch.where(exact, x, following), density
        going = (~exact & (step > torch.where(good, 1e-7, 1e-11))).nonzero().flatten()
        if len(going) < len(active):
            some, target, low, high = some[:, going], target[going], low[going], high[going]
            following, step, active = following[going], step[going], active[going]
        x = following
    return found.view_as(uniform), densities.view_as(uniform)
