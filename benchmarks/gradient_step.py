"""One gradient step at 6 to 20 qubits: loss on exact probabilities, and its gradient by the angles."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from benchmarks.common import (
    OURS,
    SINGLE,
    Goal,
    Report,
    Timing,
    cell,
    chosen,
    number,
    of_precision,
    parser,
    race,
    ratio,
    show,
    times,
)
from benchmarks.peers import gradient_builders
from benchmarks.work import LAYERS, Work

QUBITS = (6, 8, 10, 12, 14, 16, 18, 20)
QUICK = (4, 6)
SMALL, LARGE = (6, 14), (16, 20)
PATIENCE_MS = 60_000.0


def measure(options: argparse.Namespace) -> Report:
    """All sizes, in double and in single precision."""
    qubits = getattr(options, "qubits", None) or (QUICK if options.quick else QUBITS)
    seconds = options.seconds or (0.05 if options.quick else 3.0)
    found: dict[int, dict[str, Timing | str]] = {}
    slow: set[str] = set()
    for n in qubits:
        builders = chosen(gradient_builders(Work(n)), options.peers)
        found[n] = {
            **race({name: build for name, build in builders.items() if name not in slow}, seconds),
            **{name: "too slow" for name in builders if name in slow},
        }
        slow |= {name for name, r in found[n].items() if isinstance(r, Timing) and r.median > PATIENCE_MS}
        print(f"{n} qubits: " + ", ".join(f"{name} {cell(result)}" for name, result in found[n].items()), flush=True)
    report = Report(
        "Gradient step",
        f"Milliseconds, medians: {LAYERS} layers of RY and RZ on every qubit and a ring of CNOTs, squared MMD with the "
        "Gaussian kernel of the Hamming distance on exact probabilities, loss and gradient by all angles. "
        "`lightning.qubit` is used without a QNode, the fastest way found; `lightning.qubit QNode` is the usual one. "
        "qujax is jitted, as a loop over the layers.",
    )
    report.tables = [_medians(found, single) for single in (False, True)]
    report.tables.append(_first_calls(found))
    ratios = {(n, single): _ratio(results, single) for n, results in found.items() for single in (False, True)}
    for (low, high), wanted in ((SMALL, 10.0), (LARGE, 6.0)):
        there = [r for (n, single), r in ratios.items() if low <= n <= high and not single and r is not None]
        report.goals.append(Goal(f"gradient step, {low} to {high} qubits, the worst", wanted, min(there, default=None)))
    all_of_them = [r for r in ratios.values() if r is not None]
    report.goals.append(Goal("gradient step, both precisions, the worst", 1.0, min(all_of_them, default=None)))
    return report


Found = Mapping[int, Mapping[str, Timing | str]]


def _ratio(results: Mapping[str, Timing | str], single: bool) -> float | None:
    return ratio(of_precision(results, single), OURS + SINGLE if single else OURS)


def _medians(found: Found, single: bool) -> tuple[list[str], list[list[str]]]:
    rows = [
        [str(n), *map(cell, of_precision(results, single).values()), times(_ratio(results, single))]
        for n, results in found.items()
    ]
    names = [name.removesuffix(SINGLE) for name in of_precision(next(iter(found.values())), single)]
    return [f"qubits, {'complex64' if single else 'complex128'}", *names, "ratio"], rows


def _first_calls(found: Found) -> tuple[list[str], list[list[str]]]:
    rows = []
    for n, results in found.items():
        cells = [number(r.first / 1e3) if isinstance(r, Timing) else r for r in of_precision(results, False).values()]
        rows.append([f"{n}", *cells])
    return ["qubits, first call in seconds", *of_precision(next(iter(found.values())), False)], rows


def add_options(options: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What this script alone has."""
    options.add_argument("--qubits", type=int, nargs="+", help="numbers of qubits")
    return options


if __name__ == "__main__":
    show(measure, add_options(parser(__doc__)).parse_args())
