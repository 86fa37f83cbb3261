"""Two-sample tests whose p-value comes from permutations: a kernel test and sliced Kolmogorov-Smirnov.

If both samples have one distribution, any division of all events into two samples of these sizes is as probable as the
one that was found. The p-value is the fraction of random divisions with a statistic at least as large,
``(1 + count) / (1 + permutations)``: exact for any number of events and columns. For that, scales and bandwidths are
those of all events together, which no permutation changes.

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 500, 2, generator=rng, dtype=torch.float64)
>>> print(sliced_ks(truth, generated))
0.0... ± 0.0... (p = 0...)
>>> kernel_test(truth, 1.2 * generated).p_value < 0.05
True
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.metrics.base import WithPValue, metric
from qgen.metrics.columns import chosen, spread
from qgen.metrics.pairs import squared_distances
from qgen.random import derive_seed, new_generator

__all__ = [
    "check_permutations",
    "choose",
    "divisions",
    "kernel_test",
    "p_value",
    "pooled_units",
    "sliced_ks",
    "together",
]

KERNEL_EVENTS = 1000
"""Most events of each sample in the kernel matrix."""
SLICED_EVENTS = 5_000
"""Most events of each sample that are projected and sorted."""


@metric(
    view="joint",
    group="tests",
    by_default=False,
    bias=0,
    weights="signed",
    batched=True,
    max_columns=50_000,
    reference="Gretton et al., JMLR 13 (2012) 723",
)
def kernel_test(
    truth: Tensor, generated: Tensor, seed: int, weights: tuple[Tensor, Tensor], permutations: int = 200
) -> WithPValue:
    r"""Squared maximum mean discrepancy, unbiased, with a p-value from permutations.

    The kernel is the mean of four Gaussians :math:`\exp(-|x - y|^2 / 2 s^2)`, ``s`` being 1/4, 1/2, 1 and 2 times the
    median distance between events of both samples, in columns divided by the standard deviation of both together. Of
    each sample at most 1000 events enter, drawn by ``seed``. The value fluctuates about 0 for a perfect generator.
    Event weights travel with their events, so the p-value of weighted events is good where both samples are of about
    the same size and many events each. Blind to differences that are small and local, in a few of many events.

    Args:
        truth: ``(n, d)``.
        generated: ``(m, d)``.
        seed: fixes the choice of events and the permutations.
        weights: of the events, ``(n,)`` and ``(m,)``.
        permutations: random divisions of all events.
    """
    check_permutations("kernel_test", permutations)
    rows = choose(truth, generated, KERNEL_EVENTS, derive_seed(seed, "kernel test"))
    n = len(rows[0])
    x = pooled_units(truth[rows[0]], generated[rows[1]])
    kernel = _kernel(x)
    pooled = together(weights, rows)
    first = (torch.arange(len(x)) < n).to(x.dtype)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        u = together((w, v), rows)
        return _discrepancy(kernel, u * first, u)

    def p() -> float:
        inside = divisions(n, len(x), permutations, derive_seed(seed, "kernel test", "permutations"))
        return p_value(_discrepancy(kernel, inside * pooled, pooled))

    return WithPValue(estimate, p)


@metric(
    view="joint",
    group="tests",
    by_default=False,
    bias=0.5,
    weights="signed",
    batched=True,
    max_columns=50_000,
    reference="Grossi, Letizia & Torre, 2409.16336",
)
def sliced_ks(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    weights: tuple[Tensor, Tensor],
    slices: int = 50,
    permutations: int = 200,
) -> WithPValue:
    r"""Mean Kolmogorov-Smirnov distance along random directions, with a p-value from permutations.

    :math:`\langle \max |F - G| \rangle`, ``F`` and ``G`` being the cumulative distributions of the events' projections
    on ``slices`` directions drawn uniformly by ``seed``, in columns divided by the standard deviation of both samples
    together. Of each sample at most 5000 events enter. For event weights see :func:`kernel_test`. Blind to what
    averages out along a direction: in many columns to all that is neither in means nor in widths nor in correlations.

    Args:
        truth: ``(n, d)``.
        generated: ``(m, d)``.
        seed: fixes the choice of events, the directions and the permutations.
        weights: of the events, ``(n,)`` and ``(m,)``.
        slices: directions.
        permutations: random divisions of all events.
    """
    check_permutations("sliced_ks", permutations)
    if slices < 1:
        raise ValueError(f"option slices of sliced_ks is {slices}; at least 1 is needed")
    rows = choose(truth, generated, SLICED_EVENTS, derive_seed(seed, "sliced ks"))
    n = len(rows[0])
    x = pooled_units(truth[rows[0]], generated[rows[1]])
    rng = new_generator(derive_seed(seed, "sliced ks", "directions"))
    directions = torch.randn(x.shape[1], slices, generator=rng, dtype=x.dtype)
    projected, order = (x @ (directions / directions.norm(dim=0))).T.contiguous().sort(dim=1)
    last_of_ties = torch.ones_like(projected, dtype=torch.bool)
    last_of_ties[:, :-1] = projected.diff(dim=1) > 1e-12 * projected.abs().amax(1, keepdim=True)
    pooled = together(weights, rows)
    first = (torch.arange(len(x)) < n).to(x.dtype)

    def statistic(inside: Tensor, u: Tensor) -> Tensor:
        """Of events' weights ``u`` ``(n + m,)`` or ``(r, n + m)`` and those in the first sample, ``(r, n + m)``."""
        total = inside.sum(1, keepdim=True)
        difference = inside / total - (u - inside) / (u.sum(-1, keepdim=True) - total)
        distance = torch.zeros(len(inside), dtype=x.dtype)
        for one, last in zip(order, last_of_ties, strict=True):
            distance += (difference[:, one].cumsum_(1).abs_() * last).amax(1)
        return distance / slices

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        u = together((w, v), rows)
        return statistic(u * first, u)

    def p() -> float:
        inside = divisions(n, len(x), permutations, derive_seed(seed, "sliced ks", "permutations"))
        return p_value(torch.cat([statistic(part * pooled, pooled) for part in inside.split(50)]))

    return WithPValue(estimate, p)


