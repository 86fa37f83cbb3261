r"""Each feature through its own empirical distribution: what is uniform is then what events are like.

A value :math:`v_j` becomes the share :math:`u_j = \hat F_j(v_j)` of the training values below it, so that a number
drawn uniformly between two values of :math:`u_j` is distributed as the training values between them. Energies that are
often 0 have the distribution of the others; 0 itself is apart, below all shares.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from qgen.data.transforms import Transform

__all__ = ["Marginals", "ZeroSuppress"]

BULK = 64
"""Equal steps of the levels between the knots."""

FINEST = 12
"""In the tails levels come closer by factors of the square root of 2, to 2 to the minus this many."""

SMALLEST_STEP = 1e-12
"""Neighbouring knots are at least so far apart, over the largest of the feature, also where events share a value."""

EMPTY = -0.5
"""Where a 0 goes that is apart from the other values."""


class Marginals(Transform):
    """Values to shares of the training values below them, linear between knots; beyond the outermost it goes on.

    The map of each feature is monotonic and its own. Where ``empty`` is set, 0 goes to -1/2, and back anything negative
    is exactly 0; log-densities there have the slope of the smallest other values.

    Args:
        levels: shares at the knots, from 0 to 1, strictly increasing, ``K`` numbers.
        knots: values at the levels, strictly increasing, ``(K, n_features)``; the lowest is 0 where ``empty`` is set.
        empty: for each feature whether 0 is apart.

    Raises:
        ValueError: levels or knots that do not increase, or a lowest knot that is not 0 where it must be.

    >>> values = torch.tensor([[0.0], [0.0], [2.0], [4.0], [6.0]]).double()
    >>> transform = Marginals.fit(values, torch.tensor([True]))
    >>> [round(u, 3) for u in transform(values).flatten().tolist()]
    [-0.5, -0.5, 0.169, 0.5, 0.833]
    >>> [round(v, 3) for v in transform.inverse(torch.tensor([[-0.2], [0.5]]).double()).flatten().tolist()]
    [0.0, 4.0]
    """

    levels: Tensor
    knots: Tensor
    empty: Tensor

    def __init__(self, levels: list[float], knots: list[list[float]], empty: list[bool]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float64))
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float64))
        self.register_buffer("empty", torch.tensor(empty, dtype=torch.bool))
        if not (self.levels.diff() > 0).all() or [levels[0], levels[-1]] != [0.0, 1.0]:
            raise ValueError("levels must increase strictly from 0 to 1")
        if self.knots.shape != (len(levels), len(empty)):
            raise ValueError(
                f"knots have shape {tuple(self.knots.shape)}; expected {(len(levels), len(empty))}, levels and features"
            )
        wrong = ~(self.knots.diff(dim=0) > 0).all(0) | (self.empty & (self.knots[0] != 0))
        if wrong.any():
            i = int(wrong.nonzero()[0])
            raise ValueError(f"knots of feature {i} must increase strictly, from 0 where the empty are apart")

    @classmethod
    def fit(cls, values: Tensor, empty: Tensor | None = None) -> Self:
        """The shares of training values: of ``m``, value ``i`` in their order is at the level ``(i + 1/2) / m``.

        Args:
            values: ``(N, n_features)``.
            empty: ``(n_features,)`` bool, the features in which 0 is apart; their values must not be negative.

        Raises:
            ValueError: a negative value of a feature in which 0 is apart (the feature is named).
        """
        n, n_features = values.shape
        empty = torch.zeros(n_features, dtype=torch.bool) if empty is None else empty
        ordered = values.T.to(torch.float64).contiguous().sort(1).values
        negative = empty & (ordered[:, 0] < 0)
        if negative.any():
            i = int(negative.nonzero()[0])
            raise ValueError(
                f"feature {i} has the value {ordered[i, 0]:g}; where the empty are apart, none is negative"
            )
        levels = _levels()
        first = torch.where(empty, (ordered == 0).sum(1), 0)[:, None]  # place of the lowest of the others
        at = levels * (n - first) - 0.5
        below = torch.minimum(at.floor().long(), n - 2 - first).clamp_min(0)
        low, high = (ordered.gather(1, (first + i).clamp_max(n - 1)) for i in (below, below + 1))
        knots = torch.lerp(low, high, at - below)
        knots = torch.where(empty[:, None] & (at < 0), (2 * at + 1) * low, knots)  # from 0 up to the lowest
        step = SMALLEST_STEP * knots.abs().amax(1, keepdim=True)
        knots += torch.where(step > 0, step, SMALLEST_STEP) * torch.arange(len(levels), dtype=knots.dtype)
        return cls(levels.tolist(), knots.T.tolist(), empty.tolist())

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``u``."""
        knots, levels, columns, place = self._places(samples)
        low = knots.gather(1, place)
        position = (columns - low) / (knots.gather(1, place + 1) - low)
        shares = torch.lerp(levels[place], levels[place + 1], position).T.to(samples)
        return torch.where(self.empty & (samples <= 0), EMPTY, shares)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``v``."""
        knots, levels, columns = self.knots.T, self.levels, values.T.to(self.levels).contiguous()
        place = (torch.searchsorted(levels, columns, right=True) - 1).clamp_(0, len(levels) - 2)
        position = (columns - levels[place]) / levels.diff()[place]
        found = torch.lerp(knots.gather(1, place), knots.gather(1, place + 1), position).T.to(values)
        return torch.where(self.empty & (values < 0), 0, found)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``sum log du/dv``, shape ``(N,)``."""
        knots, levels, _, place = self._places(samples)
        return (levels.diff().log() - knots.diff(dim=1).log()).gather(1, place).sum(0).to(samples)

    def _places(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Knots of each feature in a row, levels, values likewise, and the knot below each value; all in float64."""
        knots, columns = self.knots.T.contiguous(), samples.T.to(self.knots).contiguous()
        place = torch.searchsorted(knots, columns, right=True) - 1
        return knots, self.levels, columns, place.clamp_(0, len(self.levels) - 2)

    def arguments(self) -> dict[str, Any]:
        """The tables as lists."""
        return {name: getattr(self, name).tolist() for name in ("levels", "knots", "empty")}


class ZeroSuppress(Transform):
    """Energies below a threshold are 0; back, what is not 0 has at least the threshold.

    Args:
        threshold: in the unit of the samples, positive.

    Raises:
        ValueError: the threshold is not positive and finite.

    >>> suppress = ZeroSuppress(0.5)
    >>> suppress(torch.tensor([[0.4, 0.5]])).tolist(), suppress.inverse(torch.tensor([[0.0, 0.2]])).tolist()
    ([[0.0, 0.5]], [[0.0, 0.5]])
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        if not 0.0 < threshold < float("inf"):
            raise ValueError(f"threshold is {threshold}; it must be positive and finite")
        self.threshold = threshold

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """The samples, 0 below the threshold."""
        return torch.where(samples < self.threshold, 0, samples)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """The values, at least the threshold where they are positive."""
        return torch.where(values > 0, values.clamp_min(self.threshold), 0)

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Zeros, shape ``(N,)``."""
        return samples.new_zeros(samples.shape[0])

    def arguments(self) -> dict[str, Any]:
        """The threshold."""
        return {"threshold": self.threshold}


def _levels() -> Tensor:
    tail = 2.0 ** (-torch.arange(2 * FINEST, 12, -1, dtype=torch.float64) / 2)
    bulk = torch.linspace(0, 1, BULK + 1, dtype=torch.float64)
    return torch.cat([bulk[:1], tail, bulk[1:-1], 1 - tail.flip(0), bulk[-1:]])
