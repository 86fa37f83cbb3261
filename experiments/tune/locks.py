"""Locks that the kernel holds for a process and drops when it ends, however it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, which is made if it is not there; what the block is given says whether it is held.

    Args:
        path: the file.
        wait: until the process that holds it drops it or dies; if not, the block goes without the lock.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with locked(Path(folder, "lock"), wait=True) as mine, locked(Path(folder, "lock"), wait=False) as again:
    ...         mine, again
    (True, False)
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            held = False
        else:
            held = True
        yield held
