"""Classifier two-sample test: can a classifier tell generated events from true ones?

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 1000, 2, generator=rng, dtype=torch.float64)
>>> classifier_auc(truth, generated + 1).value > 0.8
True
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.random import derive_seed, new_generator

__all__ = ["auc", "classifier_auc"]

CLASSIFIER_EVENTS = 10_000
"""Most events of each sample that the classifier is shown."""
N_FOLDS = 5


@metric(
    view="joint",
    group="tests",
    target=0.5,
    reference="Lopez-Paz & Oquab, 1610.06545; 2106.05285 for calorimeter showers",
    max_columns=1000,
    inflation=(1 + N_FOLDS / (N_FOLDS - 1)) ** 0.5,
)
def classifier_auc(
    truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor] | None = None
) -> Estimator:
    """Area under the ROC curve of a classifier of true against generated, on features and conditions.

    0.5 if it cannot tell them apart, 1 if it always can. Gradient-boosted trees (scikit-learn's
    ``HistGradientBoostingClassifier``: 50 trees of at most 15 leaves, each of 20 events or a tenth of all,
    learning rate 0.1), cross-validated in 5 folds that ``seed`` fixes; each event is scored by a classifier that has
    not seen it, and the folds' areas are averaged. Weights of events count in training and in the area.
    Of each sample at most 10,000 events enter. Bootstrap replicas reweight the scored events while the classifiers
    stay; their spread is multiplied by 1.5 for the folds' sharing of training events (Nadeau & Bengio, Machine Learning
    52 (2003) 239: a variance of 1/k + 1/(k - 1) in place of 1/k).
    """
    folds = [_folds(len(x), derive_seed(seed, "classifier", which)) for x, which in ((truth, "t"), (generated, "g"))]
    w, v = (None, None) if weights is None else (x / x.mean() for x in weights)
    samples = (truth, w), (generated, v)
    scores = [_scores(samples, folds, k, derive_seed(seed, "trees", k) % 2**32) for k in range(N_FOLDS)]

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        areas = [auc(a, b, w[t], v[g]) for (a, b), t, g in zip(scores, folds[0], folds[1], strict=True)]
        return torch.stack(areas).nanmean()  # a replica may leave out all events of a small fold

    return estimate


def _folds(n: int, seed: int) -> tuple[Tensor, ...]:
    return torch.randperm(n, generator=new_generator(seed))[:CLASSIFIER_EVENTS].tensor_split(N_FOLDS)


def _scores(
    samples: tuple[tuple[Tensor, Tensor | None], ...], folds: list[tuple[Tensor, ...]], k: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Scores of both samples' events of fold ``k`` by a classifier trained on the other folds."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    train = [torch.cat([rows for i, rows in enumerate(f) if i != k]) for f in folds]
    leaf = min(20, sum(map(len, train)) // 10)
    model = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=15, min_samples_leaf=leaf, early_stopping=False, random_state=seed
    )
    x = torch.cat([x[rows] for (x, _), rows in zip(samples, train, strict=True)])
    is_generated = torch.cat([torch.full((len(rows),), float(i)) for i, rows in enumerate(train)])
    weights = torch.cat([x.new_ones(len(r)) if w is None else w[r] for (_, w), r in zip(samples, train, strict=True)])
    model.fit(x.numpy(), is_generated.numpy(), sample_weight=None if (weights == 1).all() else weights.numpy())
    a, b = (
        torch.from_numpy(model.decision_function(x[f[k]].numpy())) for (x, _), f in zip(samples, folds, strict=True)
    )
    return a, b


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
