"""Cluster means: showers sorted by their shape, every one replaced by the mean image of its kind (as in 2103.15470).

The shape of a shower is its image divided by its total energy. The k-means algorithm puts shapes into clusters.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from qgen.random import derive_seed

__all__ = ["cluster_shapes", "nearest", "shapes_of", "strata"]


def shapes_of(energies: Tensor) -> Tensor:
    """Images divided by their total energy, ``(N, pixels)``; an empty image stays empty.

    Args:
        energies: of the pixels, ``(N, pixels)``, not negative, in any unit.

    >>> shapes_of(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).tolist()
    [[0.25, 0.75], [0.0, 0.0]]
    """
    total = energies.sum(1, keepdim=True)
    return torch.where(total > 0, energies / torch.where(total > 0, total, 1.0), 0.0)


def nearest(shapes: Tensor, centres: Tensor) -> Tensor:
    """For each shape ``(N, pixels)`` the number of the centre ``(k, pixels)`` at the least distance, ``(N,)``.

    >>> nearest(torch.tensor([[0.9, 0.1]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [1]
    """
    return torch.cdist(shapes, centres).argmin(1)


def cluster_shapes(energies: Tensor, k: int, seed: int = 0) -> Tensor:
    """The mean shapes of ``k`` clusters, ``(k, pixels)``, the most frequent first; each has sum 1.

    Args:
        energies: of the pixels, ``(N, pixels)``, not negative, in any unit; empty images are left out.
        k: number of clusters.
        seed: fixes where k-means starts; the best of 10 starts is taken.

    Raises:
        ValueError: fewer distinct shapes than clusters.

    >>> images = torch.tensor([[1.0, 1.0], [4.0, 4.0], [6.0, 2.0]], dtype=torch.float64)
    >>> cluster_shapes(images, 2)
    tensor([[0.5000, 0.5000],
            [0.7500, 0.2500]], dtype=torch.float64)
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    shapes = shapes_of(energies[energies.sum(1) > 0]).to(torch.float64)
    few = f"{k} clusters are asked for; the images have"
    if len(shapes) < k:
        raise ValueError(f"{few} only {len(shapes)} shapes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct shapes than clusters: refused below
        found = KMeans(k, n_init=10, random_state=derive_seed(seed, "clusters") % 2**32).fit(shapes.numpy())
    labels = torch.from_numpy(found.labels_).long()
    count = torch.bincount(labels, minlength=k)
    if (count == 0).any():
        raise ValueError(f"{few} only {int((count > 0).sum())} distinct shapes")
    means = torch.zeros(k, shapes.shape[1], dtype=torch.float64).index_add_(0, labels, shapes) / count[:, None]
    return means[torch.argsort(count, descending=True, stable=True)]


def strata(energies: Tensor, k: int) -> Tensor:
    """The mean shapes, ``(k, pixels)``, of ``k`` groups of as many events each; each has sum 1.

    Shapes are put in order along the direction in which they vary most (their first principal component) and that
    order is cut into groups. So the strata, equally probable, have the mean image of the events.

    Args:
        energies: of the pixels, ``(N, pixels)``, not negative, in any unit; empty images are left out.
        k: number of groups.

    Raises:
        ValueError: no image has energy.

    >>> strata(torch.tensor([[1.0, 3.0], [3.0, 1.0], [1.0, 1.0], [1.0, 1.0]], dtype=torch.float64), 2).sort(0).values
    tensor([[0.3750, 0.3750],
            [0.6250, 0.6250]], dtype=torch.float64)
    """
    shapes = shapes_of(energies[energies.sum(1) > 0]).to(torch.float64)
    if len(shapes) == 0:
        raise ValueError("all events are empty: there are no images to learn")
    around = shapes - shapes.mean(0)
    direction = torch.linalg.eigh(around.T @ around).eigenvectors[:, -1]
    direction = direction * direction[direction.abs().argmax()].sign()  # of either sign it is an eigenvector
    groups = shapes[torch.argsort(around @ direction, stable=True)].tensor_split(k)
    return torch.stack([group.mean(0) if len(group) else shapes.mean(0) for group in groups])
