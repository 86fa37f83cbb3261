r"""Events as nearly independent standard normal numbers: marginals straightened, correlations turned away.

One step of Gaussianisation (Chen & Gopinath, NIPS 2000; 0811.4117). For a value :math:`v_j` under the condition
:math:`c`,

.. math:: s_j = \Phi^{-1} \hat F_j \Bigl( \frac{v_j - \mu_j(c)}{\sigma_j(c)} \Bigr), \qquad y = W s,

with :math:`\mu` and :math:`\log \sigma` polynomials in the condition, :math:`\hat F` the empirical distribution of the
standardised training events, and :math:`W` the rotation and scaling that make the covariance of :math:`s` one. Normal
numbers sent backwards are a Gaussian copula; a model of what :math:`y` really is describes what that copula misses.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from qgen.data.transforms import Transform

__all__ = ["Gaussianise", "NormalCDF"]

MEAN_DEGREE, WIDTH_DEGREE = 3, 2
KNOTS = 129
SMALLEST_STEP = 1e-9
"""Neighbouring knots are at least so far apart, in standard deviations, also where many events share a value."""


class NormalCDF(Transform):
    """The cumulative distribution of the standard normal, feature by feature: normal numbers become uniform in [0, 1].

    >>> NormalCDF()(torch.zeros(1, 1)).item()
    0.5
    """

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Probability below each value."""
        return torch.special.ndtr(samples)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """The normal quantile; 0 and 1 stand for the outermost finite ones."""
        edge = torch.finfo(values.dtype).eps
        return torch.special.ndtri(values.clamp(edge, 1 - edge))

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log density of the standard normal, summed over the features, shape ``(N,)``."""
        return -(0.5 * samples.square() + 0.5 * math.log(2 * math.pi)).sum(1)

    def arguments(self) -> dict[str, Any]:
        """No arguments."""
        return {}


class Gaussianise(Transform):
    """Values to nearly independent standard normal numbers, given the condition.

    Beyond the outermost knots the map goes on linearly; beyond the conditions of the fit it stays what it is at their
    edge.

    Args:
        conditions: of each column of the condition, lowest and highest value of the fit.
        mean: coefficients of the mean's polynomial, ``(1 + 3 n_conditions, n_features)``.
        log_width: coefficients of the width's logarithm, ``(1 + 2 n_conditions, n_features)``.
        knots: standardised values at the normal scores of the levels ``(i + 1/2) / K``, ascending,
            ``(K, n_features)``.
        whitening: ``W`` transposed, ``(n_features, n_features)``, invertible.

    >>> rng = torch.Generator().manual_seed(0)
    >>> values = torch.randn(1000, 2, generator=rng, dtype=torch.float64).cumsum(1).exp()
    >>> torch.allclose(Gaussianise.fit(values)(values).T.cov(), torch.eye(2, dtype=torch.float64), atol=0.01)
    True
    """

    conditions: Tensor
    mean: Tensor
    log_width: Tensor
    knots: Tensor
    whitening: Tensor
    scores: Tensor

    def __init__(
        self,
        conditions: list[list[float]],
        mean: list[list[float]],
        log_width: list[list[float]],
        knots: list[list[float]],
        whitening: list[list[float]],
    ) -> None:
        super().__init__()
        for name, table in (("mean", mean), ("log_width", log_width), ("knots", knots), ("whitening", whitening)):
            self.register_buffer(name, torch.tensor(table, dtype=torch.float64))
        self.register_buffer("conditions", torch.tensor(conditions, dtype=torch.float64).reshape(-1, 2))
        self.register_buffer("scores", torch.special.ndtri(_levels(len(knots))))

    @classmethod
    def fit(cls, values: Tensor, condition: Tensor | None = None) -> Self:
        """The map for training events.

        Args:
            values: ``(N, n_features)``.
            condition: ``(N, n_conditions)``, or None.

        Raises:
            ValueError: fewer than 20 events, a constant feature, or features that are linearly dependent.
        """
        n, n_features = values.shape
        condition = values.new_empty(n, 0) if condition is None else condition
        if n < 20:
            raise ValueError(f"{n} events; at least 20 are needed for a Gaussianisation")
        for i, (low, high) in enumerate(zip(values.amin(0).tolist(), values.amax(0).tolist(), strict=True)):
            if low == high:
                raise ValueError(f"feature {i} is constant ({low:g}); it cannot be made normal")
        ranges = torch.stack([condition.amin(0), condition.amax(0)], dim=1)
        powers = _powers(condition, ranges, MEAN_DEGREE)
        mean = _least_squares(powers, values)
        away = values - powers @ mean
        overall = away.square().mean(0).sqrt()
        powers = _powers(condition, ranges, WIDTH_DEGREE)
        log_width = _least_squares(powers, (away.abs() + 1e-3 * overall).log())
        standard = away / (powers @ log_width).exp()
        unit = standard.square().mean(0).sqrt()
        log_width[0] += unit.log()
        standard = standard / unit
        count = min(KNOTS, max(8, n // 8))
        knots = torch.from_numpy(
            np.quantile(standard.numpy(), _levels(count).numpy(), axis=0)
        )  # torch's takes 2**24 at most
        knots = knots + SMALLEST_STEP * torch.arange(count, dtype=knots.dtype)[:, None]
        tables = ranges.tolist(), mean.tolist(), log_width.tolist(), knots.tolist()
        straight = cls(*tables, whitening=torch.eye(n_features).tolist())(values, condition)
        variances, axes = torch.linalg.eigh(straight.T.cov().reshape(n_features, n_features))
        if variances.min() <= 1e-12 * variances.max():
            raise ValueError("features are linearly dependent; leave one out")
        return cls(*tables, whitening=(axes / variances.sqrt()).flip(1).tolist())

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``y``, the strongest direction first."""
        return self._scores(samples, condition)[0] @ self.whitening.to(samples)

    def inverse(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """``v``."""
        scores = values @ torch.linalg.inv(self.whitening).to(values)
        cell, position = _place(self.scores.to(values)[:, None].expand_as(self.knots), scores)
        low, high = self.knots.to(values).gather(0, cell), self.knots.to(values).gather(0, cell + 1)
        mean, width = self._moments(condition, values)
        return mean + width * (low + position * (high - low))

    def log_abs_det(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """``log |det W| + sum log ds/dv``, shape ``(N,)``."""
        turned = torch.linalg.slogdet(self.whitening).logabsdet.to(samples)
        return turned + self._scores(samples, condition)[1].log().sum(1)

    def _scores(self, samples: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """``s`` and ``ds/dv``, both ``(N, n_features)``."""
        mean, width = self._moments(condition, samples)
        knots, scores = self.knots.to(samples), self.scores.to(samples)
        cell, position = _place(knots, (samples - mean) / width)
        low, high = scores[cell], scores[cell + 1]
        slope = (high - low) / (knots.gather(0, cell + 1) - knots.gather(0, cell)) / width
        return low + position * (high - low), slope

    def _moments(self, condition: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        n_conditions = len(self.conditions)
        if n_conditions and (condition is None or condition.shape[1] != n_conditions):
            found = "none" if condition is None else f"shape {tuple(condition.shape)}"
            raise ValueError(f"Gaussianise needs a condition of {n_conditions} columns, found {found}")
        given = like.new_empty(len(like), 0) if condition is None or not n_conditions else condition.to(like)
        ranges = self.conditions.to(like)
        mean = _powers(given, ranges, MEAN_DEGREE) @ self.mean.to(like)
        return mean, (_powers(given, ranges, WIDTH_DEGREE) @ self.log_width.to(like)).exp()

    def arguments(self) -> dict[str, Any]:
        """The tables as lists."""
        return {
            name: getattr(self, name).tolist() for name in ("conditions", "mean", "log_width", "knots", "whitening")
        }


def _levels(count: int) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _powers(condition: Tensor, ranges: Tensor, degree: int) -> Tensor:
    """One and the powers of each condition, ``(N, 1 + degree * n_conditions)``; the range of the fit is [-1, 1]."""
    low, high = ranges.unbind(1)
    positive = low > 0  # an energy acts through its logarithm
    safe = torch.where(positive, condition.clamp_min(torch.finfo(condition.dtype).tiny).log(), condition)
    low, high = torch.where(positive, low.clamp_min(1e-300).log(), low), torch.where(positive, high.log(), high)
    middle, half = (low + high) / 2, ((high - low) / 2).clamp_min(1e-300)
    scaled = ((safe - middle) / half).clamp(-1, 1)
    one = condition.new_ones(len(condition), 1)
    return torch.cat([one, *(scaled**power for power in range(1, degree + 1))], dim=1)


def _least_squares(powers: Tensor, values: Tensor) -> Tensor:
    """Coefficients of the smallest norm: a condition with few distinct values does not fix all powers."""
    return torch.linalg.pinv(powers) @ values


def _place(knots: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The cell of each value between knots ``(K, d)``, counted from 0, and the place in it; outside it goes on."""
    columns = values.T.contiguous()
    cell = (torch.searchsorted(knots.T.contiguous(), columns, right=True).T - 1).clamp(0, len(knots) - 2)
    low, high = knots.gather(0, cell), knots.gather(0, cell + 1)
    return cell, (values - low) / (high - low)
