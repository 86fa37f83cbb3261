r"""PRD: precision and recall of distributions, the whole trade-off between realistic and complete (1806.00035).

Both samples, together, are put into 20 clusters by mini-batch k-means. With the shares :math:`p_c` of true and
:math:`q_c` of generated events in the clusters, each :math:`\lambda = \tan\varphi` gives a precision and a recall,

.. math:: \alpha(\lambda) = \sum_c \min(\lambda p_c, q_c), \qquad \beta(\lambda) = \alpha(\lambda) / \lambda,

at 1001 angles :math:`\varphi` from 0 to :math:`\pi/2` (the ends moved inwards by 1e-10). The curve is the mean of 10
runs. This is the definition of the authors' code, :math:`F_\beta` and the limit of recall at 1 included; what is ours
is that columns are divided by truth's standard deviations first, that runs are fixed by the seed, and that at most
10,000 events of each sample enter.

The clusters are those of the union: other generated events move the centres, so value and floor do not share them.

>>> import torch
>>> truth = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(50)[:, None]
>>> generated = torch.zeros(100, 1, dtype=torch.float64)
>>> curve = prd_curve(truth, generated)
>>> round(curve.precision.max().item(), 3), round(curve.recall.max().item(), 3)
(1.0, 0.5)
>>> round(curve.auc, 4), round(curve.f(8), 4), round(curve.f(1 / 8), 4)
(0.5, 0.5039, 0.9848)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.columns import chosen
from qgen.metrics.counting import histogram_shares
from qgen.metrics.neighbours import standardised
from qgen.random import derive_seed

__all__ = ["PRDCurve", "prd_auc", "prd_curve", "prd_f8", "prd_f_eighth", "prd_of_shares"]

CLUSTERS = 20
RUNS = 10
ANGLES = 1001
EPSILON = 1e-10
PRD_EVENTS = 10_000
"""Most events of each sample that are put into clusters."""


@dataclass(frozen=True)
class PRDCurve:
    """Precision and recall at each angle.

    Args:
        precision: ``(..., angles)``, from 0 for the first.
        recall: ``(..., angles)``, to 0 for the last.
    """

    precision: Tensor
    recall: Tensor

    @property
    def auc(self) -> float:
        """Area under precision as a function of recall."""
        return area(self).item()

    def f(self, beta: float) -> float:
        r"""Largest :math:`F_\beta = (1 + \beta^2) \alpha \beta_r / (\beta^2 \alpha + \beta_r + 10^{-10})` of the curve.

        For ``beta = 8`` it is mostly recall, for 1/8 mostly precision.
        """
        return largest_f(self, beta).item()


def area(curve: PRDCurve) -> Tensor:
    """Area under each curve by the trapezoidal rule over recall, ``(...,)``."""
    return torch.trapezoid(curve.precision.flip(-1), curve.recall.flip(-1))


def largest_f(curve: PRDCurve, beta: float) -> Tensor:
    """Largest F of each curve, ``(...,)``."""
    square = beta * beta
    return ((1 + square) * curve.precision * curve.recall / (square * curve.precision + curve.recall + EPSILON)).amax(
        -1
    )


def prd_of_shares(truth: Tensor, generated: Tensor, angles: int = ANGLES) -> PRDCurve:
    """The curve of two discrete distributions.

    Args:
        truth: shares of the cells, ``(..., cells)``, none negative, sum 1.
        generated: likewise.
        angles: at how many angles, at least 3.

    Raises:
        ValueError: fewer angles, or shares that do not add up to 1.

    >>> curve = prd_of_shares(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]), angles=11)
    >>> round(curve.precision[5].item(), 3), round(curve.recall[5].item(), 3)
    (0.5, 0.5)
    """
    if angles < 3:
        raise ValueError(f"angles is {angles}; at least 3 are needed")
    p, q = truth.to(torch.float64), generated.to(torch.float64)
    for name, shares in (("truth", p), ("generated", q)):
        if not ((shares >= 0).all() and torch.allclose(shares.sum(-1), shares.new_ones(()))):
            raise ValueError(f"{name}: shares must not be negative and must have sum 1")
    slopes = torch.linspace(EPSILON, math.pi / 2 - EPSILON, angles, dtype=torch.float64).tan()
    precision = torch.minimum(slopes[:, None] * p[..., None, :], q[..., None, :]).sum(-1)
    return PRDCurve(precision.clamp(0, 1), (precision / slopes).clamp(0, 1))


def prd_curve(
    truth: Tensor, generated: Tensor, *, clusters: int = CLUSTERS, runs: int = RUNS, seed: int = 0
) -> PRDCurve:
    """The curve of two samples, the mean of the runs.

    Args:
        truth: ``(n, d)``; its standard deviations are the units.
        generated: ``(m, d)``; of another size, clusters are more those of the larger sample.
        clusters: of the union of both.
        runs: of k-means.
        seed: fixes them and, of more than 10,000 events, the choice.

    Raises:
        ValueError: fewer than 2 clusters or 1 run.
    """
    curve = _curves(truth, generated, seed, clusters, runs)
    return curve(*(torch.ones(len(x), dtype=torch.float64) for x in (truth, generated)))


def _curves(
    truth: Tensor, generated: Tensor, seed: int, clusters: int = CLUSTERS, runs: int = RUNS
) -> Callable[[Tensor, Tensor], PRDCurve]:
    """The curve as a function of the weights of both samples."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    if clusters < 2 or runs < 1:
        raise ValueError(f"clusters is {clusters}, runs is {runs}; at least 2 clusters and 1 run are needed")
    rows = [chosen(len(x), PRD_EVENTS, seed, "prd", w) for x, w in ((truth, "t"), (generated, "g"))]
    union = torch.cat(standardised(truth, truth[rows[0]], generated[rows[1]])).numpy()
    n = len(rows[0])
    labels = []
    for run in range(runs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct events than clusters: some stay empty
            model = MiniBatchKMeans(
                min(clusters, len(union)), n_init=10, random_state=derive_seed(seed, "prd", run) % 2**32
            )
            labels.append(torch.from_numpy(model.fit(union).labels_).long() + run * clusters)
    cells = torch.stack(labels)

    def shares(of: Tensor, weights: Tensor) -> Tensor:
        masses = torch.bincount(of.flatten(), weights.repeat(runs), runs * clusters)
        return histogram_shares(masses.reshape(runs, clusters))

    def curve(w: Tensor, v: Tensor) -> PRDCurve:
        of_runs = prd_of_shares(shares(cells[:, :n], w[rows[0]]), shares(cells[:, n:], v[rows[1]]))
        return PRDCurve(of_runs.precision.mean(0), of_runs.recall.mean(0))

    return curve


@metric(
    view="joint",
    group="fidelity",
    target=1.0,
    weights="signed",
    by_default=False,
    reference="Sajjadi et al., 1806.00035",
)
def prd_auc(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Area under the curve of precision against recall of distributions, on features and conditions.

    1 if both samples fill the 20 clusters of their union alike, 0 if they share none. See :func:`prd_curve`. Blind to
    differences within a cluster. Weights count in the shares of the clusters, not in finding them; a cluster whose
    weights have a negative sum counts as empty.
    """
    curve = _curves(truth, generated, seed)
    return lambda w, v: area(curve(w, v))


@metric(
    view="joint",
    group="fidelity",
    target=1.0,
    weights="signed",
    by_default=False,
    reference="Sajjadi et al., 1806.00035",
)
def prd_f8(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Largest F8 of precision and recall of distributions: mostly recall, whether all of truth is generated.

    Otherwise as :func:`prd_auc`. Nearly blind to noise beside truth.
    """
    curve = _curves(truth, generated, seed)
    return lambda w, v: largest_f(curve(w, v), 8)


@metric(
    view="joint",
    group="fidelity",
    target=1.0,
    weights="signed",
    by_default=False,
    reference="Sajjadi et al., 1806.00035",
)
def prd_f_eighth(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Largest F1/8 of precision and recall of distributions: mostly precision, whether generated events are realistic.

    Otherwise as :func:`prd_auc`. Nearly blind to what is missing.
    """
    curve = _curves(truth, generated, seed)
    return lambda w, v: largest_f(curve(w, v), 1 / 8)
