"""Truncated bases of photon-number states, and which amplitudes a gate mixes in them.

A basis holds the states ``|n_0, ..., n_(M-1)>`` with every ``n_m`` below the cutoff (``mode``) or with the total photon
number below the cutoff (``total``). Interferometers conserve the total: the second basis holds as much as a physicist
needs of a weakly excited state in far fewer amplitudes, 210 instead of 2401 for 4 modes and cutoff 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np

from circuits.gates import integer

__all__ = [
    "BasisKind",
    "Blocks",
    "FockBasis",
    "Mixing",
    "basis_size",
    "block_mixing",
    "blocks_of",
    "loss_mixing",
    "pair_mixing",
    "single_mixing",
]

BasisKind = Literal["mode", "total"]


def basis_size(n_modes: int, cutoff: int, kind: BasisKind) -> int:
    """How many states a basis has.

    >>> basis_size(4, 7, "mode"), basis_size(4, 7, "total")
    (2401, 210)
    """
    return cutoff**n_modes if kind == "mode" else math.comb(n_modes + cutoff - 1, n_modes)


@dataclass(frozen=True)
class FockBasis:
    """A truncated basis of photon-number states.

    The order is lexicographic, the first mode the slowest: the ``mode`` basis is a tensor of shape
    ``(cutoff,) * n_modes``, flattened.

    Args:
        n_modes: number of modes.
        cutoff: the first photon number that is left out, of each mode or of all together.
        kind: ``mode`` or ``total``.

    Raises:
        ValueError: a number below 1, or another kind.

    >>> FockBasis(2, 3, "total").occupations.tolist()
    [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]]
    """

    n_modes: int
    cutoff: int
    kind: BasisKind = "mode"

    def __post_init__(self) -> None:
        integer(self.n_modes, "n_modes", 1)
        integer(self.cutoff, "cutoff", 1)
        if self.kind not in get_args(BasisKind):
            raise ValueError(f"basis is {self.kind!r}; allowed are {', '.join(get_args(BasisKind))}")

    @property
    def size(self) -> int:
        """Number of states."""
        return basis_size(self.n_modes, self.cutoff, self.kind)

    @cached_property
    def occupations(self) -> np.ndarray:
        """Photon numbers of every state, ``(size, n_modes)`` int64."""
        rows = np.zeros((1, 0), dtype=np.int64)
        for _ in range(self.n_modes):
            left = self.cutoff - (rows.sum(1) if self.kind == "total" else np.zeros(len(rows), dtype=np.int64))
            parents = np.repeat(np.arange(len(rows)), left)
            counted = np.arange(len(parents)) - np.repeat(left.cumsum() - left, left)
            rows = np.concatenate([rows[parents], counted[:, None]], axis=1)
        return rows

    @cached_property
    def places(self) -> np.ndarray:
        """The place of every state in the flattened tensor of shape ``(cutoff,) * n_modes``, ascending."""
        return self.occupations @ self._strides

    @property
    def _strides(self) -> np.ndarray:
        return self.cutoff ** np.arange(self.n_modes - 1, -1, -1, dtype=np.int64)

    @cached_property
    def _counts(self) -> np.ndarray:
        """How many states the modes from one on have with up to so many photons, ``(n_modes, cutoff)`` int64."""
        counts = [np.arange(1, self.cutoff + 1, dtype=np.int64)]
        for _ in range(self.n_modes - 1):
            counts.append(counts[-1].cumsum())
        return np.stack(counts[::-1])

    def find(self, occupations: np.ndarray) -> np.ndarray:
        """The number of each state ``(..., n_modes)`` in the basis; -1 where it is not in it.

        >>> FockBasis(2, 3, "total").find(np.array([[1, 1], [2, 2]])).tolist()
        [4, -1]
        """
        numbers = np.minimum(occupations, self.cutoff).astype(np.int64)
        inside = (numbers >= 0).all(-1)
        if self.kind == "mode":
            return np.where(inside & (numbers < self.cutoff).all(-1), numbers @ self._strides, -1)
        # a state follows all those that are like it up to some mode and have fewer photons in that one
        left = np.full(numbers.shape[:-1], self.cutoff - 1)
        found = np.zeros_like(left)
        for counts, here in zip(self._counts, np.moveaxis(numbers, -1, 0), strict=True):
            found += counts[left]
            left = left - here
            inside &= left >= 0
            left = left.clip(0, self.cutoff - 1)
            found -= counts[left]
        return np.where(inside, found, -1)


@dataclass(frozen=True, eq=False)
class Mixing:
    """Which amplitudes a gate mixes: ``out[target] += entries[entry] * in[source]`` over all triples.

    Args:
        target: ascending, ``(n,)`` int64.
        source: ``(n,)`` int64.
        entry: places in the gate's flat list of matrix entries, ``(n,)`` int64.
        size: number of amplitudes.
        n_entries: length of that list.
    """

    target: np.ndarray
    source: np.ndarray
    entry: np.ndarray
    size: int
    n_entries: int

    @cached_property
    def rows(self) -> np.ndarray:
        """Where the triples of each target start, and the end of the last, ``(size + 1,)``."""
        return np.searchsorted(self.target, np.arange(self.size + 1))

    @cached_property
    def transposed(self) -> Mixing:
        """With targets and sources exchanged."""
        order = np.lexsort((self.target, self.source))
        return Mixing(self.source[order], self.target[order], self.entry[order], self.size, self.n_entries)

    @cached_property
    def padded(self) -> tuple[np.ndarray, np.ndarray]:
        """``source`` and ``entry`` as ``(size, most)``: 0 and ``n_entries`` beyond a target's own."""
        counts = np.diff(self.rows)
        source = np.zeros((self.size, int(counts.max())), dtype=np.int64)
        entry = np.full_like(source, self.n_entries)
        place = np.arange(len(self.target)) - self.rows[self.target]
        source[self.target, place], entry[self.target, place] = self.source, self.entry
        return source, entry


