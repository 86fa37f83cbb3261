"""Faults of generators, made from true events: what metrics are there to see."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.clusters import nearest
from qgen.data.dataset import Dataset
from qgen.metrics.bins import condition_bins
from qgen.metrics.columns import spread
from qgen.random import derive_seed, new_generator, normal

__all__ = ["FAULTS", "PERFECT", "Fault"]

Fault = Callable[[Dataset, Dataset, int, int], Dataset]
"""``(pool of true events, training events, number, seed) -> events of a faulty generator``."""

PERFECT = "none"
"""The name of the generator without a fault."""

TOO_HIGH = 1.05
LEAK = 0.05
KINDS = 8
TAIL = 0.02
COLLAPSED = 20
TIMES = 5
NOISE = 0.3
MISPAIRED = 0.5


def none(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """True events."""
    return pool.take(range(n))


def shifted_response(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """All energies 5 % too high; of muon events that of the force carrier, at most 99.9 % of the beam's."""
    events = none(pool, training, n, seed)
    if isinstance(events, CalorimeterDataset):
        return events.with_samples(TOO_HIGH * events.samples)
    energy = [f.name for f in events.features].index("energy")
    samples = events.samples.clone()
    samples[:, energy] = torch.minimum(TOO_HIGH * samples[:, energy], 0.999 * events.conditions[:, 0])
    return events.with_samples(samples)


def smeared(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """A twentieth of each pixel's energy in each neighbour along each axis; of muon events pT smeared by 20 %."""
    events = none(pool, training, n, seed)
    if isinstance(events, CalorimeterDataset):
        images = events.images
        for axis in range(1, images.ndim):
            last = images.shape[axis] - 1
            rows = torch.arange(last + 1)
            left, right = (images.index_select(axis, (rows + s).clamp(0, last)) for s in (-1, 1))
            images = (1 - 2 * LEAK) * images + LEAK * (left + right)
        return events.with_samples(images.flatten(1))
    pt = [f.name for f in events.features].index("pt")
    samples = events.samples.clone()
    samples[:, pt] *= (0.2 * _normal(samples[:, pt], seed, "smeared")).exp()
    return events.with_samples(samples)


def lost_correlation(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """Each feature of an event from another event of about the same condition (20 bins of it)."""
    events = none(pool, training, n, seed)
    samples = events.samples.clone()
    rng = new_generator(derive_seed(seed, "lost correlation"))
    for part in condition_bins(events, {events.condition_features[0].name: 20}):
        rows = part.holds(events).nonzero()[:, 0]
        for column in range(samples.shape[1]):
            samples[rows, column] = samples[rows[torch.randperm(len(rows), generator=rng)], column]
    return events.with_samples(samples)


def wrong_condition(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """Half of the events with the conditions of others."""
    events = none(pool, training, n, seed)
    conditions = events.conditions.clone()
    some = int(MISPAIRED * n)
    conditions[:some] = conditions[:some].roll(some // 2, 0)
    return events.with_samples(events.samples, conditions)


def dropped_mode(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """No event of one of the 8 kinds that k-means finds: of that with about an eighth of all."""
    from sklearn.cluster import KMeans

    scaled = pool.samples / spread(pool.samples)
    model = KMeans(KINDS, n_init=3, random_state=derive_seed(seed, "kinds") % 2**32).fit(scaled.numpy())
    kinds = nearest(scaled, torch.from_numpy(model.cluster_centers_))
    share = torch.bincount(kinds, minlength=KINDS) / len(kinds)
    return _first(pool, kinds != (share - 1 / KINDS).abs().argmin(), n)


def missing_tails(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """No event beyond the 2 % and 98 % quantiles of any physics feature, the sparsity apart."""
    seen = pool.observables()
    kept = torch.ones(len(pool), dtype=torch.bool)
    for feature, column in zip(seen.features, seen.samples.T, strict=True):
        if feature.name != "sparsity":
            low, high = torch.quantile(column, torch.tensor([TAIL, 1 - TAIL], dtype=column.dtype))
            kept &= (column >= low) & (column <= high)
    return _first(pool, kept, n)


def too_noisy(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """Every feature times a log-normal number of width 0.3; of muon events energies at most 99.9 % of the beam's."""
    events = none(pool, training, n, seed)
    samples = events.samples * (NOISE * _normal(events.samples, seed, "noisy")).exp()
    if not isinstance(events, CalorimeterDataset):
        energy = [f.name for f in events.features].index("energy")
        samples[:, energy] = torch.minimum(samples[:, energy], 0.999 * events.conditions[:, 0])
    return events.with_samples(samples)


def memorised(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """The training events themselves."""
    return training.take(range(n))


def collapsed(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """20 different events, again and again."""
    rows = torch.randint(COLLAPSED, (n,), generator=new_generator(derive_seed(seed, "collapsed")))
    return pool.take(rows)


def duplicated(pool: Dataset, training: Dataset, n: int, seed: int) -> Dataset:
    """Every event 5 times."""
    return pool.take(torch.arange(n) // TIMES)


FAULTS: dict[str, Fault] = {
    PERFECT: none,
    "shifted response": shifted_response,
    "smeared profile": smeared,
    "lost correlation": lost_correlation,
    "wrong conditional dependence": wrong_condition,
    "dropped mode": dropped_mode,
    "missing tail": missing_tails,
    "too noisy": too_noisy,
    "memorised training set": memorised,
    "collapsed": collapsed,
    "duplicated events": duplicated,
}
"""Every fault by name, the generator without one first."""


def _first(pool: Dataset, kept: Tensor, n: int) -> Dataset:
    rows = kept.nonzero()[:, 0]
    if len(rows) < n:
        raise ValueError(f"{len(rows)} events are left of a pool of {len(pool)}; {n} are needed")
    return pool.take(rows[:n])


def _normal(like: Tensor, seed: int, use: str) -> Tensor:
    return normal(tuple(like.shape), new_generator(derive_seed(seed, use)), dtype=like.dtype)
