r"""Samples of an IQP circuit, where a computer can draw them.

Qubits that no chain of gates joins are independent: the circuit falls into *blocks*. A block is sampled exactly

- from its table of amplitudes (up to 26 qubits), which two Walsh-Hadamard transforms give,

.. math:: \langle x | U | 0 \rangle = 2^{-n} \sum_z (-1)^{x \cdot z} e^{i \phi(z)}, \quad
          \phi(z) = \sum_j \theta_j (-1)^{|g_j \cap z|} ;

- or bit by bit through a contraction of its tensor network (:mod:`qgen.models.iqp_elimination`), which may be as wide
  as it is long: what counts is how many gates cross a cut through it.

Elsewhere :attr:`SamplingPlan.problem` says why not. From :math:`(|0 \dots 0\rangle + |1 \dots 1\rangle) / \sqrt 2` the
amplitude is :math:`(A(x) + A(\bar x)) / \sqrt 2`, with :math:`A` that from :math:`|0 \dots 0\rangle`, a product over
blocks, and :math:`\bar x` all bits flipped. Strings drawn from :math:`(|A(x)|^2 + |A(\bar x)|^2) / 2` are kept with
probability :math:`|A(x) + A(\bar x)|^2 / 2 (|A(x)|^2 + |A(\bar x)|^2)`, every second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from qgen.bits.sets import BitSets
from qgen.models.elimination_order import elimination_order
from qgen.models.iqp_elimination import Contraction, Elimination
from qgen.models.iqp_tables import Amplitudes, Tables
from qgen.random import uniform

__all__ = ["LARGEST_TABLE", "MOST_UPDATES", "WIDEST", "Block", "SamplingPlan"]

LARGEST_TABLE = 26
"""Qubits of a block whose amplitudes are all computed."""

WIDEST = 22
"""Width of a contraction."""

MOST_UPDATES = 2**24
"""Numbers that the contraction of one sample goes through: some 0.2 s on one core."""

NUMBERS_AT_ONCE = 2**19
"""Amplitudes of tables that are held at once where every sample has its own angles; more are slower, not faster."""

OFTEN = 8
"""Samples of each set of angles from which the sets are worked through one by one."""

_ALWAYS_TABLE = 12
_SAMPLES = 1000
"""Draws of a call for which the cheaper way is chosen."""


@dataclass(frozen=True)
class Block:
    """Qubits that gates join, directly or through others.

    Args:
        bits: which, ascending; in the order of the contraction where ``width`` is given.
        width: of the contraction by which it is sampled; None where the table of amplitudes is cheaper.
    """

    bits: tuple[int, ...]
    width: int | None = None


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """How a circuit of these gates is sampled; made once, used for any angles.

    Args:
        gates: of the circuit.
        spin_symmetric: from which state it starts.
        blocks: of the circuit, empty where there is a problem.
        problem: why it cannot be sampled on a computer, empty if it can.

    >>> plan = SamplingPlan.of(BitSets.of(3, [(0,), (1, 2)]), 3)
    >>> plan.draw(torch.tensor([torch.pi / 2, 0.0]), 2, torch.Generator().manual_seed(0)).tolist()
    [[1, 0, 0], [1, 0, 0]]
    """

    gates: BitSets
    spin_symmetric: bool
    blocks: tuple[Block, ...]
    problem: str
    _samplers: tuple[Tables | Elimination, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, gates: BitSets, n_bits: int, spin_symmetric: bool = False) -> SamplingPlan:
        """The plan for a circuit.

        Args:
            gates: qubits of each gate.
            n_bits: qubits of the circuit.
            spin_symmetric: the circuit starts from the equal superposition of all bits 0 and all bits 1.

        Raises:
            ValueError: the gates are on another number of qubits.
        """
        if gates.n_bits != n_bits:
            raise ValueError(f"gates are on {gates.n_bits} bits; the circuit has {n_bits}")
        gates = gates.to("cpu")
        blocks: list[Block] = []
        pairs = _pairs(gates)
        for bits in _components(n_bits, pairs):
            block, problem = _planned(bits, pairs)
            if problem:
                return cls(gates, spin_symmetric, (), problem)
            blocks.append(block)
        wide = [bit for block in blocks if block.width is not None for bit in block.bits]
        sizes = sorted({len(block.bits) for block in blocks if block.width is None})
        tables = [Tables.of(gates, [b.bits for b in blocks if b.width is None and len(b.bits) == n]) for n in sizes]
        samplers: list[Tables | Elimination] = [*tables, *([Elimination(gates, tuple(wide))] if wide else [])]
        return cls(gates, spin_symmetric, tuple(blocks), "", tuple(samplers))

    @torch.no_grad()
    def draw(self, angles: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Independent samples.

        Args:
            angles: ``(n_gates,)`` in radians, or ``(n, n_gates)`` with angles of its own for each sample.
            n: how many.
            generator: source of randomness.

        Returns:
            ``(n, n_bits)`` uint8, on the angles' device.

        Raises:
            ValueError: there is a problem, angles of another shape or not finite, or more memory needed than there is.
        """
        if self.problem:
            raise ValueError(f"no events can be drawn: {self.problem}")
        n_gates = len(self.gates)
        if angles.shape not in ((n_gates,), (n, n_gates)):
            raise ValueError(f"angles have shape {tuple(angles.shape)}; expected ({n_gates},) or ({n}, {n_gates})")
        if not torch.isfinite(angles).all():
            raise ValueError(f"angle {int((~torch.isfinite(angles)).nonzero()[0, -1])} is not finite")
        if angles.ndim == 2:
            numbers = max([1, *(sampler.numbers for sampler in self._samplers if isinstance(sampler, Tables))])
            return torch.cat([self._own(some, generator) for some in angles.split(max(1, NUMBERS_AT_ONCE // numbers))])
        samplers = [sampler.at(angles[None]) for sampler in self._samplers]
        if not self.spin_symmetric:
            return self._joined([sampler.draw(n, generator) for sampler in samplers])
        kept: list[Tensor] = []
        missing = n
        while missing > 0:
            bits, chosen = self._tried(samplers, 2 * missing + 16, generator)
            kept.append(bits[chosen][:missing])
            missing -= len(kept[-1])
        return torch.cat(kept)

    def draw_rows(self, angles: Callable[[Tensor], Tensor], row: Tensor, generator: torch.Generator) -> Tensor:
        """A sample for each of several sets of angles, however often each is asked for.

        Args:
            angles: for the numbers of some sets ``(k,)`` their angles ``(k, n_gates)``.
            row: ``(n,)``, the number of each sample's set.
            generator: source of randomness.

        Returns:
            ``(n, n_bits)`` uint8.

        Raises:
            ValueError: as :meth:`draw`.
        """
        asked = row.unique()
        if OFTEN * len(asked) > len(row):
            parts = row.split(max(1, NUMBERS_AT_ONCE // max(1, len(self.gates))))
            return torch.cat([self.draw(angles(some), len(some), generator) for some in parts])
        bits = torch.empty(len(row), self.gates.n_bits, dtype=torch.uint8, device=row.device)
        for one in asked:
            which = (row == one).nonzero().flatten()
            bits[which] = self.draw(angles(one[None])[0], len(which), generator)
        return bits

    def _own(self, angles: Tensor, generator: torch.Generator) -> Tensor:
        """A sample for each row of angles ``(n, n_gates)``."""
        samplers = [sampler.at(angles) for sampler in self._samplers]
        if not self.spin_symmetric:
            return self._joined([sampler.draw(len(angles), generator) for sampler in samplers])
        bits, chosen = self._tried(samplers, len(angles), generator)
        again = (~chosen).nonzero().flatten()
        if len(again):
            bits[again] = self._own(angles[again], generator)
        return bits

    def _tried(
        self, samplers: Sequence[Amplitudes | Contraction], n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Strings ``(n, n_bits)`` of the mixture of the product and its mirror image, and which are to be kept."""
        found, flipped, ratios = [], [], []
        for sampler in samplers:
            bits = sampler.draw(n, generator)
            ratios.append(sampler.amplitude(1 - bits) - sampler.amplitude(bits))
            found.append(bits)
            flipped.append(1 - bits)
        logarithm, phase = torch.stack(ratios).sum(0)
        u = uniform((2, n), generator, dtype=torch.float64, device=phase.device)
        chosen = u[0] < 0.5 + 0.5 * phase.cos() / logarithm.cosh()
        return torch.where((u[1] < 0.5)[:, None], self._joined(found), self._joined(flipped)), chosen

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        bits = torch.empty(len(parts[0]), self.gates.n_bits, dtype=torch.uint8, device=parts[0].device)
        for sampler, part in zip(self._samplers, parts, strict=True):
            bits[:, list(sampler.order)] = part
        return bits


def _planned(bits: tuple[int, ...], pairs: Tensor) -> tuple[Block, str]:
    """How a block is sampled, or why it is not."""
    n = len(bits)
    if n <= _ALWAYS_TABLE:
        return Block(bits), ""
    place = torch.full((int(pairs.max()) + 1,), -1)
    place[list(bits)] = torch.arange(n)
    inside = place[pairs[:, place[pairs[0]] >= 0]]
    # a graph of tree width w on n vertices has no more than w n edges
    least = -(-inside.shape[1] // n)
    width, updates = least + 1, float("inf")
    order: list[int] = []
    if least < WIDEST:
        order, width, updates = elimination_order(_neighbours(n, inside))
    affordable = width <= WIDEST and updates <= MOST_UPDATES
    if affordable and (n > LARGEST_TABLE or _SAMPLES * updates < n * 2.0**n):
        return Block(tuple(bits[k] for k in order), width), ""
    if n <= LARGEST_TABLE:
        return Block(bits), ""
    found = f"of width {width}" if order else f"of width {width} at least"
    cost = f" and {updates:.2g} numbers a sample" if order else ""
    return Block(bits), (
        f"gates join {n} of the circuit's qubits, whose contraction is {found}{cost}; possible are blocks of up to "
        f"{LARGEST_TABLE} qubits, or contractions of width {WIDEST} and {MOST_UPDATES:.2g} numbers at most"
    )


def _pairs(gates: BitSets) -> Tensor:
    """The pairs of qubits that share a gate, each once and the smaller first, ``(2, n_pairs)``."""
    found = [torch.empty(0, dtype=torch.int64)]
    sizes = gates.sizes
    for size in sizes.unique().tolist():
        if size > 1:
            members = gates.take((sizes == size).nonzero().flatten()).members.reshape(-1, size)
            places = torch.combinations(torch.arange(size))
            both = members[:, places]
            found.append((both[..., 0] * gates.n_bits + both[..., 1]).flatten().unique())
    pairs = torch.cat(found).unique()
    return torch.stack([pairs // gates.n_bits, pairs % gates.n_bits])


def _components(n_bits: int, pairs: Tensor) -> Iterator[tuple[int, ...]]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    a, b = pairs.numpy()
    count, label = connected_components(csr_array((np.ones(len(a)), (a, b)), shape=(n_bits, n_bits)), directed=False)
    order = np.argsort(label, kind="stable")
    for part in np.split(order, np.cumsum(np.bincount(label, minlength=count))[:-1]):
        yield tuple(part.tolist())


def _neighbours(n: int, pairs: Tensor) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(n)]
    for a, b in pairs.T.tolist():
        rows[a].append(b)
        rows[b].append(a)
    return rows
