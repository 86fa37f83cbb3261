r"""A start of the angles of an IQP circuit, or of the flips of its classical shadow, from the covariances of the data.

With gates of one and two bits, angles :math:`a = 2 \theta` and :math:`|0 \dots 0\rangle` as input,

.. math::
    \langle Z_i \rangle = \cos a_i \prod_k \cos a_{ik}, \qquad
    \langle Z_i Z_j \rangle = \tfrac{1}{2} \sum_{\sigma = \pm 1} \cos(a_i + \sigma a_j)
    \prod_{k \neq i, j} \cos(a_{ik} + \sigma a_{jk}) ,

exactly. In 2503.02934 the angles of pairs start in proportion to the covariances :math:`C_{ij}` of the data, and
those of single bits where the means would be right without the pairs. Here it is :math:`a_{ij} = \lambda C_{ij}`, made
smaller for bits whose product over pairs would fall below their mean, so that single bits can bring all means to those
of the data, pairs and all; and :math:`\lambda` is the one with the smallest squared error of
:math:`\langle Z_i Z_j \rangle`. The angles of two pairs that share a third bit decide together over the sign of a
covariance, so that their signs matter.

The classical shadow has :math:`f = 1 - 2p` in place of :math:`\cos a`, and no second sum:
:math:`\langle Z_i Z_j \rangle = \langle Z_i \rangle \langle Z_j \rangle / f_{ij}^2`. A covariance is matched by
:math:`f_{ij}` where its sign is that of the product of the means, within the same bound; others cannot be had.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.bits.sets import BitSets

__all__ = ["covariance_angles", "covariance_flips"]

EVENTS = 10_000
"""Events from which means and covariances are taken at most: the first ones."""

LENGTHS = tuple(0.1 * 1.4**i for i in range(10))
"""Tried lengths of the vector of the angles ``a`` of the pairs of one bit, where it is longest."""

LARGEST = 1.5
"""Largest angle ``a`` of a pair."""

WORK = 2**21
"""Pairs by which a length is judged, times bits."""

AT_ONCE = 2**22


def covariance_angles(gates: BitSets, bits: Tensor) -> Tensor:
    """Angles ``theta`` of the gates from the means and covariances of events, ``(n_gates,)`` float64.

    The means of all bits with a gate of their own are those of the events, and the expectation values of pairs nearer
    to theirs than those of independent bits. Gates of three and more bits have angle 0.

    Args:
        gates: sets of bits.
        bits: of events, ``(N, n_bits)``; of more than 10,000 the first ones.

    >>> bits = torch.tensor([[1, 1], [1, 1], [0, 0], [1, 0], [1, 1], [1, 1], [0, 1], [1, 1]])
    >>> start = covariance_angles(BitSets.of(2, [(0,), (1,), (0, 1)]), bits)
    >>> torch.allclose((2 * start[:2]).cos() * (2 * start[2]).cos(), torch.tensor(-0.5, dtype=start.dtype))
    True
    """
    signs, mean, pairs = _data(gates, bits)
    which = (gates.sizes == 2).nonzero().flatten().cpu()
    covariance = _second(signs, pairs) - mean[pairs].prod(1)
    longest = _per_bit(pairs, covariance.square(), len(mean)).max().sqrt() if len(pairs) else torch.zeros(())
    of_pairs = torch.zeros(len(pairs), dtype=torch.float64)
    if longest > 0:
        judged = _judged(pairs, len(mean))
        truth = _second(signs, judged)
        best = torch.inf
        for length in (0.0, *LENGTHS):
            angles = _bounded(pairs, (length / longest * covariance).clamp(-LARGEST, LARGEST), mean)
            found = _pair_values(pairs, angles, _of_singles(pairs, angles, mean), judged)
            error = float((found - truth).square().sum())
            if error < best:
                best, of_pairs = error, angles
    return _spread(gates, which, of_pairs / 2, _of_singles(pairs, of_pairs, mean) / 2)


def covariance_flips(gates: BitSets, bits: Tensor) -> Tensor:
    """Probabilities of flips of the gates from the means and covariances of events, ``(n_gates,)`` float64.

    As :func:`covariance_angles`, for independent flips: the means of single bits are those of the events, a covariance
    lies between zero and theirs. Gates of three and more bits have probability 0.
    """
    signs, mean, pairs = _data(gates, bits)
    which = (gates.sizes == 2).nonzero().flatten().cpu()
    product, second = mean[pairs].prod(1), _second(signs, pairs)
    reachable = (product * second > 0) & (second.abs() > product.abs())
    factor = torch.where(reachable, product / second, 1.0).clamp(0, 1).sqrt()
    angles = _bounded(pairs, factor.clamp_min(torch.tensor(LARGEST, dtype=torch.float64).cos()).arccos(), mean)
    flips = [(angles / 2).sin().square(), (_of_singles(pairs, angles, mean) / 2).sin().square()]
    return _spread(gates, which, *flips)


def _data(gates: BitSets, bits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Signs of the events ``(N, n_bits)``, their means, and the gates of two bits ``(n_pairs, 2)``."""
    signs = 1 - 2 * bits[:EVENTS].to("cpu", torch.float32)
    pairs = gates.take((gates.sizes == 2).nonzero().flatten()).members.reshape(-1, 2).cpu()
    return signs, signs.to(torch.float64).mean(0), pairs


