r"""Homodyne measurements of truncated states: exact densities, and samples mode by mode.

The modes are measured one after the other. Given the earlier outcomes, the density of a mode is a sum of products of
two wave functions of photon-number states. Every such product, and so the density, is

.. math:: p(x) = \sum_{k < 2c - 1} d_k\, \psi_k(\sqrt2 x)

with the cutoff :math:`c`: a polynomial of degree :math:`2c - 2` times :math:`e^{-x^2}`, whose coefficients follow from
its values at the :math:`2c - 1` Gauss-Hermite nodes. Its integral has a closed form too. A sample is the inverse of the
cumulative distribution at a uniform number; the mode is projected on the outcome and the next one is measured.

Samples are differentiable by implicit reparametrisation (1805.08498): an outcome moves with the parameters such that
its cumulative probability stays the same, :math:`dx = -dF(x) / p(x)`, in later modes also through the earlier outcomes.
Only first derivatives are right.

All numbers here are real: wave functions are, so that the real and the imaginary part of a pure state's amplitudes are
two states of which the densities are added, and of a density matrix only the real part counts. Positions are in units
of :math:`\sqrt\hbar`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from circuits.cv.basis import FockBasis, basis_size
from circuits.cv.matrices import hermite_functions
from circuits.cv.tables import split, without_a_mode

__all__ = ["Matrices", "Measurable", "Vectors", "log_prob", "sample"]

_BYTES_AT_ONCE = 2**26
_BEYOND = 6.0
"""How far outcomes may lie beyond the classical turning point of the highest photon number; more has no probability."""
_LEAST_DENSITY = 1e-6
"""Density, relative to the distribution's unit area, below which an outcome's derivative is bounded: near a zero of the
density an outcome moves infinitely fast."""


class Measurable(Protocol):
    """``n`` states, as real numbers, whose modes can be measured."""

    @property
    def basis(self) -> FockBasis:
        """Which photon-number state each number belongs to."""

    def density(self, mode: int, waves: Tensor) -> Tensor:
        """Density of outcomes in a mode, ``(n, outcomes)``, times the state's norm.

        ``waves`` are wave functions at the outcomes, ``(outcomes, cutoff)`` or ``(n, outcomes, cutoff)``.
        """

    def after(self, mode: int, waves: Tensor) -> Measurable:
        """The states of the other modes after these outcomes, ``(n, outcomes, cutoff)``: ``n * outcomes`` of them."""

    def pick(self, rows: slice) -> Measurable:
        """Some of the states."""

    @property
    def bytes_per_outcome(self) -> int:
        """Memory that measuring all modes once takes, roughly."""


@dataclass(frozen=True)
class Vectors:
    """Pure states.

    Args:
        parts: real and imaginary parts of amplitudes, ``(n, 2, size)`` float64.
        basis: which state each belongs to.
    """

    parts: Tensor
    basis: FockBasis

    def _by_mode(self, mode: int) -> Tensor:
        table = split(self.basis, mode, self.parts.device)
        parts = self.parts
        if self.basis.kind == "total":
            parts = torch.nn.functional.pad(parts, (0, 1))
        return parts[..., table.flatten()].reshape(len(parts), -1, self.basis.cutoff)

    def density(self, mode: int, waves: Tensor) -> Tensor:
        """See :class:`Measurable`."""
        if waves.ndim > 2 or _by_torch(self.parts):
            return (self._by_mode(mode) @ waves.mT).square().sum(-2)
        from circuits.cv.homodyne_kernels import densities

        found = torch.empty(len(self.parts), len(waves), dtype=torch.float64)
        table = split(self.basis, mode, self.parts.device)
        densities(self.parts.detach().numpy(), table.numpy(), waves.numpy(), found.numpy())
        return found

    def after(self, mode: int, waves: Tensor) -> Vectors:
        """See :class:`Measurable`."""
        rest = without_a_mode(self.basis)
        if waves.shape[1] > 1 or _by_torch(self.parts, waves):
            return Vectors((waves @ self._by_mode(mode).mT).reshape(-1, 2, rest.size), rest)
        from circuits.cv.homodyne_kernels import project

        found = torch.empty(len(self.parts), 2, rest.size, dtype=torch.float64)
        table = split(self.basis, mode, self.parts.device)
        project(self.parts.detach().numpy(), table.numpy(), waves[:, 0].detach().numpy(), found.numpy())
        return Vectors(found, rest)

    def pick(self, rows: slice) -> Vectors:
        """See :class:`Measurable`."""
        return Vectors(self.parts[rows], self.basis)

    @property
    def bytes_per_outcome(self) -> int:
        """See :class:`Measurable`."""
        once, twice = _sizes_left(self.basis)
        return 16 * (once + 3 * twice * self.basis.cutoff) + _bytes_to_invert(self.basis.cutoff)


@dataclass(frozen=True)
class Matrices:
    """Mixed states.

    Args:
        matrix: real parts of density matrices, ``(n, size, size)`` float64.
        basis: which state each row and column belongs to.
    """

    matrix: Tensor
    basis: FockBasis

    def _by_mode(self, mode: int) -> Tensor:
        """``(n, others, cutoff, others, cutoff)``."""
        table = split(self.basis, mode, self.matrix.device)
        matrix = self.matrix
        if self.basis.kind == "total":
            matrix = torch.nn.functional.pad(matrix, (0, 1, 0, 1))
        flat = table.flatten()
        return matrix[:, flat][..., flat].reshape(len(matrix), *table.shape, *table.shape)

    def density(self, mode: int, waves: Tensor) -> Tensor:
        """See :class:`Measurable`."""
        reduced = self._by_mode(mode).diagonal(dim1=1, dim2=3).sum(-1)
        return ((waves @ reduced) * waves).sum(-1)

    def after(self, mode: int, waves: Tensor) -> Matrices:
        """See :class:`Measurable`."""
        blocks = self._by_mode(mode)
        n, others, cutoff = blocks.shape[:3]
        once = waves @ blocks.transpose(1, 2).reshape(n, cutoff, -1)
        once = once.reshape(n, -1, others * others, cutoff)
        twice = (once @ waves[..., None])[..., 0]
        rest = without_a_mode(self.basis)
        return Matrices(twice.reshape(-1, rest.size, rest.size), rest)

    def pick(self, rows: slice) -> Matrices:
        """See :class:`Measurable`."""
        return Matrices(self.matrix[rows], self.basis)

    @property
    def bytes_per_outcome(self) -> int:
        """See :class:`Measurable`."""
        once, twice = _sizes_left(self.basis)
        cutoff = self.basis.cutoff
        return 8 * (once**2 * (cutoff + 1) + 3 * (twice * cutoff) ** 2) + _bytes_to_invert(cutoff)


def _by_torch(*values: Tensor) -> bool:
    """Whether derivatives are asked for, or the values are not where compiled code runs."""
    asked = torch.is_grad_enabled() and any(value.requires_grad for value in values)
    return asked or values[0].device.type != "cpu"


def _sizes_left(basis: FockBasis) -> tuple[int, int]:
    """States that are left after one and after two modes are measured."""
    sizes = [basis_size(n, basis.cutoff, basis.kind) if n > 0 else 1 for n in (basis.n_modes - 1, basis.n_modes - 2)]
    return sizes[0], sizes[1]


def _bytes_to_invert(cutoff: int) -> int:
    return 8 * (len(_grid(cutoff, torch.device("cpu"))[0]) + 4 * (2 * cutoff - 1) + 16)


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
    found = torch.empty(0, x.shape[1], dtype=x.dtype, device=x.device)
    rows = [
        torch.cat([_log_prob(states.pick(some), x[some, shots], modes) for shots in pieces], 1)
        for some, pieces in _chunks(states, *x.shape[:2])
    ]
    return torch.cat([found, *rows])


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
    waves, to_coefficients = _nodes(cutoff, uniform.device)
    coefficients = states.density(mode, waves) @ to_coefficients
    everything = _integrals_over_all(2 * cutoff - 1, uniform.device)
    with torch.no_grad():
        unit = coefficients / (coefficients @ everything)[:, None]
        x, density = _invert(unit, uniform, cutoff)
    if not coefficients.requires_grad:
        return x
    weights = _integrals(math.sqrt(2) * x, 2 * cutoff - 1) - uniform[..., None] * everything
    total = (coefficients.detach() @ everything)[:, None]
    surplus = (weights @ coefficients[..., None])[..., 0] / (total * density.clamp_min(_LEAST_DENSITY))
    return x - (surplus - surplus.detach())


@lru_cache(maxsize=64)
def _nodes(cutoff: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Wave functions at nodes ``(2 c - 1, c)``, and the matrix from a density at the nodes to its coefficients."""
    size = 2 * cutoff - 1
    off = torch.arange(1, size, dtype=torch.float64).div(2).sqrt()
    y = torch.linalg.eigvalsh(torch.diag(off, 1) + torch.diag(off, -1))
    basis = hermite_functions(y, size)
    # Gauss-Hermite weights for functions with the factor exp(-y**2) are the inverse of the sum of squares
    weights = 1 / basis.square().sum(-1)
    return hermite_functions(y / math.sqrt(2), cutoff).to(device), (weights[:, None] * basis).to(device)


