"""The study ``cv-cost``: time and memory of a truncated simulation against modes and cutoff, in both bases.

A case is what a step of training asks for: displacements of a batch of events, shared layers of a continuous-variable
neural network, the mean position of every mode, and the gradient of their sum with respect to the weights. Every case
runs in a process of its own on one core, so that its peak of memory is its own. A case that would not fit is not
started: the line that the simulation refuses it with is kept.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from circuits.cv import Fock
from circuits.cv.basis import BasisKind, basis_size
from qgen.models.cv_generator import layered_program
from qgen.random import new_generator, symmetric

__all__ = ["Case", "Settings", "cv_cost", "measure"]

DTYPES = {"complex64": torch.complex64, "complex128": torch.complex128}

MEGABYTE = 1e6


@dataclass(frozen=True)
class Case:
    """One size.

    Args:
        modes: optical modes.
        cutoff: first photon number that is left out.
        basis: ``mode`` or ``total``.
        layers: of the network.
        batch: events of a step.
        dtype: a name of :data:`DTYPES`.
        seconds: repeated for so long, and at least three times.
        memory_limit: bytes that it may take.
    """

    modes: int
    cutoff: int
    basis: BasisKind
    layers: int = 4
    batch: int = 32
    dtype: str = "complex64"
    seconds: float = 1.0
    memory_limit: int = 2_000_000_000

    @property
    def amplitudes(self) -> int:
        """Numbers that describe one state."""
        return basis_size(self.modes, self.cutoff, self.basis)


@dataclass(frozen=True)
class Settings:
    """What the study measures.

    Args:
        modes: numbers of modes.
        cutoffs: first photon numbers that are left out.
        bases: of ``mode``, ``total``.
        layers: layers of the network.
        batch: events of a step.
        dtype: ``complex64`` or ``complex128``.
        seconds: each case is repeated for so long, and at least three times.
        memory_limit: bytes that a case may take.

    Raises:
        ValueError: the option is named, with what was found and what is allowed.
    """

    modes: tuple[int, ...] = (2, 3, 4, 6)
    cutoffs: tuple[int, ...] = (4, 7, 10)
    bases: tuple[str, ...] = ("mode", "total")
    layers: int = 4
    batch: int = 32
    dtype: str = "complex64"
    seconds: float = 1.0
    memory_limit: int = 2_000_000_000

    def __post_init__(self) -> None:
        for name, values in (("modes", self.modes), ("cutoffs", self.cutoffs)):
            if not values or min(values) < 1:
                raise ValueError(f"{name} is {list(values)}; integers of at least 1 are needed")
        for name, found, allowed in (
            ("bases", self.bases, get_args(BasisKind)),
            ("dtype", (self.dtype,), tuple(DTYPES)),
        ):
            wrong = [value for value in found if value not in allowed]
            if wrong or not found:
                raise ValueError(f"{name} is {', '.join(found) or 'empty'}; allowed are {', '.join(allowed)}")
        for name in ("layers", "batch", "seconds", "memory_limit"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a positive number is needed")

    def cases(self) -> list[Case]:
        """All sizes, the small ones first."""
        first = Case(1, 1, "mode", self.layers, self.batch, self.dtype, self.seconds, self.memory_limit)
        return [
            replace(first, modes=modes, cutoff=cutoff, basis=basis)
            for basis in get_args(BasisKind)
            if basis in self.bases
            for cutoff in self.cutoffs
            for modes in self.modes
        ]


def cv_cost(settings: Settings, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Do the study.

    Args:
        settings: what to measure.
        progress: is told of each case.

    Returns:
        JSON values: ``settings`` and ``cases``, a row for each with ``amplitudes``, ``estimate`` (MB, what the
        simulation expects to take), ``seconds`` (of a step, the shortest; None if refused), ``peak`` (MB that the
        process grew by; None where the system does not tell) and ``refused`` (the line, or None).
    """
    spawn = multiprocessing.get_context("spawn")
    rows = []
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        for case in settings.cases():
            progress(f"{case.modes} modes, cutoff {case.cutoff}, {case.basis} basis")
            row = {**asdict(case), "amplitudes": case.amplitudes, "seconds": None, "peak": None, "refused": None}
            program = layered_program(case.modes, case.layers, case.modes)
            row["estimate"] = _simulation(case).memory(program, case.batch, n_inputs=case.modes) / MEGABYTE
            try:
                row["seconds"], row["peak"] = pool.submit(measure, case).result()
            except ValueError as error:
                row["refused"] = str(error)
            rows.append(row)
    return {"settings": asdict(settings), "cases": rows}


def _simulation(case: Case) -> Fock:
    return Fock(
        case.cutoff,
        basis=case.basis,
        dtype=DTYPES[case.dtype],
        warn_above=None,
        memory_limit=case.memory_limit,
    )


def measure(case: Case) -> tuple[float, float | None]:
    """Shortest seconds of a step and the MB that the process grew by at most.

    Raises:
        ValueError: it would not fit; nothing was allocated.
    """
    torch.set_num_threads(1)
    _step(replace(case, modes=1, cutoff=2))()  # compiles what there is to compile
    before = _memory("VmRSS")
    step = _step(case)
    step()
    times: list[float] = []
    while len(times) < 3 or sum(times) < case.seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    after = _memory("VmHWM")
    grown = None if before is None or after is None else max(0.0, after - before)
    return min(times), grown


def _step(case: Case) -> Callable[[], None]:
    program = layered_program(case.modes, case.layers, case.modes)
    simulation = _simulation(case)
    rng = new_generator(0)
    weights = symmetric((program.n_parameters - case.modes,), 0.1, rng).requires_grad_()
    inputs = symmetric((case.batch, case.modes), 0.3, rng)

    def step() -> None:
        means, _ = simulation.run(program, weights, inputs).quadratures()
        torch.autograd.grad(means.sum(), weights)

    return step


def _memory(which: str) -> float | None:
    """MB of this process as Linux counts them; None elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024 / MEGABYTE