def check_permutations(name: str, permutations: int) -> None:
    """Refuse too few permutations for a p-value.

    Raises:
        ValueError: fewer than 20.
    """
    if permutations < 20:
        raise ValueError(f"option permutations of {name} is {permutations}; at least 20 are needed for a p-value")


def choose(truth: Tensor, generated: Tensor, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of at most ``most`` events of each sample, drawn by ``seed``, in order."""
    t, g = (chosen(len(x), most, seed, which) for x, which in ((truth, "truth"), (generated, "generated")))
    return t.sort().values, g.sort().values


def pooled_units(truth: Tensor, generated: Tensor) -> Tensor:
    """Both samples, truth first, each column about its mean and in its standard deviation over both together."""
    x = torch.cat([truth, generated])
    return (x - x.mean(0)) / spread(x)


def divisions(n: int, total: int, permutations: int, seed: int) -> Tensor:
    """The division that was found and random ones, ``(1 + permutations, total)``: 1 in the first sample, else 0.

    >>> divisions(2, 5, 1, seed=0)[0].tolist(), divisions(2, 5, 1, seed=0).sum(1).tolist()
    ([1.0, 1.0, 0.0, 0.0, 0.0], [2.0, 2.0])
    """
    rng = new_generator(seed)
    inside = torch.zeros(1 + permutations, total, dtype=torch.float64)
    inside[0, :n] = 1
    for row in inside[1:]:
        row[torch.randperm(total, generator=rng)[:n]] = 1
    return inside


def p_value(statistics: Tensor) -> float:
    """Of a statistic of order one: first that of the division found, then those of random ones; ties count.

    >>> p_value(torch.tensor([3.0, 1.0, 2.0, 4.0]))
    0.5
    """
    found, others = statistics[0], statistics[1:]
    rounding = 1e-12 * statistics.abs().max().clamp_min(1)
    return (1 + int((others >= found - rounding).sum())) / (1 + len(others))


def together(weights: tuple[Tensor, Tensor], rows: tuple[Tensor, Tensor]) -> Tensor:
    """Weights ``(..., n + m)`` of the chosen events of both samples, of mean 1 in each."""
    chosen = [w[..., r] for w, r in zip(weights, rows, strict=True)]
    return torch.cat([w / w.mean(-1, keepdim=True) for w in chosen], -1)


def _kernel(x: Tensor) -> Tensor:
    """Kernel between all events, 0 between an event and itself."""
    squared = squared_distances(x, x)
    apart = squared[squared > 0]
    bandwidth = apart.median() if len(apart) else squared.new_ones(())
    gaussian = squared.div_(-8 * bandwidth).exp_()  # the widest; each next is the one before to the 4th
    total = gaussian.clone()
    for _ in range(3):
        total += gaussian.square_().square_()
    return total.div_(4).fill_diagonal_(0)


def _discrepancy(kernel: Tensor, inside: Tensor, u: Tensor) -> Tensor:
    """Unbiased squared discrepancy of events' weights ``u``, ``inside`` those in the first sample, ``(r, n + m)``."""
    outside = u - inside
    near = inside @ kernel
    within, between = (near * inside).sum(1), (near * outside).sum(1)
    beyond = ((u @ kernel) * u).sum(-1) - within - 2 * between
    a, b = inside.sum(1), outside.sum(1)
    pairs = a**2 - (inside**2).sum(1), b**2 - (outside**2).sum(1)
    return within / pairs[0] + beyond / pairs[1] - 2 * between / (a * b)
