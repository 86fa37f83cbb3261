"""Whether uncertainties are right: coverage over repeated samples, and the spread over repeated trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.base import Metric
from qgen.metrics.counting import ONE_SIGMA
from qgen.metrics.result import MetricResult

__all__ = ["Calibration", "SeedSpread", "calibration", "combine_seeds"]


@dataclass(frozen=True)
class Calibration:
    """How a metric's uncertainty compares with the true spread of its value over repeated samples.

    Args:
        mean: of the value.
        spread: true standard deviation of the value.
        uncertainty: root mean square of those stated.
        coverage: how often value ± uncertainty holds the mean; 0.683 if uncertainties are right.
        interval: of ``coverage``, 68.3 % confidence (Clopper-Pearson).
        pull: standard deviation of (value - mean) / uncertainty; 1 if uncertainties are right.
        repeats: of the experiment.
    """

    mean: float
    spread: float
    uncertainty: float
    coverage: float
    interval: tuple[float, float]
    pull: float
    repeats: int

    @property
    def ratio(self) -> float:
        """Stated over true uncertainty; nan if the value never changes."""
        return self.uncertainty / self.spread if self.spread > 0 else math.nan

    def __str__(self) -> str:
        low, high = self.interval
        return f"coverage {self.coverage:.2f} ({low:.2f} to {high:.2f}), stated over true uncertainty {self.ratio:.2f}"


def calibration(
    metric: Metric,
    draw: Callable[[int], tuple[Dataset | Tensor, Dataset | Tensor]],
    repeats: int = 100,
    **settings: Any,
) -> Calibration:
    """Score independent pairs of samples again and again, and compare the spread with the uncertainties.

    The mean over the repeats stands for the expected value at this number of events, its finite-sample bias included:
    an uncertainty says how far the value may be off that, not off the value for infinitely many events.

    Args:
        metric: the metric.
        draw: of the number of the repeat, 0 and up, a new pair of truth and generated events.
        repeats: how often.
        settings: of the metric's call: ``n_bootstrap``, ``training``, options.

    Raises:
        ValueError: fewer than 10 repeats.

    >>> from qgen.metrics import wasserstein
    >>> def draw(k):
    ...     truth, generated = torch.randn(2, 200, 1, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    ...     return truth, generated + 1
    >>> 0.5 < calibration(wasserstein, draw, repeats=50).coverage < 0.85
    True
    """
    from scipy.stats import beta

    if repeats < 10:
        raise ValueError(f"repeats is {repeats}; at least 10 are needed")
    results = [metric(*draw(k), seed=k, **settings) for k in range(repeats)]
    values = torch.tensor([r.value for r in results], dtype=torch.float64)
    stated = torch.tensor([r.uncertainty for r in results], dtype=torch.float64)
    mean = values.mean()
    # the mean holds each value itself, so deviations from it are too small by this
    deviations = (values - mean) / (1 - 1 / repeats) ** 0.5
    inside = int((deviations.abs() <= stated).sum())
    tail = (1 - ONE_SIGMA) / 2
    low = float(beta.ppf(tail, inside, repeats - inside + 1)) if inside > 0 else 0.0
    high = float(beta.ppf(1 - tail, inside + 1, repeats - inside)) if inside < repeats else 1.0
    sure = stated > 0
    pulls = deviations[sure] / stated[sure]
    return Calibration(
        mean=mean.item(),
        spread=values.std().item(),
        uncertainty=stated.square().mean().sqrt().item(),
        coverage=inside / repeats,
        interval=(low, high),
        pull=pulls.square().mean().sqrt().item() if len(pulls) else math.nan,
        repeats=repeats,
    )


@dataclass(frozen=True)
class SeedSpread:
    """A metric's value over trainings that differ by their seeds alone.

    Args:
        value: mean over the trainings.
        uncertainty: of that mean, of true and generated events and of the trainings.
        finite_sample: uncertainty of a single value that is due to finite samples.
        training: standard deviation between trainings beyond what finite samples explain, 0 if they explain all.
        single: uncertainty of the value of one new training.
        trainings: how many.
    """

    value: float
    uncertainty: float
    finite_sample: float
    training: float
    single: float
    trainings: int

    def __str__(self) -> str:
        return (
            f"{self.value:.4g} ± {self.uncertainty:.2g} "
            f"(finite samples {self.finite_sample:.2g}, training {self.training:.2g})"
        )


def combine_seeds(results: Sequence[MetricResult]) -> SeedSpread:
    r"""The value over several trainings, with the uncertainties of finite samples and of the training apart.

    All trainings are scored against the same true events, so their fluctuation ``u_t`` is common to all values and does
    not average out, while that of generated events ``u_g`` and the training's ``s_t`` do. The values' variance is
    :math:`s^2 = s_t^2 + u_g^2`. Samples have the same sizes, and either is taken to have half of the stated variance:
    :math:`u_t^2 = u_g^2 = u^2 / 2`. The mean of ``K`` trainings then has the variance :math:`u^2 / 2 + s^2 / K`, and a
    single new training :math:`u^2 / 2 + s^2`.

    Args:
        results: of one metric, one for each training.

    Raises:
        ValueError: fewer than 2 results.

    >>> print(combine_seeds([MetricResult(0.30, 0.02), MetricResult(0.34, 0.02), MetricResult(0.32, 0.02)]))
    0.32 ± 0.018 (finite samples 0.02, training 0.014)
    """
    if len(results) < 2:
        raise ValueError(f"{len(results)} results; at least 2 trainings are needed for a spread")
    values = torch.tensor([r.value for r in results], dtype=torch.float64)
    stated = torch.tensor([r.uncertainty for r in results], dtype=torch.float64).square().mean().item()
    variance = values.var().item()
    return SeedSpread(
        value=values.mean().item(),
        uncertainty=(stated / 2 + variance / len(results)) ** 0.5,
        finite_sample=stated**0.5,
        training=max(variance - stated / 2, 0.0) ** 0.5,
        single=(stated / 2 + variance) ** 0.5,
        trainings=len(results),
    )
