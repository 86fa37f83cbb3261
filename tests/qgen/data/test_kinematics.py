from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from qgen.data import load_muon, simulate_muon
from qgen.data.bremsstrahlung import MUON_MASS
from qgen.data.kinematics import muon_quantities
from qgen.data.muon import MuonDataset, muon_dataset

MADGRAPH = Path("../shared/data/muon/mfc_vector_Pb_mV0.2GeV.csv.gz")


def closed(n: int = 200) -> MuonDataset:
    """Two-body events of stated masses: momenta opposite across the beam but for a recoil of 0.1 GeV along x."""
    rng = torch.Generator().manual_seed(0)
    pt, angle, share = torch.rand(3, n, generator=rng, dtype=torch.float64)
    pt, phi = 0.2 + 2 * pt, 2 * math.pi * angle - math.pi
    beam = torch.full((n,), 100.0, dtype=torch.float64)
    energy = 10 + 70 * share
    muon_energy = 98 - energy  # 2 GeV are missing
    px, py = pt * phi.cos(), pt * phi.sin()
    carrier = torch.stack([px, py, (energy**2 - pt**2 - 0.3**2).sqrt(), energy], 1)
    mx, my = 0.1 - px, -py
    muon = torch.stack([mx, my, (muon_energy**2 - mx**2 - my**2 - MUON_MASS**2).sqrt(), muon_energy], 1)
    return muon_dataset(beam.numpy(), carrier.numpy(), muon.numpy())


def test_closed_kinematics_come_back() -> None:
    events = closed()
    found = muon_quantities(events)
    one = torch.ones(len(events), dtype=torch.float64)
    torch.testing.assert_close(found["carrier_mass"], 0.3 * one, rtol=1e-6, atol=0)
    torch.testing.assert_close(found["muon_mass"], MUON_MASS * one, rtol=1e-5, atol=0)
    torch.testing.assert_close(found["recoil_pt"], 0.1 * one)
    torch.testing.assert_close(found["missing_energy"], 2 * one)
    # the same from the four-momenta of both
    p = [
        torch.stack([e, pt * torch.cos(phi), pt * torch.sin(phi), pt * torch.sinh(eta)], 1)
        for e, pt, phi, eta in (
            [events.column(f"{prefix}{name}") for name in ("energy", "pt", "phi", "eta")] for prefix in ("", "muon_")
        )
    ]
    metric = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    pair = p[0] + p[1]
    torch.testing.assert_close(found["pair_mass"], ((pair**2) @ metric).sqrt(), rtol=1e-6, atol=0)
    across = [torch.linalg.vector_norm(x[:, 1:3], dim=1) for x in p]
    scalar = (p[0][:, 1:3] * p[1][:, 1:3]).sum(1)
    torch.testing.assert_close(found["transverse_mass"], (2 * (across[0] * across[1] - scalar)).sqrt())
    torch.testing.assert_close(torch.cos(math.pi - found["acoplanarity"]), scalar / across[0] / across[1])
    assert found["acoplanarity"].min() >= 0
    assert found["acoplanarity"].max() <= math.pi


def test_back_to_back_particles_are_so_across_the_cut_of_the_azimuth() -> None:
    events = simulate_muon(n=2).select("pt", "muon_pt", "phi", "muon_phi")
    azimuths = torch.tensor([[3.0, 1.0, 3.1, 3.1 - math.pi], [2.0, 2.0, -3.1, 3.1]], dtype=torch.float64)
    found = muon_quantities(events.with_samples(azimuths))
    torch.testing.assert_close(found["acoplanarity"], torch.tensor([0.0, math.pi - (2 * math.pi - 6.2)]).double())
    torch.testing.assert_close(found["recoil_pt"][0], torch.tensor(2.0).double())


def test_simulated_events_are_on_their_mass_shells_and_balance() -> None:
    found = muon_quantities(simulate_muon(n=500, beam_energy=[50.0, 1000.0], mediator_mass=0.5))
    assert found["carrier_mass"].sub(0.5).abs().max() < 1e-6
    assert found["muon_mass"].sub(MUON_MASS).abs().max() < 1e-5
    assert found["missing_energy"].abs().max() < 1e-9
    assert (found["pair_mass"] >= 0.5 + MUON_MASS - 1e-6).all()


def test_a_momentum_beyond_the_energy_has_a_negative_mass() -> None:
    events = simulate_muon(n=1).select("energy", "pt", "eta")
    off = events.with_samples(torch.tensor([[3.0, 5.0, 0.0]], dtype=torch.float64))
    assert muon_quantities(off)["carrier_mass"].item() == pytest.approx(-4.0)


def test_what_does_not_follow_is_left_out() -> None:
    events = simulate_muon(n=5)
    assert set(muon_quantities(events.select("pt"))) == {"pt"}
    assert "missing_energy" not in muon_quantities(events.select("energy", "pt", "eta"))
    assert {"missing_energy", "carrier_mass"} <= set(muon_quantities(events.select("x", "pt", "theta", "muon_energy")))


def test_madgraph_events_are_on_shell_and_balanced_by_the_nucleus() -> None:
    if not MADGRAPH.exists():
        pytest.skip(f"{MADGRAPH} is not here")
    found = muon_quantities(load_muon(MADGRAPH))
    # the table has seven digits, which at 200 GeV leave 0.1 GeV of a mass undecided
    assert found["carrier_mass"].median().item() == pytest.approx(0.2, abs=1e-3)
    assert found["carrier_mass"].sub(0.2).abs().max() < 0.2
    assert found["muon_mass"].median().item() == pytest.approx(MUON_MASS, abs=1e-3)
    assert 0 <= found["missing_energy"].median() < 0.01  # what the nucleus recoils with
    assert found["recoil_pt"].median() < 0.2 * found["pt"].median()
    assert found["pair_mass"].min() > 0.2
