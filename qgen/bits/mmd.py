r"""The squared maximum mean discrepancy from expectation values of Z strings: unbiased terms and their variance.

For a string :math:`S` let :math:`a_i` be ``n`` independent unbiased values of :math:`\langle Z_S \rangle` of a model,
and :math:`b_k = Z_S(x_k)` the signs of ``m`` events. The squared difference of the expectation values, a term of the
discrepancy (:mod:`qgen.bits.kernels`), has the unbiased estimate

.. math::
    T_S = \frac{1}{n(n-1)} \sum_{i \neq i'} a_i a_{i'} - 2 \bar a \bar b
    + \frac{1}{m(m-1)} \sum_{k \neq k'} b_k b_{k'},

as in 2503.02934. Where the values carry no noise, or where each belongs to an event (its condition, say), it is the
mean of :math:`d_k d_{k'}` over pairs of events with :math:`d_k = a_k - b_k`.

The estimate is the mean over ``K`` random strings. All strings share the events, and those of one block the draws of
the model, so that its variance is not that of ``K`` independent terms over ``K``: with :math:`s^2` the variance of the
terms among the strings and :math:`c` the mean covariance of the terms of two strings that the shared draws bring,

.. math:: \operatorname{Var} = s^2 / K + c .

:math:`c` follows from Hoeffding's decomposition, as for the discrepancy of two samples (1611.04488): with
:math:`\langle u, v \rangle` the mean of :math:`u_S v_S` over strings, :math:`\Delta` the difference of the expectation
values and :math:`A`, :math:`B` the covariances of :math:`a` and :math:`b`,

.. math::
    \frac{4 \langle \Delta, A \Delta \rangle}{n} + \frac{4 \langle \Delta, B \Delta \rangle}{m}
    + \frac{2 \operatorname{tr} A^2}{n(n-1)} + \frac{2 \operatorname{tr} B^2}{m(m-1)}
    + \frac{4 \operatorname{tr} AB}{nm},

less what a string has with itself. Near the data, where :math:`\Delta` vanishes, the last three terms are all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

__all__ = ["MMDEstimate", "exact_terms", "mean_by_kernel", "mmd_variance", "paired_terms", "unbiased_terms"]

PAIRS_OF = 1024
"""Draws, and events, whose pairs give the traces of the squared covariances; of more, these are the first ones."""


def unbiased_terms(model: Tensor, data: Tensor) -> Tensor:
    """The term of each string from independent draws of a model, ``(K,)``, differentiable.

    Args:
        model: unbiased values of each string, ``(K, n)``; at least two.
        data: its signs in the events, ``(K, m)``; at least two.

    >>> unbiased_terms(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])).tolist()
    [0.0]
    """
    _check(data, "events")
    _check(model, "draws of the model")
    n = model.shape[1]
    mean = model.mean(1)
    square = (mean.square() - model.square().mean(1) / n) * (n / (n - 1))
    of_data = data.mean(1)
    return square - 2 * mean * of_data + _square_of_signs(of_data, data.shape[1])


def exact_terms(expectations: Tensor, data: Tensor) -> Tensor:
    """The term of each string from exact expectation values ``(K,)`` and signs of events ``(K, m)``, ``(K,)``.

    >>> exact_terms(torch.tensor([0.5]), torch.tensor([[1.0, 1.0, 1.0]])).tolist()
    [0.25]
    """
    _check(data, "events")
    mean = data.mean(1).to(expectations)
    return expectations.square() - 2 * expectations * mean + _square_of_signs(mean, data.shape[1])


def paired_terms(differences: Tensor) -> Tensor:
    """The term of each string from a value less a sign for each event, ``(K, m)`` to ``(K,)``: the mean over pairs.

    >>> paired_terms(torch.tensor([[1.0, 1.0, -1.0]])).tolist()
    [-0.3333333432674408]
    """
    _check(differences, "events")
    m = differences.shape[1]
    return (differences.sum(1).square() - differences.square().sum(1)) / (m * (m - 1))


def mean_by_kernel(terms: Tensor, kernel: Tensor, shares: Tensor) -> Tensor:
    """The discrepancy of each kernel, from the strings that :func:`~qgen.bits.kernels.draw_strings` gave.

    Args:
        terms: of each string, ``(K,)``.
        kernel: of each string, ``(K,)`` int64.
        shares: probability of each kernel that a string is not empty (``share_seen``), ``(n_kernels,)``.

    Raises:
        ValueError: a kernel has no string.

    >>> mean_by_kernel(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), torch.tensor([0.5, 1.0])).tolist()
    [1.0, 5.0]
    """
    count = torch.bincount(kernel, minlength=len(shares))
    if (count == 0).any():
        raise ValueError(f"kernel {int((count == 0).nonzero()[0])} has no string; draw more strings, or only its own")
    sums = terms.new_zeros(len(shares)).index_add_(0, kernel, terms)
    return shares.to(terms) * sums / count


class MMDEstimate:
    """The squared discrepancy and its variance, from blocks of random strings that are added one after another.

    Memory does not grow with the number of strings. Every block must have the same events, in the same order.

    Args:
        weight: what the mean over strings is multiplied by (``share_seen``).
        fresh: whether every block has new draws of the model; False where they are the same ones, other events for
            example.

    >>> rng = torch.Generator().manual_seed(0)
    >>> estimate = MMDEstimate()
    >>> for _ in range(3):
    ...     estimate.add(torch.randn(10, 40, generator=rng), torch.randn(10, 50, generator=rng) + 1)
    >>> abs(estimate.value - 1) < 4 * estimate.variance**0.5
    True
    """

    def __init__(self, weight: float = 1.0, *, fresh: bool = True) -> None:
        self.weight = weight
        self.fresh = fresh
        self.strings = 0
        self._terms = self._terms_squared = 0.0
        self._own = 0.0  # what a string's draws and events bring to the variance of its own term, summed over strings
        self._events: _Sums | None = None
        self._draws: tuple[_Sums, Tensor] | None = None  # of all blocks together, where the draws are the same
        self._of_draws = self._mixed = 0.0  # what those of each block bring, where they are not

    def add(self, data: Tensor, model: Tensor | None = None) -> None:
        """Add the strings of a block.

        Args:
            data: signs of the strings in the events ``(K, m)``; or, without ``model``, exact values less signs, or an
                unbiased value for each event less its sign.
            model: independent unbiased values of the strings ``(K, n)``.

        Raises:
            ValueError: fewer than 4 events or draws, or another number of events (or of draws, where they are to be the
                same) than before.
        """
        data = data.detach().to(torch.float64)
        _check(data, "events", 4)
        m = data.shape[1]
        if self._events is not None and len(self._events.along) != m:
            raise ValueError(f"the block has {m} events, those before had {len(self._events.along)}")
        mean_b, var_b = data.mean(1), data.var(1)
        mean_a = torch.zeros_like(mean_b)
        if model is None:
            terms = paired_terms(data)
            own = 4 * terms * var_b / m + 2 * var_b.square() / (m * (m - 1))
        else:
            model = model.detach().to(data)
            _check(model, "draws of the model", 4)
            n = model.shape[1]
            before = n if self._draws is None else len(self._draws[0].along)
            if before != n:
                raise ValueError(f"the block has {n} draws, those before had {before}")
            terms = unbiased_terms(model, data)
            mean_a, var_a = model.mean(1), model.var(1)
            own = 4 * terms * (var_a / n + var_b / m)
            own += 2 * var_a.square() / (n * (n - 1)) + 2 * var_b.square() / (m * (m - 1)) + 4 * var_a * var_b / (n * m)
            draws, cross = _Sums.of(model, mean_b), _cross(model, data)
            if self.fresh:
                of_draws, mixed = _of_draws(draws, cross, m)
                self._of_draws += of_draws
                self._mixed += mixed
            elif self._draws is None:
                self._draws = draws, cross
            else:
                self._draws = self._draws[0].plus(draws), self._draws[1] + cross
        self.strings += len(data)
        self._terms += float(terms.sum())
        self._terms_squared += float(terms.square().sum())
        self._own += float(own.sum())
        events = _Sums.of(data, mean_a)
        self._events = events if self._events is None else self._events.plus(events)

    @property
    def value(self) -> float:
        """The estimate; it may be negative."""
        if not self.strings:
            raise ValueError("no strings were added")
        return self.weight * self._terms / self.strings

    @property
    def variance(self) -> float:
        """Variance of :attr:`value`: strings, draws of the model and events are all taken as random."""
        if self.strings < 2 or self._events is None:
            raise ValueError(f"{self.strings} strings were added; a variance needs at least 2")
        count = self.strings
        among = max(0.0, (self._terms_squared - self._terms**2 / count) / (count - 1))
        of_draws, mixed = self._of_draws, self._mixed
        if self._draws is not None:
            of_draws, mixed = _of_draws(*self._draws, len(self._events.along))
        together = of_draws + self._events.bring(mixed)
        shared = max(0.0, together - self._own) / (count * (count - 1))
        return self.weight**2 * (among / count + shared)


@dataclass(frozen=True)
class _Sums:
    """Sums over strings of products of values, of which the columns ``n`` are independent draws, or events.

    Args:
        along: each draw along the difference of the means, itself left out of its own mean, ``(n,)``.
        gram: of the first draws with each other.
    """

    along: Tensor
    gram: Tensor

    @classmethod
    def of(cls, values: Tensor, other_mean: Tensor) -> Self:
        """Of the values of a block ``(K, n)`` and the means of what they are compared with ``(K,)``."""
        n, some = values.shape[1], values[:, :PAIRS_OF]
        along = values.T @ (n / (n - 1) * values.mean(1) - other_mean) - values.square().sum(0) / (n - 1)
        return cls(along, some.T @ some)

    def plus(self, other: _Sums) -> _Sums:
        """Those of more strings."""
        return _Sums(self.along + other.along, self.gram + other.gram)

    def bring(self, mixed: float) -> float:
        """What the draws bring to the variance of the sum of all terms, strings and what is compared taken as fixed.

        Args:
            mixed: variance of ``along`` by the noise of the mean of what is compared.
        """
        n = len(self.along)
        squared = _trace_of_square(self.gram)
        first = (self.along.var() - squared / (n - 1) - mixed).clamp_min(0)
        return float(4 * first / n + 2 * squared / (n * (n - 1)))


def _cross(model: Tensor, data: Tensor) -> Tensor:
    """Products of the first draws with the first events, both less their means."""
    a, b = model[:, :PAIRS_OF], data[:, :PAIRS_OF]
    return (a - a.mean(1, keepdim=True)).T @ (b - b.mean(1, keepdim=True))


def _of_draws(draws: _Sums, cross: Tensor, m: int) -> tuple[float, float]:
    """What a model's draws bring to the variance of the sum of the terms, and to that of the events' sums ``along``."""
    n = len(draws.along)
    mixed = float(cross.square().sum()) / ((cross.shape[0] - 1) * (cross.shape[1] - 1))
    return draws.bring(mixed / m) + 4 * mixed / (n * m), mixed / n


def mmd_variance(data: Tensor, model: Tensor | None = None, *, weight: float = 1.0) -> float:
    """Variance of ``weight`` times the mean of the terms of random strings, by :class:`MMDEstimate`.

    Args:
        data: signs of the strings in the events ``(K, m)``; or, without ``model``, differences as in
            :func:`paired_terms`.
        model: independent unbiased values of the strings ``(K, n)``, the draws shared by all of them.
        weight: what the mean is multiplied by.
    """
    estimate = MMDEstimate(weight)
    estimate.add(data, model)
    return estimate.variance


def _square_of_signs(mean: Tensor, m: int) -> Tensor:
    """Unbiased squares of the expectation values of signs, from the means of ``m`` of them."""
    return (m * mean.square() - 1) / (m - 1)


def _trace_of_square(gram: Tensor) -> Tensor:
    """Unbiased trace of the squared covariance of vectors with these products ``(n, n)``; never negative.

    It is the unbiased estimate of the Hilbert-Schmidt independence criterion (Song et al., 2012) of a sample with
    itself.
    """
    n = len(gram)
    rest = gram - torch.diag(gram.diagonal())
    rows = rest.sum(1)
    total = rest.square().sum() + rows.sum().square() / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows.square().sum()
    return (total / (n * (n - 3))).clamp_min(0)


def _check(values: Tensor, what: str, least: int = 2) -> None:
    if values.ndim != 2 or values.shape[1] < least:
        raise ValueError(f"values of strings have shape {tuple(values.shape)}; at least {least} {what} are needed")
