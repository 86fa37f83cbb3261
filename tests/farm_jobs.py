"""Jobs for workers of a farm, in a module that they can import."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 60
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def square(x: int) -> int:
    return x * x


def begun(folder: str, name: object) -> int:
    """Note that a job has begun; how often it has by now."""
    with Path(folder, f"begun-{name}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return times_begun(folder, name)


def times_begun(folder: str | Path, name: object) -> int:
    return len(pids(folder, name))


def pids(folder: str | Path, name: object) -> list[int]:
    path = Path(folder, f"begun-{name}")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def once(folder: str, name: int) -> int:
    begun(folder, name)
    return name


def fails(folder: str, name: int) -> int:
    begun(folder, name)
    if name % 2:
        raise ValueError(f"job {name} failed")
    return name


def dies(folder: str, name: int, killers: list[int], lives: int) -> int:
    """Kill the own worker the first ``lives`` times, if among the killers."""
    if begun(folder, name) <= lives and name in killers:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def machine_dies(folder: str, name: int) -> int:
    """Kill all of the batch job, once."""
    if begun(folder, name) == 1 and name == 1:
        os.killpg(os.getpgid(0), signal.SIGKILL)
    return name


class Stubborn(Exception):
    """Cannot be built again from its text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def stubborn() -> None:
    raise Stubborn(1, 2)


def leaves() -> None:
    sys.exit("gave up")


def interrupted() -> None:
    raise KeyboardInterrupt


def worker(seconds: float = 0.0) -> tuple[int, str | None, list[str | None], bool]:
    """Process, GPU, caps of threads, and whether Ctrl-C is left to others; long enough for every worker to get one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    ignores = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), [os.environ.get(name) for name in VARIABLES], ignores


def goes_on(folder: str, name: int, on: bool) -> None:
    """Go on until the process is ended, or for a minute."""
    begun(folder, name)
    if on:
        threading.Event().wait(60)


def goes_on_once(folder: str, name: int) -> int:
    goes_on(folder, name, not Path(folder, f"begun-{name}").exists())
    return name
