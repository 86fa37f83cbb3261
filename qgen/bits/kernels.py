r"""Gaussian kernels of bit strings as random strings of Z: which orders a bandwidth sees, and draws of the strings.

A bit contributes 1 or :math:`e^{-1/2s^2}` to the kernel :math:`k(x, y) = e^{-|x - y|^2 / 2s^2}`, as the two strings
agree in it or not. With :math:`p = (1 - e^{-1/2s^2}) / 2` that is :math:`(1 - p) + p\, (-1)^{x_i + y_i}`, and the
product over the bits is a sum over sets :math:`S` of bits (2503.02934),

.. math:: k(x, y) = \sum_S p^{|S|} (1 - p)^{n - |S|} Z_S(x) Z_S(y), \qquad Z_S(x) = (-1)^{\sum_{i \in S} x_i} .

So the squared maximum mean discrepancy is the mean squared difference of the expectation values of a :math:`Z_S` whose
bits are there with probability :math:`p` each: the number of them, the order of the correlation, is binomial
(2305.02881).

The set without a bit is the same for every distribution and brings nothing. It is never drawn; what is drawn are sets
given that they are not empty, and a mean over them is multiplied by the probability of that, :func:`share_seen`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qgen.bits.sets import BitSets
from qgen.random import uniform

__all__ = ["default_scales", "draw_strings", "flip_rate", "order_weights", "scale_of_order", "share_seen"]

MEAN_ORDERS = (1.0, 2.0, 4.0, 8.0)
"""Mean number of bits of the strings of the default bandwidths."""


def flip_rate(scale: float) -> float:
    """Probability that a bit is in a string of the kernel ``exp(-|x - y|^2 / (2 scale^2))``, below one half.

    Raises:
        ValueError: a scale that is not positive and finite.

    >>> round(flip_rate(2.0), 4)
    0.0588
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale:g}; a bandwidth is positive and finite")
    rate = -math.expm1(-1 / (2 * scale * scale)) / 2 if scale > 1e-3 else 0.5
    if rate == 0:
        raise ValueError(f"scale is {scale:g}; the kernel does not tell any bit strings apart")
    return rate


def scale_of_order(n_bits: int, order: float) -> float:
    """The bandwidth whose strings have ``order`` bits in the mean, the empty ones counted.

    Raises:
        ValueError: the order is not between 0 and half the number of bits.

    >>> round(100 * flip_rate(scale_of_order(100, 2.0)), 6)
    2.0
    """
    if not 0 < order < n_bits / 2:
        raise ValueError(f"order is {order:g}; with {n_bits} bits it is above 0 and below {n_bits / 2:g}")
    return math.sqrt(-1 / (2 * math.log1p(-2 * order / n_bits)))


def default_scales(n_bits: int) -> tuple[float, ...]:
    """Bandwidths whose strings have 1, 2, 4 and 8 bits in the mean, but no more than a quarter of all.

    Together they see single bits, pairs and triples, and a tail of higher orders. In units of ``sqrt(n_bits)`` they are
    1/2, 1/3, 1/4 and 1/6, about.

    >>> [round(scale, 2) for scale in default_scales(100)]
    [4.97, 3.5, 2.45, 1.69]
    """
    orders = [order for order in MEAN_ORDERS if order <= n_bits / 4] or [n_bits / 4]
    return tuple(scale_of_order(n_bits, order) for order in orders)


def order_weights(n_bits: int, scale: float) -> Tensor:
    """Weight of each order of correlation in a kernel, from 0 bits to all, ``(n_bits + 1,)`` float64; the sum is 1.

    >>> [round(weight, 9) for weight in order_weights(2, 0.1).tolist()]
    [0.25, 0.5, 0.25]
    """
    rate = flip_rate(scale)
    order = torch.arange(n_bits + 1, dtype=torch.float64)
    log_choices = math.lgamma(n_bits + 1) - torch.lgamma(order + 1) - torch.lgamma(n_bits - order + 1)
    return (log_choices + order * math.log(rate) + (n_bits - order) * math.log1p(-rate)).exp()


