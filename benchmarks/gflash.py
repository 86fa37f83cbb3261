"""Simulated showers: how many a second on one core, by GFLASH, by the same formulas in plain numpy, and by Geant4."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import (
    OURS,
    Absent,
    Builder,
    Contender,
    Goal,
    Report,
    Timing,
    cell,
    chosen,
    number,
    parser,
    race,
    show,
    times,
)
from qgen.data.gflash import Tuning, simulate_gflash
from qgen.data.gflash_profile import Longitudinal, Medium, gamma_integral, radial
from qgen.data.sampling_calorimeter import SamplingCalorimeter, incident_energies, shower_dataset

LOW, HIGH = 10_000.0, 100_000.0
"""MeV."""

NUMPY, GEANT4 = "numpy, shower by shower", "Geant4, every particle"
SHOWERS = {OURS: 2000, OURS + ", 8 pixels": 2000, NUMPY: 2000, GEANT4: 20}
QUICK_SHOWERS = {OURS: 60, OURS + ", 8 pixels": 60, NUMPY: 10, GEANT4: 2}
DEVIATIONS = 6.0
"""Standard deviations that a contender's mean response may be off the fitted one."""


def measure(options: argparse.Namespace) -> Report:
    """Showers a second of all contenders; processor time, with that of the processes that Geant4 runs in."""
    showers = QUICK_SHOWERS if options.quick else SHOWERS
    seconds = options.seconds or (0.05 if options.quick else 15.0)
    found = race(chosen(builders(showers), options.peers), seconds, clock=processor_time)
    own = found[OURS]
    rows = []
    for name, timing in found.items():
        if not isinstance(timing, Timing) or not isinstance(own, Timing):
            rows.append([name, cell(timing), "-", "-"])
            continue
        each, ours = timing.median / showers[name], own.median / showers[OURS]
        rows.append([name, str(showers[name]), number(1000 / each), times(each / ours)])
    rate = 1000 * showers[OURS] / own.median if isinstance(own, Timing) else None
    return Report(
        "Simulated showers",
        f"Electrons of {LOW / 1000:g} to {HIGH / 1000:g} GeV in 25 layers of lead and silicon with 25 x 25 pads, as a "
        "dataset of all pads (or of 8 pixels); medians of processor time. The plain numpy program has the same "
        "formulas and draws all spots of a shower at once. Geant4 follows every particle, which is another thing: its "
        "row says what parametrisation saves; it includes 2 s in which its process starts.",
        [(["program", "showers in a call", "showers/s", "ratio to qgen"], rows)],
        [Goal("GFLASH, showers a second on one core", 1000.0, rate, " showers/s")],
    )


def builders(showers: dict[str, int]) -> dict[str, Builder]:
    """All contenders; each is checked by its mean response."""

    def contender(name: str, run: Callable[[int], Any]) -> Builder:
        def build() -> Contender:
            if name == GEANT4:
                _need_geant4()
            return Contender(lambda: run(showers[name]), _checked)

        return build

    return {
        OURS: contender(OURS, lambda n: _arrays(simulate_gflash(n, (LOW, HIGH)))),
        OURS + ", 8 pixels": contender(
            OURS + ", 8 pixels", lambda n: _arrays(simulate_gflash(n, (LOW, HIGH), grid=(8,)))
        ),
        NUMPY: contender(NUMPY, _numpy),
        GEANT4: contender(GEANT4, _geant4),
    }


def _arrays(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    return dataset.incident_energy.numpy(), dataset.samples.numpy()


def _numpy(n: int) -> tuple[np.ndarray, np.ndarray]:
    """GFLASH without compiled code: per shower the spots are arrays, and pads are filled by ``np.bincount``."""
    calorimeter, tuning = SamplingCalorimeter(), Tuning()
    medium, pads = Medium.of(calorimeter), calorimeter.pads
    energies, rng = incident_energies(n, (LOW, HIGH)), np.random.default_rng(0)
    c = tuning.sampling_term(calorimeter)
    spot = tuning.visible_fraction(calorimeter) * 1000 * c**2 / 2
    passive, active = (mm / material.radiation_length_mm for material, mm in calorimeter.plates)
    front = (passive + active) * np.arange(calorimeter.layers) + passive
    scale = calorimeter.moliere_radius_mm / calorimeter.pad_mm
    showers = np.zeros((n, calorimeter.n_cells))
    for i in range(n):
        energy = energies[i : i + 1]
        profile = Longitudinal.of(medium, energy)
        depth, alpha = profile.draw(rng)
        t = np.asarray(front - tuning.start * rng.standard_exponential(), dtype=np.float64)
        shares = gamma_integral(t[None] + active, depth, alpha) - gamma_integral(t[None], depth, alpha)
        shares = np.maximum(shares[0], 0) * (passive + active) / active
        shares[-1] *= tuning.last
        mean = depth * alpha / (alpha - 1) * (profile.alpha - 1) / profile.alpha
        core, tail, weight = radial(medium, energy, np.maximum(t[None] + active / 2, 0) / mean[:, None])
        layer = np.repeat(np.arange(calorimeter.layers), rng.poisson(energy / 1000 * shares * 2 / c**2))
        u = rng.random(len(layer))
        inner = rng.random(len(layer)) < weight[0, layer]
        radius = np.where(inner, tuning.core * core[0, layer], tuning.tail * tail[0, layer]) * scale
        radius *= np.sqrt(u / (1 - u))
        phi = 2 * np.pi * rng.random(len(layer))
        x, y = (np.floor(radius * f(phi) + pads / 2).astype(np.int64) for f in (np.cos, np.sin))
        hit = (x >= 0) & (x < pads) & (y >= 0) & (y < pads)
        cells = (layer * pads + x) * pads + y
        deposits = spot * rng.standard_exponential(len(layer))
        showers[i] = np.bincount(cells[hit], deposits[hit], minlength=calorimeter.n_cells)
    return _arrays(shower_dataset(energies, showers, calorimeter))


def _need_geant4() -> None:
    from importlib.util import find_spec

    from qgen.data.geant4 import find_geant4_data

    if find_spec("geant4_pybind") is None:
        raise Absent("not installed")
    try:
        find_geant4_data()
    except FileNotFoundError as error:
        raise Absent("without its data sets") from error


def _geant4(n: int) -> tuple[np.ndarray, np.ndarray]:
    from qgen.data.geant4 import simulate_geant4

    return _arrays(simulate_geant4(n, (LOW, HIGH), workers=1))


def _checked(result: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Nothing to compare number by number; the mean response is that of lead and silicon.

    Raises:
        ArithmeticError: it is not.
    """
    energies, showers = result
    response = showers.sum(1) / energies
    error = 0.217 / np.sqrt(energies.mean() / 1000 * len(energies)) + 0.02
    if not abs(response.mean() / 0.0156 - 1) < DEVIATIONS * error:
        raise ArithmeticError(f"mean response {response.mean():.4f}; about 0.0156 is wanted")
    return [np.zeros(1)]


def processor_time() -> float:
    """Seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    show(measure, parser(__doc__).parse_args())
