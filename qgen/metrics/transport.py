"""Optimal transport in many columns: along random directions, and with entropy.

>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 1000, 3, generator=rng, dtype=torch.float64)
>>> sliced_wasserstein(truth, generated).value < 0.08 < 0.2 < sliced_wasserstein(truth, generated + 0.5).value
True
>>> sinkhorn(truth, generated).value < 0.1 < 0.6 < sinkhorn(truth, generated + 0.5).value < 1
True
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qgen.metrics.base import Estimator, metric
from qgen.metrics.columns import chosen, spread
from qgen.metrics.pairs import squared_distances
from qgen.random import derive_seed, new_generator

__all__ = ["sinkhorn", "sliced_wasserstein"]

MOST_DIRECTIONS = 10_000
SINKHORN_EVENTS = 1000
"""Most events of each sample that enter the matrices of costs."""
SETTLED = 1e-4
MOST_ROUNDS = 300
WIDEST = 4.0**7


@metric(
    view="joint",
    bias=0.5,
    weights="signed",
    by_default=False,
    unit="standard deviations of truth",
    reference="Bonneel et al., J. Math. Imaging Vis. 51 (2015) 22",
)
def sliced_wasserstein(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    weights: tuple[Tensor, Tensor],
    directions: int = 50,
    order: int = 1,
) -> Estimator:
    r"""Sliced Wasserstein distance of features and conditions in truth's standard deviations.

    Mean over 50 ``directions``, drawn isotropically by ``seed``, of the Wasserstein distance of the projections: of
    ``order`` 1, :math:`\int |F - G| dx`, or 2, :math:`\int (F^{-1} - G^{-1})^2 du`, of whose mean the root is taken.
    All events enter. With order 2 weights must not be negative. Nearly blind to a fault of one of many columns:
    of ``d`` it is seen with :math:`1 / \sqrt d` of its size; the Wasserstein distance of each feature is sharper then.
    """
    if not isinstance(directions, int) or not 1 <= directions <= MOST_DIRECTIONS:
        raise ValueError(f"directions is {directions}; a whole number from 1 to {MOST_DIRECTIONS} is allowed")
    if order not in (1, 2):
        raise ValueError(f"order is {order}; allowed are 1 and 2")
    if order == 2 and any((w < 0).any() for w in weights):
        raise ValueError("sliced_wasserstein of order 2 is not defined for negative weights")
    rng = new_generator(derive_seed(seed, "directions"))
    towards = torch.randn(truth.shape[1], directions, generator=rng, dtype=truth.dtype)
    towards = towards / towards.norm(dim=0) / spread(truth)[:, None]
    sides = [(x @ towards).T.contiguous() for x in (truth, generated)]
    if order == 1:
        pooled, ranks = torch.cat(sides, 1).sort(dim=1)
        steps, ranks = pooled.diff(dim=1), ranks.int()

        def first(w: Tensor, v: Tensor) -> Tensor:
            masses = torch.cat([w / w.sum(), -v / v.sum()])
            areas = [masses[rank].cumsum(0)[:-1].abs() @ step for rank, step in zip(ranks, steps, strict=True)]
            return torch.stack(areas).mean()

        return first
    ordered = [(values, rank.int()) for values, rank in (x.sort(dim=1) for x in sides)]

    def second(w: Tensor, v: Tensor) -> Tensor:
        squares = [
            _squared_transport(*((values[k], x[ranks[k]]) for (values, ranks), x in zip(ordered, (w, v), strict=True)))
            for k in range(directions)
        ]
        return torch.stack(squares).mean().sqrt()

    return second


def _squared_transport(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Squared Wasserstein-2 distance of two sets of values in order ``(n,)`` with weights ``(n,)``."""
    shares = [weights.cumsum(0) / weights.sum() for _, weights in (one, other)]
    levels = torch.cat(shares).sort().values
    middles = levels - levels.diff(prepend=levels.new_zeros(1)) / 2
    gaps = [
        values[torch.searchsorted(share, middles).clamp_max(len(values) - 1)]
        for (values, _), share in zip((one, other), shares, strict=True)
    ]
    return (gaps[0] - gaps[1]).square() @ levels.diff(prepend=levels.new_zeros(1))


