r"""IQP Born machine: commuting gates on many qubits, trained on a classical computer.

From :math:`|0 \dots 0\rangle` the gates :math:`e^{i \theta_j X_{g_j}}` (:math:`X` on all bits of the set :math:`g_j`)
act, and every qubit is measured (2503.02934). The distribution is out of reach beyond some tens of qubits, but the
expectation value of a string of :math:`Z` is a mean over uniform bit strings :math:`z`, which a classical computer
estimates at any width:

.. math:: \langle Z_S \rangle = \mathbb{E}_z
    \cos\Bigl(2 \sum_{j : |S \cap g_j| \text{ odd}} \theta_j (-1)^{|g_j \cap z|}\Bigr) .

The squared maximum mean discrepancy to the events is a mean over random strings of what follows from these values, so
it is minimised without a quantum computer, which is needed for the draws alone.

From :math:`(|0 \dots 0\rangle + |1 \dots 1\rangle) / \sqrt 2` the distribution does not change when all bits flip:
strings of odd size have the value 0, for the others only :math:`z` of even parity count. A mixture draws one of
:math:`L = 2^k` sets of angles for every event; with :math:`k` more qubits it is one circuit (2605.27735): the angles of
the sets are :math:`\theta_j(m) = \sum_T c_{jT} (-1)^{|T \cap m|}`, and gates on :math:`g_j` and the additional qubits
:math:`T` with angles :math:`c_{jT}` are the mixture if the additional qubits are not looked at. Under a condition,
:math:`\theta_j(c) = \theta_j + u_j \cdot c`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import one_hot

from circuits import Circuit, Gate
from circuits.iqp import iqp
from qgen.bits.cells import Edges, Frame, Occupancy, Threshold, Voxels, fit_cells
from qgen.bits.gate_sets import GateChoice, choose_gates, covariance_angles, ties, training_bits
from qgen.bits.generator import TABLE_BITS, as_numbers
from qgen.bits.sets import BitSets
from qgen.bits.walsh import walsh_hadamard
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Code, Discretiser, Order
from qgen.data.transforms import Transform
from qgen.generator import DiscreteGenerator, WeightedEvents
from qgen.models.deployed import MeasuredOnce
from qgen.models.estimated_strings import EstimatedStrings
from qgen.models.iqp_expectations import iqp_cosines, uniform_bits
from qgen.models.iqp_sampling import SamplingPlan
from qgen.models.iqp_start import checked_ties, shares, sized_gates
from qgen.random import derive_seed, new_generator, normal

__all__ = ["IQPBornMachine"]

SMALL = 0.02
"""Standard deviation of the initial angles, or of what is added to those from the data, of all gates on a bit together,
in radians."""

TWO_BITS = 32
"""Features up to which each has two bits if nothing else is asked for, four up to four features."""

ALL_GATES = 32
"""Bits up to which all sets are gates if nothing else is asked for."""


class IQPBornMachine(MeasuredOnce, EstimatedStrings):
    """An IQP circuit, or a mixture of such, over the bits of a discretiser.

    Trained by its own loss (:class:`qgen.training.Own`) at any number of bits; up to 16 bits the distribution is known
    and :class:`qgen.training.NLL` and :class:`qgen.training.MMD` train it too. Draws come from the circuit on a backend
    that was set, without one from :class:`~qgen.models.iqp_sampling.SamplingPlan`, if the circuit allows it
    (``no_samples`` says why not). Weights are float64 and follow ``.to``; expectation values are float32.

    Args:
        discretiser: bits to cells, in the transform's space.
        n_conditions: columns of a condition, 0 for an unconditional model.
        conditional: whether the condition acts on the angles.
        gates: the bits of each gate.
        ties: the number of each gate's angle, counted from 0 without a gap; gates with the same number share it. None
            for an angle of its own for every gate.
        spin_symmetric: whether the circuit starts from the superposition of all zeros and all ones.
        components: circuits of the mixture, a power of two; 1 for none.
        scales: of the kernels of the own loss; None for :func:`~qgen.bits.kernels.default_scales`.
        n_strings: random strings of each step of the own loss.
        n_draws: uniform bit strings of each step, which estimate the values of all strings; with conditions there is
            one for every event of the batch instead. None are needed up to 16 bits without conditions, where the values
            are exact.
        seed: fixes the initial weights, small normal numbers.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: gates or ties that are impossible, components that are no power of two, or too few draws.

    >>> events = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> machine = IQPBornMachine(Discretiser.fit(events, bits=2), gates=[[0], [1], [2], [3], [0, 2]])
    >>> machine.circuit()[0].counts
    {'H': 8, 'RZ': 4, 'MultiRZ': 1}
    """

    pointers: Tensor
    members: Tensor
    tie: Tensor

    def __init__(
        self,
        discretiser: Discretiser,
        n_conditions: int = 0,
        *,
        conditional: bool = True,
        gates: Sequence[Sequence[int]],
        ties: Sequence[int] | None = None,
        spin_symmetric: bool = False,
        components: int = 1,
        scales: Sequence[float] | None = None,
        n_strings: int = 1000,
        n_draws: int = 1000,
        seed: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(
            discretiser,
            n_conditions,
            conditional=conditional,
            scales=scales,
            n_strings=n_strings,
            n_draws=n_draws,
            transform=transform,
            condition_transform=condition_transform,
        )
        n = discretiser.n_bits
        if components < 1 or components & (components - 1):
            raise ValueError(f"components is {components}; a power of two is needed, 1 for no mixture")
        sets = BitSets.of(n, gates, "gate")
        if len(sets) == 0:
            raise ValueError("gates are empty; at least one is needed")
        sets.check_distinct("gate")
        self.spin_symmetric = spin_symmetric
        self.components = components
        self.ties = None if ties is None else checked_ties(ties, len(sets))
        self.has_log_prob = n <= TABLE_BITS and discretiser.one_to_one
        self.exact_strings = n <= TABLE_BITS and not self.uses_condition
        for name, tensor in (("pointers", sets.pointers), ("members", sets.members)):
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("tie", torch.tensor(self.ties or range(len(sets))), persistent=False)
        count = int(self.tie.max()) + 1
        rng = new_generator(derive_seed(seed, "weights"))
        small = SMALL / max(1.0, len(sets.members) / n) ** 0.5
        self.angles = nn.Parameter(small * normal((components, count), rng, dtype=torch.float64))
        if self.n_inputs:
            self.by_condition = nn.Parameter(small * normal((count, self.n_inputs), rng, dtype=torch.float64))

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
        gates: GateChoice | None = None,
        weight: Annotated[int, Ge(1)] = 2,
        reach: Annotated[int, Ge(0)] | None = None,
        long_range: Annotated[int, Ge(0)] | None = None,
        tied: bool = False,
        spin_symmetric: bool = False,
        components: Annotated[int, Ge(1)] = 1,
        start: Literal["covariance", "small"] = "covariance",
        scales: Sequence[Annotated[float, Gt(0)]] | None = None,
        strings: Annotated[int, Ge(1)] = 1000,
        draws: Annotated[int, Ge(2)] = 1000,
        n_parameters: Annotated[int, Ge(1)] | None = None,
    ) -> Self:
        """A fresh machine for these events.

        Args:
            dataset: its training events fix the cells, the gates by correlation and the initial angles.
            seed: fixes what is added to the initial angles.
            bits: qubits of every feature, or of each; if not given, 4 up to 4 features, 2 up to 32, then 1.
            edges: of the cells, see :func:`~qgen.bits.cells.fit_cells`, also for the next seven.
            tails: share of the training values beyond the outer edges on either side.
            code: how a feature's cells are written in bits.
            order: which bit of which feature each qubit holds.
            frame: ``features``, ``marginals`` or ``gaussian``.
            threshold: energy (MeV) below which a pixel counts as empty.
            voxels: how many pixels have bits.
            occupancy: share of the images in which a pixel with bits is not empty, at least.
            conditional: whether the dataset's conditions act on the angles. If not, they still enter through the
                transform (energies as fractions of the incident one, say).
            gates: ``all`` sets of up to ``weight`` bits, or those of ``neighbours``; if not given, all up to 32 bits.
            weight: most bits of a gate.
            reach: steps from pixel to pixel up to which bits are neighbours; 1 if not given.
            long_range: further pairs of bits as gates, those that the data correlate most; if not given, none. With
                them a circuit on more than 26 qubits is soon beyond what a computer samples.
            tied: whether gates of several bits that a shift of the image brings to each other share their angle.
            spin_symmetric: whether the circuit starts from the superposition of all zeros and all ones: the
                distribution does not change when all bits flip.
            components: circuits of a mixture, a power of two; 1 for none.
            start: ``covariance`` starts from means and covariances of the bits, for each component from those of its
                share of the events, cut along their first principal direction; ``small`` from angles near zero, which
                are all bits near zero.
            scales: bandwidths of the own loss, in units of a bit; if not given,
                :func:`~qgen.bits.kernels.default_scales`.
            strings: random strings of each step of the own loss.
            draws: uniform bit strings of each step that estimate their values, see the class.
            n_parameters: wanted number of angles, reached within 10 %: all single bits, the pairs that the data
                correlate most, then triples. In place of ``weight``, and without ``gates``, ``reach``, ``long_range``
                and ``tied``.

        Raises:
            ValueError: an option is impossible for these events.
        """
        if bits is None:
            bits = 4 if dataset.n_features <= 4 else 2 if dataset.n_features <= TWO_BITS else 1
        discretiser, transform = fit_cells(
            dataset,
            bits,
            edges,
            tails,
            code,
            order,
            frame,
            threshold=threshold,
            voxels=voxels,
            occupancy=occupancy,
        )
        events, n = training_bits(dataset, discretiser, transform), discretiser.n_bits
        if n_parameters is not None:
            if gates is not None or reach is not None or long_range or tied:
                raise ValueError("n_parameters chooses the gates; gates, reach, long_range and tied go without it")
            chosen = sized_gates(events, n_parameters, components + (dataset.n_conditions if conditional else 0))
        else:
            chosen = choose_gates(
                dataset,
                discretiser,
                gates=gates or ("all" if n <= ALL_GATES else "neighbours"),
                weight=min(weight, n),
                reach=reach,
                long_range=long_range or 0,
                bits=events,
                frame=frame,
            )
        made = cls(
            discretiser,
            dataset.n_conditions,
            conditional=conditional,
            gates=list(chosen),
            ties=ties(dataset, discretiser, chosen, frame).tolist() if tied else None,
            spin_symmetric=spin_symmetric,
            components=components,
            scales=scales,
            n_strings=strings,
            n_draws=draws,
            seed=seed,
            transform=transform,
            condition_transform=dataset.condition_transform,
        )
        if start == "covariance":
            made._start_from(events)
        elif start != "small":
            raise ValueError(f"start is {start!r}; allowed are 'covariance' and 'small'")
        return made

    @torch.no_grad()
    def _start_from(self, events: Tensor) -> None:
        """Add the angles that means and covariances of bits ``(N, n_bits)`` ask for, to each component its share's."""
        count = torch.bincount(self.tie)
        for component, share in enumerate(shares(events, self.components)):
            found = covariance_angles(self.gates, events[share]).to(self.angles)
            self.angles[component] += torch.zeros_like(self.angles[0]).index_add_(0, self.tie, found) / count

    @property
    def gates(self) -> BitSets:
        """The bits of each gate."""
        return BitSets(self.discretiser.n_bits, self.pointers, self.members)

    def arguments(self) -> dict[str, Any]:
        """Discretiser, columns, gates and ties, the state at the start, and the numbers of the own loss."""
        own = {
            "gates": [list(gate) for gate in self.gates],
            "ties": self.ties,
            "spin_symmetric": self.spin_symmetric,
            "components": self.components,
        }
        return {**super().arguments(), **own}

    def gate_angles(self, condition: Tensor | None = None) -> Tensor:
        """The angle of every gate in radians, ``(m, components, n_gates)``; ``m`` is 1 where no condition acts.

        Args:
            condition: ``(m, n_conditions)`` in the condition transform's space.
        """
        angles = self.angles[None]
        if condition is not None and self.uses_condition:
            angles = angles + (condition.to(self.angles) @ self.by_condition.T)[:, None]
        return angles[:, :, self.tie]

    # expectation values

    def _draw_values(self, strings: BitSets, condition: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        strings = strings.to(self.device)
        if self.exact_strings:
            return walsh_hadamard(self._table(None))[0, as_numbers(strings.dense())][:, None]
        draws = uniform_bits(self.discretiser.n_bits, n, generator, even=self.spin_symmetric, device=self.device)
        # the angles of a draw are those of its component, and what its condition adds
        terms: list[Tensor] = [self.angles]
        factors = [one_hot(self._component(n, generator), self.components).T.to(self.angles)]
        if self.uses_condition and condition is not None:
            terms.append(self.by_condition.T)
            factors.append(condition.to(self.angles).T)
        angles = torch.cat(terms)[:, self.tie].T
        values = iqp_cosines(self.gates, angles, strings, draws, factors=torch.cat(factors))
        return values * (strings.sizes % 2 == 0)[:, None] if self.spin_symmetric else values

    def _component(self, n: int, generator: torch.Generator) -> Tensor:
        """A random component for each of ``n`` draws."""
        return torch.randint(self.components, (n,), generator=generator, device=generator.device).to(self.device)

    # the distribution

    def _table(self, condition: Tensor | None) -> Tensor:
        """Probability of each bit string, the first bit most significant, ``(m, 2**n_bits)``."""
        n, angles = self.discretiser.n_bits, self.gate_angles(condition)
        spectrum = angles.new_zeros(*angles.shape[:2], 2**n)
        phase = walsh_hadamard(spectrum.index_add(2, as_numbers(self.gates.dense()), angles))
        parts = [walsh_hadamard(part) for part in (phase.cos(), phase.sin())]
        if self.spin_symmetric:
            parts = [(part + part.flip(2)) / 2**0.5 for part in parts]
        return (parts[0].square() + parts[1].square()).mean(1) / 4.0**n

    def _distribution(self, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """As :meth:`_table`, but on a backend that was set, as that gives it."""
        if self._backend is None:
            return self._table(condition)
        circuit, angles = self.circuit(condition)
        found = self._seeded(generator).probs(circuit, angles).to(self.angles)
        return found.reshape(len(angles), 2**self.discretiser.n_bits, self.components).sum(2)

    def probabilities(self, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Probability of each cell, ``(m, n_cells)``, differentiable; at most 16 bits.

        On a backend that was set, as that gives them and as differentiable as it is.
        """
        self._check_table()
        return self.discretiser.by_cell(self._distribution(condition if self.uses_condition else None, generator))

    def _log_prob_of_bits(self, bits: Tensor, condition: Tensor | None) -> Tensor:
        rng = new_generator(0)
        return self._log_of_table(lambda some: self._distribution(some, rng), as_numbers(bits), condition)

    def _weighted(self, n: int, condition: Tensor | None, generator: torch.Generator) -> WeightedEvents:
        if self.shots is not None:  # frequencies have no score: all cells are given
            return DiscreteGenerator._weighted(self, n, condition, generator)
        return super()._weighted(n, condition, generator)

    # the circuit

    @cached_property
    def _circuit(self) -> Circuit:
        n, more = self.discretiser.n_bits, self.components.bit_length() - 1
        subsets = [[n + i for i in range(more) if number >> (more - 1 - i) & 1] for number in range(self.components)]
        made = iqp(n + more, [(*gate, *subset) for gate in self.gates for subset in subsets])
        if not self.spin_symmetric:
            return made
        # the qubits of the bits alone
        start = [Gate("H", 0), *(Gate("CNOT", (wire - 1, wire)) for wire in range(1, n))]
        return Circuit(n + more, start) + made

    def circuit(self, condition: Tensor | None = None) -> tuple[Circuit, Tensor]:
        """The circuit and its angles in radians, ``(m, n_angles)``; ``m`` is 1 where no condition acts.

        The first wires are the bits. A mixture of ``2**k`` has ``k`` wires more; its distribution is that of the
        bits, whatever is measured there.

        Args:
            condition: ``(m, n_conditions)`` in the condition transform's space.
        """
        angles = walsh_hadamard(self.gate_angles(condition).transpose(1, 2)) / self.components
        return self._circuit, angles.flatten(1)

    @property
    def circuits(self) -> dict[str, Circuit]:
        """The circuit, see :meth:`circuit`."""
        return {"circuit": self._circuit}

    def measured(self, condition: Tensor | None = None) -> tuple[Circuit, Tensor]:
        """What is measured for an event, see :meth:`circuit`."""
        return self.circuit(condition)

    @cached_property
    def plan(self) -> SamplingPlan:
        """How a component is sampled on a computer."""
        return SamplingPlan.of(self.gates, self.discretiser.n_bits, self.spin_symmetric)

    @property
    def no_samples(self) -> str:
        """Why no events can be drawn; empty where they can, as on a backend that was set."""
        return "" if self._backend is not None else self.plan.problem

    def _draw_bits(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        row, distinct = self.distinct_conditions(condition, n)
        if self._backend is not None:

            def angles(some: Tensor) -> Tensor:
                return self.circuit(None if distinct is None else distinct[some])[1]

            return self._measure_bits(self._circuit, angles, row, generator)[:, : self.discretiser.n_bits]

        def gate_angles(some: Tensor) -> Tensor:
            found = self.gate_angles(None if distinct is None else distinct[some // self.components])
            each = torch.arange(len(some), device=self.device) if len(found) > 1 else 0
            return found[each, some % self.components]

        number = row.to(self.device) * self.components + self._component(n, generator)
        return self.plan.draw_rows(gate_angles, number, generator)
