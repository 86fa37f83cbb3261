"""Judging events: `qgen evaluate` on two files, and single metrics against other packages."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.common import (
    OURS,
    Builder,
    Contender,
    Goal,
    Report,
    Timing,
    cell,
    chosen,
    fastest,
    number,
    parser,
    race,
    show,
    times,
)
from benchmarks.peers import need
from qgen.metrics import METRICS
from qgen.metrics.base import bootstrap_weights

REPLICAS = 20
SIZES = {"100,000 showers of 368 voxels": (100_000, 368, 600.0, 6.0), "10,000 of 8 pixels": (10_000, 8, 30.0, 6.0)}
"""Events, voxels, and the seconds and GB that the command may take."""
QUICK_SIZES = {"500 showers of 24 voxels": (500, 24, 600.0, 6.0)}
PEER_EVENTS, PEER_COLUMNS, QUICK_EVENTS = 10_000, 8, 300


def measure(options: argparse.Namespace) -> Report:
    """The command on files of full size, and the metrics that other packages have as well."""
    rows, goals = [], []
    for what, (n, voxels, seconds, gigabytes) in (QUICK_SIZES if options.quick else SIZES).items():
        taken, peak = _command(n, voxels)
        rows.append([what, number(taken), number(peak)])
        goals += [
            Goal(f"`qgen evaluate`, {what}", seconds, taken, " s", most=True),
            Goal(f"`qgen evaluate`, {what}, memory", gigabytes, peak, " GB", most=True),
        ]
    n = QUICK_EVENTS if options.quick else PEER_EVENTS
    per_metric = []
    for name, builders in _metrics(n).items():
        found = race(chosen(builders, options.peers), options.seconds or (0.001 if options.quick else 2.0))
        peer, own = fastest(found), found[OURS]
        slower = peer[1].median / own.median if peer and isinstance(own, Timing) else None
        per_metric.append([name, cell(own), cell(peer[1]) if peer else "-", peer[0] if peer else "-", times(slower)])
    text = (
        "The command with the default metrics, 20 bootstrap replicas and a page, in a process of its own on all cores: "
        "seconds from start to end, and the largest resident size. Truth and generated events are synthetic showers in "
        "CaloChallenge layout. Below, single metrics on one core, each of "
        f"{n} events against {n} with {PEER_COLUMNS} columns: the value and its {REPLICAS} replicas where the peer "
        "takes weights, the value alone where it takes none."
    )
    return Report(
        "Judging events",
        text,
        [
            (["files", "s", "GB"], rows),
            (["metric", "qgen, ms", "fastest peer, ms", "peer", "ratio"], per_metric),
        ],
        goals,
    )


def _command(n: int, voxels: int) -> tuple[float, float]:
    """Seconds and peak gigabytes of ``qgen evaluate`` on two files of showers."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{name}.h5") for name in ("truth", "generated")]
        for seed, file in enumerate(files):
            write_showers(file, n, voxels, seed)
        command = [sys.executable, "-m", "experiments.cli", "evaluate", "--truth", str(files[0])]
        command += ["--generated", str(files[1]), "--report", str(Path(folder, "page.html"))]
        cores = os.cpu_count() or 1
        threads = {name: str(cores) for name in os.environ if name.endswith("_NUM_THREADS")}
        start = time.perf_counter()
        with subprocess.Popen(
            command,
            env={**os.environ, **threads},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, range(cores)),
        ) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
        return time.perf_counter() - start, used.ru_maxrss / 1e6


def write_showers(path: Path, n: int, voxels: int, seed: int, block: int = 10_000) -> None:
    """Write synthetic showers: log-uniform energies from 1 to 100 GeV, gamma-distributed shares, a tenth empty."""
    rng = np.random.default_rng(seed)
    energies = 10 ** rng.uniform(3, 5, (n, 1))
    mean = np.exp(-np.linspace(0, 5, voxels))
    with h5py.File(path, "w") as file:
        file["incident_energies"] = energies
        showers = file.create_dataset("showers", (n, voxels), "f4", compression="gzip", compression_opts=1)
        for start in range(0, n, block):
            part = energies[start : start + block]
            shares = mean * rng.gamma(1.0, 1.0, (len(part), voxels)) * (rng.random((len(part), voxels)) > 0.1)
            sampled = 0.9 * part * rng.normal(1, 0.03, part.shape)
            showers[start : start + block] = sampled * shares / shares.sum(1, keepdims=True).clip(1e-9)


