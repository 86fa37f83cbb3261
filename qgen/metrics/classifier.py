"""Classifier two-sample test: can a classifier tell generated events from true ones?

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 1000, 2, generator=rng, dtype=torch.float64)
>>> classifier_auc(truth, generated + 1).value > 0.8
True
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from qgen.metrics.base import WithPValue, metric
from qgen.random import derive_seed, new_generator

__all__ = ["auc", "auc_variance", "classifier_auc", "fit_trees", "p_above_half", "score"]

CLASSIFIER_EVENTS = 10_000
"""Most events of each sample that the classifier is shown."""
N_FOLDS = 5
SHARING = (1 + N_FOLDS / (N_FOLDS - 1)) ** 0.5
"""By how much folds that share training events fluctuate more than independent ones (an upper bound)."""


@metric(
    view="joint",
    group="tests",
    target=0.5,
    reference="Lopez-Paz & Oquab, 1610.06545; 2106.05285 for calorimeter showers",
    max_columns=1000,
    inflation=SHARING,
)
def classifier_auc(truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor]) -> WithPValue:
    """Area under the ROC curve of a classifier of true against generated, on features and conditions.

    0.5 if it cannot tell them apart, 1 if it always can. Gradient-boosted trees (scikit-learn's
    ``HistGradientBoostingClassifier``: 50 trees of at most 15 leaves, each of 20 events or a tenth of all,
    learning rate 0.1), cross-validated in 5 folds that ``seed`` fixes; each event is scored by a classifier that has
    not seen it, and the folds' areas are averaged.
    Of each sample at most 10,000 events enter. Bootstrap replicas reweight the scored events while the classifiers
    stay; their spread is multiplied by 1.5 for the folds' sharing of training events (Nadeau & Bengio, Machine Learning
    52 (2003) 239: a variance of 1/k + 1/(k - 1) in place of 1/k).

    The p-value is that of an area above 0.5: the folds' areas are normal with the variance of the Mann-Whitney
    statistic, again times 1.5 squared. Weighted events are trained on and scored with their weights, and count there as
    ``(sum of w)^2 / sum of w^2`` events. Blind to what trees of 20 events a leaf cannot see: a few odd events, and in
    many columns correlations without a change of any single column.
    """
    folds = [_folds(len(x), derive_seed(seed, "classifier", which)) for x, which in ((truth, "t"), (generated, "g"))]
    scores = [
        _scores(truth, generated, weights, folds, k, derive_seed(seed, "trees", k) % 2**32) for k in range(N_FOLDS)
    ]

    def areas(w: Tensor, v: Tensor) -> Tensor:
        return torch.stack([auc(a, b, w[t], v[g]) for (a, b), t, g in zip(scores, *folds, strict=True)])

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return areas(w, v).nanmean()  # a replica may leave out all events of a small fold

    def p() -> float:
        w, v = weights
        found = areas(w, v)
        variance = torch.stack([auc_variance(a, b, w[t], v[g]) for (a, b), t, g in zip(scores, *folds, strict=True)])
        return p_above_half(found.nanmean(), SHARING**2 * variance.nanmean() / found.isfinite().sum())

    return WithPValue(estimate, p)


def _folds(n: int, seed: int) -> tuple[Tensor, ...]:
    return torch.randperm(n, generator=new_generator(seed))[:CLASSIFIER_EVENTS].tensor_split(N_FOLDS)


def _scores(
    truth: Tensor,
    generated: Tensor,
    weights: tuple[Tensor, Tensor],
    folds: list[tuple[Tensor, ...]],
    k: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Scores of both samples' events of fold ``k`` by a classifier trained on the other folds."""
    rows = [torch.cat([part for i, part in enumerate(f) if i != k]) for f in folds]
    some = [w[r] for w, r in zip(weights, rows, strict=True)]
    model = fit_trees(truth[rows[0]], generated[rows[1]], (some[0], some[1]), seed)
    return score(model, truth[folds[0][k]]), score(model, generated[folds[1][k]])


def fit_trees(truth: Tensor, generated: Tensor, weights: tuple[Tensor, Tensor], seed: int) -> Any:
    """The trees of :func:`classifier_auc`, trained on all these events.

    Args:
        truth: ``(n, d)``.
        generated: ``(m, d)``.
        weights: of the events, not negative, ``(n,)`` and ``(m,)``; brought to mean 1 in each sample.
        seed: of the trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    leaf = min(20, (len(truth) + len(generated)) // 10)
    model = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=15, min_samples_leaf=leaf, early_stopping=False, random_state=seed
    )
    is_generated = torch.cat([torch.zeros(len(truth)), torch.ones(len(generated))])
    equal = all(bool((w == w[0]).all()) for w in weights)
    relative = None if equal else torch.cat([w / w.mean() for w in weights]).numpy()
    return model.fit(torch.cat([truth, generated]).numpy(), is_generated.numpy(), sample_weight=relative)


def score(model: Any, events: Tensor) -> Tensor:
    """Logarithm of the odds that each event is a generated one, ``(n,)``."""
    return torch.from_numpy(model.decision_function(events.numpy()))


def auc(truth: Tensor, generated: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """Probability that a generated event scores above a true one, equal scores counting half.

    Args:
        truth: scores of truth ``(n,)``.
        generated: scores of generated events ``(m,)``.
        w: weights of truth ``(n,)``.
        v: weights of generated events ``(m,)``.

    >>> one = torch.ones(2)
    >>> auc(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]), one, one).item()
    0.875
    """
    values, rank = torch.cat([truth, generated]).unique(return_inverse=True)
    p = torch.bincount(rank[: len(truth)], w / w.sum(), len(values))
    q = torch.bincount(rank[len(truth) :], v / v.sum(), len(values))
    return (q * (p.cumsum(0) - p / 2)).sum().clamp(0, 1)


def auc_variance(truth: Tensor, generated: Tensor, w: Tensor, v: Tensor) -> Tensor:
    r"""Variance of :func:`auc` if both samples have one distribution: that of the Mann-Whitney statistic with ties.

    :math:`(N + 1 - \sum_i (t_i^3 - t_i) / (N^2 - N)) / (12 n m)`, ``t_i`` of the ``N = n + m`` events having the same
    score; weighted events count as ``n = (sum of w)^2 / sum of w^2``.

    Args:
        truth: scores ``(n,)``.
        generated: scores ``(m,)``.
        w: weights of truth ``(n,)``, not negative.
        v: weights of generated events ``(m,)``, not negative.

    >>> one = torch.ones(2)
    >>> round(auc_variance(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0]), one, one).item(), 6)
    0.104167
    """
    n, m = (x.sum() ** 2 / x.square().sum() for x in (w, v))
    values, rank = torch.cat([truth, generated]).unique(return_inverse=True)
    ties = torch.bincount(rank, torch.cat([w * (n / w.sum()), v * (m / v.sum())]), len(values))
    total = n + m
    return (total + 1 - (ties.pow(3) - ties).sum() / (total * (total - 1))) / (12 * n * m)


def p_above_half(area: Tensor, variance: Tensor) -> float:
    """Probability of an area at least as large, if it is normal about 0.5; 1 if it cannot vary.

    >>> p_above_half(torch.tensor(0.5), torch.tensor(0.01))
    0.5
    """
    if variance <= 0:
        return 1.0
    return 0.5 * math.erfc(float((area - 0.5) / (2 * variance).sqrt()))
