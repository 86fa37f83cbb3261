r"""How many true events a generated sample is worth (GANplification).

A generator that smooths can describe a distribution better than the events that it learned from; one that resamples
them cannot, however many events it makes. After `2008.06545 <https://arxiv.org/abs/2008.06545>`_ space is cut in ``k``
cells of equal true probability ``1/k``, and a sample's quantile error is the mean squared difference of its shares
``x_j`` from that,

.. math:: \mathrm{error} = \frac1k \sum_j (x_j - 1/k)^2 .

``N`` true events have :math:`\langle\mathrm{error}\rangle = (1 - 1/k) / (k N)`, so a sample of some error is worth
``(1 - 1/k) / (k error)`` true events, and the amplification is that number over the training events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Amplification", "QuantileCells", "Worth", "amplification"]


@dataclass(frozen=True)
class QuantileCells:
    """Cells of equal true probability: quantiles of the first column, of the second within each of those, and so on.

    Args:
        edges: for each column the inner edges ``(cells of the columns before, per_column - 1)``.
        n_truth: true events that fixed the edges; infinite if they are those of the true distribution.

    >>> x = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> cells = QuantileCells.of(x, 4)
    >>> cells.count, cells.shares(x).mul(16).round(decimals=2).unique().tolist()
    (16, [1.0])
    """

    edges: tuple[Tensor, ...]
    n_truth: float = math.inf

    @classmethod
    def of(cls, truth: Tensor, per_column: int) -> QuantileCells:
        """From many true events ``(n, d)``, ``per_column ** d`` cells.

        Raises:
            ValueError: fewer than 2 quantiles, fewer than 10 events a cell, or a column with ties that cannot be cut.
        """
        truth = torch.as_tensor(truth, dtype=torch.float64)
        if truth.ndim != 2 or not truth.isfinite().all():
            raise ValueError(f"truth has shape {tuple(truth.shape)}; expected finite numbers, (n, d)")
        if per_column < 2:
            raise ValueError(f"{per_column} quantiles of each column; at least 2 are needed")
        n, d = truth.shape
        if n < 10 * per_column**d:
            raise ValueError(f"{n} true events for {per_column**d} cells; at least {10 * per_column**d} are needed")
        edges: list[Tensor] = []
        cells = torch.zeros(n, dtype=torch.long)
        fractions = torch.arange(1, per_column, dtype=torch.float64) / per_column
        for column in range(d):
            found = torch.stack([truth[cells == i, column].quantile(fractions) for i in range(per_column**column)])
            edges.append(found)
            cells = cells * per_column + _bins(truth[:, column], found[cells])
        made = cls(tuple(edges), n)
        if (made.shares(truth) - 1 / made.count).abs().max() > 0.5 / made.count:
            raise ValueError(f"too many equal values for {per_column} quantiles of each column")
        return made

    @classmethod
    def between(cls, edges: Sequence[float]) -> QuantileCells:
        """In one column between the inner quantiles of the true distribution itself.

        Raises:
            ValueError: no edge, or edges that do not increase.

        >>> QuantileCells.between([-0.6745, 0.0, 0.6745]).count
        4
        """
        found = torch.tensor([list(edges)], dtype=torch.float64)
        if found.shape[1] == 0 or not found.isfinite().all() or (found.diff() <= 0).any():
            raise ValueError(f"edges are {list(edges)}; finite, increasing ones are needed")
        return cls((found,))

    @property
    def count(self) -> int:
        """How many cells there are."""
        return math.prod(edges.shape[1] + 1 for edges in self.edges)

    def shares(self, events: Tensor) -> Tensor:
        """The fraction of events in each cell, ``(count,)``.

        Raises:
            ValueError: events with another number of columns.
        """
        events = torch.as_tensor(events, dtype=torch.float64)
        if events.ndim != 2 or events.shape[1] != len(self.edges) or len(events) == 0:
            raise ValueError(f"events have shape {tuple(events.shape)}; expected (n, {len(self.edges)})")
        cells = torch.zeros(len(events), dtype=torch.long)
        for column, edges in enumerate(self.edges):
            cells = cells * (edges.shape[1] + 1) + _bins(events[:, column], edges[cells])
        return torch.bincount(cells, minlength=self.count).to(torch.float64) / len(events)

    def error(self, events: Tensor) -> float:
        """Quantile error of a sample, less what is expected from the edges' own finite sample."""
        p = 1 / self.count
        return ((self.shares(events) - p) ** 2).mean().item() - p * (1 - p) / self.n_truth

    def worth(self, error: float) -> float:
        """Number of true events of which an ``error`` is the mean; infinite for one that is not positive."""
        p = 1 / self.count
        return p * (1 - p) / error if error > 0 else math.inf


