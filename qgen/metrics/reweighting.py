"""Where a generator fails: by a classifier's weight of every event.

A calibrated classifier of true against generated events knows their density ratio: with ``p`` the probability of being
true, ``w = p / (1 - p)`` estimates ``p_true(x) / p_generated(x)`` up to the sizes of the samples. Where ``w`` is far
from 1 the generator is wrong: far below, it makes events that should not be; far above, it misses some. Generated
events with these weights are distributed like truth, as far as the classifier can tell. (Such weights are used to judge
generators in 2305.16774.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from qgen.data.dataset import Dataset
from qgen.metrics.bins import bin_edges
from qgen.metrics.classifier import CLASSIFIER_EVENTS, N_FOLDS, fit_trees, score
from qgen.metrics.columns import Columns, as_dataset, check_alike
from qgen.random import derive_seed, new_generator

__all__ = ["ClassifierWeights", "Region", "classifier_weights", "where_it_fails"]

CALIBRATION_STEPS = 30

Looked = Literal["joint", "observables"]


@dataclass(frozen=True)
class ClassifierWeights:
    """Density ratios ``p_true / p_generated`` at the events.

    Args:
        truth: at true events, ``(n,)``.
        generated: at generated events, ``(m,)``: with these weights they are distributed like truth. Their mean is near
            1 unless there are true events where there are no generated ones.
    """

    truth: Tensor
    generated: Tensor


@dataclass(frozen=True)
class Region:
    """Generated events between two values of a column, and what the classifier thinks of them.

    Args:
        column: its name.
        low: lower edge, in the column's unit.
        high: upper edge.
        n_events: generated events between them.
        ratio: mean weight of those: true over generated density.
        uncertainty: its statistical uncertainty.
        wrong: mean of ``|ln w|`` of those: how sure the classifier is that something is wrong, in either direction.
        share: which part of the variance of ``ln w`` the column's bins explain, the same for all bins of a column.
    """

    column: str
    low: float
    high: float
    n_events: int
    ratio: float
    uncertainty: float
    wrong: float
    share: float

    def __str__(self) -> str:
        where = f"{self.column} {self.low:.4g} to {self.high:.4g}"
        return f"{where}: true/generated {self.ratio:.2f} ± {self.uncertainty:.2f}"


def classifier_weights(
    truth: Dataset | Tensor, generated: Dataset | Tensor, *, columns: Looked = "joint", seed: int = 0
) -> ClassifierWeights:
    """Each event's density ratio by a classifier that has not seen the event.

    The trees of :data:`~qgen.metrics.classifier_auc` in five folds, each trained on at most 10,000 events of each
    sample; the odds are calibrated by logistic regression on the scores of the other folds (Platt scaling), so that
    they are close to 1 where the classifier has learned nothing. Events' own weights are used where they have such.

    Args:
        truth: events, or a plain table ``(n, d)``.
        generated: events with the same columns, ``(m, d)``.
        columns: what the classifier looks at: ``joint`` (features and conditions) or ``observables``.
        seed: fixes the folds.

    Raises:
        ValueError: fewer than 20 events, columns that differ, negative weights, or another name for ``columns``.

    >>> rng = torch.Generator().manual_seed(0)
    >>> truth, generated = torch.randn(2, 2000, 1, generator=rng, dtype=torch.float64)
    >>> generated = generated + 0.5
    >>> w = classifier_weights(truth, generated).generated
    >>> before, after = generated.mean().item(), (w @ generated[:, 0] / w.sum()).item()
    >>> abs(after - truth.mean().item()) < 0.4 * abs(before - truth.mean().item())
    True
    """
    a, b = _looked_at(truth, generated, columns)
    for which, one in (("truth", a), ("generated", b)):
        if len(one) < 20:
            raise ValueError(f"{which} has {len(one)} events; at least 20 are needed")
        low = (one.weights < 0).nonzero()
        if len(low):
            row = int(low[0])
            raise ValueError(f"{which} row {row}: weight {one.weights[row]:g} is negative; a classifier cannot use it")
    folds = [
        _fold_numbers(len(x), derive_seed(seed, "weights", which)) for x, which in ((a, "truth"), (b, "generated"))
    ]
    scores = [torch.empty(len(x), dtype=torch.float64) for x in (a, b)]
    for k in range(N_FOLDS):
        some = [_rows(fold != k, derive_seed(seed, "weights", "train", k, i)) for i, fold in enumerate(folds)]
        model = fit_trees(
            a.values[some[0]],
            b.values[some[1]],
            (a.weights[some[0]], b.weights[some[1]]),
            derive_seed(seed, "weights", "trees", k) % 2**32,
        )
        for values, fold, found in ((a.values, folds[0], scores[0]), (b.values, folds[1], scores[1])):
            found[fold == k] = score(model, values[fold == k])
    logs = [torch.empty_like(s) for s in scores]
    for k in range(N_FOLDS):
        others = [fold != k for fold in folds]
        apart = [s[o] for s, o in zip(scores, others, strict=True)]
        intercept, slope = _calibration(apart[0], apart[1], a.weights[others[0]], b.weights[others[1]])
        for fold, s, log in zip(folds, scores, logs, strict=True):
            log[fold == k] = -(intercept + slope * s[fold == k])
    return ClassifierWeights(logs[0].exp(), logs[1].exp())


def where_it_fails(
    generated: Dataset | Tensor, weights: ClassifierWeights, *, columns: Looked = "joint", n_bins: int = 8
) -> list[Region]:
    """The regions of each column in which generated events are wrong, the worst first.

    Every column is cut in bins of about as many generated events. Regions are in order of ``share * wrong``: first the
    columns that explain most of the weights, and in each the bins where these are farthest from 1.

    Args:
        generated: the events of :func:`classifier_weights`.
        weights: what it returned.
        columns: in which columns to look, ``joint`` or ``observables``; need not be those of the classifier.
        n_bins: of each column.

    Raises:
        ValueError: other events than those of the weights, or fewer than 2 bins.

    >>> rng = torch.Generator().manual_seed(0)
    >>> truth, generated = torch.randn(2, 2000, 2, generator=rng, dtype=torch.float64)
    >>> generated[:, 1] *= 1.5  # too wide
    >>> worst = where_it_fails(generated, classifier_weights(truth, generated))[0]
    >>> worst.column, worst.ratio < 0.7
    ('x1', True)
    """
    if n_bins < 2:
        raise ValueError(f"n_bins is {n_bins}; at least 2 are needed")
    seen = _look(as_dataset("generated", generated), columns)
    w = weights.generated
    if len(seen) != len(w):
        raise ValueError(f"generated has {len(seen)} events, the weights are of {len(w)}")
    logs = w.clamp_min(torch.finfo(w.dtype).tiny).log()
    found = []
    for feature, values in zip(seen.features, seen.values.unbind(1), strict=True):
        edges = torch.tensor(bin_edges(values, n_bins), dtype=values.dtype)
        if len(edges) < 3:
            continue  # a column of one value, or nearly so, tells no regions apart
        bins = torch.bucketize(values.contiguous(), edges[1:-1].contiguous(), right=True)
        counts = torch.bincount(bins, minlength=len(edges) - 1)
        means = torch.bincount(bins, logs, len(edges) - 1) / counts.clamp_min(1)
        total = (logs - logs.mean()).square().sum()
        share = ((means - logs.mean()).square() @ counts.to(means) / total).item() if total > 0 else 0.0
        for i, count in enumerate(counts.tolist()):
            if count < 2:
                continue
            inside = bins == i
            ratio, error = w[inside].mean().item(), w[inside].std().item() / count**0.5
            wrong = logs[inside].abs().mean().item()
            found.append(Region(feature.name, edges[i].item(), edges[i + 1].item(), count, ratio, error, wrong, share))
    return sorted(found, key=lambda region: -region.share * region.wrong)


def _looked_at(truth: Dataset | Tensor, generated: Dataset | Tensor, columns: Looked) -> tuple[Columns, Columns]:
    truth = as_dataset("truth", truth)
    a, b = (_look(x, columns) for x in (truth, as_dataset("generated", generated, like=truth)))
    check_alike("truth", a, "generated", b)
    return a, b


def _look(dataset: Dataset, columns: Looked) -> Columns:
    if columns not in get_args(Looked):
        raise ValueError(f"columns is {columns!r}; allowed are {' and '.join(map(repr, get_args(Looked)))}")
    return Columns(dataset, columns)


def _fold_numbers(n: int, seed: int) -> Tensor:
    return (torch.arange(n) % N_FOLDS)[torch.randperm(n, generator=new_generator(seed))]


def _rows(wanted: Tensor, seed: int) -> Tensor:
    """At most as many of these rows as the classifier is shown."""
    rows = wanted.nonzero()[:, 0]
    if len(rows) <= CLASSIFIER_EVENTS:
        return rows
    return rows[torch.randperm(len(rows), generator=new_generator(seed))[:CLASSIFIER_EVENTS]]


def _calibration(truth: Tensor, generated: Tensor, w: Tensor, v: Tensor) -> tuple[float, float]:
    """Intercept and slope of the log odds of being generated, by logistic regression on scores: Newton's method.

    A penalty of one event's worth on the slope keeps it finite for samples that do not overlap.
    """
    s = torch.cat([truth, generated])
    y = torch.cat([torch.zeros_like(truth), torch.ones_like(generated)])
    weight = torch.cat([w / w.sum(), v / v.sum()]) * min(len(truth), len(generated))
    design = torch.stack([torch.ones_like(s), s], 1)
    penalty = torch.diag(torch.tensor([1e-9, 1.0], dtype=s.dtype))
    beta = torch.zeros(2, dtype=s.dtype)
    for _ in range(CALIBRATION_STEPS):
        p = torch.sigmoid(design @ beta)
        slope = design.T @ (weight * (y - p)) - penalty @ beta
        # the least curvature keeps steps short where all probabilities are near 0 or 1
        curvature = (design * (weight * (p * (1 - p)).clamp_min(0.02))[:, None]).T @ design + penalty
        beta = beta + torch.linalg.solve(curvature, slope)
    return beta[0].item(), beta[1].item()
