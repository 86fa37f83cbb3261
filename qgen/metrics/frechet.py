r"""Frechet and kernel physics distances, on physics features: :data:`fpd` and :data:`kpd` as jetnet defines them.

Both divide each feature by its greatest magnitude among the true events (a feature that is 0 in all of them stays as it
is) and are averaged over samples drawn with replacement. The definitions are those of 2211.10295 and of jetnet's
``evaluation.fpd`` and ``evaluation.kpd``; with fewer than 50,000 events, the sizes are scaled down.

>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 2000, 2, generator=rng, dtype=torch.float64)
>>> fpd(truth, generated).value < 0.002 < 0.01 < fpd(truth, generated + 0.5).value
True
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from qgen.metrics.base import MINIMUM_EVENTS, metric
from qgen.metrics.kernels import mean_of_pairs
from qgen.metrics.result import MetricResult
from qgen.random import derive_seed

__all__ = ["draw_sizes", "extrapolate", "fpd", "frechet_distance", "frechet_draws", "kernel_draws", "kpd"]

LARGEST = 50_000
SMALLEST_SHARE = 0.4
N_SIZES = 10
N_DRAWS = 20
N_BATCHES = 10
MOST_COLUMNS = 100
FAR = 1e70
"""Beyond this, products of covariances overflow."""


@metric(
    view="observables",
    by_default=False,
    bias=1,
    weights="signed",
    max_columns=MOST_COLUMNS,
    reference="2211.10295; jetnet's fpd",
)
def fpd(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    weights: tuple[Tensor, Tensor],
    largest: int = LARGEST,
    normalise: bool = True,
) -> MetricResult:
    r"""Frechet physics distance: squared Frechet distance of normal distributions with the features' moments.

    :func:`frechet_distance` of samples drawn with replacement, averaged over 20 draws at each of ten sizes from 20,000
    to 50,000 (``largest``), which are equally spaced in 1/size; then the value at 1/size = 0 of the straight line
    through the averages, neither its slope nor that value below 0. With fewer events than ``largest`` in a sample,
    sizes go from 0.4 of that number to all of them. Each feature is divided by its greatest magnitude in truth
    (``normalise``). The line removes the bias of the draws but not that of the samples they are drawn from, which falls
    as 1/N. The uncertainty is that of the line, which is jetnet's, and the standard deviation of the draws of the
    largest size in quadrature: the first knows nothing of how events fluctuate. Blind to all but means, variances and
    covariances.
    """
    if not isinstance(largest, int) or largest < MINIMUM_EVENTS:
        raise ValueError(f"largest is {largest}; a whole number of at least {MINIMUM_EVENTS} events is needed")
    sizes = draw_sizes(min(largest, len(truth), len(generated)))
    rng = np.random.default_rng(derive_seed(seed, "fpd"))
    draws = frechet_draws(*_frame(truth, generated, normalise), rng, sizes=sizes, weights=weights)
    value, error = extrapolate(sizes, draws.mean(1).tolist())
    return MetricResult(value, math.hypot(error, float(draws[-1].std())))


@metric(
    view="observables",
    by_default=False,
    bias=0,
    weights="signed",
    max_columns=MOST_COLUMNS,
    reference="2211.10295; jetnet's kpd",
)
def kpd(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    weights: tuple[Tensor, Tensor],
    batch: int = LARGEST // N_BATCHES,
    normalise: bool = True,
) -> MetricResult:
    r"""Kernel physics distance: squared maximum mean discrepancy with the kernel :math:`(x \cdot y / d + 1)^4`.

    The median over 10 batches of 5000 events (``batch``) of each sample, drawn with replacement; with fewer than 50,000
    events in a sample, batches of a tenth of them. Within a batch no event is compared with itself. What bias is left
    (an event may be drawn twice, and the median lies below the mean) is a tenth of the fluctuation. Each feature is
    divided by its greatest magnitude in truth (``normalise``). The uncertainty is jetnet's, half the width of the
    batches' central 68 %: that of one batch rather than of the median, so it is generous near the floor. Blind to what
    leaves all moments up to the fourth as they are.
    """
    if not isinstance(batch, int) or batch < 2:
        raise ValueError(f"batch is {batch}; a whole number of at least 2 events is needed")
    size = max(2, min(batch, len(truth) // N_BATCHES, len(generated) // N_BATCHES))
    rngs = [np.random.default_rng(derive_seed(seed, "kpd", i)) for i in range(N_BATCHES)]
    draws = kernel_draws(*_frame(truth, generated, normalise), rngs, size=size, weights=weights)
    low, median, high = np.percentile(draws.numpy(), [16.275, 50, 83.725])
    return MetricResult(float(median), float(high - low) / 2)


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    r"""Squared Frechet (Wasserstein-2) distance of normal distributions, shape ``(...)``.

    :math:`|\mu_1 - \mu_2|^2 + \mathrm{tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2})`;
    eigenvalues below 0 (rounding, or negative weights) count as 0.

    Args:
        mean: ``(..., d)``.
        covariance: ``(..., d, d)``.
        other_mean: ``(..., d)``.
        other_covariance: ``(..., d, d)``.

    >>> one, none = torch.eye(2), torch.zeros(2)
    >>> frechet_distance(none, one, none + 1, 4 * one).item()
    4.0
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT
    shared = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp_min(0).sqrt().sum(-1)
    traces = (covariance + other_covariance).diagonal(dim1=-2, dim2=-1).sum(-1)
    return (mean - other_mean).square().sum(-1) + traces - 2 * shared


