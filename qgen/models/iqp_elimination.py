r"""Exact samples of IQP circuits whose gates are local, one bit after the other.

The amplitude of a bit string is a sum over strings :math:`z` of a product of the gates' phases. Once the bits of a set
:math:`K` are known, what is left of the sum over :math:`z_K` is a function :math:`a` of those other :math:`z_i` alone
that share a gate with a bit of :math:`K`, the *front*:

.. math:: a(z_\partial) = \sum_{z_K} (-1)^{x_K \cdot z_K}
              \prod_{g \cap K \neq \emptyset} e^{i \theta_g (-1)^{|g \cap z|}},
          \qquad p(x_K) \propto \sum_{z_\partial} |a(z_\partial)|^2 .

So the next bit is drawn from two norms, nothing is truncated, and many samples go on together. This contracts the
circuit's tensor network qubit by qubit; the largest front plus one is the *width*, at best the path width of the graph
in which qubits of one gate are joined, plus one. Time and memory of a sample grow as two to its power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from qgen.bits.sets import BitSets
from qgen.bits.walsh import walsh_hadamard
from qgen.random import uniform

__all__ = ["Elimination"]

NUMBERS_AT_ONCE = 2**22
"""Of the fronts of all samples that go on together."""

LEAST_AT_ONCE = 8
"""Samples that share the work on the gates' phases, however wide the front."""


@dataclass(frozen=True)
class _Step:
    """One bit's turn.

    Args:
        before: bits of the front before it.
        new: bits that join.
        place: of the bit in the front with those.
        gates: numbers of the gates that come in, none of which has been used.
        masks: for each the number whose binary digits are its members among ``axes``.
        axes: places in the front on which these gates act, ascending.
    """

    before: int
    new: int
    place: int
    gates: Tensor
    masks: Tensor
    axes: tuple[int, ...]

    @property
    def width(self) -> int:
        return self.before + self.new


