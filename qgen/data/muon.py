"""Muonic force carriers: events of a muon beam on a fixed target, simulated or read from files.

Energies and momenta in GeV, lab frame, beam along +z, angles in radians.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Len
from torch import Tensor

from qgen.data.bremsstrahlung import MUON_MASS, Bremsstrahlung
from qgen.data.dataset import Dataset, Feature
from qgen.data.nuclei import Nucleus
from qgen.data.transforms import Columns, Compose, EnergyFraction, Identity, Log, Logit, Standardise, Transform
from qgen.random import derive_seed, new_generator, uniform
from qgen.text import listed

__all__ = ["FEATURES", "MuonDataset", "muon_dataset", "muon_events", "simulate_muon"]

BEAM_ENERGY = Feature("beam_energy", "GeV", "$E_0$")
LOWEST_BEAM, HIGHEST_BEAM = 10.0, 5000.0

FEATURES: dict[str, Feature] = {
    feature.name: feature
    for feature in (
        Feature("energy", "GeV", "$E$"),
        Feature("pt", "GeV", "$p_T$"),
        Feature("eta", "", r"$\eta$"),
        Feature("x", "", "$x = E/E_0$"),
        Feature("theta", "rad", r"$\theta$"),
        Feature("phi", "rad", r"$\phi$"),
        Feature("muon_energy", "GeV", r"$E^\mu$"),
        Feature("muon_pt", "GeV", r"$p_T^\mu$"),
        Feature("muon_eta", "", r"$\eta^\mu$"),
        Feature("muon_theta", "rad", r"$\theta^\mu$"),
        Feature("muon_phi", "rad", r"$\phi^\mu$"),
    )
}
"""The columns of the force carrier and, prefixed ``muon_``, of the outgoing muon."""

FeatureName = Literal[
    "energy",
    "pt",
    "eta",
    "x",
    "theta",
    "phi",
    "muon_energy",
    "muon_pt",
    "muon_eta",
    "muon_theta",
    "muon_phi",
]
Energy = Annotated[float, Ge(LOWEST_BEAM), Le(HIGHEST_BEAM)]


@dataclass(frozen=True, eq=False, kw_only=True)
class MuonDataset(Dataset):
    """Events with columns of :data:`FEATURES`, given the beam energy (GeV).

    Transforms suit the bounds: energies as fractions of the beam energy and ``x`` through a logit, transverse momenta
    and polar angles through a logarithm; then all are standardised.

    >>> events = simulate_muon(n=100, beam_energy=[50.0, 200.0])
    >>> events.column("x").shape, sorted(set(events.column("beam_energy").tolist()))
    (torch.Size([100]), [50.0, 200.0])
    """

    def _fit_transforms(self, samples: Tensor, conditions: Tensor) -> tuple[Transform, Transform]:
        by_column = Columns([self._column_transform(feature.name) for feature in self.features])
        transform = Compose([by_column, Standardise.fit(by_column(samples, conditions))])
        if not self.n_conditions:
            return transform, Identity()
        log = Log([0.0] * self.n_conditions)
        return transform, Compose([log, Standardise.fit(log(conditions))])

    def _column_transform(self, name: str) -> Transform:
        if name in ("energy", "muon_energy"):
            return Compose([EnergyFraction(), Logit([0.0], [1.0])]) if self.n_conditions else Log([0.0])
        if name == "x":
            return Logit([0.0], [1.0])
        return Log([0.0]) if name in ("pt", "theta", "muon_pt", "muon_theta") else Identity()

    def observables(self) -> Dataset:
        """The events' own columns, then energy, eta, x and theta of the carrier as far as they follow from those.

        >>> events = simulate_muon(n=10).select("energy", "pt", "eta")
        >>> [feature.name for feature in events.observables().features]
        ['energy', 'pt', 'eta', 'x', 'theta']
        """
        columns = {f.name: values for f, values in zip(self.features, self.samples.unbind(1), strict=True)}
        if self.n_conditions:
            beam = self.conditions[:, 0]
            if "x" in columns:
                columns.setdefault("energy", columns["x"] * beam)
            if "energy" in columns:
                columns.setdefault("x", columns["energy"] / beam)
        if "theta" in columns:
            columns.setdefault("eta", torch.asinh(1 / torch.tan(columns["theta"])))
        if "eta" in columns:
            columns.setdefault("theta", 2 * torch.atan(torch.exp(-columns["eta"])))
        known = FEATURES | {feature.name: feature for feature in self.features}
        return Dataset(
            torch.stack(list(columns.values()), dim=1),
            tuple(known[name] for name in columns),
            self.conditions,
            self.condition_features,
            self.seed,
            weights=self.weights,
        )


def muon_dataset(
    beam_energy: np.ndarray,
    carrier: np.ndarray,
    muon: np.ndarray,
    *,
    seed: int = 0,
    provenance: Mapping[str, object] | None = None,
) -> MuonDataset:
    """All columns of :data:`FEATURES` from momenta.

    Args:
        beam_energy: ``(N,)``, GeV.
        carrier: ``(N, 4)``, px, py, pz and E of the force carrier, GeV.
        muon: ``(N, 4)``, the same of the outgoing muon.
        seed: fixes the splits.
        provenance: where the events come from.

    Raises:
        ValueError: a particle has no transverse momentum, or more energy than the beam (the row is named).
    """
    columns: dict[str, np.ndarray] = {}
    for prefix, name, momenta in (("", "force carrier", carrier), ("muon_", "muon", muon)):
        px, py, pz, energy = momenta.T
        pt = np.hypot(px, py)
        bad = np.flatnonzero(~((pt > 0) & (energy > 0) & (energy < beam_energy)))
        if len(bad):
            row = int(bad[0])
            raise ValueError(
                f"row {row}: {name} with energy {energy[row]:g} GeV and pT {pt[row]:g} GeV; an energy between 0 and "
                f"that of the beam ({beam_energy[row]:g} GeV) and a positive pT are needed"
            )
        columns |= {
            f"{prefix}energy": energy,
            f"{prefix}pt": pt,
            f"{prefix}eta": np.arcsinh(pz / pt),
            f"{prefix}theta": np.arctan2(pt, pz),
            f"{prefix}phi": np.arctan2(py, px),
        }
    columns["x"] = carrier[:, 3] / beam_energy
    return MuonDataset(
        samples=torch.from_numpy(np.stack([columns[name] for name in FEATURES], axis=1)),
        features=tuple(FEATURES.values()),
        conditions=torch.from_numpy(np.asarray(beam_energy, dtype=np.float64)).unsqueeze(1),
        condition_features=(BEAM_ENERGY,),
        seed=seed,
        provenance=dict(provenance or {}),
    )


def simulate_muon(
    n: int = 1000,
    beam_energy: float | Sequence[float] = 100.0,
    mediator_mass: float = 0.2,
    target: str | tuple[int, float] = "Pb",
    mediator: Literal["vector", "scalar"] = "vector",
    seed: int = 0,
) -> MuonDataset:
    r"""Events :math:`\mu N \to \mu N V` of the improved Weizsaecker-Williams approximation.

    The carrier's energy and angle follow :class:`~qgen.data.bremsstrahlung.Bremsstrahlung`; the muon has the rest of
    the beam energy, and its transverse momentum balances the carrier's and the recoil of the nucleus, which is drawn
    from the photon flux up to what the muon's momentum allows.

    Args:
        n: number of events.
        beam_energy: GeV, 10 to 5000; of several, event ``i`` has number ``i`` modulo their count.
        mediator_mass: GeV.
        target: symbol of the element, or (Z, A).
        mediator: ``vector`` or ``scalar``.
        seed: fixes the events and the splits.

    Raises:
        ValueError: an argument is out of range, or the carrier is too heavy for the beam.

    >>> events = simulate_muon(n=1000, beam_energy=100.0, seed=1)
    >>> events.samples.shape, 0.6 < events.column("x").median() < 0.8
    (torch.Size([1000, 11]), tensor(True))
    """
    energies = [float(energy) for energy in np.ravel(beam_energy)]
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; a whole number of at least 1 event is needed")
    if not energies:
        raise ValueError("beam_energy is empty; at least one energy is needed")
    for energy in energies:
        if not LOWEST_BEAM <= energy <= HIGHEST_BEAM:
            raise ValueError(f"beam_energy is {energy:g} GeV; allowed are {LOWEST_BEAM:g} to {HIGHEST_BEAM:g} GeV")
    process = Bremsstrahlung(mediator_mass, Nucleus.of(target), mediator)
    generator = new_generator(derive_seed(seed, "muon"))
    beam = np.array(energies)[np.arange(n) % len(energies)]
    carrier, muon = np.empty((n, 4)), np.empty((n, 4))
    for i, energy in enumerate(energies):
        rows = np.arange(i, n, len(energies))
        if len(rows):
            carrier[rows], muon[rows] = _draw(process, energy, len(rows), generator)
    provenance = {
        "simulation": "improved Weizsaecker-Williams approximation",
        "mediator": mediator,
        "mediator_mass_GeV": mediator_mass,
        "target": target if isinstance(target, str) else list(target),
        "beam_energy_GeV": energies,
        "seed": seed,
    }
    return muon_dataset(beam, carrier, muon, seed=seed, provenance=provenance)


def _draw(
    process: Bremsstrahlung, beam_energy: float, n: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Momenta (px, py, pz, E) of carrier and muon, ``(n, 4)`` each."""
    x, u = process.table(beam_energy).draw(n, generator)
    half_angle = np.sqrt(np.maximum(u - process.u_forward(x), 0.0) / (4 * x)) / beam_energy
    theta = 2 * np.arcsin(np.minimum(half_angle, 1.0))
    phi, recoil_phi = math.pi * (2 * uniform((2, n), generator, dtype=torch.float64).numpy() - 1)
    energy, muon_energy = x * beam_energy, (1 - x) * beam_energy
    momentum, muon_momentum = np.sqrt(energy**2 - process.mass**2), np.sqrt(muon_energy**2 - MUON_MASS**2)
    pt = momentum * np.sin(theta)
    recoil = process.recoil((u / (2 * muon_energy)) ** 2, np.maximum(muon_momentum - pt, 0.0), generator)
    carrier = np.stack([pt * np.cos(phi), pt * np.sin(phi), momentum * np.cos(theta), energy], axis=1)
    px, py = recoil * np.cos(recoil_phi) - carrier[:, 0], recoil * np.sin(recoil_phi) - carrier[:, 1]
    pz = np.sqrt(np.maximum(muon_momentum**2 - px**2 - py**2, 0.0))
    return carrier, np.stack([px, py, pz, muon_energy], axis=1)


