"""Muonic-force-carrier events: kinematics, masses, momentum balance, and quantiles at each beam energy.

>>> from qgen.data import simulate_muon
>>> truth, generated = (simulate_muon(n=500, beam_energy=[50.0, 200.0], seed=seed) for seed in (0, 1))
>>> turned = generated.samples.clone()
>>> turned[:, 5] = turned[:, 5].flip(0)  # the carrier's azimuth, no longer opposite to the muon's
>>> momentum_balance(truth, generated.with_samples(turned)).value > 10 * momentum_balance(truth, generated).value
True
"""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.kinematics import muon_quantities
from qgen.data.muon import FEATURES, MuonDataset
from qgen.metrics.base import Named, metric
from qgen.metrics.columns import spread
from qgen.metrics.shared import column_distances, ratio, shared_bins

__all__ = ["conditional_quantiles", "invariant_masses", "momentum_balance", "muon_kinematics"]

KINEMATICS = (*FEATURES, "acoplanarity")
MASSES = ("carrier_mass", "muon_mass", "pair_mass", "transverse_mass")
QUANTILES = (0.1, 0.5, 0.9)


def _known(dataset: Dataset, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Those of these quantities that follow from the columns of muon events."""
    if not isinstance(dataset, MuonDataset):
        return {}
    known = muon_quantities(dataset)
    return {name: known[name] for name in names if name in known}


def _lacks(names: tuple[str, ...], needed: str) -> str:
    return f"muon events with {needed}" if not names else ""


def _distances(truth: Dataset, generated: Dataset, names: tuple[str, ...]) -> tuple[tuple[str, ...], Tensor, Tensor]:
    a, b = (_known(x, names) for x in (truth, generated))
    return tuple(a), torch.stack(list(a.values()), 1), torch.stack(list(b.values()), 1)


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="standard deviations of truth",
    reference="Wasserstein distance of order 1 of the kinematics of 2205.07674",
    by_default=False,
    needs=lambda dataset: "" if isinstance(dataset, MuonDataset) else "muon events",
)
def muon_kinematics(truth: MuonDataset, generated: MuonDataset, seed: int) -> Named:
    """Wasserstein-1 distance of every kinematic quantity that follows from the columns, in truth's spreads.

    Of the carrier and the outgoing muon, as far as there are columns: energy, pT, eta, x, polar angle, azimuth, and the
    acoplanarity of both; see :func:`qgen.data.kinematics.muon_quantities`. A quantity that is constant in truth counts
    in its own unit. It is blind to how the quantities of an event belong together, and to the beam energy.
    """
    names, a, b = _distances(truth, generated, KINEMATICS)
    distances, scale = column_distances(a, b), spread(a)
    return Named(names, lambda w, v: distances(w, v) / scale)


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="GeV",
    reference="Wasserstein distance of order 1 of invariant and transverse masses",
    by_default=False,
    needs=lambda dataset: _lacks(tuple(_known(dataset, MASSES)), "energy (or x), pt and eta (or theta) of a particle"),
)
def invariant_masses(truth: MuonDataset, generated: MuonDataset, seed: int) -> Named:
    """Wasserstein-1 distance of the masses that belong to the generated four-momenta, in GeV.

    ``carrier_mass`` and ``muon_mass`` from energy, pT and eta: one value in truth, and a test of whether a generator
    keeps energy and momentum together; with both azimuths ``pair_mass`` and ``transverse_mass``. Definitions, and the
    sign of a mass where the momentum exceeds the energy: :func:`qgen.data.kinematics.muon_quantities`. It is blind to
    what leaves the masses alone, such as a rotation about the beam.
    """
    names, a, b = _distances(truth, generated, MASSES)
    return Named(names, column_distances(a, b))


BALANCE = ("missing_energy", "recoil_pt")


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="share of the energy or momentum",
    reference="Wasserstein distance of order 1 of missing energy and recoil",
    by_default=False,
    needs=lambda dataset: _lacks(
        tuple(_known(dataset, BALANCE)), "the outgoing muon: muon_energy, or pt, phi, muon_pt and muon_phi"
    ),
)
def momentum_balance(truth: MuonDataset, generated: MuonDataset, seed: int) -> Named:
    r"""Wasserstein-1 distance of the imbalance of energy and of transverse momentum.

    ``missing_energy`` is :math:`(E_0 - E - E^\mu) / E_0`, and ``recoil_pt``
    :math:`|\vec p_T + \vec p_T^\mu| / (p_T + p_T^\mu)`, from 0 (back to back and equal) to 1. It is blind to a fault
    that both particles share, such as wrong transverse momenta that still balance.
    """
    columns = []
    for dataset in (truth, generated):
        found = _known(dataset, (*BALANCE, "pt", "muon_pt"))
        shares = {}
        if "missing_energy" in found:
            shares["missing_energy"] = found["missing_energy"] / dataset.conditions[:, 0]
        if "recoil_pt" in found:
            shares["recoil_pt"] = ratio(found["recoil_pt"], found["pt"].abs() + found["muon_pt"].abs())
        columns.append(shares)
    a, b = (torch.stack(list(shares.values()), 1) for shares in columns)
    return Named(tuple(columns[0]), column_distances(a, b))


@metric(
    view="events",
    group="physics",
    bias=0.5,
    weights="signed",
    unit="standard deviations of truth",
    reference="conditional quantiles, as 2205.07674 compares events at each beam energy",
    by_default=False,
    needs=lambda dataset: (
        ""
        if dataset.n_conditions and not isinstance(dataset, CalorimeterDataset)
        else "events with a condition (no images)"
    ),
)
def conditional_quantiles(truth: Dataset, generated: Dataset, seed: int, bins: int = 3) -> Named:
    """Difference of the 10, 50 and 90 % quantiles of every feature in bins of the condition.

    Absolute, in units of truth's standard deviation in the bin (in the feature's own unit if it is constant there). The
    quantile is the smallest value up to which the bin has at least that share of its weight. For muon events the
    features are their observables and the condition is the beam energy; of several conditions it is the first. It is
    blind to correlations of the features in a bin, and to the last tenth of each tail.

    Args:
        bins: of the condition, with as many true events each, 20 at least; one for each of few values.
    """
    labels, *inside = shared_bins(truth, generated, bins)
    features = truth.observables().features
    columns = [x.observables().samples for x in (truth, generated)]
    sorted_bins, scales = [], []
    for i in range(len(labels)):
        pair = []
        for values, rows in zip(columns, inside, strict=True):
            there = rows[:, i].nonzero()[:, 0]
            ordered, order = values[there].T.contiguous().sort(dim=1)
            pair.append((ordered, there[order]))
        scales.append(spread(pair[0][0].T))
        sorted_bins.append(pair)
    shares = torch.tensor(QUANTILES, dtype=torch.float64) * (1 - 1e-12)  # exact shares are reached despite rounding

    def quantiles(weights: Tensor, ordered: Tensor, rows: Tensor) -> Tensor:
        reached = weights[rows].cumsum(1)
        wanted = (reached[:, -1:] * shares).contiguous()
        at = torch.searchsorted(reached.cummax(1).values, wanted)  # with negative weights the sum may fall again
        return ordered.gather(1, at.clamp_max(ordered.shape[1] - 1))

    def estimate(w: Tensor, v: Tensor) -> Tensor:
        found = []
        for (true, generated_in_bin), scale in zip(sorted_bins, scales, strict=True):
            apart = (quantiles(w, *true) - quantiles(v, *generated_in_bin)).abs()
            found.append((apart / scale[:, None]).flatten())
        return torch.cat(found)

    names = [f"{f.name} {share:.0%} at {label}" for label in labels for f in features for share in QUANTILES]
    return Named(tuple(names), estimate)
