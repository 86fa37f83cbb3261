"""Kuiper's distance of each feature.

>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 2000, 1, generator=rng, dtype=torch.float64)
>>> kuiper(truth, generated).value < 0.08 < 0.2 < kuiper(truth, 2 * generated).value
True
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric

__all__ = ["kuiper"]


@metric(
    view="samples",
    per_feature=True,
    by_default=False,
    bias=0.5,
    weights="signed",
    reference="Kuiper, Proc. K. Ned. Akad. Wet. A 63 (1960) 38",
)
def kuiper(truth: Tensor, generated: Tensor, seed: int) -> Estimator:
    r"""Kuiper's distance of each feature: the greatest excesses of either cumulative distribution, added.

    :math:`\max (F - G) + \max (G - F)`, between 0 and 1. As sensitive in the tails as in the middle, where the
    Kolmogorov-Smirnov distance is at its best; on a circle (an azimuth) it does not depend on where the circle is cut.
    Blind to how far apart values are, and to dependence between features.
    """
    ordered = [torch.cat(pair).sort() for pair in zip(truth.T, generated.T, strict=True)]
    ranks = [order.int() for _, order in ordered]
    last_of_ties = [values.diff(append=values.new_full((1,), torch.inf)) > 0 for values, _ in ordered]

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        masses = torch.cat([w / w.sum(), -v / v.sum()])
        differences = (masses[rank].cumsum(0) * last for rank, last in zip(ranks, last_of_ties, strict=True))
        return torch.stack([x.amax().clamp_min(0) - x.amin().clamp_max(0) for x in differences])

    return estimate
