"""How much memory is free, and the refusal of what needs more."""

from __future__ import annotations

import os
import resource
from pathlib import Path

__all__ = ["check_memory", "free_memory"]


def free_memory() -> int:
    """Bytes that this process can still take: of the machine, of its control group and of its own limit."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = [_kilobytes(Path("/proc/meminfo"), "MemAvailable:", pages)]
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        free.append(limit - used)
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    if own != resource.RLIM_INFINITY:
        free.append(own - _kilobytes(Path("/proc/self/status"), "VmSize:", 0))
    return max(0, min(free))


def check_memory(n_bytes: int, what: str) -> None:
    """Refuse what does not fit into the free memory.

    Args:
        n_bytes: how much it takes.
        what: for the message.

    Raises:
        ValueError: it needs more than is free.

    >>> check_memory(2**80, "events.h5: samples of shape (10, 8)")
    Traceback (most recent call last):
    ValueError: events.h5: samples of shape (10, 8): 1.21e+15 GB of memory are needed, ...
    """
    free = free_memory()
    if n_bytes > free:
        raise ValueError(f"{what}: {n_bytes / 1e9:.3g} GB of memory are needed, {free / 1e9:.3g} GB are free")


def _kilobytes(file: Path, name: str, otherwise: int) -> int:
    """A line of a file of Linux that states kilobytes, in bytes; ``otherwise`` where there is no such file."""
    if not file.exists():
        return otherwise
    found = next((line.split()[1] for line in file.read_text().splitlines() if line.startswith(name)), None)
    return otherwise if found is None else int(found) * 1024


def _number(file: Path) -> int | None:
    text = file.read_text().strip() if file.exists() else ""
    return int(text) if text.isdecimal() else None
