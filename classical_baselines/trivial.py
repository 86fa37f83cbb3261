r"""The models that every claim must beat; they are fitted in closed form when they are built.

- :class:`ResampledHistogram`: the joint histogram, resampled. With fine cells, the training events themselves.
- :class:`IndependentMarginals`: every feature on its own, :math:`p(x|c) = \prod_i p_i(x_i|c)`. What a model without any
  correlation reaches at best.
- :class:`GaussianCopula`: the same marginals with linear correlation of their normal scores (Sklar's
  theorem).

All work in the transform's space, in which most of the condition's effect is already taken out, and are fitted apart in
groups of events with similar conditions: one group for each value of the condition where these are few, else bins with
equal numbers of events. They have no trainable parameters; ``n_parameters`` counts the numbers fitted to the events.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from annotated_types import Ge, Le
from torch import Tensor

from classical_baselines.cells import PEAK_WIDTH, ConditionBins, QuantileMarginals, locate, quantiles
from qgen.data.dataset import Dataset
from qgen.data.transforms import Transform
from qgen.generator import Generator
from qgen.random import normal, uniform

__all__ = ["GaussianCopula", "IndependentMarginals", "ResampledHistogram"]

MOST_BINS = 10_000
"""Most bins or knots of a feature or condition: more than events could fill."""

SHRINKAGE = 1e-6
SHARED = 0.01


class ResampledHistogram(Generator):
    """Joint histogram of the training events: a cell is drawn by its frequency, a value uniformly within the cell.

    Every feature is cut into ``bins`` cells; only products of cells that hold events are stored. Built by
    :meth:`for_dataset`; the constructor alone gives one uniform cell for a state to be loaded into.

    Args:
        n_features: columns of a sample.
        n_conditions: columns of a condition, 0 for an unconditional model.
        bins: cells of each feature.
        occupied: number of occupied products of cells, summed over the groups of conditions.
        condition_bins: bins of each column of the condition.
        n_groups: groups of conditions.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    >>> import torch
    >>> from qgen.data.dataset import Dataset, Feature
    >>> x = torch.tensor([[0.0], [0.0], [0.0], [1.0]]).repeat(50, 1)
    >>> model = ResampledHistogram.for_dataset(Dataset(x, (Feature("x"),)), bins=2)
    >>> bool(model.sample(1000).min() >= 0), model.n_parameters
    (True, 4)
    """

    has_log_prob = True
    trains: ClassVar[bool] = False
    edges: Tensor
    cells: Tensor
    group: Tensor
    mass: Tensor

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        bins: int = 1,
        occupied: int = 1,
        condition_bins: int = 1,
        n_groups: int = 1,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        _check_positive(bins=bins, occupied=occupied, condition_bins=condition_bins, n_groups=n_groups)
        self.bins = ConditionBins(n_conditions, condition_bins, n_groups)
        self.register_buffer("edges", torch.linspace(0, 1, bins + 1, dtype=torch.float64).repeat(n_features, 1))
        self.register_buffer("cells", torch.zeros(occupied, n_features, dtype=torch.long))
        self.register_buffer("group", torch.zeros(occupied, dtype=torch.long))
        self.register_buffer("mass", torch.full((occupied,), 1 / occupied, dtype=torch.float64))

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        bins: Annotated[int, Ge(1), Le(MOST_BINS)] = 32,
        edges: Literal["linear", "quantile"] = "linear",
        condition_bins: Annotated[int, Ge(1), Le(MOST_BINS)] = 8,
    ) -> Self:
        """The histogram of the training events.

        Args:
            dataset: its ``train`` split is counted.
            seed: of no effect, nothing is random.
            bins: cells of each feature.
            edges: cells of equal width, or of equal numbers of events. With equal width, a lowest value that more
                than 1 % of the events share exactly (an empty pixel) is a cell of its own.
            condition_bins: largest number of groups of conditions.

        Raises:
            ValueError: an impossible option.
        """
        _check_positive(bins=bins, condition_bins=condition_bins)
        if edges not in ("linear", "quantile"):
            raise ValueError(f"edges is {edges!r}; allowed are 'linear' and 'quantile'")
        values, condition_groups, group = _training_values(dataset, condition_bins)
        if edges == "linear":
            of_features = _linear_edges(values, bins)
        else:
            of_features = quantiles(values, torch.linspace(0, 1, bins + 1)).T.contiguous()
        keys = torch.cat([group[:, None], locate(of_features, values)[0]], dim=1)
        occupied, counts = keys.unique(dim=0, return_counts=True)
        model = cls(
            dataset.n_features,
            dataset.n_conditions,
            bins=bins,
            occupied=len(occupied),
            condition_bins=condition_groups.n_bins,
            n_groups=condition_groups.n_groups,
            transform=dataset.transform,
            condition_transform=dataset.condition_transform,
        )
        model.bins = condition_groups
        model.edges.copy_(of_features)
        model.cells.copy_(occupied[:, 1:])
        model.group.copy_(occupied[:, 0])
        model.mass.copy_(counts / group.bincount()[occupied[:, 0]])
        model.saw(dataset.train.conditions)
        return model

    def arguments(self) -> dict[str, Any]:
        """Columns and the sizes of what is stored."""
        return {
            "n_features": self.n_features,
            "n_conditions": self.n_conditions,
            "bins": self.edges.shape[1] - 1,
            "occupied": len(self.mass),
            "condition_bins": self.bins.n_bins,
            "n_groups": self.bins.n_groups,
        }

    @property
    def n_parameters(self) -> int:
        """Frequencies of occupied cells, less one for each group, and edges, those of the conditions included."""
        return len(self.mass) - self.bins.n_groups + self.edges.numel() + self.bins.edges.numel()

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        group = self.bins(condition, n)
        draws = uniform((n, 1 + self.n_features), generator, dtype=self.mass.dtype, device=self.device)
        # the groups' cells lie one after the other and each group has unit mass
        first = torch.searchsorted(self.group, group)
        last = torch.searchsorted(self.group, group, right=True) - 1
        chosen = torch.searchsorted(self.mass.cumsum(0), draws[:, 0] + group, right=True)
        low, high = self._walls(self.cells[chosen.clamp(first, last)])
        return torch.lerp(low, high, draws[:, 1:])

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        values = values.to(self.edges)
        cells = locate(self.edges, values)[0]
        low, high = self._walls(cells)
        keys = torch.cat([self.bins(condition, len(values))[:, None], cells], dim=1)
        known = torch.cat([self.group[:, None], self.cells], dim=1)
        names, index = torch.cat([known, keys]).unique(dim=0, return_inverse=True)
        mass = self.mass.new_zeros(len(names)).index_put((index[: len(known)],), self.mass)[index[len(known) :]]
        outside = ((values < low) | (values > high)).any(1)
        width = torch.where(high > low, high - low, PEAK_WIDTH)
        return mass.masked_fill(outside, 0).log() - width.log().sum(1)

    def _walls(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.arange(self.n_features, device=cells.device)
        return self.edges[features, cells], self.edges[features, cells + 1]


class IndependentMarginals(Generator):
    """Every feature drawn on its own from its quantile function in the training events.

    Built by :meth:`for_dataset`; the constructor alone gives a uniform model for a state to be loaded into.

    Args:
        n_features: columns of a sample.
        n_conditions: columns of a condition, 0 for an unconditional model.
        knots: knots of each quantile function.
        condition_bins: bins of each column of the condition.
        n_groups: groups of conditions.
        transform: physical units to order one.
        condition_transform: the same for conditions.

    >>> import torch
    >>> from qgen.data.dataset import Dataset, Feature
    >>> x = torch.linspace(0, 1, 1000)[:, None].expand(-1, 2)
    >>> model = IndependentMarginals.for_dataset(Dataset(x, (Feature("a"), Feature("b"))))
    >>> generator = torch.Generator().manual_seed(0)
    >>> bool(model.sample(10_000, generator=generator).T.corrcoef()[0, 1].abs() < 0.05)
    True
    """

    has_log_prob = True
    trains: ClassVar[bool] = False

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        knots: int = 2,
        condition_bins: int = 1,
        n_groups: int = 1,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        _check_positive(condition_bins=condition_bins, n_groups=n_groups)
        if knots < 2:
            raise ValueError(f"knots is {knots}; at least 2 are needed")
        self.bins = ConditionBins(n_conditions, condition_bins, n_groups)
        self.marginals = QuantileMarginals(n_groups, n_features, knots)

    @classmethod
    def for_dataset(
        cls,
        dataset: Dataset,
        *,
        seed: int = 0,
        knots: Annotated[int, Ge(2), Le(MOST_BINS)] = 101,
        condition_bins: Annotated[int, Ge(1), Le(MOST_BINS)] = 8,
    ) -> Self:
        """The marginals (and for the copula the correlation) of the training events.

        Args:
            dataset: its ``train`` split is fitted.
            seed: of no effect, nothing is random.
            knots: knots of each quantile function.
            condition_bins: largest number of groups of conditions.

        Raises:
            ValueError: an impossible option.
        """
        _check_positive(condition_bins=condition_bins)
        values, condition_groups, group = _training_values(dataset, condition_bins)
        model = cls(
            dataset.n_features,
            dataset.n_conditions,
            knots=knots,
            condition_bins=condition_groups.n_bins,
            n_groups=condition_groups.n_groups,
            transform=dataset.transform,
            condition_transform=dataset.condition_transform,
        )
        model.bins = condition_groups
        model.marginals = QuantileMarginals.fit(values, group, condition_groups.n_groups, knots)
        model._fit_dependence(values, group)
        model.saw(dataset.train.conditions)
        return model

    def _fit_dependence(self, values: Tensor, group: Tensor) -> None:
        """Nothing here: the features are independent."""

    def arguments(self) -> dict[str, Any]:
        """Columns and the sizes of what is stored."""
        return {
            "n_features": self.n_features,
            "n_conditions": self.n_conditions,
            "knots": len(self.marginals.levels),
            "condition_bins": self.bins.n_bins,
            "n_groups": self.bins.n_groups,
        }

    @property
    def n_parameters(self) -> int:
        """Knots of the quantile functions and edges between the groups of conditions."""
        return self.marginals.knots.numel() + self.bins.edges.numel()

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        return self.marginals.quantile(self._draw_levels(n, generator), self.bins(condition, n))

    def _draw_levels(self, n: int, generator: torch.Generator) -> Tensor:
        return uniform((n, self.n_features), generator, dtype=torch.float64, device=self.device)

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        group = self.bins(condition, len(values))
        return self.marginals.cdf_and_log_density(values.to(torch.float64), group)[1].sum(1)


class GaussianCopula(IndependentMarginals):
    r"""Marginals of the training events, bound together by a Gaussian copula.

    With :math:`z_i = \Phi^{-1}(F_i(x_i))` normal with correlation matrix :math:`R`,

    .. math:: p(x) = \frac{\mathcal N(z; 0, R)}{\mathcal N(z; 0, 1)} \prod_i p_i(x_i) .

    :math:`R` is that of the ranks' normal scores, taken within the groups of conditions and the same in all of them,
    shrunk by one part in a million towards the unit matrix so that it is always invertible. Arguments and options are
    those of :class:`IndependentMarginals`.

    >>> import torch
    >>> from qgen.data.dataset import Dataset, Feature
    >>> x = torch.linspace(0, 1, 1000)[:, None].expand(-1, 2)
    >>> model = GaussianCopula.for_dataset(Dataset(x, (Feature("a"), Feature("b"))))
    >>> bool(model.sample(100).T.corrcoef()[0, 1] > 0.99)
    True
    """

    cholesky: Tensor

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        knots: int = 2,
        condition_bins: int = 1,
        n_groups: int = 1,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(
            n_features,
            n_conditions,
            knots=knots,
            condition_bins=condition_bins,
            n_groups=n_groups,
            transform=transform,
            condition_transform=condition_transform,
        )
        self.register_buffer("cholesky", torch.eye(n_features, dtype=torch.float64))

    def _fit_dependence(self, values: Tensor, group: Tensor) -> None:
        scores = torch.empty_like(values)
        for g in range(self.bins.n_groups):
            scores[group == g] = _normal_scores(values[group == g])
        covariance = scores.T @ scores
        scale = covariance.diagonal().sqrt()
        scale = torch.where(scale > 0, scale, 1.0)
        correlation = covariance / scale[:, None] / scale
        correlation = (1 - SHRINKAGE) * correlation
        correlation.fill_diagonal_(1.0)
        self.cholesky.copy_(torch.linalg.cholesky(correlation))

    @property
    def correlation(self) -> Tensor:
        """Correlation matrix of the normal scores, ``(n_features, n_features)``."""
        return self.cholesky @ self.cholesky.T

    @property
    def n_parameters(self) -> int:
        """Those of the marginals and one for each pair of features."""
        return super().n_parameters + self.n_features * (self.n_features - 1) // 2

    def _draw_levels(self, n: int, generator: torch.Generator) -> Tensor:
        scores = normal((n, self.n_features), generator, dtype=torch.float64, device=self.device)
        return torch.special.ndtr(scores @ self.cholesky.T)

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        group = self.bins(condition, len(values))
        cdf, log_density = self.marginals.cdf_and_log_density(values.to(torch.float64), group)
        scores = torch.special.ndtri(cdf.clamp(1e-15, 1 - 1e-15))
        independent = torch.linalg.solve_triangular(self.cholesky, scores.T, upper=False).T
        log_copula = (scores.square() - independent.square()).sum(1) / 2 - self.cholesky.diagonal().log().sum()
        return log_copula + log_density.sum(1)


def _training_values(dataset: Dataset, n_groups: int) -> tuple[Tensor, ConditionBins, Tensor]:
    """Values ``(N, n_features)``, groups of conditions, and the group of each event."""
    train = dataset.train
    values = dataset.transform(train.samples, train.conditions)
    condition = dataset.condition_transform(train.conditions)
    bins = ConditionBins.fit(condition, n_groups)
    return values, bins, bins(condition if dataset.n_conditions else None, len(values))


def _linear_edges(values: Tensor, bins: int) -> Tensor:
    """Edges of cells of equal width, ``(n_features, bins + 1)``; an edge stands twice at a shared lowest value."""
    low, high = values.amin(0)[:, None], values.amax(0)[:, None]
    edges = torch.lerp(low, high, torch.linspace(0, 1, bins + 1, dtype=torch.float64))
    with_peak = torch.cat([low, torch.lerp(low, high, torch.linspace(0, 1, bins, dtype=torch.float64))], dim=1)
    shared = (values == low.T).to(torch.float64).mean(0) > SHARED
    return torch.where(shared[:, None], with_peak, edges)


def _normal_scores(values: Tensor) -> Tensor:
    """Normal quantiles of each column's ranks, equal values sharing their mean rank."""
    columns = values.T.contiguous()
    ordered = columns.sort(1).values
    rank = (torch.searchsorted(ordered, columns) + torch.searchsorted(ordered, columns, right=True)) / 2
    return torch.special.ndtri(rank.to(torch.float64) / len(values)).T


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; at least 1 is needed")
