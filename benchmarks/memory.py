"""Peak memory of one gradient step, each package in a process of its own."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.common import SINGLE, Absent, Report, chosen, number, one_core, parser, show
from benchmarks.peers import gradient_builders
from benchmarks.work import Work

QUBITS, QUICK, WARM_UP = 20, 6, 4
LIMIT_S = 900
MEGABYTE = 1e6


def measure(options: argparse.Namespace) -> Report:
    """Every contender of the gradient step."""
    n_qubits = QUICK if options.quick else QUBITS
    work = Work(n_qubits)
    rows = []
    for name in chosen(gradient_builders(work), options.peers):
        found = _elsewhere(name, n_qubits)
        if isinstance(found, str):
            rows.append([name, found, "-", "-"])
            continue
        before, peak = found
        state = work.bytes_per_state / (2 if name.endswith(SINGLE) else 1)
        taken = peak - before
        rows.append([name, number(peak / MEGABYTE), number(taken / MEGABYTE), number(taken / state)])
    return Report(
        "Peak memory",
        f"One gradient step at {n_qubits} qubits in a fresh process, in MB: the largest resident size, how much of it "
        "the step added to imports and preparation, and that as a number of state vectors of the same precision "
        f"({number(work.bytes_per_state / MEGABYTE)} MB in complex128).",
        [(["package", "peak, MB", "of the step, MB", "state vectors"], rows)],
    )


def _elsewhere(name: str, n_qubits: int) -> tuple[float, float] | str:
    command = [sys.executable, "-m", "benchmarks.memory", "--one", name, "--qubits", str(n_qubits)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return "too slow"
    if done.returncode < 0:
        return "out of memory"
    if done.returncode:
        raise RuntimeError(f"{name} in a process of its own: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found if isinstance(found, str) else (found[0], found[1])


def _one(name: str, n_qubits: int) -> tuple[float, float] | str:
    """Bytes before the step and at its peak, or why there are none."""
    one_core()
    try:
        gradient_builders(Work(WARM_UP))[name]().run()  # imports and compiled kernels are not the step's
        contender = gradient_builders(Work(n_qubits))[name]()
        before = _peak(reset=True)
        contender.run()
    except Absent as reason:
        return str(reason)
    return before, _peak()


def _peak(reset: bool = False) -> float:
    """Largest resident size so far; with ``reset``, what is resident now, and from now on."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024.0


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument("--one", metavar="NAME", help="only this contender, in this process")
    made.add_argument("--qubits", type=int, default=QUBITS, help="number of qubits, with --one")
    options = made.parse_args()
    if options.one is None:
        show(measure, options)
    else:
        print(json.dumps(_one(options.one, options.qubits)))
