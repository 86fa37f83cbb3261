"""An objective on the correlations between features."""

from __future__ import annotations

from torch import Tensor

from qgen.generator import Generator, WeightedEvents
from qgen.training.objectives import Batch, EventObjective, check_differentiable

__all__ = ["Correlation", "pearson"]

SMALLEST_VARIANCE = 1e-12
"""Variances below it count as it: a constant column correlates with nothing."""


class Correlation(EventObjective):
    r"""Mean squared difference between the Pearson correlations of generated and of true events.

    .. math:: \frac{1}{|P|} \sum_{(i, j) \in P} (\rho_{ij} - \hat\rho_{ij})^2

    over the pairs :math:`P` of two features and of a feature and a condition; weights of events count. It says nothing
    of means, widths and shapes: it is meant as a part of a :class:`~qgen.training.Mixture`. Estimates from n events are
    off by order 1/n on average.

    Raises:
        ValueError: a single feature without a condition, or a generator whose events have no gradient.
    """

    def prepare(self, generator: Generator, train: Batch, seed: int) -> None:
        """Check that there is something to correlate, and a gradient."""
        if generator.n_features + generator.n_conditions < 2:
            raise ValueError(
                "Correlation needs two features, or a feature and a condition; the events have one feature"
            )
        check_differentiable("Correlation", generator, train)

    def on_events(self, events: WeightedEvents, batch: Batch) -> Tensor:
        """The mean over the pairs."""
        columns = events.values.shape[1]
        difference = pearson(events)[:columns] - pearson(batch.events())[:columns]
        return difference.triu(1).square().sum() / difference.new_ones(difference.shape).triu(1).sum()


def pearson(events: WeightedEvents) -> Tensor:
    """Pearson correlations between all columns, those of the conditions last, ``(columns, columns)``.

    >>> import torch
    >>> values = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    >>> pearson(WeightedEvents(values, torch.tensor([0.5, 0.5]), None, draws=2)).round()
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    weights = (events.weights / events.weights.sum())[:, None]
    joint = events.joint()
    centred = joint - (weights * joint).sum(0)
    covariance = (weights * centred).T @ centred
    width = covariance.diagonal().clamp_min(SMALLEST_VARIANCE).sqrt()
    return covariance / (width[:, None] * width)