@metric(
    view="joint",
    by_default=False,
    unit="squared standard deviations of truth",
    reference="Feydy et al., 1810.08278",
)
def sinkhorn(
    truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor], epsilon: float = 0.3
) -> Estimator:
    r"""Sinkhorn divergence of features and conditions in truth's standard deviations.

    :math:`S = T(p, q) - \frac12 T(p, p) - \frac12 T(q, q)`, where :math:`T(p, q)` is the least
    :math:`\int |x - y|^2 d\pi + \varepsilon\,\mathrm{KL}(\pi \| p \otimes q)` of all plans :math:`\pi` that carry ``p``
    to ``q``, and :math:`\varepsilon` is ``epsilon`` (0.3) times the median squared distance between different truth
    events. It goes from the squared Wasserstein-2 distance at :math:`\varepsilon = 0` to that of the means at infinity.
    Of each sample at most 1000 events enter, drawn by ``seed``. Solved on logarithms until the potentials move by less
    than :math:`10^{-4} \varepsilon`, at most 300 times; bootstrap replicas are taken to first order in the events'
    weights: the potentials are the derivatives by them. They do not have the bias, which falls as 1/N, so nothing is
    extrapolated. Blind to structure finer than :math:`\sqrt\varepsilon`.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon}; it must be positive and finite")
    rows = [
        chosen(len(x), SINKHORN_EVENTS, seed, "sinkhorn", which)
        for x, which in ((truth, "truth"), (generated, "generated"))
    ]
    scale = spread(truth)
    a, b = truth[rows[0]] / scale, generated[rows[1]] / scale
    w, v = (x[i] / x[i].sum() for x, i in zip(weights, rows, strict=True))
    middle = w @ a, v @ b
    a, b = a - middle[0], b - middle[1]
    shift = middle[0] - middle[1]
    distances = squared_distances(a, a)
    apart = distances[distances > 0]
    strength = epsilon * (float(apart.median()) if len(apart) else 1.0)
    f, g = _potentials(squared_distances(a, b), w, v, strength)
    p, q = _own_potential(distances, w, strength), _own_potential(squared_distances(b, b), v, strength)
    f = f - p + 2 * a @ shift + shift @ shift
    g = g - q - 2 * b @ shift

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        w, v = w[rows[0]], v[rows[1]]
        return w @ f / w.sum() + v @ g / v.sum()

    return estimate


def _potentials(costs: Tensor, w: Tensor, v: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Of a plan between weights ``w`` ``(n,)`` and ``v`` ``(m,)``; the strength of the entropy falls to its value."""
    across, log_w, log_v, work = costs.T.contiguous(), w.log(), v.log(), torch.empty_like(costs)
    work_across = torch.empty_like(across)
    f, now = torch.zeros_like(w), _first_strength(costs, strength)
    for _ in range(MOST_ROUNDS):
        g = _soft_least(across, f, log_w, now, work_across)
        last, f = f, _soft_least(costs, g, log_v, now, work)
        if now == strength and (f - last).abs().max() < SETTLED * strength:
            break
        now = max(strength, now / 4)
    return f, g


def _own_potential(costs: Tensor, w: Tensor, strength: float) -> Tensor:
    """Of a plan between weights ``w`` ``(n,)`` and themselves: mean of the two, which meet in the limit."""
    log_w, work = w.log(), torch.empty_like(costs)
    f, now = torch.zeros_like(w), _first_strength(costs, strength)
    for _ in range(MOST_ROUNDS):
        other = _soft_least(costs, f, log_w, now, work)
        last, f = f, (f + other) / 2
        if now == strength and (f - last).abs().max() < SETTLED * strength:
            break
        now = max(strength, now / 4)
    return (f + _soft_least(costs, f, log_w, strength, work)) / 2


def _first_strength(costs: Tensor, strength: float) -> float:
    return float(costs.max().clamp(strength, WIDEST * strength))


def _soft_least(costs: Tensor, g: Tensor, log_v: Tensor, strength: float, work: Tensor) -> Tensor:
    """Smoothed least cost of each row, ``-strength ln sum_j v_j exp((g_j - cost_ij) / strength)``."""
    torch.div(costs, -strength, out=work).add_(g / strength + log_v)
    most = work.amax(1, keepdim=True)
    return -strength * (work.sub_(most).exp_().sum(1).log() + most[:, 0])
