r"""Bitflip model: random flips of groups of bits, the classical shadow of an IQP circuit.

From the bits :math:`0 \dots 0`, each generator :math:`g_j` (a set of bits) flips its bits together with probability
:math:`p_j`, independently of the others (the classical model of 2503.02934). An IQP circuit whose gates
:math:`e^{i \theta_j X_{g_j}}` lose their coherence is this model with :math:`p_j = \sin^2 \theta_j`. The expectation
value of a string :math:`Z_S` is a product over the generators that share an odd number of bits with it,

.. math:: \langle Z_S \rangle = \prod_{j : |S \cap g_j| \text{ odd}} (1 - 2 p_j),

and the Walsh-Hadamard transform of these :math:`2^n` numbers is the distribution,
:math:`p(x) = 2^{-n} \sum_S (-1)^{S \cdot x} \langle Z_S \rangle`. Under a condition,
:math:`p_j = \sigma(\lambda_j + u_j \cdot c)`.

Its own loss is the squared maximum mean discrepancy with Gaussian kernels of the Hamming distance, as a mean over
random strings (2503.02934), which needs neither the distribution nor samples. With conditions it takes the product
with a Gaussian kernel of the conditions, as random Fourier features :math:`f(c) = \sqrt 2 \cos(w \cdot c + \phi)`:
with :math:`d_i = (\langle Z_S \rangle_{c_i} - Z_S(x_i)) f(c_i)` for the event :math:`i` of :math:`m`, the unbiased
estimate is the mean over strings and features of :math:`\sum_{i \neq k} d_i d_k / m (m - 1)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, combinations, islice
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from classical_baselines.sizing import closest_size
from qgen.bits.cells import Frame, fit_cells
from qgen.bits.generator import TABLE_BITS, BitGenerator
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Discretiser
from qgen.data.transforms import Transform
from qgen.random import derive_seed, new_generator, normal, uniform

__all__ = ["BitFlip", "walsh_hadamard"]

RARE = -3.0
"""Initial logit of the flips of more than one bit; that of single bits is 0, which is an even chance."""

PAIRS_UP_TO = 32
"""Bits up to which all pairs are generators if nothing else is asked for."""

STRINGS = 512
"""Random strings of the own loss at each step."""

SCALES = (0.25, 1.0, 4.0)
"""Bandwidths of its kernels, in square roots of half the number of bits."""

AT_ONCE = 2**23
"""Flips drawn at a time."""


class BitFlip(BitGenerator):
    """Independent random flips of groups of bits, each with a trained probability.

    Trained by its own loss (:class:`qgen.training.Own`) at any number of bits; up to 16 bits the distribution is known
    and :class:`qgen.training.NLL` and :class:`qgen.training.MMD` train it too. Weights are float64 and
    follow ``.to``.

    Args:
        discretiser: bits to cells, in the transform's space.
        n_conditions: columns of a condition, 0 for an unconditional model.
        conditional: whether the condition acts on the flips.
        generators: number of generators: all single bits, then all pairs, then all triples and so on, in order of the
            bits.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: no generator, or more than there are.

    >>> events = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> model = BitFlip(Discretiser.fit(events, bits=2), generators=10)
    >>> model.strings.sum(1).tolist()
    [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    """

    has_own_loss: ClassVar[bool] = True
    flipper: Tensor
    flipped: Tensor

    def __init__(
        self,
        discretiser: Discretiser,
        n_conditions: int = 0,
        *,
        conditional: bool = True,
        generators: int,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(
            discretiser,
            n_conditions,
            conditional=conditional,
            transform=transform,
            condition_transform=condition_transform,
        )
        n = discretiser.n_bits
        if not 1 <= generators < 2**n:
            raise ValueError(f"generators is {generators}; {n} bits have 1 to {2**n - 1}")
        self.generators = generators
        self.has_log_prob = n <= TABLE_BITS
        rng = new_generator(derive_seed(seed, "weights"))
        flipper, flipped = _generators(n, generators)
        self.register_buffer("flipper", flipper, persistent=False)
        self.register_buffer("flipped", flipped, persistent=False)
        rare = torch.where(torch.arange(generators) < n, 0.0, RARE)
        self.logits = nn.Parameter(rare + 0.3 * normal((generators,), rng, dtype=torch.float64))
        if self.n_inputs:
            self.by_condition = nn.Parameter(0.1 * normal((generators, self.n_inputs), rng, dtype=torch.float64))

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        bits: Annotated[int, Ge(1)] | Sequence[Annotated[int, Ge(1)]] | None = None,
        edges: Literal["quantile", "linear"] = "linear",
        tails: Annotated[float, Ge(0), Lt(0.5)] = 0.005,
        code: Literal["binary", "gray"] = "gray",
        order: Literal["by-feature", "interleaved", "snake"] = "interleaved",
        frame: Frame = "features",
        conditional: bool = True,
        weight: Annotated[int, Ge(1)] | None = None,
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh model for these events.

        Args:
            dataset: its training events fix the cells.
            seed: fixes the initial weights.
            bits: of every feature, or of each; if not given, 4 of every feature up to 4 features, then 2.
            edges: cells of equal probability or of equal width.
            tails: share of the training values beyond the outer edges on either side, see ``Discretiser.fit``.
            code: how a feature's cells are written in bits.
            order: of the bits, see :class:`~qgen.data.Discretiser`: those that come first have generators first.
            frame: ``gaussian`` cuts the directions of :class:`~qgen.data.gaussianise.Gaussianise` into cells of equal
                normal probability; ``edges`` and ``tails`` then have no effect.
            conditional: whether the dataset's conditions act on the flips. If not, they still enter through the
                transform (energies as fractions of the incident one, say).
            weight: largest number of bits that a generator flips; if not given, 2 up to 32 bits, then 1.
            n_parameters: wanted number of parameters, reached within 10 % in place of ``weight``: the number of
                generators is chosen.

        Raises:
            ValueError: an option is impossible for these events, or there are too few generators for ``n_parameters``.
        """
        if bits is None:
            bits = 4 if dataset.n_features <= 4 else 2
        discretiser, transform = fit_cells(dataset, bits, edges, tails, code, order, frame)
        n = discretiser.n_bits
        if weight is None:
            weight = 2 if n <= PAIRS_UP_TO else 1
        generators = sum(math.comb(n, k) for k in range(1, weight + 1))
        if n_parameters is not None:
            each = 1 + (dataset.n_conditions if conditional else 0)
            generators = max(1, min(round(n_parameters / each), 2**n - 1))
            size = generators * each
            closest_size([(generators, size)], n_parameters, f"a BitFlip on {n} bits")
        return cls(
            discretiser,
            dataset.n_conditions,
            conditional=conditional,
            generators=generators,
            seed=seed,
            transform=transform,
            condition_transform=dataset.condition_transform,
        )

    def arguments(self) -> dict[str, Any]:
        """Discretiser, columns and number of generators."""
        return {**super().arguments(), "generators": self.generators}

    @property
    def strings(self) -> Tensor:
        """The bits that each generator flips as ones, ``(generators, n_bits)``."""
        strings = self.logits.new_zeros(self.generators, self.discretiser.n_bits).detach()
        strings[self.flipper, self.flipped] = 1
        return strings

    def _activation(self, condition: Tensor | None) -> Tensor:
        """Logits of the flips, ``(m, generators)``; ``m`` is 1 where no condition acts."""
        if condition is None or not self.uses_condition:
            return self.logits[None]
        return self.logits + condition.to(self.logits) @ self.by_condition.T

    def flip_probabilities(self, condition: Tensor | None) -> Tensor:
        """The ``p_j``, ``(m, generators)``, under conditions in the condition transform's space."""
        return self._activation(condition).sigmoid()

    def expectations(self, strings: Tensor, condition: Tensor | None) -> Tensor:
        """Expectation values of strings ``(k, n_bits)`` of Z, ``(m, k)``, differentiable."""
        shared = strings.T.to(self.logits)[self.flipped]
        odd = shared.new_zeros(self.generators, len(strings)).index_add_(0, self.flipper, shared) % 2
        log_size, negative = self._factors(condition)
        return (log_size @ odd).exp() * (1 - 2 * ((negative @ odd) % 2))

    def _factors(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """``log |1 - 2 p_j|``, and 1 where ``1 - 2 p_j`` is negative, both ``(m, generators)``."""
        half = -torch.tanh(self._activation(condition) / 2)
        return half.abs().clamp_min(torch.finfo(half.dtype).tiny).log(), (half < 0).to(half)

    def probabilities(self, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Probability of each cell, ``(m, n_cells)``, differentiable; at most 16 bits."""
        self._check_table()
        return self.discretiser.by_cell(self._distribution(condition))

    def _distribution(self, condition: Tensor | None) -> Tensor:
        """Probability of each bit string, the first bit most significant."""
        log_size, negative = self._factors(condition)
        n = self.discretiser.n_bits
        place = _numbers(self.strings)
        # a sum over the generators that share an odd number of bits with S is half of (all - signed by parity)
        spread = torch.stack([log_size, negative]).new_zeros(2, len(log_size), 2**n)
        spread = spread.index_copy(2, place, torch.stack([log_size, negative]))
        log_size, negative = (spread.sum(2, keepdim=True) - walsh_hadamard(spread)) / 2
        signs = 1 - 2 * (negative.detach().round() % 2)
        return (walsh_hadamard(log_size.exp() * signs) / 2**n).clamp_min(0)

    def _log_prob_of_bits(self, bits: Tensor, condition: Tensor | None) -> Tensor:
        return self._log_of_table(self._distribution, _numbers(bits), condition)

    def _own_loss(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """The unbiased squared discrepancy between the flips and a batch, over random strings."""
        bits = self.discretiser.encode(values).to(self.logits)
        m, n = bits.shape
        like: dict[str, Any] = {"dtype": bits.dtype, "device": bits.device}
        scales = torch.tensor(SCALES, **like) * math.sqrt(n / 2)
        rates = (1 - torch.exp(-1 / (2 * scales.square()))) / 2
        rate = rates[torch.arange(STRINGS, device=bits.device) % len(SCALES)]
        strings = (uniform((STRINGS, n), generator, **like) < rate[:, None]).to(bits)
        of_events = 1 - 2 * ((bits @ strings.T) % 2)
        differences = self.expectations(strings, condition) - of_events
        if condition is not None and self.uses_condition:
            slopes = normal((condition.shape[1], STRINGS), generator, **like)
            phase = 2 * math.pi * uniform((STRINGS,), generator, **like)
            differences = differences * (math.sqrt(2) * (condition.to(bits) @ slopes + phase).cos())
        pairs = differences.sum(0).square() - differences.square().sum(0)
        return pairs.mean() / (m * (m - 1))

    def _draw_bits(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        probability = self.flip_probabilities(condition).expand(n, -1)
        parts = []
        for some in probability.split(max(1, AT_ONCE // self.generators)):
            like: dict[str, Any] = {"dtype": some.dtype, "device": some.device}
            flips = (uniform(tuple(some.shape), generator, **like) < some).to(some)
            bits = flips.new_zeros(self.discretiser.n_bits, len(some))
            parts.append((bits.index_add_(0, self.flipped, flips.T[self.flipper]) % 2).T.to(torch.uint8))
        return torch.cat(parts)


def walsh_hadamard(values: Tensor) -> Tensor:
    """Sum over ``x`` of ``(-1)**(S . x)`` times the value of ``x``, for every ``S``; the last axis has ``2**n`` values.

    >>> walsh_hadamard(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
    [10.0, -2.0, -4.0, 0.0]
    """
    size = values.shape[-1]
    half = 1
    while half < size:
        pairs = values.reshape(*values.shape[:-1], size // (2 * half), 2, half)
        even, odd = pairs.unbind(-2)
        values = torch.stack([even + odd, even - odd], dim=-2).reshape(values.shape)
        half *= 2
    return values


def _numbers(bits: Tensor) -> Tensor:
    """Bit strings ``(m, n)`` as numbers, the first bit most significant."""
    places = torch.arange(bits.shape[1] - 1, -1, -1, device=bits.device)
    return (bits.to(torch.int64) << places).sum(1)


def _generators(n_bits: int, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` sets of bits, small ones first, as pairs of a set and a bit in it, both ``(n_pairs,)``."""
    every = chain.from_iterable(combinations(range(n_bits), size) for size in range(1, n_bits + 1))
    pairs = [(row, bit) for row, members in enumerate(islice(every, count)) for bit in members]
    flipper, flipped = torch.tensor(pairs).unbind(1)
    return flipper, flipped