def _integers(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Elimination:
    """Draws some of the bits of a circuit, those of whole blocks, in a given order.

    Args:
        gates: of the circuit; those that have a bit in ``order`` have all their bits there.
        order: of the bits that are drawn.

    >>> sampler = Elimination(BitSets.of(2, [(0, 1)]), (0, 1))
    >>> sampler.at(torch.tensor([[torch.pi / 2]])).draw(2, torch.Generator().manual_seed(0)).tolist()
    [[1, 1], [1, 1]]
    """

    gates: BitSets
    order: tuple[int, ...]

    @cached_property
    def steps(self) -> tuple[_Step, ...]:
        """What is done for each bit."""
        of_bit: dict[int, list[tuple[int, tuple[int, ...]]]] = {bit: [] for bit in self.order}
        for number, members in enumerate(self.gates):
            for bit in members:
                if bit in of_bit:
                    of_bit[bit].append((number, members))
        front: list[int] = []
        used: set[int] = set()
        steps = []
        for bit in self.order:
            here = [(number, members) for number, members in of_bit[bit] if number not in used]
            used.update(number for number, _ in here)
            before = len(front)
            front += [one for one in dict.fromkeys((bit, *(one for _, g in here for one in g))) if one not in front]
            place = {one: k for k, one in enumerate(front)}
            axes = tuple(sorted({place[one] for _, members in here for one in members}))
            digit = {axis: len(axes) - 1 - k for k, axis in enumerate(axes)}
            masks = [sum(1 << digit[place[one]] for one in members) for _, members in here]
            numbers = [number for number, _ in here]
            steps.append(_Step(before, len(front) - before, place[bit], _integers(numbers), _integers(masks), axes))
            front.remove(bit)
        return tuple(steps)

    @property
    def width(self) -> int:
        """Qubits of the largest front, the one whose turn it is among them."""
        return max(step.width for step in self.steps)

    @property
    def updates(self) -> int:
        """Numbers of all fronts of one sample together."""
        return sum(1 << step.width for step in self.steps)

    @property
    def at_once(self) -> int:
        """Samples that go on together."""
        return max(LEAST_AT_ONCE, NUMBERS_AT_ONCE >> self.width)

    def at(self, angles: Tensor) -> Contraction:
        """The sampler at these angles of the whole circuit, ``(1, n_gates)`` in radians, or a row for every draw."""
        return Contraction(self, [self._phases(step, angles) for step in self.steps])

    def _phases(self, step: _Step, angles: Tensor) -> Tensor:
        """The product of a step's gates on the axes on which they act, ``(rows, 2**len(axes))``."""
        sums = torch.zeros(len(angles), 1 << len(step.axes), dtype=torch.float64, device=angles.device)
        sums.index_add_(1, step.masks.to(angles.device), angles[:, step.gates.to(angles.device)].to(torch.float64))
        phase = walsh_hadamard(sums)
        return torch.polar(torch.ones_like(phase), phase)


@dataclass(frozen=True, eq=False)
class Contraction:
    """An :class:`Elimination` at given angles.

    Args:
        plan: what is done for each bit.
        phases: of the gates that come in at each, ``(rows, ...)`` with one row or one for every draw.
    """

    plan: Elimination
    phases: list[Tensor]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Bits of ``n`` samples, ``(n, len(order))`` uint8, in the plan's order."""
        device = self.phases[0].device
        return self._run(uniform((n, len(self.phases)), generator, dtype=torch.float64, device=device), drawn=True)[0]

    def amplitude(self, bits: Tensor) -> Tensor:
        """Logarithm of the modulus and phase of the amplitudes of bits ``(n, len(order))``, ``(2, n)``."""
        return self._run(bits, drawn=False)[1]

    def _run(self, given: Tensor, drawn: bool) -> tuple[Tensor, Tensor]:
        """From uniform numbers, by which bits are drawn, or from bits."""
        size, shared = self.plan.at_once, len(self.phases[0]) == 1
        found = []
        for first in range(0, len(given), size):
            some = slice(first, first + size)
            phases = self.phases if shared else [phase[some] for phase in self.phases]
            found.append(self._some(given[some], phases, drawn))
        return torch.cat([bits for bits, _ in found]), torch.cat([amplitudes for _, amplitudes in found], 1)

    def _some(self, given: Tensor, phases: list[Tensor], drawn: bool) -> tuple[Tensor, Tensor]:
        count, n_bits = given.shape
        front = torch.ones(count, 1, dtype=torch.complex128, device=given.device)
        log_norm = torch.full((count,), -n_bits * math.log(2), dtype=torch.float64, device=given.device)
        bits = torch.empty(count, n_bits, dtype=torch.uint8, device=given.device)
        for k, (step, phase) in enumerate(zip(self.plan.steps, phases, strict=True)):
            axes = [2 if axis in step.axes else 1 for axis in range(step.width)]
            whole = phase.reshape(-1, *axes).expand(-1, *[2] * step.width)
            whole = whole.reshape(-1, 1 << step.before, 1 << step.new)
            wide = (front[:, :, None] * whole).reshape(count, 1 << step.place, 2, -1)
            zero, one = wide[:, :, 0].reshape(count, -1), wide[:, :, 1].reshape(count, -1)
            if drawn:
                # of |zero + one|^2 and |zero - one|^2 together, twice the norm, which is 1 times the new axes' size
                overlap = torch.linalg.vecdot(torch.view_as_real(zero).flatten(1), torch.view_as_real(one).flatten(1))
                bits[:, k] = given[:, k] >= 0.5 + overlap / (1 << step.new)
            else:
                bits[:, k] = given[:, k]
            sign = (1 - 2.0 * bits[:, k])[:, None]
            front = torch.addcmul(zero, one, sign.to(zero.dtype))
            norm = torch.linalg.vector_norm(front, dim=1)
            front = front / norm.clamp_min(torch.finfo(norm.dtype).tiny)[:, None]
            log_norm += norm.log()
        return bits, torch.stack([log_norm, front[:, 0].angle()])