def _spread(gates: BitSets, which: Tensor, of_pairs: Tensor, of_bits: Tensor) -> Tensor:
    values = torch.zeros(len(gates), dtype=torch.float64)
    values[which] = of_pairs
    single = (gates.sizes == 1).nonzero().flatten()
    values[single.cpu()] = of_bits[gates.take(single).members.cpu()]
    return values.to(gates.device)


def _second(signs: Tensor, pairs: Tensor) -> Tensor:
    """Means of the products of pairs of columns, ``(n_pairs,)`` float64."""
    parts = [
        (signs[:, some[:, 0]] * signs[:, some[:, 1]]).sum(0).to(torch.float64)
        for some in pairs.split(max(1, AT_ONCE // len(signs)))
    ]
    return torch.cat(parts) / len(signs)


def _per_bit(pairs: Tensor, values: Tensor, n_bits: int) -> Tensor:
    """Sum of the values of the pairs that each bit is in, ``(n_bits,)``."""
    return values.new_zeros(n_bits).index_add_(0, pairs.T.reshape(-1), values.repeat(2))


def _bounded(pairs: Tensor, angles: Tensor, mean: Tensor) -> Tensor:
    """Angles of pairs made smaller, so that the product of their cosines is at least as large as each bit's mean."""
    room = -mean.abs().clamp_min(1e-12).log()
    load = -_per_bit(pairs, angles.cos().log(), len(mean))
    # the logarithm of a cosine grows at least as the square of the angle, so that this is enough
    shrink = (room / load.clamp_min(1e-300)).clamp_max(1).sqrt()
    return angles * shrink[pairs].amin(1)


def _of_singles(pairs: Tensor, angles: Tensor, mean: Tensor) -> Tensor:
    """Angles of single bits that bring the means to those of the data, ``(n_bits,)``."""
    left = _per_bit(pairs, angles.cos().log(), len(mean)).exp()
    return (mean / left).clamp(-1, 1).arccos()


def _judged(pairs: Tensor, n_bits: int) -> Tensor:
    """Pairs of bits by which a start is judged: all, or as many gates as other pairs, evenly from their lists."""
    count = max(2, WORK // n_bits)
    every = n_bits * (n_bits - 1) // 2
    if every <= count:
        return torch.combinations(torch.arange(n_bits))
    some = pairs[torch.linspace(0, len(pairs) - 1, min(len(pairs), count // 2)).long()]
    # golden steps through all pairs meet near and far ones
    number = (torch.arange(count // 2) * 0.6180339887498949 % 1 * n_bits * n_bits).long()
    others = torch.stack([number // n_bits, number % n_bits], 1)
    return torch.cat([some, others[others[:, 0] != others[:, 1]]])


def _pair_values(pairs: Tensor, angles: Tensor, of_bits: Tensor, judged: Tensor) -> Tensor:
    """The expectation values of pairs of bits in a circuit with gates of one and two bits, ``(n_judged,)``."""
    from scipy import sparse

    n = len(of_bits)
    first, second = pairs.numpy().T
    upper = sparse.coo_array((angles.numpy(), (first, second)), shape=(n, n))
    every = (upper + upper.T).tocsr().astype("float32")
    found = []
    for some in judged.split(max(1, AT_ONCE // (4 * n))):
        row = torch.arange(len(some))
        left, right = (torch.from_numpy(every[some[:, k].numpy()].toarray()) for k in (0, 1))
        for rows in (left, right):
            rows[row, some[:, 0]] = rows[row, some[:, 1]] = 0
        a, b = of_bits[some].unbind(1)
        plus, minus = ((a + s * b).cos() * (left + s * right).cos_().prod(1) for s in (1, -1))
        found.append((plus + minus) / 2)
    return torch.cat(found)
