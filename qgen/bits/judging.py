r"""How far the bits of a model are from true ones, by expectation values of strings of Z and without a sample.

Of the truth ``t`` and a model ``m``, with :math:`\kappa_S` the mean of a bit's sign, the covariance of two or the third
cumulant of three:

- ``one_body``: :math:`\sum_i (\kappa^m_i - \kappa^t_i)^2 / \sum_i (1 - (\kappa^t_i)^2)`, over all bits: the squared
  distance of the means in units of the variance of a single event;
- ``two_body``, ``three_body``: :math:`\sum_S (\kappa^m_S - \kappa^t_S)^2 / \sum_S (\kappa^t_S)^2`, over pairs and
  triples (:mod:`qgen.bits.chosen`): 1 is what independent bits score;
- ``string_mmd``: the squared maximum mean discrepancy at several bandwidths (:mod:`qgen.bits.kernels`), and their mean;
- ``string_order``: its parts of 1, 2, 3 ... bits, the mean of :math:`(\langle Z_S \rangle_m - \langle Z_S \rangle_t)^2`
  over all strings of so many bits. It is divided by what independent bits with true means score, so that 1 is a model
  that has nothing but these; the part of one bit is divided by the mean variance;
- ``expected_profile``, ``expected_hits``: :math:`\sum_l (E^m_l - E^t_l)^2 / \sum_l (E^t_l)^2` of the mean energies, or
  numbers of hits, of the layers of a shower (:mod:`qgen.bits.profile`).

All estimates are unbiased: a perfect model scores 0 apart from fluctuations, to both sides, at any number of events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from qgen.bits.chosen import choose_pairs, choose_triples, strings_of_order
from qgen.bits.columns import BitValues, Blocks, Columns
from qgen.bits.gaps import FEWEST_BLOCKS, signal, squared_gap
from qgen.bits.kernels import default_scales, draw_strings, order_weights, share_seen
from qgen.bits.mmd import MMDEstimate
from qgen.bits.profile import Profile
from qgen.bits.sets import BitSets
from qgen.metrics.result import MetricResult
from qgen.random import derive_seed, new_generator

__all__ = ["DESCRIPTIONS", "Described", "Judged", "StringJudge", "string_scores"]

LARGEST_ORDER = 6
ORDER_STRINGS = 2000
"""Most strings of an order."""

CERTAIN = 5.0
"""Standard deviations by which truth must have correlations for a model to be measured by them."""

FEWEST_EVENTS = 20

DESCRIPTIONS = {
    "one_body": "Squared distance of the means of bits, in units of their variance, without noise's part.",
    "two_body": "Squared distance of the covariances of bits; 1 is what independent bits score.",
    "three_body": "Squared distance of the third cumulants of bits; 1 is what independent bits score.",
    "string_mmd": "Squared maximum mean discrepancy of the bits, unbiased; mean over the bandwidths.",
    "string_order": "The part of the discrepancy of strings of so many bits; 1 is what independent bits score.",
    "expected_profile": "Squared distance of the mean energies of the layers, from expectation values of bits.",
    "expected_hits": "Squared distance of the mean numbers of hits of the layers, from expectation values of bits.",
}
"""What the scores are, in a line each."""


@dataclass(frozen=True)
class Described:
    """The numbers behind some scores: estimates and their standard errors, ``(K,)`` each."""

    values: Tensor
    errors: Tensor

    @classmethod
    def of(cls, blocks: Tensor) -> Self:
        """The mean over blocks ``(K, B)``."""
        b = blocks.shape[1]
        errors = blocks.std(1) / b**0.5 if b > 1 else torch.zeros(len(blocks), dtype=torch.float64)
        return cls(blocks.mean(1), errors)


@dataclass(frozen=True)
class Judged:
    """A model's scores.

    Args:
        scores: by name; ``string_mmd/SCALE`` and ``string_order/ORDER`` for single bandwidths and orders.
        numbers: what they are made of: ``one_body``, ``two_body``, ``three_body``, ``expected_profile`` (MeV) and
            ``expected_hits``.
    """

    scores: dict[str, MetricResult]
    numbers: dict[str, Described]


@dataclass(frozen=True)
class _Part:
    """Some of the scores: how its estimates come from columns, and what their distance is divided by.

    Args:
        blocks: the estimates.
        scale: of truth's own sum of squares.
        numbers: whether the estimates are shown.
    """

    blocks: Callable[[Blocks], Tensor]
    scale: Callable[[Tensor], Tensor]
    numbers: bool = True


@dataclass
class StringJudge:
    """True bits, and the strings by which models are compared with them.

    Args:
        truth: bits of the true events ``(n, n_bits)``.
        scales: bandwidths, in units of a bit.
        missing: why a score cannot be had, by its name: truth has no correlations of an order, say.
    """

    truth: Tensor
    scales: tuple[float, ...]
    missing: dict[str, str] = field(default_factory=dict)
    _parts: dict[str, _Part] = field(default_factory=dict)
    _true: dict[str, Tensor] = field(default_factory=dict)
    _random: tuple[BitSets, Tensor] = field(init=False)

    @classmethod
    def of(
        cls,
        truth: Tensor,
        training: Tensor,
        *,
        scales: Sequence[float] | None = None,
        near: Tensor | None = None,
        profile: Profile | None = None,
        pairs: int = 2000,
        triples: int = 1000,
        strings: int = 500,
        seed: int = 0,
    ) -> Self:
        """Choose the strings.

        Args:
            truth: bits of the true events ``(n, n_bits)``.
            training: of others, which fix pairs and triples and the scale of the orders, ``(m, n_bits)``. So that
                nothing is chosen by the fluctuations that it is then measured by, they should be neither those of the
                floor nor truth itself.
            scales: bandwidths; the default ones if not given.
            near: pairs of neighbouring bits ``(k, 2)``, if there are such.
            profile: of the layers, if there are such.
            pairs: of bits; all if they are fewer.
            triples: of bits; all if they are fewer.
            strings: random strings of each bandwidth.
            seed: fixes all random choices.

        Raises:
            ValueError: too few events, events that are all the same, or an impossible bandwidth or number.
        """
        for what, bits in (("truth", truth), ("training", training)):
            if len(bits) < FEWEST_EVENTS:
                raise ValueError(f"{what} has {len(bits)} events; at least {FEWEST_EVENTS} are needed")
        n, truth = truth.shape[1], _mixed(truth)
        chosen = tuple(default_scales(n) if scales is None else scales)
        judge = cls(truth, chosen)
        near = torch.empty(0, 2, dtype=torch.int64) if near is None else near

        def rng(*what: str | int) -> torch.Generator:
            return new_generator(derive_seed(seed, "strings", *what))

        if (truth == truth[0]).all():
            raise ValueError(f"all {len(truth)} true events have the same bits; there is nothing to compare")
        singles = strings_of_order(n, 1, n, rng())
        judge._add("one_body", _Part(lambda b: b.means(singles), lambda square: n - square))
        if n > 1:
            two = choose_pairs(training, pairs, near, rng("pairs"))
            judge._add_by_itself("two_body", lambda b: b.pairs(two, n))
        if n > 2:
            three = choose_triples(training, triples, near, rng("triples"))
            judge._add_by_itself("three_body", lambda b: b.triples(three, n))
        judge._add_orders(training, rng)
        if profile is not None:
            judge._add_by_itself("expected_profile", lambda b: b.sums(profile.strings, profile.energy))
            judge._add_by_itself("expected_hits", lambda b: b.sums(profile.strings, profile.hits))
        judge._random = draw_strings(n, chosen, strings * len(chosen), rng("kernels"))
        return judge

    def _add(self, name: str, part: _Part) -> None:
        self._parts[name], self._true[name] = part, part.blocks(Blocks.of(self.truth))

    def _add_by_itself(self, name: str, blocks: Callable[[Blocks], Tensor]) -> None:
        """Add a score that is divided by truth's own sum of squares, if that is known not to be nothing."""
        self._add(name, _Part(blocks, lambda square: square))
        if signal(self._true[name]) < CERTAIN:
            del self._parts[name], self._true[name]
            self.missing[name] = f"truth has nothing of it that {len(self.truth)} events show"

    def _add_orders(self, training: Tensor, rng: Callable[..., torch.Generator]) -> None:
        """Add the orders of correlation; beyond 1 on the scale of independent bits with the means of training."""
        n = self.truth.shape[1]
        learned = Blocks.of(_mixed(training))
        for k in range(1, min(LARGEST_ORDER, n) + 1):
            strings, name = strings_of_order(n, k, ORDER_STRINGS, rng("order", k)), f"string_order/{k}"
            true = Blocks.of(self.truth).means(strings)
            away = true if k == 1 else learned.beyond_means(strings)
            if k > 1 and signal(away) < CERTAIN:
                self.missing[name] = (
                    f"{len(training)} events do not show, by such strings, that bits are not independent"
                )
                continue
            square = squared_gap(away, away.new_zeros(len(away), 1)).value
            size = len(strings) - square if k == 1 else square
            self._parts[name] = _Part(
                partial(Blocks.means, strings=strings), partial(torch.full_like, fill_value=size), False
            )
            self._true[name] = true

    @property
    def weights(self) -> Tensor:
        """Of each bandwidth the weight of each order from 0 bits to all, ``(n_scales, n_bits + 1)``."""
        return torch.stack([order_weights(self.truth.shape[1], scale) for scale in self.scales])

    @property
    def names(self) -> list[str]:
        """The scores that can be had."""
        return [*self._parts, *(f"string_mmd/{scale:.4g}" for scale in self.scales), "string_mmd"]

    def numbers(self) -> dict[str, Described]:
        """What the scores are made of, of truth."""
        return {name: Described.of(self._true[name]) for name, part in self._parts.items() if part.numbers}

    def judge(self, model: Tensor | Columns) -> Judged:
        """The scores of a model.

        Args:
            model: bits of its events ``(m, n_bits)``, in any order; or a function that gives, for strings, independent
                unbiased values of their expectation values, ``(n_strings, m)``, or exact ones, ``(n_strings, 1)``. If
                each belongs to a condition, these are to be in random order.

        Raises:
            ValueError: too few events or values, or other bits than truth has.
        """
        if isinstance(model, Tensor) and len(model) < FEWEST_EVENTS:
            raise ValueError(f"the model has {len(model)} events; at least {FEWEST_EVENTS} are needed")
        blocks = Blocks.of(_mixed(model) if isinstance(model, Tensor) else model)
        scores, numbers = {}, {}
        for name, part in self._parts.items():
            found = part.blocks(blocks)
            if 1 < found.shape[1] < FEWEST_BLOCKS:
                raise ValueError(f"values come in {found.shape[1]} blocks; at least {FEWEST_BLOCKS} are needed")
            scores[name] = squared_gap(self._true[name], found, part.scale)
            if part.numbers:
                numbers[name] = Described.of(found)
        return Judged(scores | self._discrepancies(blocks.columns), numbers)

    def _discrepancies(self, columns: Columns) -> dict[str, MetricResult]:
        """At each bandwidth, and their mean."""
        strings, kernel = self._random
        shares = share_seen(self.truth.shape[1], self.scales)
        true, found = BitValues(self.truth)(strings), columns(strings).detach().cpu()
        exact = found.shape[1] == 1

        def estimate(rows: Tensor, share: float) -> MetricResult:
            made = MMDEstimate(share)
            made.add(true[rows] - found[rows] if exact else true[rows], None if exact else found[rows])
            return MetricResult(made.value, made.variance**0.5)

        each = {
            f"string_mmd/{scale:.4g}": estimate(kernel == k, shares[k].item()) for k, scale in enumerate(self.scales)
        }
        return each | {"string_mmd": estimate(kernel >= 0, shares.mean().item())}


def _mixed(bits: Tensor) -> Tensor:
    """Events in random order: of a file that is sorted, blocks would each be of another energy."""
    return bits[torch.randperm(len(bits), generator=new_generator(0))]


def string_scores(
    truth: Tensor, other: Tensor, models: Mapping[str, Tensor | Columns], training: Tensor, **choices: Any
) -> dict[str, Judged]:
    """Scores of several models and, under the empty name, those of other true events: the floor.

    Args:
        truth: bits of the true events ``(n, n_bits)``.
        other: of as many others.
        models: by name, as :meth:`StringJudge.judge` takes them.
        training: see :meth:`StringJudge.of`, as ``choices``.
    """
    judge = StringJudge.of(truth, training, **choices)
    return {"": judge.judge(other), **{name: judge.judge(model) for name, model in models.items()}}
