"""``EstimatedStrings``: models whose expectation values are estimated, and that look at the noise of their training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qgen.bits.sets import BitSets
from qgen.bits.string_generator import StringGenerator
from qgen.models.gradient_noise import GradientNoise, noise_remarks
from qgen.random import new_generator

__all__ = ["EstimatedStrings"]

VALIDATIONS = 4
"""Independent values of the loss in a validation."""


class EstimatedStrings(StringGenerator):
    """A model that draws for its values of strings, and says if these draws are too few.

    A subclass implements :meth:`_draw_values`. At the first steps of a training, and now and then later, the gradient
    is computed again with other strings and draws (:class:`~qgen.models.gradient_noise.GradientNoise`). Arguments are
    those of :class:`~qgen.bits.string_generator.StringGenerator`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._noise = GradientNoise()
        self._draws_from: torch.Generator | None = None
        self._batch = 0

    def _draw_values(self, strings: BitSets, condition: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        """As :meth:`string_values`."""
        raise NotImplementedError

    def string_values(self, strings: BitSets, condition: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        """Unbiased values of strings of Z, each column with a draw of its own, ``(n_strings, n)``, differentiable.

        Args:
            strings: the bits of each.
            condition: ``(n, n_conditions)`` in the condition transform's space, one for each column, or None.
            n: columns; one where the values are exact and no condition acts.
            generator: source of the draws.
        """
        return self._draw_values(strings, condition, n, self._draws_from or generator)

    def _own_loss(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """The unbiased squared discrepancy to a batch.

        The noise of its gradient is looked at now and then; a validation is the mean of several independent values.
        """
        self._batch = len(values)
        seeds = torch.randint(2**63 - 1, (2 * VALIDATIONS,), generator=generator, device=generator.device).tolist()

        def loss(strings: int, draws: int) -> Tensor:
            self._draws_from = new_generator(draws)
            try:
                return super(EstimatedStrings, self)._own_loss(values, condition, new_generator(strings))
            finally:
                self._draws_from = None

        if not torch.is_grad_enabled():
            return torch.stack([loss(*pair) for pair in zip(seeds[::2], seeds[1::2], strict=True)]).mean()
        found = loss(seeds[0], seeds[1])
        if self._noise.due():
            parameters = [p for p in self.parameters() if p.requires_grad]

            def gradient(of: Tensor) -> Tensor:
                slopes = torch.autograd.grad(of, parameters, retain_graph=True)
                return torch.cat([slope.flatten() for slope in slopes])

            other, other_draws = loss(seeds[2], seeds[3]), loss(seeds[0], seeds[3])
            self._noise.add(gradient(found), gradient(other), gradient(other_draws))
        return found

    def saw(self, conditions: Tensor) -> None:
        """As :meth:`Generator.saw`; with a training its first steps begin anew."""
        super().saw(conditions)
        self._noise = GradientNoise()

    def records(self) -> dict[str, float]:
        """Signal and noise of the gradients that were looked at since the last record."""
        return self._noise.records()

    def remarks(self, history: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """Whether the first steps were noise, and how many strings and draws would do."""
        if self.exact_strings:
            return noise_remarks(history, self.n_strings, None)
        if self.uses_condition:
            return noise_remarks(history, self.n_strings, self._batch, "events in a batch")
        return noise_remarks(history, self.n_strings, self.n_draws)
