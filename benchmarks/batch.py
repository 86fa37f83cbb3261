"""One gradient step of a batch: 256 circuits of 8 qubits, each with its own angles."""

from __future__ import annotations

import argparse

from benchmarks.common import RATIO_HEADER, Goal, Report, chosen, parser, race, ratio_rows, show
from benchmarks.peers import gradient_builders
from benchmarks.work import Work

FULL = Work(8, batch=256)
QUICK = Work(4, batch=8)


def measure(options: argparse.Namespace) -> Report:
    """All packages in both precisions."""
    work = QUICK if options.quick else FULL
    seconds = options.seconds or (0.05 if options.quick else 6.0)
    results = race(chosen(gradient_builders(work), options.peers), seconds)
    rows, ratios = ratio_rows(results)
    report = Report(
        "Batch",
        f"{work.batch} circuits of {work.n_qubits} qubits and {work.layers} layers, each with its own angles: the sum "
        "of their losses, and the gradient by all angles. PennyLane broadcasts, qujax and deepquantum use `vmap`, "
        "lightning.qubit runs one after the other.",
        [(RATIO_HEADER, rows)],
    )
    report.goals = [
        Goal("batch", 7.0, ratios.get(False)),
        Goal("batch, complex64", 1.0, ratios.get(True)),
    ]
    return report


if __name__ == "__main__":
    show(measure, parser(__doc__).parse_args())
