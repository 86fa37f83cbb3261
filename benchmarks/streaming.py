"""Events from and to the disk at size: events a second, and the largest memory, each job in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from benchmarks.common import Report, number, one_core, parser, show
from benchmarks.memory import _peak
from qgen.data import CalorimeterDataset, describe, event_writer, load_calorimeter, load_events, open_events
from qgen.data.calorimeter import INCIDENT_ENERGY, pixel_features
from qgen.data.geometry import Geometry

SIZES = {"profile": (10_000_000, 8), "sparse": (20_000, 40_500)}
"""Events and pixels: the longitudinal profile, and voxels as in data set 3 of the CaloChallenge."""
QUICK = {"profile": (20_000, 8), "sparse": (60, 40_500)}
FILLED = 0.02
BLOCK_BYTES = 2**25
MEGABYTE = 1e6


def showers(n: int, pixels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Incident energies ``(k, 1)`` and voxels ``(k, pixels)``, MeV, in blocks; many pixels are mostly empty."""
    step = max(1, BLOCK_BYTES // (8 * pixels))
    for start in range(0, n, step):
        random = np.random.default_rng(start)
        rows = min(step, n - start)
        energy = random.uniform(1e4, 1e5, (rows, 1))
        if pixels < 1000:
            yield energy, random.gamma(2.0, 1.0, (rows, pixels)) * energy / 1e3
            continue
        voxels = np.zeros((rows, pixels))
        filled = int(FILLED * pixels)
        columns = random.integers(0, pixels, (rows, filled))
        np.put_along_axis(voxels, columns, random.exponential(1.0, (rows, filled)) * energy / 1e5, axis=1)
        yield energy, voxels


def write(path: Path, n: int, pixels: int) -> int:
    """With the lab's writer: chunks, checksums, atomic."""
    geometry = Geometry.cells(layer=pixels) if pixels < 1000 else Geometry.cells(layer=45, x=50, y=18)
    features = pixel_features(geometry)
    with event_writer(path) as writer:
        for energy, voxels in showers(n, pixels):
            tensors = {"samples": torch.from_numpy(voxels), "conditions": torch.from_numpy(energy)}
            columns = {"features": features, "condition_features": (INCIDENT_ENERGY,)}
            writer.append(CalorimeterDataset(**tensors, **columns, geometry=geometry))
    return n


def write_plain(path: Path, n: int, pixels: int) -> int:
    """With h5py alone: the same chunks and compression, no checksum of the content, not atomic."""
    rows = max(1, 2**20 // (8 * pixels))
    options = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    with h5py.File(path.with_suffix(".plain.h5"), "w") as file:
        energies = file.create_dataset("incident_energies", (n, 1), "f8", chunks=(min(n, 2**17), 1), **options)
        voxels = file.create_dataset("showers", (n, pixels), "f8", chunks=(min(n, rows), pixels), **options)
        start = 0
        for energy, block in showers(n, pixels):
            energies[start : start + len(block)], voxels[start : start + len(block)] = energy, block
            start += len(block)
    return n


def read_plain(path: Path, n: int, pixels: int) -> int:
    """With h5py alone, in blocks of the same size, nothing checked."""
    step = max(1, BLOCK_BYTES // (8 * pixels))
    with h5py.File(path, "r") as file:
        return sum(len(file["showers"][start : start + step]) for start in range(0, n, step))


def read(path: Path, n: int, pixels: int) -> int:
    """``open_events``: blocks, every number and the checksums verified."""
    with open_events(path) as events:
        return sum(len(block) for block in events.blocks())


def look(path: Path, n: int, pixels: int) -> int:
    """``describe``."""
    found: int = describe(path)["events"]
    return found


def choose(path: Path, n: int, pixels: int) -> int:
    """``load_calorimeter`` with ``max_events`` and an ``energy_window``, summed to 5 pixels."""
    load_calorimeter(path, grid=(5,), max_events=1000, energy_window=(4e4, 6e4))
    return n


def load(path: Path, n: int, pixels: int) -> int:
    """``load_events``: all events in memory."""
    return len(load_events(path))


def train(path: Path, n: int, pixels: int) -> int:
    """All events in memory, and 50 steps of a conditional normalizing flow on batches of 256."""
    from classical_baselines import ConditionalFlow
    from qgen import fit
    from qgen.training import NLL

    data = load_calorimeter(path, grid=(pixels,), axes=("layer",))
    transforms = {"transform": data.transform, "condition_transform": data.condition_transform}
    fit(ConditionalFlow(pixels, 1, **transforms), data, NLL(), steps=50, batch_size=256)
    return len(data)


JOBS: dict[str, Callable[[Path, int, int], int]] = {
    "write, event_writer": write,
    "write, h5py alone": write_plain,
    "read, open_events": read,
    "read, h5py alone": read_plain,
    "describe": look,
    "load_calorimeter, 1000 events": choose,
    "load_events": load,
    "train a flow, 50 steps": train,
}
TOO_LARGE = {"sparse": ("load_events", "train a flow, 50 steps")}


def measure(options: argparse.Namespace) -> Report:
    """Every job on both files."""
    sizes = QUICK if options.quick else SIZES
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    tables = []
    try:
        for kind, (n, pixels) in sizes.items():
            rows = []
            for name in JOBS:
                if name in TOO_LARGE.get(kind, ()):
                    continue
                seconds, before, peak = _elsewhere(name, folder / f"{kind}.h5", n, pixels)
                rows.append([name, number(n / seconds), number(before / MEGABYTE), number((peak - before) / MEGABYTE)])
            size = (folder / f"{kind}.h5").stat().st_size
            what = f"{n} events of {pixels} pixels, {number(8 * n * pixels / MEGABYTE)} MB of numbers"
            what += f", {number(size / MEGABYTE)} MB on the disk"
            header = [what, "events/s", "MB before", "MB more at the peak"]
            tables.append((header, rows))
    finally:
        shutil.rmtree(folder)
    return Report(
        "Events at size",
        "Events a second of processor time, and the largest resident memory: before the work (imports) and what the "
        "work added. Times of writing include drawing the events.",
        tables,
    )


def _elsewhere(name: str, path: Path, n: int, pixels: int) -> tuple[float, float, float]:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.streaming", "--one", name, str(path), str(n), str(pixels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"{name} in a process of its own: {done.stderr.strip().splitlines()[-1:]}")
    seconds, before, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, before, peak


def _one(name: str, path: Path, n: int, pixels: int) -> tuple[float, float, float]:
    """Processor seconds, and bytes before and at the peak."""
    one_core()
    before = _peak(reset=True)
    start = time.process_time()
    found = JOBS[name](path, n, pixels)
    seconds = time.process_time() - start
    if found != n:
        raise ArithmeticError(f"{name}: {found} events, expected {n}")
    return seconds, before, _peak()


def main() -> None:
    """Print the tables."""
    if sys.argv[1:2] == ["--one"]:
        name, path, n, pixels = sys.argv[2:]
        print(json.dumps(_one(name, Path(path), int(n), int(pixels))))
        return
    made = parser(__doc__)
    made.add_argument("--folder", type=Path, help="where the files are written, and deleted again")
    show(measure, made.parse_args())


if __name__ == "__main__":
    main()