@dataclass(frozen=True)
class Worth:
    """What samples of one size are worth.

    Args:
        size: events in each.
        error: mean quantile error.
        uncertainty: of that mean.
        events: number of true events of the same mean error.
        interval: of ``events``, one standard deviation of the error down and up; its end may be infinite.
        factor: ``events`` over the number of training events.
    """

    size: int
    error: float
    uncertainty: float
    events: float
    interval: tuple[float, float]
    factor: float

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.size} generated events are worth {self.events:.4g} ({low:.4g} to {high:.4g}) true ones, "
            f"{self.factor:.3g} times the training events"
        )


@dataclass(frozen=True)
class Amplification:
    """What generated samples of several sizes are worth.

    Args:
        training: the training events themselves.
        generated: samples of each size.
        cells: number of cells.
        trainings: number of trainings that are averaged over.
    """

    training: Worth
    generated: tuple[Worth, ...]
    cells: int
    trainings: int

    def __str__(self) -> str:
        return "\n".join(map(str, self.generated))


def amplification(
    cells: QuantileCells,
    trainings: Sequence[Tensor],
    generators: Sequence[Callable[[int], Tensor]],
    sizes: Sequence[int],
) -> Amplification:
    """Quantile errors of generated samples of several sizes, and how many true events they are worth.

    One training sample has fluctuations of its own that no generator can know of, so a result needs several, each with
    the generator that learned from it. Errors are averaged over them; their spread gives the uncertainty. With a single
    training it is that of a mean of ``cells - 1`` independent squares.

    Args:
        cells: of equal true probability.
        trainings: training samples of one size, ``(n, d)`` each.
        generators: for each training sample a function of the number of events that makes as many, ``(N, d)``.
        sizes: numbers of generated events.

    Raises:
        ValueError: no trainings, trainings of different sizes, not as many generators, or no positive sizes.

    >>> truth = torch.Generator().manual_seed(0)
    >>> normal = torch.distributions.Normal(0.0, 1.0)
    >>> cells = QuantileCells.between(normal.icdf(torch.linspace(0.1, 0.9, 9)).tolist())
    >>> trainings = [torch.randn(100, 1, generator=truth, dtype=torch.float64) for _ in range(20)]
    >>> fits = [lambda n, x=x: x.mean() + x.std() * torch.randn(n, 1, generator=truth).double() for x in trainings]
    >>> amplification(cells, trainings, fits, [10_000]).generated[0].factor > 2
    True
    """
    if not trainings or len({len(x) for x in trainings}) > 1:
        raise ValueError(f"trainings have {[len(x) for x in trainings]} events; samples of one size are needed")
    if len(generators) != len(trainings):
        raise ValueError(f"{len(generators)} generators for {len(trainings)} trainings; one for each is needed")
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes are {list(sizes)}; positive numbers are needed")
    n = len(trainings[0])
    generated = []
    for size in sizes:
        errors = [cells.error(_checked(generate(size), size)) for generate in generators]
        generated.append(_worth(cells, size, errors, n))
    own = _worth(cells, n, [cells.error(x) for x in trainings], n)
    return Amplification(own, tuple(generated), cells.count, len(trainings))


def _checked(events: Tensor, size: int) -> Tensor:
    if len(events) != size:
        raise ValueError(f"a generator made {len(events)} events where {size} were asked for")
    return events


def _worth(cells: QuantileCells, size: int, errors: list[float], n_training: int) -> Worth:
    values = torch.tensor(errors, dtype=torch.float64)
    mean = values.mean().item()
    if len(errors) > 1:
        uncertainty = values.std().item() / len(errors) ** 0.5
    else:
        uncertainty = abs(mean) * (2 / (cells.count - 1)) ** 0.5
    events = cells.worth(mean)
    interval = cells.worth(mean + uncertainty), cells.worth(mean - uncertainty)
    return Worth(size, mean, uncertainty, events, interval, events / n_training)


def _bins(values: Tensor, edges: Tensor) -> Tensor:
    """How many of its own edges each value has reached, ``(n,)`` of ``(n,)`` and ``(n, k - 1)``."""
    return (values[:, None] >= edges).sum(1)
