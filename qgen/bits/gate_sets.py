"""Which sets of bits a model on bits acts on: all small ones, neighbours, pairs that the data correlate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain, combinations
from typing import Literal

import torch
from torch import Tensor

from qgen.bits.adjacency import grid_shape, neighbouring_bits
from qgen.bits.cells import Frame
from qgen.bits.covariance_start import covariance_angles
from qgen.bits.sets import BitSets
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Discretiser
from qgen.data.transforms import Transform

__all__ = [
    "GateChoice",
    "all_up_to",
    "choose_gates",
    "correlated",
    "covariance_angles",
    "merge",
    "neighbours",
    "ties",
    "training_bits",
]

GateChoice = Literal["all", "neighbours"]

MOST_GATES = 200_000
"""Gates that are held at most."""

EVENTS = 10_000
"""Events from which correlations are taken at most: the first ones."""

PAIRS_AT_ONCE = 2**23
"""Correlations in memory at a time."""


def all_up_to(n_bits: int, weight: int) -> BitSets:
    """All sets of up to ``weight`` bits, small ones first, in order of the bits.

    Raises:
        ValueError: a weight that is impossible, or more than 200,000 sets.

    >>> list(all_up_to(3, 2))
    [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    """
    _check_weight(weight, n_bits)
    count = sum(math.comb(n_bits, size) for size in range(1, weight + 1))
    if count > MOST_GATES:
        raise ValueError(
            f"all gates up to weight {weight} of {n_bits} bits are {count:,}; at most {MOST_GATES:,} are held: ask for "
            "a smaller weight, or for neighbours only"
        )
    return _collected(n_bits, (combinations(range(n_bits), size) for size in range(1, weight + 1)))


def neighbours(n_bits: int, pairs: Tensor, weight: int) -> BitSets:
    """Single bits, neighbouring pairs, and up to ``weight`` bits of which one is a neighbour of all others.

    Args:
        n_bits: bits of a string.
        pairs: of neighbours, ``(m, 2)``, as :func:`~qgen.bits.adjacency.neighbouring_bits` gives them.
        weight: most bits of a set.

    Raises:
        ValueError: a weight that is impossible, or more than 200,000 sets.

    >>> list(neighbours(3, torch.tensor([[0, 1], [1, 2]]), 3))
    [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]
    """
    _check_weight(weight, n_bits)
    beside: list[list[int]] = [[] for _ in range(n_bits)]
    for a, b in pairs.tolist():
        beside[a].append(b)
        beside[b].append(a)
    found: list[list[tuple[int, ...]]] = [[(bit,) for bit in range(n_bits)]]
    for size in range(2, weight + 1):
        # a set is met once for each of its bits that is beside all others
        most = sum(math.comb(len(others), size - 1) for others in beside)
        if sum(map(len, found)) + most // size > MOST_GATES:
            raise ValueError(
                f"neighbours up to weight {size} of {n_bits} bits are {most // size:,} or more gates; at most "
                f"{MOST_GATES:,} are held: ask for a smaller weight or reach"
            )
        each = (
            tuple(sorted((bit, *rest))) for bit, others in enumerate(beside) for rest in combinations(others, size - 1)
        )
        found.append(sorted(set(each)))
    _check_count(sum(map(len, found)))
    return _collected(n_bits, found)


def correlated(bits: Tensor, count: int, beyond: BitSets | None = None) -> BitSets:
    """The pairs of bits with the largest correlation coefficients, whatever their sign.

    Args:
        bits: of events, ``(N, n_bits)``; of more than 10,000 the first ones.
        count: how many pairs.
        beyond: sets of which no pair is taken.

    Returns:
        The pairs, the most correlated first. A bit that never changes is correlated with none.

    Raises:
        ValueError: fewer pairs are left.

    >>> list(correlated(torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0]]), 1))
    [(0, 1)]
    """
    n = bits.shape[1]
    taken = torch.empty(0, dtype=torch.int64)
    if beyond is not None:
        pairs = beyond.take((beyond.sizes == 2).nonzero().flatten()).members.reshape(-1, 2).cpu()
        taken = (pairs[:, 0] * n + pairs[:, 1]).unique()
    left = n * (n - 1) // 2 - len(taken)
    if not 0 <= count <= left:
        raise ValueError(f"{count} pairs by correlation are asked for; {left} pairs of the {n} bits are not yet gates")
    _check_count(count)
    signs = 1 - 2 * bits[:EVENTS].to(torch.float32)
    signs = signs - signs.mean(0)
    signs = signs / signs.square().sum(0).sqrt().clamp_min(1e-12)
    best = torch.empty(0)
    which = torch.empty(0, dtype=torch.int64)
    for rows in torch.arange(n).split(max(1, PAIRS_AT_ONCE // n)):
        size = (signs[:, rows].T @ signs).abs().cpu()
        size[torch.arange(n) <= rows[:, None]] = -1
        number = taken[(taken >= rows[0] * n) & (taken < (rows[-1] + 1) * n)] - rows[0] * n
        size.view(-1)[number] = -1
        top = size.flatten().topk(min(count, size.numel()))
        best, which = torch.cat([best, top.values]), torch.cat([which, top.indices + rows[0] * n])
        keep = best.sort(descending=True, stable=True).indices[:count]
        best, which = best[keep], which[keep]
    members = torch.stack([which // n, which % n], 1)
    return BitSets(n, 2 * torch.arange(count + 1), members.flatten())


def merge(*sets: BitSets) -> BitSets:
    """All these sets, each once, in the order in which they come.

    >>> list(merge(BitSets.of(3, [(0,), (1, 2)]), BitSets.of(3, [(1, 2), (0, 1)])))
    [(0,), (1, 2), (0, 1)]
    """
    return _collected(sets[0].n_bits, [dict.fromkeys(chain.from_iterable(sets))])


def training_bits(dataset: Dataset, discretiser: Discretiser, transform: Transform) -> Tensor:
    """The bits of the training events, ``(N, n_bits)`` uint8; ``transform`` leads to the discretiser's space."""
    train = dataset.train
    return discretiser.encode(transform(train.samples, train.conditions))


