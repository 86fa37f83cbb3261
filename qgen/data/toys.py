r"""Toy distributions on which the style-based qGAN was first shown (2110.06933).

``gamma``: one feature from :math:`p(x) \propto x^{k-1} e^{-x/\theta}`. ``gaussian``: correlated normal features. With
the defaults they are those of the publication; the published histograms cover the features' limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt, Len
from torch import Tensor

from qgen.data.dataset import Dataset, Feature
from qgen.random import derive_seed, new_generator, normal, uniform

__all__ = ["gamma_events", "gaussian_events"]

LABELS = ("x", "y", "z")


def gamma_events(
    *,
    n: Annotated[int, Gt(0)] = 10_000,
    shape: Annotated[float, Gt(0)] = 1.0,
    scale: Annotated[float, Gt(0)] = 1.0,
    limits: tuple[float, float] = (0.0, 8.0),
    seed: int = 0,
) -> Dataset:
    """One feature from a gamma distribution.

    Args:
        n: number of events.
        shape: the exponent of x, plus one.
        scale: length of the exponential tail, the unit of x.
        limits: range of x in histograms of fixed range; it does not limit the events.
        seed: fixes the events and the splits.

    Raises:
        ValueError: an argument is out of range.

    >>> gamma_events(n=10_000).samples.mean().round(decimals=1)
    tensor(1., dtype=torch.float64)
    """
    _check_number(n)
    for name, value in (("shape", shape), ("scale", scale)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; it must be positive and finite")
    from scipy.special import gammaincinv

    u = uniform((n, 1), new_generator(derive_seed(seed, "gamma")), dtype=torch.float64)
    samples = scale * torch.from_numpy(gammaincinv(shape, u.numpy()))
    provenance = {"distribution": "gamma", "shape": shape, "scale": scale, "seed": seed}
    return Dataset(samples, (Feature("x", limits=_pair(limits)),), seed=seed, provenance=provenance)


def gaussian_events(
    *,
    n: Annotated[int, Gt(0)] = 10_000,
    mean: Annotated[Sequence[float], Len(1)] = (0.0, 0.0, 0.0),
    covariance: Sequence[Sequence[float]] = ((0.5, 0.1, 0.25), (0.1, 0.5, 0.1), (0.25, 0.1, 0.5)),
    limits: tuple[float, float] = (-4.0, 4.0),
    seed: int = 0,
) -> Dataset:
    """Correlated normal features.

    Args:
        n: number of events.
        mean: of each feature.
        covariance: a row for each feature; symmetric and positive definite.
        limits: range of every feature in histograms of fixed range; it does not limit the events.
        seed: fixes the events and the splits.

    Raises:
        ValueError: an argument is out of range.

    >>> gaussian_events(n=100).samples.shape
    torch.Size([100, 3])
    """
    _check_number(n)
    root = _root(covariance, len(mean))
    z = normal((n, len(mean)), new_generator(derive_seed(seed, "gaussian")), dtype=torch.float64)
    samples = z @ root.T + torch.tensor(list(mean), dtype=torch.float64)
    names = LABELS if len(mean) <= len(LABELS) else [f"x{i}" for i in range(len(mean))]
    features = tuple(Feature(name, limits=_pair(limits)) for name in names[: len(mean)])
    provenance = {
        "distribution": "gaussian",
        "mean": list(mean),
        "covariance": [list(row) for row in covariance],
        "seed": seed,
    }
    return Dataset(samples, features, seed=seed, provenance=provenance)


def _root(covariance: Sequence[Sequence[float]], n: int) -> Tensor:
    """The lower triangular root of a covariance matrix."""
    if len(covariance) != n or any(len(row) != n for row in covariance):
        found = " and ".join(sorted({str(len(row)) for row in covariance})) or "none"
        raise ValueError(f"covariance has {len(covariance)} rows of {found}; the mean has {n} features")
    matrix = torch.tensor([list(row) for row in covariance], dtype=torch.float64)
    root, problem = torch.linalg.cholesky_ex(matrix)
    if problem or not torch.equal(matrix, matrix.T) or not matrix.isfinite().all():
        raise ValueError(f"covariance is {matrix.tolist()}; it must be symmetric and positive definite")
    return root


def _check_number(n: int) -> None:
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; a whole number of at least 1 event is needed")


def _pair(limits: Sequence[float]) -> tuple[float, float]:
    if len(limits) != 2:
        raise ValueError(f"limits are {list(limits)}; a lower and an upper one are needed")
    return float(limits[0]), float(limits[1])
