r"""Support size by the birthday paradox: how many different events does a generator have? (Arora & Zhang, 1706.08224)

Of ``n`` events drawn from ``K`` equally probable ones, :math:`n (n - 1) / 2K` pairs are duplicates on average, so that
:math:`D` duplicates among them say :math:`K \approx n (n - 1) / 2D`. (The reference looks for the batch that holds a
duplicate in half of all cases; all pairs of a sample are all batches at once.) Events of a continuous distribution are
never equal: two are duplicates if they are nearer than a threshold, and the support is that of events which can be told
apart at this distance. The threshold is truth's: the distance at which 20 pairs of true events are duplicates (more
where more are equal). So the size counts only beside that of truth, and the score is the ratio of both.

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 1000, 2, generator=rng, dtype=torch.float64)
>>> few = generated[torch.randint(50, (1000,), generator=rng)]
>>> round(support(truth, few).value, 1)  # ten to the power of this times fewer
2.7
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from qgen.metrics.base import metric
from qgen.metrics.columns import chosen
from qgen.metrics.counting import ONE_SIGMA
from qgen.metrics.image_similarity import SSIM_EVENTS, largest_pixel, ssim
from qgen.metrics.lacks import lacks_images
from qgen.metrics.neighbours import standardised
from qgen.metrics.pairs import squared_distances
from qgen.metrics.result import MetricResult

__all__ = ["duplicates", "support", "support_size", "support_ssim"]

SUPPORT_EVENTS = 3000
"""Most events of each sample of which all pairs are compared."""
PAIRS = 20
"""Pairs of true events that are duplicates: a fifth of them is the statistical uncertainty."""


def duplicates(dissimilarity: Tensor, threshold: float) -> Tensor:
    """Of how many duplicates each event is part, ``(n,)``.

    Args:
        dissimilarity: of all pairs, ``(n, n)``, symmetric.
        threshold: up to which a pair counts.
    """
    alike = dissimilarity <= threshold
    return alike.sum(1) - alike.diagonal().long()


def support_size(of_events: Tensor) -> MetricResult:
    r"""The size of the support, from the number of duplicates of each event.

    With :math:`D` pairs among ``n`` events the value is :math:`n (n - 1) / (2D + 1)`: half a pair is added, so that it
    is finite. The variance of :math:`D` is that of a jackknife over events, corrected for the pairs' own scatter, and
    at least that of a Poisson number; the interval at 68.3 % is that of a Gamma distribution of so many pairs.

    Args:
        of_events: ``(n,)``, see :func:`duplicates`.

    >>> found = support_size(torch.tensor([1, 1, 0, 0, 0]))
    >>> print(f"{found.value:.3g}, {found.interval[0]:.2g} to {found.interval[1]:.2g}")
    6.67, 3.9 to 24
    """
    from scipy.stats import gamma

    n, pairs, relative = _counted(of_events)
    shape = 1 / relative**2
    low, high = (float(gamma.ppf(p, shape)) / shape for p in ((1 - ONE_SIGMA) / 2, (1 + ONE_SIGMA) / 2))
    size = n * (n - 1) / 2 / pairs
    return MetricResult(size, size * relative, interval=(size / high, size / low))


def _counted(of_events: Tensor) -> tuple[int, float, float]:
    """Events, duplicates and a half, and the relative uncertainty of the latter."""
    counts = of_events.to(torch.float64)
    found = counts.sum().item() / 2
    variance = max(found, (counts - counts.mean()).square().sum().item() - found)
    return len(counts), found + 0.5, math.sqrt(variance + 0.5) / (found + 0.5)


def _compared(truth: Tensor, generated: Tensor) -> Mapping[str, MetricResult]:
    """The results, from how many duplicates each event of both samples is part of."""
    (n, true, of_true), (m, found, of_found) = (_counted(x) for x in (truth, generated))
    decades = math.log10(found / (m * (m - 1))) - math.log10(true / (n * (n - 1)))
    uncertainty = math.hypot(of_true, of_found) / math.log(10)
    return {"size": support_size(generated), "": MetricResult(decades, uncertainty)}


def _least_of(dissimilarity: Tensor) -> float:
    """The dissimilarity of the 20th of the most alike pairs, those of an event with itself apart."""
    n = len(dissimilarity)
    first, second = torch.triu_indices(n, n, 1)
    values = dissimilarity[first, second]
    return values.kthvalue(min(PAIRS, len(values))).values.item()


@metric(
    view="samples",
    group="fidelity",
    unit="decades",
    weights="none",
    by_default=False,
    reference="Arora & Zhang, 1706.08224",
)
def support(truth: Tensor, generated: Tensor, seed: int) -> Mapping[str, MetricResult]:
    """Decades by which the generator's support is smaller than truth's, by the birthday paradox.

    :math:`log_{10}` of the share of pairs that are duplicates, generated over true, half a pair being added to each; 0
    for a perfect generator, 1 for one with a tenth of the events, negative for one that scatters more. Duplicates are
    nearer than the 20th nearest pair of truth, on features in truth's standard deviations; of each sample at most 3000
    events enter. The row ``size`` is the generator's support itself, with its interval: the number of equally probable
    events that would give as many duplicates. Blind to where the support lies. Conditions do not enter.
    """
    rows = [chosen(len(x), SUPPORT_EVENTS, seed, "support", w) for x, w in ((truth, "t"), (generated, "g"))]
    found, threshold = [], None
    for events in standardised(truth, truth[rows[0]], generated[rows[1]]):
        squared = squared_distances(events, events)
        threshold = _least_of(squared) if threshold is None else threshold
        found.append(duplicates(squared, threshold))
    return _compared(*found)


@metric(
    view="samples",
    group="fidelity",
    unit="decades",
    weights="none",
    needs=lacks_images,
    by_default=False,
    reference="Arora & Zhang, 1706.08224, with SSIM of Wang et al. 2004",
)
def support_ssim(truth: Tensor, generated: Tensor, seed: int) -> Mapping[str, MetricResult]:
    """Decades by which the support is smaller than truth's, duplicates being images with a high SSIM.

    As :func:`support`; duplicates are pairs with an SSIM of at least that of the 20th most similar pair of truth, of at
    most 800 events. See :func:`qgen.metrics.image_similarity.ssim`. Blind to where the support lies.
    """
    largest = largest_pixel(truth)
    found, threshold = [], None
    for x, which in ((truth, "t"), (generated, "g")):
        different = -ssim(x[chosen(len(x), SSIM_EVENTS, seed, "ssim", which)], largest)
        threshold = _least_of(different) if threshold is None else threshold
        found.append(duplicates(different, threshold + 1e-12))  # equal images are alike up to rounding
    return _compared(*found)
