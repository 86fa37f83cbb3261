"""Normal clusters on a ring: the toy that shows whether a generator finds every mode."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt

from qgen.data.dataset import Dataset, Feature
from qgen.random import derive_seed, new_generator, normal

__all__ = ["ring_events"]


def ring_events(
    *,
    n: Annotated[int, Gt(0)] = 4000,
    modes: Annotated[int, Ge(1)] = 4,
    radius: Annotated[float, Gt(0)] = 1.0,
    width: Annotated[float, Gt(0)] = 0.15,
    seed: int = 0,
) -> Dataset:
    """Two features from a mixture of equal, round normal clusters, evenly spaced on a ring.

    Args:
        n: number of events.
        modes: number of clusters, the first at angle 0.
        radius: of the ring on which their centres lie.
        width: standard deviation of a cluster in either feature.
        seed: fixes the events and the splits.

    Raises:
        ValueError: an argument is out of range.

    >>> ring_events(n=100).samples.shape
    torch.Size([100, 2])
    """
    if n < 1 or modes < 1 or not 0 < radius < math.inf or not 0 < width < math.inf:
        raise ValueError(f"n {n}, modes {modes}, radius {radius} and width {width} must all be positive and finite")
    rng = new_generator(derive_seed(seed, "ring"))
    angle = torch.randint(modes, (n,), generator=rng).to(torch.float64) * (2 * math.pi / modes)
    centre = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    samples = centre + width * normal((n, 2), rng, dtype=torch.float64)
    provenance = {"distribution": "ring", "modes": modes, "radius": radius, "width": width, "seed": seed}
    return Dataset(samples, (Feature("x"), Feature("y")), seed=seed, provenance=provenance)