def _mixing(basis: FockBasis, sources: np.ndarray, entry: np.ndarray, n_entries: int) -> Mixing:
    """From states ``(size, most, n_modes)``, those in the basis."""
    found = basis.find(sources)
    target, column = (found >= 0).nonzero()
    return Mixing(target, found[target, column], entry[target, column], basis.size, n_entries)


@lru_cache(maxsize=64)
def single_mixing(basis: FockBasis, mode: int) -> Mixing:
    """A gate on one mode; its entries are a matrix ``(cutoff, cutoff)``, flattened."""
    cutoff, occupations = basis.cutoff, basis.occupations
    inside = np.arange(cutoff)
    sources = np.repeat(occupations[:, None], cutoff, axis=1)
    sources[:, :, mode] = inside
    return _mixing(basis, sources, occupations[:, mode, None] * cutoff + inside, cutoff**2)


@dataclass(frozen=True, eq=False)
class Blocks:
    """The matrices of a gate that conserves the photons of two modes together, one for each number of photons.

    Args:
        lowest: the lowest photon number of the first mode in each block, ``(n,)`` int64.
        length: rows and columns of each block.
        start: where each block's entries start in the flat list.
    """

    lowest: np.ndarray
    length: np.ndarray
    start: np.ndarray


@lru_cache(maxsize=64)
def blocks_of(cutoff: int, kind: BasisKind) -> Blocks:
    """The blocks of a basis.

    >>> blocks_of(3, "mode").length.tolist(), blocks_of(3, "total").length.tolist()
    ([1, 2, 3, 2, 1], [1, 2, 3])
    """
    photons = np.arange(2 * cutoff - 1 if kind == "mode" else cutoff)
    lowest = np.maximum(photons - cutoff + 1, 0)
    length = np.minimum(photons, cutoff - 1) - lowest + 1
    return Blocks(lowest, length, np.concatenate([[0], np.cumsum(length**2)]))


@lru_cache(maxsize=64)
def block_mixing(basis: FockBasis, first: int, second: int) -> Mixing:
    """A gate that conserves the photons of two modes together.

    Its entries are the flattened matrices of :func:`blocks_of`, between photon numbers of the first mode.
    """
    cutoff, occupations = basis.cutoff, basis.occupations
    here, photons = occupations[:, first, None], occupations[:, [first, second]].sum(1, keepdims=True)
    inside = np.arange(cutoff)
    sources = np.repeat(occupations[:, None], cutoff, axis=1)
    sources[:, :, first], sources[:, :, second] = inside, photons - inside
    blocks = blocks_of(cutoff, basis.kind)
    lowest, length = blocks.lowest[photons], blocks.length[photons]
    entry = blocks.start[photons] + (here - lowest) * length + inside - lowest
    return _mixing(basis, sources, entry, int(blocks.start[-1]))


@lru_cache(maxsize=64)
def pair_mixing(basis: FockBasis, first: int, second: int) -> Mixing:
    """A gate that adds and removes photons of two modes in pairs.

    Its entries are ``(cutoff, cutoff, cutoff)``, flattened: for each absolute difference between the two numbers, from
    0, the matrix between numbers in the emptier mode.
    """
    cutoff, occupations = basis.cutoff, basis.occupations
    here, there = occupations[:, first, None], occupations[:, second, None]
    pairs = np.minimum(here, there)
    inside = np.arange(cutoff)
    sources = np.repeat(occupations[:, None], cutoff, axis=1)
    sources[:, :, first], sources[:, :, second] = here - pairs + inside, there - pairs + inside
    entry = (np.abs(here - there) * cutoff + pairs) * cutoff + inside
    return _mixing(basis, sources, entry, cutoff**3)


@lru_cache(maxsize=64)
def loss_mixing(basis: FockBasis, mode: int) -> Mixing:
    """Loss of photons of one mode, on density matrices flattened to ``size**2``.

    Its entries are ``(cutoff, cutoff, cutoff)``, flattened: photons left on both sides, and photons lost.
    """
    cutoff, occupations = basis.cutoff, basis.occupations
    lost = np.arange(cutoff)
    sources = np.repeat(occupations[:, None], cutoff, axis=1)
    sources[:, :, mode] += lost
    found = basis.find(sources)  # (size, lost)
    ket, bra = found[:, None], found[None]
    target, column = ((ket >= 0) & (bra >= 0)).reshape(-1, cutoff).nonzero()
    left, right = target // basis.size, target % basis.size
    source = found[left, column] * basis.size + found[right, column]
    entry = (occupations[left, mode] * cutoff + occupations[right, mode]) * cutoff + column
    return Mixing(target, source, entry, basis.size**2, cutoff**3)