def _integrals(y: Tensor, size: int) -> Tensor:
    r"""Integrals of :math:`\psi_k` from minus infinity to ``y``, over :math:`\sqrt2`, ``(..., size)``."""
    waves = hermite_functions(y, size)
    found = [0.5 * math.pi**0.25 * (1 + torch.erf(y / math.sqrt(2)))]
    if size > 1:
        found.append(-waves[..., 0])
    for k in range(1, size - 1):
        found.append(math.sqrt(k / (k + 1)) * found[k - 1] - waves[..., k] / math.sqrt(k + 1))
    return torch.stack(found, -1)


@lru_cache(maxsize=64)
def _integrals_over_all(size: int, device: torch.device) -> Tensor:
    return _integrals(torch.tensor(1e3, dtype=torch.float64, device=device), size)


@lru_cache(maxsize=64)
def _grid(cutoff: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions ``(g,)`` that hold all probability between them, and the integrals up to them, ``(2 c - 1, g)``."""
    reach = math.sqrt(2 * cutoff) + _BEYOND
    x = torch.linspace(-reach, reach, 2 * math.ceil(4 * reach) + 1, dtype=torch.float64, device=device)
    return x, _integrals(math.sqrt(2) * x, 2 * cutoff - 1).T.contiguous()


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


def _invert(coefficients: Tensor, uniform: Tensor, cutoff: int) -> tuple[Tensor, Tensor]:
    """Where the cumulative distribution is ``uniform``, and the density there, ``(n, s)`` each.

    A table gives a bracket; Newton steps are taken where they at least halve the last one and stay in the bracket, and
    the bracket is halved otherwise. After a Newton step of 1e-7 the error is about its square.
    """
    grid, integrals = _grid(cutoff, uniform.device)
    if not _by_torch(uniform):
        from circuits.cv.homodyne_kernels import invert

        results = torch.empty(2, *uniform.shape, dtype=torch.float64)
        arguments = (coefficients, uniform.contiguous(), grid, integrals, *results)
        invert(*(argument.numpy() for argument in arguments))
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