def choose_gates(
    dataset: Dataset,
    discretiser: Discretiser,
    *,
    gates: GateChoice = "all",
    weight: int = 2,
    reach: int | None = None,
    long_range: int = 0,
    bits: Tensor | None = None,
    frame: Frame = "features",
) -> BitSets:
    """The gates that a configuration asks for.

    Args:
        dataset: whose geometry says which bits are neighbours.
        discretiser: says which bit belongs to which feature.
        gates: ``all`` sets of up to ``weight`` bits, or those of ``neighbours``.
        weight: most bits of a gate.
        reach: steps from pixel to pixel up to which bits are neighbours; 1 if not given.
        long_range: pairs that are no gates yet and whose bits the data correlate most.
        bits: of the training events (:func:`training_bits`), for ``long_range``.
        frame: of the cells, see :func:`~qgen.bits.cells.fit_cells`; the directions of the Gaussian frame have no place.

    Raises:
        ValueError: an option is impossible or has no effect, or there are more than 200,000 gates.
    """
    if gates not in ("all", "neighbours"):
        raise ValueError(f"gates is {gates!r}; allowed are 'all' and 'neighbours'")
    if gates == "all" and reach is not None:
        raise ValueError(f"reach is {reach}, but gates is 'all'; it is for gates: neighbours")
    if long_range < 0:
        raise ValueError(f"long_range is {long_range}; it is a number of pairs, 0 or more")
    n = discretiser.n_bits
    if gates == "all":
        chosen = all_up_to(n, weight)
    else:
        pairs = neighbouring_bits(dataset, discretiser, 1 if reach is None else reach, frame)
        chosen = neighbours(n, pairs, weight)
    if not long_range:
        return chosen
    if gates == "all" and weight > 1:
        raise ValueError(f"long_range is {long_range}, but with gates: all of weight {weight} every pair is a gate")
    if bits is None:
        raise ValueError(f"long_range is {long_range}, which needs the bits of the training events")
    return merge(chosen, correlated(bits, long_range, chosen))


def ties(dataset: Dataset, discretiser: Discretiser, gates: BitSets, frame: Frame = "features") -> Tensor:
    """Which gates share one weight, numbers from 0, ``(n_gates,)`` int64.

    Gates of several bits share it if a shift of the image brings one to the other: the offsets between their pixels and
    the significances of their bits agree. Single bits have a weight each: the mean image is not the same everywhere.

    Raises:
        ValueError: the events are no image on a regular grid.
    """
    shape = grid_shape(dataset, frame)
    if shape is None:
        raise ValueError("weights are tied by shifts of the image; these events are no image on a regular grid")
    position = torch.cartesian_prod(*[torch.arange(size) for size in shape]).reshape(-1, len(shape)).tolist()
    wires = discretiser.wires
    numbers: dict[object, int] = {}
    found = []
    for gate in gates:
        members = sorted(wires[bit] for bit in gate)
        origin = position[members[0][0]]
        shifted = tuple((*(a - b for a, b in zip(position[f], origin, strict=True)), place) for f, place in members)
        found.append(numbers.setdefault(gate if len(gate) == 1 else shifted, len(numbers)))
    return torch.tensor(found, dtype=torch.int64)


def _collected(n_bits: int, groups: Iterable[Iterable[tuple[int, ...]]]) -> BitSets:
    """Sets whose members are known to be ascending and within the bits."""
    rows = list(chain.from_iterable(groups))
    sizes = torch.tensor([0, *map(len, rows)], dtype=torch.int64)
    members = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.int64)
    return BitSets(n_bits, sizes.cumsum(0), members)


def _check_weight(weight: int, n_bits: int) -> None:
    if not 1 <= weight <= n_bits:
        raise ValueError(f"weight is {weight}; a gate on {n_bits} bits has 1 to {n_bits}")


def _check_count(count: int) -> None:
    if count > MOST_GATES:
        raise ValueError(f"{count:,} gates are asked for; at most {MOST_GATES:,} are held")
