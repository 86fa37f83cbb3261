r"""Wigner functions of one mode, from its density matrix between photon-number states."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from circuits.backends.memory import check_memory
from circuits.cv.arguments import one_mode
from circuits.cv.matrices import hermite_functions
from circuits.cv.state import State
from circuits.gates import integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_wigner", "wigner_function"]


_MOST_WAVES = 599
"""Beyond it wave functions are smaller than the smallest number where they begin to oscillate."""
_SMALL = 32


def wigner_function(matrix: Tensor, x: Tensor, p: Tensor, hbar: float = 2.0) -> Tensor:
    r"""Wigner function on a grid.

    .. math:: W(x, p) = \frac{1}{\pi\hbar} \int \langle x - y|\rho|x + y\rangle\, e^{2ipy/\hbar}\, dy

    A 50:50 beamsplitter turns :math:`\psi_n(x - y)\,\psi_m(x + y)` into a sum over :math:`\psi_k(\sqrt2 x)\,
    \psi_{n + m - k}(\sqrt2 y)`, and the Fourier transform of a wave function is itself times a power of i. So the
    function is a sum of products of one function of x and one of p: two products of matrices, with no cancellation.

    Args:
        matrix: density matrices, ``(..., cutoff, cutoff)`` complex.
        x: positions, ``(n,)``.
        p: momenta, ``(m,)``.
        hbar: fixes the units of both.

    Returns:
        ``(..., n, m)``, normalised to the trace over dx dp.

    Raises:
        ValueError: the cutoff is too large for double precision, or for the memory.

    >>> vacuum = torch.ones(1, 1, dtype=torch.complex128)
    >>> float(wigner_function(vacuum, torch.zeros(1), torch.zeros(1))) * 2 * math.pi
    1.0
    """
    cutoff = matrix.shape[-1]
    size = 2 * cutoff - 1
    if size > _MOST_WAVES:
        raise ValueError(f"cutoff is {cutoff}; Wigner functions are exact up to {(_MOST_WAVES + 1) // 2}")
    if cutoff > _SMALL:
        check_memory(20 * size**3, None, matrix.device, f"wigner, cutoff {cutoff}")
    turned, turns, places, inside = _turns(cutoff, matrix.device)
    padded = torch.nn.functional.pad(matrix.to(torch.complex128).flatten(-2), (0, 1))
    diagonals = padded[..., places.flatten()].reshape(*matrix.shape[:-2], size, cutoff)
    found = (torch.complex(turned, torch.zeros_like(turned)) @ diagonals[..., None])[..., 0] * turns  # total photons, k
    coefficients = found.real.flatten(-2)[..., inside[0].flatten()].unflatten(-1, (size, size)) * inside[1]
    first, second = (hermite_functions(axis.to(coefficients) * math.sqrt(2 / hbar), size) for axis in (x, p))
    return (first @ coefficients @ second.T / (math.sqrt(math.pi) * hbar)).to(matrix.real.dtype)


@lru_cache(maxsize=16)
def _turns(cutoff: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """What :func:`wigner_function` needs.

    Returns:
        The beamsplitter ``(N, k, n)``, powers of i ``(N, k)``, places of ``(n, N - n)`` in a flattened density matrix
        ``(N, n)``, and for ``(k, j)`` the place of ``(k + j, k)`` with 1 where it exists and 0 where it does not.
    """
    size = 2 * cutoff - 1
    turned = torch.from_numpy(_half_turns(size)[..., :cutoff].copy())
    total, k = torch.arange(size)[:, None], torch.arange(size)
    n = torch.arange(cutoff)
    powers = torch.tensor([1, 1j, -1, -1j], dtype=torch.complex128)[(total - k) % 4]
    exists = (total - n >= 0) & (total - n < cutoff)
    places = torch.where(exists, n * cutoff + total - n, cutoff**2)
    below = k[:, None] + k < size
    inside = torch.where(below, (k[:, None] + k) * size + k[:, None], 0)
    return turned.to(device), powers.to(device), places.to(device), (inside.to(device), below.double().to(device))


def _half_turns(size: int) -> np.ndarray:
    r"""The 50:50 beamsplitter between wave functions, ``(size, size, size)``, over N, k and n.

    They are the coefficients of :math:`\psi_k(x) \psi_{N - k}(y)` in
    :math:`\psi_n((x - y) / \sqrt2) \psi_{N - n}((x + y) / \sqrt2)`. Let :math:`a, b` be the lowering operators of x
    and y and :math:`c_\pm = (a \pm b) / \sqrt2`. Then :math:`N = c_-^\dagger c_- + c_+^\dagger c_+` on a state of
    :math:`c_\pm` gives it from those of N - 1; errors do not grow.
    """
    found = np.zeros((size, size, size))
    found[0, 0, 0] = 1
    number = np.arange(size)
    for total in range(1, size):
        here, there = np.sqrt(number), np.sqrt(np.maximum(total - number, 0))
        previous = np.pad(found[total - 1], 1)[:-1, :-1]  # one place more at the front of both axes
        x, y = here[:, None] * previous[:-1], there[:, None] * previous[1:]
        found[total] = (here * (x - y)[:, :-1] + there * (x + y)[:, 1:]) / (math.sqrt(2) * total)
    return found


def plot_wigner(state: State, mode: int = 0, ax: Axes | None = None, points: int = 121) -> Axes:
    """Draw the Wigner function of a mode, red where it is positive and blue where it is negative.

    Args:
        state: one state, not a batch.
        mode: which.
        ax: where to draw; new axes by default.
        points: of the grid along each axis, which reaches five standard deviations from the mean.

    Returns:
        The axes.

    Raises:
        ValueError: no such mode, a batch of states, or fewer than 2 points.
    """
    import matplotlib.pyplot as plt  # takes long to import

    points, mode = integer(points, "points", 2), one_mode(mode, state.n_modes)
    if state.norm_lost.ndim > 0:
        raise ValueError(f"plot_wigner is given a batch of shape {tuple(state.norm_lost.shape)}; one state is needed")
    axes = []
    for phi in (0.0, math.pi / 2):
        mean, variance = (float(value.detach()[mode]) for value in state.quadratures(phi))
        axes.append(torch.linspace(mean - 5 * variance**0.5, mean + 5 * variance**0.5, points, dtype=torch.float64))
    values = state.wigner(mode, *axes).detach().cpu().numpy()
    ax = plt.subplots()[1] if ax is None else ax
    largest = float(abs(values).max())
    x, p = (axis.numpy() for axis in axes)
    ax.pcolormesh(x, p, values.T, cmap="RdBu_r", vmin=-largest, vmax=largest, shading="gouraud", rasterized=True)
    ax.set_aspect("equal")
    ax.set_xlabel("x")
    ax.set_ylabel("p")
    return ax
