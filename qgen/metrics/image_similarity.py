r"""SSIM: how alike two images of a sample are, and whether generated images differ from each other as true ones do.

The structural similarity of two images (Wang et al., IEEE Trans. Image Process. 13 (2004) 600) with means :math:`\mu`,
variances :math:`\sigma^2` and covariance :math:`\sigma_{xy}` over the pixels is

.. math:: \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}{(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)},
          \qquad C_1 = (0.01 L)^2, \quad C_2 = (0.03 L)^2,

1 for equal images, and :math:`L` the largest pixel of truth. The whole image is one window: those here have few pixels,
mostly fewer than the 11 x 11 over which the reference averages; profiles, images and volumes are treated alike.

>>> images = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
>>> ssim(images, largest=1.0)[0]
tensor([ 1.0000,  1.0000, -0.9964])
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.columns import chosen
from qgen.metrics.lacks import lacks_images

__all__ = ["largest_pixel", "ssim", "ssim_distance", "ssim_mean", "ssim_spread"]

SSIM_EVENTS = 800
"""Most events of each sample of whose pairs the similarity is computed."""


def ssim(images: Tensor, largest: float) -> Tensor:
    """The similarity of all pairs of images, ``(n, n)``.

    Args:
        images: ``(n, pixels)``.
        largest: the largest value that pixels have, positive; in their unit.
    """
    mean = images.mean(1)
    around = images - mean[:, None]
    covariance = around @ around.T / images.shape[1]
    variance = covariance.diagonal()
    first, second = (0.01 * largest) ** 2, (0.03 * largest) ** 2
    squares = mean.square()
    brightness = (2 * mean[:, None] * mean + first) / (squares[:, None] + squares + first)
    return brightness * (2 * covariance + second) / (variance[:, None] + variance + second)


def largest_pixel(truth: Tensor) -> float:
    """The largest magnitude of a pixel, 1 if all are empty."""
    return truth.abs().max().item() or 1.0


def _pairs(truth: Tensor, generated: Tensor, seed: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of both samples the rows that were taken, the numbers of the two images of each pair, and their similarity."""
    found = []
    largest = largest_pixel(truth)
    for x, which in ((truth, "t"), (generated, "g")):
        rows = chosen(len(x), SSIM_EVENTS, seed, "ssim", which)
        first, second = torch.triu_indices(len(rows), len(rows), 1)
        found.append((rows, first, second, ssim(x[rows], largest)[first, second]))
    return found


def _moments(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Mean and variance of the similarity of pairs, of truth and of generated events, ``(2, 2)``."""
    pairs = _pairs(truth, generated, seed)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        of_samples = []
        for (rows, first, second, values), weights in zip(pairs, (w, v), strict=True):
            weight = weights[rows][first] * weights[rows][second]
            weight = weight / weight.sum()
            mean = weight @ values
            of_samples.append(torch.stack([mean, weight @ (values - mean).square()]))
        return torch.stack(of_samples)

    return estimate


@metric(
    view="samples",
    group="fidelity",
    by_default=False,
    bias=0.5,
    weights="signed",
    needs=lacks_images,
    reference="Wang et al. 2004, SSIM",
)
def ssim_distance(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Wasserstein-1 distance between the distributions of SSIM of pairs: true pairs against generated pairs.

    0 if generated images differ from each other as true ones do, at most 2. All pairs of at most 800 events of each
    sample, a pair's weight being the product of its events'. Blind to what the images are: a sample of other images
    with the same similarities among themselves scores 0.
    """
    pairs = _pairs(truth, generated, seed)
    values = torch.cat([similarity for *_, similarity in pairs])
    ordered, order = values.sort()
    steps = ordered.diff()

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        signed = []
        for (rows, first, second, _), weights, sign in zip(pairs, (w, v), (1, -1), strict=True):
            weight = weights[rows][first] * weights[rows][second]
            signed.append(sign * weight / weight.sum())
        return (torch.cat(signed)[order].cumsum(0)[:-1].abs() * steps).sum()

    return estimate


@metric(
    view="samples",
    group="fidelity",
    by_default=False,
    bias=0,
    weights="signed",
    needs=lacks_images,
    reference="Wang et al. 2004, SSIM",
)
def ssim_mean(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Mean SSIM of generated pairs less that of true pairs: above 0 if generated images are too much alike.

    Pairs as in :func:`ssim_distance`. Blind to the spread of the similarities.
    """
    moments = _moments(truth, generated, seed)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        true, found = moments(w, v)[:, 0]
        return found - true

    return estimate


@metric(
    view="samples",
    group="fidelity",
    by_default=False,
    bias=0,
    weights="signed",
    needs=lacks_images,
    reference="Wang et al. 2004, SSIM",
)
def ssim_spread(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    """Spread of the SSIM of generated pairs less that of true pairs: below 0 if kinds of images are missing.

    The spread is the standard deviation. Pairs as in :func:`ssim_distance`. Blind to their mean.
    """
    moments = _moments(truth, generated, seed)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        true, found = moments(w, v)[:, 1].clamp_min(0).sqrt()
        return found - true

    return estimate
