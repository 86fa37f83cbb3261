"""Shapes of showers: longitudinal and lateral profiles, correlations of layers, centres and widths.

>>> from qgen.data import load_calorimeter
>>> data = load_calorimeter(grid=(8, 8), max_events=2000)
>>> truth, generated = data.take(range(1000)), data.take(range(1000, 2000))
>>> shifted = generated.with_samples(generated.images.roll(1, 1).flatten(1))
>>> lateral_profile(truth, shifted).value > 0.3 > lateral_profile(truth, generated).value
True
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.voxels import layer_energies, layers_of, voxel_positions
from qgen.metrics.base import Named, metric
from qgen.metrics.columns import spread, varies
from qgen.metrics.distances import pearson
from qgen.metrics.lacks import lacks_layers, lacks_positions
from qgen.metrics.shared import column_distances, ratio

__all__ = ["lateral_profile", "lateral_shape", "layer_correlation", "longitudinal_profile"]

N_GROUPS = 25
"""Most groups of positions in a lateral profile."""


def _layer_names(showers: CalorimeterDataset) -> tuple[str, ...]:
    return tuple(f"layer_{layer.number}" for layer in layers_of(showers))


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="standard deviations of truth",
    reference="mean longitudinal profile of a calorimeter shower",
    by_default=False,
    needs=lacks_layers,
    batched=True,
)
def longitudinal_profile(truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int) -> Named:
    r"""Difference of the mean share of a shower's energy that is in each layer.

    :math:`|\langle f_l \rangle_q - \langle f_l \rangle_p| / \sigma_p(f_l)`, the spread being that from shower to
    shower; for a layer whose share is the same in all of truth, the difference itself. An empty shower has no share
    anywhere. It is blind to fluctuations of the profile and to the energy scale.
    """
    a, b = (ratio(e, e.sum(1, keepdim=True)) for e in map(layer_energies, (truth, generated)))
    scale = spread(a)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return (w @ a / w.sum(-1, keepdim=True) - v @ b / v.sum(-1, keepdim=True)).abs() / scale

    return Named(_layer_names(truth), estimate)


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="share of the energy",
    reference="mean lateral profiles of a calorimeter shower, total variation distance",
    by_default=False,
    needs=lacks_positions,
    batched=True,
)
def lateral_profile(truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int) -> Named:
    r"""Share of a shower's energy that is in the wrong place along x, along y and in radius, on average.

    :math:`\frac12 \sum_i |\langle f_i \rangle_q - \langle f_i \rangle_p|`, the total variation of the mean profiles,
    between 0 and 1; :math:`f_i` is the share of a shower's energy at position :math:`i`. Positions are those of the
    voxels; of more than 25, neighbours are put together to at most 25 groups of about equal true energy. The radius is
    from the middle of the grid. Empty showers have no share anywhere. It is blind to the shape of single showers, as
    long as their mean is right, and to the energy scale.
    """
    energies = [x.samples.sum(1) for x in (truth, generated)]
    inverse = [ratio(torch.ones_like(e), e) for e in energies]
    mean = inverse[0] @ truth.samples / len(truth)
    positions = voxel_positions(truth)
    groups = {axis: _groups(values, mean) for axis, values in positions.items()}

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        p, q = (
            (weights / weights.sum(-1, keepdim=True) * one_over) @ x.samples
            for weights, one_over, x in zip((w, v), inverse, (truth, generated), strict=True)
        )
        apart = p - q
        return torch.stack([(apart @ group).abs().sum(-1) / 2 for group in groups.values()], -1)

    return Named(tuple(groups), estimate)


def _groups(positions: Tensor, mean: Tensor) -> Tensor:
    """As 0 and 1 which voxels are at each (group of) position, ``(voxels, groups)``; none at nan."""
    known = positions.isfinite()
    places, at = positions[known].mul(1e9).round().unique(return_inverse=True)
    if len(places) > N_GROUPS:
        energy = torch.zeros(len(places), dtype=mean.dtype).index_add_(0, at, mean[known].clamp_min(0))
        middle = energy.cumsum(0) - energy / 2
        share = middle / energy.sum() if energy.sum() > 0 else torch.arange(len(places)) / len(places)
        at = (share * N_GROUPS).long().clamp_max(N_GROUPS - 1)[at]
    found = torch.zeros(len(positions), int(at.max()) + 1, dtype=mean.dtype)
    found[known.nonzero()[:, 0], at] = 1
    return found[:, found.sum(0) > 0]


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    reference="Pearson correlations of the energies of layers",
    by_default=False,
    needs=lacks_layers,
)
def layer_correlation(truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int) -> Named:
    r"""Mean absolute difference of the Pearson correlations of each layer with all others.

    Of the layers' energies over the incident energy, which would else make all of them rise and fall together. A layer
    that is constant has correlation 0 with every other. It is blind to the energies of single layers.
    """
    a, b = (layer_energies(x) / x.incident_energy[:, None] for x in (truth, generated))
    scale, others = spread(a), a.shape[1] - 1
    centred = [(x - x.mean(0)) / scale * varies(x) for x in (a, b)]
    widths = [x.abs().amax(0) for x in centred]

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        p, q = (pearson(*each) for each in zip(centred, widths, (w, v), strict=True))
        difference = (p - q).abs()
        return (difference.sum(1) - difference.diagonal()) / others

    return Named(_layer_names(truth), estimate)


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="standard deviations of truth",
    reference="Wasserstein distance of order 1 of centres and widths as in 2410.21611",
    by_default=False,
    needs=lacks_positions,
)
def lateral_shape(truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int) -> Named:
    """Distances of the showers' centres of energy and widths along x, along y and in radius.

    ``centre_x`` and ``width_x`` are the Wasserstein-1 distance of their distributions, ``mean of ...`` the absolute
    difference of their means, both in truth's standard deviations (of a quantity that is constant in truth, in its own
    unit). Centre and width of a whole shower are the energy-weighted mean and standard deviation of the positions of
    voxels with at least truth's threshold, 0 for an empty shower. It is blind to how the shape depends on the depth.
    """
    a, b = (_centres_and_widths(x, truth.threshold) for x in (truth, generated))
    scale, distances = spread(a), column_distances(a, b)

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        means = (w @ a / w.sum() - v @ b / v.sum()).abs() / scale
        return torch.cat([distances(w, v) / scale, means])

    names = [f"{quantity}_{axis}" for axis in voxel_positions(truth) for quantity in ("centre", "width")]
    return Named((*names, *(f"mean of {name}" for name in names)), estimate)


def _centres_and_widths(showers: CalorimeterDataset, threshold: float) -> Tensor:
    """Centre and width along each direction in turn, ``(N, 2 directions)``."""
    factors = []
    for values in voxel_positions(showers).values():
        there = values.isfinite()
        x = torch.where(there, values, 0.0)
        factors += [there.to(x), x, x * x]
    matrix = torch.stack(factors, 1)
    parts = []
    for rows in showers.samples.split(max(1, 2**24 // showers.n_features)):
        parts.append(torch.where((rows >= threshold) & (rows > 0), rows, 0.0) @ matrix)
    energy, first, second = torch.cat(parts).unflatten(1, (-1, 3)).unbind(2)
    centre = ratio(first, energy)
    width = (ratio(second, energy) - centre**2).clamp_min(0).sqrt()
    return torch.stack([centre, width], 2).flatten(1)
