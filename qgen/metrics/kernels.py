r"""Maximum mean discrepancy: how far apart a kernel finds two samples.

.. math:: \mathrm{MMD}^2 = E\,k(x, x') + E\,k(y, y') - 2 E\,k(x, y)

for pairs of different true events ``x`` and generated events ``y``. It is estimated without bias from all pairs of at
most 2000 events (:data:`mmd`, :data:`energy_distance`), or from all events in blocks (:data:`mmd_blocks`).

>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 2000, 2, generator=rng, dtype=torch.float64)
>>> energy_distance(truth, generated).value < 0.01 < 0.1 < energy_distance(truth, generated + 0.5).value
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.columns import chosen, spread
from qgen.metrics.pairs import squared_distances
from qgen.metrics.result import MetricResult
from qgen.random import derive_seed, new_generator
from qgen.text import unknown

__all__ = ["KERNELS", "energy_distance", "mean_of_pairs", "mmd", "mmd_blocks"]

KERNELS = ("gaussian", "rational_quadratic", "laplace", "polynomial", "energy")
WIDTHS = (0.25, 0.5, 1.0, 2.0)
KERNEL_EVENTS = 2000
"""Most events of each sample that enter whole kernel matrices."""
DEGREE = 3
LEAST_BLOCKS = 10


@dataclass(frozen=True)
class _Kernel:
    """A kernel on columns in truth's standard deviations, about truth's mean.

    Args:
        name: one of :data:`KERNELS`.
        scale: truth's standard deviations ``(d,)``.
        centre: truth's mean in them ``(d,)``.
        squares: the squared widths.
    """

    name: str
    scale: Tensor
    centre: Tensor
    squares: tuple[float, ...]

    @classmethod
    def of(cls, name: str, widths: Sequence[float], scale: Tensor, truth: Tensor) -> _Kernel:
        """The kernel with its widths in median distances between different events of ``truth``."""
        if name not in KERNELS:
            raise ValueError(unknown("kernel", name, KERNELS))
        if not widths or not all(0 < width < math.inf for width in widths):
            raise ValueError(f"widths are {list(widths)}; at least one is needed, each positive and finite")
        scaled = truth / scale
        centre = scaled.mean(0)
        distances = squared_distances(scaled - centre, scaled - centre)
        apart = distances[distances > 0]
        median = float(apart.median()) if len(apart) else 1.0
        return cls(name, scale, centre, tuple(width**2 * median for width in widths))

    def frame(self, events: Tensor) -> Tensor:
        """Events ``(n, d)`` as the kernel sees them."""
        return events / self.scale - self.centre

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The matrix ``(n, m)`` of ``a`` ``(n, d)`` and ``b`` ``(m, d)``, both as from :meth:`frame`."""
        if self.name == "polynomial":
            return (a @ b.T / a.shape[1] + 1) ** DEGREE
        squared = squared_distances(a, b)
        if self.name == "energy":
            return squared.sqrt_().neg_()
        if self.name == "laplace":
            distance = squared.sqrt_()
            parts = ((distance / -math.sqrt(square)).exp_() for square in self.squares)
        elif self.name == "rational_quadratic":
            parts = ((squared / (2 * square)).add_(1).reciprocal_() for square in self.squares)
        else:
            parts = ((squared / (-2 * square)).exp_() for square in self.squares)
        total = next(parts)
        for part in parts:
            total += part
        return total.div_(len(self.squares))


@metric(view="joint", bias=0, weights="signed", reference="Gretton et al., JMLR 13 (2012) 723")
def mmd(
    truth: Tensor, generated: Tensor, seed: int, kernel: str = "gaussian", widths: Sequence[float] = WIDTHS
) -> Estimator:
    r"""Squared maximum mean discrepancy, unbiased, on features and conditions in truth's standard deviations.

    The ``kernel`` is the mean over several widths ``s``, which are ``widths`` (1/4, 1/2, 1 and 2) times the median
    distance between different truth events (1 if all are equal), of

    - ``gaussian``: :math:`\exp(-|x - y|^2 / 2 s^2)`,
    - ``rational_quadratic``: :math:`1 / (1 + |x - y|^2 / 2 s^2)`,
    - ``laplace``: :math:`\exp(-|x - y| / s)`,

    or, without a width, ``polynomial``: :math:`(x \cdot y / d + 1)^3` about truth's mean, or ``energy``:
    :math:`-|x - y|`, see :data:`energy_distance`. Of each sample at most 2000 events enter, drawn by ``seed``.
    Unbiased: no event meets itself, so the value fluctuates about 0 for a perfect generator and may be negative. Blind
    to structure much finer than the smallest width.
    """
    return _all_pairs(truth, generated, seed, kernel, widths)