def _metrics(n: int) -> dict[str, dict[str, Builder]]:
    """Contenders of each metric that a peer has."""
    rng = torch.Generator().manual_seed(0)
    truth, generated = torch.randn(2, n, PEER_COLUMNS, generator=rng, dtype=torch.float64)
    generated = 0.2 + 1.1 * generated
    w, v = (torch.cat([torch.ones(1, n).double(), bootstrap_weights(n, REPLICAS, seed)]) for seed in (0, 1))
    one = torch.ones(n, dtype=torch.float64)
    scale = truth.std(0, correction=0)

    def build(name: str) -> Any:
        return METRICS[name].build(truth, generated, 0)

    def ours(name: str, *weights: torch.Tensor) -> Builder:
        return lambda: Contender(lambda: build(name)(*weights), lambda found: [found])

    def scipy_wasserstein() -> Contender:
        stats = need("scipy.stats")
        a, b, ws, vs = (x.numpy() for x in (truth / scale, generated / scale, w, v))

        def run() -> list[list[float]]:
            return [
                [stats.wasserstein_distance(a[:, i], b[:, i], *pair) for i in range(PEER_COLUMNS)]
                for pair in zip(ws, vs, strict=True)
            ]

        return Contender(run, lambda found: [np.array(found)])

    def pot_wasserstein() -> Contender:
        ot = need("ot")
        a, b, ws, vs = (x.numpy() for x in (truth / scale, generated / scale, w / n, v / n))

        def run() -> list[np.ndarray]:
            return [
                ot.wasserstein_1d(a, b, u[:, None].repeat(PEER_COLUMNS, 1), x[:, None].repeat(PEER_COLUMNS, 1), p=1)
                for u, x in zip(ws, vs, strict=True)
            ]

        return Contender(run, lambda found: [np.array(found)])

    def scipy_ks() -> Contender:
        stats = need("scipy.stats")
        a, b = truth.numpy(), generated.numpy()

        def run() -> list[float]:
            return [stats.ks_2samp(a[:, i], b[:, i], method="asymp").statistic for i in range(PEER_COLUMNS)]

        return Contender(run, lambda found: [np.array(found)])

    def numpy_correlation() -> Contender:
        a, b, ws, vs = (x.numpy() for x in (truth, generated, w, v))
        pairs = np.triu_indices(PEER_COLUMNS, 1)

        def pearson(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
            covariance = np.cov(x, rowvar=False, aweights=weights, ddof=0)
            deviation = np.sqrt(np.diag(covariance))
            found: np.ndarray = covariance / np.outer(deviation, deviation)
            return found

        def run() -> list[float]:
            return [np.abs(pearson(a, u) - pearson(b, x))[pairs].mean() for u, x in zip(ws, vs, strict=True)]

        return Contender(run, lambda found: [np.array(found)])

    def our_correlation() -> Contender:
        def run() -> list[torch.Tensor]:
            estimate = build("correlation")
            return [estimate(*pair) for pair in zip(w, v, strict=True)]

        return Contender(run, lambda found: [np.array(found)])

    return {
        "wasserstein, with replicas": {
            OURS: ours("wasserstein", w, v),
            "scipy": scipy_wasserstein,
            "POT": pot_wasserstein,
        },
        "ks, the value": {OURS: ours("ks", one, one), "scipy": scipy_ks},
        "correlation, with replicas": {OURS: our_correlation, "numpy": numpy_correlation},
    }


if __name__ == "__main__":
    show(measure, parser(__doc__).parse_args())
