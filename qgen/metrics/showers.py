"""Showers: response, resolution, depth, and how the energy is spread over voxels.

>>> from qgen.data import load_calorimeter
>>> data = load_calorimeter(grid=(8,), max_events=2000)
>>> truth, generated = data.take(range(1000)), data.take(range(1000, 2000))
>>> louder = generated.with_samples(1.1 * generated.samples)
>>> energy_response(truth, louder).value > 0.09 > energy_response(truth, generated).value
True
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.voxels import layer_energies, shower_features, voxel_counts
from qgen.metrics.base import Estimator, Named, metric
from qgen.metrics.counting import histogram_shares
from qgen.metrics.lacks import lacks_layers, lacks_showers
from qgen.metrics.shared import column_distances, ratio, shared_bins

__all__ = ["energy_resolution", "energy_response", "shower_depth", "sparsity", "voxel_spectrum"]

N_BINS = 50
SMALLEST = 1e-6
"""Least lower edge of the voxel spectrum, in units of truth's largest voxel."""


def _response(showers: CalorimeterDataset) -> Tensor:
    return showers.samples.sum(1) / showers.incident_energy


def _scale(values: Tensor) -> Tensor:
    """The values, 1 (their own unit) where they are 0 up to rounding."""
    return torch.where(values.abs() > 1e-12, values.abs(), 1.0)


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="truth's mean response",
    reference="energy response (linearity) of a calorimeter in bins of the incident energy",
    by_default=False,
    needs=lacks_showers,
    batched=True,
)
def energy_response(truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int, bins: int = 5) -> Named:
    r"""Relative difference of the mean response in bins of the incident energy.

    :math:`|\langle R \rangle_q - \langle R \rangle_p| / \langle R \rangle_p` with the response :math:`R`, a shower's
    energy over the incident one; 0.01 is a wrong energy scale by 1 %. Where truth's showers are empty, the difference
    itself. It is blind to the fluctuations of the response and to where the energy is.

    Args:
        bins: of the incident energy, with as many true events each, 20 at least; one for each of few energies.
    """
    labels, *inside = shared_bins(truth, generated, bins)
    a, b = (rows * _response(x)[:, None] for rows, x in zip(inside, (truth, generated), strict=True))
    scale = _scale(a.sum(0) / inside[0].sum(0))

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        means = (ratio(x @ y, x @ rows) for x, y, rows in ((w, a, inside[0]), (v, b, inside[1])))
        return (next(means) - next(means)).abs() / scale

    return Named(labels, estimate)


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="truth's resolution",
    reference="energy resolution of a calorimeter in bins of the incident energy",
    by_default=False,
    needs=lacks_showers,
    batched=True,
)
def energy_resolution(truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int, bins: int = 5) -> Named:
    r"""Relative difference of the energy resolution in bins of the incident energy.

    :math:`|\rho_q - \rho_p| / \rho_p`, :math:`\rho = \sigma(R) / \langle R \rangle` of the response :math:`R` in the
    bin; 0.1 is a resolution wrong by a tenth. Showers that are all empty have resolution 0; where truth's resolution is
    0, the difference itself. It is blind to the energy scale and to where the energy is.

    Args:
        bins: of the incident energy, with as many true events each, 20 at least; one for each of few energies.
    """
    labels, *inside = shared_bins(truth, generated, bins)
    responses = [_response(x)[:, None] for x in (truth, generated)]
    middle = (inside[0] * responses[0]).sum(0) / inside[0].sum(0)
    powers = [(rows * (r - middle), rows * (r - middle) ** 2) for rows, r in zip(inside, responses, strict=True)]

    def resolution(w: Tensor, which: int) -> Tensor:
        first, second = (ratio(w @ power, w @ inside[which]) for power in powers[which])
        mean = middle + first
        mean = torch.where(mean > 1e-12 * middle, mean, 0.0)  # of empty showers rounding is left
        return ratio((second - first**2).clamp_min(0).sqrt(), mean)

    scale = _scale(resolution(torch.ones(len(truth), dtype=torch.float64), 0))

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        return (resolution(w, 0) - resolution(v, 1)).abs() / scale

    return Named(labels, estimate)


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="layers",
    reference="Wasserstein distance of order 1 of shower start, maximum, centre and length",
    by_default=False,
    needs=lacks_layers,
)
def shower_depth(
    truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int, start_share: float = 0.02
) -> Named:
    """Wasserstein-1 distance of where showers start, culminate, have their centre, and of their length, in layers.

    ``start`` is the middle of the first layer with at least the stated share of the shower's energy, ``maximum`` that
    of the layer with most of it (the first of equals), ``centre`` and ``width`` the energy-weighted mean depth and its
    standard deviation. Depth counts the layers of the detector, of a pixel that sums several its middle. An empty
    shower has start, maximum and centre at the back and no width; negative energies count as 0. It is blind to
    everything lateral and to the energy.

    Args:
        start_share: of the shower's energy, above 0 and below 1; a shower without such a layer starts at its maximum.
    """
    if not 0 < start_share < 1:
        raise ValueError(f"start_share is {start_share}; it must lie between 0 and 1")
    a, b = (_depths(x, start_share) for x in (truth, generated))
    return Named(("start", "maximum", "centre", "width"), column_distances(a, b))


