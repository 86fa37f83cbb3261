"""Which gates an IQP machine of a wanted size has, and from which events its components start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qgen.bits.gate_sets import all_up_to, correlated, merge
from qgen.bits.sets import BitSets

__all__ = ["checked_ties", "shares", "sized_gates"]

POWERS = 30
"""Power iterations towards the first principal direction."""


def sized_gates(bits: Tensor, n_parameters: int, each: int) -> BitSets:
    """Gates for about so many parameters, of which a gate has ``each``.

    Raises:
        ValueError: none are within 10 %.
    """
    n, count = bits.shape[1], round(n_parameters / each)
    pairs = n * (n - 1) // 2
    if count <= n + pairs:
        single = all_up_to(n, 1)
        chosen = merge(single, correlated(bits, max(0, count - n), single))
    else:
        weight = next((k for k in range(3, n + 1) if sum(math.comb(n, i) for i in range(1, k + 1)) >= count), n)
        chosen = all_up_to(n, weight)
        chosen = chosen.take(torch.arange(min(count, len(chosen))))
    size = len(chosen) * each
    if abs(size - n_parameters) > 0.1 * n_parameters:
        raise ValueError(
            f"n_parameters is {n_parameters}; the closest size of an IQPBornMachine on {n} bits is {size} parameters "
            "(a difference of 10% is allowed)"
        )
    return chosen


def shares(bits: Tensor, count: int) -> list[Tensor]:
    """Numbers of the events in ``count`` equal shares, along the direction in which the bits vary most."""
    if len(bits) < 2 * count:
        raise ValueError(f"{len(bits)} events are too few for a mixture of {count}; at least 2 each are needed")
    values = bits.to(torch.float32)
    values = values - values.mean(0)
    direction = values.new_ones(bits.shape[1])
    for _ in range(POWERS):
        direction = values.T @ (values @ direction)
        direction = direction / direction.norm().clamp_min(1e-12)
    return list((values @ direction).argsort(stable=True).tensor_split(count))


def checked_ties(ties: Sequence[int], n_gates: int) -> list[int]:
    """The ties, if they number the angles of all gates without a gap.

    Raises:
        ValueError: another length, or a number that is missing.
    """
    if len(ties) != n_gates:
        raise ValueError(f"ties has {len(ties)} entries for {n_gates} gates; one each is needed")
    numbers = {int(tie) for tie in ties}
    missing = sorted(set(range(max(numbers) + 1)) - numbers)
    if min(numbers) < 0 or missing:
        wrong = f"{min(numbers)} is among them" if min(numbers) < 0 else f"{missing[0]} is not among them"
        raise ValueError(f"ties number the angles from 0 without a gap; {wrong}")
    return [int(tie) for tie in ties]
