r"""How far a backend's distribution is from the exact one of the same circuit: the backend's error without the model's.

With :math:`p` exact and :math:`q` of the backend, the total variation is :math:`\frac12 \sum_x |p_x - q_x|`, the
largest difference in the probability of any set of outcomes, and the Hellinger fidelity
:math:`\bigl(\sum_x \sqrt{p_x q_x}\bigr)^2`, 1 for equal distributions.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuits.backends import Backend, Statevector
from qgen.generator import DiscreteGenerator, Generator
from qgen.random import new_generator

__all__ = ["DISTANCES", "distances"]

DISTANCES = ("distance to exact", "fidelity to exact")
"""Total variation and Hellinger fidelity, by the names that they have in tables."""

REPEATS = 5
PERFECT_REPEATS = 100
MOST_BITS = 20


@torch.no_grad()
def distances(generator: Generator, backend: Backend, shots: int | None, seed: int) -> dict[str, dict[str, float]]:
    """Distances between a model's distribution over its cells on a backend and the exact one.

    A backend with shots is asked five times, a remote one once; the value is the mean, the uncertainty that of the
    mean. The floor is what a perfect backend with as many shots scores, so it is 0 (or 1) without shots. Asked once,
    the uncertainty is taken from the floor.

    Args:
        generator: the model; its backend is put back as it was.
        backend: to be judged.
        shots: of each of its answers, None if it has none.
        seed: of the draws for the floor.

    Returns:
        By name ``value``, ``uncertainty``, ``floor`` and ``floor_uncertainty``; empty for a model that is not discrete,
        whose distribution depends on a condition, or of more than 20 bits.
    """
    if not isinstance(generator, DiscreteGenerator) or generator.uses_condition:
        return {}
    if generator.discretiser.n_bits > MOST_BITS:
        return {}
    host: Any = generator
    before = host.backend
    rng = new_generator(seed)
    capabilities = backend.capabilities
    repeats = 1 if capabilities.exact or capabilities.remote else REPEATS
    try:
        host.backend = Statevector(device=generator.device)
        exact = generator.probabilities(None, rng)[0].double().cpu()
        host.backend = backend
        answers = torch.stack([generator.probabilities(None, rng)[0].double().cpu() for _ in range(repeats)])
    finally:
        host.backend = before
    perfect = exact[None]
    if shots is not None:
        counts = np.random.default_rng(seed).multinomial(shots, (exact / exact.sum()).numpy(), size=PERFECT_REPEATS)
        perfect = torch.from_numpy(counts / shots)
    found = {}
    for name, measure in zip(DISTANCES, (_total_variation, _hellinger), strict=True):
        # beyond the twelfth digit there is rounding only, which would look like a spread between seeds
        values, floors = (measure(exact, q).round(decimals=12).tolist() for q in (answers, perfect))
        spread = statistics.stdev(floors) if len(floors) > 1 else 0.0
        found[name] = {
            "value": statistics.fmean(values),
            "uncertainty": statistics.stdev(values) / repeats**0.5 if repeats > 1 else spread,
            "floor": statistics.fmean(floors),
            "floor_uncertainty": spread / repeats**0.5,
        }
    return found


def _total_variation(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).abs().sum(-1) / 2


def _hellinger(p: Tensor, q: Tensor) -> Tensor:
    return (p.clamp_min(0) * q.clamp_min(0)).sqrt().sum(-1) ** 2
