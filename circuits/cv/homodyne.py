r"""Homodyne measurements of truncated states: exact densities, and samples mode by mode.

The modes are measured one after the other. A sample is the inverse of a mode's cumulative distribution
(:mod:`circuits.cv.hermite_series`) at a uniform number; the state of the other modes is projected on the outcome, and
the next one is measured.

Samples are differentiable by implicit reparametrisation (1805.08498): an outcome moves with the parameters such that
its cumulative probability stays the same, :math:`dx = -dF(x) / p(x)`, in later modes also through the earlier outcomes.
Only first derivatives are right. Positions are in units of :math:`\sqrt\hbar`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from circuits.cv.hermite_series import integrals, integrals_over_all, invert, nodes
from circuits.cv.matrices import hermite_functions
from circuits.cv.projections import Measurable

__all__ = ["log_prob", "sample"]

_BYTES_AT_ONCE = 2**26
_LEAST_DENSITY = 1e-6
"""Density, relative to the distribution's unit area, below which an outcome's derivative is bounded: near a zero of the
density an outcome moves infinitely fast."""


def sample(states: Measurable, uniform: Tensor, modes: Sequence[int]) -> Tensor:
    """Outcomes of some modes.

    Args:
        states: ``n`` of them.
        uniform: numbers in [0, 1), ``(n, shots, len(modes))`` float64.
        modes: which, in the order in which they are measured.

    Returns:
        ``(n, shots, len(modes))`` float64, differentiable in the states.
    """
    found = torch.empty(0, uniform.shape[1], len(modes), dtype=uniform.dtype, device=uniform.device)
    rows = [
        torch.cat([_sample(states.pick(some), uniform[some, shots], modes) for shots in pieces], 1)
        for some, pieces in _chunks(states, *uniform.shape[:2])
    ]
    return torch.cat([found, *rows])


def log_prob(states: Measurable, x: Tensor, modes: Sequence[int]) -> Tensor:
    """Log density of outcomes of some modes, plus the log of the state's norm.

    Args:
        states: ``n`` of them.
        x: outcomes, ``(n, shots, len(modes))`` float64.
        modes: which.

    Returns:
        ``(n, shots)`` float64, finite, differentiable in states and outcomes.
    """
    if not x.numel():
        return x.new_empty(x.shape[:-1])
    rows = [
        torch.cat([_log_prob(states.pick(some), x[some, shots], modes) for shots in pieces], 1)
        for some, pieces in _chunks(states, *x.shape[:2])
    ]
    return torch.cat(rows)


def _chunks(states: Measurable, n: int, shots: int) -> Iterator[tuple[slice, list[slice]]]:
    """States and their shots in pieces that fit in memory."""
    at_once = max(1, _BYTES_AT_ONCE // states.bytes_per_outcome)
    columns = max(1, min(shots, at_once))
    rows = max(1, at_once // columns)
    for top in range(0, n, rows):
        yield slice(top, top + rows), [slice(left, left + columns) for left in range(0, shots, columns)]


def _places(modes: Sequence[int]) -> list[int]:
    """Where each mode is among those that are left when its turn comes."""
    return [mode - sum(earlier < mode for earlier in modes[:turn]) for turn, mode in enumerate(modes)]


def _sample(states: Measurable, uniform: Tensor, modes: Sequence[int]) -> Tensor:
    n, shots = uniform.shape[:2]
    found: list[Tensor] = []
    for turn, place in enumerate(_places(modes)):
        numbers = uniform[..., turn]
        if turn > 0:  # each outcome has its own state of the modes that are left
            numbers = numbers.reshape(-1, 1)
        found.append(_outcome(states, place, numbers))
        if turn < len(modes) - 1:
            states = states.after(place, hermite_functions(found[-1], states.basis.cutoff))
    return torch.stack([outcome.reshape(n, shots) for outcome in found], -1)


def _log_prob(states: Measurable, x: Tensor, modes: Sequence[int]) -> Tensor:
    n, shots = x.shape[:2]
    waves, scale = _scaled_waves(x, states.basis.cutoff)
    for turn, place in enumerate(_places(modes)):
        here = waves[..., turn, :]
        if turn > 0:
            here = here.reshape(n * shots, 1, -1)
        if turn < len(modes) - 1:
            states = states.after(place, here)
    density = states.density(place, here).reshape(n, shots)
    return density.clamp_min(torch.finfo(density.dtype).tiny).log() + 2 * scale.sum(-1)


def _scaled_waves(x: Tensor, cutoff: int) -> tuple[Tensor, Tensor]:
    """Wave functions ``(..., cutoff)`` divided by ``exp(scale)``, and the scale ``(...)``.

    The scale is about that of the largest; without it they are all zero from 39 widths of the vacuum on.
    """
    square = x.square()
    growth = 0.5 * (cutoff - 1) * torch.log1p(square / (2 * cutoff))
    scale = growth - 0.5 * (square - 2 * cutoff).clamp_min(0)
    found = [math.pi**-0.25 * torch.exp(-0.5 * square.clamp_max(2 * cutoff) - growth)]
    if cutoff > 1:
        found.append(math.sqrt(2) * x * found[0])
    for n in range(2, cutoff):
        found.append(math.sqrt(2 / n) * x * found[-1] - math.sqrt((n - 1) / n) * found[-2])
    return torch.stack(found, -1), scale


def _outcome(states: Measurable, mode: int, uniform: Tensor) -> Tensor:
    """Outcomes ``(n, s)`` of a mode, the inverse of the cumulative distribution at ``uniform``, differentiable."""
    cutoff = states.basis.cutoff
    waves, to_coefficients = nodes(cutoff, uniform.device)
    coefficients = states.density(mode, waves) @ to_coefficients
    everything = integrals_over_all(2 * cutoff - 1, uniform.device)
    with torch.no_grad():
        unit = coefficients / (coefficients @ everything)[:, None]
        x, density = invert(unit, uniform, cutoff)
    if not coefficients.requires_grad:
        return x
    weights = integrals(math.sqrt(2) * x, 2 * cutoff - 1) - uniform[..., None] * everything
    total = (coefficients.detach() @ everything)[:, None]
    surplus = (weights @ coefficients[..., None])[..., 0] / (total * density.clamp_min(_LEAST_DENSITY))
    return x - (surplus - surplus.detach())
