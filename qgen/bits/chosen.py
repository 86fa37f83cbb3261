"""Which strings of Z a model is judged by: pairs and triples of bits, and random strings of every order."""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor

from qgen.bits.sets import BitSets
from qgen.random import uniform

__all__ = ["choose_pairs", "choose_triples", "strings_of_order"]

CANDIDATES = 20_000
"""Most triples among which those with the largest cumulants are chosen."""

EVENTS = 5_000
"""Most events by which pairs and triples are chosen."""


def choose_pairs(bits: Tensor, count: int, near: Tensor, generator: torch.Generator) -> Tensor:
    """Pairs of bits: all if they are few; else neighbours, the most correlated ones and random ones, a third each.

    Args:
        bits: of events that nothing is judged by, ``(n, n_bits)``.
        count: how many pairs.
        near: pairs of bits that are neighbours, ``(m, 2)``; of more than a third of ``count``, random ones are taken.
        generator: source of randomness.

    Returns:
        ``(count, 2)``, or all pairs, each ascending and once.

    >>> rng = torch.Generator().manual_seed(0)
    >>> choose_pairs(torch.tensor([[0, 1, 1], [1, 0, 0]]), 10, torch.empty(0, 2).long(), rng).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    n = bits.shape[1]
    if math.comb(n, 2) <= count:
        return torch.combinations(torch.arange(n))
    third = count // 3
    strength = _covariances(bits).abs().triu_(1)
    strongest = strength.flatten().topk(min(2 * third, strength.numel())).indices
    chosen = _numbered(near, n)[torch.randperm(len(near), generator=generator)[:third]]
    fresh = strongest[~torch.isin(strongest, chosen)]
    chosen = torch.cat([chosen, fresh[:third]]).unique()
    while len(chosen) < count:
        drawn = (uniform((2 * count, 2), generator, dtype=torch.float64) * n).long()
        random = _numbered(drawn[drawn[:, 0] != drawn[:, 1]], n)
        random = random[~torch.isin(random, chosen)].unique()
        random = random[torch.randperm(len(random), generator=generator)]
        chosen = torch.cat([chosen, random[: count - len(chosen)]])
    chosen = chosen.sort().values
    return torch.stack([chosen // n, chosen % n], 1)


def choose_triples(bits: Tensor, count: int, near: Tensor, generator: torch.Generator) -> Tensor:
    """Triples of bits: all if they are few; else two thirds with the largest cumulants, and random ones.

    Those with the largest cumulants are looked for among triples that two pairs with a bit in common make, the pairs
    being neighbours or the most correlated ones.

    Args:
        bits: of events that nothing is judged by, ``(n, n_bits)``.
        count: how many triples.
        near: pairs of bits that are neighbours, ``(m, 2)``.
        generator: source of randomness.

    Returns:
        ``(count, 3)``, or all triples, each ascending and once.
    """
    n = bits.shape[1]
    if math.comb(n, 3) <= count:
        return torch.combinations(torch.arange(n), 3)
    strength = _covariances(bits).abs().triu_(1)
    strongest = strength.flatten().topk(min(4 * count, math.comb(n, 2))).indices
    links = torch.cat([_numbered(near, n), strongest]).unique()
    candidates = _chains(torch.stack([links // n, links % n], 1), n, generator)
    third = _third_cumulants(bits[:EVENTS], candidates)
    chosen = candidates[third.abs().topk(min(len(third), 2 * (count // 3))).indices]
    while len(chosen) < count:
        drawn = (uniform((2 * count, 3), generator, dtype=torch.float64) * n).long().sort(1).values
        drawn = drawn[(drawn.diff(dim=1) > 0).all(1)]
        known = (chosen[:, 0] * n + chosen[:, 1]) * n + chosen[:, 2]
        number = (drawn[:, 0] * n + drawn[:, 1]) * n + drawn[:, 2]
        number = number[~torch.isin(number, known)].unique()
        number = number[torch.randperm(len(number), generator=generator)][: count - len(chosen)]
        chosen = torch.cat([chosen, torch.stack([number // (n * n), number // n % n, number % n], 1)])
    return chosen


def strings_of_order(n_bits: int, order: int, count: int, generator: torch.Generator) -> BitSets:
    """Sets of ``order`` bits: all if they are few; else random ones, every set with the same probability.

    >>> list(strings_of_order(3, 2, 10, torch.Generator()))
    [(0, 1), (0, 2), (1, 2)]
    """
    if math.comb(n_bits, order) <= count:
        return BitSets.of(n_bits, combinations(range(n_bits), order))
    rows = [torch.randperm(n_bits, generator=generator)[:order].tolist() for _ in range(count)]
    return BitSets.of(n_bits, rows)


def _covariances(bits: Tensor) -> Tensor:
    """Covariances of the signs of bits, ``(n_bits, n_bits)`` float32."""
    signs = 1 - 2 * bits[:EVENTS].to(torch.float32)
    signs = signs - signs.mean(0)
    return signs.T @ signs / len(signs)


def _third_cumulants(bits: Tensor, triples: Tensor) -> Tensor:
    signs = 1 - 2 * bits.to(torch.float32)
    signs = (signs - signs.mean(0)).T.contiguous()
    parts = [(signs[part[:, 0]] * signs[part[:, 1]] * signs[part[:, 2]]).mean(1) for part in triples.split(1024)]
    return torch.cat(parts) if parts else signs.new_empty(0)


def _chains(links: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Triples made of two links with a bit in common, ascending and once, at most 20,000 of them ``(m, 3)``."""
    both = torch.cat([links, links.flip(1)])
    both = both[(both[:, 0] * n + both[:, 1]).argsort()]
    degree = torch.bincount(both[:, 0], minlength=n)
    # each link is met by the links of its first bit
    first = torch.arange(len(both)).repeat_interleave(degree[both[:, 0]])
    if len(first) > 4 * CANDIDATES:
        first = first[torch.randperm(len(first), generator=generator)[: 4 * CANDIDATES]]
    start = degree.cumsum(0) - degree
    bit = both[first, 0]
    second = start[bit] + (uniform((len(first),), generator, dtype=torch.float64) * degree[bit]).long()
    triples = torch.stack([bit, both[first, 1], both[second, 1]], 1).sort(1).values
    triples = triples[(triples.diff(dim=1) > 0).all(1)].unique(dim=0)
    return triples[torch.randperm(len(triples), generator=generator)[:CANDIDATES]]


def _numbered(pairs: Tensor, n: int) -> Tensor:
    """Pairs as numbers, the smaller bit first."""
    pairs = pairs.sort(1).values
    return pairs[:, 0] * n + pairs[:, 1]