def share_seen(n_bits: int, scales: Sequence[float]) -> Tensor:
    """For each bandwidth the probability that a string is not empty, ``(n_scales,)`` float64.

    Their mean is what the mean over drawn strings is multiplied by to be the mean of the bandwidths' discrepancies.

    >>> share_seen(2, [0.1]).tolist()
    [0.75]
    """
    seen = [-math.expm1(n_bits * math.log1p(-flip_rate(scale))) for scale in scales]
    return torch.tensor(seen, dtype=torch.float64)


def draw_strings(
    n_bits: int,
    scales: Sequence[float],
    count: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> tuple[BitSets, Tensor]:
    """Random strings of the kernels of these bandwidths, none of them empty, and the kernel of each ``(count,)`` int64.

    Every string belongs to each kernel with a probability in proportion to its :func:`share_seen`, and the numbers of
    the kernels differ from their expectation by less than one (systematic sampling). So ``share_seen(...).mean()``
    times the plain mean over all strings is unbiased for the mean of the kernels' discrepancies, and
    ``share_seen(...)[k]`` times the mean over the strings of kernel ``k`` for that of one kernel.

    Time and memory grow with the number of bits that are in the strings, not with all bits.

    Args:
        n_bits: bits of a string.
        scales: bandwidths, in units of a bit.
        count: strings of all kernels together.
        generator: source of randomness.
        device: where the strings are wanted.

    Raises:
        ValueError: no bandwidth or an impossible one, no string asked for, or no bits.

    >>> strings, kernel = draw_strings(1000, (16.0, 4.0), 6, torch.Generator().manual_seed(0))
    >>> strings.sizes.tolist(), kernel.tolist()
    ([1, 2, 16, 14, 12, 12], [0, 0, 1, 1, 1, 1])
    """
    if n_bits < 1 or count < 1:
        raise ValueError(f"n_bits is {n_bits} and count {count}; at least 1 of each is needed")
    if not scales:
        raise ValueError("scales are empty; at least one bandwidth is needed")
    rates = torch.tensor([flip_rate(scale) for scale in scales], dtype=torch.float64)
    seen = share_seen(n_bits, scales)
    place = (torch.arange(count) + uniform((1,), generator, dtype=torch.float64)) / count
    kernel = torch.searchsorted(seen.cumsum(0) / seen.sum(), place, right=True).clamp_max(len(scales) - 1)

    log_not = torch.log1p(-rates)[kernel]
    # the first bit of a string that has one; behind it the bits are there or not as in any string
    first = (torch.log1p(-uniform((count,), generator, dtype=torch.float64) * seen[kernel]) / log_not).long()
    first = first.clamp_max(n_bits - 1)
    rows, members = [torch.arange(count)], [first]
    for k, rate in enumerate(rates.tolist()):
        which = (kernel == k).nonzero().flatten()
        # what is left of all its strings, as one line
        ends = (n_bits - 1 - first[which]).cumsum(0)
        place = _successes(int(ends[-1]) if len(ends) else 0, rate, generator)
        row = torch.searchsorted(ends, place, right=True)
        rows.append(which[row])
        members.append(n_bits + place - ends[row])
    row, member = torch.cat(rows), torch.cat(members)
    sizes = torch.bincount(row, minlength=count)
    order = (row * n_bits + member).argsort()
    pointers = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return BitSets(n_bits, pointers, member[order]).to(device), kernel.to(device)


def _successes(trials: int, rate: float, generator: torch.Generator) -> Tensor:
    """Places of the successes in a row of trials of probability ``rate``, ascending int64, by their distances."""
    parts: list[Tensor] = []
    last = -1
    while last < trials - 1:
        expected = rate * (trials - 1 - last)
        chance = uniform((int(expected + 4 * math.sqrt(expected)) + 8,), generator, dtype=torch.float64)
        failures = (torch.log1p(-chance) / math.log1p(-rate)).clamp_max(trials).long()
        parts.append(last + (failures + 1).cumsum(0))
        last = int(parts[-1][-1])
    place = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
    return place[place < trials]
