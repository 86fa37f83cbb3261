r"""Events that are strings of 16 bits: the two small data sets of 2503.02934, with their exact distributions.

``blobs``: one of eight 4 x 4 patterns, every bit then flipped with a small probability. ``ising``: the Ising model on a
4 x 4 lattice with periodic boundaries and random ferromagnetic couplings, bit 1 for spin up,

.. math:: p(s) \propto e^{-E(s) / T}, \quad E(s) = -\sum_{\langle i j \rangle} J_{ij} s_i s_j .

Patterns, couplings, flips and temperature are those of the code and data released with the publication
(github.com/XanaduAI/scaling-gqml); its 5,000 training events are as many as the ``train`` split of the default here.
Its Ising events are from Markov chains; here both kinds are drawn from the probabilities of all 65,536 strings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Gt, Interval
from torch import Tensor

from qgen.data.dataset import Dataset, Feature
from qgen.data.transforms import Standardise, Transform
from qgen.random import derive_seed, new_generator, uniform

__all__ = ["BitDataset", "Bits", "blob_events", "blob_probabilities", "ising_events", "ising_probabilities"]

SIDE = 4
N_BITS = SIDE * SIDE
EVENTS = 8333
"""Of which 5,000 are for training."""

PATTERNS = (
    "1100 1100 0000 0000",
    "0011 0011 0000 0000",
    "0000 0000 1100 1100",
    "0000 0000 0011 0011",
    "0000 0110 0110 0000",
    "1000 0100 0010 0001",
    "0001 0010 0100 1000",
    "1001 0000 0000 1001",
)
"""Rows of each image."""

COUPLING_SEED = 666
"""Of numpy's legacy generator, from which the couplings of the publication are the first draws."""


class Bits(Transform):
    """Bits 0 and 1 to -1 and 1; back, whatever is not negative is 1.

    A cell of a discretiser with one bit a feature is then of width 1, so that the log density of a string is its log
    probability.

    >>> Bits()(torch.tensor([[0.0, 1.0]])).tolist(), Bits().inverse(torch.tensor([[-0.2, 0.7]])).tolist()
    ([[-1.0, 1.0]], [[0.0, 1.0]])
    """

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Bits as -1 and 1."""
        return 2 * samples - 1

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """0 and 1, whatever the values."""
        return (values >= 0).to(values)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Zeros, shape ``(N,)``: a string has a probability, no density."""
        return samples.new_zeros(samples.shape[0])

    def arguments(self) -> dict[str, Any]:
        """No arguments."""
        return {}


