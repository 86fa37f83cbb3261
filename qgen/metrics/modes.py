r"""Mode dropping: kinds of true events that the generator leaves out.

>>> import torch
>>> rng = torch.Generator().manual_seed(0)
>>> truth, generated = torch.randn(2, 2000, 2, generator=rng, dtype=torch.float64)
>>> truth[:200] += 10.0
>>> found = mode_dropping(truth, generated)
>>> round(found.value, 2)
0.1
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qgen.data.clusters import nearest
from qgen.metrics.base import metric
from qgen.metrics.columns import chosen
from qgen.metrics.counting import effective_count, share
from qgen.metrics.neighbours import standardised
from qgen.metrics.result import MetricResult
from qgen.random import derive_seed

__all__ = ["dropped_modes", "mode_dropping"]

MODE_EVENTS = 10_000
"""Most true events in which modes are sought."""


def dropped_modes(
    truth: Tensor,
    generated: Tensor,
    *,
    least: float = 0.5,
    level: float = 0.01,
    weights: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Modes that the generator hits significantly less than expected.

    A mode is dropped if its ``g`` generated events are too few even for a generator that hits it only ``least`` times
    as often as truth does: given ``t`` true ones in the mode, samples of ``n`` and ``m`` events and ``t + g`` together,
    ``g`` is binomial with probability ``least m / (least m + n)``, and the probability of ``g`` or fewer is below
    ``level`` over the number of modes (so that ``level`` is that of a false alarm in any mode).

    Args:
        truth: the number of each event's mode, ``(n,)``, from 0: clusters, particles, processes.
        generated: likewise, ``(m,)``; a number that truth does not have is no mode of its own.
        least: share of truth's frequency below which a mode counts as dropped, at most 1.
        level: of significance.
        weights: of the events, ``(n,)`` and ``(m,)``, of either sign; a mode's events then are its share of the
            effective number of events, :func:`~qgen.metrics.counting.effective_count`, rounded.

    Returns:
        The numbers of the dropped modes, and of each of them the p-value.

    Raises:
        ValueError: ``least`` or ``level`` out of range.

    >>> truth, generated = torch.tensor([0] * 50 + [1] * 50), torch.tensor([0] * 98 + [1] * 2)
    >>> dropped_modes(truth, generated)[0].tolist()
    [1]
    """
    from scipy.stats import binom

    if not 0 < least <= 1:
        raise ValueError(f"least is {least}; it must be above 0 and at most 1")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    n_modes = int(max(truth.max(), generated.max())) + 1
    w, v = weights or tuple(torch.ones(len(x), dtype=torch.float64) for x in (truth, generated))
    n, m = effective_count(w), effective_count(v)
    expected, found = (
        (torch.bincount(x, of, n_modes) * (count / of.sum())).clamp_min(0).round()
        for x, of, count in ((truth, w, n), (generated, v, m))
    )
    modes = expected.nonzero()[:, 0]
    together = (expected + found)[modes]
    expectation = least * m / (least * m + n)
    p_values = torch.from_numpy(binom.cdf(found[modes].numpy(), together.numpy(), expectation))
    dropped = p_values < level / len(modes)
    return modes[dropped], p_values[dropped]


@metric(
    view="samples",
    group="fidelity",
    weights="signed",
    by_default=False,
    reference="counts of modes after Metz et al., 1611.02163; binomial test: ours",
)
def mode_dropping(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    weights: tuple[Tensor, Tensor],
    modes: int = 20,
    least: float = 0.5,
    level: float = 0.01,
) -> Mapping[str, MetricResult]:
    """Share of true events in modes that the generator hits significantly less than half as often as truth.

    0 if none is dropped, with Wilson's interval of the share; the row ``dropped`` is the number of dropped modes. Modes
    are the 20 clusters that k-means finds in truth (of at most 10,000 events, features in truth's standard deviations;
    as many as there are different events if these are fewer); an event is of the mode whose centre is nearest. For the
    test see :func:`dropped_modes`, which also takes modes that are known. Weights count in the shares. Blind to modes
    that are finer than clusters, or that hold fewer true events than the test needs (about 20).
    """
    if modes < 2:
        raise ValueError(f"modes is {modes}; at least 2 are needed")
    x, y = standardised(truth, truth, generated)
    centres = _centres(x[chosen(len(x), MODE_EVENTS, seed, "modes")], modes, seed)
    of_truth, of_generated = nearest(x, centres), nearest(y, centres)
    which, _ = dropped_modes(of_truth, of_generated, least=least, level=level, weights=weights)
    lost = share(torch.isin(of_truth, which), weights[0])
    return {"dropped": MetricResult(float(len(which)), 0.0), "": lost}


def _centres(events: Tensor, modes: int, seed: int) -> Tensor:
    from sklearn.cluster import KMeans

    different = events.unique(dim=0)
    if len(different) <= modes:
        return different
    model = KMeans(modes, n_init=3, random_state=derive_seed(seed, "modes") % 2**32)
    return torch.from_numpy(model.fit(events.numpy()).cluster_centers_)
