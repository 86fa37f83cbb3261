"""``muon_quantities``: what follows from the columns of muonic-force-carrier events."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qgen.data.muon import MuonDataset

__all__ = ["muon_quantities"]


def muon_quantities(events: MuonDataset) -> dict[str, Tensor]:
    r"""By name the columns of the events, and the quantities that follow from them, each ``(N,)``.

    Of the carrier and, with the prefix ``muon_``, of the outgoing muon: ``energy`` (GeV) and ``x`` from each other and
    the beam energy, ``eta`` and ``theta`` (radians) from each other, and the mass (GeV) that belongs to energy and
    momentum, ``carrier_mass`` and ``muon_mass``: :math:`\pm\sqrt{|E^2 - p_T^2 \cosh^2 \eta|}`, negative if the
    momentum is larger than the energy. Of both together:

    - ``pair_mass`` (GeV), the invariant mass of the sum of their four-momenta, negative likewise;
    - ``transverse_mass`` (GeV), :math:`\sqrt{2 p_T p_T^\mu (1 - \cos \Delta\phi)}`;
    - ``acoplanarity`` (radians), :math:`\pi - |\Delta\phi|`, 0 if they are back to back;
    - ``recoil_pt`` (GeV), :math:`|\vec p_T + \vec p_T^\mu|`: what the nucleus takes across the beam;
    - ``missing_energy`` (GeV), :math:`E_0 - E - E^\mu`: what neither of them has.

    Args:
        events: with any of the columns; what does not follow from them is left out.

    >>> from qgen.data import simulate_muon
    >>> events = simulate_muon(n=5, mediator_mass=0.2)
    >>> kinematics = muon_quantities(events)
    >>> kinematics["carrier_mass"].round(decimals=6)
    tensor([0.2000, 0.2000, 0.2000, 0.2000, 0.2000], dtype=torch.float64)
    >>> list(muon_quantities(events.select("x", "theta")))
    ['x', 'theta', 'energy', 'eta']
    """
    known = {f.name: values for f, values in zip(events.features, events.samples.unbind(1), strict=True)}
    beam = events.conditions[:, 0] if events.n_conditions else None
    if beam is not None:
        if "x" in known:
            known.setdefault("energy", known["x"] * beam)
        if "energy" in known:
            known.setdefault("x", known["energy"] / beam)
    for prefix in ("", "muon_"):
        theta, eta = f"{prefix}theta", f"{prefix}eta"
        if theta in known:
            known.setdefault(eta, torch.asinh(1 / torch.tan(known[theta])))
        if eta in known:
            known.setdefault(theta, 2 * torch.atan(torch.exp(-known[eta])))
    for prefix, name in (("", "carrier_mass"), ("muon_", "muon_mass")):
        if {f"{prefix}energy", f"{prefix}pt", f"{prefix}eta"} <= known.keys():
            pt = known[f"{prefix}pt"]
            known[name] = _mass(known[f"{prefix}energy"], [pt, pt * torch.sinh(known[f"{prefix}eta"])])
    if {"pt", "muon_pt", "phi", "muon_phi"} <= known.keys():
        known |= _pair(known)
    if beam is not None and {"energy", "muon_energy"} <= known.keys():
        known["missing_energy"] = beam - known["energy"] - known["muon_energy"]
    return known


def _mass(energy: Tensor, momentum: list[Tensor]) -> Tensor:
    p = torch.linalg.vector_norm(torch.stack(momentum), dim=0)
    squared = (energy - p) * (energy + p)
    return squared.abs().sqrt() * squared.sign()


def _pair(known: dict[str, Tensor]) -> dict[str, Tensor]:
    angle = known["phi"] - known["muon_phi"]
    apart = (torch.remainder(angle + math.pi, 2 * math.pi) - math.pi).abs()
    carrier, muon = (
        torch.stack([known[f"{p}pt"] * torch.cos(known[f"{p}phi"]), known[f"{p}pt"] * torch.sin(known[f"{p}phi"])])
        for p in ("", "muon_")
    )
    found = {
        "transverse_mass": (2 * known["pt"] * known["muon_pt"] * (1 - torch.cos(apart))).clamp_min(0).sqrt(),
        "acoplanarity": math.pi - apart,
        "recoil_pt": torch.hypot(*(carrier + muon)),
    }
    if {"energy", "muon_energy", "eta", "muon_eta"} <= known.keys():
        pz = known["pt"] * torch.sinh(known["eta"]) + known["muon_pt"] * torch.sinh(known["muon_eta"])
        found["pair_mass"] = _mass(known["energy"] + known["muon_energy"], [*(carrier + muon), pz])
    return found
