r"""Relative entropies of images: of the mean image, of each kind of image, and of how often each kind is drawn.

These are the questions that 2103.15470 and 2205.15003 ask of a dual-PQC; the definitions for whole showers are ours.
An event's image is its energies divided by their sum, negative ones counting as 0. Events without energy have no image
and are left out.

The relative entropy of shares :math:`p` and :math:`q` is :math:`\sum_j p_j \ln(p_j / q_j)`, in nats. A pixel with
:math:`p_j = 0` adds nothing. Where :math:`q_j = 0` and :math:`p_j > 0` it would be infinite, for a pixel that matters
little as for one that matters much: every :math:`q_j` is at least :math:`10^{-6}`. Where weights have a negative sum,
there is nothing.

The kinds of images are the distinct images of truth if these are at most 32 (data of cluster means), and else the 8
clusters that k-means finds in truth; an image is of the kind whose mean is nearest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.data.clusters import cluster_shapes, nearest, shapes_of
from qgen.metrics.base import Estimator, metric
from qgen.metrics.lacks import lacks_energies

__all__ = ["image_distribution_entropy", "image_entropy", "mean_image_entropy", "relative_entropy"]

LEAST_SHARE = 1e-6
MOST_DISTINCT = 32
CLUSTERS = 8


def relative_entropy(p: Tensor, q: Tensor, least: float = LEAST_SHARE) -> Tensor:
    """Relative entropy of ``q`` from the point of view of ``p``, in nats, ``(...,)``.

    Args:
        p: shares of the truth, ``(..., k)``, not negative; brought to sum 1.
        q: shares of the model, likewise.
        least: that every share of ``q`` has; what lies below is raised to it, and the sum brought back to 1.

    Raises:
        ValueError: a negative share, one that is not finite, or shares that are all 0.

    >>> relative_entropy(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 3.0]))
    tensor(0.1438)
    """
    for name, shares in (("p", p), ("q", q)):
        if not (shares.isfinite().all() and (shares >= 0).all() and (shares.sum(-1) > 0).all()):
            raise ValueError(f"{name} must have finite shares, none negative and not all 0")
    p = p / p.sum(-1, keepdim=True)
    q = (q / q.sum(-1, keepdim=True)).clamp_min(least)
    q = q / q.sum(-1, keepdim=True)
    return (torch.xlogy(p, p) - p * q.log()).sum(-1).clamp_min(0)  # not below by rounding


@metric(
    view="samples",
    group="physics",
    bias=1,
    weights="signed",
    unit="nats",
    reference="2103.15470, relative entropy of the mean image",
    min_columns=2,
    by_default=False,
    needs=lacks_energies,
)
def mean_image_entropy(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Relative entropy of the mean normalised image, true against generated.

    If no generated event has energy, its mean image counts as uniform. Blind to all that leaves the mean image as it
    is: how much single events vary about it, and the energy itself.
    """
    x, y = _images(truth), _images(generated)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return relative_entropy(_or_uniform(w @ x), _or_uniform(v @ y))

    return estimate


@metric(
    view="samples",
    group="physics",
    bias=1,
    weights="signed",
    unit="nats",
    reference="2103.15470, relative entropy of each image",
    min_columns=2,
    by_default=False,
    needs=lacks_energies,
)
def image_entropy(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Relative entropy of the mean image of each kind, true against generated, weighted as the kinds are in truth.

    A kind that is never generated is compared with the mean of all generated images. Blind to how often each kind is
    drawn, to what varies within a kind, and to the energy itself.
    """
    (x, kinds_x), (y, kinds_y) = _images_and_kinds(truth, generated, seed)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        true, found = ((kinds_x * w[:, None]).T @ x).clamp_min(0), ((kinds_y * v[:, None]).T @ y).clamp_min(0)
        found = torch.where(found.sum(1, keepdim=True) > 0, found, _or_uniform(found.sum(0)))
        frequency = true.sum(1) / true.sum()  # images have sum 1: the sum over pixels counts them
        there = frequency > 0
        return (frequency[there] * relative_entropy(true[there], found[there])).sum()

    return estimate


@metric(
    view="samples",
    group="physics",
    bias=1,
    weights="signed",
    unit="nats",
    reference="2103.15470, distribution over images",
    min_columns=2,
    by_default=False,
    needs=lacks_energies,
)
def image_distribution_entropy(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Relative entropy of how often each kind of image is drawn, true against generated.

    A kind that is never generated counts as half an event. Blind to what images of a kind look like, as long as they
    are nearest to its mean, and to the energy itself.
    """
    (_, kinds_x), (_, kinds_y) = _images_and_kinds(truth, generated, seed)
    half = 0.5 / len(generated)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return relative_entropy(_or_uniform(w @ kinds_x), _or_uniform(v @ kinds_y), half)

    return estimate


def _images(energies: Tensor) -> Tensor:
    return shapes_of(energies.clamp_min(0))


def _images_and_kinds(truth: Tensor, generated: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Of both samples the images ``(n, pixels)`` and, as 0 and 1, of which kind each is, ``(n, kinds)``."""
    images = [_images(truth), _images(generated)]
    filled = images[0][images[0].sum(1) > 0]
    if len(filled) == 0:
        raise ValueError("truth has no event with energy, so no images")
    centres = torch.unique((filled * 1e9).round(), dim=0) / 1e9
    if len(centres) > MOST_DISTINCT:
        centres = cluster_shapes(filled, CLUSTERS, seed)
    kinds = [torch.nn.functional.one_hot(nearest(x, centres), len(centres)).to(x) for x in images]
    return [(x, kind * (x.sum(1, keepdim=True) > 0)) for x, kind in zip(images, kinds, strict=True)]


def _or_uniform(shares: Tensor) -> Tensor:
    shares = shares.clamp_min(0)
    return shares if shares.sum() > 0 else torch.ones_like(shares)
