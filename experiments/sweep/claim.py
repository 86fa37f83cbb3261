"""Who works where: a file that one process at a time holds, here or on any machine that shares the folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["held"]


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a file for this process; the hold ends with the block, or with the process, however that ends.

    Args:
        path: of the file, which is made if it is not there and stays.
        wait: until another process lets go of it.

    Yields:
        Whether it is held by this process; False if another one has it.

    Raises:
        OSError: the file cannot be made, or the file system has no locks.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, ".claim")
    ...     with held(path) as mine, held(path) as again:
    ...         print(mine, again)
    True False
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
