"""Metrics of muon events against scipy and numpy, and each fault seen by the metric made for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from qgen.data import Dataset, Feature, MuonDataset, load_calorimeter, load_muon, muon_events, simulate_muon
from qgen.data.kinematics import muon_quantities
from qgen.metrics import (
    METRICS,
    conditional_quantiles,
    evaluate,
    invariant_masses,
    momentum_balance,
    muon_kinematics,
)
from qgen.metrics.columns import Columns

MADGRAPH = Path("../shared/data/muon/mfc_vector_Pb_mV0.2GeV.csv.gz")
MUONS = ("conditional_quantiles", "invariant_masses", "momentum_balance", "muon_kinematics")


def events(seed: int, n: int = 1500) -> MuonDataset:
    return simulate_muon(n, beam_energy=[50.0, 100.0, 200.0], seed=seed)


def values(metric, truth: Dataset, generated: Dataset, **options) -> dict[str, float]:
    built = metric.build(truth, generated, 0, **options)
    weights = (torch.ones(len(x), dtype=torch.float64) for x in (truth, generated))
    return dict(zip(built.names, built.estimator(*weights).tolist(), strict=True))


def test_distances_are_scipys() -> None:
    truth, generated = events(0), events(1, 900)
    known = [muon_quantities(x) for x in (truth, generated)]
    found = values(muon_kinematics, truth, generated)
    for name in ("pt", "x", "muon_eta", "acoplanarity"):
        a, b = (x[name].numpy() for x in known)
        assert found[name] == pytest.approx(stats.wasserstein_distance(a, b) / a.std(), rel=1e-9)
    for name, value in values(invariant_masses, truth, generated).items():
        expected = stats.wasserstein_distance(*(x[name].numpy() for x in known))
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-13)
    recoils = [(x["recoil_pt"] / (x["pt"] + x["muon_pt"])).numpy() for x in known]
    balance = values(momentum_balance, truth, generated)
    assert balance["recoil_pt"] == pytest.approx(stats.wasserstein_distance(*recoils), rel=1e-9)
    assert balance["missing_energy"] < 1e-12


def test_quantiles_are_numpys_in_each_bin_with_weights_too() -> None:
    truth, generated = (x.select("energy", "pt", "eta") for x in (events(0), events(1, 900)))
    weights = torch.rand(len(generated), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    built = conditional_quantiles.build(truth, generated, 0)
    found = dict(zip(built.names, built.estimator(torch.ones(1500).double(), weights).tolist(), strict=True))
    assert len(found) == 3 * 5 * 3  # beam energies, observables, quantiles
    for energy in (50.0, 200.0):
        inside = [x.column("beam_energy") == energy for x in (truth, generated)]
        a, b = (x.column("pt")[rows].numpy() for x, rows in zip((truth, generated), inside, strict=True))
        for share in (0.1, 0.5, 0.9):
            true = np.quantile(a, share, method="inverted_cdf")
            other = np.quantile(b, share, method="inverted_cdf", weights=weights[inside[1]].numpy())
            expected = abs(true - other) / a.std()
            assert found[f"pt {share:.0%} at beam_energy {energy:g} GeV"] == pytest.approx(expected)


def test_quantiles_of_a_continuous_condition_are_in_bins_of_equal_content() -> None:
    rng = torch.Generator().manual_seed(0)
    condition, noise = torch.rand(2, 900, 1, generator=rng, dtype=torch.float64)
    data = Dataset(condition + 0.1 * noise, (Feature("x"),), condition, (Feature("c"),))
    shifted = data.with_samples(data.samples + 0.2 * (condition > 0.7))
    found = values(conditional_quantiles, data, shifted, bins=3)
    assert len(found) == 9
    first, last = list(found)[1], list(found)[-2]
    assert first.startswith("x 50% at c 0")
    assert found[first] == 0
    spread = data.samples[condition[:, 0] > condition.quantile(2 / 3)].std().item()
    assert found[last] == pytest.approx(0.2 / spread, rel=0.02)


@pytest.mark.parametrize("name", MUONS)
def test_equal_samples_score_zero_and_whole_weights_are_repeated_events(name: str) -> None:
    metric = METRICS[name]
    truth, generated = events(0, 90), events(1, 90)
    assert max(values(metric, truth, truth).values()) == pytest.approx(0, abs=1e-15)
    weights = torch.arange(90) % 4
    repeated = generated.take(torch.arange(90).repeat_interleave(weights))
    ones = torch.ones(90, dtype=torch.float64)
    one = metric.build(truth, generated, 0).estimator(ones, weights.double())
    other = metric.build(truth, repeated, 0).estimator(ones, torch.ones(len(repeated)).double())
    torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-6)


def mixed(x: MuonDataset, *names: str) -> torch.Tensor:
    """These columns from other events of the same beam energy."""
    samples = x.samples.clone()
    columns = [i for i, f in enumerate(x.features) if f.name in names]
    for energy in x.column("beam_energy").unique():
        rows = (x.column("beam_energy") == energy).nonzero()[:, 0]
        samples[rows[:, None], torch.tensor(columns)] = x.samples[rows.roll(1)[:, None], torch.tensor(columns)]
    return samples


def scaled(x: MuonDataset, name: str, factor: float, where: torch.Tensor | bool = True) -> torch.Tensor:
    samples = x.samples.clone()
    i = [f.name for f in x.features].index(name)
    samples[:, i] *= torch.where(torch.as_tensor(where), factor, 1.0)
    return samples


FAULTS = {
    "softer transverse momentum": lambda x: scaled(scaled_pair(x), "muon_pt", 0.8),
    "azimuths of other events": lambda x: mixed(x, "phi"),
    "energies of other events": lambda x: mixed(x, "energy", "x"),
    "wrong at one beam energy": lambda x: scaled(x, "eta", 1.05, x.column("beam_energy") == 200.0),
}


def scaled_pair(x: MuonDataset) -> MuonDataset:
    return x.with_samples(scaled(x, "pt", 0.8))


SEEN = {
    "softer transverse momentum": {"muon_kinematics/pt", "muon_kinematics/muon_pt", "conditional_quantiles"},
    "azimuths of other events": {"momentum_balance/recoil_pt", "muon_kinematics/acoplanarity"},
    "energies of other events": {"momentum_balance/missing_energy", "invariant_masses/carrier_mass"},
    "wrong at one beam energy": {"conditional_quantiles/eta 50% at beam_energy 200 GeV"},
}
UNSEEN = {
    "softer transverse momentum": {"momentum_balance", "muon_kinematics/energy"},
    "azimuths of other events": {"invariant_masses/carrier_mass", "conditional_quantiles", "muon_kinematics/phi"},
    "energies of other events": {"muon_kinematics", "conditional_quantiles", "momentum_balance/recoil_pt"},
    "wrong at one beam energy": {"conditional_quantiles/eta 50% at beam_energy 50 GeV", "muon_kinematics/pt"},
}


@pytest.fixture(scope="module")
def table():
    truth, reference, generated = (events(seed, 3000) for seed in range(3))
    faulty = {name: generated.with_samples(fault(generated)) for name, fault in FAULTS.items()}
    return evaluate(truth, {"good": generated, **faulty}, reference=reference, metrics=MUONS)


def test_a_perfect_generator_is_at_the_floor(table) -> None:
    assert {row.name: row.pull for row in table.of("good").summary() if abs(row.pull) > 3} == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen_by_what_is_made_for_them(table, fault: str) -> None:
    rows = table.of(fault)
    assert {name: rows[name].pull for name in SEEN[fault] if rows[name].pull < 3} == {}
    assert {name: rows[name].pull for name in UNSEEN[fault] if abs(rows[name].pull) > 3} == {}


def test_a_growing_fault_grows() -> None:
    truth, generated = events(0), events(1)
    scores = []
    for factor in (1.0, 0.95, 0.9, 0.8):
        found = values(invariant_masses, truth, generated.with_samples(scaled(generated, "pt", factor)))
        scores.append(found["carrier_mass"])
    assert scores == sorted(scores)
    assert scores[1] > 1e-3


@pytest.mark.parametrize("name", MUONS)
def test_collapsed_and_constant_events_have_finite_scores(name: str) -> None:
    good = events(0, 60)
    collapsed = good.with_samples(good.samples[:1].expand(60, -1))
    zero = good.with_samples(0 * good.samples + 1e-3)
    for truth, generated in ((good, collapsed), (collapsed, good), (good, zero), (zero, zero)):
        found = METRICS[name].results(Columns(truth, "events"), Columns(generated, "events"), n_bootstrap=3, seed=0)
        assert all(math.isfinite(r.value) and r.value >= 0 for r in found.values())


def test_values_beyond_all_measure_are_one_line() -> None:
    good = events(0, 60)
    wild = good.with_samples(scaled(good, "eta", 1000.0))
    with pytest.raises(ValueError, match=r"^invariant_masses is not finite: generated values lie too many orders of"):
        invariant_masses(good, wild)


def test_few_columns_give_what_follows_from_them() -> None:
    truth = muon_events(n=60)  # energy, pt and eta of the carrier
    assert list(values(invariant_masses, truth, truth)) == ["carrier_mass"]
    assert list(values(muon_kinematics, truth, truth)) == ["energy", "pt", "eta", "x", "theta"]
    assert list(values(momentum_balance, *[events(0, 60).select("x", "muon_energy")] * 2)) == ["missing_energy"]


def test_what_a_dataset_lacks_is_said() -> None:
    few = events(0, 60).select("energy", "pt")
    for metric, data, lacks in (
        (momentum_balance, few, r"muon events with the outgoing muon: muon_energy, or pt, phi, muon_pt and muon_phi"),
        (invariant_masses, few, r"muon events with energy \(or x\), pt and eta \(or theta\) of a particle"),
        (muon_kinematics, torch.rand(30, 2), "muon events"),
        (conditional_quantiles, torch.rand(30, 2), r"events with a condition \(no images\)"),
        (conditional_quantiles, load_calorimeter(max_events=30), r"events with a condition \(no images\)"),
    ):
        with pytest.raises(ValueError, match=f"{metric.name} needs {lacks}"):
            metric(data, data)


def test_beam_energies_must_be_those_of_truth() -> None:
    with pytest.raises(ValueError, match=r"generated has no event with beam_energy 100 GeV; conditions must be drawn"):
        conditional_quantiles(events(0, 60), simulate_muon(60, beam_energy=[50.0, 200.0]))


def test_the_simulation_is_close_to_madgraph() -> None:
    if not MADGRAPH.exists():
        pytest.skip(f"{MADGRAPH} is not here")
    madgraph = load_muon(MADGRAPH)
    simulated = simulate_muon(len(madgraph), beam_energy=[50.0, 100.0, 200.0])
    assert values(muon_kinematics, madgraph, simulated)["x"] < 0.05
    # the digits of the table leave that much of the mass undecided
    assert values(invariant_masses, madgraph, simulated)["carrier_mass"] < 0.02
    quantiles = values(conditional_quantiles, madgraph, simulated)
    assert max(v for name, v in quantiles.items() if name.startswith(("x ", "energy "))) < 0.1
    assert values(momentum_balance, madgraph, simulated)["missing_energy"] < 1e-3
