"""Step times of trainings that 1 and 2 processes take (``qgen.training.parallel``).

    python -m benchmarks.distributed [--ranks 2] [--steps 20] [--quick]

Each process has one thread. ``wall`` is the time of a step and means something on an idle machine with a core for each
process; ``processor`` is what a step costs the first process alone, which others on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

WORKER = "--worker"


def cases(quick: bool) -> dict[str, Callable[[], tuple[Any, Any, int]]]:
    """A model, an objective and the events of a step, by what they are."""
    import torch

    from classical_baselines import ConditionalFlow, ConditionalGAN
    from qgen.models import StyleGenerator
    from qgen.training import MMD, NLL, Adversarial

    def seeded(model: Any) -> Any:
        torch.manual_seed(0)
        return model

    events = 32 if quick else 256
    grid = 8 if quick else 64
    qubits = 4 if quick else 10
    width = 16 if quick else 512
    return {
        f"flow of a {grid} x {grid} grid, {events} events": lambda: (
            seeded(ConditionalFlow(grid**2, 1, transforms=1, hidden=(64,), bins=4)),
            NLL(),
            events,
        ),
        f"flow of 16 features, two layers of {width}, {4 * events} events": lambda: (
            seeded(ConditionalFlow(16, 1, transforms=2, hidden=(width, width))),
            NLL(),
            4 * events,
        ),
        f"circuits of {qubits} qubits, {events} in a batch": lambda: (
            seeded(StyleGenerator(qubits, 1, layers=8)),
            MMD(),
            events,
        ),
        f"small network in a game, {events} events": lambda: (
            seeded(ConditionalGAN(4, 1)),
            Adversarial(),
            events,
        ),
    }


def measure(steps: int, quick: bool) -> None:
    """Time the steps; the first process prints wall and processor seconds of each case as JSON."""
    import torch

    from qgen.random import new_generator, normal
    from qgen.training.objectives import Batch
    from qgen.training.optimisers import make_optimiser
    from qgen.training.parallel import joined

    torch.set_num_threads(1)
    with joined() as ranks:
        for name, make in cases(quick).items():
            model, objective, events = make()
            rng = new_generator(0)
            like: dict[str, Any] = {"dtype": torch.float64}
            batch = Batch(normal((events, model.n_features), rng, **like), normal((events, 1), rng, **like))
            objective.prepare(model, batch, 0)
            optimisers = {"generator": make_optimiser("adam", model.parameters(), 1e-4, (0.9, 0.999))}
            optimisers |= objective.optimisers()
            walls, used = [], []
            with nullcontext() if ranks is None else ranks.sharing(model, objective):
                for step in range(steps + 1):
                    began, started = time.process_time(), time.perf_counter()
                    objective.step(model, batch, optimisers, rng, None)
                    if step:  # the first one compiles and allocates
                        walls.append(time.perf_counter() - started)
                        used.append(time.process_time() - began)
            if ranks is None or ranks.rank == 0:
                print(json.dumps([name, statistics.median(walls), statistics.median(used)]), flush=True)


def main() -> None:
    """Run every case with one process and with several, and print a table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--ranks", type=int, default=2, help="processes that are compared with one")
    asked.add_argument("--steps", type=int, default=20, help="of which the median is taken")
    asked.add_argument("--quick", action="store_true", help="small cases")
    asked.add_argument(WORKER, action="store_true", help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.worker:
        measure(options.steps, options.quick)
        return
    alone, together = (_by(ranks, options) for ranks in (1, options.ranks))
    n = options.ranks
    print(f"| step of | wall, 1 | wall, {n} | faster | processor, 1 | processor of the first of {n} | less |")
    print("|---|---|---|---|---|---|---|")
    for name, (wall, used) in alone.items():
        walls, share = together[name]
        cells = [f"{1e3 * wall:.3g} ms", f"{1e3 * walls:.3g} ms", f"{wall / walls:.2f} x"]
        cells += [f"{1e3 * used:.3g} ms", f"{1e3 * share:.3g} ms", f"{used / share:.2f} x"]
        print(f"| {name} | {' | '.join(cells)} |")


def _by(ranks: int, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    words = ["-m", "benchmarks.distributed", WORKER, "--steps", str(options.steps)]
    words += ["--quick"] if options.quick else []
    done = subprocess.run([*start, *words], stdout=subprocess.PIPE, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {name: (wall, used) for name, wall, used in found}


if __name__ == "__main__":
    main()
