"""What all benchmarks share: contenders, their race, figures of the machine, and tables."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

OURS = "qgen"
SINGLE = ", complex64"
"""At the end of the name of a contender in single precision."""

TOLERANCE = 1e-5
ENOUGH_S = 30.0
"""Seconds after which a contender gets no further turns."""


class Absent(Exception):
    """A contender cannot take part; the message is what the table says."""


@dataclass(frozen=True)
class Contender:
    """One package's way of doing the work.

    Args:
        run: does the work once, until the result is there.
        read: the result as arrays to compare, after the clock has stopped.
        relative: largest difference allowed, as a fraction of the array's largest entry.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Sequence[Any]] = lambda result: result
    relative: float = TOLERANCE


Builder = Callable[[], Contender]


@dataclass(frozen=True)
class Timing:
    """Milliseconds: the median of the calls, the shortest, and the first with all compilation."""

    median: float
    best: float
    first: float
    calls: int


def race(
    builders: Mapping[str, Builder], seconds: float, rounds: int = 3, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing | str]:
    """Compare the results of all contenders, then time them in turns.

    The first of the builders gives the reference.

    Args:
        builders: contenders by name.
        seconds: how long each is timed, in all rounds together; every round has one call at least.
        rounds: how many turns each gets, fewer if one call takes very long.
        clock: seconds; ``time.process_time`` does not count what other processes take.

    Returns:
        A timing for each name, or why there is none.

    Raises:
        ArithmeticError: two contenders disagree.
    """
    runs: dict[str, Callable[[], Any]] = {}
    absent: dict[str, str] = {}
    first: dict[str, float] = {}
    reference: list[np.ndarray] = []
    for name, build in builders.items():
        try:
            contender = build()
            start = clock()
            result = contender.run()
        except Absent as reason:
            absent[name] = str(reason)
            continue
        first[name] = 1e3 * (clock() - start)
        arrays = [np.asarray(array) for array in contender.read(result)]
        del result
        reference = reference or arrays
        compare(name, arrays, reference, contender.relative)
        runs[name] = contender.run
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            if sum(times[name]) > 1e3 * ENOUGH_S:
                continue
            gc.collect()
            _repeat(run, seconds / rounds, times[name], clock)
    timings: dict[str, Timing | str] = {
        name: Timing(statistics.median(found), min(found), first[name], len(found)) for name, found in times.items()
    }
    return {name: timings.get(name, absent.get(name, "")) for name in builders}


def _repeat(run: Callable[[], Any], seconds: float, times: list[float], clock: Callable[[], float]) -> None:
    end = clock() + seconds
    while True:
        start = clock()
        run()
        now = clock()
        times.append(1e3 * (now - start))
        if now >= end:
            return


def compare(name: str, found: Sequence[np.ndarray], reference: Sequence[np.ndarray], relative: float) -> None:
    """Check that results agree, to :data:`TOLERANCE` and to ``relative`` of the reference's largest entry.

    Raises:
        ArithmeticError: they do not.
    """
    for one, other in zip(found, reference, strict=True):
        difference = float(np.abs(one.reshape(-1) - other.reshape(-1)).max())
        largest = float(np.abs(other).max())
        allowed = min(TOLERANCE * max(1.0, largest), relative * largest)
        if not difference <= allowed:
            raise ArithmeticError(f"{name} differs from the others by {difference:.2g}; {allowed:.2g} is allowed")


def fastest(results: Mapping[str, Timing | str], but: Sequence[str] = (OURS,)) -> tuple[str, Timing] | None:
    """The contender of the shortest median among the others."""
    there = {n: r for n, r in results.items() if isinstance(r, Timing) and n not in but}
    name = min(there, key=lambda n: there[n].median, default=None)
    return None if name is None else (name, there[name])


def ratio(results: Mapping[str, Timing | str], ours: str = OURS) -> float | None:
    """How many times longer the fastest peer takes; None without a peer, or without us."""
    own, peer = results.get(ours), fastest(results, but=(ours,))
    return peer[1].median / own.median if isinstance(own, Timing) and peer else None


RATIO_HEADER = ["package", "median, ms", "ratio to qgen in this precision", "first call, s"]


def ratio_rows(results: Mapping[str, Timing | str]) -> tuple[list[list[str]], dict[bool, float | None]]:
    """A row for each contender, and the ratio of the fastest peer to us for double (False) and single precision."""
    rows = []
    ratios = {
        single: ratio(of_precision(results, single), own) for single, own in ((False, OURS), (True, OURS + SINGLE))
    }
    for name, result in results.items():
        own = results.get(OURS + SINGLE if name.endswith(SINGLE) else OURS)
        if not isinstance(result, Timing):
            rows.append([name, result, "-", "-"])
            continue
        slower = result.median / own.median if isinstance(own, Timing) else None
        rows.append([name, number(result.median), times(slower), number(result.first / 1e3)])
    return rows, ratios