@metric(
    view="joint",
    bias=0,
    weights="signed",
    by_default=False,
    unit="standard deviations of truth",
    reference="Székely & Rizzo, J. Stat. Plan. Inference 143 (2013) 1249",
)
def energy_distance(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Energy distance, unbiased, on features and conditions in truth's standard deviations.

    :math:`2 E|x - y| - E|x - x'| - E|y - y'|` with Euclidean distances between different events; no width is to be
    chosen. It is the squared maximum mean discrepancy of the kernel :math:`-|x - y|` (1207.6076). Of each sample at
    most 2000 events enter, drawn by ``seed``. Unbiased, so it may be negative. In many columns it is nearly blind to
    what leaves means and spreads as they are: dependence between columns, a mode.
    """
    return _all_pairs(truth, generated, seed, "energy", WIDTHS)


@metric(
    view="joint",
    bias=0,
    weights="signed",
    by_default=False,
    reference="Zaremba, Gretton & Blaschko, 1307.1954",
)
def mmd_blocks(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    weights: tuple[Tensor, Tensor],
    kernel: str = "gaussian",
    widths: Sequence[float] = WIDTHS,
    block: int = 1000,
) -> MetricResult:
    """Squared maximum mean discrepancy of all events, unbiased, in blocks: time and memory grow linearly.

    The samples, in an order drawn by ``seed``, are cut into blocks of about ``block`` events (at least 10 blocks), and
    only events of the same block meet. Kernels and widths are those of :data:`mmd`. The uncertainty is the jackknife's
    over the blocks. From about ``4e6 / block`` events on it is sharper than :data:`mmd`; it is blind to what that is
    blind to.
    """
    if not isinstance(block, int) or block < 2:
        raise ValueError(f"block is {block}; a whole number of at least 2 events is needed")
    n_blocks = max(LEAST_BLOCKS, min(len(truth), len(generated)) // block)
    rows = [_shuffled(len(x), seed, which) for x, which in ((truth, "truth"), (generated, "generated"))]
    made = _Kernel.of(kernel, widths, spread(truth), truth[rows[0][:KERNEL_EVENTS]])
    sums = torch.zeros(n_blocks, 3, 2, dtype=torch.float64)
    for k, (i, j) in enumerate(zip(rows[0].tensor_split(n_blocks), rows[1].tensor_split(n_blocks), strict=True)):
        a, b, w, v = made.frame(truth[i]), made.frame(generated[j]), weights[0][i], weights[1][j]
        sums[k, 0] = _pairs(made(a, a), w)
        sums[k, 1] = _pairs(made(b, b), v)
        sums[k, 2] = torch.stack([w @ made(a, b) @ v, w.sum() * v.sum()])
    means = [total[:, 0] / total[:, 1] for total in (sums.sum(0), *(sums.sum(0) - one for one in sums))]
    value, *without = [float(mean[0] + mean[1] - 2 * mean[2]) for mean in means]
    jackknife = torch.tensor(without, dtype=torch.float64).std(correction=0) * math.sqrt(n_blocks - 1)
    return MetricResult(value, float(jackknife))


def _all_pairs(truth: Tensor, generated: Tensor, seed: int, kernel: str, widths: Sequence[float]) -> Estimator:
    a_rows, b_rows = (
        chosen(len(x), KERNEL_EVENTS, seed, "mmd", which) for x, which in ((truth, "truth"), (generated, "generated"))
    )
    made = _Kernel.of(kernel, widths, spread(truth), truth[a_rows])
    a, b = made.frame(truth[a_rows]), made.frame(generated[b_rows])
    aa, ab, bb = made(a, a), made(a, b), made(b, b)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        w, v = w[a_rows], v[b_rows]
        return mean_of_pairs(aa, w) + mean_of_pairs(bb, v) - 2 * (w @ ab @ v) / (w.sum() * v.sum())

    return estimate


def _shuffled(n: int, seed: int, which: str) -> Tensor:
    return torch.randperm(n, generator=new_generator(derive_seed(seed, "mmd", which)))


def _pairs(kernel: Tensor, w: Tensor) -> Tensor:
    """Sum over pairs of different events of weights times ``kernel``, and of the weights."""
    squares = w * w
    return torch.stack([w @ kernel @ w - squares @ kernel.diagonal(), w.sum() ** 2 - squares.sum()])


def mean_of_pairs(kernel: Tensor, w: Tensor) -> Tensor:
    """Mean of ``kernel`` ``(n, n)`` over pairs of different events of weights ``w`` ``(n,)``.

    >>> mean_of_pairs(torch.tensor([[9.0, 1.0], [3.0, 9.0]]), torch.ones(2)).item()
    2.0
    """
    total, of = _pairs(kernel, w)
    return total / of
