"""The first call: with kernels compiled before, and without, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks.common import Goal, Report, number, one_core, parser, show
from benchmarks.work import TorchLoss, Work, torch_step

WARM, COLD = 2.0, 15.0
QUICK = ("gradient, 6 qubits",)


def cases() -> dict[str, Callable[[], object]]:
    """What is called, by name."""
    from circuits.backends import DensityMatrix, Statevector
    from circuits.noise import NoiseModel

    noise = NoiseModel.from_config({"depolarizing": {"one_qubit": 0.001, "two_qubit": 0.01}})

    def gradient(n_qubits: int, batch: int | None = None, noisy: bool = False) -> Callable[[], object]:
        work = Work(n_qubits, batch=batch)
        backend = DensityMatrix(noise) if noisy else Statevector()
        return torch_step(lambda angles: backend.probs(work.circuit, angles), work.angles, TorchLoss(work))

    def sample() -> object:
        work = Work(16)
        return Statevector().sample(work.circuit, work.angles, 1_000_000)

    return {
        "gradient, 6 qubits": gradient(6),
        "gradient, 12 qubits": gradient(12),
        "gradient, 18 qubits": gradient(18),
        "gradient, batch of 256, 8 qubits": gradient(8, batch=256),
        "noisy gradient, 8 qubits": gradient(8, noisy=True),
        "1000000 shots, 16 qubits": sample,
    }


def measure(options: argparse.Namespace) -> Report:
    """Every case without and with compiled kernels."""
    names = QUICK if options.quick else tuple(cases())
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = (_elsewhere(name, folder), _elsewhere(name, folder))
    rows = [[name, *(number(x) for x in (cold[0], warm[0], 1e3 * warm[1]))] for name, (cold, warm) in found.items()]
    worst_cold, worst_warm = (max(pair[which][0] for pair in found.values()) for which in (0, 1))
    return Report(
        "First call",
        "Seconds that the first call of a process takes after `import circuits.backends`, with an empty cache of "
        "compiled kernels and with a full one; and milliseconds of the second call.",
        [(["call", "empty cache, s", "full cache, s", "second call, ms"], rows)],
        [
            Goal("first call, full cache, the worst", WARM, worst_warm, " s", most=True),
            Goal("first call, empty cache, the worst", COLD, worst_cold, " s", most=True),
        ],
    )


def _elsewhere(name: str, folder: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.first_call", "--one", name]
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} in a process of its own: {done.stderr.strip().splitlines()[-1]}")
    first, second = json.loads(done.stdout.splitlines()[-1])
    return first, second


def _one(name: str) -> tuple[float, float]:
    one_core()
    call = cases()[name]
    times = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[0], times[1]


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--one", metavar="NAME", help="only this call, in this process")
    options = made.parse_args()
    if options.one is None:
        show(measure, options)
    else:
        print(json.dumps(_one(options.one)))