def of_precision(results: Mapping[str, Timing | str], single: bool) -> dict[str, Timing | str]:
    """The contenders in complex64, or the others."""
    return {name: result for name, result in results.items() if name.endswith(SINGLE) == single}


# what is reported


@dataclass(frozen=True)
class Goal:
    """A figure that was aimed at, and what was measured; ``most`` turns "at least" into "at most"."""

    what: str
    wanted: float
    measured: float | None
    unit: str = " times"
    most: bool = False

    @property
    def reached(self) -> bool:
        """Whether the figure was measured and is good enough."""
        if self.measured is None:
            return False
        return self.measured <= self.wanted if self.most else self.measured >= self.wanted

    def row(self) -> list[str]:
        """Cells of the table of goals."""
        wanted = f"{'≤' if self.most else '≥'} {number(self.wanted)}{self.unit}"
        if self.measured is None:
            return [self.what, wanted, "not measured", "-"]
        return [self.what, wanted, f"{number(self.measured)}{self.unit}", "yes" if self.reached else "no"]


@dataclass
class Report:
    """A section of the results.

    Args:
        title: its heading.
        text: what was measured, in a few sentences.
        tables: header and rows of cells.
        goals: what was aimed at.
    """

    title: str
    text: str
    tables: list[tuple[list[str], list[list[str]]]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def markdown(self) -> str:
        """The section as Markdown."""
        parts = [f"## {self.title}", self.text, *(table(header, rows) for header, rows in self.tables)]
        return "\n\n".join(parts) + "\n"


GOALS = ["goal", "wanted", "measured", "reached"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns.

    >>> print(table(["a", "b"], [["x", "1"]]))
    | a | b |
    |---|--:|
    | x | 1 |
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
        for r in [header, *rows]
    ]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0] + " |", rule, *(line + " |" for line in lines[1:])])


def number(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> number(0.06123), number(23.45), number(1234.5)
    ('0.0612', '23.4', '1234')
    """
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def cell(result: Timing | str) -> str:
    """Median milliseconds, or why there are none."""
    return result if isinstance(result, str) else number(result.median)


def times(value: float | None) -> str:
    """A ratio as a cell."""
    return "-" if value is None else f"{value:.1f}"


# the machine


def one_core() -> None:
    """Bind this process, and all threads it will start, to one core."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def machine() -> list[tuple[str, str]]:
    """Figures of one core, measured in about a second."""
    return [
        ("processor", _processor()),
        ("cores used", f"1 of {os.cpu_count()}"),
        ("memory bandwidth", f"{memory_bandwidth():.1f} GB/s (copy, read and write counted)"),
        ("complex128 matrix product", f"{matrix_product(torch.complex128):.0f} GFLOP/s"),
        ("complex64 matrix product", f"{matrix_product(torch.complex64):.0f} GFLOP/s"),
        ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_bandwidth(device: str = "cpu", size: int = 2**26) -> float:
    """GB/s of a copy of ``size`` bytes, the best of several; what is read and what is written both count."""
    source = torch.ones(size // 8, dtype=torch.float64, device=device)
    target = torch.empty_like(source)
    return 2 * size / _best(lambda: target.copy_(source), device) / 1e9


def matrix_product(dtype: torch.dtype, device: str = "cpu", size: int = 768) -> float:
    """GFLOP/s of the product of two square complex matrices, the best of several."""
    matrix = torch.ones((size, size), dtype=dtype, device=device)
    return 8 * size**3 / _best(lambda: matrix @ matrix, device) / 1e9


def _best(work: Callable[[], Any], device: str, repeats: int = 8) -> float:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)


def free_memory() -> int:
    """Bytes that can be taken."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# the command line


def parser(text: str | None) -> argparse.ArgumentParser:
    """Options that all scripts have."""
    made = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="small problems, few repeats")
    made.add_argument("--seconds", type=float, help="how long each contender is timed on each problem")
    made.add_argument("--peers", nargs="*", metavar="NAME", help="only peers whose names contain one of these")
    return made


def chosen(builders: Mapping[str, Any], peers: Sequence[str] | None) -> dict[str, Any]:
    """Ours, and the peers that were asked for."""
    return {
        name: build
        for name, build in builders.items()
        if name.startswith(OURS) or peers is None or any(part in name for part in peers)
    }


def show(measure: Callable[[argparse.Namespace], Report], options: argparse.Namespace) -> None:
    """Measure on one core, and print the section with its goals."""
    one_core()
    report = measure(options)
    print(report.markdown())
    if report.goals:
        print(table(GOALS, [goal.row() for goal in report.goals]))
