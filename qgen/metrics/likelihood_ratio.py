"""A learned likelihood-ratio test in the manner of the New Physics Learning Machine (NPLM).

A flexible function ``f`` is fitted to the logarithm of the ratio of the generated to the true density, and the
likelihood ratio of that fit against ``f = 0`` is the statistic: it grows with every place where generated events are
too many or too few, and most where that is most significant. How it is distributed for a perfect generator is found by
fitting again to random divisions of all events.

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 1000, 2, generator=rng, dtype=torch.float64)
>>> generated[:20] = 4 + 0.1 * generated[:20]  # 2 % of odd events
>>> likelihood_ratio(truth, generated).p_value
0.0099...
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.metrics.base import WithPValue, metric
from qgen.metrics.pairs import squared_distances
from qgen.metrics.permutation import check_permutations, choose, divisions, p_value, pooled_units, together
from qgen.random import derive_seed, new_generator

__all__ = ["likelihood_ratio"]

MOST_EVENTS = 5000
"""Most events of each sample that are fitted."""
PENALTY = 1e-4
"""Of the squared norm of ``f`` in the kernel's space, relative to the number of events."""
STEPS = 50


@metric(
    view="joint",
    group="tests",
    by_default=False,
    unit="nats",
    bias=0,
    weights="positive",
    batched=True,
    max_columns=50_000,
    reference="D'Agnolo & Wulzer, 1806.02350; Letizia et al., 2204.02317",
)
def likelihood_ratio(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    weights: tuple[Tensor, Tensor],
    permutations: int = 100,
    centres: int = 100,
) -> WithPValue:
    r"""Learned likelihood-ratio test (NPLM): the divergence that a flexible fit sees, with its p-value.

    With :math:`t = 2 \sum_\mathrm{generated} f - 2 \frac{m}{n} \sum_\mathrm{truth} (e^f - 1)`, ``f`` is the
    fit of a kernel logistic regression: Gaussians at ``centres`` events of both samples (Nystrom), as wide as the
    median distance between those, columns in standard deviations of both samples together, a small penalty, 50 steps
    of bounded Newton descent. The p-value counts random divisions of all events that, fitted in the same way, have a
    ``t`` at least as large. The value is :math:`(t - \langle t \rangle) / 2 m`, the mean being over those divisions: an
    estimate of the Kullback-Leibler divergence of generated events from truth as far as ``f`` can follow it, 0 on
    average for a perfect generator. Of each sample at most 5000 events enter; for event weights see
    :func:`kernel_test`. In the references ``t`` is calibrated by pseudo-experiments of a large reference sample, and
    the kernel is wider. Blind to structures finer than the kernel, as in many columns most are.

    Args:
        truth: ``(n, d)``.
        generated: ``(m, d)``.
        seed: fixes the choice of events, the centres and the permutations.
        weights: of the events, not negative, ``(n,)`` and ``(m,)``.
        permutations: random divisions of all events.
        centres: of kernels; fewer events than that are all centres.
    """
    check_permutations("likelihood_ratio", permutations)
    if centres < 2:
        raise ValueError(f"option centres of likelihood_ratio is {centres}; at least 2 are needed")
    rows = choose(truth, generated, MOST_EVENTS, derive_seed(seed, "likelihood ratio"))
    n = len(rows[0])
    x = pooled_units(truth[rows[0]], generated[rows[1]])
    rng = new_generator(derive_seed(seed, "likelihood ratio", "centres"))
    basis = _features(x, x[torch.randperm(len(x), generator=rng)[:centres]])
    pooled = together(weights, rows)
    first = (torch.arange(len(x)) < n).to(x.dtype)
    drawn = divisions(n, len(x), permutations, derive_seed(seed, "likelihood ratio", "permutations"))
    found = _statistic(basis, drawn * pooled, pooled, pooled)
    mean = found[1:].mean()

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        u = together((w, v), rows)
        return (_statistic(basis, u * first, u, pooled) - mean) / (2 * (len(x) - n))

    return WithPValue(estimate, lambda: p_value(found))


def _features(x: Tensor, centres: Tensor) -> Tensor:
    """Orthonormal functions of the kernel's space at all events, ``(n + m, r)``."""
    between = squared_distances(centres, centres)
    apart = between[between > 0]
    variance = apart.median() if len(apart) else between.new_ones(())
    values, vectors = torch.linalg.eigh(between.div_(-2 * variance).exp_())
    keep = values > 1e-9 * values[-1]
    return squared_distances(x, centres).div_(-2 * variance).exp_() @ (vectors[:, keep] / values[keep].sqrt())


def _statistic(basis: Tensor, inside: Tensor, u: Tensor, pooled: Tensor) -> Tensor:
    """``t`` of divisions ``(r, n + m)``.

    Args:
        basis: functions at all events.
        inside: weights of events that count as true, 0 for the others.
        u: weights of all events, ``(n + m,)`` or ``(r, n + m)``.
        pooled: weights without the bootstrap's, which fix the size of steps.
    """
    outside = u - inside
    m = outside.sum(1, keepdim=True)
    inside = inside * (m / inside.sum(1, keepdim=True))
    penalty = PENALTY * len(basis)
    # at most a quarter of each weight is the loss's curvature; twice that leaves room for the bootstrap's
    curvature = (basis * pooled[:, None]).T @ basis / 2
    curvature.diagonal().add_(penalty)
    factor = torch.linalg.cholesky(curvature)
    c = basis.new_zeros(len(inside), basis.shape[1])
    for _ in range(STEPS):
        odds = torch.sigmoid(c @ basis.T)
        slope = (outside * (1 - odds) - inside * odds) @ basis - penalty * c
        c = c + torch.cholesky_solve(slope.T, factor).T
    f = c @ basis.T
    return 2 * ((outside * f).sum(1) - (inside * torch.expm1(f)).sum(1))
