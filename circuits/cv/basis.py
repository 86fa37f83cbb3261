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

__all__ = ["BasisKind", "FockBasis", "Mixing", "basis_size", "block_mixing", "pair_mixing", "single_mixing"]

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

    def find(self, occupations: np.ndarray) -> np.ndarray:
        """The number of each state ``(..., n_modes)`` in the basis; -1 where it is not in it.

        >>> FockBasis(2, 3, "total").find(np.array([[1, 1], [2, 2]])).tolist()
        [4, -1]
        """
        wanted = occupations @ self._strides
        found = np.searchsorted(self.places, wanted).clip(max=self.size - 1)
        inside = ((occupations >= 0) & (occupations < self.cutoff)).all(-1) & (self.places[found] == wanted)
        return np.where(inside, found, -1)


@dataclass(frozen=True)
class Mixing:
    """Which amplitudes a gate mixes: ``out[a] = sum_k entries[entry[a, k]] * in[source[a, k]]`` over ``k < count[a]``.

    Args:
        source: ``(size, most)`` int64; 0 beyond ``count``.
        entry: ``(size, most)`` int64, places in the gate's flat list of matrix entries; ``n_entries`` beyond ``count``.
        count: ``(size,)`` int64.
        n_entries: length of that list.
    """

    source: np.ndarray
    entry: np.ndarray
    count: np.ndarray
    n_entries: int


def _mixing(basis: FockBasis, sources: np.ndarray, entry: np.ndarray, n_entries: int) -> Mixing:
    """From states ``(size, most, n_modes)``: those in the basis come first."""
    found = basis.find(sources)
    order = np.argsort(found < 0, axis=1, kind="stable")
    found, entry = np.take_along_axis(found, order, 1), np.take_along_axis(entry, order, 1)
    beyond = found < 0
    count = (~beyond).sum(1)
    most = int(count.max())
    return Mixing(
        np.ascontiguousarray(np.where(beyond, 0, found)[:, :most]),
        np.ascontiguousarray(np.where(beyond, n_entries, entry)[:, :most]),
        count,
        n_entries,
    )


@lru_cache(maxsize=256)
def single_mixing(basis: FockBasis, mode: int) -> Mixing:
    """A gate on one mode; its entries are a matrix ``(cutoff, cutoff)``, flattened."""
    cutoff, occupations = basis.cutoff, basis.occupations
    inside = np.arange(cutoff)
    sources = np.repeat(occupations[:, None], cutoff, axis=1)
    sources[:, :, mode] = inside
    return _mixing(basis, sources, occupations[:, mode, None] * cutoff + inside, cutoff**2)


@lru_cache(maxsize=256)
def block_mixing(basis: FockBasis, first: int, second: int) -> Mixing:
    """A gate that conserves the photons of two modes together.

    Its entries are ``(blocks, cutoff, cutoff)``, flattened: for each number of photons, from 0, the matrix between
    numbers in the first mode. There are ``2 cutoff - 1`` blocks in the ``mode`` basis and ``cutoff`` in the other.
    """
    cutoff, occupations = basis.cutoff, basis.occupations
    here, there = occupations[:, first, None], occupations[:, second, None]
    inside = np.arange(cutoff)
    sources = np.repeat(occupations[:, None], cutoff, axis=1)
    sources[:, :, first], sources[:, :, second] = inside, here + there - inside
    entry = ((here + there) * cutoff + here) * cutoff + inside
    blocks = 2 * cutoff - 1 if basis.kind == "mode" else cutoff
    return _mixing(basis, sources, entry, blocks * cutoff**2)


@lru_cache(maxsize=256)
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
