r"""Restricted Boltzmann machine over the bits of an event.

Bits :math:`v` and hidden bits :math:`h` have the energy :math:`-v \cdot (a + U c) - h \cdot b - v^T W h`, linear in the
condition :math:`c`, so that

.. math:: p(v \mid c) = e^{-F(v, c)} / Z(c), \quad
          -F = v \cdot (a + U c) + \sum_k \log\bigl(1 + e^{b_k + (v^T W)_k}\bigr) .

Its own loss is the difference of free energies :math:`F` between events and the ends of Gibbs chains, whose gradient is
that of the likelihood where the chains have converged. Without a condition the chains go on from one training step to
the next (persistent contrastive divergence, Tieleman, ICML 2008). With one they start at the events of the batch
(contrastive divergence, Hinton, Neural Computation 14 (2002) 1771): a chain that goes on under ever other conditions
remembers them, and the machine would learn to exaggerate the condition. With at most 20 bits or 20 hidden units the sum
:math:`Z(c)` is done and the likelihood is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from classical_baselines.sizing import closest_size, closest_width
from qgen.bits.cells import Edges, Frame, Occupancy, Threshold, Voxels, fit_cells
from qgen.bits.gate_sets import training_bits
from qgen.bits.generator import BitGenerator, bit_strings
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Code, Discretiser
from qgen.data.transforms import Transform
from qgen.random import derive_seed, new_generator, normal, uniform

__all__ = ["BoltzmannMachine"]

SUMMED_BITS = 20
"""Bits, or hidden units, up to which the partition function is summed."""

AT_ONCE = 2**23
"""Numbers in memory together while it is summed."""

TERMS = 2**27
"""Terms up to which a validation sums the partition function: all conditions have their own."""

CHAINS = 256
"""Chains that go on through the training without a condition."""


class BoltzmannMachine(BitGenerator):
    """Restricted Boltzmann machine, conditional through its visible biases.

    Trained by its own loss (:class:`qgen.training.Own`) or, where the likelihood is exact, by
    :class:`qgen.training.NLL`. In validation its own loss is the exact likelihood or, where that is out of reach
    or would take too long, the pseudo-likelihood (each bit given all others). Weights are float64 and follow ``.to``.

    Args:
        discretiser: bits to cells, in the transform's space.
        n_conditions: columns of a condition, 0 for an unconditional model.
        conditional: whether the condition acts on the bits.
        hidden: number of hidden units.
        gibbs_steps: steps of each chain, from random bits, of which an event is the end.
        chain_steps: steps of the chains at each step of the training.
        seed: fixes the initial weights.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: a size below 1.

    >>> events = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> machine = BoltzmannMachine(Discretiser.fit(events, bits=2), hidden=3)
    >>> round(machine.probabilities(None, torch.Generator()).sum().item(), 12)
    1.0
    """

    has_own_loss: ClassVar[bool] = True
    chains: Tensor

    def __init__(
        self,
        discretiser: Discretiser,
        n_conditions: int = 0,
        *,
        conditional: bool = True,
        hidden: int = 32,
        gibbs_steps: int = 100,
        chain_steps: int = 5,
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
        for name, value in (("hidden", hidden), ("gibbs_steps", gibbs_steps), ("chain_steps", chain_steps)):
            if value < 1:
                raise ValueError(f"{name} is {value}; at least 1 is needed")
        n = discretiser.n_bits
        self.hidden = hidden
        self.gibbs_steps = gibbs_steps
        self.chain_steps = chain_steps
        self.is_summed = min(n, hidden) <= SUMMED_BITS
        self.has_log_prob = self.is_summed and discretiser.one_to_one
        rng = new_generator(derive_seed(seed, "weights"))

        def small(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.01 * normal(shape, rng, dtype=torch.float64))

        self.visible_bias, self.hidden_bias, self.weight = small(n), small(hidden), small(n, hidden)
        if self.n_inputs:
            self.by_condition = small(n, self.n_inputs)
        start = uniform((CHAINS, n), new_generator(derive_seed(seed, "chains")), dtype=torch.float64) < 0.5
        self.register_buffer("chains", start.to(torch.float64))

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
        frame: Frame = "features",
        threshold: Threshold = None,
        voxels: Voxels = None,
        occupancy: Occupancy = 0.0,
        conditional: bool = True,
        start: Literal["random", "means"] = "random",
        hidden: Annotated[int, Ge(1)] = 32,
        gibbs_steps: Annotated[int, Ge(1)] = 100,
        chain_steps: Annotated[int, Ge(1)] = 5,
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh machine for these events.

        Args:
            dataset: its training events fix the cells.
            seed: fixes the initial weights.
            bits: of every feature, or of each; if not given, 4 of every feature up to 4 features, then 2.
            edges: of the cells, see :func:`~qgen.bits.cells.fit_cells`, also for ``frame`` and the three after it.
            tails: share of the training values beyond the outer edges on either side.
            code: how a feature's cells are written in bits.
            frame: ``features``, ``marginals`` or ``gaussian``.
            threshold: energy (MeV) below which a pixel counts as empty.
            voxels: how many pixels have bits.
            occupancy: share of the images in which a pixel with bits is not empty, at least.
            conditional: whether the dataset's conditions act on the bits. If not, they still enter through the
                transform (energies as fractions of the incident one, say).
            start: ``means`` starts the visible biases from the log odds of the bits, so that the fresh machine has the
                means of the events (Hinton, A practical guide to training restricted Boltzmann machines, 2012).
            hidden: number of hidden units.
            gibbs_steps: of the chain whose end an event is.
            chain_steps: of the chains at each step of the training.
            n_parameters: wanted number of parameters, reached within 10 %: ``hidden`` is chosen.

        Raises:
            ValueError: an option is impossible for these events, or no machine has about ``n_parameters`` parameters.
        """
        if bits is None:
            bits = 4 if dataset.n_features <= 4 else 2
        discretiser, transform = fit_cells(
            dataset,
            bits,
            edges,
            tails,
            code,
            "by-feature",
            frame,
            threshold=threshold,
            voxels=voxels,
            occupancy=occupancy,
        )
        if n_parameters is not None:
            n, inputs = discretiser.n_bits, dataset.n_conditions if conditional else 0

            def size(hidden: int) -> int:
                return n * (1 + inputs) + hidden * (n + 1)

            hidden = closest_width(size, n_parameters)
            closest_size([(hidden, size(hidden))], n_parameters, f"a BoltzmannMachine on {n} bits")
        made = cls(
            discretiser,
            dataset.n_conditions,
            conditional=conditional,
            hidden=hidden,
            gibbs_steps=gibbs_steps,
            chain_steps=chain_steps,
            seed=seed,
            transform=transform,
            condition_transform=dataset.condition_transform,
        )
        if start == "means":
            events = training_bits(dataset, discretiser, transform).to(torch.float64)
            share = (events.sum(0) + 0.5) / (len(events) + 1)  # no bit is certain, however seldom it changes
            with torch.no_grad():
                made.visible_bias.add_(share.logit())
        elif start != "random":
            raise ValueError(f"start is {start!r}; allowed are 'random' and 'means'")
        return made

    def arguments(self) -> dict[str, Any]:
        """Discretiser, columns, number of hidden units and of steps."""
        own = {"hidden": self.hidden, "gibbs_steps": self.gibbs_steps, "chain_steps": self.chain_steps}
        return {**super().arguments(), **own}

    def _bias(self, inputs: Tensor) -> Tensor:
        """Visible biases under conditions, ``(m, n_bits)``."""
        return self.visible_bias + inputs @ self.by_condition.T if inputs.shape[1] else self.visible_bias[None]

    def free_energy(self, bits: Tensor, condition: Tensor | None) -> Tensor:
        """``F`` of bits ``(m, n_bits)``, each under its condition in the condition transform's space, ``(m,)``."""
        bits = bits.to(self.weight)
        bias = self._bias(self._inputs(condition, len(bits)))
        return -(bits * bias).sum(1) - softplus(self.hidden_bias + bits @ self.weight).sum(1)

    def log_partition(self, condition: Tensor | None) -> Tensor:
        """``log Z`` under conditions ``(m, n_conditions)``, ``(m,)``; ``m`` is 1 without a condition.

        Raises:
            TypeError: more than 20 bits and more than 20 hidden units.
        """
        n = self.discretiser.n_bits
        if not self.is_summed:
            raise TypeError(f"{n} bits and {self.hidden} hidden units are too many to sum; up to {SUMMED_BITS} of one")
        bias = self._bias(self._inputs(condition, 1 if condition is None else len(condition)))
        strings = bit_strings(min(n, self.hidden), self.device).to(self.weight)
        if n <= self.hidden:
            width = max(1, AT_ONCE // self.hidden)
            apart = torch.cat([softplus(self.hidden_bias + part @ self.weight).sum(1) for part in strings.split(width)])
            parts = [(b @ strings.T + apart).logsumexp(1) for b in bias.split(max(1, AT_ONCE // len(strings)))]
            return torch.cat(parts)
        sums = []
        for part in strings.split(max(1, AT_ONCE // n)):
            apart, field = part @ self.hidden_bias, part @ self.weight.T
            sums.append(torch.stack([(apart + softplus(field + b).sum(1)).logsumexp(0) for b in bias]))
        return torch.stack(sums).logsumexp(0)

    def _log_prob_of_bits(self, bits: Tensor, condition: Tensor | None) -> Tensor:
        row, distinct = self.distinct_conditions(condition, len(bits))
        return -self.free_energy(bits, condition) - self.log_partition(distinct)[row]

    def probabilities(self, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Probability of each cell, ``(m, n_cells)``; at most 16 bits."""
        self._check_table()
        bits = self.discretiser.to_bits(torch.arange(self.discretiser.n_cells, device=self.device)).to(self.weight)
        bias = self._bias(self._inputs(condition, 1 if condition is None else len(condition)))
        return (bias @ bits.T + softplus(self.hidden_bias + bits @ self.weight).sum(1)).softmax(1)

    def _own_loss(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        bits = self.discretiser.encode(values).to(self.weight)
        if not torch.is_grad_enabled():
            return self._validation(bits, condition)
        with torch.no_grad():
            start = bits if self.uses_condition else self.chains
            ends = self._gibbs(start, condition, self.chain_steps, generator)
            if not self.uses_condition:
                self.chains.copy_(ends)
        return self.free_energy(bits, condition).mean() - self.free_energy(ends, condition).mean()

    def _validation(self, bits: Tensor, condition: Tensor | None) -> Tensor:
        n = self.discretiser.n_bits
        terms = 2 ** min(n, self.hidden) * (n if n > self.hidden else 1) * (len(bits) if self.uses_condition else 1)
        if self.is_summed and terms <= TERMS:
            return -self._log_prob_of_bits(bits, condition).mean()
        bias = self._bias(self._inputs(condition, len(bits)))
        total = torch.zeros_like(bits[:, 0])
        field, flips = self.hidden_bias + bits @ self.weight, 1 - 2 * bits
        here = softplus(field).sum(1)
        for i in range(bits.shape[1]):
            there = softplus(field + flips[:, i, None] * self.weight[i]).sum(1)
            total = total + logsigmoid(here - there - flips[:, i] * bias[:, i])
        return -total.mean()

    def _draw_bits(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        start = uniform((n, self.discretiser.n_bits), generator, dtype=self.weight.dtype, device=self.device) < 0.5
        return self._gibbs(start.to(self.weight), condition, self.gibbs_steps, generator).to(torch.uint8)

    def _gibbs(self, bits: Tensor, condition: Tensor | None, steps: int, generator: torch.Generator) -> Tensor:
        bias = self._bias(self._inputs(condition, len(bits)))
        like: dict[str, Any] = {"dtype": bits.dtype, "device": bits.device}
        for _ in range(steps):
            units = (bits @ self.weight + self.hidden_bias).sigmoid()
            units = (uniform((len(bits), self.hidden), generator, **like) < units).to(bits)
            bits = (uniform(tuple(bits.shape), generator, **like) < (units @ self.weight.T + bias).sigmoid()).to(bits)
        return bits
