"""All benchmarks, one after the other; writes ``benchmarks/RESULTS.md``."""

from __future__ import annotations

import argparse
import importlib.metadata
import shlex
import sys
from pathlib import Path

import torch

from benchmarks import batch, cuda, cv, evaluate, first_call, gradient_step, iqp, memory, noise, sampling
from benchmarks.common import GOALS, Report, machine, one_core, parser, table

RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = (
    "torch",
    "numba",
    "numpy",
    "pennylane",
    "pennylane-lightning",
    "qiskit-aer",
    "jax",
    "qujax",
    "deepquantum",
    "piquasso",
    "torchquantum",
)


def page(reports: list[Report], figures: list[tuple[str, str]], command: str) -> str:
    """The results as Markdown."""
    goals = [goal.row() for report in reports for goal in report.goals]
    parts = [
        "# Benchmarks",
        "All packages do the same work in one process (continuous-variable networks in one run, each in a process of "
        "its own), on one core and one thread; their results agree to 1e-5 (shots within their statistical "
        "uncertainty) before anything is timed; commands on files run as a user runs them. Times are medians. A ratio "
        "is how many times longer the fastest peer takes. A peer that cannot be imported is named; torchquantum 0.1.8 "
        "needs Qiskit below 1.0, which cannot stand beside this package. Written by",
        f"    {command}",
        table(["machine", ""], [list(row) for row in figures]),
        table(["package", "version"], [[package, _version(package)] for package in PACKAGES]),
        "## Goals\n\n" + table(GOALS, goals),
        *(report.markdown().rstrip() for report in reports),
    ]
    return "\n\n".join(parts) + "\n"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Run all, and write the page after each, so that nothing is lost."""
    made = parser(__doc__)
    made.add_argument("--out", type=Path, help="where to write; by default benchmarks/RESULTS.md, with --quick nowhere")
    options: argparse.Namespace = made.parse_args()
    out = options.out or (None if options.quick else RESULTS)
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    one_core()
    figures = machine()
    reports: list[Report] = []
    scripts = [gradient_step, batch, sampling, noise, memory, first_call, cv, iqp, evaluate]
    for script in scripts + [cuda] * torch.cuda.is_available():
        reports.append(script.measure(options))
        print(reports[-1].markdown(), flush=True)
        if out is not None:
            out.write_text(page(reports, figures, command))
    print(table(GOALS, [goal.row() for report in reports for goal in report.goals]))


if __name__ == "__main__":
    main()