def draw_sizes(largest: int) -> list[int]:
    """Ten sizes up to ``largest``, from 0.4 of it, at equal steps of ``1 / size``.

    >>> draw_sizes(50_000)
    [20000, 21428, 23076, 24999, 27272, 30000, 33333, 37499, 42857, 49999]
    """
    return [int(size) for size in 1 / np.linspace(1 / (SMALLEST_SHARE * largest), 1 / largest, N_SIZES)]


def frechet_draws(
    truth: Tensor,
    generated: Tensor,
    rng: np.random.Generator,
    *,
    sizes: list[int],
    n_draws: int = N_DRAWS,
    weights: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Frechet distances of samples drawn with replacement, shape ``(len(sizes), n_draws)``.

    Args:
        truth: ``(n, d)``.
        generated: ``(m, d)``.
        rng: draws rows of truth, rows of generated, and so on.
        sizes: of the samples.
        n_draws: of each size.
        weights: of the events, ``(n,)`` and ``(m,)``.
    """
    sides = (truth, generated)
    moments: list[list[Tensor]] = [[], [], [], []]
    for size in sizes:
        for _ in range(n_draws):
            for side, x in enumerate(sides):
                rows = torch.from_numpy(rng.choice(len(x), size=size))
                found = _moments(x[rows], None if weights is None else weights[side][rows])
                for part, value in zip(moments[2 * side : 2 * side + 2], found, strict=True):
                    part.append(value)
    return frechet_distance(*map(torch.stack, moments)).reshape(len(sizes), n_draws)


def _moments(x: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` and covariance ``(d, d)``."""
    w = x.new_ones(len(x)) if w is None else w
    mean = w @ x / w.sum()
    x = x - mean
    return mean, (w[:, None] * x).T @ x / w.sum() * (len(x) / (len(x) - 1))


def extrapolate(sizes: list[int], means: list[float]) -> tuple[float, float]:
    """Value at 1/size = 0 of the straight line in 1/size through ``means``, and its error from their scatter.

    Least squares with value and slope not below 0.

    >>> value, error = extrapolate([100, 200, 400], [0.06, 0.055, 0.0525])
    >>> round(value, 9), error < 1e-9
    (0.05, True)
    """
    x, y = 1 / np.array(sizes, dtype=float), np.array(means)
    centred = x - x.mean()
    spread = centred @ centred
    slope = max(0.0, float(centred @ y / spread))
    value = float(y.mean() - slope * x.mean())
    if value < 0:
        value, slope = 0.0, max(0.0, float(x @ y / (x @ x)))
    rest = y - value - slope * x
    variance = rest @ rest / (len(y) - 2)
    return value, float(np.sqrt(variance * (1 / len(y) + x.mean() ** 2 / spread)))


def kernel_draws(
    truth: Tensor,
    generated: Tensor,
    rngs: list[np.random.Generator],
    *,
    size: int,
    weights: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Unbiased squared maximum mean discrepancies of samples drawn with replacement, shape ``(len(rngs),)``.

    Args:
        truth: ``(n, d)``.
        generated: ``(m, d)``.
        rngs: each draws rows of truth, then rows of generated.
        size: of the samples.
        weights: of the events, ``(n,)`` and ``(m,)``.
    """
    draws = []
    for rng in rngs:
        i, j = (torch.from_numpy(rng.choice(len(x), size=size)) for x in (truth, generated))
        a, b = truth[i], generated[j]
        w, v = (truth.new_ones(size),) * 2 if weights is None else (weights[0][i], weights[1][j])
        across = w @ _quartic(a, b) @ v / (w.sum() * v.sum())
        draws.append(mean_of_pairs(_quartic(a, a), w) + mean_of_pairs(_quartic(b, b), v) - 2 * across)
    return torch.stack(draws)


def _quartic(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T).div_(a.shape[1]).add_(1).square_().square_()


def _frame(truth: Tensor, generated: Tensor, normalise: bool) -> tuple[Tensor, Tensor]:
    """Both samples in the features' scales."""
    greatest = truth.abs().amax(0)
    scale = torch.where((greatest > 0) & normalise, greatest, torch.ones_like(greatest))
    truth, generated = truth / scale, generated / scale
    if not max(truth.abs().max(), generated.abs().max()) < FAR:
        raise ValueError(f"generated values lie {FAR:.0e} or more times truth's greatest magnitude from it")
    return truth, generated