@dataclass(frozen=True, eq=False)
class BitDataset(Dataset):
    """Events whose features are bits; arguments as :class:`~qgen.data.Dataset`.

    Raises:
        ValueError: a value that is neither 0 nor 1 (row and column are named), and as :class:`~qgen.data.Dataset`.

    >>> BitDataset(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), (Feature("a"), Feature("b"))).transform.arguments()
    {}
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = ((self.samples != 0) & (self.samples != 1)).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            name, value = self.features[column].name, self.samples[row, column].item()
            raise ValueError(f"samples row {row}, column {name!r} is {value:g}; bits are 0 or 1")

    def _fit_transforms(self, samples: Tensor, conditions: Tensor) -> tuple[Transform, Transform]:
        return Bits(), Standardise.fit(conditions)


def blob_events(
    *, n: Annotated[int, Gt(0)] = EVENTS, noise: Annotated[float, Interval(ge=0, le=0.5)] = 0.05, seed: int = 0
) -> BitDataset:
    """Images of 4 x 4 bits: one of eight patterns with noise (2503.02934).

    Args:
        n: number of events.
        noise: probability with which a bit is flipped.
        seed: fixes the events and the splits.

    Raises:
        ValueError: an argument is out of range.

    >>> blob_events(n=100, noise=0.0).samples.sum(1).unique()
    tensor([4.], dtype=torch.float64)
    """
    return _drawn("blobs", blob_probabilities(noise), n, seed, noise=noise)


def blob_probabilities(noise: float = 0.05) -> Tensor:
    """Probability of every string, the first bit most significant, ``(65536,)`` float64; arguments and errors as
    :func:`blob_events`.

    >>> float(blob_probabilities(0.0).max())
    0.125
    """
    if not 0 <= noise <= 0.5:
        raise ValueError(f"noise is {noise}; a bit is flipped with a probability of 0 to 0.5")
    patterns = torch.tensor([[int(bit) for bit in rows.replace(" ", "")] for rows in PATTERNS])
    flips = (_strings()[:, None, :] != patterns).sum(2).to(torch.float64)
    return (noise**flips * (1 - noise) ** (N_BITS - flips)).mean(1)


def ising_events(
    *, n: Annotated[int, Gt(0)] = EVENTS, temperature: Annotated[float, Gt(0)] = 3.0, seed: int = 0
) -> BitDataset:
    """Spins of a 4 x 4 Ising lattice, periodic, with random couplings (2503.02934).

    Args:
        n: number of events.
        temperature: in the unit of the couplings, whose mean is 1.
        seed: fixes the events and the splits; the couplings are always the same.

    Raises:
        ValueError: an argument is out of range.

    >>> ising_events(n=100).samples.shape
    torch.Size([100, 16])
    """
    return _drawn("ising", ising_probabilities(temperature), n, seed, temperature=temperature)


def ising_probabilities(temperature: float = 3.0) -> Tensor:
    """Probability of every string, the first bit most significant, ``(65536,)`` float64; arguments and errors as
    :func:`ising_events`.

    >>> p = ising_probabilities()
    >>> bool((p == p.flip(0)).all()), bool(p.argmax() in (0, 65535))
    (True, True)
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be positive and finite")
    spins = (2 * _strings() - 1).to(torch.float64)
    energy = torch.zeros(len(spins), dtype=torch.float64)
    for (a, b), coupling in couplings().items():
        energy -= coupling * (spins[:, a] * spins[:, b])
    return (-energy / temperature).softmax(0)


def couplings() -> dict[tuple[int, int], float]:
    """The coupling of every pair of neighbouring spins: of mean 1, between 0 and 2.

    The publication draws one number for each of the two orders of a pair; the energy has their mean.

    >>> len(couplings()), min(couplings().values()) > 0
    (32, True)
    """
    draws = 2 * np.random.RandomState(COUPLING_SEED).rand(N_BITS, N_BITS)
    pairs = {}
    for site in range(N_BITS):
        row, column = divmod(site, SIDE)
        for other in (SIDE * row + (column + 1) % SIDE, SIDE * ((row + 1) % SIDE) + column):
            pairs[min(site, other), max(site, other)] = float(draws[site, other] + draws[other, site]) / 2
    return pairs


def _strings() -> Tensor:
    """All strings of 16 bits, ``(65536, 16)`` int64, the first bit most significant."""
    places = torch.arange(N_BITS - 1, -1, -1)
    return (torch.arange(1 << N_BITS)[:, None] >> places) & 1


def _drawn(distribution: str, probabilities: Tensor, n: int, seed: int, **settings: float) -> BitDataset:
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; a whole number of at least 1 event is needed")
    edges = probabilities.cumsum(0)
    draws = uniform((n,), new_generator(derive_seed(seed, distribution)), dtype=torch.float64) * edges[-1]
    chosen = torch.searchsorted(edges, draws, right=True).clamp_max(len(edges) - 1)
    features = tuple(Feature(f"bit_{row}_{column}", limits=(0.0, 1.0)) for row in range(SIDE) for column in range(SIDE))
    provenance = {"distribution": distribution, **settings, "seed": seed}
    return BitDataset(_strings()[chosen].to(torch.float64), features, seed=seed, provenance=provenance)