def muon_events(
    path: str | Path | None = None,
    *,
    n: Annotated[int, Gt(0)] | None = None,
    beam_energies: Annotated[tuple[Energy, ...], Len(1)] = (50.0, 100.0, 200.0),
    mediator_mass: Annotated[float, Gt(0)] = 0.2,
    target: str = "Pb",
    mediator: Literal["vector", "scalar"] = "vector",
    features: Annotated[tuple[FeatureName, ...], Len(1)] = ("energy", "pt", "eta"),
    carrier: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Muonic-force-carrier events to learn from: read from a file, or simulated where none is given.

    Args:
        path: an LHE file or CSV table for :func:`~qgen.data.load_muon`, or muon events that
            :func:`~qgen.data.write_events` wrote; without one, events are simulated.
        n: number of events; by default 20,000 simulated ones, or all of the file. Fewer than the file has are drawn
            from it by ``seed``.
        beam_energies: GeV; of simulated events.
        mediator_mass: GeV; of simulated events.
        target: symbol of the element; of simulated events.
        mediator: ``vector`` or ``scalar``; of simulated events.
        features: the columns to learn, names of :data:`FEATURES`.
        carrier: PDG number of the force carrier in an LHE file.
        seed: fixes the events and the splits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an argument is out of range, or the file is faulty (file and line or event are named).

    >>> muon_events(n=50, features=("x", "theta")).samples.shape
    torch.Size([50, 2])
    """
    if path is None:
        simulated = simulate_muon(20_000 if n is None else n, beam_energies, mediator_mass, target, mediator, seed)
        return simulated.select(*features)
    events = _read(path, carrier, seed)
    if n is not None and n < len(events):
        order = torch.randperm(len(events), generator=new_generator(derive_seed(seed, "events")))
        events = events.take(order[:n].sort().values)
    return events.select(*features)


def _read(path: str | Path, carrier: int | None, seed: int) -> Dataset:
    from qgen.data.events import load_events
    from qgen.data.muon_files import load_muon

    events = load_events(path, seed=seed) if carrier is None else load_muon(path, carrier=carrier, seed=seed)
    if not isinstance(events, MuonDataset):
        found = listed(feature.name for feature in events.features)
        raise ValueError(f"{path}: holds no muon events; its columns are {found}")
    return events
