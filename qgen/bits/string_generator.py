r"""``StringGenerator``: models on bits that know the expectation values of Z strings, and learn from them.

Such a model needs neither a density nor samples to be trained: its loss is the squared maximum mean discrepancy as a
mean over random strings (:mod:`qgen.bits.kernels`, :mod:`qgen.bits.mmd`), at any number of bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from qgen.bits.generator import BitGenerator
from qgen.bits.kernels import default_scales, draw_strings, flip_rate, share_seen
from qgen.bits.mmd import MMDEstimate, exact_terms, paired_terms, unbiased_terms
from qgen.bits.sets import BitSets
from qgen.data.discretiser import Discretiser
from qgen.data.transforms import Transform
from qgen.random import normal, uniform

__all__ = ["StringGenerator"]

VALUES_AT_ONCE = 2**22
"""Values of strings that are in memory at a time where a model is judged."""


class StringGenerator(BitGenerator):
    r"""A model that gives unbiased values of the expectation values of strings :math:`Z_S`.

    A subclass implements :meth:`string_values`. Its own loss (:class:`qgen.training.Own`) is the mean over the kernels
    of the squared discrepancy, with new strings at each step. If conditions act, each kernel is multiplied by a
    Gaussian kernel of the conditions, as random Fourier features :math:`f(c) = \sqrt 2 \cos(w \cdot c + \phi)`: with
    :math:`d_i = (\langle Z_S \rangle_{c_i} - Z_S(x_i)) f(c_i)` the term of a string is the mean of :math:`d_i d_k`
    over pairs of events.

    Args:
        discretiser: bits to cells, in the transform's space, of any number of bits.
        n_conditions: columns of a condition, 0 for an unconditional model.
        conditional: whether the condition acts on the bits.
        scales: bandwidths of the kernels, in units of a bit; if not given, those of
            :func:`~qgen.bits.kernels.default_scales`.
        n_strings: random strings of each step of a training.
        n_draws: values of each string at a step, where values carry noise and no condition acts.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    Raises:
        ValueError: no bandwidth or an impossible one, or too few strings or draws.
    """

    has_own_loss: ClassVar[bool] = True
    exact_strings: bool = False  # whether the values of string_values carry no noise

    def __init__(
        self,
        discretiser: Discretiser,
        n_conditions: int = 0,
        *,
        conditional: bool = True,
        scales: Sequence[float] | None = None,
        n_strings: int = 1000,
        n_draws: int = 1000,
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
        if scales is not None and not scales:
            raise ValueError("scales are empty; at least one bandwidth is needed")
        self.scales = default_scales(discretiser.n_bits) if scales is None else tuple(float(s) for s in scales)
        for scale in self.scales:
            flip_rate(scale)
        if n_strings < 1:
            raise ValueError(f"n_strings is {n_strings}; at least 1 is needed")
        if n_draws < 2:
            raise ValueError(f"n_draws is {n_draws}; at least 2 are needed")
        self.n_strings = n_strings
        self.n_draws = n_draws

    def arguments(self) -> dict[str, Any]:
        """Discretiser, columns, bandwidths and numbers of strings and draws."""
        own: dict[str, Any] = {"scales": list(self.scales), "n_strings": self.n_strings}
        if not self.exact_strings:
            own["n_draws"] = self.n_draws
        return {**super().arguments(), **own}

    def string_values(self, strings: BitSets, condition: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        """Unbiased values of the expectation values of strings, ``(n_strings, n)``, differentiable.

        The columns are independent of each other; the values of one column need not be.

        Args:
            strings: sets of bits, on the model's device.
            condition: of each column, ``(n, n_inputs)`` in the condition transform's space; None where none acts.
            n: how many; where values are exact (``exact_strings``) and no condition acts, one is given.
            generator: source of randomness.
        """
        raise NotImplementedError

    def _own_loss(self, values: Tensor, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        """The unbiased squared discrepancy between the model and a batch, over random strings."""
        bits = self.discretiser.encode(values)
        strings, _ = draw_strings(self.discretiser.n_bits, self.scales, self.n_strings, generator, self.device)
        signs = strings.signs(bits)
        if condition is not None and self.uses_condition:
            found = self.string_values(strings, condition, len(bits), generator)
            like: dict[str, Any] = {"dtype": found.dtype, "device": found.device}
            slopes = normal((self.n_strings, condition.shape[1]), generator, **like)
            phase = 2 * math.pi * uniform((self.n_strings, 1), generator, **like)
            feature = math.sqrt(2) * (slopes @ condition.to(found).T + phase).cos()
            terms = paired_terms((found - signs.to(found)) * feature)
        elif self.exact_strings:
            found = self.string_values(strings, None, 1, generator)
            terms = exact_terms(found[:, 0], signs)
        else:
            found = self.string_values(strings, None, self.n_draws, generator)
            terms = unbiased_terms(found, signs.to(found))
        return share_seen(self.discretiser.n_bits, self.scales).mean().item() * terms.mean()

    @torch.no_grad()
    def expectations(
        self, strings: BitSets, condition: Tensor | None = None, *, draws: int = 10_000, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Expectation values of strings as the mean over conditions, and their standard errors, ``(K,)`` each float64.

        Memory does not grow with the number of draws or conditions.

        Args:
            strings: sets of bits.
            condition: the conditions that are averaged over, ``(m, n_conditions)`` in the condition transform's space;
                they count as given, not as random.
            draws: values of each string in all; each condition has the same number of them, at least 2. No more than
                one is drawn where values are exact.
            generator: source of randomness.

        Raises:
            ValueError: the condition is missing, or fewer than 2 draws.
        """
        strings = strings.to(self.device)
        conditions = self._acting(condition)
        if draws < 2:
            raise ValueError(f"draws is {draws}; at least 2 are needed")
        mean = torch.zeros(len(strings), dtype=torch.float64, device=self.device)
        variance = torch.zeros_like(mean)
        groups = 1 if conditions is None else len(conditions)
        each = 1 if self.exact_strings else max(2, math.ceil(draws / groups))
        for rows in _blocks(len(strings), max(1, VALUES_AT_ONCE // min(groups * each, VALUES_AT_ONCE // 64))):
            some = strings.take(rows.to(self.device))
            at_once = max(1, VALUES_AT_ONCE // len(some))
            for part in _blocks(groups, max(1, at_once // each)):
                total, squares = mean.new_zeros(2, len(some), len(part)).unbind(0)
                for again in _blocks(each, max(1, at_once // len(part))):
                    asked = None if conditions is None else conditions[part].repeat_interleave(len(again), 0)
                    found = self.string_values(some, asked, len(part) * len(again), generator).to(torch.float64)
                    found = found.reshape(len(some), len(part), len(again))
                    total += found.sum(2)
                    squares += found.square().sum(2)
                mean[rows] += total.sum(1) / each
                if each > 1:
                    variance[rows] += (squares - total.square() / each).clamp_min(0).sum(1) / (each * (each - 1))
        return mean / groups, variance.sqrt() / groups

    @torch.no_grad()
    def mmd(
        self,
        bits: Tensor,
        condition: Tensor | None = None,
        *,
        scale: float,
        strings: int = 10_000,
        draws: int = 1000,
        generator: torch.Generator,
    ) -> tuple[float, float]:
        """The unbiased squared discrepancy between the model's bits and an events', and its variance.

        The kernel is that of the bits alone: the distributions compared are those of all events, whatever their
        conditions. Strings, draws and events are all taken as random. Memory does not grow with the number of strings.

        Args:
            bits: of the events, ``(m, n_bits)``.
            condition: of the events, ``(m, n_conditions)`` in the condition transform's space.
            scale: the bandwidth.
            strings: how many random strings.
            draws: values of each string, where they carry noise; with conditions in all of them, at least one each.
            generator: source of randomness.

        Raises:
            ValueError: an impossible bandwidth or number, bits that are none, or a missing condition.
        """
        if strings < 2:
            raise ValueError(f"strings is {strings}; at least 2 are needed")
        n_bits = self.discretiser.n_bits
        conditions = self._acting(condition, len(bits))
        estimate = MMDEstimate(share_seen(n_bits, [scale]).item())
        each = 1 if self.exact_strings or conditions is None else math.ceil(draws / len(bits))
        for part in _blocks(strings, max(2, VALUES_AT_ONCE // max(len(bits) * each, draws))):
            some, _ = draw_strings(n_bits, [scale], len(part), generator, self.device)
            signs = some.signs(bits)
            if conditions is not None:
                asked = conditions.repeat_interleave(each, 0)
                found = self.string_values(some, asked, len(asked), generator)
                estimate.add(found.reshape(len(some), len(bits), each).mean(2) - signs)
            elif self.exact_strings:
                estimate.add(self.string_values(some, None, 1, generator) - signs)
            else:
                estimate.add(signs, self.string_values(some, None, draws, generator))
        return estimate.value, estimate.variance

    def _acting(self, condition: Tensor | None, n: int | None = None) -> Tensor | None:
        """The condition if it acts on the bits.

        Raises:
            ValueError: it is missing, or has another shape.
        """
        if not self.uses_condition:
            return None
        if condition is None:
            raise ValueError(f"{type(self).__name__} needs a condition, {self.n_conditions} columns")
        if condition.ndim != 2 or condition.shape[1] != self.n_conditions or n not in (None, len(condition)):
            expected = "m" if n is None else n
            raise ValueError(
                f"condition has shape {tuple(condition.shape)}; expected ({expected}, {self.n_conditions})"
            )
        return condition.to(self.device)


def _blocks(count: int, size: int) -> Iterator[Tensor]:
    """The numbers below ``count``, in runs of at most ``size``."""
    return iter(torch.arange(count).split(size))
