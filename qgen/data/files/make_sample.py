"""Reduce simulated electron showers to the sample that is installed with the package.

Usage: ``python make_sample.py SOURCE TARGET`` with SOURCE in CaloChallenge layout, ``showers`` ``(N, 15625)`` in MeV
for 25 layers of 25 x 25 pads of 5 x 5 mm2. What is done is told in the README beside this file.
"""

from __future__ import annotations

import argparse
import json

import h5py
import numpy as np

from qgen.data.geometry import Geometry

EVENTS = 5400
CUT_MEV = 0.02
SIGNIFICANT_BITS = 7


def reduced(showers: np.ndarray) -> np.ndarray:
    """Deposits (MeV) below the cut set to 0, the others rounded, as float16.

    >>> reduced(np.array([0.019, 0.1, 123.4])).tolist()
    [0.0, 0.099609375, 123.0]
    """
    mantissa, exponent = np.frexp(showers.astype(np.float64))
    rounded = np.ldexp(np.round(mantissa * 2**SIGNIFICANT_BITS) / 2**SIGNIFICANT_BITS, exponent)
    return np.where(showers < CUT_MEV, 0.0, rounded).astype(np.float16)


def main() -> None:
    """Read SOURCE, write TARGET and print what was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    arguments = parser.parse_args()
    with h5py.File(arguments.source, "r") as file:
        energies = file["incident_energies"][:EVENTS]
        showers = file["showers"][:EVENTS]
    sample = reduced(showers)
    before, after = showers.sum(1, dtype=np.float64), sample.sum(1, dtype=np.float64)
    lost = 1.0 - after.sum() / before.sum()
    shifts = after / before - 1.0
    lateral = tuple(5.0 * (i - 12.5) for i in range(26))
    geometry = Geometry(
        ("layer", "x", "y"), (tuple(float(i) for i in range(26)), lateral, lateral), ("layers", "mm", "mm")
    )
    provenance = {
        "particle": "electron",
        "incident_energy": "uniform in 10 to 100 GeV",
        "simulation": "Geant4 11.4.1 (geant4_pybind 0.1.3)",
        "physics": "G4EmStandardPhysics_option1, production cut 0.7 mm",
        "detector": "25 layers of 5.6 mm lead and 0.5 mm silicon, 25 x 25 silicon pads of 5 x 5 mm2 in each",
        "beam": "normal incidence on the centre of the front face, starting 1 mm before it",
        "reduction": f"the first {EVENTS} showers; pad deposits below {1000 * CUT_MEV:g} keV dropped, the others "
        f"rounded to {SIGNIFICANT_BITS} significant bits; {lost:.3%} of the deposited energy is lost by it",
    }
    with h5py.File(arguments.target, "w") as file:
        file.create_dataset("incident_energies", data=energies.astype(np.float32))
        file.create_dataset(
            "showers", data=sample, chunks=(900, 625), compression="gzip", compression_opts=9, shuffle=True
        )
        file.attrs["geometry"] = geometry.to_json()
        file.attrs["provenance"] = json.dumps(provenance)
    print(
        f"lost {lost:.4%} of the deposited energy; shift of a shower's total {shifts.mean():.5f} +- {shifts.std():.5f}"
    )


if __name__ == "__main__":
    main()
