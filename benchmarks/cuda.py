"""The gradient step on a CUDA device: 16 to 28 qubits, and batches to 4096."""

from __future__ import annotations

import argparse

import torch

from benchmarks.common import (
    OURS,
    SINGLE,
    Builder,
    Goal,
    Report,
    Timing,
    cell,
    chosen,
    matrix_product,
    memory_bandwidth,
    number,
    parser,
    race,
    ratio,
    times,
)
from benchmarks.peers import lightning_qnode, ours
from benchmarks.work import LAYERS, Work

QUBITS, QUICK_QUBITS = (16, 18, 20, 22, 24, 26, 28), (6, 8)
BATCHES, QUICK_BATCHES = (16, 64, 256, 1024, 4096), (4, 16)
BATCH_QUBITS = 8
PASSES = 3
"""Per layer: the state forward, and the state and its adjoint backward, each read and written once."""


def builders(work: Work) -> dict[str, Builder]:
    """Contenders on the GPU."""
    made: dict[str, Builder] = {
        OURS: lambda: ours(work, device="cuda"),
        OURS + SINGLE: lambda: ours(work, single=True, device="cuda"),
    }
    if work.batch is None:
        made["lightning.gpu"] = lambda: lightning_qnode(work, "lightning.gpu")
    return made


def limit_ms(work: Work, bandwidth: float, single: bool) -> float:
    """Milliseconds that the memory alone needs: three reads and writes of the state for every layer."""
    return 2 * PASSES * work.layers * work.bytes_per_state / (2 if single else 1) / bandwidth / 1e6


def measure(options: argparse.Namespace) -> Report:
    """Sizes, then batches."""
    seconds = options.seconds or (0.05 if options.quick else 3.0)
    bandwidth = memory_bandwidth("cuda", 2**30)
    report = Report(
        "CUDA",
        f"Milliseconds per gradient step on {torch.cuda.get_device_name()}: {LAYERS} layers, squared MMD. Memory "
        f"{number(bandwidth)} GB/s, matrix products {number(matrix_product(torch.complex64, 'cuda', 4096) / 1e3)} "
        f"(complex64) and {number(matrix_product(torch.complex128, 'cuda', 4096) / 1e3)} TFLOP/s (complex128). The "
        f"limit of the memory is {PASSES} passes over the state for every layer (the state forward, the state and its "
        "adjoint backward), each of them one read and one write; the last columns are that limit divided by the time.",
    )
    ratios = []
    sizes = [("qubits", n, Work(n)) for n in (QUICK_QUBITS if options.quick else QUBITS)]
    batches = [
        (f"batch, {BATCH_QUBITS} qubits", batch, Work(BATCH_QUBITS, batch=batch))
        for batch in (QUICK_BATCHES if options.quick else BATCHES)
    ]
    for group in (sizes, batches):
        rows: list[list[str]] = []
        for _, value, work in group:
            results = race(chosen(builders(work), options.peers), seconds)
            fractions = [
                number(limit_ms(work, bandwidth, name.endswith(SINGLE)) / result.median)
                if isinstance(result, Timing)
                else "-"
                for name, result in results.items()
                if name.startswith(OURS)
            ]
            own = {name: result for name, result in results.items() if name != OURS + SINGLE}
            rows.append([str(value), *map(cell, results.values()), times(ratio(own)), *fractions])
            ratios.append(ratio(own))
        header = [group[0][0], *results, "ratio", "of the limit, complex128", "of the limit, complex64"]
        report.tables.append((header, rows))
    report.goals = [Goal("CUDA, the worst", 1.0, min((r for r in ratios if r is not None), default=None))]
    return report


def main() -> None:
    """Nothing but a line where there is no device."""
    options = parser(__doc__).parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device is available here")
        return
    report = measure(options)
    print(report.markdown())


if __name__ == "__main__":
    main()
