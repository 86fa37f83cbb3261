"""What the models on the bits of an event share: a density and weighted draws at any number of bits."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from qgen.data.discretiser import Discretiser
from qgen.data.transforms import Transform
from qgen.generator import CELLS_AT_ONCE, DiscreteGenerator, Generator, WeightedEvents

__all__ = ["TABLE_BITS", "BitGenerator", "as_numbers", "bit_strings"]

TABLE_BITS = 16
"""Bits up to which the probabilities of all cells are given."""


class BitGenerator(DiscreteGenerator):
    """A generator over the bits of a discretiser that has no need for the table of all cells.

    A subclass implements :meth:`_draw_bits` and, unless it says ``has_log_prob = False``, :meth:`_log_prob_of_bits`.
    The probabilities of all cells are given up to 16 bits.

    Args:
        discretiser: bits to cells, in the transform's space, of any number of bits.
        n_conditions: columns of a condition, 0 for an unconditional model.
        conditional: whether the condition acts on the bits.
        transform: physical units to order one.
        condition_transform: the same for conditions.
    """

    def __init__(
        self,
        discretiser: Discretiser,
        n_conditions: int = 0,
        *,
        conditional: bool = True,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(discretiser, n_conditions, transform, condition_transform)
        self.uses_condition = conditional and n_conditions > 0

    @property
    def n_inputs(self) -> int:
        """Columns of the condition that act on the bits."""
        return self.n_conditions if self.uses_condition else 0

    def _inputs(self, condition: Tensor | None, n: int) -> Tensor:
        """What acts on the bits of each event, ``(n, n_inputs)``."""
        weight = next(self.parameters())
        if condition is None or not self.uses_condition:
            return weight.new_empty(n, 0)
        return condition.to(weight)

    def arguments(self) -> dict[str, Any]:
        """Discretiser, columns and whether the condition acts."""
        return {
            "discretiser": self.discretiser.spec(),
            "n_conditions": self.n_conditions,
            "conditional": self.uses_condition,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any], transform: Transform, condition_transform: Transform) -> Self:
        """The model with these arguments, its weights fresh."""
        rest = dict(arguments)
        discretiser = Discretiser.from_spec(rest.pop("discretiser"))
        return cls(discretiser, **rest, transform=transform, condition_transform=condition_transform)

    def _draw_bits(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Bits of ``n`` events, ``(n, n_bits)``."""
        raise NotImplementedError

    def _log_prob_of_bits(self, bits: Tensor, condition: Tensor | None) -> Tensor:
        """Log probability of bits ``(m, n_bits)``, each row under its condition, ``(m,)``."""
        raise NotImplementedError

    def probabilities(self, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """Probability of each cell, ``(m, n_cells)``, differentiable.

        Raises:
            ValueError: the model has more than 16 bits, or bit strings that are no cells.
        """
        self._check_table()
        bits = self.discretiser.to_bits(torch.arange(self.discretiser.n_cells, device=self.device))
        if condition is None or not self.uses_condition:
            return self._log_prob_of_bits(bits, None).exp()[None]
        each = [self._log_prob_of_bits(bits, row.expand(len(bits), -1)) for row in condition]
        return torch.stack(each).exp()

    def _check_table(self) -> None:
        self.discretiser.check_one_to_one()
        if self.discretiser.n_bits > TABLE_BITS:
            raise ValueError(
                f"the model has {self.discretiser.n_bits} bits; probabilities of all cells are given up to "
                f"{TABLE_BITS} bits, beyond them train by nll or by the model's own loss"
            )

    def _sample_cells(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        return self.discretiser.from_bits(self._draw_bits(n, condition, generator))

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        return self.discretiser.decode(self._draw_bits(n, condition, generator), generator)

    def _weighted(self, n: int, condition: Tensor | None, generator: torch.Generator) -> WeightedEvents:
        """All cells where they are few; else ``n`` draws, through whose weights the score's gradient flows."""
        if not self.has_log_prob:
            return Generator._weighted(self, n, condition, generator)
        groups = 1 if condition is None else len(condition.unique(dim=0))
        if self.discretiser.n_bits <= TABLE_BITS and groups * self.discretiser.n_cells <= CELLS_AT_ONCE:
            return super()._weighted(n, condition, generator)
        with torch.no_grad():
            bits = self._draw_bits(n, condition, generator)
        values = self.discretiser.decode(bits, generator)
        log_prob = self._log_prob_of_bits(bits, condition)
        return WeightedEvents(values, (log_prob - log_prob.detach()).exp() / n, condition, draws=n)

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        indices = self.discretiser.indices(values)
        bits = self.discretiser.indices_to_bits(indices)
        return self._log_prob_of_bits(bits, condition) - self.discretiser.log_volume(indices)


def bit_strings(n_bits: int, device: torch.device | str = "cpu") -> Tensor:
    """All bit strings, the first bit most significant, ``(2**n_bits, n_bits)`` float64.

    >>> bit_strings(2).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    places = torch.arange(n_bits - 1, -1, -1, device=device)
    return ((torch.arange(1 << n_bits, device=device)[:, None] >> places) & 1).to(torch.float64)


def as_numbers(bits: Tensor) -> Tensor:
    """Bits ``(..., n_bits)``, the most significant first, as int64 numbers ``(...)``.

    >>> as_numbers(torch.tensor([[1, 0], [1, 1]])).tolist()
    [2, 3]
    """
    numbers = torch.zeros(bits.shape[:-1], dtype=torch.int64, device=bits.device)
    for place in range(bits.shape[-1]):
        numbers = 2 * numbers + bits[..., place].to(torch.int64)
    return numbers
