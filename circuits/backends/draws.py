"""Shots from exact probabilities: one by one as bits, or only counted."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["draw_bits", "draw_counts", "draw_states", "frequencies"]

_CHUNK = 2**18
"""Numbers drawn at once, or four for each state where these are more: what a processor's cache holds."""
_LARGEST_CHUNK = 2**22
_FEW = 2**14
"""Draws up to which a binary search is as good as a table."""
_SMALL_TABLE, _LARGEST_TABLE = 2**16, 2**20
_SHOTS_PER_STATE = 3
"""Above it, splitting the shots over the states is faster than listing them."""


def draw_bits(probabilities: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """Basis states drawn from probabilities, as bits.

    Args:
        probabilities: ``(..., 2**n_wires)``; a sum other than one is divided out, and negative rounding errors are
            taken as zero.
        shots: how many per distribution.
        generator: draws on its own device, so that the bits are the same wherever the probabilities are.

    Returns:
        ``(..., shots, n_wires)`` uint8 on the probabilities' device; wire 0 first. The shots are independent, in no
        order.

    Raises:
        ValueError: the probabilities are not finite or all zero.

    >>> draw_bits(torch.tensor([0.0, 0.0, 1.0, 0.0]), 3, torch.Generator().manual_seed(0)).tolist()
    [[1, 0], [1, 0], [1, 0]]
    """
    size = probabilities.shape[-1]
    n_wires = size.bit_length() - 1
    cumulative = _cumulative(probabilities)
    bits = torch.empty((len(cumulative), shots, n_wires), dtype=torch.uint8, device=probabilities.device)
    for rows, columns, states in _states(cumulative, shots, generator):
        _write_bits(states, bits[rows, columns])
    return bits.reshape(*probabilities.shape[:-1], shots, n_wires)


def draw_states(probabilities: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """Numbers of states drawn from probabilities.

    Args:
        probabilities: ``(..., n_states)``, any number of states; otherwise as for :func:`draw_bits`.
        shots: how many per distribution.
        generator: draws on its own device.

    Returns:
        ``(..., shots)`` int64 on the probabilities' device.

    Raises:
        ValueError: the probabilities are not finite or all zero.

    >>> draw_states(torch.tensor([0.0, 1.0, 0.0]), 2, torch.Generator().manual_seed(0))
    tensor([1, 1])
    """
    cumulative = _cumulative(probabilities)
    found = torch.empty((len(cumulative), shots), dtype=torch.int64, device=probabilities.device)
    for rows, columns, states in _states(cumulative, shots, generator):
        found[rows, columns] = states.to(torch.int64)
    return found.reshape(*probabilities.shape[:-1], shots)


def draw_counts(probabilities: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """How often each basis state is drawn, without a list of shots.

    Few shots are drawn and counted. Many are split between the halves of the states by a binomial number, those
    between their halves, and so on, so that any number of shots takes the same time.

    Args:
        probabilities: ``(..., 2**n_wires)``; a sum other than one is divided out, and negative rounding errors are
            taken as zero.
        shots: how many per distribution.
        generator: draws on its own device, so that the counts are the same wherever the probabilities are.

    Returns:
        ``(..., 2**n_wires)`` int64 on the probabilities' device, with sum ``shots``.

    Raises:
        ValueError: the probabilities are not finite or all zero.

    >>> draw_counts(torch.tensor([0.0, 0.0, 1.0, 0.0]), 10**9, torch.Generator().manual_seed(0))
    tensor([         0,          0, 1000000000,          0])
    """
    size = probabilities.shape[-1]
    if shots > _SHOTS_PER_STATE * size:
        _cumulative(probabilities)
        counts = _split(_rows(probabilities).to(generator.device), shots, generator).to(probabilities.device)
    else:
        cumulative = _cumulative(probabilities)
        counts = torch.zeros((len(cumulative), size), dtype=torch.int64, device=probabilities.device)
        for rows, _, states in _states(cumulative, shots, generator):
            part = counts[rows]
            states = states + size * torch.arange(len(part), device=states.device)[:, None]
            part += torch.bincount(states.flatten(), minlength=part.numel()).view_as(part)
    return counts.reshape(probabilities.shape)


def frequencies(bits: Tensor) -> Tensor:
    """Relative frequencies of the basis states, ``(..., shots, n_wires)`` to ``(..., 2**n_wires)`` float64.

    >>> frequencies(torch.tensor([[0, 1], [1, 1], [0, 1], [0, 0]], dtype=torch.uint8))
    tensor([0.2500, 0.5000, 0.0000, 0.2500], dtype=torch.float64)
    """
    shots, n_wires = bits.shape[-2:]
    states = torch.zeros(bits.shape[:-1], dtype=torch.int64, device=bits.device)
    for wire in range(n_wires):
        states = 2 * states + bits[..., wire]
    counts = torch.zeros((*bits.shape[:-2], 2**n_wires), dtype=torch.float64, device=bits.device)
    return counts.scatter_add_(-1, states, torch.ones_like(states, dtype=torch.float64)) / shots


def _rows(probabilities: Tensor) -> Tensor:
    """``(rows, 2**n_wires)`` float64, not negative."""
    shape = (math.prod(probabilities.shape[:-1]), probabilities.shape[-1])
    return probabilities.detach().reshape(shape).to(torch.float64).clamp(min=0)


def _cumulative(probabilities: Tensor) -> Tensor:
    """Cumulative probabilities, ``(rows, 2**n_wires)`` float64."""
    cumulative = _rows(probabilities).cumsum(-1)
    total = cumulative[:, -1]
    if not bool(torch.isfinite(total).all()):
        raise ValueError("probabilities are not finite; are the angles?")
    if bool((total == 0).any()):
        raise ValueError("probabilities are all zero; at least one above zero is needed")
    return cumulative


def _states(cumulative: Tensor, shots: int, generator: torch.Generator) -> Iterator[tuple[slice, slice, Tensor]]:
    """Drawn states in pieces: which rows, which shots, and their numbers ``(rows, shots)``."""
    columns = min(shots, max(_CHUNK, min(4 * cumulative.shape[1], _LARGEST_CHUNK)))
    rows = max(1, _CHUNK // columns)
    for top in range(0, len(cumulative), rows):
        part = cumulative[top : top + rows]
        for left in range(0, shots, columns):
            right = min(left + columns, shots)
            uniform = torch.rand(
                (len(part), right - left), generator=generator, dtype=torch.float64, device=generator.device
            )
            yield slice(top, top + len(part)), slice(left, right), _invert(part, uniform.to(part.device))


def _invert(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """The states at these fractions of the cumulative probability: the first above it."""
    size, shots = cumulative.shape[1], uniform.shape[1]
    if cumulative.device.type == "cpu" and uniform.numel() > _FEW and 8 * shots > size and size < 2**31:
        from circuits.backends.guide import invert

        states = torch.empty(uniform.shape, dtype=torch.int32)
        buckets = max(min(4 * size, _SMALL_TABLE), min(size, _LARGEST_TABLE))
        table = np.empty(buckets + 1, dtype=np.int32)
        invert(cumulative.numpy(), uniform.numpy(), states.numpy(), table)
        return states
    total = cumulative[:, -1:]
    value = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, value, right=True, out_int32=size < 2**31)


def _write_bits(states: Tensor, bits: Tensor) -> None:
    """The binary digits of states ``(...)`` into ``(..., n_wires)`` uint8."""
    n_wires = bits.shape[-1]
    if states.device.type != "cpu" or states.dtype != torch.int32:
        for wire in range(n_wires):
            bits[..., wire] = (states >> (n_wires - 1 - wire)) & 1
        return
    width = 8 if n_wires <= 8 else 16 if n_wires <= 16 else 32
    words = (states.numpy() << (width - n_wires)).astype(f">u{width // 8}").view(np.uint8)
    if width == n_wires:
        digits = np.unpackbits(words)
    else:
        digits = np.unpackbits(words.reshape(-1, width // 8), axis=1, count=n_wires)
    bits.copy_(torch.from_numpy(digits).view(bits.shape))


def _split(weights: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """Multinomial counts ``(rows, size)`` int64 of weights ``(rows, size)``."""
    levels = [weights]
    while levels[-1].shape[1] > 1:
        levels.append(levels[-1][:, 0::2] + levels[-1][:, 1::2])
    counts = torch.full_like(levels.pop(), shots)
    while levels:
        pairs = levels.pop().unflatten(1, (-1, 2))
        left, right = pairs[..., 0], pairs[..., 1]
        share = (left / (left + right)).nan_to_num_(0.0)
        drawn = torch.binomial(counts, share, generator=generator)
        drawn = torch.where(left == 0, 0.0, torch.where(right == 0, counts, drawn))
        counts = torch.stack([drawn, counts - drawn], -1).flatten(1)
    return counts.to(torch.int64)