def _depths(showers: CalorimeterDataset, start_share: float) -> Tensor:
    """Start, maximum, centre and width of each shower, ``(N, 4)``, in layers."""
    energies = layer_energies(showers).clamp_min(0)
    total = energies.sum(1)
    filled = total > 0
    shares = energies / torch.where(filled, total, 1.0)[:, None]
    if showers.geometry.binning is None:
        depth = torch.from_numpy(showers.geometry.centres("layer"))
        end = showers.geometry.edges[showers.geometry.axes.index("layer")][-1]
    else:
        depth, end = torch.arange(shares.shape[1], dtype=torch.float64) + 0.5, float(shares.shape[1])
    most = shares.argmax(1)
    enough = shares >= start_share
    first = torch.where(enough.any(1), enough.to(torch.uint8).argmax(1), most)
    centre = shares @ depth
    width = (shares @ depth**2 - centre**2).clamp_min(0).sqrt()
    at = [torch.where(filled, x, end) for x in (depth[first], depth[most], centre)]
    return torch.stack([*at, width], 1)


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="share of the voxels",
    reference="Wasserstein distance of order 1 of the CaloChallenge's sparsity, 2410.21611",
    by_default=False,
    needs=lacks_showers,
)
def sparsity(truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int) -> Named:
    """Wasserstein-1 distance of the share of empty voxels in each layer.

    A voxel is empty with nothing, or less than truth's threshold. In a layer of one voxel it is the difference of how
    often that is empty. It is blind to which voxels are empty and to the energies of the others.
    """
    columns = []
    for dataset in (truth, generated):
        features, values = shower_features(dataset, threshold=truth.threshold)
        columns.append({f.name: x for f, x in zip(features, values.unbind(1), strict=True) if "sparsity" in f.name})
    a, b = (torch.stack(list(x.values()), 1) for x in columns)
    names = tuple(name.removeprefix("sparsity_") for name in columns[0])
    return Named(names, column_distances(a, b))


@metric(
    view="events",
    group="physics",
    bias=1,
    weights="signed",
    reference="triangular discrimination of the spectrum of voxel energies, 2410.21611",
    by_default=False,
    needs=lacks_showers,
)
def voxel_spectrum(truth: CalorimeterDataset, generated: CalorimeterDataset, seed: int) -> Estimator:
    r"""Separation of the spectra of voxel energies, empty voxels included, between 0 and 1.

    :math:`\frac12 \sum_i (p_i - q_i)^2 / (p_i + q_i)`, where a bin that is empty in both adds nothing. The bins: one
    for empty voxels, with nothing or less than truth's threshold; 50 equal in the logarithm from truth's smallest voxel
    energy (at least a millionth of the largest) to its largest; one below, one above. Nothing is dropped; a bin whose
    weights have a negative sum counts as empty. It is blind to where the voxels are and to which of them belong to one
    shower.
    """
    filled = truth.samples[(truth.samples > 0) & (truth.samples >= truth.threshold)]
    high = filled.max().item() if len(filled) else 1.0
    low = max(filled.min().item() if len(filled) else SMALLEST, SMALLEST * high)
    low = low if low < high else high / 10
    edges = torch.logspace(0, 1, N_BINS + 1, base=high / low, dtype=torch.float64) * low
    edges[-1] = high
    a, b = (voxel_counts(x, edges, truth.threshold) / x.n_features for x in (truth, generated))

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        p, q = histogram_shares(w @ a), histogram_shares(v @ b)
        return ratio((p - q) ** 2, p + q).sum() / 2

    return estimate
