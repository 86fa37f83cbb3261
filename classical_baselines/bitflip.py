r"""Bitflip model: random flips of groups of bits, the classical shadow of an IQP circuit.

From the bits :math:`0 \dots 0`, each generator :math:`g_j` (a set of bits) flips its bits together with probability
:math:`p_j`, independently of the others (the classical model of 2503.02934). An IQP circuit whose gates
:math:`e^{i \theta_j X_{g_j}}` lose their coherence is this model with :math:`p_j = \sin^2 \theta_j`. The expectation
value of a string :math:`Z_S` is a product over the generators that share an odd number of bits with it,

.. math:: \langle Z_S \rangle = \prod_{j : |S \cap g_j| \text{ odd}} (1 - 2 p_j),

and the Walsh-Hadamard transform of these :math:`2^n` numbers is the distribution,
:math:`p(x) = 2^{-n} \sum_S (-1)^{S \cdot x} \langle Z_S \rangle`. Under a condition,
:math:`p_j = \sigma(\lambda_j + u_j \cdot c)`.

Its own loss is that of :class:`~qgen.bits.string_generator.StringGenerator`: the squared maximum mean discrepancy with
Gaussian kernels of the Hamming distance, as a mean over random strings (2503.02934), which needs neither the
distribution nor samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, combinations, islice
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from classical_baselines.sizing import closest_size
from qgen.bits.cells import Edges, Frame, Occupancy, Threshold, Voxels, fit_cells
from qgen.bits.covariance_start import covariance_flips
from qgen.bits.gate_sets import GateChoice, choose_gates, ties, training_bits
from qgen.bits.generator import TABLE_BITS, as_numbers
from qgen.bits.sets import BitSets
from qgen.bits.string_generator import StringGenerator
from qgen.bits.walsh import walsh_hadamard
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Code, Discretiser, Order
from qgen.data.transforms import Transform
from qgen.random import derive_seed, new_generator, normal, uniform

__all__ = ["BitFlip"]

RARE = -3.0
"""Initial logit of the flips of more than one bit; that of single bits is 0, which is an even chance."""

RAREST = 0.002
"""Smallest probability of a flip that a start from the data gives, if few generators have a bit in common."""

RARE_FLIPS = 0.1
"""Flips of a bit that generators of the smallest probability make in all, at most: more would make all bits random."""

PAIRS_UP_TO = 32
"""Bits up to which all pairs are generators if nothing else is asked for."""

STRINGS = 512
"""Random strings of the own loss at each step."""

SCALES = (0.25, 1.0, 4.0)
"""Bandwidths of its kernels, in square roots of half the number of bits."""

AT_ONCE = 2**23
"""Flips drawn at a time."""


class BitFlip(StringGenerator):
    """Independent random flips of groups of bits, each with a trained probability.

    Trained by its own loss (:class:`qgen.training.Own`) at any number of bits; up to 16 bits the distribution is known
    and :class:`qgen.training.NLL` and :class:`qgen.training.MMD` train it too. Weights are float64 and
    follow ``.to``.

    Args:
        discretiser: bits to cells, in the transform's space.
        n_conditions: columns of a condition, 0 for an unconditional model.
        conditional: whether the condition acts on the flips.
        generators: the bits of each generator; or their number: all single bits, then all pairs, then all triples and
            so on, in order of the bits.
        shared: the number of each generator's weight, counted from 0; a weight each if not given.
        scales: bandwidths of the own loss; if not given, 0.25, 1 and 4 times the square root of half the number of
            bits.
        n_strings: random strings of the own loss at each step.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: no generator, more than there are, or one twice.

    >>> events = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> model = BitFlip(Discretiser.fit(events, bits=2), generators=10)
    >>> model.gates.sizes.tolist()
    [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    """

    exact_strings = True
    weight_of: Tensor

    def __init__(
        self,
        discretiser: Discretiser,
        n_conditions: int = 0,
        *,
        conditional: bool = True,
        generators: int | Sequence[Sequence[int]],
        shared: Sequence[int] | None = None,
        scales: Sequence[float] | None = None,
        n_strings: int = STRINGS,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        n = discretiser.n_bits
        super().__init__(
            discretiser,
            n_conditions,
            conditional=conditional,
            scales=[scale * math.sqrt(n / 2) for scale in SCALES] if scales is None else scales,
            n_strings=n_strings,
            transform=transform,
            condition_transform=condition_transform,
        )
        self.gates = _generators(n, generators)
        self.generators = len(self.gates)
        self._asked, self._shared = generators, shared
        self.has_log_prob = n <= TABLE_BITS and discretiser.one_to_one
        weights = torch.arange(self.generators) if shared is None else torch.as_tensor(shared, dtype=torch.int64)
        n_weights = int(weights.max()) + 1
        if len(weights) != self.generators or len(weights.unique()) != n_weights or int(weights.min()) != 0:
            raise ValueError(
                f"shared has {len(weights)} numbers from {int(weights.min())} to {n_weights - 1} for {self.generators} "
                "generators; one each, from 0 without a gap"
            )
        self.register_buffer("weight_of", weights, persistent=False)
        rng = new_generator(derive_seed(seed, "weights"))
        rare = torch.zeros(n_weights, dtype=torch.float64)
        rare[weights[self.gates.sizes > 1]] = RARE
        self.logits = nn.Parameter(rare + 0.3 * normal((n_weights,), rng, dtype=torch.float64))
        if self.n_inputs:
            self.by_condition = nn.Parameter(0.1 * normal((n_weights, self.n_inputs), rng, dtype=torch.float64))
        self._incidence = _csr(self.gates)

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        bits: Annotated[int, Ge(1)] | Sequence[Annotated[int, Ge(1)]] | None = None,
        edges: Edges = "linear",
        tails: Annotated[float, Ge(0), Lt(0.5)] = 0.005,
        code: Code = "gray",
        order: Order = "interleaved",
        frame: Frame = "features",
        threshold: Threshold = None,
        voxels: Voxels = None,
        occupancy: Occupancy = 0.0,
        conditional: bool = True,
        gates: GateChoice = "all",
        weight: Annotated[int, Ge(1)] | None = None,
        reach: Annotated[int, Ge(0)] | None = None,
        long_range: Annotated[int, Ge(0)] = 0,
        tied: bool = False,
        start: Literal["random", "covariance"] = "random",
        scales: Sequence[Annotated[float, Gt(0)]] | None = None,
        strings: Annotated[int, Ge(1)] = STRINGS,
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh model for these events.

        Args:
            dataset: its training events fix the cells.
            seed: fixes the initial weights.
            bits: of every feature, or of each; if not given, 4 of every feature up to 4 features, then 2.
            edges: of the cells, see :func:`~qgen.bits.cells.fit_cells`, also for ``frame`` and the three after it.
            tails: share of the training values beyond the outer edges on either side.
            code: how a feature's cells are written in bits.
            order: of the bits, see :class:`~qgen.data.Discretiser`: those that come first have generators first.
            frame: ``features``, ``marginals`` or ``gaussian``.
            threshold: energy (MeV) below which a pixel counts as empty.
            voxels: how many pixels have bits.
            occupancy: share of the images in which a pixel with bits is not empty, at least.
            conditional: whether the dataset's conditions act on the flips. If not, they still enter through the
                transform (energies as fractions of the incident one, say).
            gates: generators on ``all`` small sets of bits, or on ``neighbours``: see
                :func:`~qgen.bits.gate_sets.choose_gates`.
            weight: largest number of bits that a generator flips; if not given, 2 for neighbours and up to 32 bits,
                else 1.
            reach: steps from pixel to pixel up to which bits are neighbours; 1 if not given.
            long_range: further pairs, those that the training events correlate most.
            tied: whether generators on several bits that a shift of the image brings onto each other share a weight.
            start: ``covariance`` begins with the means of the bits of the training events, and with their covariances
                as far as flips can have them.
            scales: bandwidths of the own loss, in units of a bit; if not given, 0.25, 1 and 4 times the square root of
                half the number of bits.
            strings: random strings of the own loss at each step.
            n_parameters: wanted number of parameters, reached within 10 % in place of ``weight``: the number of
                generators is chosen.

        Raises:
            ValueError: an option is impossible for these events, or there are too few generators for ``n_parameters``.
        """
        if bits is None:
            bits = 4 if dataset.n_features <= 4 else 2
        discretiser, transform = fit_cells(
            dataset, bits, edges, tails, code, order, frame, threshold=threshold, voxels=voxels, occupancy=occupancy
        )
        n = discretiser.n_bits
        looks = long_range > 0 or start == "covariance"
        of_events = training_bits(dataset, discretiser, transform) if looks else None
        generators: int | list[tuple[int, ...]]
        shared = None
        if n_parameters is not None:
            if gates != "all" or reach is not None or long_range or tied:
                raise ValueError("n_parameters chooses the generators; gates, reach, long_range and tied go without it")
            each = 1 + (dataset.n_conditions if conditional else 0)
            count = max(1, min(round(n_parameters / each), 2**n - 1))
            generators = closest_size([(count, count * each)], n_parameters, f"a BitFlip on {n} bits")
        else:
            if weight is None:
                weight = 2 if n <= PAIRS_UP_TO or gates == "neighbours" else 1
            chosen = choose_gates(
                dataset,
                discretiser,
                gates=gates,
                weight=min(weight, n),
                reach=reach,
                long_range=long_range,
                bits=of_events,
                frame=frame,
            )
            # the list of all small sets is known from its length
            generators = len(chosen) if gates == "all" and not long_range else list(chosen)
            shared = ties(dataset, discretiser, chosen, frame).tolist() if tied else None
        model = cls(
            discretiser,
            dataset.n_conditions,
            conditional=conditional,
            generators=generators,
            shared=shared,
            scales=scales,
            n_strings=strings,
            seed=seed,
            transform=transform,
            condition_transform=dataset.condition_transform,
        )
        if start == "covariance" and of_events is not None:
            model._begin_with(covariance_flips(model.gates, of_events))
        return model

    @torch.no_grad()
    def _begin_with(self, flips: Tensor) -> None:
        """Set the weights to these probabilities of the generators, the mean of those that share a weight."""
        count = torch.bincount(self.weight_of)
        mean = flips.new_zeros(len(count)).index_add_(0, self.weight_of, flips) / count
        of_a_bit = max(1.0, len(self.gates.members) / self.discretiser.n_bits)
        rarest = min(RAREST, RARE_FLIPS / of_a_bit)
        self.logits.copy_(mean.clamp(rarest, 1 - rarest).logit())

    def arguments(self) -> dict[str, Any]:
        """Discretiser, columns, bandwidths, strings, generators and which of them share a weight."""
        generators = self._asked if isinstance(self._asked, int) else [list(gate) for gate in self.gates]
        return {**super().arguments(), "generators": generators, "shared": self._shared}

    def _activation(self, condition: Tensor | None) -> Tensor:
        """Logits of the flips, ``(m, generators)``; ``m`` is 1 where no condition acts."""
        logits = self.logits[None]
        if condition is not None and self.uses_condition:
            logits = self.logits + condition.to(self.logits) @ self.by_condition.T
        return logits if self._shared is None else logits[:, self.weight_of]

    def flip_probabilities(self, condition: Tensor | None) -> Tensor:
        """The ``p_j``, ``(m, generators)``, under conditions in the condition transform's space."""
        return self._activation(condition).sigmoid()

    def string_values(self, strings: BitSets, condition: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        """Expectation values of strings, exact and differentiable: ``(n_strings, n)``, or one column for all.

        Args:
            strings: sets of bits.
            condition: of each column, ``(n, n_inputs)`` in the condition transform's space; None where none acts.
            n: number of columns.
            generator: not used.
        """
        odd = _csr(strings) @ self._incidence.T.tocsr()
        odd.data = odd.data % 2
        odd.eliminate_zeros()
        log_size, negative = self._factors(condition)
        logarithm: Tensor = _SparseProduct.apply(log_size.T, odd)
        if not negative.any():
            return logarithm.exp()
        count = torch.from_numpy(odd @ negative.T.cpu().numpy()).to(negative.device)
        return logarithm.exp() * (1 - 2 * (count % 2))

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
        place = as_numbers(self.gates.dense().to(log_size.device))
        # a sum over the generators that share an odd number of bits with S is half of (all - signed by parity)
        spread = torch.stack([log_size, negative]).new_zeros(2, len(log_size), 2**n)
        spread = spread.index_copy(2, place, torch.stack([log_size, negative]))
        log_size, negative = (spread.sum(2, keepdim=True) - walsh_hadamard(spread)) / 2
        signs = 1 - 2 * (negative.detach().round() % 2)
        return (walsh_hadamard(log_size.exp() * signs) / 2**n).clamp_min(0)

    def _log_prob_of_bits(self, bits: Tensor, condition: Tensor | None) -> Tensor:
        return self._log_of_table(self._distribution, as_numbers(bits), condition)

    def _draw_bits(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        probability = self.flip_probabilities(condition).expand(n, -1)
        flipped_by = self._incidence.T.tocsr()
        parts = []
        for some in probability.split(max(1, AT_ONCE // self.generators)):
            like: dict[str, Any] = {"dtype": some.dtype, "device": some.device}
            flips = (uniform(tuple(some.shape), generator, **like) < some).to(torch.int32).T
            bits = torch.from_numpy(flipped_by @ flips.cpu().numpy()) % 2
            parts.append(bits.T.to(some.device, torch.uint8))
        return torch.cat(parts)


class _SparseProduct(torch.autograd.Function):
    """A fixed sparse matrix times a dense one, with compiled loops whatever the device."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Any) -> Tensor:
        """``matrix @ dense``; ``matrix`` is of scipy."""
        ctx.matrix = matrix
        return torch.from_numpy(matrix @ dense.detach().cpu().numpy()).to(dense.device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """``matrix.T @ gradient``."""
        found = ctx.matrix.T @ gradient.cpu().numpy()
        return torch.from_numpy(np.ascontiguousarray(found)).to(gradient.device), None


def _generators(n_bits: int, asked: int | Sequence[Sequence[int]]) -> BitSets:
    """These sets of bits, or so many of all sets, small ones first."""
    if isinstance(asked, int):
        if not 1 <= asked < 2**n_bits:
            raise ValueError(f"generators is {asked}; {n_bits} bits have 1 to {2**n_bits - 1}")
        every = chain.from_iterable(combinations(range(n_bits), size) for size in range(1, n_bits + 1))
        return BitSets.of(n_bits, islice(every, asked))
    sets = BitSets.of(n_bits, asked, "generator")
    if not len(sets):
        raise ValueError("generators are empty; at least one is needed")
    sets.check_distinct("generator")
    return sets


def _csr(sets: BitSets) -> Any:
    """The sets as rows of a sparse matrix of scipy, ``(n_sets, n_bits)`` int32."""
    from scipy.sparse import csr_array

    ones = np.ones(len(sets.members), dtype=np.int32)
    return csr_array((ones, sets.members.cpu().numpy(), sets.pointers.cpu().numpy()), shape=(len(sets), sets.n_bits))
